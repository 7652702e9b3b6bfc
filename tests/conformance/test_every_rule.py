"""Every rule keeps its contract: the checks that `lab check rule` runs on a user's file, on every rule of the table."""

import pytest
from made import subject

from algorithms import RULES
from lab.check import CHECKS


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", RULES)
def test_keeps_its_contract(name, check):
    if excuse := subject(name).excuses.get(check):
        pytest.skip(excuse)
    print(CHECKS[check](subject(name)))
