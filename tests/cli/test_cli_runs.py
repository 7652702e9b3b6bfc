"""`lab runs` and its subcommands, `lab rules`, `lab probes` and `lab data`: lists and cards, as text and as JSON."""

import re

import pytest

KEYS = ["run", "status", "problem", "size", "rule", "arch", "data", "optimizer", "epochs", "seeds", "test_accuracy"]
KEYS += ["rule_call", "which_seeds", "train_size", "other"]


def test_the_list(ask, answer, runs, home):
    found = answer("runs")
    assert found["store"] == str(home / "store")
    rows = {row["run"]: row for row in found["runs"]}
    assert set(runs.values()) <= set(rows)
    assert list(rows[runs["bp"]]) == KEYS
    assert (rows[runs["fa"]]["rule"], rows[runs["fa"]]["seeds"], rows[runs["fa"]]["problem"]) == ("fa", 3, None)
    header, *lines = ask("runs").stdout.splitlines()
    assert header.split()[:4] == ["run", "status", "rule", "optimizer"]
    assert len(lines) == len(rows)


def test_what_tells_runs_apart_is_in_the_list(ask, answer, runs, tiny, tmp_path):
    """Runs that differ in one thing each: their settings in as few words as one would type."""
    differing = {
        "": (),
        "order seed 3": ("--order-seed", "3"),
        "act=tanh": ("--arch", "mlp(8,act=tanh)"),
        "batch 25": ("--batch", "25"),
    }
    options = ("--epochs", "0", "--seeds", "2", "--store", tmp_path, "--batch", "128")
    found = {other: answer("train", *tiny, *options, *more)["run"] for other, more in differing.items()}
    found["size"] = answer("train", *tiny, *options, "--train-size", "200")["run"]
    found["seeds"] = answer("train", *tiny, *options, "--seeds", "3,5-6", "--rule", "fa(scale=0.5)")["run"]
    found["sgd"] = answer("train", *tiny, *options, "--optimizer", "sgd(0.1,momentum=0.9)")["run"]
    rows = {row["run"]: row for row in answer("runs", "--store", tmp_path)["runs"]}
    assert {other: rows[found[other]]["other"] for other in differing} == {other: other for other in differing}
    assert (rows[found["size"]]["train_size"], rows[found[""]]["train_size"]) == (200, 500)
    assert (rows[found["seeds"]]["which_seeds"], rows[found[""]]["which_seeds"]) == ("3,5-6", "2")
    assert (rows[found["seeds"]]["rule_call"], rows[found["seeds"]]["rule"]) == ("fa(scale=0.5)", "fa")
    assert (rows[found["sgd"]]["optimizer"], rows[found[""]]["optimizer"]) == ("sgd(0.1,momentum=0.9)", "adam(0.001)")
    header, *lines = ask("runs", "--store", tmp_path).stdout.splitlines()
    assert header.split()[-1] == "other"
    assert len({line.partition(" ")[2] for line in lines}) == len(lines) == 7


def test_an_empty_store_is_no_error(ask, answer, tmp_path):
    result = ask("runs", "--store", tmp_path / "none")
    assert result.stdout == ""
    assert "no runs in" in result.stderr
    assert "`lab train --rule fa` makes one" in result.stderr
    assert answer("runs", "--store", tmp_path / "none")["runs"] == []
    assert not (tmp_path / "none").exists()


def test_show(ask, answer, runs):
    found = answer("runs", "show", runs["fa"])
    assert list(found) == ["schema", "run", "status", "spec", "manifest", "summary"]
    assert (found["spec"]["rule"], found["status"]) == ("fa(scale=1.0, loss='ce', feedback='kernel')", "complete")
    assert found["summary"]["run"] == runs["fa"]
    assert found["manifest"]["versions"]["jax"]
    said = ask("runs", "show", runs["fa"]).stdout
    assert sum(line.startswith("  precision ") for line in said.splitlines()) == 1
    assert said.startswith(f"{runs['fa']}: complete\n")
    assert "test accuracy" in said
    assert "command" in said


def test_diff(ask, answer, runs):
    found = answer("runs", "diff", runs["bp"], runs["fa"])
    assert found["diff"] == {"rule": ["bp(loss='ce')", "fa(scale=1.0, loss='ce', feedback='kernel')"]}
    lines = ask("runs", "diff", runs["bp"], runs["fa"]).stdout.splitlines()
    assert lines[0].split() == ["field", runs["bp"], runs["fa"]]
    assert re.split("  +", lines[1].strip()) == ["rule", *found["diff"]["rule"]]
    assert ask("runs", "diff", runs["bp"], runs["bp"]).stdout == "the two runs were asked for in the same words\n"


def test_verify(answer, runs):
    found = answer("runs", "verify", runs["bp"], runs["lost"])["runs"]
    assert found == {
        runs["bp"]: {"status": "complete", "problems": []},
        runs["lost"]: {"status": "diverged", "problems": []},
    }


