"""`lab figure` from its command line, with comparisons and runs that are made up."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from tables import comparison, course, metrics, paths, spectra

import lab.cli.figure as command
from lab.cli import main
from lab.cli.figure import FIGURES, STYLE_NAMES, TAKES
from lab.figures import blindness, groups


class Folder:
    """A finished run, as far as a figure looks at one."""

    def __init__(self, rule):
        self.id, self.rule = f"{rule}-0123", rule

    def require_complete(self):
        return self

    def read_table(self, name):
        assert name == "metrics"
        table = metrics([self.rule])
        return table.drop(columns="rule")


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the command asked of the tables' makers; the working folder is an empty one."""
    import lab.comparison
    import lab.device
    import lab.dynamics
    import lab.spectra

    seen = {}

    def compare_runs(folders, plan, store, say):
        seen.update(plan=plan, folders=folders)
        say("measuring")
        rules = [folder.rule for folder in folders]
        pairs, rows = comparison(rules, seeds=3, permutations=plan.permutations)
        return SimpleNamespace(pairs=pairs, rows=rows, labels=rules, id="abc123")

    def make_spectra(folders, stimuli, say):
        seen.update(stimuli=stimuli)
        return spectra([folder.rule for folder in folders], layers=(("dense1", 30), ("dense2", 20)))

    def dynamics_of(folders, plan, store, say):
        seen.update(plan=plan, folders=folders)
        rules = [folder.rule for folder in folders]
        checkpoints, maps = paths(rules, seeds=3, measure=plan.measures[0])
        found = SimpleNamespace(checkpoints=checkpoints, maps=maps, ids=("def456",))
        rows = course(rules, seeds=3, against=plan.against)
        return SimpleNamespace(rows=rows, labels=rules, id="abc123", paths=found)

    monkeypatch.setattr(lab.dynamics, "dynamics_of", dynamics_of)
    monkeypatch.setattr(command, "find_runs", lambda store, texts: [Folder(text) for text in texts])
    monkeypatch.setattr(lab.comparison, "compare_runs", compare_runs)
    monkeypatch.setattr(lab.comparison, "labels_of", lambda folders: [folder.rule for folder in folders])
    monkeypatch.setattr(lab.spectra, "spectra", make_spectra)
    monkeypatch.setattr(lab.device, "prepare", lambda device: None)
    monkeypatch.chdir(tmp_path)
    return seen


def call(*args):
    return CliRunner().invoke(main, ["figure", *args])


@pytest.mark.parametrize("name", [name for name in FIGURES if TAKES[name]])
def test_each_figure_is_drawn_with_table_and_origin(asked, tmp_path, name):
    result = call(name, "bp", "fa")
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.pdf", f"{name}.csv", f"{name}.json"}
    note = json.loads((tmp_path / f"{name}.json").read_text())
    assert note["runs"] == ["bp-0123", "fa-0123"]
    assert note["figure"] == name
    assert note["caption"] in result.stdout
    assert f"wrote {name}.pdf" in result.stdout
    assert set(note["options"]) == {"layers", *TAKES[name]} - {"layer"}


@pytest.mark.parametrize("style", STYLE_NAMES)
def test_blindness_is_drawn_from_its_own_networks(asked, tmp_path, monkeypatch, style):
    import lab.blindness
    from probes import PROBES

    few = [lab.blindness.pair_measure(PROBES[name]()) for name in ("linear-cka", "cca", "imd")]
    monkeypatch.setattr(lab.blindness, "default_measures", lambda: few)
    result = call("blindness", "--style", style)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "blindness.csv")
    assert len(table) == 3 * 17
    note = json.loads((tmp_path / "blindness.json").read_text())
    assert (note["runs"], note["rule"]) == ([], lab.blindness.RULE)
    assert "rotated: hidden layer turned" in note["caption"]
    assert "Hatched: 17 undefined" in note["caption"]


@pytest.mark.parametrize("style", STYLE_NAMES)
def test_groups_are_drawn_with_their_control_and_chance(asked, tmp_path, monkeypatch, style):
    import lab.blindness
    import lab.groups
    from lab.group_networks import SEEDS, TESTS, Shown
    from probes import PROBES

    rng = np.random.default_rng(0)
    made = []
    for test in TESTS:
        hidden = rng.standard_normal((SEEDS * len(test.levels), 4 if test.layers else 1, 30, 4))
        group = np.repeat(np.arange(len(test.levels)), SEEDS)
        made.append(Shown(test, {"trained": hidden, "untrained": hidden[::-1]}, group, ()))
    made[0].hidden["trained"][3] = 1.0  # no variance: undefined
    few = [(name, PROBES[name]()) for name in ("linear-cka", "procrustes")]
    monkeypatch.setattr(lab.groups, "networks", lambda say: made)
    monkeypatch.setattr(lab.blindness, "pair_probes", lambda: few)
    result = call("groups", "--style", style)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "groups.csv")
    assert len(table) == 2 * 4 * 2  # measures, tests, states: each test by the one score that is drawn
    assert set(table[table["test"] == "layers"]["score"]) == {"violations"}
    note = json.loads((tmp_path / "groups.json").read_text())
    assert (note["runs"], note["rule"]) == ([], lab.groups.RULE)
    assert "25 networks, chance 0.167." in note["caption"]
    assert "5 networks, chance 0.500." in note["caption"]
    assert "2 undefined (linear-cka, label noise: 24 of 300 pairs" in note["caption"]


