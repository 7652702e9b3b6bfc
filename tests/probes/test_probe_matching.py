"""Matching of units against all permutations, against another transport solver, and in hand-made worlds.

Tolerance 1e-9 unless said: both sides are the same number in exact arithmetic.
"""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from probes import PROBES, Undefined, compare, matching

BOTH = ["permutation", "soft-matching"]


def arrays(d1, d2, n=60, seed=0):
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((n, 4))
    return (signal @ rng.standard_normal((4, d)) + rng.standard_normal((n, d)) + 2.0 for d in (d1, d2))


def unit_norm(Z):
    Z = Z - Z.mean(axis=0)
    return Z / np.linalg.norm(Z)


@pytest.mark.parametrize(("d1", "d2"), [(1, 1), (3, 3), (2, 4), (1, 6)])
def test_permutation_equals_the_best_of_all_permutations_of_padded_units(d1, d2):
    for seed in range(5):
        X, Y = arrays(d1, d2, seed=seed)
        d = d1 + d2  # room enough for every unit to stay alone
        A, B = (np.pad(unit_norm(Z), ((0, 0), (0, d - Z.shape[1]))) for Z in (X, Y))
        S = A.T @ B
        best = max(sum(S[i, p[i]] for i in range(d1)) for p in itertools.permutations(range(d), d1))
        assert compare(PROBES["permutation"](), X, Y) == pytest.approx(np.arccos(best), abs=1e-9)


@pytest.mark.parametrize(("d1", "d2"), [(20, 20), (12, 30), (90, 40)])
def test_permutation_equals_scipys_assignment_of_padded_units(d1, d2):
    from scipy.optimize import linear_sum_assignment

    X, Y = arrays(d1, d2)
    A, B = (np.pad(unit_norm(Z), ((0, 0), (0, d1 + d2 - Z.shape[1]))) for Z in (X, Y))
    i, j = linear_sum_assignment(-(A.T @ B))
    expected = np.arccos((A[:, i] * B[:, j]).sum())
    assert compare(PROBES["permutation"](), X, Y) == pytest.approx(expected, abs=1e-9)


def test_small_angles_between_matched_units_are_accurate():
    """A further orthogonal unit of length tan θ turns a unit-norm X by θ; arccos near 1 would lose it below 1e-8."""
    Z = np.random.default_rng(0).standard_normal((50, 6))
    Z = np.linalg.qr(Z - Z.mean(axis=0))[0]
    X = Z[:, :5] / np.sqrt(5.0)
    for theta in (1e-6, 1e-3, 0.2, 1.0):
        Y = np.hstack([np.tan(theta) * Z[:, 5:], X[:, ::-1]])
        assert compare(PROBES["permutation"](), X, Y) == pytest.approx(theta, rel=1e-9)


@pytest.mark.parametrize("name", BOTH)
def test_shuffled_units_are_found_and_rotated_ones_are_not(name):
    """The trap, beside a distance that rotation leaves alone."""
    X, _ = arrays(12, 1)
    rng = np.random.default_rng(5)
    probe = PROBES[name]()
    assert compare(probe, X, 3.0 * X[:, rng.permutation(12)] - 1.0) < 1e-12
    rotated = X @ np.linalg.qr(rng.standard_normal((12, 12)))[0]
    assert compare(probe, X, rotated) > 0.3
    assert compare(PROBES["angular-procrustes"](), X, rotated) < 1e-12


def test_dead_units_change_nothing_for_permutation_and_count_for_soft_matching():
    X, Y = arrays(10, 10)
    dead = np.full((60, 10), 0.1)
    permutation, soft = (PROBES[n]() for n in BOTH)
    padded = np.hstack([dead, Y])
    assert compare(permutation, X, padded) == pytest.approx(compare(permutation, X, Y), abs=1e-12)
    assert compare(soft, X, padded) > compare(soft, X, Y) + 0.05


