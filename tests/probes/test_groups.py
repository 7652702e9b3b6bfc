"""Scores of the tests on trained groups: cases whose score is known, levels of chance from counting, and the groups."""

import math
from itertools import permutations

import numpy as np
import pytest

from lab import group_networks, groups
from lab.group_networks import TESTS, GroupTest, Shown, mislabelled, noised, patched, shortcut
from lab.groups import auprc, chance, disorder, examine, similarities, violations
from probes import PROBES, Undefined
from probes.probe import ProbeInfo, pair_probe

FIVE = np.repeat(np.arange(5), 5)


def drawn(rng, m=25):
    """Unrelated values of all pairs, symmetric; the diagonal, which nothing may read, is nan."""
    S = rng.standard_normal((m, m))
    S = S + S.T
    np.fill_diagonal(S, np.nan)
    return S


def parted(within, across, group=FIVE):
    S = np.where(group[:, None] == group, within, across).astype(float)
    np.fill_diagonal(S, np.nan)
    return S


def test_chance_is_the_share_of_pairs_inside_groups():
    assert chance(FIVE) == 50 / 300
    assert chance(np.repeat(np.arange(3), 5)) == 30 / 105
    assert chance(FIVE[1:]) == 46 / 276 == 50 / 300  # a network left out changes nothing, so intervals compare


def test_groups_that_are_apart_score_best():
    noise = np.abs(drawn(np.random.default_rng(0))) * 0.1
    S = parted(2.0, 0.0) + noise
    assert (auprc(S, FIVE), violations(S, FIVE)) == (1.0, 0.0)


def test_groups_turned_round_score_worst():
    """All 250 pairs across come first, so the ith pair inside has precision i/(250 + i)."""
    S = parted(0.0, 2.0) + np.abs(drawn(np.random.default_rng(0))) * 0.1
    assert auprc(S, FIVE) == pytest.approx(np.mean([i / (250 + i) for i in range(1, 51)]), rel=1e-12)
    assert violations(S, FIVE) == 1.0


def test_values_that_are_all_equal_score_at_chance_exactly():
    S = parted(1.0, 1.0)
    assert auprc(S, FIVE) == pytest.approx(50 / 300, rel=1e-12)
    assert violations(S, FIVE) == 0.5
    assert disorder(np.ones((6, 6))) == 0.5


def test_unrelated_values_score_at_chance():
    """A random order of N values, P of them positive, has mean average precision [(P−1)/(N−1)·(N−H) + H]/N, H the Nth
    harmonic number: a little above P/N. 200 draws; five standard errors of their mean."""
    rng = np.random.default_rng(1)
    N, P = 300, 50
    H = sum(1 / k for k in range(1, N + 1))
    expected = ((P - 1) / (N - 1) * (N - H) + H) / N
    assert expected == pytest.approx(P / N, abs=0.015)
    for score, mean in ((auprc, expected), (violations, 0.5)):
        found = [score(drawn(rng), FIVE) for _ in range(200)]
        assert np.mean(found) == pytest.approx(mean, abs=5 * np.std(found) / math.sqrt(200))


def test_scores_are_those_of_scikit_learn_with_ties():
    metrics = pytest.importorskip("sklearn.metrics")
    S = np.round(drawn(np.random.default_rng(2)) + parted(1.0, 0.0))
    pairs = np.triu_indices(25, 1)
    same = FIVE[pairs[0]] == FIVE[pairs[1]]
    assert auprc(S, FIVE) == pytest.approx(metrics.average_precision_score(same, S[pairs]), rel=1e-12)
    areas = []
    for g in range(5):
        here = (FIVE[pairs[0]] == g) | (FIVE[pairs[1]] == g)
        areas.append(metrics.roc_auc_score(same[here], S[pairs][here]))
    assert violations(S, FIVE) == pytest.approx(1 - np.mean(areas), rel=1e-12)


def test_a_group_that_spreads_more_costs_precision_and_no_violations():
    """Group 4's networks are less alike (.5) than group 0's are like group 1's (.6), and least like all others (0)."""
    group = np.repeat(np.arange(3), 4)
    S = parted(0.9, 0.6, group)
    last = group == 2
    S[last] = S[:, last] = 0.0
    S[np.ix_(last, last)] = 0.5
    assert violations(S, group) == 0.0
    # 12 pairs at .9, then 16 across at .6, then the 6 at .5 come together, at precision 18/34
    assert auprc(S, group) == pytest.approx((12 + 6 * 18 / 34) / 18, rel=1e-12)


