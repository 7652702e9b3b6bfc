"""Canonical correlations against correlations that were built in, and against an independent package.

Tolerance 1e-9 unless said: both sides are the same number in exact arithmetic.
"""

import numpy as np
import pytest

from probes import PROBES, ProbeError, Undefined, compare

RHO = np.array([0.95, 0.7, 0.4, 0.1])


def axes(n, k, seed=0):
    """k orthonormal centred directions among n stimuli."""
    Z = np.random.default_rng(seed).standard_normal((n, k))
    return np.linalg.qr(Z - Z.mean(axis=0))[0]


def correlated(n=60):
    """Two orthonormal sets of directions whose canonical correlations are RHO, and three that touch neither."""
    k = len(RHO)
    Z = axes(n, 2 * k + 3)
    return Z[:, :k], Z[:, :k] * RHO + Z[:, k : 2 * k] * np.sqrt(1 - RHO**2), Z[:, 2 * k :]


def mixed(A, seed=1):
    rng = np.random.default_rng(seed)
    return A @ rng.standard_normal((A.shape[1],) * 2) + rng.standard_normal(A.shape[1])


def dims(probe, X):
    return probe.prepare(X).arrays[0].shape[1]


def test_canonical_correlations_that_were_built_in_are_found():
    A, B, _ = correlated()
    assert compare(PROBES["cca"](), mixed(A), mixed(B, 2)) == pytest.approx(RHO.mean(), abs=1e-9)
    assert compare(PROBES["cca"](power=2), mixed(A), mixed(B, 2)) == pytest.approx((RHO**2).mean(), abs=1e-9)


def test_the_smaller_rank_divides():
    A, B, C = correlated()
    wide = mixed(np.hstack([B, C]))
    assert compare(PROBES["cca"](), A, wide) == pytest.approx(RHO.mean(), abs=1e-9)
    assert compare(PROBES["cca"](power=2), wide, A) == pytest.approx((RHO**2).mean(), abs=1e-9)


@pytest.mark.parametrize("d", [3, 20])
def test_correlations_are_the_cosines_of_scipys_angles_between_subspaces(d):
    from scipy.linalg import subspace_angles

    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 12))
    Y = X @ rng.standard_normal((12, d)) + 2 * rng.standard_normal((50, d))
    rho = np.cos(subspace_angles(X - X.mean(axis=0), Y - Y.mean(axis=0)))
    assert compare(PROBES["cca"](), X, Y) == pytest.approx(rho.mean(), abs=1e-9)
    assert compare(PROBES["cca"](power=2), X, Y) == pytest.approx((rho**2).mean(), abs=1e-9)


def test_copied_dead_and_recombined_units_add_no_directions():
    A, B, _ = correlated()
    X = mixed(A)
    padded = np.hstack([X, X[:, :2], X @ np.ones((4, 3)), np.full((60, 2), 0.1), np.zeros((60, 1))])
    for name in ("cca", "svcca"):
        assert dims(PROBES[name](), padded) == 4
    assert compare(PROBES["cca"](), padded, B) == pytest.approx(RHO.mean(), abs=1e-9)


def test_a_direction_counts_from_a_millionth_of_the_largest():
    A, B, _ = correlated()
    assert compare(PROBES["cca"](), A * [1, 1, 1, 2e-6], B) == pytest.approx(RHO.mean(), abs=1e-9)
    assert compare(PROBES["cca"](), A * [1, 1, 1, 5e-7], B) == pytest.approx(RHO[:3].mean(), abs=1e-9)


def test_rounding_of_float32_is_no_direction():
    """A layer of 40 units fed by 5: float64 arithmetic on its float32 values would count 40 directions."""
    rng = np.random.default_rng(0)
    layer = rng.standard_normal((300, 5)).astype(np.float32) @ rng.standard_normal((5, 40)).astype(np.float32)
    assert layer.dtype == np.float32
    assert np.linalg.matrix_rank(layer.astype(np.float64)) == 40
    assert dims(PROBES["cca"](), layer) == 5


@pytest.mark.parametrize("d", [19, 20, 45])
@pytest.mark.parametrize("name", ["cca", "svcca", "pwcca"])
def test_n_minus_1_dimensions_give_1_by_construction(name, d):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((20, d)), rng.standard_normal((20, 3))
    probe = PROBES[name](**({"variance": 1.0} if name == "svcca" else {}))
    for pair in ((X, Y), (Y, X)):
        assert compare(probe, *pair) == pytest.approx(1.0, abs=1e-12)
    assert PROBES["cca"](power=2).info.null_mean(20, d, 3) == 1.0


def test_mean_square_over_permutations_is_the_larger_width_over_n_minus_1():
    """Any data: a random permutation takes a projection of rank r2 to r2/(n − 1) of the centring on average. 5 standard
    errors of the Monte Carlo mean are allowed."""
    rng = np.random.default_rng(1)
    probe = PROBES["cca"](power=2)
    px, py = probe.prepare(np.exp(rng.standard_normal((40, 3)))), probe.prepare(rng.standard_normal((40, 8)))
    draws = [probe.value(px, probe.permute(py, rng.permutation(40))) for _ in range(400)]
    assert probe.info.null_mean(40, 3, 8) == pytest.approx(8 / 39)
    assert np.mean(draws) == pytest.approx(8 / 39, abs=5 * np.std(draws) / 20)
    assert PROBES["cca"]().info.null_mean is None


