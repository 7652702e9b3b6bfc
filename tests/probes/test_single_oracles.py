"""Single probes beside routines of scikit-learn and scipy, on data without symmetry.

Tolerance 1e-9 relative unless said: both sides evaluate one formula in float64.
"""

import warnings

import numpy as np
import pytest
from scipy.stats import entropy, linregress

from probes import PROBES
from probes.manifolds import _weights


def package(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a package says while it is imported is its own affair
        return pytest.importorskip(name)


def value(name, X, *needs, **settings):
    return PROBES[name](**settings).value(X, *needs)


def cloud(n, d, seed=0):
    """Skewed, off the origin, with a spectrum that falls."""
    rng = np.random.default_rng(seed)
    return np.exp(0.5 * rng.standard_normal((n, d))) @ rng.standard_normal((d, d)) * np.logspace(0, -1, d) + 3.0


def labelled(n=90, d=7, C=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, C, n)
    return rng.standard_normal((C, d))[y] + rng.gamma(1.0, size=(n, d)), y


@pytest.mark.parametrize(("n", "d"), [(200, 30), (25, 60), (40, 3)])
def test_ranks_are_those_of_sklearns_variances_and_scipys_entropy(n, d):
    X = cloud(n, d)
    variances = package("sklearn.decomposition").PCA(min(n - 1, d), svd_solver="full").fit(X).explained_variance_
    assert value("effective-rank", X) == pytest.approx(np.exp(entropy(np.sqrt(variances))), rel=1e-9)
    assert value("eigenvalue-effective-rank", X) == pytest.approx(np.exp(entropy(variances)), rel=1e-9)
    assert value("stable-rank", X) == pytest.approx(variances.sum() / variances[0], rel=1e-9)
    assert value("participation-ratio", X) == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(200, 30), (25, 60)])
def test_participation_ratio_is_the_uncorrected_one_of_dimensionality(n, d):
    """That package centres fourth powers algebraically, which costs digits at an offset."""
    X = cloud(n, d)
    expected = package("dimensionality").participation_ratio(X - X.mean(axis=0), return_all=True)["naive"]
    assert value("participation-ratio", X) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("low", "high"), [(1, 3), (5, 20), (10, 29)])
def test_exponent_and_its_fit_are_scipys_regression_on_sklearns_variances(low, high):
    X = cloud(200, 30)
    variances = package("sklearn.decomposition").PCA(svd_solver="full").fit(X).explained_variance_
    i = np.arange(low, high + 1)
    fit = linregress(np.log(i), np.log(variances[low - 1 : high]))
    found = value("spectrum-exponent", X, low=low, high=high)
    assert found["value"] == pytest.approx(-fit.slope, rel=1e-9)
    assert found["r2"] == pytest.approx(fit.rvalue**2, rel=1e-9)


@pytest.mark.parametrize(("n", "d", "C"), [(90, 7, 4), (60, 40, 5), (50, 2, 6)])
def test_collapse_equals_its_definitions_with_sklearns_class_means(n, d, C):
    """Class means by sklearn, the pseudo-inverse by scipy; wide, narrow, and with fewer units than classes."""
    from scipy.linalg import pinvh

    X, y = labelled(n, d, C)
    neighbors = package("sklearn.neighbors").NearestCentroid().fit(X, y)
    means = neighbors.centroids_
    about = means - means.mean(axis=0)
    within = sum(np.cov(X[y == c].T, bias=True) for c in range(C)) / C
    between = about.T @ about / C
    found = value("nc1", X, y)
    assert found["value"] == pytest.approx(np.trace(within @ pinvh(between, rtol=1e-10)) / C, rel=1e-9)
    assert found["ratio"] == pytest.approx(np.trace(within) / np.trace(between), rel=1e-9)

    cosine = package("sklearn.metrics.pairwise").cosine_similarity(about)[~np.eye(C, dtype=bool)]
    length = np.linalg.norm(about, axis=1)
    expected = {
        "value": np.abs(cosine + 1 / (C - 1)).mean(),
        "equinorm": length.std() / length.mean(),
        "equiangularity": cosine.std(),
    }
    assert value("nc2", X, y) == pytest.approx(expected, rel=1e-9)

    W = np.random.default_rng(1).standard_normal((d, C)) + 0.3
    cosine = (W * about.T).sum() / (np.linalg.norm(W) * np.linalg.norm(about))
    assert value("nc3", X, y, W) == pytest.approx(2 - 2 * cosine, rel=1e-9)

    answers = np.random.default_rng(2).integers(0, C, n)
    centre = neighbors.predict(X)
    expected = {"value": (centre != answers).mean(), "centre_accuracy": (centre == y).mean()}
    assert value("nc4", X, y, answers) == {**expected, "network_accuracy": (answers == y).mean()}