def test_the_order_of_layers_on_constructed_chains():
    depth = np.arange(6)
    chain = -np.abs(depth[:, None] - depth).astype(float)
    assert disorder(chain) == 0.0
    assert disorder(-chain) == 1.0
    S = np.zeros((3, 3))
    S[0, 1], S[1, 2], S[0, 2] = 0.5, 0.9, 0.7  # the first pair is less alike than the far one, the second is not
    assert disorder(S) == 0.5


def test_layers_in_a_random_order_are_at_chance_exactly():
    """Of three distances each is the far one equally often: none, one or two of the near pairs are then less alike."""
    S = drawn(np.random.default_rng(3), 5)
    rates = [disorder(S[np.ix_(order, order)]) for order in map(list, permutations(range(5)))]
    assert np.mean(rates) == pytest.approx(0.5, abs=1e-12)


def test_directions_both_ways_of_asymmetric_measures_and_no_network_with_itself():
    rng = np.random.default_rng(4)
    hidden = [rng.standard_normal((40, 5)) for _ in range(3)]
    for name in ("debiased-cka", "angular-procrustes", "ridge"):
        probe = PROBES[name]()
        S = similarities(probe, hidden)
        prepared = [probe.prepare(h) for h in hidden]
        sign = 1 if probe.info.direction == "similarity" else -1
        both = (probe.value(prepared[0], prepared[2]) + probe.value(prepared[2], prepared[0])) / 2
        assert S[0, 2] == S[2, 0] == pytest.approx(sign * both, rel=1e-9)
        assert np.isnan(np.diagonal(S)).all()


def shown(hidden, group, layers=False):
    test = GroupTest("made up", "", tuple(np.unique(group)), mislabelled, layers=layers)
    return Shown(test, {"trained": hidden, "untrained": hidden}, group, ())


def test_what_is_undefined_keeps_its_reason_and_gives_no_score():
    rng = np.random.default_rng(5)
    hidden = rng.standard_normal((6, 2, 30, 4))
    hidden[2] = 1.0
    for layers in (False, True):
        for line in examine(PROBES["linear-cka"](), "linear-cka", shown(hidden, np.repeat([0, 1], 3), layers)):
            assert np.isnan([line["value"], line["low"], line["high"]]).all()
            assert line["reason"]
    found = similarities(PROBES["linear-cka"](), list(hidden[:, -1]))
    assert isinstance(found, Undefined)
    assert found.reason.startswith("5 of 15 pairs: ")
    hidden[2, -1, 0, 0] = np.nan
    line = examine(PROBES["linear-cka"](), "linear-cka", shown(hidden, np.repeat([0, 1], 3)))[0]
    assert "finite" in line["reason"]


def mean_gap():
    """A measure that sees the mean of all activations and nothing else."""
    info = ProbeInfo(
        name="mean-gap", title="", kind="pair", formula="", citation="", range=(0.0, np.inf), direction="distance",
        symmetric=True, metric=False, invariances=frozenset(), convention="", traps="", cost="",
    )  # fmt: skip
    return pair_probe(
        info, prepare=lambda x: (x.mean(),), value=lambda a, b: abs(a[0] - b[0]), permute=lambda a, order: a
    )


def test_a_measure_that_sees_what_differs_scores_best_and_one_that_does_not_is_at_chance():
    """Groups differ in their mean alone, which CKA does not see; .12 is four deviations of the AUPRC of 25 networks."""
    rng = np.random.default_rng(6)
    hidden = rng.standard_normal((25, 1, 40, 5)) + 10.0 * FIVE[:, None, None, None]
    seen = {line["score"]: line for line in examine(mean_gap(), "gap", shown(hidden, FIVE))[:2]}
    assert seen["auprc"]["value"] == seen["auprc"]["low"] == seen["auprc"]["high"] == 1.0
    assert (seen["auprc"]["chance"], seen["violations"]["chance"]) == (50 / 300, 0.5)
    assert (seen["auprc"]["networks"], seen["auprc"]["pairs"]) == (25, 300)
    assert seen["violations"]["value"] == 0.0
    blind = {line["score"]: line for line in examine(PROBES["debiased-cka"](), "cka", shown(hidden, FIVE))[:2]}
    assert blind["auprc"]["value"] == pytest.approx(0.18, abs=0.12)
    assert blind["auprc"]["low"] < 0.18 < blind["auprc"]["high"]
    assert blind["violations"]["value"] == pytest.approx(0.5, abs=0.15)


