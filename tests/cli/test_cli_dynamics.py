"""`lab dynamics`: points that are comparisons, paths where there is a space, and refusals of one line."""

import csv
import io
import json

import pytest

QUICK = ("--stimuli", "60")
COMPARED = ("between", "between_low", "ceiling_a", "ceiling_b", "untrained_a", "same_start", "rule_effect",
            "rule_effect_high", "rule_effect_p", "a_to_b", "accuracy_b", "loss_a", "seeds", "paired")  # fmt: skip


@pytest.mark.parametrize("measure", ["debiased-cka", "angular-procrustes", "agreement"])
@pytest.mark.parametrize(("against", "match"), [("step", "steps"), ("accuracy", "accuracy")])
def test_the_last_point_is_what_compare_says(answer, runs, measure, against, match):
    found = answer("dynamics", runs["bp"], runs["fa"], "-m", measure, "--against", against, *QUICK)
    options = ("-m", measure, "--match", match, *(("--permutations", "2") if measure != "agreement" else ()))
    (row,) = answer("compare", runs["bp"], runs["fa"], *options, *QUICK)["rows"]
    last = found["rows"][-1]
    assert (last["step_a"], last["step_b"]) == (row["step_a"], row["step_b"])
    for name in COMPARED:
        assert last[name] == pytest.approx(row[name], abs=1e-8), name
    assert not any(name.startswith("null") for name in last)
    first = found["rows"][0]
    assert (first["step_a"], first["step_b"], first["rule_effect_q"]) == (0, 0, None)
    assert first["same_start"] == pytest.approx(0.0 if measure == "angular-procrustes" else 1.0)


def test_the_table(ask, runs):
    result = ask("dynamics", runs["bp"], runs["fa"], *QUICK)
    first, header, line, *_ = result.stdout.splitlines()
    assert first == "debiased-cka (similarity), dense1"
    assert header.split("  ")[0] == "rules"
    for column in ("step", "loss", "accuracy %", "between [95 %]", "same start", "ceilings", "rule effect [95 %]"):
        assert column in header
    assert line.split()[:6] == ["bp", "-", "fa", "0", "-", "/"]  # no training loss before the first step
    assert "no paths: debiased-cka is no metric, so there is no space of shapes; angular-procrustes is one" in (
        result.stdout
    )
    assert "n = 60 test stimuli; 3 seeds per rule; intervals over seeds; no nulls (`lab compare`)." in result.stdout
    assert "All networks of a row stand at one step." in result.stdout


def test_a_metric_gives_paths_of_all_networks(answer, ask, runs):
    asked = ("dynamics", runs["bp"], runs["fa"], "-m", "angular-procrustes", *QUICK)
    found = answer(*asked)["paths"]
    networks, checkpoints = found["networks"], found["checkpoints"]
    assert [(row["rule"], row["seed"]) for row in networks] == [(rule, s) for rule in ("bp", "fa") for s in range(3)]
    for row in networks:
        of = [line for line in checkpoints if (line["rule"], line["seed"]) == (row["rule"], row["seed"])]
        assert [line["step"] for line in of] == [0, 10]
        assert row["length"] == pytest.approx(sum(line["leg"] for line in of[1:]))
        assert row["displacement"] == pytest.approx(of[-1]["from_start"])
        assert of[0]["to_end"] == pytest.approx(row["displacement"])
        assert of[1]["velocity"] == pytest.approx(of[1]["leg"] / 10)
    (of,) = found["maps"]
    assert (of["networks"], of["points"], of["n"]) == (6, 12, 60)
    assert 0 <= of["stress"] < 1
    starts = {(line["seed"], round(line["x"], 6)) for line in checkpoints if line["step"] == 0}
    assert len(starts) == 3  # both rules of a seed start from one point
    said = ask(*asked).stdout
    assert "paths by angular-procrustes, dense1; map of 12 points: stress" in said
    assert "end to start [95 %]" in said
    assert "no paths" not in said


def test_json_csv_and_the_stored_answer_agree(answer, ask, runs):
    asked = ("dynamics", runs["bp"], runs["fa"], "-m", "angular-procrustes", "-m", "mutual-knn(k=5)", *QUICK)
    found = answer(*asked)
    assert [row["measure"] for row in found["rows"]] == ["angular-procrustes"] * 2 + ["mutual-knn(k=5)"] * 2
    again = ask(*asked, "--csv")
    assert [line.split(":")[0] for line in again.stderr.splitlines()] == ["paths measured earlier", "followed earlier"]
    lines = list(csv.DictReader(io.StringIO(again.stdout)))
    assert [list(line) for line in lines] == [list(row) for row in found["rows"]]
    assert float(lines[1]["between"]) == pytest.approx(found["rows"][1]["between"], abs=1e-9)
    # Against accuracy the points are others, and the distances between all networks the same.
    other = ask(*asked[:5], "--against", "accuracy", *QUICK)
    assert "paths measured earlier" in other.stderr
    assert "measuring angular-procrustes at dense1 between" not in other.stderr
    assert "Each run stands at its stored step with the nearest validation accuracy" in other.stdout


