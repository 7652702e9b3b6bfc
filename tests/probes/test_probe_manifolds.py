"""Manifold capacities and few-shot errors: Cover's theorem, cones of known statistical dimension, simulated learners.

A Monte Carlo value is allowed four of its own standard errors. No test reads more from a seed than that.
"""

import numpy as np
import pytest
from scipy.special import ndtr

from probes import PROBES

CAPACITIES = ["capacity", "glue"]


def value(name, X, y, **settings):
    return PROBES[name](**settings).value(X, y)


def disc_capacity(R):
    """1/α is the statistical dimension of a circular cone in three dimensions, half-angle θ with tan θ = R: its solid
    angle and that of its dual give the shares of t that project to its inside, surface and tip, worth 3, 2, 1 and 0:
    3(1 − cos θ)/2 + 2 sin θ/2 + cos θ/2. At R = 1 the cone is its own dual and takes half of E‖t‖² = 3."""
    theta = np.arctan(R)
    return 1.0 / (1.5 + np.sin(theta) - np.cos(theta))


def circles(R, P=3, M=24):
    """P circles of radius R about orthogonal unit centres, each in a plane of its own, as polygons of M corners."""
    angle = 2 * np.pi * np.arange(M) / M
    X = np.zeros((P, M, 3 * P))
    for p in range(P):
        X[p, :, 3 * p] = 1.0
        X[p, :, 3 * p + 1], X[p, :, 3 * p + 2] = R * np.cos(angle), R * np.sin(angle)
    return X.reshape(P * M, -1), np.repeat(np.arange(P), M)


def gaussian_classes(C, n, d, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(C), n)
    return rng.standard_normal((C, d))[y] + spread * rng.standard_normal((C * n, d)), y


@pytest.mark.parametrize("R", [0.5, 1.0])
def test_circles_in_planes_of_their_own_have_the_capacity_radius_and_dimension_of_a_disc(R):
    """For uncorrelated manifolds both capacities are the mean-field one. Taking the mean of all centres off shortens
    each centre to √(1 − 1/P). 2 % more for polygons, whose corners alone reach R (cos π/24 = .991 between them)."""
    X, y = circles(R)
    for name, radius in (("glue", R), ("capacity", R / np.sqrt(1 - 1 / 3))):
        found = value(name, X, y, samples=300)
        expected = disc_capacity(radius)
        assert found["value"] == pytest.approx(expected, abs=4 * found["standard_error"] + 0.02 * expected)
        assert found["dimension"] == pytest.approx(2.0, abs=0.3)  # 900 values of χ²₂: 4·2/30
        assert found["points"] == 24
        # Anchors inside the hull, when t falls into the cone, make it a little less.
        assert 0.85 * radius < found["radius"] <= 1.02 * radius
    assert found["centre_correlation"] == pytest.approx(0.5)  # three centres about their mean
    glue = value("glue", X, y, samples=300)
    assert [glue[f"{what}_alignment"] for what in ("centre", "axis", "centre_axis")] == pytest.approx(
        [0.0] * 3, abs=1e-12
    )


def wedge(low=-0.5, high=3.0):
    """The cone over the segment from low to high: t at every angle of the plane, and the anchor it has there."""
    phi = 2 * np.pi * (np.arange(100_000) + 0.5) / 100_000
    t, t0 = np.cos(phi), np.sin(phi)
    to_low, to_high = low * t + t0, high * t + t0  # products with the edges (low, 1) and (high, 1)
    anchor = np.where(to_high / np.hypot(high, 1) > to_low / np.hypot(low, 1), high, low)
    anchor = np.where((to_low <= 0) & (to_high <= 0), np.where(t > 0, high, low), anchor)
    inside = (t0 > 0) & (low * t0 <= t) & (t <= high * t0)
    return t, np.where(inside, t / np.where(inside, t0, 1.0), anchor)


