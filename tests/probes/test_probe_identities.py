"""Identities between probes, and between the parts of one probe.

Tolerance 1e-9 unless said: the two sides are the same number in exact arithmetic, computed in a different order.
"""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from probes import PROBES, ProbeError, Undefined, compare

PAIRS = sorted(n for n in PROBES if PROBES[n]().info.kind == "pair")
WITH_MATRIX = [n for n in PAIRS if PROBES[n]().matrix is not None]


def arrays(seed=0, n=80, d1=12, d2=20):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d1)) + 1.0
    return X, np.tanh(X @ rng.standard_normal((d1, d2))) + 0.3 * rng.standard_normal((n, d2))


def centring(n):
    return np.eye(n) - 1.0 / n


@pytest.mark.parametrize(("d1", "d2"), [(12, 20), (12, 200), (300, 200)])
def test_feature_form_of_cka_equals_gram_form(d1, d2):
    X, Y = arrays(d1=d1, d2=d2)
    H = centring(len(X))
    K, L = H @ X @ X.T @ H, H @ Y @ Y.T @ H
    expected = (K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum())
    assert compare(PROBES["linear-cka"](), X, Y) == pytest.approx(expected, abs=1e-9)


def test_cka_is_the_cosine_of_centred_squared_euclidean_dissimilarities():
    from scipy.spatial.distance import cdist

    X, Y = arrays()
    H = centring(len(X))
    A, B = (H @ cdist(Z, Z, "sqeuclidean") @ H for Z in (X, Y))
    expected = (A * B).sum() / np.sqrt((A * A).sum() * (B * B).sum())
    assert compare(PROBES["linear-cka"](), X, Y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("d1", "d2"), [(12, 20), (12, 200), (300, 200)])
def test_debiased_cka_equals_the_estimator_written_out(d1, d2):
    def hsic_u(K, L):
        n = len(K)
        K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
        one = np.ones(n)
        return (np.trace(K @ L) + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 * one @ K @ L @ one / (n - 2)) / (
            n * (n - 3)
        )

    X, Y = arrays(d1=d1, d2=d2)
    K, L = X @ X.T, Y @ Y.T
    expected = hsic_u(K, L) / np.sqrt(hsic_u(K, K) * hsic_u(L, L))
    assert compare(PROBES["debiased-cka"](), X, Y) == pytest.approx(expected, abs=1e-9)


def test_rsa_equals_scipy_also_with_ties():
    from scipy.spatial.distance import pdist
    from scipy.stats import pearsonr, spearmanr

    rng = np.random.default_rng(0)
    X, Y = rng.integers(0, 3, (40, 4)), rng.integers(0, 2, (40, 5))  # small integers: many equal distances
    assert len(np.unique(pdist(X, "sqeuclidean"))) < 20
    a, b = pdist(X, "sqeuclidean"), pdist(Y, "sqeuclidean")
    assert compare(PROBES["rsa"](), X, Y) == pytest.approx(spearmanr(a, b).statistic, abs=1e-9)
    assert compare(PROBES["rsa"](comparator="pearson"), X, Y) == pytest.approx(pearsonr(a, b).statistic, abs=1e-9)


def test_procrustes_angle_is_reached_by_scipys_rotation():
    from scipy.linalg import orthogonal_procrustes

    X, Y = arrays(d1=15, d2=15)
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    X, Y = X / np.linalg.norm(X), Y / np.linalg.norm(Y)
    R, _ = orthogonal_procrustes(X, Y)
    assert compare(PROBES["angular-procrustes"](), X, Y) == pytest.approx(np.arccos((X @ R * Y).sum()), abs=1e-9)


def test_mutual_knn_equals_the_definition_written_out():
    X, Y = arrays()
    k = 7

    def neighbours(Z):
        unit = Z / np.linalg.norm(Z, axis=1, keepdims=True)
        s = unit @ unit.T
        return [set([j for j in np.argsort(-s[i]) if j != i][:k]) for i in range(len(Z))]

    expected = np.mean([len(a & b) / k for a, b in zip(neighbours(X), neighbours(Y), strict=True)])
    assert compare(PROBES["mutual-knn"](k=k), X, Y) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", [n for n in PAIRS if n != "ridge"])  # whose penalty shrinks every prediction
