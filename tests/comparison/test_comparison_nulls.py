"""Nulls of a comparison reject at their rate, do not depend on memory, and work at many rows."""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

import lab.comparison_nulls
from lab.comparison_layers import compare_layer, values_between
from lab.comparison_nulls import Nulls
from lab.comparison_search import search_layers
from lab.comparison_table import Group, Pairing, Plan
from lab.errors import UsageError
from probes import PROBES
from probes.all_pairs import Shelf
from probes.feature_maps import with_maps
from probes.nulls import orders

N, SEEDS, GROUPS = 80, (0, 1, 2), 3
LABELS = np.arange(N) % 4
WHOLE = 2**28


def arrays(positions=()):
    """Three runs that share a signal."""
    signal = np.random.default_rng(9).standard_normal((N, *positions, 3))
    for g in range(GROUPS):
        for seed in SEEDS:
            rng = np.random.default_rng([g, seed])
            yield signal @ rng.standard_normal((3, 5)) + rng.standard_normal((N, *positions, 5))


def nulls(probe, memory, permutations=40, positions=()):
    shelf = Shelf((probe.prepare(x) for x in arrays(positions)), WHOLE)
    places = [{seed: 3 * g + seed for seed in SEEDS} for g in range(GROUPS)]
    pairings = dict.fromkeys(combinations(range(GROUPS), 2), Pairing(list(SEEDS), list(SEEDS), True))
    return Nulls(probe, shelf, "abc", places, pairings, LABELS, permutations, memory)


def results(made):
    found = [made.result(i, j, kind) for i, j in ((0, 1), (0, 2), (1, 2)) for kind in ("global", "within-class")]
    return [(r.mean, r.sd, r.p, r.permutations) for r in found]


def test_a_pair_of_groups_at_a_time_gives_what_all_at_once_give():
    probe = PROBES["debiased-cka"]()
    five = 8 * N**2 * 5  # mean matrices of two groups, and what their closed form takes
    little = nulls(probe, five)
    np.testing.assert_allclose(results(little), results(nulls(probe, WHOLE)), rtol=1e-12)
    assert len(little._means) <= 2


def test_less_than_that_is_refused_with_what_to_do():
    with pytest.raises(UsageError, match=r"take 0\.00026 GB; give --memory more, or compare on fewer --stimuli"):
        results(nulls(PROBES["debiased-cka"](), 8 * N**2 * 4))


def drawn(made):
    """Mean and spread of the draws of every two groups and both nulls."""
    pairs = list(combinations(range(GROUPS), 2))
    found = [made.statistics(*pair, kind)[1:] for pair in pairs for kind in ("global", "within-class")]
    return [(values.mean(), values.std(ddof=1)) for values in found]


def test_many_rows_are_permuted_without_matrices(monkeypatch):
    """The same null from other pairs of networks: means of 200 draws, within 5 standard errors."""
    probe = PROBES["debiased-cka"]()
    by_matrix = drawn(nulls(probe, WHOLE, 200))
    monkeypatch.setattr(lab.comparison_nulls, "ROWS", N - 1)
    small = nulls(probe, 1000, 200)  # no n×n matrix fits
    assert {draws for *_, draws in results(small)} == {200}
    for (mean, sd), (other, spread) in zip(by_matrix, drawn(small), strict=True):
        assert other == pytest.approx(mean, abs=5 * spread / np.sqrt(200) + 5 * sd / np.sqrt(200))
        assert 0.5 * sd < spread < 3 * sd  # three pairs of networks are not all nine


def test_positions_move_together_with_and_without_matrices(monkeypatch):
    probe = with_maps(PROBES["debiased-cka"](), "positions")
    whole = nulls(probe, WHOLE, 100, positions=(3,))
    assert {draws for *_, draws in results(whole)} == {100}, "there is no closed form for whole images"
    monkeypatch.setattr(lab.comparison_nulls, "ROWS", N)
    one_by_one = drawn(nulls(probe, 1000, 100, positions=(3,)))
    for (mean, sd), (other, spread) in zip(drawn(whole), one_by_one, strict=True):
        assert other == pytest.approx(mean, abs=5 * (sd + spread) / 10)


