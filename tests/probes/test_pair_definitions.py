"""Pair probes beside their definitions written out, closed forms, and the data that are known to mislead them.

Tolerance 1e-9 unless said: the two sides are the same number in exact arithmetic, computed in a different order.
"""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist, squareform

from probes import PROBES, Undefined, compare


def arrays(seed=0, n=60, d1=12, d2=20):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d1)) + 1.0
    return X, np.tanh(X @ rng.standard_normal((d1, d2))) + 0.3 * rng.standard_normal((n, d2))


def hsic_u(K, L):
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    cross = (one @ K @ L @ one + one @ L @ K @ one) / 2
    return (np.trace(K @ L) + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3))


def cosine_of(A, B):
    return (A * B).sum() / np.sqrt((A * A).sum() * (B * B).sum())


# Kernels


@pytest.mark.parametrize(("d1", "d2"), [(12, 20), (12, 200), (300, 200)])
def test_whitened_cosine_of_squared_distances_is_linear_cka(d1, d2):
    X, Y = arrays(d1=d1, d2=d2)
    probe = PROBES["rsa"](comparator="whitened-cosine")
    assert compare(probe, X, Y) == pytest.approx(compare(PROBES["linear-cka"](), X, Y), abs=1e-12)


@pytest.mark.parametrize("dissimilarity", ["sqeuclidean", "correlation", "cosine", "mahalanobis"])
def test_whitened_cosine_is_the_cosine_of_double_centred_dissimilarities(dissimilarity):
    X, Y = arrays()
    H = np.eye(60) - 1 / 60
    power = 2 if dissimilarity == "mahalanobis" else 1
    A, B = (H @ cdist(Z, Z, dissimilarity) ** power @ H for Z in (X, Y))
    probe = PROBES["rsa"](dissimilarity=dissimilarity, comparator="whitened-cosine")
    assert compare(probe, X, Y) == pytest.approx(cosine_of(A, B), abs=1e-9)
    M, N = (probe.matrix(probe.prepare(Z)) for Z in (X, Y))
    assert (M * N).sum() == pytest.approx(compare(probe, X, Y), abs=1e-9)


@pytest.mark.parametrize("comparator", ["spearman", "pearson", "cosine"])
@pytest.mark.parametrize("dissimilarity", ["sqeuclidean", "correlation", "cosine", "mahalanobis"])
def test_inner_product_of_matrices_is_the_value_for_every_dissimilarity(dissimilarity, comparator):
    probe = PROBES["rsa"](dissimilarity=dissimilarity, comparator=comparator)
    p, q = map(probe.prepare, arrays())
    assert (probe.matrix(p) * probe.matrix(q)).sum() == pytest.approx(probe.value(p, q), abs=1e-9)


def test_unbiased_distance_correlation_is_debiased_cka_of_minus_the_distances():
    K, L = (-cdist(Z, Z) for Z in arrays())
    probe = PROBES["distance-correlation"](estimator="unbiased")
    expected = hsic_u(K, L) / np.sqrt(hsic_u(K, K) * hsic_u(L, L))
    assert compare(probe, *arrays()) == pytest.approx(expected, abs=1e-9)
    p, q = map(probe.prepare, arrays())
    assert (probe.matrix(p) * probe.matrix(q)).sum() == pytest.approx(expected, abs=1e-9)


def test_rbf_cka_of_a_wide_kernel_is_linear_and_of_a_narrow_one_says_nothing():
    """exp(−D/2σ²) = 1 − D/2σ² + O(σ⁻⁴): relative error 1e-8 at σ of 1e4 medians. At .05 medians K is the identity."""
    X, Y = arrays()
    assert compare(PROBES["rbf-cka"](bandwidth=1e4), X, Y) == pytest.approx(
        compare(PROBES["linear-cka"](), X, Y), abs=1e-7
    )
    unrelated = np.random.default_rng(9).standard_normal((60, 20))
    assert compare(PROBES["rbf-cka"](bandwidth=0.05), X, unrelated) > 0.999
    assert compare(PROBES["distance-correlation"](estimator="unbiased"), X, unrelated) < 0.2


