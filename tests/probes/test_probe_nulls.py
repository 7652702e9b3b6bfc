"""Permutation nulls: hand-made order statistics, calibration, and the algebra of group means."""

import numpy as np
import pytest

from probes import PROBES, ProbeError, Undefined
from probes.cautions import cautions
from probes.moments import moments, sums
from probes.nulls import (
    closed_form_null,
    global_permutation,
    group_nulls,
    maximum_null,
    null_result,
    null_test,
    orders,
    permutation_test,
    within_class_permutation,
)

PAIRS = sorted(n for n in PROBES if PROBES[n]().info.kind == "pair")
NEIGHBOURS = ("mutual-knn", "cycle-knn", "cknna", "jaccard", "rank-similarity", "second-order-cosine")
SMALL = {**{n: {} for n in PAIRS}, **{n: {"k": 3} for n in NEIGHBOURS}, "minibatch-cka": {"batch": 8}}
SMALL["rtd"] = {"stimuli": 16}


def test_within_class_permutation_keeps_the_labels_and_reaches_every_order():
    rng = np.random.default_rng(0)
    labels = np.array([2, 0, 2, 1, 0, 2])
    seen = set()
    for _ in range(500):
        order = within_class_permutation(labels, rng)
        assert sorted(order) == list(range(6))
        assert np.array_equal(labels[order], labels)
        seen.add(tuple(order))
    assert len(seen) == 6 * 2 * 1  # 3! · 2! · 1!; each is missed with probability (11/12)^500 < 1e-18


def test_within_class_permutations_are_equally_likely():
    """χ² over the 6 orders of one class of three, 5 degrees of freedom: 20.5 is the 99.9 % point."""
    rng = np.random.default_rng(1)
    draws = [tuple(within_class_permutation(np.zeros(3), rng)) for _ in range(1200)]
    counts = np.unique(draws, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert ((counts - 200) ** 2 / 200).sum() < 20.5


def test_global_permutation_is_a_permutation():
    assert sorted(global_permutation(9, np.random.default_rng(0))) == list(range(9))


def test_p_threshold_and_calibration_by_hand():
    """K = 19, α = .05: ⌈.95 · 20⌉ = 19, so τ is the second largest of the 20 values."""
    null = np.arange(19) / 100.0  # 0 .. .18
    r = null_result("global", 0.5, null)
    assert r.p == 1 / 20
    assert r.threshold == 0.18
    assert r.calibrated == pytest.approx((0.5 - 0.18) / (1 - 0.18))
    assert (r.mean, r.permutations, r.observed) == (pytest.approx(0.09), 19, 0.5)
    assert r.sd == pytest.approx(np.std(null, ddof=1))
    middle = null_result("global", 0.175, null)
    assert middle.p == 2 / 20
    assert middle.threshold == 0.175
    assert middle.calibrated == 0.0
    assert null_result("global", 0.10, null).p == 10 / 20  # .10 … .18 are nine, and a tie counts


def test_distance_is_the_mirror_image_of_similarity():
    """d = 1 − s turns one into the other: same p, same calibrated value, thresholds mirrored."""
    rng = np.random.default_rng(0)
    null, s = rng.uniform(0, 0.6, 99), 0.7
    a = null_result("global", s, null)
    b = null_result("global", 1 - s, 1 - null, direction="distance", best=0.0)
    assert a.p == b.p == 0.01
    assert a.threshold == pytest.approx(1 - b.threshold)
    assert a.calibrated == pytest.approx(b.calibrated)


def test_with_too_few_permutations_nothing_can_pass_and_nothing_is_calibrated():
    """p is at least 1/(K + 1): 1/19 above .05, 1/20 not."""
    few = null_result("global", 1.0, np.zeros(18))
    assert few.calibrated.reason == "18 permutations cannot reach p = 0.05; take at least 19"
    assert null_result("global", 1.0, np.zeros(19)).calibrated == 1.0
    assert "take at least 99" in null_result("global", 1.0, np.zeros(98), alpha=0.01).calibrated.reason
    assert null_result("global", 1.0, np.zeros(99), alpha=0.01).calibrated == 1.0


def test_threshold_at_the_best_possible_value_calibrates_to_zero():
    r = null_result("global", 1.0, np.ones(99))
    assert (r.p, r.calibrated) == (1.0, 0.0)


@pytest.mark.parametrize("name", [n for n in PAIRS if n not in ("imd", "cycle-knn")])  # unpaired; not 1 with itself
def test_identical_representations_reach_the_floor_of_p_and_calibrate_to_one(name):
    probe = PROBES[name](**SMALL[name])
    px = probe.prepare(np.random.default_rng(0).standard_normal((60, 10)))
    r = permutation_test(probe, px, px, permutations=99)
    assert r.p == 1 / 100
    assert r.calibrated == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("name", PAIRS)
def test_null_is_what_preparing_permuted_rows_gives(name):
    probe = PROBES[name](**SMALL[name])
    rng = np.random.default_rng(0)
    X, Y, y = rng.standard_normal((40, 6)), rng.standard_normal((40, 9)), np.arange(40) % 3
    px, py = probe.prepare(X), probe.prepare(Y)
    for kind in ("global", "within-class"):
        r = permutation_test(probe, px, py, kind=kind, labels=y, permutations=5, seed=3)
        by_hand = [probe.value(px, probe.prepare(Y[order])) for order in orders(40, kind, y, 5, 3)]
        np.testing.assert_allclose(r.values, by_hand, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in PAIRS if n not in ("imd", "rtd", "ridge")])  # unpaired; seconds each