def test_a_value_that_knows_no_stimuli_has_no_null():
    assert nulls(PROBES["imd"](), WHOLE, permutations=2).result(0, 1, "global") is None


def test_values_at_many_rows_are_the_same(monkeypatch):
    probe = PROBES["debiased-cka"]()
    shelf = Shelf((probe.prepare(x) for x in arrays()), WHOLE)
    blocks = values_between(probe, shelf, WHOLE)
    monkeypatch.setattr("lab.comparison_layers.ROWS", 10)
    np.testing.assert_allclose(values_between(probe, shelf, WHOLE), blocks, rtol=1e-10)


def group(label, separations, inside=0.0, seed=0, first=0):
    """A run that shares its class means with every other, each network (seeds from `first`) at its own separation of
    the classes, and inside the classes a signal of this strength."""
    world = np.random.default_rng([seed, 7])
    means, signal = world.standard_normal((4, 6))[LABELS], world.standard_normal((N, 3))
    rng = np.random.default_rng([seed, ord(label)])
    answers = {
        s: separation * means + inside * signal @ rng.standard_normal((3, 6)) + rng.standard_normal((N, 6))
        for s, separation in enumerate(separations, first)
    }
    spec = SimpleNamespace(seeds=tuple(answers), rule=f"{label}()", epochs=1, arch="mlp(6)")
    folder = SimpleNamespace(id=f"{label}-run", spec=spec, manifest={"cohorts": [{"diverged": {}}]})
    return Group(folder, label, 40, {}, {}, {"h": answers}, {"h": answers})


def mixed(seed, inside=0.0):
    """Two runs of five networks whose separations of the classes differ."""
    spread = np.exp(np.random.default_rng([seed, 8]).standard_normal((2, 5)))
    return [group(label, row, inside, seed) for label, row in zip("ab", spread, strict=True)]


def within_p(groups, measure, search=False):
    """p of the within-class null of 19 permutations, with which p ≤ .05 has probability 1/20 exactly."""
    plan = Plan((measure,), stimuli=N, permutations=19, search=search)
    probe = PROBES[measure]()
    if search:
        return search_layers(probe, groups, None, LABELS, plan, WHOLE)[0][0]["null_within_p"]
    return compare_layer(probe, "h", groups, LABELS, plan, WHOLE)[0][0]["null_within_p"]


TESTS = 60
MANY = binom.ppf(0.999, TESTS, 0.05)


@pytest.mark.parametrize(
    ("measure", "search"), [("debiased-cka", False), ("debiased-cka", True), ("angular-procrustes", False)]
)
def test_networks_that_differ_in_how_well_they_separate_classes_are_no_finding_inside_them(measure, search):
    """Of given networks the mean inside the classes differs from pair to pair by far more than permutations change
    it: a null of other pairs than the value's would reject as it happens to fall. The bound is the 99.9 % point of
    Binomial(60, .05)."""
    assert sum(within_p(mixed(i), measure, search) <= 0.05 for i in range(TESTS)) <= MANY


@pytest.mark.parametrize("measure", ["debiased-cka", "angular-procrustes"])
def test_networks_that_are_not_compared_are_not_in_the_null(measure):
    """Seeds 0 and 1 of run a, which b has not, tell the classes less apart; the bound is the one above."""
    hits = 0
    for i in range(TESTS):
        groups = [group("a", [0.2, 0.2, 2, 2, 2], seed=i), group("b", [2, 2, 2], seed=i, first=2)]
        hits += within_p(groups, measure) <= 0.05
    assert hits <= MANY


@pytest.mark.parametrize("measure", ["debiased-cka", "angular-procrustes"])
def test_what_is_shared_inside_the_classes_is_found_all_the_same(measure):
    assert all(within_p(mixed(i, inside=1.5), measure) == 1 / 20 for i in range(10))


