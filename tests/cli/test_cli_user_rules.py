"""A learning rule in a user's own file: used without an edit to the lab, and blamed in one line where it is wrong."""

import pytest

GOOD = """
import jax
from algorithms.rule import Rule, RuleInfo, objective_of


def rule(scale=1.0):
    def grads(key, net, params, state, batch):
        loss, g = jax.value_and_grad(lambda p: objective_of("ce")(net, p, state, batch))(params)
        return jax.tree.map(lambda x: scale * x, g), state, {"loss": loss}

    return Rule(info=RuleInfo("mine", "my own rule", "G = scale dL/dW", "me", "W", "anything", (), "3"), grads=grads)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rule.py").write_text(GOOD)
    return tmp_path


def test_its_card(here, ask, answer):
    said = ask("rules", "./my_rule.py").stdout
    assert said.startswith("mine: my own rule\n")
    assert "G = scale dL/dW" in said
    assert answer("rules", "./my_rule.py(scale=2)")["call"] == "my_rule(scale=2.0)"


def test_it_trains_is_stored_with_its_source_and_compared(here, ask, answer, tiny, home, runs):
    options = ("train", *tiny, "--rule", "./my_rule.py", "--seeds", "3")
    found = answer(*options)
    assert found["run"].startswith("my_rule-tiny-mlp-8-")
    # The same arithmetic as backprop's, so the same networks.
    bp = answer("train", *tiny, "--rule", "bp", "--seeds", "3")
    assert found["test_accuracy"] == bp["test_accuracy"]
    path = home / "store" / "runs" / found["run"]
    assert (path / "source" / "rule" / "my_rule.py").read_text() == GOOD
    (here / "my_rule.py").unlink()  # what is stored is enough from here on
    ask("compare", found["run"], runs["bp"], "--stimuli", "50", "--permutations", "10")
    assert ask("runs", "verify", found["run"]).stdout == f"{found['run']}: sound\n"
    assert [file.name for file in (path / "source" / "rule").iterdir()] == ["my_rule.py"]
    ask("runs", "rm", found["run"], "--yes")


def test_an_edited_file_is_another_run(here, answer, tiny):
    asked = ("train", *tiny, "--rule", "./my_rule.py", "--dry-run")
    before = answer(*asked)["run"]
    assert answer(*asked)["run"] == before
    # One character, the same length, within the same second: an import would take the old bytecode.
    (here / "my_rule.py").write_text(GOOD.replace("scale=1.0", "scale=2.0"))
    after = answer(*asked)
    assert after["run"] != before
    assert after["spec"]["rule"] == "my_rule(scale=2.0)"


MORE = "import jax.numpy as jnp\nfrom algorithms.rule import Activations\n" + GOOD.replace(
    "grads=grads)", "grads=grads, {})"
)
MORE = MORE.replace("{", "{{").replace("}", "}}").replace("{{}}", "{}")
WANTED = ["forward() must return Activations of 500 inputs", "an array for each of dense1, and scores of 4 classes"]
SYMBOL = "jax.tree.map(lambda x: scale * x, g)"
WRONG = {
    "raises": ('raise ValueError("boom\\nsecond line")', 1, ["line 1: ValueError: boom; mend the file"]),
    "exits": ("import sys\nsys.exit(3)", 1, ["line 2: SystemExit: 3; mend the file"]),
    "syntax": ("def rule(: pass", 1, ["line 1: SyntaxError: invalid syntax"]),
    "nothing": ("x = 1", 2, ["defines no function rule()", "it must return an algorithms.Rule"]),
    "number": ("def rule(): return 3", 2, ["must return an algorithms.Rule, not int"]),
    "factory": ("def rule():\n    return 1 / 0", 1, ["line 2: ZeroDivisionError: division by zero"]),
    "name": (GOOD.replace(SYMBOL, "undefined_name"), 1, ["does not run: NameError: name 'undefined_name'"]),
    "loss": (GOOD.replace('{"loss": loss}', "{}"), 1, ["does not run: KeyError: 'loss'"]),
    "branch": (GOOD.replace("        return", "        assert loss > 0\n        return"), 1, ["does not run: Tracer"]),
    "shape": (GOOD.replace("scale * x", "x[0]"), 1, ["a direction shaped like the parameters", "block dense1 has"]),
    "tree": (GOOD.replace(SYMBOL, '{"dense1": g["dense1"]}'), 1, ["mend the file"]),
    "no blocks": (MORE.format("trains=lambda net: ()"), 1, ["trains() must return some of the blocks dense1, output"]),
    "other block": (MORE.format("trains=lambda net: ('dense9',)"), 1, ["trains() must return", "not ('dense9',)"]),
    "a block twice": (MORE.format("trains=lambda net: ('output', 'output')"), 1, ["trains() must return", "each once"]),
    "trains": (MORE.format("trains=lambda net: net.layers"), 1, ["trains() does not run: AttributeError: "]),
    "forward": (MORE.format("forward=lambda net, p, s, x: x @ p['nothing']"), 1, ["forward() does not run: KeyError"]),
    "hidden": (MORE.format("forward=lambda net, p, s, x: Activations((), x[:, 0, 0, :1] + jnp.zeros(4))"), 1, WANTED),
    "scores": (MORE.format("forward=lambda net, p, s, x: Activations((x,), x)"), 1, WANTED),
    "a tuple": (MORE.format("forward=lambda net, p, s, x: ((x,), x[:, 0, 0, :1] + jnp.zeros(4))"), 1, WANTED),
    "objective": (
        MORE.format("objective=lambda net, p, s, batch: batch.x"),
        1,
        ["objective() does not run: TypeError: "],
    ),
    "errors": (MORE.format("errors=lambda *given: 1 / 0"), 1, ["errors() does not run: ZeroDivisionError"]),
    "no dict": (
        MORE.format("errors=lambda *given: given[-1].x"),
        1,
        ["errors() must return a dict from names of blocks"],
    ),
    "rows": (MORE.format("errors=lambda *given: {'output': given[-1].x[0]}"), 1, ["with a row per input"]),
    "count": (GOOD.replace('{"loss": loss}', '{"loss": loss, "evaluations": batch.x}'), 1, ['"evaluations" among its']),
    "setting": (GOOD.replace("scale=1.0", "rate=1.0"), 1, ["does not run: NameError: name 'scale'"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_it_is_said_in_one_line(here, refuse, tiny, case):
    source, code, words = WRONG[case]
    (here / "wrong.py").write_text(source)
    message = refuse(code, "train", *tiny, "--rule", "./wrong.py", "--store", here / "store")
    assert "wrong.py" in message
    assert [word for word in words if word not in message] == []
    assert not (here / "store").exists()


def test_what_it_prints_is_no_part_of_the_answer(here, ask, answer, tiny):
    source = GOOD.replace("    def grads", "    print('made')\n\n    def grads", 1)
    (here / "talks.py").write_text("print('read')\n" + source)
    options = ("train", *tiny, "--rule", "./talks.py", "--dry-run")
    assert answer(*options)["spec"]["rule"] == "talks(scale=1.0)"
    assert ask(*options).stderr == "read\nmade\n"


def test_a_file_that_is_not_there_or_takes_other_settings(here, refuse):
    assert "there is no file absent.py" in refuse(4, "rules", "./absent.py")
    message = refuse(2, "rules", "./my_rule.py(scal=2)")
    assert "has no 'scal'. Did you mean 'scale'?" in message


def test_a_file_without_its_ending_is_no_unknown_name(here, refuse, tiny):
    assert "did you mean ./my_rule.py" in refuse(4, "train", *tiny, "--rule", "./my_rule(scale=2)", "--dry-run")


def test_a_word_for_a_number_is_the_users_mistake_and_not_the_files(here, refuse, tiny):
    for word in ("nan", "abc"):
        said = refuse(2, "train", *tiny, "--rule", f"./my_rule.py(scale={word})", "--dry-run")
        assert f"scale must be a finite number, not '{word}'" in said


def test_a_file_that_imports_its_neighbour_is_refused(refuse, tiny, tmp_path):
    """Its neighbour could change without a new run: neither id nor record has it."""
    (tmp_path / "helper.py").write_text("factor = 2.0\n")
    (tmp_path / "two.py").write_text("import math\nfrom helper import factor\n\n\ndef rule():\n    return factor\n")
    said = refuse(2, "train", *tiny, "--rule", str(tmp_path / "two.py"), "--dry-run")
    assert "imports helper from beside it" in said
    assert "put it all into one file" in said


@pytest.mark.parametrize(
    ("field", "says"),
    [("rates=(0.01, 0.1)", "six ascending rates"), ('knob=("scael", (0.1, 0.3))', "names a knob 'scael'")],
)
def test_a_card_that_no_search_could_use_is_refused(here, refuse, tiny, field, says):
    (here / "odd.py").write_text(GOOD.replace('"3")', f'"3", {field})'))
    assert says in refuse(2, "train", *tiny, "--rule", "./odd.py", "--dry-run")
