"""`lab check probe`: what it says of the example of CONTRIBUTING.md, and of each defect that may be planted in it."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import lab.check_probe
import probes.nulls
from lab.checking import Broken
from probes import PROBES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.search(
    r"```python\n(.*?def probe\(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL
)[1]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the example in mine.py; the rates, which take seconds, are left to the slow tests."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(EXAMPLE, encoding="utf-8")
    quick = {name: check for name, check in lab.check_probe.PAIR_CHECKS.items() if name not in ("null", "power")}
    monkeypatch.setattr(lab.check_probe, "PAIR_CHECKS", quick)
    return tmp_path


def test_the_worked_example_keeps_its_card(here, ask):
    done = ask("check", "probe", "./mine.py")
    assert re.findall(r"^passed  (.{20}) ", done.stdout, re.MULTILINE) == [
        name.ljust(20) for name in lab.check_probe.PAIR_CHECKS
    ]
    assert len(done.stdout.splitlines()) == 8
    assert done.stderr == ""


MEAN = "np.abs(a[0] - b[0]).mean()"
DEFECTS = {
    "a wrong invariance": (
        '"isotropic-scaling"}',
        '"isotropic-scaling", "translation"}',
        "invariances",
        "declared invariant to translation, and that changes the value by",
    ),
    "an invariance too few": (
        '"orthogonal", ',
        "",
        "no others",
        "invariant to orthogonal here, which its card does not",
    ),
    "two orders that differ": (
        MEAN,
        "np.abs(a[0] - b[0]).mean() + 0.01 * b[0].mean()",
        "order of the two",
        "declared symmetric, and the two directions differ by",
    ),
    "nan": (MEAN, "float('nan')", "is pure", "the value is nan; give a finite float, or Undefined with the reason"),
    "a draw": (
        MEAN,
        "np.abs(a[0] - b[0]).mean() + 1e-6 * np.random.default_rng().random()",
        "is pure",
        "another value the second time: fix the seed",
    ),
    "a forgotten column order": ("np.ix_(order, order)", "order", "permutes", "permute gives"),
    "no metric": (MEAN, "((a[0] - b[0]) ** 4).mean()", "is a metric", "break the triangle inequality"),
    "a range too small": ("(0.0, 2.0)", "(0.0, 0.1)", "keeps its range", "lies outside of its range, 0 to 0.1"),
    "an error": (MEAN, "a[1]", "is pure", "mine.py, line 14: IndexError: tuple index out of range"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found_by_its_check(here, answer, defect):
    old, new, check, said = DEFECTS[defect]
    assert EXAMPLE.count(old) == 1
    (here / "mine.py").write_text(EXAMPLE.replace(old, new), encoding="utf-8")
    found = answer("check", "probe", "./mine.py", code=1)
    assert not found["passed"]
    seen = {one["check"]: one["seen"] for one in found["checks"] if not one["passed"]}
    assert said in seen[check], seen


def test_a_null_that_never_rejects_is_found_where_values_are_continuous(monkeypatch):
    """Planted in the code that users run: with all values tied nothing is called. Common neighbours do tie by right."""
    monkeypatch.setattr(lab.check_probe, "TESTS", lab.check_probe.LEAST)
    check = lab.check_probe.PAIR_CHECKS["null"]
    assert "n=24, d=4 " in check(PROBES["linear-cka"]())
    monkeypatch.setattr(probes.nulls, "TIE", 10.0)
    with pytest.raises(Broken, match=r"the global null rejects 0\.0 % of 180 tests at 5 %"):
        check(PROBES["linear-cka"]())
    assert "0.0 %" in check(PROBES["mutual-knn"](k=3))


def test_a_size_that_a_probe_is_not_for_is_told_and_the_others_are_checked(monkeypatch):
    """Five components of four units do not exist; where no size has a value there is nothing to pass."""
    monkeypatch.setattr(lab.check_probe, "TESTS", lab.check_probe.LEAST)
    told = lab.check_probe.PAIR_CHECKS["null"](PROBES["svcca"](rank=5))
    assert "n=24, d=4 undefined: " in told
    assert "classes " in told.split("undefined")[1]
    for check in ("null", "power"):
        with pytest.raises(Broken, match="no value for 60 stimuli × 10 units"):
            lab.check_probe.PAIR_CHECKS[check](PROBES["svcca"](rank=11))


def test_a_probe_whose_default_asks_for_more_units_than_the_examples_have_is_checked_with_fewer(answer):
    assert answer("check", "probe", "spectrum-exponent")["probe"] == "spectrum-exponent(low=3, high=20)"


def test_a_single_probe_and_a_setting_are_checked_by_name(here, answer):
    found = answer("check", "probe", "participation-ratio")
    assert [one["check"] for one in found["checks"]] == list(lab.check_probe.SINGLE_CHECKS)
    assert answer("check", "probe", "mutual-knn(k=3)")["probe"] == "mutual-knn(k=3)"


def test_several_probes_are_told_by_name_and_one_failure_fails_all(here, ask, answer):
    (here / "bad.py").write_text(EXAMPLE.replace('"orthogonal", ', "").replace("cosine-gap", "bad"), encoding="utf-8")
    done = ask("check", "probes", "./mine.py", "./bad.py", code=1)
    assert "passed  cosine-gap is pure " in done.stdout
    assert "FAILED  bad        no others " in done.stdout
    assert done.stderr == "bad: 1 of 8 checks failed\n"
    found = answer("check", "probes", "./mine.py", "./bad.py", code=1)
    assert [(one["probe"], one["passed"]) for one in found["probes"]] == [("cosine-gap", True), ("bad", False)]


def test_what_a_probe_prints_goes_to_stderr(here, answer):
    (here / "mine.py").write_text(EXAMPLE.replace("        lengths =", "        print('here')\n        lengths ="))
    assert answer("check", "probe", "./mine.py")["passed"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("linear-kca", "Did you mean 'linear-cka'?"), ("./none.py", "no file"), ("agreement", "measures networks")],
)
def test_what_is_not_there_is_refused_in_one_line(here, refuse, name, said):
    assert said in refuse(4 if name.endswith(".py") else 2, "check", "probe", name)


def test_checking_a_probe_loads_no_jax():
    code = """
