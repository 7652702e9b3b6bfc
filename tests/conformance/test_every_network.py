"""Every rule keeps its contract on every kind of network, or says why it does not run or does not settle there."""

import pytest
from made import REFUSED, RUNS, subject, why_not

from algorithms import RULES
from lab.callstring import build
from lab.check import CHECKS
from lab.check_subject import Subject
from lab.checking import Broken
from lab.settling import UNSETTLED

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
    if kind in UNSETTLED.get(name, {}):
        with pytest.raises(Broken, match="did not come to rest: residual"):
            CHECKS["settles"](subject(name, kind))
    else:
        print(CHECKS["settles"](subject(name, kind)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "settings"), [(name, *row) for name, rows in UNSETTLED.items() for row in rows.items()]
)
def test_a_rule_settles_with_the_settings_that_the_page_names(name, kind, settings):
    assert settings.startswith(f"{name}(")
    print(CHECKS["settles"](Subject(build(settings, RULES, "--rule")[0], subject(name, kind).net)))


def test_what_does_not_settle_runs_and_has_a_tolerance():
    assert {(name, kind) for name, kinds in UNSETTLED.items() for kind in kinds} <= set(RUNS)
    assert all(RULES[name]().info.tolerance is not None for name in UNSETTLED)


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_a_refusal_says_which_block_and_what_would_work(name, kind):
    said = why_not(name, kind)
    assert name in said
    assert "use " in said
    assert "\n" not in said