def test_segments_off_their_centre_have_the_capacity_radius_and_dimension_of_a_wedge():
    """Six points at −.5 and one at 3 about their mean: a plane wedge of angle θ takes θ/π + ½ of E‖t‖² = 2, and its
    anchors follow from the angle of t alone. Radii: 1.5 %, three errors of a deviation over 2000 bounded values."""
    t, anchor = wedge()
    alpha = 1 / ((np.arctan(3.0) + np.arctan(0.5)) / np.pi + 0.5)
    s = np.array([-0.5] * 6 + [3.0])[:, None]
    e, y = np.eye(4), np.repeat([0, 1], 7)
    found = value("capacity", np.vstack([e[0] + s * e[1], -e[0] + s * e[2]]), y, samples=1000)
    assert found["value"] == pytest.approx(alpha, abs=4 * found["standard_error"])
    assert found["radius"] == pytest.approx(anchor.std(), rel=0.015)
    assert found["dimension"] == pytest.approx(1.0, abs=4 * np.sqrt(2 / 2000))
    found = value("glue", np.vstack([e[0] + s * e[1], e[2] + s * e[3]]), y, samples=1000)
    axis = (anchor - anchor.mean()) ** 2
    apart = t**2 * axis / (axis + 1 + anchor.mean() ** 2)
    assert found["value"] == pytest.approx(alpha, abs=4 * found["standard_error"])
    assert found["radius"] == pytest.approx(np.sqrt(apart.mean() / (t**2 - apart).mean()), rel=0.015)
    assert found["dimension"] == pytest.approx(1.0, abs=4 * np.sqrt(2 / 2000))


def twice(X):
    """Classes of two copies of one point."""
    return np.repeat(X, 2, axis=0), np.repeat(np.arange(len(X)), 2)


@pytest.mark.parametrize(("C", "d"), [(4, 30), (20, 20), (15, 40)])
def test_points_in_general_position_have_capacity_two(C, d):
    """Cover 1965: C ≤ d independent points, each a class of two copies without extent.
    The sign-flipped cones tile their span, so E‖proj‖² = C/2 exactly."""
    X, y = twice(np.random.default_rng(C).standard_normal((C, d)) + 1.0)
    found = value("glue", X, y, samples=300)
    assert found["value"] == pytest.approx(2.0, abs=4 * found["standard_error"])
    assert (found["radius"], found["dimension"], found["floor"]) == (0.0, 0.0, C / min(C, d))


def test_points_have_mean_field_capacity_two():
    X, y = twice(np.random.default_rng(0).standard_normal((8, 20)))
    found = value("capacity", X, y, samples=400)
    assert found["value"] == pytest.approx(2.0, abs=4 * found["standard_error"])
    assert (found["radius"], found["dimension"], found["points"]) == (0.0, 0.0, 2.0)


def test_inseparable_dichotomies_leave_the_floor():
    """40 points in 3 dimensions: a share 2·(1 + 39 + 741)/2⁴⁰ of dichotomies can be separated (Cover), the rest have
    the whole space for a cone: α = C/d up to the error of E‖t‖² = 3."""
    found = value("glue", *twice(np.random.default_rng(1).standard_normal((40, 3))))
    assert found["floor"] == 40 / 3
    assert found["value"] == pytest.approx(40 / 3, abs=4 * found["standard_error"])


def test_random_clouds_have_the_capacity_and_radius_that_their_authors_print():
    """50 Gaussian points per manifold in many dimensions; the published code prints .04 and 1.47 for 100 manifolds.
    Half a unit of the last digit, 4 standard errors, and 3 % for 15 manifolds, whose mean shortens the centres."""
    X = np.random.default_rng(0).standard_normal((15 * 50, 2000))
    found = value("capacity", X, np.repeat(np.arange(15), 50), samples=20)
    assert found["value"] == pytest.approx(0.04, abs=0.005 + 4 * found["standard_error"])
    assert found["radius"] == pytest.approx(1.47, abs=0.005 + 0.03 * 1.47)


@pytest.mark.parametrize("name", CAPACITIES)
def test_standard_error_is_the_spread_over_seeds(name):
    """Ten seeds: their deviation has relative error 1/√18 = .24; factor 2 each way is three of these."""
    X, y = gaussian_classes(4, 12, 20)
    found = [value(name, X, y, samples=40, seed=seed) for seed in range(10)]
    spread = np.std([f["value"] for f in found], ddof=1)
    assert 0.5 < spread / np.mean([f["standard_error"] for f in found]) < 2.0
    assert value(name, X, y, samples=40, seed=3) == found[3]


