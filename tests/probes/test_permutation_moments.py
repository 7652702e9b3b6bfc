"""Closed-form permutation moments against all permutations, against published formulas and against sampling."""

import itertools
import math

import numpy as np
import pytest

from probes import PROBES
from probes.moments import moments, sums
from probes.nulls import orders
from probes.probe import ProbeError


def symmetric(n, seed, kind):
    A = np.random.default_rng(seed).exponential(size=(n, n))
    A = A + A.T
    if kind == "centred":
        H = np.eye(n) - 1 / n
        A = H @ A @ H
    if kind == "hollow":
        np.fill_diagonal(A, 0.0)
    return A


def over_all_permutations(A, B):
    n = len(A)
    values = np.array([np.vdot(A, B[np.ix_(p, p)]) for p in itertools.permutations(range(n))])
    centred = values - values.mean()
    return values.mean(), values.std(), (centred**3).mean() / values.std() ** 3


@pytest.mark.parametrize("kind", ["general", "centred", "hollow"])
@pytest.mark.parametrize("n", [3, 4, 5, 6, 7])
def test_mean_spread_and_skewness_are_those_of_all_permutations(n, kind):
    """The permutations are enumerated (5,040 for n = 7), so only rounding separates the two: 1e-9."""
    A, B = symmetric(n, 1, kind), symmetric(n, 2, kind)
    found = moments(sums(A), sums(B))
    mean, sd, skewness = over_all_permutations(A, B)
    assert found.mean == pytest.approx(mean, rel=1e-9, abs=1e-12)
    assert (found.sd, found.skewness) == pytest.approx((sd, skewness), rel=1e-9)


def test_variance_is_that_of_kazi_aoual_and_others_for_centred_matrices():
    """Kazi-Aoual, Hitier, Sabatier and Lebreton 1995, with T = tr A, T2 = tr A², S2 = Σ a_ii²; 1e-9 is rounding."""
    n = 40
    A, B = symmetric(n, 3, "centred"), symmetric(n, 4, "centred")
    (T, T2, S2), (U, U2, R2) = ((np.trace(M), np.vdot(M, M), (np.diag(M) ** 2).sum()) for M in (A, B))
    off = 2 * ((n - 1) * T2 - T**2) * ((n - 1) * U2 - U**2) / ((n - 1) ** 2 * (n + 1) * (n - 2))
    on = (n * (n + 1) * S2 - (n - 1) * (T**2 + 2 * T2)) * (n * (n + 1) * R2 - (n - 1) * (U**2 + 2 * U2))
    variance = off + on / ((n + 1) * n * (n - 1) * (n - 2) * (n - 3))
    found = moments(sums(A), sums(B))
    assert found.sd**2 == pytest.approx(variance, rel=1e-9)
    assert found.mean == pytest.approx(T * U / (n - 1), rel=1e-9)


def test_debiased_cka_varies_by_two_over_n_times_n_minus_3_whatever_the_data():
    """U-centred matrices span n(n−3)/2 dimensions, and permutations have no direction in it to prefer."""
    rng = np.random.default_rng(0)
    probe = PROBES["debiased-cka"]()
    for n, d in ((6, 2), (50, 3), (200, 30)):
        A, B = (probe.matrix(probe.prepare(np.exp(rng.standard_normal((n, d))))) for _ in range(2))
        found = moments(sums(A), sums(B))
        assert found.mean == pytest.approx(0.0, abs=1e-12)
        assert found.sd == pytest.approx(math.sqrt(2 / (n * (n - 3))), rel=1e-9)


def unrelated(n):
    """Skewed features of few dimensions: their null is far from normal."""
    rng = np.random.default_rng(5)
    return np.exp(0.5 * rng.standard_normal((n, 2))), np.exp(0.5 * rng.standard_normal((n, 3)))


@pytest.mark.parametrize("name", ["linear-cka", "debiased-cka", "rsa"])
def test_closed_form_agrees_with_sampled_permutations(name):
    """5,000 draws: the mean within 4 standard errors, the spread within 5 % (its own error is 1 to 2 % at such
    kurtosis), the shares beyond the 95 % and 99 % points within .01 and .005, three standard errors of a share."""
    K = 5_000
    X, Y = unrelated(60)
    probe = PROBES[name]()
    A, B = probe.matrix(probe.prepare(X)), probe.matrix(probe.prepare(Y))
    drawn = np.array([np.vdot(A, B[np.ix_(p, p)]) for p in orders(60, "global", None, K, seed=1)])
    found = moments(sums(A), sums(B))
    assert found.mean == pytest.approx(drawn.mean(), abs=4 * found.sd / math.sqrt(K))
    assert found.sd == pytest.approx(drawn.std(), rel=0.05)
    assert found.skewness > 0.3  # a normal approximation would be wrong here
    for level, error in ((0.05, 0.01), (0.01, 0.005)):
        assert (drawn >= found.quantile(1 - level)).mean() == pytest.approx(level, abs=error)
        assert found.p_at_least(found.quantile(1 - level)) == pytest.approx(level, rel=1e-6)


def test_a_value_that_no_permutation_changes_has_no_spread():
    flat = np.ones((8, 8))
    found = moments(sums(flat), sums(symmetric(8, 1, "general")))
    assert (found.sd, found.skewness) == (0.0, 0.0)
    assert found.p_at_least(found.mean) == 1.0
    assert found.p_at_least(found.mean + 1e-15) == 1.0  # rounding


def test_matrices_that_have_no_such_moments_are_refused():
    with pytest.raises(ProbeError, match="symmetric matrix"):
        sums(np.arange(9.0).reshape(3, 3))
    with pytest.raises(ProbeError, match="square matrix"):
        sums(np.ones((3, 2)))
    with pytest.raises(ProbeError, match="4 and 5 rows"):
        moments(sums(np.eye(4)), sums(np.eye(5)))
