"""Double precision on request: identities that hold in exact arithmetic then hold to twelve digits."""

import jax
import pytest


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
