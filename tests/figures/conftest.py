"""Fixtures of the figure tests."""

import pytest

from lab.figures.style import STYLES


@pytest.fixture(params=list(STYLES))
def style(request):
    return STYLES[request.param]


@pytest.fixture
def neurips():
    return STYLES["neurips"]
