"""Anisotropy, uniformity, alignment and selectivity against loops over pairs and closed forms. 1e-12 is rounding."""

import numpy as np
import pytest
from scipy.special import i0e

from probes import PROBES

RNG = np.random.default_rng(0)
X = RNG.gamma(1.0, size=(30, 7)) - 0.3
Y = np.array([0] * 5 + [1] * 10 + [2] * 15)


def value(name, X, *labels):
    return PROBES[name]().value(X, *labels)


def loops(X, y):
    """The three definitions, pair by pair."""
    u = X / np.linalg.norm(X, axis=1, keepdims=True)
    pairs = [(i, j) for i in range(len(u)) for j in range(i)]
    return {
        "anisotropy": np.mean([u[i] @ u[j] for i, j in pairs]),
        "uniformity": np.log(np.mean([np.exp(-2 * ((u[i] - u[j]) ** 2).sum()) for i, j in pairs])),
        "alignment": np.mean([((u[i] - u[j]) ** 2).sum() for i, j in pairs if y[i] == y[j]]),
    }


@pytest.mark.parametrize("name", ["anisotropy", "uniformity", "alignment"])
def test_value_is_the_mean_over_pairs_and_rows_of_zeros_are_left_out_and_counted(name, monkeypatch):
    monkeypatch.setattr("probes.spread.BLOCK", 100)  # several blocks of a few rows
    labels = [Y] if name == "alignment" else []
    expected = loops(X, Y)[name]
    assert value(name, X, *labels) == {"value": pytest.approx(expected, abs=1e-12), "zero_rows": 0.0}
    padded = np.insert(X, [0, 12], 0.0, axis=0)
    labels = [np.insert(Y, [0, 12], 9)] if labels else []
    assert value(name, padded, *labels) == {"value": pytest.approx(expected, abs=1e-12), "zero_rows": 2.0}


@pytest.mark.parametrize("name", ["anisotropy", "uniformity", "alignment"])
def test_only_directions_count_even_of_rows_shorter_than_any_square(name):
    labels = [Y] if name == "alignment" else []
    lengths = 10.0 ** RNG.integers(-290, 290, size=(30, 1))
    assert value(name, X * lengths, *labels)["value"] == pytest.approx(loops(X, Y)[name], abs=1e-12)


@pytest.mark.parametrize(("name", "X"), [("anisotropy", np.zeros((5, 3))), ("uniformity", np.eye(5)[:, :1])])
def test_a_pair_of_directions_is_needed(name, X):
    assert "rows are not all zero" in value(name, X).reason


def test_alignment_needs_a_pair_inside_a_class():
    assert "no class has two rows" in value("alignment", np.eye(4), np.arange(4)).reason
    assert "no class has two rows" in value("alignment", np.diag([1.0, 0, 1, 0]), np.array([0, 0, 1, 1])).reason


def test_orthogonal_and_simplex_directions():
    """cos = 0: potential e⁻⁴. Simplex: cos = −1/(n−1), as low as n directions can have on average."""
    n = 6
    assert value("anisotropy", np.eye(n))["value"] == pytest.approx(0.0, abs=1e-12)
    assert value("uniformity", 7.0 * np.eye(n))["value"] == pytest.approx(-4.0, abs=1e-12)
    simplex = np.eye(n) - 1 / n
    assert value("anisotropy", simplex)["value"] == pytest.approx(-1 / (n - 1), abs=1e-12)
    assert value("uniformity", simplex)["value"] == pytest.approx(-4 * (1 + 1 / (n - 1)), abs=1e-12)
    assert value("uniformity", np.array([[1.0], [-2.0]]))["value"] == pytest.approx(-8.0, abs=1e-12)


def test_evenly_spaced_directions_on_a_circle_have_the_potential_of_a_bessel_function():
    """The trapezium rule of n points is exact to rounding for exp(4cos θ) here: mean over all, itself too, e⁻⁴I₀(4)."""
    n = 64
    angle = 2 * np.pi * np.arange(n) / n
    expected = np.log((n * i0e(4.0) - 1.0) / (n - 1))
    assert value("uniformity", np.stack([np.cos(angle), np.sin(angle)], axis=1))["value"] == pytest.approx(
        expected, abs=1e-12
    )


def test_random_directions_have_no_preference():
    """n directions in d dimensions: the mean cosine has standard deviation √(2/(n(n−1)d)); 4 of these."""
    n, d = 400, 50
    found = value("anisotropy", np.random.default_rng(1).standard_normal((n, d)))["value"]
    assert abs(found) < 4 * np.sqrt(2 / (n * (n - 1) * d))


def test_activations_that_are_never_negative_are_anisotropic_by_construction():
    """ReLU of a Gaussian: E[x]²/E[x²] = (1/2π)/(1/2) = 1/π. ±.01 at n = 500, d = 500."""
    rectified = np.maximum(np.random.default_rng(2).standard_normal((500, 500)), 0.0)
    assert value("anisotropy", rectified)["value"] == pytest.approx(1 / np.pi, abs=0.01)


def test_alignment_of_collapsed_and_of_opposite_classes():
    y = np.array([0, 0, 1, 1])
    assert value("alignment", np.array([[1.0, 1], [2, 2], [0, 3], [0, 1]]), y)["value"] == pytest.approx(0, abs=1e-12)
    assert value("alignment", np.array([[1.0, 1], [-2, -2], [0, 3], [0, -1]]), y)["value"] == pytest.approx(4.0)


def test_selectivity_by_hand():
    """Class means per unit (3 classes of 2): (3, 1, 0) → (3−.5)/(3+.5); one class alone → 1; all alike → 0; silent."""
    X = np.array([[2.0, 0, 5, 0], [4, 0, 5, 0], [1, 0, 5, 0], [1, 0, 5, 0], [0, 7, 5, 0], [0, 1, 5, 0]])
    y = np.array([0, 0, 1, 1, 2, 2])
    found = value("selectivity", X, y)
    assert found == {"value": pytest.approx((2.5 / 3.5 + 1.0 + 0.0) / 3, rel=1e-12), "silent": 1.0, "shifted": 0.0}


def test_units_below_zero_are_shifted_to_minimum_zero():
    rng = np.random.default_rng(3)
    y = np.arange(40) % 4
    X = np.maximum(rng.standard_normal((4, 6))[y] + rng.standard_normal((40, 6)), 0.0)
    lowered = X - np.array([0.0, 1.0, 2.5, 0.0, 0.1, 0.0])
    found = value("selectivity", lowered, y)
    assert found["shifted"] == 3.0
    assert found["value"] == pytest.approx(value("selectivity", X, y)["value"], rel=1e-12)
    always_low = np.hstack([X, np.full((40, 1), -2.0)])
    assert value("selectivity", always_low, y)["silent"] == 1.0


def test_every_class_counts_the_same_in_selectivity():
    y = np.array([0] * 10 + [1] * 30)
    X = np.random.default_rng(4).gamma(1.0, size=(40, 5))
    more = np.concatenate([np.arange(40), np.arange(10), np.arange(10)])
    assert value("selectivity", X[more], y[more]) == pytest.approx(value("selectivity", X, y), rel=1e-12)


def test_selectivity_does_not_lose_units_that_hardly_answer():
    y = np.arange(20) % 2
    X = np.random.default_rng(5).gamma(1.0, size=(20, 3))
    tiny = X * np.array([1.0, 1e-160, 1e-300])
    assert value("selectivity", tiny, y)["value"] == pytest.approx(value("selectivity", X, y)["value"], rel=1e-12)


def test_selectivity_needs_two_classes():
    assert "only one class" in value("selectivity", X, np.zeros(30)).reason
