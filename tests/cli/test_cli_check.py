"""`lab check rule`: what it says of sound rules, of defects a user may plant, and of rules that learn nothing."""

import json

import pytest

from lab.check_subject import ALLOWANCES

SOUND = """
import jax
from algorithms.rule import Rule, RuleInfo, objective_of

TOLD = dict(title="t", equation="e", citation="c", transports="W", requires="any", deviations=(), passes="3")


def rule(sign=1.0):
    def grads(key, net, params, state, batch):
        loss, g = jax.value_and_grad(lambda p: objective_of("ce")(net, p, state, batch))(params)
        return jax.tree.map(lambda x: sign * x, g), state, {"loss": loss}

    return Rule(info=RuleInfo(name="mine", **TOLD), grads=grads)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOUND)
    return tmp_path


def failed(stdout: str) -> set[str]:
    return {line[8:28].strip() for line in stdout.splitlines() if line.startswith("FAILED")}


def test_a_rule_that_climbs_is_found_by_what_it_does_not_learn(here, ask):
    (here / "mine.py").write_text(SOUND.replace('"mine"', '"shuffled"'))  # whose allowance is not for user files
    done = ask("check", "rule", "./mine.py(sign=-1)", code=1)
    assert failed(done.stdout) == {"learns", "beats frozen"}
    assert len(done.stdout.splitlines()) == 8
    assert done.stderr == "mine(sign=-1.0): 2 of 8 checks failed\n"


def test_secret_draws_and_a_block_that_never_learns_are_found_by_their_checks(here, ask):
    noisy = SOUND.replace("sign * x, g)", "x + 0.001 * jax.random.normal(key, x.shape), g)")
    stuck = noisy.replace(
        "        return jax", "        g['dense1'] = jax.tree.map(lambda x: 0 * x, g['dense1'])\n        d = jax"
    )
    (here / "mine.py").write_text(stuck.replace("g), state", "g)\n        return {**d, 'dense1': g['dense1']}, state"))
    done = ask("check", "rule", "./mine.py", code=1)
    assert {"is pure", "trains what it says"} <= failed(done.stdout)
    assert "dense1.bias does not learn: it stood still, with seed 0 at rate 0.003" in done.stdout


def test_what_is_raised_is_a_finding_with_its_line_and_stops_no_other_check(here, answer):
    (here / "mine.py").write_text(SOUND.replace("sign * x", "sign * y"))
    found = answer("check", "rule", "./mine.py", code=1)
    assert not found["passed"]
    assert {check["check"]: check["passed"] for check in found["checks"]} == {
        "keeps form": False,
        "is pure": False,
        "settles": False,
        "starts like bp": True,
        "trains what it says": False,
        "alone as together": False,
        "learns": False,
        "beats frozen": False,
    }
    seen = {check["seen"] for check in found["checks"] if not check["passed"]}
    assert seen == {"mine.py, line 11: NameError: name 'y' is not defined"}


def test_what_a_rule_prints_goes_to_stderr(here, ask):
    chatty = "        print('traced')\n        jax.debug.print('ran')\n        loss, g"
    (here / "mine.py").write_text(SOUND.replace("        loss, g", chatty))
    done = ask("check", "rule", "./mine.py", "--arch", "mlp(4)", "--json")
    assert list(json.loads(done.stdout)) == ["schema", "rule", "arch", "allowed", "passed", "checks"]
    assert {"traced", "ran"} <= set(done.stderr.splitlines())


def test_a_network_for_images_is_asked_everything_but_learning(here, ask, answer):
    found = answer("check", "rule", "./mine.py", "--arch", "conv(2,kernel=9,pool=4,dense=())")
    assert found["arch"] == "conv(2, dense=(), kernel=9, pool=4, act='relu')"
    excused = [check["check"] for check in found["checks"] if check["seen"].startswith("does not apply: ")]
    assert excused == ["learns", "beats frozen"]
    assert {check["check"]: check["seen"] for check in found["checks"]}["trains what it says"] == "conv1, output"


@pytest.mark.parametrize(
    ("name", "arch", "code", "said"),
    [
        ("pepita", "conv(2)", 1, "pepita is not defined for"),
        ("fa", "mlp()", 2, "has no hidden layer"),
        ("fa", "mpl(16)", 2, "Did you mean 'mlp'?"),
    ],
)
def test_a_network_that_cannot_be_checked_is_refused_in_one_line(refuse, name, arch, code, said):
    assert said in refuse(code, "check", "rule", name, "--arch", arch)


def test_what_a_rule_of_the_lab_is_allowed_is_said(ask):
    done = ask("check", "rule", "shuffled")
    assert done.stderr == f"shuffled(loss='ce') is allowed this: {ALLOWANCES['shuffled'].why}\n"
    assert f"learns               does not apply: {ALLOWANCES['shuffled'].why}" in done.stdout