@pytest.mark.parametrize("command", [["show"], ["diff", "x"], ["verify"], ["rm"]])
def test_a_run_that_is_not_there(refuse, runs, command):
    nearly = runs["fa"][:-1] + ("0" if runs["fa"][-1] != "0" else "1")
    message = refuse(4, "runs", *command, nearly) if command != ["diff", "x"] else refuse(4, "runs", "diff", "x", "y")
    assert "no run '" in message
    assert "`lab runs` lists the runs there are." in message
    if command != ["diff", "x"]:
        assert f"Did you mean {runs['fa']}" in message


def test_rm_asks_first(ask, runs, copied):
    path = copied / "runs" / runs["fa"]
    options = ("runs", "rm", runs["fa"], "--store", copied)
    result = ask(*options, input="n\n")
    assert f"delete {runs['fa']} (" in result.output
    assert path.is_dir()
    result = ask(*options, input="", code=1)
    assert "Aborted!" in result.stderr
    assert path.is_dir()
    result = ask(*options, input="y\n")
    assert f"deleted {runs['fa']}" in result.stderr
    assert not path.exists()
    assert ask("runs", "rm", runs["bp"], "-y", "--store", copied).stdout == ""
    assert not (copied / "runs" / runs["bp"]).exists()


@pytest.mark.parametrize("command", [["show"], ["diff", "x"], ["verify"], ["rm", "-y"]])
def test_options_before_a_subcommand_are_refused(refuse, runs, copied, home, command):
    for early in (["--store", copied], ["--json"]):
        message = refuse(2, "runs", *early, *command, runs["fa"])
        assert f"{early[0]} before {command[0]} would be ignored" in message
        advice = f"as in lab runs {command[0]} ... {early[0]}"
        assert ("leave it out" if (command[0], early[0]) == ("rm", "--json") else advice) in message
    assert (home / "store" / "runs" / runs["fa"]).is_dir()
    assert (copied / "runs" / runs["fa"]).is_dir()


@pytest.mark.parametrize("words", [["study", "run", "credit-assignment"], ["data", "list"], ["data", "fetch", "mnist"]])
def test_json_before_a_subcommand_is_refused(refuse, words):
    group, *rest = words
    assert f"--json before {rest[0]} would be ignored" in refuse(2, group, "--json", *rest)


def test_rules_and_probes(ask, answer):
    rules = [card["name"] for card in answer("rules")["rules"]]
    assert {"bp", "fa", "dfa", "es", "ff", "frozen"} <= set(rules)
    assert [line.split()[0] for line in ask("rules").stdout.split("\n\n")[0].splitlines()[1:]] == rules
    assert answer("rules", "fa")["call"] == "fa(scale=1.0, loss='ce', feedback='kernel')"
    assert "equation" in ask("rules", "fa").stdout
    probes = [card["name"] for card in answer("probes")["probes"]]
    assert {"debiased-cka", "rsa", "participation-ratio"} <= set(probes)
    assert [line.split()[0] for line in ask("probes").stdout.split("\n\n")[0].splitlines()[1:]] == probes
    card = answer("probes", "mutual-knn(k=5)")
    assert (card["label"], card["settings"], card["range"]) == ("mutual-knn(k=5)", {"k": 5}, [0, 1])
    assert "invariant to" in ask("probes", "mutual-knn").stdout


def test_rules_are_shown_with_their_recipes_for_the_network_asked_for(ask, answer, refuse):
    """The lab comes with softhebb tuned on mlp(2000) alone, and with ep tuned on the twin that its energy needs."""
    wide = {card["name"]: card["recipe"] for card in answer("rules", "--arch", "mlp(2000)")["rules"]}
    assert wide["softhebb"]["arch"] == "mlp(2000, act='relu')"
    assert wide["fa"] is None  # its recipe is for another width, which --arch did not ask for
    assert answer("rules", "fa")["recipe"]["arch"] == "mlp(256, 128, act='relu')"
    assert answer("rules", "ep", "--arch", "mlp(256,128)")["recipe"]["arch"] == "mlp(256, 128, act='hard_sigmoid')"
    assert "Trained on 55,000 examples." in ask("rules", "--arch", "mlp(2000)").stdout
    assert "No rule is tuned on mnist, vit(64) yet." in ask("rules", "--arch", "vit(64)").stdout
    assert "unknown name 'mlpp'" in refuse(2, "rules", "--arch", "mlpp(3)")


def test_data_sets(ask, answer, home):
    rows = {row["name"]: row for row in answer("data", "list")["datasets"]}
    assert answer("data")["datasets"] == list(rows.values())
    assert (rows["tiny"]["state"], rows["tiny"]["train"], rows["tiny"]["test"]) == ("added", 600, 200)
    assert f"added: {home / 'data' / 'tiny.npz'}" in ask("data").stdout
    found = answer("data", "add", "tiny", home / "tiny.npz")
    assert (found["shape"], found["classes"], len(found["sha256"])) == ([8, 8, 1], 4, 64)
    refused = ask("data", "add", "tiny", home / "other.npz", code=2)
    assert "replace it with --force" in refused.stderr