def test_measures_of_groups_are_ranked_by_mean_auprc_and_undefined_ones_come_last():
    cells = [("a", "x", 0.5), ("a", "y", 0.7), ("b", "x", 0.9), ("b", "y", None), ("c", "x", 0.6), ("c", "y", 0.8)]
    table = pd.DataFrame(
        [{"measure": m, "test": t, "value": v, "score": "auprc", "state": "trained"} for m, t, v in cells]
    )
    assert groups.ranked(table) == ["c", "a", "b"]


def test_positions_are_cut_and_not_rounded():
    shown = blindness.shown
    places = (13.0, 1.0, 0.9999, 0.899, 0.1, 0.001, -0.2)
    assert [shown(p) for p in places] == ["1", "1", ".99", ".89", ".10", "0", "0"]


def test_options_reach_the_comparison(asked, tmp_path):
    said = "--measure rsa --stimuli 500 --match accuracy --permutations 50 --layer dense1 --style nature -o x.svg"
    result = call("layers", "bp", "fa", *said.split())
    assert result.exit_code == 0, result.output
    plan = asked["plan"]
    assert (plan.measures, plan.stimuli, plan.match) == (("rsa",), 500, "accuracy")
    assert (plan.permutations, plan.layers) == (50, ("dense1",))
    assert "permutation null (global in closed form" in result.stdout
    note = json.loads((tmp_path / "x.json").read_text())
    assert (note["style"], note["comparison"]) == ("nature", "abc123")
    assert "measuring" in result.stderr
    assert "measuring" not in result.stdout


def test_options_reach_the_course(asked, tmp_path):
    said = "--measure rsa --stimuli 500 --against accuracy --layer dense1"
    result = call("dynamics", "bp", "fa", *said.split())
    assert result.exit_code == 0, result.output
    plan = asked["plan"]
    assert (plan.measures, plan.stimuli, plan.against, plan.layers) == (("rsa",), 500, "accuracy", ("dense1",))
    assert json.loads((tmp_path / "dynamics.json").read_text())["dynamics"] == "abc123"


def test_paths_are_by_a_metric_and_another_measure_is_refused(asked, tmp_path):
    result = call("paths", "bp", "fa")
    assert result.exit_code == 0, result.output
    assert asked["plan"].measures == ("angular-procrustes",)
    assert json.loads((tmp_path / "paths.json").read_text())["paths"] == ["def456"]
    assert "angular-procrustes between all networks" in result.stdout
    asked.clear()
    result = call("paths", "bp", "fa", "--measure", "linear-cka")
    assert result.exit_code == 2
    assert "--measure linear-cka is no metric" in result.stderr
    assert not asked


def test_json_is_one_object(asked):
    result = call("spectrum", "bp", "--stimuli", "300", "--json")
    answer = json.loads(result.stdout)
    assert answer["files"] == ["spectrum.pdf", "spectrum.csv", "spectrum.json"]
    assert "n = 300" in answer["caption"]
    assert asked["stimuli"] == 300


def test_layers_are_chosen_and_misspelt_ones_are_named(asked, tmp_path):
    assert call("learning", "bp", "fa", "--layer", "dense2").exit_code == 0
    blocks = {line.split(",")[1] for line in (tmp_path / "learning.csv").read_text().splitlines()[1:]}
    assert blocks == {"", "dense2"}
    result = call("spectrum", "bp", "--layer", "dense3")
    assert result.exit_code == 2
    assert "There are dense1, dense2." in result.stderr


@pytest.mark.parametrize("args", [(), ("list",)])
def test_figures_are_listed(args):
    result = call(*args)
    assert result.exit_code == 0
    for name in FIGURES:
        assert f"\n{name} " in result.stdout
    assert [f["name"] for f in json.loads(call(*args, "--json").stdout)["figures"]] == list(FIGURES)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("similarty", "bp", "fa"), "Did you mean 'similarity'?"),
        (("similarity", "bp"), "at least 2 runs"),
        (("learning",), "at least 1 run;"),
        (("learning", "bp", "--measure", "rsa"), "--measure changes nothing"),
        (("spectrum", "bp", "--permutations", "9"), "--permutations changes nothing"),
        (("blindness", "bp"), "runs change nothing in it"),
        (("blindness", "--layer", "dense1"), "--layer changes nothing"),
        (("groups", "bp"), "runs change nothing in it"),
        (("layers", "bp", "fa", "--against", "loss"), "--against changes nothing"),
        (("paths", "bp", "fa", "--match", "accuracy"), "--match changes nothing"),
        (("dynamics", "bp"), "at least 2 runs"),
        (("layers", "bp", "fa", "-o", "x.gif"), ".pdf, .png, .svg"),
        (("layers", "bp", "fa", "--style", "cell"), "neurips"),
    ],
)
def test_wrong_usage_is_said_before_any_work(asked, tmp_path, args, said):
    result = call(*args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not asked
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_said_before_any_work(asked):
    result = call("layers", "bp", "fa", "-o", "none/x.pdf")
    assert result.exit_code == 1
    assert "no folder none" in result.stderr
    assert not asked


def test_help_loads_neither_matplotlib_nor_jax():
    code = (
        "import sys, click.testing, lab.cli; r = click.testing.CliRunner().invoke(lab.cli.main, ['figure', '-h']);"
        "assert r.exit_code == 0 and 'Examples' in r.output; print({'jax', 'matplotlib', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