def test_false_positive_rate_on_independent_data(name):
    """K = 39 and α = .05 give p ≤ .05 with probability 2/40 exactly, less with ties (common neighbours). Of 400 tests,
    the 99.9 % band of Binomial(400, .05) is 8 … 36."""
    from scipy.stats import binom

    low, high = binom.ppf([0.0005, 0.9995], 400, 0.05)
    probe = PROBES[name](**SMALL[name])
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(400):
        px, py = (probe.prepare(rng.standard_normal((24, 4))) for _ in range(2))
        r = permutation_test(probe, px, py, permutations=39, seed=i)
        hits += r.p <= 0.05
        assert (r.calibrated > 0) <= (r.p <= 0.05)
    assert hits <= high
    if name not in NEIGHBOURS:
        assert hits >= low


def test_false_positive_rate_of_the_within_class_null_when_only_classes_are_shared():
    """The global null rejects nearly always here; the within-class one at its nominal rate (band as above)."""
    probe = PROBES["linear-cka"]()
    rng = np.random.default_rng(0)
    y = np.arange(30) % 3
    inside = world = 0
    for i in range(400):
        px, py = (probe.prepare(2 * rng.standard_normal((3, 5))[y] + rng.standard_normal((30, 5))) for _ in range(2))
        inside += permutation_test(probe, px, py, kind="within-class", labels=y, permutations=39, seed=i).p <= 0.05
        if i < 50:
            world += permutation_test(probe, px, py, permutations=39, seed=i).p <= 0.05
    assert 8 <= inside <= 36
    assert world >= 48


def group(probe, seed, size, n=30):
    rng = np.random.default_rng(seed)
    return [probe.prepare(rng.standard_normal((n, 6))) for _ in range(size)]