def test_spread_is_that_of_sklearns_cosines():
    pairwise = package("sklearn.metrics.pairwise")
    X, y = labelled()
    cosine = pairwise.cosine_similarity(X)
    squared = pairwise.euclidean_distances(package("sklearn.preprocessing").normalize(X), squared=True)
    upper = np.triu(np.ones(squared.shape, dtype=bool), 1)
    alike = upper & (y[:, None] == y)
    assert value("anisotropy", X)["value"] == pytest.approx(cosine[upper].mean(), rel=1e-9)
    assert value("uniformity", X)["value"] == pytest.approx(np.log(np.exp(-2 * squared[upper]).mean()), rel=1e-9)
    assert value("alignment", X, y)["value"] == pytest.approx(squared[alike].mean(), rel=1e-9)


def test_selectivity_is_that_of_pandas_class_means():
    import pandas as pd

    X, y = labelled()
    X[:, 2] -= 1.5  # goes below zero
    lifted = X - np.minimum(X.min(axis=0), 0.0)
    means = pd.DataFrame(lifted).groupby(y).mean().to_numpy()
    index = []
    for unit in means.T:
        best = unit.argmax()
        rest = np.delete(unit, best).mean()
        index.append((unit[best] - rest) / (unit[best] + rest))
    assert value("selectivity", X, y)["value"] == pytest.approx(np.mean(index), rel=1e-9)


@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_silence_is_counted_as_by_hand_on_random_activations(threshold):
    X = np.maximum(np.random.default_rng(0).standard_normal((30, 12)) - 0.5, 0.0) * (np.arange(12) % 5 > 0)
    rows = X.tolist()
    silent = [[abs(entry) <= threshold for entry in row] for row in rows]
    assert value("sparsity", X, threshold=threshold) == sum(map(sum, silent)) / 360
    dead = sum(all(column) for column in zip(*silent, strict=True))
    assert dead >= 3
    assert value("dead-units", X, threshold=threshold)["value"] == dead / 12


# Capacities are means over drawn vectors; with the vectors given, the rest of their definitions is exact.


def polar(S):
    """The isometry of S = (SSᵀ)^½ U: what carries one number per stimulus into the space that the stimuli span."""
    w, V = np.linalg.eigh(S @ S.T)
    keep = w > 1e-10 * w.max()
    return (V[:, keep] / np.sqrt(w[keep])) @ V[:, keep].T @ S


def nearest_in_cone(cone, t):
    """By bounded least squares, in place of the non-negative solver of the probes."""
    from scipy.optimize import lsq_linear

    weight = lsq_linear(cone.T, t, bounds=(0, np.inf), method="bvls", tol=1e-14).x
    return weight, weight @ cone


def test_projections_on_a_cone_obey_the_conditions_of_kuhn_and_tucker():
    """p is nearest to t in the cone of s if and only if p·(t − p) = 0 and s·(t − p) ≤ 0 for every s."""
    rng = np.random.default_rng(0)
    for n, d in ((5, 9), (9, 5), (30, 4)):
        cone, t = rng.standard_normal((n, d)) + 0.7, rng.standard_normal(d)
        weight = _weights(cone, t)
        p = weight @ cone
        assert (weight >= 0).all()
        assert abs(p @ (t - p)) < 1e-12
        assert (cone @ (t - p)).max() < 1e-12