def test_a_representation_is_identical_to_itself(name):
    """Similarity 1 up to rounding; distance exactly 0. No stimulus need be among its neighbours' neighbours."""
    probe = PROBES[name]()
    for X in arrays():
        value = compare(probe, X, X.copy())
        if probe.info.direction == "distance":
            assert value == 0.0
        elif name == "cycle-knn":
            assert 0.9 < value <= 1.0
        else:
            assert value == pytest.approx(1.0, abs=1e-12)
            assert value <= 1.0


def test_procrustes_distance_of_a_rotated_copy_is_zero_to_rounding_not_to_its_square_root():
    """arccos near 1 would turn 1e-16 into 1e-8."""
    X, _ = arrays()
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    assert compare(PROBES["angular-procrustes"](), X, 2.0 * X @ Q + 5.0) < 1e-12
    padded = np.hstack([X @ Q, np.zeros((len(X), 4))])
    assert compare(PROBES["angular-procrustes"](), X, padded) < 1e-12


def test_small_procrustes_angles_are_accurate():
    """Adding an orthogonal, centred column of norm tan(θ) to a unit-norm representation turns it by exactly θ."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((50, 6))
    Z = np.linalg.qr(Z - Z.mean(axis=0))[0]
    X = Z[:, :5] / np.sqrt(5.0)
    for theta in (1e-6, 1e-3, 0.1, 0.2, 1.0):
        Y = np.hstack([X, np.tan(theta) * Z[:, 5:]])
        assert compare(PROBES["angular-procrustes"](), X, Y) == pytest.approx(theta, rel=1e-9)


@pytest.mark.parametrize("widths", [(12, 20), (100, 20)])
@pytest.mark.parametrize("name", WITH_MATRIX)
def test_inner_product_of_matrices_is_the_value(name, widths):
    probe = PROBES[name]()
    px, py = (probe.prepare(Z) for Z in arrays(d1=widths[0], d2=widths[1]))
    A, B = probe.matrix(px), probe.matrix(py)
    assert A.dtype == np.float64
    assert A.shape == (80, 80)
    assert (A * B).sum() == pytest.approx(probe.value(px, py), abs=1e-9)


@pytest.mark.parametrize("name", WITH_MATRIX)
def test_only_symmetric_similarities_have_a_matrix(name):
    """An inner product is largest for equals, and symmetric."""
    info = PROBES[name]().info
    assert (info.direction, info.symmetric) == ("similarity", True)


def test_inner_products_have_a_matrix():
    assert {"linear-cka", "debiased-cka", "rbf-cka", "rsa", "mutual-knn"} == set(WITH_MATRIX)


@pytest.mark.parametrize("name", WITH_MATRIX)
def test_any_part_of_the_matrix_is_that_part_of_the_whole(name):
    probe = PROBES[name]()
    p = probe.prepare(arrays()[0])
    whole = probe.matrix(p)
    every = slice(None)
    for rows, columns in (
        (slice(0, 7), slice(5, 80)),
        (slice(70, 80), every),
        (every, slice(3, 3)),
        (slice(1, 2),) * 2,
    ):
        np.testing.assert_allclose(probe.matrix(p, rows, columns), whole[rows, columns], rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", PAIRS)
def test_permuting_a_prepared_representation_is_preparing_the_permuted_one(name):
    probe = PROBES[name]()
    X, Y = arrays(d2=100)
    order = np.random.default_rng(4).permutation(len(X))
    px = probe.prepare(X)
    for Z in (X, Y):
        expected = probe.value(px, probe.prepare(Z[order]))
        assert probe.value(px, probe.permute(probe.prepare(Z), order)) == pytest.approx(expected, abs=1e-9)
    assert probe.value(probe.permute(px, order), probe.prepare(X[order])) == pytest.approx(
        probe.value(px, px), abs=1e-7
    )


@pytest.mark.parametrize("name", [n for n in PAIRS if n != "minibatch-cka"])
def test_permuting_both_alike_changes_nothing(name):
    probe = PROBES[name]()
    px, py = (probe.prepare(Z) for Z in arrays())
    order = np.random.default_rng(4).permutation(px.n)
    both = probe.value(probe.permute(px, order), probe.permute(py, order))
    assert both == pytest.approx(probe.value(px, py), abs=1e-12)


@pytest.mark.parametrize("name", [n for n in PAIRS if PROBES[n]().info.metric])
@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(0, 2**31), st.integers(3, 12), st.tuples(*[st.integers(1, 15)] * 3), st.floats(0.0, 3.0))
def test_metric_obeys_the_triangle_inequality(name, seed, n, widths, sharing):
    probe = PROBES[name]()
    rng = np.random.default_rng(seed)
    common = sharing * rng.standard_normal((n, 3))
    X, Y, Z = (probe.prepare(common @ rng.standard_normal((3, d)) + rng.standard_normal((n, d))) for d in widths)
    assume(not any(p.undefined for p in (X, Y, Z)))
    assert probe.value(X, Z) <= probe.value(X, Y) + probe.value(Y, Z) + 1e-9


@pytest.mark.parametrize("name", PAIRS)
@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.integers(12, 30), st.integers(1, 40), st.booleans())
def test_values_stay_in_the_declared_range(name, seed, n, d, quantised):
    probe = PROBES[name]()
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((n, d)), rng.standard_normal((n, d))
    value = compare(probe, *((np.sign(X), np.sign(Y)) if quantised else (X, Y)))
    if not isinstance(value, Undefined):
        low, high = probe.info.range
        assert low <= value <= high


def test_ties_go_to_the_lower_row():
    """Rows 1, 2, 3 are copies: each is as near to row 0 as the others, and k = 1 takes the first."""
    from probes.neighbour_lists import nearest_by_cosine

    X = np.array([[1.0, 0.1], [1.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    assert nearest_by_cosine(X, 1)[1].tolist() == [[1], [2], [1], [1], [0]]
    assert nearest_by_cosine(X, 3)[1].tolist() == [[1, 2, 3], [2, 3, 0], [1, 3, 0], [1, 2, 0], [0, 1, 2]]


def test_rows_in_one_direction_tie_although_rounding_tells_them_apart():
    """Multiples of one row have cosines that differ in the last bit; the neighbour must still be the lowest row."""
    from probes.neighbour_lists import nearest_by_cosine

    rng = np.random.default_rng(0)
    ray = rng.standard_normal(7)
    X = np.concatenate([np.outer(np.exp(rng.standard_normal(30)), ray), rng.standard_normal((5, 7))])
    assert nearest_by_cosine(X, 1)[1][:30, 0].tolist() == [1] + [0] * 29


@pytest.mark.parametrize("name", PAIRS)
def test_prepared_arrays_are_read_only_because_pairs_share_them(name):
    p = PROBES[name]().prepare(arrays()[0])
    for array in p.arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("name", PAIRS)
def test_input_is_not_written_to_and_integers_and_float32_are_accepted(name):
    X, Y = arrays()
    before = X.copy()
    probe = PROBES[name]()
    compare(probe, X, Y)
    assert np.array_equal(X, before)
    integers = np.round(10 * X).astype(np.int32)
    assert compare(probe, integers, Y) == compare(probe, integers.astype(float), Y)
    assert compare(probe, X.astype(np.float32), Y) == compare(probe, X.astype(np.float32).astype(float), Y)


def test_jax_arrays_are_accepted_including_bfloat16():
    jnp = pytest.importorskip("jax.numpy")
    X, Y = arrays()
    probe = PROBES["linear-cka"]()
    for dtype in (jnp.float32, jnp.bfloat16):
        x = jnp.asarray(X, dtype)
        assert compare(probe, x, Y) == compare(probe, np.asarray(x).astype(np.float64), Y)


def test_representations_prepared_by_another_probe_are_refused():
    X, Y = arrays()
    ours, theirs = PROBES["mutual-knn"](k=5), PROBES["mutual-knn"](k=6)
    with pytest.raises(ProbeError, match=r"mutual-knn\(k=5\).*mutual-knn\(k=6\)"):
        ours.value(ours.prepare(X), theirs.prepare(Y))


def test_importing_probes_loads_neither_jax_nor_scipy_nor_matplotlib():
    code = (
        "import sys, probes, probes.nulls, probes.intervals, probes.seed_tests; "
        "print([m for m in ('jax', 'scipy', 'matplotlib', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
