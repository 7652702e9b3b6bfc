"""The planted defects fit the sources as they are today: a row that has gone stale would be noticed by nobody."""

import pytest

from tests.mutants import MUTANTS, Mutant
from tests.mutate import misfit


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.file}: {mutant.defect}")
def test_a_defect_can_be_planted(mutant):
    assert misfit(mutant) == ""


def test_a_row_that_does_not_fit_is_found():
    sound = Mutant("tests/mutants.py", "none", "The defects that `python", "x", ("tests/test_mutants.py",))
    assert misfit(sound) == ""
    assert "there is no" in misfit(sound._replace(file="algorithms/gone.py"))
    assert "there is no" in misfit(sound._replace(tests=("tests/gone.py",)))
    assert "there is no" in misfit(sound._replace(tests=()))
    assert "0 times" in misfit(sound._replace(line="no such line"))
    assert "changes nothing" in misfit(sound._replace(instead=sound.line))