import sys
import lab.check_probe
from click.testing import CliRunner
from lab.cli import main
for name in ("null", "power"):
    del lab.check_probe.PAIR_CHECKS[name]
done = CliRunner().invoke(main, ["check", "probe", "linear-cka"])
assert done.exit_code == 0, done.output
assert not {"jax", "pandas", "matplotlib", "algorithms"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_blindness_is_told_in_marks_values_and_csv(here, ask, answer):
    words = ("check", "probes", "linear-cka", "./mine.py", "--blindness")
    done = ask(*words)
    head, first, second = done.stdout.splitlines()[:3]
    assert head.split() == ["measure", *"abcdefghijklmnopq", "blind", "alarms"]
    assert first.split()[:4] == ["linear-cka", "-", "-", "-"]
    assert first.split()[13:15] == ["+", "+"]
    assert second.split()[:2] == ["./mine.py", "-"]
    assert "a  rotated: hidden layer turned by a random rotation; the next layer is kept" in done.stdout
    found = answer(*words)
    assert len(found["cases"]) == 17
    assert len(found["measures"]) == 34
    by_case = {one["case"]: one for one in found["measures"] if one["measure"] == "linear-cka"}
    assert by_case["rotated"]["verdict"] == "blind"
    assert by_case["rotated"]["value"] == pytest.approx(1.0)
    csv = ask(*words, "--csv").stdout.splitlines()
    assert len(csv) == 35
    assert csv[0].startswith("measure,kind,case,group,different,null,value,identical,unrelated,position,verdict")


@pytest.fixture
def few(monkeypatch):
    """Two of the tests on groups, with networks that train in a second, and only once."""
    import lab.group_networks as made
    import lab.groups

    shown, train = [], lab.groups.networks
    monkeypatch.setattr(lab.groups, "networks", lambda say: shown or shown.extend(train(say)) or shown)

    kept = (made.TESTS[0], made.TESTS[3])
    monkeypatch.setattr(made, "TESTS", tuple(replace(test, levels=test.levels[:2]) for test in kept))
    monkeypatch.setattr(made.GroupTest, "arch", (6, 6, 6))  # one network for both, so that it is compiled once
    for name, value in {"DATA": "tiny", "SEEDS": 3, "TRAIN": 100, "EPOCHS": 1, "STIMULI": 40}.items():
        monkeypatch.setattr(made, name, value)


def test_groups_are_told_in_tables_values_and_csv(here, few, ask, answer):
    words = ("check", "probes", "linear-cka", "./mine.py", "--groups")
    done = ask(*words)
    title, head, first, second, *_ = done.stdout.splitlines()
    assert title.endswith("chance 0.400")  # 6 of 15 pairs of two groups of three networks
    assert head.split() == ["measure", "label", "noise", "untrained"]
    assert re.fullmatch(r"linear-cka +\d\.\d\d \[\d\.\d\d, \d\.\d\d\]  \d\.\d\d", first)
    assert second.startswith("./mine.py")
    assert re.search(r"^violations.*chance 0.500$", done.stdout, re.MULTILINE)
    assert re.search(r"^label noise: .*\(0, 0.25\); 6 networks; accuracy", done.stdout, re.MULTILINE)
    assert "training 6 networks: label noise\n" in done.stderr
    found = answer(*words)
    assert [one["test"] for one in found["tests"]] == ["label noise", "layers"]
    lines = {(one["measure"], one["test"], one["score"], one["state"]): one for one in found["measures"]}
    assert len(lines) == len(found["measures"]) == 2 * (2 * 2 + 2)
    one = lines["linear-cka", "label noise", "auprc", "trained"]
    assert (one["chance"], one["networks"], one["pairs"], one["reason"]) == (6 / 15, 6, 15, "")
    assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1
    csv = ask(*words, "--csv").stdout.splitlines()
    assert csv[0] == "measure,test,score,state,value,low,high,chance,networks,pairs,reason"
    assert len(csv) == 13


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("participation-ratio", "--blindness"), "describes one network"),
        (("participation-ratio", "--groups"), "describes one network"),
        (("agreement", "--groups"), "compares networks and not their representations"),
        (("linear-cka", "--groups", "--blindness"), "ask for one at a time"),
        (("linear-cka", "--csv"), "--csv prints the table of --blindness or --groups"),
    ],
)
def test_what_has_no_such_table_is_refused(here, refuse, words, said):
    assert said in refuse(2, "check", "probes", *words)