@pytest.mark.parametrize("name", CAPACITIES)
def test_wider_manifolds_have_less_capacity_and_more_radius(name):
    narrow, wide = (value(name, *gaussian_classes(4, 20, 25, spread), samples=50) for spread in (0.1, 1.0))
    assert narrow["value"] > 1.3 * wide["value"]
    assert narrow["radius"] < 0.5 * wide["radius"]


@pytest.mark.parametrize("name", CAPACITIES)
def test_at_most_so_many_points_of_each_class_are_used_and_the_same_ones_for_every_network(name):
    X, y = gaussian_classes(3, 60, 10)
    few, more = (value(name, X, y, points=points, samples=50) for points in (5, 40))
    assert (few["points"], more["points"]) == (5.0, 40.0)
    assert few["value"] > more["value"]  # the trap on the card
    assert value(name, X[:, ::-1] * 2.0, y, points=5, samples=50)["value"] == pytest.approx(few["value"], rel=1e-9)
    y[y == 2] = np.where(np.arange(60) < 4, 2, 1)
    assert value(name, X, y, points=5, samples=50)["points"] == 4.0


@pytest.mark.parametrize("name", CAPACITIES)
def test_one_class_has_no_capacity(name):
    assert "only one class" in value(name, np.eye(6), np.zeros(6)).reason


@pytest.mark.parametrize("name", CAPACITIES)
def test_a_class_of_one_stimulus_has_no_capacity(name):
    X = np.random.default_rng(0).standard_normal((20, 5))
    assert value(name, X, np.repeat([0, 1, 2], [9, 1, 10])).reason == (
        "class 1 (in sorted order) has one stimulus, so it has no extent"
    )


def test_a_class_in_the_middle_has_no_length_to_be_measured_in():
    X = np.array([[-2.0, 0], [-1, 0], [-0.5, 0], [0.5, 0], [1, 0], [2, 0]])
    assert "the mean of class 1" in value("capacity", X, np.array([0, 0, 1, 1, 2, 2])).reason
    assert value("glue", X, np.array([0, 0, 1, 1, 2, 2]))["floor"] == 3.0


@pytest.mark.parametrize("n", [4, 5])
@pytest.mark.parametrize("name", CAPACITIES)
def test_two_tiny_classes_have_a_capacity(name, n):
    X = np.random.default_rng(0).standard_normal((n, 2))
    assert value(name, X, np.arange(n) % 2)["value"] > 0


# Few-shot learning.


def simulated_error(X, y, m, episodes, rng):
    """Share of wrong answers of prototypes from m Gaussian examples with the moments of the classes, and its error."""
    C = y.max() + 1
    means = [X[y == c].mean(axis=0) for c in range(C)]
    roots = [np.linalg.cholesky(np.cov(X[y == c].T, bias=True) + 1e-12 * np.eye(X.shape[1])) for c in range(C)]
    wrong = []
    for a in range(C):
        for b in range(C):
            if a == b:
                continue
            d = X.shape[1]
            test = means[a] + rng.standard_normal((episodes, d)) @ roots[a].T
            own = means[a] + rng.standard_normal((episodes, d)) @ roots[a].T / np.sqrt(m)
            other = means[b] + rng.standard_normal((episodes, d)) @ roots[b].T / np.sqrt(m)
            wrong.append(((test - own) ** 2).sum(axis=1) >= ((test - other) ** 2).sum(axis=1))
    wrong = np.concatenate(wrong)
    return wrong.mean(), np.sqrt(wrong.mean() * (1 - wrong.mean()) / len(wrong))