@pytest.mark.parametrize("rows", [N, N - 1])
def test_the_null_is_of_the_pairs_that_meet(rows, monkeypatch):
    """By definition: seeds 0 and 2 of one run meet seed 1 of the other."""
    monkeypatch.setattr(lab.comparison_nulls, "ROWS", rows)
    probe = PROBES["linear-cka"]()
    prepared = [probe.prepare(x) for x in arrays()]
    met = [(0, 1), (2, 1)]
    made = nulls(probe, WHOLE)
    for kind in ("global", "within-class"):
        asked = [np.arange(N), *orders(N, kind, LABELS, 40, seed=0)]
        values = [
            np.mean([probe.value(prepared[s], probe.permute(prepared[3 + t], order)) for s, t in met])
            for order in asked
        ]
        np.testing.assert_allclose(made.statistics(0, 1, kind), values, rtol=1e-10)
    found = made.result(0, 1, "within-class")
    assert found.p == (1 + sum(value >= values[0] for value in values[1:])) / 41
    assert (found.observed, found.mean) == pytest.approx((values[0], np.mean(values[1:])), rel=1e-10)


@pytest.mark.parametrize(("measure", "seeds"), [("debiased-cka", 2), ("debiased-cka", 3), ("angular-procrustes", 2)])
def test_networks_of_one_seed_may_be_alike_and_unrelated_seeds_are_no_finding(measure, seeds):
    """Two runs as they are before training: one network per seed under both rules, seeds independent. The second run
    has each network once more, rotated, which neither measure sees. With 19 permutations p ≤ .05 has probability 1/20;
    the bound is the 99.9 % point of Binomial(400, .05), and the mean of both crossings of two seeds called 11 %."""
    probe, tests, hits, n = PROBES[measure](), 400, 0, 16
    pairing = Pairing(list(range(seeds)), list(range(seeds)), True)
    for i in range(tests):
        rng = np.random.default_rng([i, seeds])
        first = [probe.prepare(rng.standard_normal((n, 4))) for _ in range(seeds)]
        places = [{s: s for s in range(seeds)}, {s: s + seeds for s in range(seeds)}]
        made = Nulls(probe, Shelf([*first, *first], WHOLE), "ab", places, {(0, 1): pairing}, LABELS[:n], 19, WHOLE)
        as_it_is, *drawn = made.statistics(0, 1, "global")
        more = np.array(drawn) >= as_it_is if probe.info.direction == "similarity" else np.array(drawn) <= as_it_is
        hits += not more.any()
    assert hits <= binom.ppf(0.999, tests, 0.05)


@pytest.mark.parametrize(("measure", "search"), [("linear-cka", False), ("linear-cka", True), ("mutual-knn", False)])
@pytest.mark.parametrize("seeds", [(5, 5), (5, 3)])
def test_the_order_in_which_runs_are_named_changes_no_p(measure, search, seeds):
    """The same networks meet and the same ones are permuted; seeds of one run may come in another order too."""
    first, other = (group(label, np.linspace(0.2, 1, count)) for label, count in zip("ba", seeds, strict=True))
    other.folder.spec.seeds = other.folder.spec.seeds[::-1]
    plan = Plan((measure,), stimuli=N, permutations=39, search=search)

    def row(*groups):
        if search:
            return search_layers(PROBES[measure](), list(groups), None, LABELS, plan, WHOLE)[0][0]
        return compare_layer(PROBES[measure](), "h", list(groups), LABELS, plan, WHOLE)[0][0]

    there, back = row(first, other), row(other, first)
    for name in (f"null_{kind}{end}" for kind in ("global", "within") for end in ("", "_p", "_calibrated")):
        assert there[name] == pytest.approx(back[name], rel=1e-9), name  # sums in another order
    assert 1 / 40 < there["null_within_p"] < 1


def test_unpaired_networks_all_meet():
    """Two runs without a common start: one mean over all pairs, which is the value itself."""
    probe = PROBES["debiased-cka"]()
    prepared = [probe.prepare(x) for x in arrays()]
    made = Nulls(
        probe,
        Shelf(prepared, WHOLE),
        "ab",
        [{0: 0, 1: 1, 2: 2}, {0: 3, 1: 4}],
        {(0, 1): Pairing([0, 1, 2], [0, 1], False)},
        LABELS,
        20,
        WHOLE,
    )
    mean = np.mean([probe.value(prepared[s], prepared[3 + t]) for s in range(3) for t in range(2)])
    assert made.statistics(0, 1, "within-class")[0] == pytest.approx(mean, rel=1e-10)
