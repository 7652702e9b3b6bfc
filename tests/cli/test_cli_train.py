"""`lab train` from the outside: what it answers, that nothing is computed twice, and seeds that diverge."""

import json
import math
import subprocess

import pytest

KEYS = ["schema", "run", "path", "rule", "rule_call", "arch", "data", "optimizer", "epochs", "seeds", "test_accuracy"]
KEYS += ["validation_accuracy", "test_readout_accuracy", "seconds", "diverged", "warnings"]


def test_the_answer(answer, runs, tiny, home):
    found = answer("train", *tiny, "--rule", "bp", "--seeds", "3")
    assert list(found) == KEYS
    assert (found["run"], found["rule"], found["seeds"], found["diverged"]) == (runs["bp"], "bp", [0, 1, 2], {})
    assert found["path"] == str(home / "store" / "runs" / runs["bp"])
    accuracy = found["test_accuracy"]
    assert list(accuracy) == ["mean", "sd", "per_seed"]
    assert len(accuracy["per_seed"]) == 3
    assert accuracy["mean"] == pytest.approx(sum(accuracy["per_seed"]) / 3)
    variance = sum((value - accuracy["mean"]) ** 2 for value in accuracy["per_seed"]) / 2
    assert accuracy["sd"] == pytest.approx(math.sqrt(variance))
    assert list(found["test_readout_accuracy"]) == ["dense1"]
    assert found["seconds"] > 0


def test_asked_twice_is_computed_once(ask, runs, tiny, home, monkeypatch):
    import lab.runner

    def never(*args):
        raise AssertionError("it trains again")

    path = home / "store" / "runs" / runs["bp"]
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    monkeypatch.setattr(lab.runner._Training, "run", never)
    # The same wish in other words has the same id.
    said = ask("train", *tiny, "--rule", "bp()", "--seeds", "0-2", "--arch", "mlp( 8, act='relu')").stdout
    assert "stored earlier, took " in said
    assert "(n = 3 seeds)" in said
    assert said.splitlines()[-1] == str(path)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_one_seed_has_no_standard_deviation(answer, ask, runs, tiny):
    found = answer("train", *tiny, "--rule", "fa", "--seeds", "1")
    assert found["run"] == runs["alone"]
    assert found["test_accuracy"]["sd"] is None
    assert found["test_accuracy"]["per_seed"] == [found["test_accuracy"]["mean"]]
    assert "±" not in ask("train", *tiny, "--rule", "fa", "--seeds", "1").stdout


def test_a_dry_run_writes_nothing(ask, answer, tiny, tmp_path):
    store = tmp_path / "store"
    options = ("train", *tiny, "--rule", "dfa", "--dry-run", "--store", store)
    found = answer(*options)
    assert list(found) == ["schema", "run", "spec", "chosen_by"]
    assert found["spec"]["rule"] == "dfa(scale=1.0, loss='ce')"
    assert ask(*options).stdout.splitlines()[0] == f"would train {found['run']}"
    assert not store.exists()


def test_the_untrained_control(answer, runs, tiny):
    options = ("--rule", "bp", "--seeds", "2", "--data", "other", "--epochs", "0")
    found = answer("train", *tiny, *options)
    assert (found["run"], found["epochs"]) == (runs["other"], 0)
    # Chance is .25; an untrained network favours a class or two of four, never all of them.
    assert all(0 <= value <= 0.6 for value in found["test_accuracy"]["per_seed"])


def test_diverged_seeds_are_reported_and_stay_on_record(ask, answer, runs, tiny):
    options = ("train", *tiny, "--rule", "bp", "--seeds", "2", "--optimizer", "sgd(1e30)")
    again = ask(*options, "--json", code=3)
    found = json.loads(again.stdout)
    assert found["run"] == runs["lost"]
    assert list(found["diverged"]) == ["0", "1"]
    assert again.stderr.startswith("All seeds diverged: 0 at step ")
    assert "They stay on record; try a smaller learning rate." in again.stderr
    assert len(again.stderr.splitlines()) == 1
    said = ask(*options, code=3).stdout
    assert "(n = 2 seeds, 2 diverged and counted as all wrong)" in said
    assert "readout of" not in said
    assert found["test_accuracy"]["per_seed"] == [0.0, 0.0], "what is not finite predicts nothing right"
    row = next(row for row in answer("runs")["runs"] if row["run"] == runs["lost"])
    assert row["status"] == "diverged"
    assert f"{runs['lost']}: diverged" in ask("runs", "show", runs["lost"]).stdout


