"""GULP and linear predictivity: formulas written out, independent regressions, and worlds with a known answer.

Tolerance 1e-9 unless said: both sides are the same number in exact arithmetic.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from probes import PROBES, Undefined, compare
from probes.predictivity import STRENGTHS, shuffled_folds


def arrays(n=80, d1=12, d2=20, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d1)) * np.logspace(0, -1, d1) + 1.0
    return X, X @ rng.standard_normal((d1, d2)) + rng.standard_normal((n, d2))


def unit_norm(Z):
    Z = Z - Z.mean(axis=0)
    return Z / np.linalg.norm(Z)


@pytest.mark.parametrize("lam", [1e-4, 0.01, 1.0, 100.0])
@pytest.mark.parametrize(("d1", "d2"), [(12, 20), (100, 20)])
def test_gulp_equals_its_formula_with_covariances(lam, d1, d2):
    X, Y = arrays(d1=d1, d2=d2)
    n = len(X)
    A, B = np.sqrt(n) * unit_norm(X), np.sqrt(n) * unit_norm(Y)
    Sx, Sy, Sxy = A.T @ A / n, B.T @ B / n, A.T @ B / n
    Ix, Iy = (np.linalg.inv(S + lam * np.eye(len(S))) for S in (Sx, Sy))
    expected = np.trace(Ix @ Sx @ Ix @ Sx) + np.trace(Iy @ Sy @ Iy @ Sy) - 2 * np.trace(Ix @ Sxy @ Iy @ Sxy.T)
    assert compare(PROBES["gulp"](lam=lam), X, Y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("lam", [0.001, 0.1])
def test_gulp_is_the_squared_difference_of_independent_ridge_predictions(lam):
    """Summed over targets that are 1 on one stimulus and 0 on the others."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, Y = arrays()
    predictions = [linear_model.Ridge(alpha=lam).fit(Z, np.eye(80)).predict(Z) for Z in (unit_norm(X), unit_norm(Y))]
    expected = np.linalg.norm(predictions[0] - predictions[1]) ** 2
    assert compare(PROBES["gulp"](lam=lam), X, Y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("d1", "d2"), [(12, 12), (12, 20), (100, 20)])
def test_gulp_without_penalty_is_the_ranks_less_twice_the_squared_correlations(d1, d2):
    X, Y = arrays(d1=d1, d2=d2)
    r1, r2 = min(d1, 79), min(d2, 79)
    expected = r1 + r2 - 2 * min(r1, r2) * compare(PROBES["cca"](power=2), X, Y)
    assert compare(PROBES["gulp"](lam=0), X, Y) == pytest.approx(expected, abs=1e-9)
    assert compare(PROBES["gulp"](lam=1e-12), X, Y) == pytest.approx(expected, abs=1e-6)


def test_gulp_without_penalty_on_the_fixed_input_agrees_with_published_correlations():
    """d1 + d2 − 2Σρ² with mean ρ² = .7395522398 over 30; half a unit of its last digit is 3e-9 here."""
    r = np.random.default_rng(0)
    X, W = r.standard_normal((200, 30)), r.standard_normal((30, 40))
    Y = X @ W / np.sqrt(30) + 0.5 * r.standard_normal((200, 40))
    assert compare(PROBES["gulp"](lam=0), X, Y) == pytest.approx(70 - 60 * 0.7395522398, abs=4e-9)


def test_gulp_under_a_strong_penalty_is_the_distance_of_gram_matrices():
    """K = XXᵀ/λ·(1 + O(1/λ)): relative 1e-5 at λ = 1e6."""
    X, Y = arrays()
    A, B = unit_norm(X), unit_norm(Y)
    expected = np.linalg.norm(A @ A.T - B @ B.T) ** 2
    assert 1e12 * compare(PROBES["gulp"](lam=1e6), X, Y) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("t", [1e-4, 1e-3, 0.1])
def test_small_gulp_distances_are_accurate(t):
    """Four equal directions, and a fifth of length t: the kernels differ by known eigenvalues. As a difference of sums
    of size 1, a distance of 1e-12 would be rounding."""
    Z = np.random.default_rng(0).standard_normal((40, 5))
    Z = np.linalg.qr(Z - Z.mean(axis=0))[0]
    X = Z[:, :4] / 2.0
    lam, total = 0.01, 1.0 + t**2

    def kept(share):
        return share / (share + lam)

    expected = 4 * (kept(0.25) - kept(0.25 / total)) ** 2 + kept(t**2 / total) ** 2
    assert compare(PROBES["gulp"](lam=lam), X, np.hstack([X, t * Z[:, 4:]])) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("lam", [0.0, 0.01])
@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(4, 12), st.tuples(*[st.integers(1, 15)] * 3), st.floats(0.0, 3.0))
def test_root_of_gulp_obeys_the_triangle_inequality(lam, seed, n, widths, sharing):
    probe = PROBES["gulp"](lam=lam)
    rng = np.random.default_rng(seed)
    common = sharing * rng.standard_normal((n, 3))
    X, Y, Z = (probe.prepare(common @ rng.standard_normal((3, d)) + rng.standard_normal((n, d))) for d in widths)
    assume(not any(p.undefined for p in (X, Y, Z)))
    xz, xy, yz = (np.sqrt(probe.value(*pair)) for pair in ((X, Z), (X, Y), (Y, Z)))
    assert xz <= xy + yz + 1e-9