def test_minibatch_cka_is_the_ratio_of_hsics_summed_over_whole_batches():
    X, Y = arrays(n=67)
    parts = [(X[s : s + 20], Y[s : s + 20]) for s in (0, 20, 40)]  # 7 rows are left over
    sums = [
        sum(hsic_u(A @ A.T, B @ B.T) for A, B in some)
        for some in (parts, [(A, A) for A, _ in parts], [(B, B) for _, B in parts])
    ]
    probe = PROBES["minibatch-cka"](batch=20)
    assert compare(probe, X, Y) == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), abs=1e-9)
    one = PROBES["minibatch-cka"](batch=67)
    assert compare(one, X, Y) == pytest.approx(compare(PROBES["debiased-cka"](), X, Y), abs=1e-9)
    assert isinstance(compare(PROBES["minibatch-cka"](batch=68), X, Y), Undefined)


def test_minibatch_cka_keeps_its_value_inside_batches_and_not_across():
    X, Y = arrays()
    probe = PROBES["minibatch-cka"](batch=20)
    rng = np.random.default_rng(0)
    inside = np.concatenate([20 * b + rng.permutation(20) for b in (2, 0, 1)])
    px, py = map(probe.prepare, (X, Y))
    for order, same in ((inside, True), (rng.permutation(60), False)):
        value = probe.value(probe.permute(px, order), probe.permute(py, order))
        assert (abs(value - probe.value(px, py)) < 1e-12) is same


def test_a_permutation_may_leave_nothing_inside_the_batches():
    """Two simplices: batches of one simplex each have all stimuli equally far apart, mixed ones have not."""
    X = np.concatenate([np.eye(4), np.eye(4) + 10.0])
    probe = PROBES["minibatch-cka"](batch=4)
    mixed = np.array([0, 4, 1, 5, 2, 6, 3, 7])
    p = probe.prepare(X[mixed])
    assert p.undefined is None
    undone = probe.permute(p, np.argsort(mixed))
    assert undone.undefined == probe.prepare(X).undefined
    assert isinstance(probe.value(p, undone), Undefined)


def test_half_of_all_pairs_coinciding_leaves_the_gaussian_kernel_without_a_width():
    X = np.zeros((40, 3))
    X[:5] = np.eye(5, 3)
    assert "median" in compare(PROBES["rbf-cka"](), X, arrays(n=40)[0]).reason


def test_duplicates_are_at_distance_zero_and_far_offsets_do_not_hide_it():
    from probes.distances import squared_distances
    from probes.features import centred

    X = arrays()[0] + 1e6
    X[9] = X[4]
    D = squareform(squared_distances(centred(X)))
    assert D[4, 9] == 0.0
    assert np.count_nonzero(D == 0.0) == 60 + 2


# Dissimilarities


def test_mahalanobis_distances_of_as_many_dimensions_as_stimuli_are_all_equal():
    assert "Mahalanobis" in compare(PROBES["rsa"](dissimilarity="mahalanobis"), *arrays(n=15)).reason
    X, Y = arrays()
    wide = np.hstack([Y, Y @ np.ones((20, 50))])  # 70 units of rank 20: the pseudo-inverse leaves 20
    probe = PROBES["rsa"](dissimilarity="mahalanobis")
    assert compare(probe, X, wide) == pytest.approx(compare(probe, X, Y), abs=1e-9)


def test_silent_stimuli_have_no_cosine():
    X, Y = arrays()
    X[[5, 9]] = 0.0
    value = compare(PROBES["rsa"](dissimilarity="cosine"), X, Y)
    assert "2 of 60 stimuli (first: row 5)" in value.reason


def test_kendall_counts_ties_as_neither_order():
    """Distances by hand: X = 0, 1, 2 on a line gives 1, 4, 1; Y = 0, 1, 3 gives 1, 9, 4. Of three pairs of entries one
    is tied in X and two agree. With itself X has τ_a = 2/3."""
    X, Y = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [1.0], [3.0]])
    probe = PROBES["rsa"](comparator="kendall")
    assert compare(probe, X, Y) == pytest.approx(2 / 3, abs=1e-15)
    assert compare(probe, X, X) == pytest.approx(2 / 3, abs=1e-15)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 128, 129, 700])