@pytest.mark.parametrize(("share", "kept"), [(0.4, 1), (0.5, 1), (0.6, 2), (0.8, 2), (0.81, 3), (0.999, 3), (1.0, 3)])
def test_svcca_keeps_the_fewest_components_with_the_share_of_variance(share, kept):
    """Shares of variance .5, .3, .2; of σ they would be .41, .32, .26, and .8 would keep all three."""
    X = axes(50, 3) * np.sqrt([0.5, 0.3, 0.2])
    assert dims(PROBES["svcca"](variance=share), 7.0 * X + 1.0) == kept
    assert dims(PROBES["svcca"](rank=kept), X) == kept


def test_svcca_is_cca_of_the_leading_components():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 10)) * np.logspace(0, -1, 10)
    Y = X @ rng.standard_normal((10, 15)) + 0.3 * rng.standard_normal((80, 15))
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)

    def leading(Z, k):
        return Z @ np.linalg.eigh(Z.T @ Z)[1][:, -k:]

    expected = compare(PROBES["cca"](), leading(X, 4), leading(Y, 4))
    assert compare(PROBES["svcca"](rank=4), X, Y) == pytest.approx(expected, abs=1e-9)
    svcca = PROBES["svcca"](variance=0.97)
    k1, k2 = dims(svcca, X), dims(svcca, Y)
    assert k1 != k2
    expected = compare(PROBES["cca"](), leading(X, k1), leading(Y, k2))
    assert compare(svcca, X, Y) == pytest.approx(expected, abs=1e-9)
    assert compare(PROBES["svcca"](variance=1), X, Y) == pytest.approx(compare(PROBES["cca"](), X, Y), abs=1e-9)


def test_svcca_of_more_components_than_there_are_is_undefined():
    A, B, _ = correlated()
    value = compare(PROBES["svcca"](rank=5), B, A)
    assert isinstance(value, Undefined)
    assert "rank = 5" in value.reason
    assert "only 4" in value.reason


def test_svcca_is_named_by_its_one_way_to_truncate():
    assert PROBES["svcca"]().info.label == "svcca(variance=0.99)"
    assert PROBES["svcca"](variance=0.9).info.label == "svcca(variance=0.9)"
    assert PROBES["svcca"](rank=20).info.label == "svcca(rank=20)"
    with pytest.raises(ProbeError, match=r"variance=0\.99 and rank=20"):
        PROBES["svcca"](variance=0.99, rank=20)


def test_more_components_lower_svcca_of_a_shared_signal_in_noise():
    """The trap: two views of 5 shared dimensions score by how much noise the truncation lets in."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((300, 5))
    X, Y = (5 * signal @ rng.standard_normal((5, 40)) + rng.standard_normal((300, 40)) for _ in range(2))
    values = [compare(PROBES["svcca"](rank=k), X, Y) for k in (5, 10, 40)]
    assert values[0] > 0.95
    assert values[0] > values[1] > values[2]
    assert values[2] < 0.6


def test_pwcca_weighs_correlations_by_the_size_of_the_first_ones_directions():
    """Units along the canonical directions with lengths a: α_i = a_i."""
    A, B, C = correlated()
    a = np.array([1.0, 4.0, 0.5, 2.0])
    pwcca = PROBES["pwcca"]()
    assert compare(pwcca, A * a, mixed(B)) == pytest.approx(a @ RHO / a.sum(), abs=1e-9)
    assert compare(pwcca, B * a, mixed(A)) == pytest.approx(a @ RHO / a.sum(), abs=1e-9)
    assert compare(pwcca, A, B) == pytest.approx(RHO.mean(), abs=1e-9)
    # Directions of the first beyond the rank of the second have no partner and no weight.
    assert compare(pwcca, np.hstack([A * a, 9.0 * C]), B) == pytest.approx(a @ RHO / a.sum(), abs=1e-9)


@pytest.mark.parametrize(("d1", "d2"), [(8, 12), (12, 8)])
def test_pwcca_equals_its_definition_by_whitening_covariances(d1, d2):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((70, d1)) @ rng.standard_normal((d1, d1))
    Y = X @ rng.standard_normal((d1, d2)) + 3 * rng.standard_normal((70, d2))
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)

    def inverse_root(S):
        w, V = np.linalg.eigh(S)
        return V @ np.diag(w**-0.5) @ V.T

    whiten = inverse_root(X.T @ X)
    U, rho, _ = np.linalg.svd(whiten @ X.T @ Y @ inverse_root(Y.T @ Y), full_matrices=False)
    H = X @ whiten @ U
    alpha = [sum(abs(H[:, i] @ X[:, j]) for j in range(d1)) for i in range(min(d1, d2))]
    assert compare(PROBES["pwcca"](), X, Y) == pytest.approx(np.dot(alpha, rho) / np.sum(alpha), abs=1e-9)
    assert rho.min() < compare(PROBES["pwcca"](), X, Y) < rho.max()


def test_pwcca_sees_units_of_the_first_and_only_the_space_of_the_second():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((80, 6)) * np.logspace(0, 1, 6)
    Y = X @ rng.standard_normal((6, 6)) + 10 * rng.standard_normal((80, 6))
    pwcca = PROBES["pwcca"]()
    value = compare(pwcca, X, Y)
    assert compare(pwcca, X, mixed(Y)) == pytest.approx(value, abs=1e-9)
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    assert abs(compare(pwcca, X @ Q, Y) - value) > 1e-3
    assert abs(compare(pwcca, Y, X) - value) > 1e-3
