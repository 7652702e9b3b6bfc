"""What pair probes say of one another, of decoders, and of rotated and resampled copies.

Tolerance 1e-9 unless said: the two sides are the same number in exact arithmetic, computed in a different order.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes import PROBES, compare

ROTATION_INVARIANT = sorted(
    n for n in PROBES if PROBES[n]().info.kind == "pair" and "orthogonal" in PROBES[n]().info.invariances
)


def arrays(seed=0, n=60, d1=12, d2=20):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d1)) * np.logspace(0, -1, d1) + 1.0
    return X, np.tanh(X @ rng.standard_normal((d1, d2))) + 0.3 * rng.standard_normal((n, d2))


def centred(Z):
    return Z - Z.mean(axis=0)


@pytest.mark.parametrize("name", sorted({*ROTATION_INVARIANT} - {"cycle-knn", "ridge"}))
def test_a_rotated_copy_is_the_same_representation(name):
    """Similarity 1 or distance 0; with itself a cycle need not close, and a penalty shrinks every prediction."""
    X, _ = arrays()
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    probe = PROBES[name]()
    best = 0.0 if probe.info.direction == "distance" else probe.info.range[1]
    assert compare(probe, X, X @ Q) == pytest.approx(best, abs=1e-9)


def test_measures_that_promise_nothing_under_rotation_are_the_known_ones():
    pairs = {n for n in PROBES if PROBES[n]().info.kind == "pair"}
    assert pairs - {*ROTATION_INVARIANT} == {"permutation", "soft-matching", "pwcca"}


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(0, 2**31), st.integers(3, 12), st.tuples(*[st.integers(1, 15)] * 3), st.floats(0.0, 3.0))
@pytest.mark.parametrize("name", ["linear-cka", "rbf-cka"])
def test_the_arccosine_of_cka_is_a_metric(name, seed, n, widths, sharing):
    """1e-7: the arccosine of 1 less rounding is its square root."""
    probe = PROBES[name]()
    rng = np.random.default_rng(seed)
    common = sharing * rng.standard_normal((n, 3))
    X, Y, Z = (probe.prepare(common @ rng.standard_normal((3, d)) + rng.standard_normal((n, d))) for d in widths)
    xz, xy, yz = (np.arccos(probe.value(*pair)) for pair in ((X, Z), (X, Y), (Y, Z)))
    assert xz <= xy + yz + 1e-7


def test_one_minus_cka_is_no_metric():
    """Three directions in a plane at 0, 30 and 60 degrees: CKA is cos² of the angle, and 1 − CKA .75 > .25 + .25."""
    z = np.linalg.qr(centred(np.random.default_rng(0).standard_normal((20, 2))))[0]
    X, Y, Z = (z @ [[np.cos(a)], [np.sin(a)]] for a in np.radians([0, 30, 60]))
    xz, xy, yz = (1 - compare(PROBES["linear-cka"](), *pair) for pair in ((X, Z), (X, Y), (Y, Z)))
    assert (xz, xy, yz) == pytest.approx((0.75, 0.25, 0.25), abs=1e-12)


# Decoders (arXiv 2411.08197). The mean over targets that are 1 on one stimulus and 0 on the others is the mean over all
# targets of unit covariance.


def predictions(Z, penalty):
    linear_model = pytest.importorskip("sklearn.linear_model")
    model = linear_model.LinearRegression() if penalty == 0 else linear_model.Ridge(alpha=penalty)
    return model.fit(Z, np.eye(len(Z))).predict(Z) - 1 / len(Z)


def alignment(A, B):
    return (A * B).sum() / np.sqrt((A * A).sum() * (B * B).sum())


@pytest.mark.parametrize(("d1", "d2"), [(12, 20), (12, 8)])
def test_cca_is_the_mean_alignment_of_least_squares_decoders(d1, d2):
    """Predictions are projections: their alignment is Σρ²/√(d1·d2)."""
    X, Y = arrays(d1=d1, d2=d2)
    expected = min(d1, d2) * compare(PROBES["cca"](power=2), X, Y) / np.sqrt(d1 * d2)
    assert alignment(predictions(X, 0), predictions(Y, 0)) == pytest.approx(expected, abs=1e-9)


def test_cka_is_the_mean_alignment_of_strongly_penalised_decoders():
    """At a penalty of a million variances the decoder is XᵀZ up to a factor, and 1e-6 of it; hence 1e-5."""
    X, Y = arrays()
    A, B = (predictions(Z, 1e6 * np.linalg.norm(centred(Z), 2) ** 2) for Z in (X, Y))
    assert alignment(A, B) == pytest.approx(compare(PROBES["linear-cka"](), X, Y), abs=1e-5)


@pytest.mark.parametrize("noise", [0.01, 0.3, 3.0])
def test_procrustes_distance_bounds_the_mean_distance_of_decoders_on_both_sides(noise):
    """E‖XXᵀz − YYᵀz‖² = ‖K − L‖²_F for z of unit covariance. Above: K − L = ½(A Bᵀ + B Aᵀ) with A = X − YQ, B = X + YQ,
    so ‖K − L‖_F ≤ (σ₁(X) + σ₁(Y)) P. Below: P² ≤ ‖√K − √L‖²_F ≤ ‖K − L‖_* (Powers and Størmer), at most √(r_x + r_y)
    times ‖K − L‖_F."""
    for seed in range(5):
        X, _ = arrays(seed)
        rng = np.random.default_rng(seed)
        Y = centred(np.hstack([X, rng.standard_normal((60, 3))]) + noise * rng.standard_normal((60, 15)))
        X = centred(X)
        P = compare(PROBES["procrustes"](), X, Y)
        apart = np.linalg.norm(X @ X.T - Y @ Y.T)
        assert P**2 / np.sqrt(12 + 15) <= apart <= (np.linalg.norm(X, 2) + np.linalg.norm(Y, 2)) * P


# Resampling


def test_resampling_stimuli_with_replacement_makes_unrelated_representations_alike():
    """The trap on the cards: copies are each other's neighbours in every representation, and their common entries of
    the Gram matrices are a diagonal that no estimator leaves out. They are noted. Unrelated data, n = 200, so chance is
    .05 for k = 10; a row has a copy with probability 1 − 1/e or so, and each is one sure neighbour of ten."""
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((200, 30)), rng.standard_normal((200, 40))
    rows = rng.integers(0, 200, 200)
    knn, cka = PROBES["mutual-knn"](), PROBES["debiased-cka"]()
    assert compare(knn, X, Y) == pytest.approx(10 / 199, abs=0.02)
    assert compare(knn, X[rows], Y[rows]) > 10 / 199 + 0.05
    assert abs(compare(cka, X, Y)) < 0.03
    assert compare(cka, X[rows], Y[rows]) > 0.05
    repeats = 200 - len(set(rows.tolist()))
    assert any(f"{repeats} of 200 rows repeat an earlier row" in note for note in knn.prepare(X[rows]).notes)


def test_fewer_stimuli_at_the_same_k_look_more_alike_until_chance_is_taken_off():
    """Neighbourhoods of a tenth are compared with neighbourhoods of a twentieth; of unrelated data (s − c)/(1 − c) with
    c = k/(n − 1) is 0 at both, up to .02 (2000 slots of rate .05 or more spread by .005 to .007)."""
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((200, 30)), rng.standard_normal((200, 40))
    knn = PROBES["mutual-knn"]()
    values = {n: compare(knn, X[:n], Y[:n]) for n in (100, 200)}
    assert values[100] > values[200] + 0.02
    for n, value in values.items():
        chance = knn.info.null_mean(n, 30, 40)
        assert (value - chance) / (1 - chance) == pytest.approx(0.0, abs=0.02)


# Precision


@pytest.mark.parametrize("offset", [10.0, 1000.0])
def test_an_offset_of_single_precision_features_costs_no_digit_beyond_their_own(offset):
    """The Gram matrix of uncentred ones has lost some; beside centred ones in 80-bit arithmetic, where that exists."""
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((60, 8)) + offset).astype(np.float32)
    Y = (X @ rng.standard_normal((8, 12)) + rng.standard_normal((60, 12))).astype(np.float32)
    K, L = (Z @ Z.T for Z in (centred(Z.astype(np.longdouble)) for Z in (X, Y)))
    expected = alignment(K, L)
    assert compare(PROBES["linear-cka"](), X, Y) == pytest.approx(float(expected), abs=1e-9)
    U, V = (Z - np.diag(np.diag(Z)) for Z in (K, L))

    def hsic(U, V):
        return (U * V).sum() + U.sum() * V.sum() / (59 * 58) - 2 * U.sum(axis=0) @ V.sum(axis=1) / 58

    expected = hsic(U, V) / np.sqrt(hsic(U, U) * hsic(V, V))
    assert compare(PROBES["debiased-cka"](), X, Y) == pytest.approx(float(expected), abs=1e-9)
