"""Procrustes and shape distances against scipy's rotation, exact constructions and an independent package.

Tolerance 1e-9 unless said: both sides are the same number in exact arithmetic.
"""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from probes import PROBES, compare

FAMILY = [
    ("procrustes", {}),
    ("normalised-procrustes", {}),
    ("angular-procrustes", {}),
    *(("shape", {"alpha": a}) for a in (0.0, 0.5, 1.0)),
]


def arrays(seed=0, n=80, d1=12, d2=20):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d1)) * np.logspace(0, 1, d1) + 1.0
    return X, np.tanh(X @ rng.standard_normal((d1, d2))) + 0.3 * rng.standard_normal((n, d2))


def padded_and_centred(X, Y):
    d = max(X.shape[1], Y.shape[1])
    return (np.pad(Z - Z.mean(axis=0), ((0, 0), (0, d - Z.shape[1]))) for Z in (X, Y))


def axes(n, k, seed=0):
    Z = np.random.default_rng(seed).standard_normal((n, k))
    return np.linalg.qr(Z - Z.mean(axis=0))[0]


@pytest.mark.parametrize(("d1", "d2"), [(12, 12), (12, 20), (100, 20)])
def test_size_and_shape_distance_is_what_scipys_rotation_leaves(d1, d2):
    from scipy.linalg import orthogonal_procrustes

    X, Y = arrays(d1=d1, d2=d2)
    A, B = padded_and_centred(X, Y)
    R, _ = orthogonal_procrustes(A, B)
    assert compare(PROBES["procrustes"](), X, Y) == pytest.approx(np.linalg.norm(A @ R - B), rel=1e-9)


@pytest.mark.parametrize(("d1", "d2"), [(12, 12), (12, 20), (100, 20)])
def test_normalised_distance_is_what_scipys_rotation_leaves_of_unit_arrays(d1, d2):
    from scipy.linalg import orthogonal_procrustes

    X, Y = arrays(d1=d1, d2=d2)
    A, B = (Z / np.linalg.norm(Z) for Z in padded_and_centred(X, Y))
    R, _ = orthogonal_procrustes(A, B)
    chord = compare(PROBES["normalised-procrustes"](), X, Y)
    assert chord == pytest.approx(np.linalg.norm(A @ R - B), abs=1e-9)
    assert chord == pytest.approx(2 * np.sin(compare(PROBES["angular-procrustes"](), X, Y) / 2), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 3.0, 1e30, 1e150])
def test_size_and_shape_distance_scales_with_its_arguments(scale):
    """1e-12: each scaled entry is rounded by 1e-16."""
    procrustes = PROBES["procrustes"]()
    X, Y = arrays()
    assert compare(procrustes, scale * X, scale * Y) == pytest.approx(scale * compare(procrustes, X, Y), rel=1e-12)
    size = np.linalg.norm(X - X.mean(axis=0))
    assert compare(procrustes, scale * X, X) == pytest.approx(abs(scale - 1) * size, rel=1e-12)


def test_distances_near_zero_are_accurate():
    """A further orthogonal column of length t moves a unit-norm X by t, and turns it by arctan t. The square root of
    rounding in 2 − 2·cosine would be 1e-8."""
    Z = axes(50, 6)
    X = Z[:, :5] / np.sqrt(5.0)
    for t in (1e-6, 1e-3, 0.1, 0.5):
        Y = np.hstack([X, t * Z[:, 5:]])
        assert compare(PROBES["procrustes"](), X, Y) == pytest.approx(t, rel=1e-9)
        theta = np.arctan(t)
        assert compare(PROBES["normalised-procrustes"](), X, Y) == pytest.approx(2 * np.sin(theta / 2), rel=1e-9)
        assert compare(PROBES["shape"](alpha=1.0), X, Y) == pytest.approx(theta, rel=1e-9)


@pytest.mark.parametrize(("name", "setting"), FAMILY)
def test_identical_arrays_have_distance_exactly_0_and_rotated_ones_0_to_rounding(name, setting):
    """1e-11 of the size: whitening magnifies 1e-16 by the ratio of the singular values, here below 100."""
    probe = PROBES[name](**setting)
    for X in arrays():
        Q = np.linalg.qr(np.random.default_rng(1).standard_normal((X.shape[1],) * 2))[0]
        assert compare(probe, X, X.copy()) == 0.0
        assert compare(probe, X, np.hstack([X @ Q + 5.0, np.zeros((80, 3))])) < 1e-11 * max(1.0, np.linalg.norm(X))


@pytest.mark.parametrize(("d1", "d2"), [(12, 12), (12, 20), (100, 20)])
def test_shape_without_whitening_is_angular_procrustes(d1, d2):
    X, Y = arrays(d1=d1, d2=d2)
    expected = compare(PROBES["angular-procrustes"](), X, Y)
    assert compare(PROBES["shape"](alpha=1), X, Y) == pytest.approx(expected, abs=1e-9)