@pytest.mark.parametrize(("n", "d1", "d2"), [(120, 12, 20), (61, 100, 7), (83, 1, 1)])
def test_ridge_equals_independent_ridge_regressions_on_the_same_folds(n, d1, d2):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, Y = arrays(n, d1, d2)
    fold = shuffled_folds(n, 5)
    left = total = 0.0
    chosen = set()
    for f in range(5):
        train = fold != f
        penalties = np.array(STRENGTHS) * np.linalg.norm(X[train] - X[train].mean(axis=0)) ** 2
        model = linear_model.RidgeCV(alphas=penalties).fit(X[train], Y[train] if d2 > 1 else Y[train, 0])
        chosen.add(int(np.argmin(abs(penalties - model.alpha_))))
        left += ((Y[~train] - model.predict(X[~train]).reshape(-1, d2)) ** 2).sum()
        total += ((Y[~train] - Y[train].mean(axis=0)) ** 2).sum()
    assert compare(PROBES["ridge"](), X, Y) == pytest.approx(1 - left / total, abs=1e-9)
    assert 0 not in chosen  # the agreement is not that of unpenalised regressions


def test_ridge_finds_the_share_of_variance_that_is_signal():
    """Signal and noise of variance 1 : 1/3 per unit: R² = 3/4 less the cost of estimation, below d/n = .01; ±.02."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 20))
    Y = X @ np.linalg.qr(rng.standard_normal((20, 20)))[0] + rng.standard_normal((2000, 20)) / np.sqrt(3)
    assert compare(PROBES["ridge"](), X, Y) == pytest.approx(0.75, abs=0.02)


def test_a_linear_map_is_predicted_and_what_it_leaves_out_is_not():
    """Three of thirty independent units: all of them from the whole, a tenth of the whole from them."""
    X = np.random.default_rng(0).standard_normal((600, 30))
    ridge = PROBES["ridge"]()
    assert 1 - 1e-9 < compare(ridge, X, X) <= 1.0
    assert 1 - 1e-9 < compare(ridge, X, X[:, :3] @ np.ones((3, 5)) + 2.0) <= 1.0
    assert compare(ridge, X[:, :3], X) == pytest.approx(0.1, abs=0.03)


def test_unrelated_representations_predict_nothing_held_out_even_where_they_fit_perfectly():
    """60 units fit 40 stimuli exactly. Held out, leave-one-out chooses strong penalties: 0 up to the noise of the
    choice, and below 0 as often as above."""
    rng = np.random.default_rng(0)
    pairs = [(rng.standard_normal((40, 60)), rng.standard_normal((40, 5))) for _ in range(10)]
    X, Y = pairs[0]
    W = np.linalg.lstsq(X, Y, rcond=None)[0]
    assert np.linalg.norm(X @ W - Y) < 1e-10
    values = [compare(PROBES["ridge"](), *pair) for pair in pairs]
    assert abs(np.mean(values)) < 0.1
    assert min(values) < 0


def test_constant_units_are_neither_predicted_nor_predictors_and_are_counted():
    X, Y = arrays()
    ridge = PROBES["ridge"]()
    X0, Y0 = (np.hstack([np.full((80, 2), 0.1), Z, np.zeros((80, 1))]) for Z in (X, Y))
    assert compare(ridge, X0, Y0) == pytest.approx(compare(ridge, X, Y), abs=1e-9)
    assert ridge.prepare(X).notes == ()
    assert ridge.prepare(Y0).notes == ("3 of 23 units do not vary and are left out",)


def test_permuting_the_predictor_moves_its_folds_with_the_stimuli():
    """The regressions are the same ones, so what is predicted changes only by what they are asked for."""
    X, Y = arrays()
    ridge = PROBES["ridge"]()
    px, py = ridge.prepare(X), ridge.prepare(Y)
    order = np.random.default_rng(3).permutation(80)
    back = np.argsort(order)
    assert ridge.value(ridge.permute(px, order), py) == pytest.approx(
        ridge.value(px, ridge.permute(py, back)), abs=1e-12
    )
    twice = ridge.permute(ridge.permute(px, order), back)
    assert ridge.value(twice, py) == ridge.value(px, py)


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_folds_are_even_fixed_and_out_of_step_with_the_order_of_classes(folds):
    """5 standard deviations of a random share of 100 rows of one class are allowed."""
    n = 1000
    fold = shuffled_folds(n, folds)
    assert np.array_equal(fold, shuffled_folds(n, folds))
    assert np.ptp(np.bincount(fold)) <= 1
    share = 1 / folds
    for labels in (np.arange(n) % 10, np.arange(n) // 100):
        counts = np.array([np.bincount(fold[labels == c], minlength=folds) for c in range(10)])
        assert abs(counts - 100 * share).max() <= 5 * np.sqrt(100 * share * (1 - share))


def test_ridge_needs_as_many_stimuli_as_folds_and_variance_in_every_training_part():
    rng = np.random.default_rng(0)
    ridge = PROBES["ridge"]()
    value = compare(ridge, rng.standard_normal((4, 3)), rng.standard_normal((4, 3)))
    assert isinstance(value, Undefined)
    assert "5 folds" in value.reason
    assert "there are 4" in value.reason
    assert isinstance(compare(ridge, rng.standard_normal((5, 3)), rng.standard_normal((5, 3))), float)
    lone = np.zeros((40, 3))
    lone[7] = 1.0
    value = compare(ridge, lone, rng.standard_normal((40, 3)))
    assert isinstance(value, Undefined)
    assert "training part" in value.reason


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(
    "name", ["cca", "svcca", "pwcca", "shape", "procrustes", "permutation", "soft-matching", "gulp"]
)
def test_very_few_stimuli_give_a_value_in_range_or_a_reason(name, n):
    rng = np.random.default_rng(n)
    probe = PROBES[name]()
    value = compare(probe, rng.standard_normal((n, 4)), rng.standard_normal((n, 3)))
    if n == 1:
        assert isinstance(value, Undefined)
    else:
        low, high = probe.info.range
        assert low <= value <= high