@pytest.mark.parametrize("name", ["linear-cka", "debiased-cka", "rbf-cka", "rsa", "mutual-knn"])
@pytest.mark.parametrize("kind", ["global", "within-class"])
def test_group_null_is_the_null_of_the_mean_over_all_pairs(name, kind):
    """The mean of inner products is the inner product of means: equal to rounding, 1e-12."""
    probe = PROBES[name]()
    a, b = group(probe, 0, 3), group(probe, 1, 4)
    y = np.arange(30) % 2
    mean_a, mean_b = (np.mean([probe.matrix(p) for p in g], axis=0) for g in (a, b))
    null = group_nulls([mean_a, mean_b], kind=kind, labels=y, permutations=7, seed=5)[:, 0, 1]
    by_hand = [
        np.mean([probe.value(p, probe.permute(q, order)) for p in a for q in b]) for order in orders(30, kind, y, 7, 5)
    ]
    np.testing.assert_allclose(null, by_hand, atol=1e-12)


def test_group_nulls_gives_all_pairs_of_groups_with_the_same_permutations():
    rng = np.random.default_rng(0)
    means = [rng.standard_normal((90, 90)) for _ in range(3)]
    null = group_nulls(means, permutations=4, seed=2)
    assert null.shape == (4, 3, 3)
    for k, order in enumerate(orders(90, "global", None, 4, 2)):
        for a in range(3):
            for b in range(3):
                assert null[k, a, b] == pytest.approx((means[a] * means[b][np.ix_(order, order)]).sum(), abs=1e-9)


def skewed(seed, n=50):
    return np.exp(0.5 * np.random.default_rng(seed).standard_normal((n, 6)))


@pytest.mark.parametrize(("name", "strength"), [("linear-cka", 0.7), ("debiased-cka", 0.7), ("rsa", 1.0)])
def test_a_null_in_closed_form_says_what_a_sampled_one_says(name, strength):
    """2,000 draws: mean and τ within 4 standard errors (a 95 % point of a near-normal null has an error of about
    2.1 sd/√K), p within 4 √(p(1−p)/K)."""
    probe = PROBES[name]()
    shared = skewed(9)
    px, py = (probe.prepare(skewed(seed) + strength * shared) for seed in (1, 2))
    exact = null_test(probe, px, py)
    drawn = permutation_test(probe, px, py, permutations=2000)
    assert exact.permutations == 0
    assert exact.observed == drawn.observed
    assert exact.mean == pytest.approx(drawn.mean, abs=4 * drawn.sd / np.sqrt(2000))
    assert exact.threshold == pytest.approx(drawn.threshold, abs=4 * 2.1 * drawn.sd / np.sqrt(2000))
    assert 1e-3 < exact.p < 0.2  # neither obvious nor hopeless, so that the comparison says something
    assert exact.p == pytest.approx(drawn.p, abs=4 * np.sqrt(exact.p / 2000))
    assert exact.calibrated == pytest.approx(drawn.calibrated, abs=0.05)


def test_no_closed_form_for_distances_asymmetric_matrices_or_nulls_ruled_by_outliers():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((40, 4)), rng.standard_normal((40, 4))
    for name in ("angular-procrustes", "mutual-knn"):
        probe = PROBES[name]()
        assert null_test(probe, probe.prepare(X), probe.prepare(Y)) is None
    X[0], Y[0] = 100.0, 100.0  # the value is whether the two outliers meet
    probe = PROBES["linear-cka"]()
    assert null_test(probe, probe.prepare(X), probe.prepare(Y)) is None
    assert isinstance(null_test(probe, probe.prepare(X), probe.prepare(np.ones((40, 2)))), Undefined)


def test_stimuli_that_are_all_equally_far_apart_are_alike_in_any_order():
    """Of X with orthonormal rows linear CKA is tr K_y / (√(n−1) |K_y|) in every order of the stimuli, so p is 1."""
    probe = PROBES["linear-cka"]()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = np.linalg.qr(rng.standard_normal((40, 40)))[0], rng.standard_normal((40, 6))
        assert null_test(probe, probe.prepare(x), probe.prepare(y)).p == 1.0


@pytest.mark.parametrize("unit", [1e-200, 1e-12, 1e12])
def test_the_unit_of_a_distance_does_not_matter(unit):
    null = np.linspace(0.5, 1, 99)
    r = null_result("global", 0.1 * unit, null * unit, direction="distance", best=0.0)
    assert (r.p, r.calibrated) == (1 / 100, pytest.approx(1 - 0.1 / r.threshold * unit))