def test_capacity_is_its_definition_in_the_full_space_with_another_solver():
    C, n, d, samples = 3, 6, 9, 12
    X, y = np.random.default_rng(0).standard_normal((C * n, d)), np.repeat(np.arange(C), n)
    X += 2 * np.random.default_rng(1).standard_normal((C, d))[y]
    rng = np.random.default_rng(0)
    squares, radius, dimension = [], [], []
    for c in range(C):
        centre = X[y == c].mean(axis=0)
        S = (X[y == c] - centre) / np.linalg.norm(centre - X.mean(axis=0))
        cone = np.hstack([S, np.ones((n, 1))])
        g = rng.standard_normal((samples, n + 1))
        T = np.hstack([g[:, :-1] @ polar(S), g[:, -1:]])
        found = [nearest_in_cone(cone, t) for t in T]
        squares.append([p @ p for _, p in found])
        anchors = [
            w @ S / w.sum() if w.sum() > 1e-9 else S[(cone @ t).argmax()] for (w, _), t in zip(found, T, strict=True)
        ]
        axes = np.array(anchors) - np.mean(anchors, axis=0)
        radius.append(np.sqrt((axes**2).sum() / (samples - 1)))
        dimension.append(np.mean([(a @ t[:-1] / np.linalg.norm(a)) ** 2 for a, t in zip(axes, T, strict=True)]))
    per_draw = np.mean(squares, axis=0)
    ours = value("capacity", X, y, samples=samples)
    assert ours["value"] == pytest.approx(1 / per_draw.mean(), rel=1e-9)
    error = per_draw.std(ddof=1) / np.sqrt(samples) / per_draw.mean() ** 2
    assert ours["standard_error"] == pytest.approx(error, rel=1e-9)
    assert ours["radius"] == pytest.approx(np.mean(radius), rel=1e-9)
    assert ours["dimension"] == pytest.approx(np.mean(dimension), rel=1e-9)


def test_glue_is_its_definition_in_the_full_space_with_another_solver():
    C, n, d, samples = 3, 4, 15, 12
    X, y = np.random.default_rng(0).standard_normal((C * n, d)), np.repeat(np.arange(C), n)
    X += 2 * np.random.default_rng(1).standard_normal((C, d))[y]
    rng = np.random.default_rng(0)
    T = rng.standard_normal((samples, C * n)) @ polar(X)
    sides = rng.choice([-1.0, 1.0], (samples, C))
    squared, anchors = [], np.empty((samples, C, d))
    for i, (t, side) in enumerate(zip(T, sides, strict=True)):
        cone = X * side[y][:, None]
        w, p = nearest_in_cone(cone, t)
        squared.append(p @ p)
        for c in range(C):
            of_c, hull = w[y == c], X[y == c]
            first = hull[(cone[y == c] @ (t - p)).argmax()]
            anchors[i, c] = of_c @ hull / of_c.sum() if of_c.sum() > 1e-9 else first
    centres = anchors.mean(axis=0)
    axes = anchors - centres
    whole, apart = [], []
    for S1, t in zip(axes, T, strict=True):
        G = S1 @ S1.T
        whole.append((S1 @ t) @ np.linalg.pinv(G) @ (S1 @ t))
        apart.append((S1 @ t) @ np.linalg.pinv(G + centres @ centres.T) @ (S1 @ t))
    ours = value("glue", X, y, samples=samples)
    assert ours["value"] == pytest.approx(C / np.mean(squared), rel=1e-9)
    assert ours["dimension"] == pytest.approx(np.mean(whole) / C, rel=1e-9)
    assert ours["radius"] == pytest.approx(np.sqrt(np.mean(apart) / (np.mean(whole) - np.mean(apart))), rel=1e-9)

    def unlike(A, B):
        cosine = package("sklearn.metrics.pairwise").cosine_similarity
        return np.mean([np.abs(cosine(a, b)[~np.eye(C, dtype=bool)]) for a, b in zip(A, B, strict=True)])

    still = np.broadcast_to(centres, axes.shape)
    assert ours["centre_alignment"] == pytest.approx(unlike(still, still), rel=1e-9)
    assert ours["axis_alignment"] == pytest.approx(unlike(axes, axes), rel=1e-9)
    assert ours["centre_axis_alignment"] == pytest.approx(unlike(still, axes), rel=1e-9)