def test_inversions_are_pairs_out_of_order(length):
    from probes.comparators import inversions

    for high in (2, 10**6):
        s = np.random.default_rng(length).integers(0, high, length).astype(np.int32)
        assert inversions(s) == np.triu(s[:, None] > s[None, :]).sum()
    assert inversions(np.arange(length, dtype=np.int32)[::-1]) == length * (length - 1) // 2


def test_summaries_are_as_small_as_promised():
    """Half a matrix at most, ranks in four bytes; neighbours n·k; everything else n·d."""
    n, X = 300, arrays(n=300)[0]
    half = n * (n - 1) // 2

    def kept(name, **settings):
        return sum(a.nbytes for a in PROBES[name](**settings).prepare(X).arrays)

    assert kept("rsa") <= 4 * half + 8
    assert kept("rsa", comparator="kendall") <= 4 * half + 8
    assert kept("rsa", comparator="pearson") <= 8 * half
    assert kept("rsa", comparator="whitened-cosine") <= 8 * n * 12
    for name in ("rbf-cka", "distance-correlation"):
        assert kept(name) <= 8 * (half + n)
    for name in ("mutual-knn", "cycle-knn", "jaccard", "rank-similarity"):
        assert kept(name) == 4 * n * 10
    assert kept("minibatch-cka") <= 8 * n * (12 + 50)


def test_large_arrays_are_made_in_blocks_with_the_same_result(monkeypatch):
    from probes import distances, heat, neighbour_cosines, neighbour_lists

    names = ["rsa", "rbf-cka", "cknna", "second-order-cosine", "imd"]
    whole = [compare(PROBES[name](), *arrays()) for name in names]
    order = np.random.default_rng(0).permutation(60)
    probe = PROBES["rsa"]()
    p = probe.prepare(arrays()[0])
    matrix, moved = probe.matrix(p), probe.permute(p, order).arrays[0]
    for module in (distances, heat, neighbour_cosines, neighbour_lists):
        monkeypatch.setattr(module, "BLOCK", 1000)
    monkeypatch.setattr(distances, "SMALL_BLOCK", 130)
    assert [compare(PROBES[name](), *arrays()) for name in names] == pytest.approx(whole, abs=1e-12)
    assert np.array_equal(probe.matrix(p), matrix)
    assert np.array_equal(probe.permute(p, order).arrays[0], moved)


# Chance levels


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *[(name, {"k": 2}) for name in ("mutual-knn", "jaccard", "rank-similarity")],
        *[("rsa", {"comparator": c}) for c in ("spearman", "pearson", "kendall")],
        ("distance-correlation", {"estimator": "unbiased"}),
        ("minibatch-cka", {"batch": 5}),
    ],
)
def test_mean_over_all_permutations_is_the_stated_chance_level(name, settings):
    """All 720 orders of six stimuli, so the mean is exact."""
    probe = PROBES[name](**settings)
    px, py = map(probe.prepare, arrays(n=6))
    values = [probe.value(px, probe.permute(py, np.array(order))) for order in itertools.permutations(range(6))]
    assert np.mean(values) == pytest.approx(probe.info.null_mean(6, 12, 20), abs=1e-12)


def test_eigenspace_overlap_of_independent_gaussians_is_the_smaller_width_over_n():
    """±.01: one draw spreads by about .01, and twenty are averaged."""
    probe = PROBES["eigenspace-overlap"]()
    for d1, d2 in ((10, 30), (30, 30)):
        rng = np.random.default_rng(d1)
        draws = [(rng.standard_normal((80, d1)), rng.standard_normal((80, d2))) for _ in range(20)]
        assert np.mean([compare(probe, *draw) for draw in draws]) == pytest.approx(d1 / 80, abs=0.01)
        assert probe.info.null_mean(80, d1, d2) == d1 / 80
    assert compare(probe, *arrays(n=12, d1=12, d2=40)) == pytest.approx(1.0, abs=1e-12)  # as many units as stimuli