def test_closed_form_makes_no_claim_about_the_far_tail():
    probe = PROBES["rsa"]()
    px = probe.prepare(skewed(1))
    assert null_test(probe, px, px).p == 1e-6


def test_false_positive_rate_of_the_null_in_closed_form():
    """Independent data, 400 tests at .05; the 99.9 % band of Binomial(400, .05) is 8 ... 36."""
    probe = PROBES["debiased-cka"]()
    hits = 0
    for i in range(400):
        px, py = (probe.prepare(skewed(2 * i + j + 100, n=24)) for j in (0, 1))
        found = moments(*(sums(probe.matrix(p)) for p in (px, py)))
        hits += closed_form_null(probe.value(px, py), found).p <= 0.05
    assert 8 <= hits <= 36


def test_the_largest_over_many_layers_is_held_against_the_largest_of_each_draw():
    """Independent layers: the largest of 100 values is beyond the 99 % point of one, and not of the largest."""
    rng = np.random.default_rng(0)
    found = [
        (maximum_null(values, null).p, null_result("global", values.max(), null[:, 0, 0]).p)
        for values, null in ((rng.standard_normal((10, 10)), rng.standard_normal((199, 10, 10))) for _ in range(100))
    ]
    joint, single = np.array(found).T
    assert (single <= 0.05).mean() > 0.9
    assert (joint <= 0.05).sum() <= 13  # the 99.9 % point of Binomial(100, .05)
    with pytest.raises(ProbeError, match="does not belong"):
        maximum_null(np.zeros(3), np.zeros((5, 4)))


def test_orders_of_the_callers_own_make_a_restricted_null():
    """Rows may only be exchanged inside pairs of neighbours: as the classes 0 0 1 1 2 2 ... would have it."""
    probe = PROBES["linear-cka"]()
    px, py = probe.prepare(skewed(1)), probe.prepare(skewed(2))
    pairs = np.repeat(np.arange(25), 2)
    drawn = orders(50, "within-class", pairs, 19, 0)
    own = permutation_test(probe, px, py, kind="restricted", draws=drawn)
    assert own.kind == "restricted"
    assert np.array_equal(
        own.values, permutation_test(probe, px, py, kind="within-class", labels=pairs, permutations=19).values
    )
    with pytest.raises(ProbeError, match="give both or neither"):
        permutation_test(probe, px, py, draws=drawn)
    with pytest.raises(ProbeError, match="permutation of the 50 rows"):
        permutation_test(probe, px, py, kind="restricted", draws=[np.zeros(50, int)])