def test_no_unit_is_forced_on_a_partner_with_a_negative_inner_product():
    """x, −x and both: forcing x on −x would make π of a way that is π/4 + π/4 by the third."""
    x = np.random.default_rng(0).standard_normal((30, 1))
    permutation = PROBES["permutation"]()
    assert compare(permutation, x, -x) == pytest.approx(math.pi / 2, abs=1e-12)
    assert compare(permutation, x, np.hstack([-x, x])) == pytest.approx(math.pi / 4, abs=1e-12)
    assert compare(PROBES["soft-matching"](), x, -x) == pytest.approx(2.0, abs=1e-12)


def test_at_equal_widths_both_find_one_matching_if_no_partner_is_negative():
    X, _ = arrays(15, 1)
    Y = X[:, ::-1] + 0.5 * np.random.default_rng(1).standard_normal(X.shape)
    theta = compare(PROBES["permutation"](), X, Y)
    assert 0.2 < theta < 1.0
    assert compare(PROBES["soft-matching"](), X, Y) == pytest.approx(2 * np.sin(theta / 2), abs=1e-9)


@pytest.mark.parametrize("name", BOTH)
def test_ties_between_copies_of_a_unit_do_not_matter(name):
    X, Y = arrays(6, 1)
    copies = np.hstack([X[:, :2], X[:, :2], X])
    assert compare(PROBES[name](), copies, copies[:, ::-1]) < 1e-12
    assert compare(PROBES[name](), np.sign(copies), np.sign(copies)[:, ::-1]) < 1e-12
    assert np.isfinite(compare(PROBES[name](), copies, Y))


@pytest.mark.parametrize(("d1", "d2"), [(1, 5), (12, 12), (12, 18), (15, 14), (30, 7), (90, 40)])
def test_soft_matching_equals_the_optimal_transport_of_another_package(d1, d2):
    ot = pytest.importorskip("ot")
    X, Y = arrays(d1, d2)
    A, B = (unit_norm(Z) * math.sqrt(Z.shape[1]) for Z in (X, Y))
    cost = ((A[:, :, None] - B[:, None, :]) ** 2).sum(axis=0)
    expected = math.sqrt(ot.emd2(np.full(d1, 1 / d1), np.full(d2, 1 / d2), cost))
    assert compare(PROBES["soft-matching"](), X, Y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("d1", "d2"), [(6, 4), (15, 14), (20, 8)])
def test_assignment_of_copies_and_linear_programme_agree_and_keep_the_margins(d1, d2, monkeypatch):
    X, Y = arrays(d1, d2)
    gain = X.T @ Y
    best = []
    for most in (0, 1000):
        monkeypatch.setattr(matching, "MOST_COPIES", most)
        i, j, mass = matching.transport(gain)
        T = np.zeros((d1, d2))
        np.add.at(T, (i, j), mass)
        np.testing.assert_allclose(T.sum(axis=1), 1 / d1, rtol=1e-12)
        np.testing.assert_allclose(T.sum(axis=0), 1 / d2, rtol=1e-12)
        best.append((T * gain).sum())
    assert best[0] == pytest.approx(best[1], rel=1e-12)


def test_soft_matching_with_every_unit_copied_equally_often_is_zero():
    """Copies of all units are the same distribution of units; copies of some are not."""
    X, _ = arrays(6, 1)
    soft = PROBES["soft-matching"]()
    assert compare(soft, X, np.hstack([X, X, X])) < 1e-12
    assert compare(soft, X, np.hstack([X, X[:, :3]])) > 0.1


def test_soft_matching_by_hand():
    """Units ±z with masses 1/2 against z once and −z twice: 1/6 of the mass has to cross a distance of 2."""
    z = np.random.default_rng(0).standard_normal((20, 1))
    value = compare(PROBES["soft-matching"](), np.hstack([z, -z]), np.hstack([z, -z, -z]))
    assert value == pytest.approx(math.sqrt(4 / 6), abs=1e-9)


def test_a_transport_that_was_not_found_is_undefined(monkeypatch):
    failed = SimpleNamespace(success=False, message="time limit")
    monkeypatch.setattr("scipy.optimize.linprog", lambda *args, **kwargs: failed)
    value = compare(PROBES["soft-matching"](), *arrays(15, 14))
    assert isinstance(value, Undefined)
    assert "15 and 14 units" in value.reason
    assert "time limit" in value.reason