def test_a_functional_metric_has_paths_too(answer, runs):
    found = answer("dynamics", runs["bp"], runs["fa"], "-m", "output-divergence", *QUICK)
    assert {row["layer"] for row in found["paths"]["networks"]} == {"output"}
    assert all(row["length"] > 0 for row in found["paths"]["networks"])


def test_one_seed_gives_values_without_intervals_and_says_why(answer, runs):
    rows = answer("dynamics", runs["alone"], runs["bp"], *QUICK)["rows"]
    assert all(row["between"] is not None and row["between_low"] is None for row in rows)
    assert "no interval" in rows[-1]["notes"]


@pytest.mark.parametrize("against", ["step", "loss", "accuracy"])
def test_a_run_whose_seeds_all_diverged_has_rows_that_say_so(ask, answer, runs, tmp_path, against):
    asked = (runs["bp"], runs["lost"], "-m", "angular-procrustes", "--against", against, *QUICK)
    found = answer("dynamics", *asked)
    for row in found["rows"]:
        assert row["between"] is row["ceiling_b"] is None
        assert "2 of 2 seeds diverged" in row["notes"]
    assert {row["seed"] for row in found["paths"]["networks"]} == {0, 1, 2}
    ask("dynamics", *asked)
    drawn = ask("figure", "dynamics", *asked[:2], "--against", against, "-o", tmp_path / "d.pdf", *QUICK).stdout
    assert "Undefined and not drawn: two rules, other seeds of" in drawn


def test_runs_without_any_sound_network_are_refused(refuse, runs, copied, tiny, ask):
    other = ask("train", *tiny, "--rule", "fa", "--seeds", "2", "--optimizer", "sgd(1e30)", "--store", copied, code=3)
    message = refuse(1, "dynamics", runs["lost"], other.stdout.split("/")[-1].strip(), "--store", copied, *QUICK)
    assert message == "every seed of these runs diverged; train with a smaller learning rate"


def test_figures_of_stored_runs(ask, runs, tmp_path):
    ask("figure", "dynamics", runs["bp"], runs["fa"], "-o", tmp_path / "d.pdf", *QUICK)
    ask("figure", "paths", runs["bp"], runs["fa"], "-o", tmp_path / "p.pdf", *QUICK)
    note = json.loads((tmp_path / "p.json").read_text())
    assert note["options"]["measure"] == "angular-procrustes"
    assert len(note["paths"]) == 1


REFUSED = [
    (["bp"], 2, ["at least two runs", "`lab runs` lists those there are"]),
    (["bp", "bp"], 2, ["a run is named twice"]),
    (["bp", "conv"], 2, ["fewer than two stored steps in common", "(bp: 0, 10; untrained: 0)", "--epochs above 0"]),
    (["bp", "other"], 2, ["different data (tiny, other)"]),
    (["bp", "fa", "--layer", "dense9"], 2, ["--layer dense9 is not a hidden block of all runs; they share dense1"]),
    (["bp", "fa", "--measure", "sparsity"], 2, ["describes one network, not a pair"]),
    (["bp", "fa", "--stimuli", "201"], 2, ["give 10 to 200, the size of tiny's test set"]),
    (["bp", "fa", "--stimuli", "12", "-m", "linear-cka"], 2, ["without a null would mislead", "give --stimuli 16"]),
    (["bp", "fa", "-m", "rsa", "-m", "rsa()"], 2, ["is asked for twice"]),
    (["bp", "fa", "--against", "luck"], 2, ["'luck' is not one of 'step', 'loss', 'accuracy'"]),
    (["bp", "fa", "--memory", "little"], 1, ["'little' is no amount of memory"]),
    (["bp", "fa", "--json", "--csv"], 2, ["--json and --csv exclude each other"]),
    (["lost", "lost"], 2, ["a run is named twice"]),
]


@pytest.mark.parametrize(("args", "code", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_refusals(refuse, runs, args, code, words):
    more = [] if "--stimuli" in args else ["--stimuli", "60"]
    message = refuse(code, "dynamics", *(runs.get(arg, arg) for arg in args), *more)
    assert [word for word in words if word not in message] == []


def test_a_figure_of_paths_needs_a_metric(refuse, runs, tmp_path):
    message = refuse(2, "figure", "paths", runs["bp"], runs["fa"], "--measure", "rsa", "-o", tmp_path / "p.pdf", *QUICK)
    assert "is no metric, so there is no space of shapes; angular-procrustes is one" in message
    assert not list(tmp_path.iterdir())
