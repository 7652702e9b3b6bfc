"""A comparison that was stopped goes on from the last measure and layer it finished, and ends with the same tables."""

import signal

import pandas as pd
import pytest

ASKED = ("-m", "linear-cka", "-m", "mutual-knn(k=5)", "-m", "agreement", "--stimuli", "60", "--permutations", "20")
DIES = """
import os, signal
import lab.comparison
real, calls = lab.comparison.compare_layer, []
def compare_layer(*args):
    calls.append(args)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
lab.comparison.compare_layer = compare_layer
"""


def tables(store) -> dict[str, pd.DataFrame]:
    (place,) = (store / "comparisons").iterdir()
    assert sorted(file.name for file in place.iterdir()) == ["comparison.json", "pairs.parquet", "rows.parquet"]
    return {name: pd.read_parquet(place / f"{name}.parquet") for name in ("rows", "pairs")}


def parts(store) -> list:
    return sorted((store / "comparisons").glob("*/parts/*.json"))


@pytest.fixture
def measured(monkeypatch) -> list[str]:
    """Which measures were computed."""
    import lab.comparison

    seen = []

    def counting(real):
        def counted(probe, *args):
            seen.append(probe.info.name)
            return real(probe, *args)

        return counted

    for name in ("compare_layer", "compare_networks"):
        monkeypatch.setattr(lab.comparison, name, counting(getattr(lab.comparison, name)))
    return seen


@pytest.fixture
def two(copied, runs):
    return ("compare", runs["bp"], runs["fa"], *ASKED, "--store", copied)


def test_killed_between_two_measures_it_computes_only_the_rest(
    process, ask, measured, two, copied, home, runs, tmp_path
):
    child = process(*two, first=DIES)
    child.communicate(timeout=120)
    assert child.returncode == -signal.SIGKILL
    assert len(parts(copied)) == 1
    ask(*two)
    assert measured == ["mutual-knn", "agreement"]
    resumed = tables(copied)
    ask("compare", runs["bp"], runs["fa"], *ASKED)  # in the session's store, without a stop
    (place,) = (copied / "comparisons").iterdir()
    found = home / "store" / "comparisons" / place.name
    for name, table in resumed.items():
        pd.testing.assert_frame_equal(table, pd.read_parquet(found / f"{name}.parquet"), check_exact=True)
    assert "compared earlier" in ask(*two).stderr


def test_interrupted_it_says_so_and_half_a_part_or_anothers_is_not_used(ask, measured, two, copied, monkeypatch):
    import lab.comparison

    real = lab.comparison.compare_networks

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(lab.comparison, "compare_networks", interrupted)
    assert "the same command goes on from there" in ask(*two, code=130).stderr
    monkeypatch.setattr(lab.comparison, "compare_networks", real)
    first, second = parts(copied)
    whole = first.read_text()
    first.write_text(whole[: len(whole) // 2])
    second.write_text(whole)  # whole, but of another measure
    measured.clear()
    ask(*two)
    assert measured == ["linear-cka", "mutual-knn", "agreement"]
    assert tables(copied)["rows"]["measure"].tolist() == ["linear-cka", "mutual-knn(k=5)", "agreement"]


def test_a_refused_comparison_leaves_nothing_behind(refuse, two, copied):
    refuse(2, *two[:-2], "-m", "debiased-cka(maps=pool)", "--store", copied)
    assert not (copied / "comparisons").exists()