def test_same_seed_gives_the_same_null_and_another_seed_another():
    probe = PROBES["linear-cka"]()
    (px,), (py,) = group(probe, 0, 1), group(probe, 1, 1)
    a, b, c = (permutation_test(probe, px, py, permutations=20, seed=s).values for s in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_undefined_values_and_bad_requests():
    probe = PROBES["linear-cka"]()
    px, flat = probe.prepare(np.random.default_rng(0).standard_normal((20, 3))), probe.prepare(np.ones((20, 3)))
    assert isinstance(permutation_test(probe, px, flat), Undefined)
    with pytest.raises(ProbeError, match="global, within-class"):
        permutation_test(probe, px, px, kind="local")
    with pytest.raises(ProbeError, match="labels are needed"):
        permutation_test(probe, px, px, kind="within-class")
    with pytest.raises(ProbeError, match="permutations=0"):
        permutation_test(probe, px, px, permutations=0)
    with pytest.raises(ProbeError, match="alpha"):
        permutation_test(probe, px, px, alpha=1.5)
    with pytest.raises(ProbeError, match="same n"):
        group_nulls([np.zeros((3, 3)), np.zeros((4, 4))])
    with pytest.raises(ProbeError, match="group 0 has no mean matrix"):
        group_nulls([probe.matrix(flat)])
    with pytest.raises(ProbeError, match="finite"):
        null_result("global", np.nan, [0.1])


def test_cautions_name_the_known_traps_and_are_silent_otherwise():
    cka, knn, procrustes = (PROBES[n]() for n in ("linear-cka", "mutual-knn", "angular-procrustes"))
    assert cautions(cka, 1000, 128, 128) == []
    (said,) = cautions(cka, 500, 2000, 2000)
    assert "as debiased-cka does not (linear-cka of such is about 0.80);" in said  # d/(n + d)
    for name in ("linear-cka", "debiased-cka", "cca", "angular-procrustes"):
        assert cautions(PROBES[name](), 1, 128, 128) == [], "one stimulus has no value"
    assert len(cautions(procrustes, 100, 80, 20)) == 1
    assert cautions(PROBES["debiased-cka"](), 500, 2000, 2000) == []
    assert "chance is 0.20" in cautions(knn, 51, 5, 5)[0]
    assert "chance is 1.00" in cautions(knn, 11, 5, 5)[0]  # k = 10: all the others are neighbours
    assert cautions(knn, 10, 5, 5) == [], "there is no value"
    assert "by chance at a rate of 0.20" in cautions(PROBES["jaccard"](), 51, 5, 5)[0]
    assert "score high" in cautions(PROBES["rbf-cka"](), 100, 80, 20)[0]
    assert cautions(PROBES["distance-correlation"](estimator="unbiased"), 100, 80, 20) == []
    assert "the last 20 of 120" in cautions(PROBES["minibatch-cka"](), 120, 5, 5)[0]
    assert "first 200 of 500" in cautions(PROBES["rtd"](), 500, 5, 5)[0]
    assert "unpaired" in cautions(PROBES["imd"](), 500, 5, 5)[0]
    y = np.arange(500) % 100
    assert "smallest class (5 stimuli)" in cautions(knn, 500, 5, 5, y)[0]
    lone = np.array([0] * 499 + [1])
    assert "smallest class (1 stimulus)" in cautions(knn, 500, 5, 5, lone)[0]
    assert any("1 of 2 classes" in line for line in cautions(cka, 500, 5, 5, lone))
    assert any("one class only" in line for line in cautions(cka, 500, 5, 5, np.zeros(500)))
    X = np.random.default_rng(0).standard_normal((500, 5))
    X[7] = 0
    p = cka.prepare(X)
    assert cautions(cka, 500, 5, 5, prepared=(p, p)) == ["1 of 500 rows are all zero (no unit responds)."]


def test_cautions_about_fitted_maps_and_truncation():
    rng = np.random.default_rng(0)
    assert "are 1.00 on average" in cautions(PROBES["cca"](), 50, 80, 3)[0]
    assert "are 0.26 on average" in cautions(PROBES["pwcca"](), 1000, 256, 10)[0]  # 256/999
    assert cautions(PROBES["cca"](), 1000, 128, 128) == []
    for name in ("normalised-procrustes", "procrustes", "shape"):
        assert len(cautions(PROBES[name](), 100, 80, 20)) == 1
    svcca = PROBES["svcca"](variance=1.0)
    narrow, wide = (svcca.prepare(rng.standard_normal((100, d))) for d in (5, 30))
    assert "between 5 and 30 components" in cautions(svcca, 100, 5, 30, prepared=(narrow, wide))[0]
    assert cautions(svcca, 100, 30, 30, prepared=(wide, wide)) == []


def test_orders_that_can_be_counted_have_no_smooth_null():
    """Of four stimuli there are 24 orders, so no p below 1/24 exists; three moments would give .02."""
    probe = PROBES["linear-cka"]()
    p = probe.prepare(np.random.default_rng(0).standard_normal((4, 3)))
    assert null_test(probe, p, p) is None