@pytest.mark.parametrize("m", [1, 3, 20])
def test_predicted_error_is_that_of_a_simulated_prototype_learner(m):
    """Three classes of unequal size, shape and distance in 40 dimensions; .01 for the shape of the decision variable,
    a sum of some 20 products, which is taken for Gaussian."""
    rng = np.random.default_rng(m)
    y = np.repeat(np.arange(3), (90, 120, 150))
    scales = np.exp(0.4 * rng.standard_normal((3, 40))) * np.array([[0.8], [1.0], [1.3]])
    X = 0.45 * rng.standard_normal((3, 40))[y] + rng.standard_normal((360, 40)) * scales[y]
    error, spread = simulated_error(X, y, m, 4000, rng)
    assert 0.02 < error < 0.45
    assert value("few-shot", X, y, m=m)["value"] == pytest.approx(error, abs=4 * spread + 0.01)


def whitened(n, d, seed):
    z = np.random.default_rng(seed).standard_normal((n, d))
    return np.sqrt(n) * np.linalg.svd(z - z.mean(axis=0), full_matrices=False)[0]


@pytest.mark.parametrize("m", [1, 5])
def test_isotropic_classes_have_the_signal_to_noise_ratio_of_the_formula(m):
    """Covariances σ²I and ρ²I, distance Δ along an axis: by hand for both orders of the two classes."""
    d, sigma, rho, delta = 12, 0.8, 1.1, 2.0
    X = np.vstack([sigma * whitened(50, d, 0), rho * whitened(70, d, 1) + delta * np.eye(d)[0]])
    y = np.repeat([0, 1], (50, 70))
    found = value("few-shot", X, y, m=m)

    def snr(s, r):
        noise = delta**2 * s**2 + delta**2 * r**2 / m + d * (s**4 + s**2 * r**2) / m + d * (s**4 + r**4) / (2 * m**2)
        return 0.5 * (delta**2 + d * (r**2 - s**2) / m) / np.sqrt(noise)

    both = np.array([snr(sigma, rho), snr(rho, sigma)])
    assert found["snr"] == pytest.approx(both.mean(), rel=1e-10)
    assert found["value"] == pytest.approx(ndtr(-both).mean(), rel=1e-10)
    assert found["dimension"] == pytest.approx(d, rel=1e-10)
    assert found["signal"] == pytest.approx(np.mean([delta**2 / (d * s**2) for s in (sigma, rho)]), rel=1e-10)
    assert found["bias"] == pytest.approx(np.mean([rho**2 / sigma**2, sigma**2 / rho**2]) - 1, rel=1e-10)
    overlap = np.mean([delta**2 * s**2 / (d * s**2) ** 2 for s in (sigma, rho)])
    assert found["overlap"] == pytest.approx(overlap, rel=1e-10)


@pytest.mark.parametrize(("n", "d"), [(8, 30), (40, 6)])
def test_wide_and_narrow_classes_take_the_same_formula(n, d):
    """Against covariance matrices written out, with more units than stimuli and the other way round; m = 3."""
    X, y = gaussian_classes(3, n, d)
    means = [X[y == c].mean(axis=0) for c in range(3)]
    covs = [np.cov(X[y == c].T, bias=True) for c in range(3)]
    snr = []
    for a in range(3):
        for b in range(3):
            if a != b:
                A, B, D = covs[a], covs[b], means[a] - means[b]
                noise = D @ A @ D + D @ B @ D / 3 + (np.trace(A @ A) + np.trace(A @ B)) / 3
                noise += (np.trace(A @ A) + np.trace(B @ B)) / 18
                snr.append(0.5 * (D @ D + (np.trace(B) - np.trace(A)) / 3) / np.sqrt(noise))
    assert value("few-shot", X, y, m=3)["snr"] == pytest.approx(np.mean(snr), rel=1e-10)


def test_more_examples_help():
    X, y = gaussian_classes(4, 50, 30, spread=2.0)
    errors = [value("few-shot", X, y, m=m)["value"] for m in (1, 2, 5, 20, 1000)]
    assert errors == sorted(errors, reverse=True)


def test_classes_without_extent_have_no_signal_to_noise_ratio():
    X, y = gaussian_classes(3, 10, 5)
    assert "class 2" in value("few-shot", X[:21], y[:21]).reason
    X[y == 1] = 0.3
    assert "class 1 (in sorted order) does not vary" in value("few-shot", X, y).reason
    assert "only one" in value("few-shot", X, np.zeros(30)).reason