def test_the_interval_of_layers_is_that_of_a_mean_over_networks():
    rng = np.random.default_rng(7)
    hidden = rng.standard_normal((5, 4, 40, 3))
    line = examine(PROBES["linear-cka"](), "cka", shown(hidden, np.zeros(5), layers=True))[0]
    rates = [disorder(similarities(PROBES["linear-cka"](), list(network))) for network in hidden]
    half = 2.7764451052 * np.std(rates, ddof=1) / math.sqrt(5)  # t of 4 degrees of freedom at .975
    assert line["value"] == pytest.approx(np.mean(rates), rel=1e-9)
    assert line["high"] - line["value"] == pytest.approx(min(half, 1 - line["value"]), rel=1e-6)
    assert (line["score"], line["networks"], line["pairs"]) == ("violations", 5, 30)


def test_random_labels_come_in_the_stated_share_and_nested():
    """A random label is right one time in ten: 20,000 labels, standard error below .003."""
    x, y = np.zeros((20_000, 1)), np.arange(20_000) % 10
    found = {level: mislabelled(x, y, level, np.random.default_rng(0))[1] for level in (0.0, 0.25, 0.5, 1.0)}
    np.testing.assert_array_equal(found[0.0], y)
    for level, labels in found.items():
        assert (labels != y).mean() == pytest.approx(0.9 * level, abs=0.01)
    few, more = found[0.25] != y, found[0.5] != y
    assert (more | ~few).all()
    np.testing.assert_array_equal(found[0.25][few], found[0.5][few])


def test_the_shortcut_gives_the_label_away_as_often_as_stated():
    x, y = np.zeros((2000, 28, 28, 1), np.float32), np.arange(2000) % 10
    for level, share in ((0.0, 0.1), (0.5, 0.55), (1.0, 1.0)):
        seen, labels = shortcut(x, y, level, np.random.default_rng(0))
        np.testing.assert_array_equal(labels, y)
        place = seen[:, 0, ::2, 0].argmax(1)
        assert (place == y).mean() == pytest.approx(share, abs=0.05)  # four standard errors of 2000 draws
        assert (seen.sum((1, 2, 3)) == 4).all()
    assert not x.any()
    one = patched(x[:1], np.array([9]))[0, :, :, 0]
    assert np.argwhere(one).tolist() == [[0, 18], [0, 19], [1, 18], [1, 19]]


def test_noise_has_the_stated_strength_and_stays_in_range():
    x, y = np.full((20, 28, 28, 1), 0.5, np.float32), np.zeros(20, int)
    seen = noised(x, y, 0.1, np.random.default_rng(0))[0]
    assert seen.std() == pytest.approx(0.1, abs=0.005)
    assert seen.dtype == np.float32
    loud = noised(x, y, 5.0, np.random.default_rng(0))[0]
    assert (loud.min(), loud.max()) == (0.0, 1.0)


def test_no_two_networks_share_a_seed():
    seeds = [test.first_seed + i for test in TESTS for i in range(len(test.levels) * group_networks.SEEDS)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.slow
def test_trained_groups_are_found_and_untrained_ones_are_not():
    """Untrained networks are exchangeable: .09 is four deviations of the AUPRC of such groups of 25."""
    found = groups.table([("debiased-cka", PROBES["debiased-cka"]())], groups.networks())
    scores = found.set_index(["test", "score", "state"])["value"]
    for test in ("label noise", "shortcut", "augmentation"):
        assert scores[test, "auprc", "untrained"] == pytest.approx(0.18, abs=0.09)
        assert scores[test, "auprc", "trained"] > 0.3
        assert scores[test, "violations", "trained"] < 0.35
    assert scores["layers", "violations", "trained"] < 0.1