def test_shape_without_whitening_keeps_directions_too_small_to_whiten():
    X = axes(50, 4) * [1.0, 0.5, 1e-7, 1e-9]
    expected = compare(PROBES["angular-procrustes"](), X, X[:, :2])
    assert compare(PROBES["shape"](alpha=1), X, X[:, :2]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("d1", "d2"), [(12, 12), (12, 20), (100, 20)])
def test_cosine_of_the_whitened_shape_distance_is_the_sum_of_canonical_correlations_over_root_of_ranks(d1, d2):
    X, Y = arrays(d1=d1, d2=d2)
    ranks = [min(d, 79) for d in (d1, d2)]
    expected = compare(PROBES["cca"](), X, Y) * min(ranks) / math.sqrt(ranks[0] * ranks[1])
    assert np.cos(compare(PROBES["shape"](alpha=0), X, Y)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.8])
@pytest.mark.parametrize("d2", [12, 20])
def test_shape_equals_its_definition_with_scipys_matrix_roots(alpha, d2):
    """Brought to ‖Xc‖²_F = d first, Xc(αI + (1 − α)(XcᵀXc)^(−1/2)) is √d times the formula on the card."""
    from scipy.linalg import inv, orthogonal_procrustes, sqrtm

    def partly_whitened(Z):
        Z = Z - Z.mean(axis=0)
        d = Z.shape[1]
        Z = Z * math.sqrt(d) / np.linalg.norm(Z)
        Z = Z @ (alpha * np.eye(d) + (1 - alpha) * inv(sqrtm(Z.T @ Z)).real)
        return Z / np.linalg.norm(Z)

    X, Y = arrays(d2=d2)
    A, B = padded_and_centred(partly_whitened(X), partly_whitened(Y))
    R, _ = orthogonal_procrustes(A, B)
    assert compare(PROBES["shape"](alpha=alpha), X, Y) == pytest.approx(np.arccos((A @ R * B).sum()), abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.25])
@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(4, 12), st.tuples(*[st.integers(1, 15)] * 3), st.floats(0.0, 3.0))
def test_shape_obeys_the_triangle_inequality_whatever_the_whitening(alpha, seed, n, widths, sharing):
    probe = PROBES["shape"](alpha=alpha)
    rng = np.random.default_rng(seed)
    common = sharing * rng.standard_normal((n, 3))
    X, Y, Z = (probe.prepare(common @ rng.standard_normal((3, d)) + rng.standard_normal((n, d))) for d in widths)
    assume(not any(p.undefined for p in (X, Y, Z)))
    assert probe.value(X, Z) <= probe.value(X, Y) + probe.value(Y, Z) + 1e-9


@pytest.mark.parametrize(("d1", "d2"), [(12, 20), (100, 20)])
def test_cosine_of_the_angle_is_rsatoolboxs_bures_similarity_of_squared_distances(d1, d2):
    """Relative 1e-6: rsatoolbox takes roots of eigenvalues that are 0, where rounding of 1e-16 becomes 1e-8."""
    rsatoolbox = pytest.importorskip("rsatoolbox")
    X, Y = arrays(d1=d1, d2=d2)
    rdms = [rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(Z), method="euclidean") for Z in (X, Y)]
    bures = rsatoolbox.rdm.compare(*rdms, method="bures").item()
    assert np.cos(compare(PROBES["angular-procrustes"](), X, Y)) == pytest.approx(bures, rel=1e-6)


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.3, 1.0, 3.0])
def test_a_small_procrustes_angle_implies_a_high_cka(noise):
    """1 − CKA ≤ sin²θ √(PR_x PR_y): with Gram matrices K and L of trace 1, ‖K − L‖²_F ≤ 2(1 − cos²θ) (Fuchs and van de
    Graaf, for matrices without trace), and ‖K‖²_F = 1/PR."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((60, 10)) * np.logspace(0, -1, 10)
        Y = np.hstack([X, rng.standard_normal((60, 3))]) + noise * rng.standard_normal((60, 13))
        theta = compare(PROBES["angular-procrustes"](), X, Y)
        ranks = [PROBES["participation-ratio"]().value(Z) for Z in (X, Y)]
        lack = 1 - compare(PROBES["linear-cka"](), X, Y)
        assert 0 < lack <= np.sin(theta) ** 2 * np.sqrt(np.prod(ranks))


def test_a_high_cka_does_not_imply_a_small_procrustes_angle():
    """One shared direction with half the variance, the other half spread over 100 directions of one's own:
    CKA = .25/.2525, cos θ = 1/2."""
    Z = axes(250, 201)
    own = math.sqrt(0.005)
    X, Y = (np.hstack([math.sqrt(0.5) * Z[:, :1], own * Z[:, k : k + 100]]) for k in (1, 101))
    assert compare(PROBES["linear-cka"](), X, Y) == pytest.approx(0.25 / 0.2525, abs=1e-9)
    assert compare(PROBES["angular-procrustes"](), X, Y) == pytest.approx(math.pi / 3, abs=1e-9)