def test_all_diverged_cannot_be_compared_but_says_so(ask, runs):
    result = ask("compare", runs["lost"], runs["fa"], "--stimuli", "50", "--permutations", "10")
    assert "2 of 2 seeds diverged" in result.stdout
    assert "undefined" in result.stdout


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("ep", []),
        # In two sweeps the first, from zero, makes most of the way; one sweep of the second phases makes all of it.
        ("ep(free_steps=2,nudged_steps=1)", ["the phases", "the second phases"]),
        ("ep(nudged_steps=1)", ["the second phases"]),
        ("chl(clamped_steps=1)", ["the second phases"]),
        ("fpc", []),
        ("fpc(steps=2,rate=0.1)", ["the phases"]),
    ],
)
def test_phases_that_did_not_come_to_rest_are_warned_of(rule, said, ask, answer, tiny, tmp_path):
    """At the end of training, and whenever the stored run is read."""
    options = ("--arch", "mlp(8,act=hard_sigmoid)", "--epochs", "0", "--seeds", "2", "--store", tmp_path)
    lines = ask("train", *tiny, "--rule", rule, *options, "--quiet").stderr.splitlines()
    begin = "Warning, settling: "
    assert [line.partition(" did not come to rest: ")[0] for line in lines] == [begin + phases for phases in said]
    warnings = answer("train", *tiny, "--rule", rule, *options)["warnings"]
    assert lines == [f"Warning, {warning}." for warning in warnings]
    run = rule.partition("(")[0]
    assert answer("runs", "show", run, "--store", tmp_path)["summary"]["warnings"] == warnings
    if rule == "fpc(steps=2,rate=0.1)":
        # The error of the one hidden block goes a tenth of its way at a time: .9² of it is left.
        assert "rest: residual 0.81 at step 0, above 0.01; directions are those of an unfinished relax" in lines[0]
        assert "(seed 0; 2 of 2 seeds, 1 of 1 stored steps)" in lines[0]
    if "nudged_steps=1" in rule:
        assert "rest: nudged_residual 1 at step 0, above 0.1; directions are those of an unfinished" in lines[-1]


def test_two_processes_and_one_run(refuse, tiny, tmp_path, process):
    """The second is told who has it; the first does not notice."""
    slow = "import lab.runner\nbefore = lab.runner._Training.run\n"
    slow += (
        "def run(self):\n    print('begun', flush=True)\n    input()\n    before(self)\nlab.runner._Training.run = run"
    )
    options = ("train", *tiny, "--rule", "bp", "--seeds", "3", "--store", tmp_path)
    first = process(*options, first=slow, stdin=subprocess.PIPE)
    assert first.stdout.readline() == "begun\n"
    message = refuse(1, *options)
    assert f"is in use by process {first.pid} on" in message
    assert "Wait for it to end, or work elsewhere with --store" in message
    name = next((tmp_path / "runs").iterdir()).name
    assert "is in use by process" in refuse(1, "runs", "rm", name, "--yes", "--store", tmp_path)
    stdout, stderr = first.communicate("go on\n")
    assert first.returncode == 0, stderr
    assert stdout.splitlines()[-1] == str(tmp_path / "runs" / name)


def test_two_orders_are_two_runs(answer, tiny):
    ids = {answer("train", *tiny, *options, "--dry-run")["run"] for options in ([], ["--order-seed", "3"])}
    assert len(ids) == 2


def test_a_recipe_for_other_sizes_says_so(ask, tmp_path):
    asked = ("train", "--rule", "bp", "--dry-run", "--store", tmp_path)
    assert ask(*asked).stderr == ""
    fewer = ask(*asked, "--train-size", "2000").stderr
    assert "was found on 55,000 training examples, and this run has 2,000." in fewer
    assert "`lab tune --train-size` finds its own" in fewer
    assert ask(*asked, "--train-size", "2000", "--optimizer", "adam(0.001)").stderr == ""
