"""Every rule keeps its contract on every kind of network, or says why it does not run there."""

import pytest
from made import REFUSED, RUNS, subject, why_not

from lab.check import CHECKS

ASKED = ("keeps form", "is pure", "trains what it says", "alone as together")
IN_CI = {"bp", "fa", "local"}
"""One rule that sends the exact error, one with feedback weights of its own, one with local losses; all others on
convolutions and composite blocks are slow tests."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=() if name in IN_CI else pytest.mark.slow)
        for name, kind in RUNS
        if kind != "mlp"  # tests/conformance/test_every_rule.py
    ],
)
def test_keeps_its_contract_on_every_network(name, kind):
    for check in ASKED:
        print(f"{check}: {CHECKS[check](subject(name, kind))}")


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_a_refusal_says_which_block_and_what_would_work(name, kind):
    said = why_not(name, kind)
    assert name in said
    assert "use " in said
    assert "\n" not in said
