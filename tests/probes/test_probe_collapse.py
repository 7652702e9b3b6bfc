"""Neural collapse: a synthetic simplex gives zeros, Gaussian clusters give closed forms. 1e-10 is rounding."""

import numpy as np
import pytest

from probes import PROBES, ProbeError, Undefined


def value(name, X, *needs):
    return PROBES[name]().value(X, *needs)


def clusters(means, sizes, sigma, seed=0):
    """Classes with exactly these means and, inside each, exactly the covariance σ²I."""
    rng = np.random.default_rng(seed)
    rows = []
    for mean, n in zip(means, sizes, strict=True):
        z = rng.standard_normal((n, means.shape[1]))
        u = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)[0]
        rows.append(mean + sigma * np.sqrt(n) * u @ np.linalg.qr(rng.standard_normal((u.shape[1],) * 2))[0])
    return np.vstack(rows), np.repeat(np.arange(len(means)), sizes)


def simplex(C=5, d=12):
    """Corners of a simplex in any position, each class a single point."""
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((d, d)))[0]
    corners = (np.eye(C) - 1.0 / C) @ Q[:C]
    y = np.arange(40) % C
    return 3.0 * corners[y] + 7.0, y, corners.T


def test_a_synthetic_simplex_is_collapsed_in_every_sense():
    X, y, W = simplex()
    assert value("nc1", X, y) == pytest.approx({"value": 0.0, "rank": 4.0, "ratio": 0.0}, abs=1e-10)
    assert value("nc2", X, y) == pytest.approx({"value": 0.0, "equinorm": 0.0, "equiangularity": 0.0}, abs=1e-10)
    assert value("nc3", X, y, 0.2 * W) == pytest.approx(0.0, abs=1e-10)
    found = value("nc4", X, y, y)
    assert found == {"value": 0.0, "centre_accuracy": 1.0, "network_accuracy": 1.0}


@pytest.mark.parametrize("sizes", [(30, 30, 30, 30), (20, 50, 35, 90)])
def test_variability_of_isotropic_clusters_at_orthogonal_means(sizes):
    """Means m·e_c: Σ_B has C − 1 eigenvalues m²/C and Σ_W = σ²I: NC1 = (C−1)σ²/m², ratio = dσ²C/((C−1)m²)."""
    C, d, m, sigma = 4, 9, 2.5, 0.7
    X, y = clusters(m * np.eye(C, d), sizes, sigma)
    found = value("nc1", X, y)
    assert found["value"] == pytest.approx((C - 1) * sigma**2 / m**2, rel=1e-10)
    assert found["ratio"] == pytest.approx(d * sigma**2 * C / ((C - 1) * m**2), rel=1e-10)
    assert found["rank"] == C - 1


@pytest.mark.parametrize(("C", "d"), [(3, 10), (6, 4), (2, 1)])
def test_variability_equals_its_definition_with_a_truncated_pseudo_inverse(C, d):
    rng = np.random.default_rng(C)
    y = np.repeat(np.arange(C), 8)
    X = rng.standard_normal((C, d))[y] + rng.standard_normal((len(y), d))
    means = np.stack([X[y == c].mean(axis=0) for c in range(C)])
    within, between = np.cov((X - means[y]).T, bias=True), np.cov(means.T, bias=True)
    inverse = np.linalg.pinv(np.atleast_2d(between), rcond=1e-10)
    expected = np.trace(np.atleast_2d(within) @ inverse) / C
    found = value("nc1", X, y)
    assert found["value"] == pytest.approx(expected, rel=1e-10)
    assert found["rank"] == min(C - 1, d)


def test_labels_without_meaning_pass_for_collapse_when_units_are_many():
    """Noise at d ≫ n: class means are orthogonal with ‖·‖² = σ²d/n_c, residuals have variance σ²(1 − 1/n_c) along
    them, so NC1 = (C−1)(n_c−1)/d. 5 %: lengths of the means spread by √(2/d) = 1 %, their cosines by as much."""
    C, n_c, d = 4, 6, 20000
    X = np.random.default_rng(0).standard_normal((C * n_c, d))
    found = value("nc1", X, np.arange(C * n_c) % C)["value"]
    assert found == pytest.approx((C - 1) * (n_c - 1) / d, rel=0.05)


@pytest.mark.parametrize("name", ["nc1", "nc2", "nc3"])
def test_every_class_counts_the_same(name):
    """Repeating one class changes its share of the stimuli and nothing else."""
    rng = np.random.default_rng(2)
    y = np.arange(60) % 3
    X = rng.standard_normal((3, 5))[y] + rng.standard_normal((60, 5))
    W = [rng.standard_normal((5, 3))] if name == "nc3" else []
    more = np.concatenate([np.arange(60), np.flatnonzero(y == 1), np.flatnonzero(y == 1)])
    assert value(name, X[more], y[more], *W) == pytest.approx(value(name, X, y, *W), rel=1e-10)


def test_angles_of_a_square():
    """Means at the corners of a square: cosines 0, 0, −1 from each corner; the mean |cos + 1/3| is 4/9."""
    means = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    X, y = clusters(means, (9, 9, 9, 9), 0.5)
    expected = {"value": 4 / 9, "equinorm": 0.0, "equiangularity": np.sqrt(2) / 3}
    assert value("nc2", X, y) == pytest.approx(expected, abs=1e-10)


def test_lengths_are_their_own_number():
    """Orthogonal means of lengths 1, 1, 1, 2 about their own mean, by direct evaluation."""
    means = np.diag([1.0, 1.0, 1.0, 2.0])
    X, y = clusters(means, (9, 9, 9, 9), 0.5)
    length = np.linalg.norm(means - means.mean(axis=0), axis=1)
    assert value("nc2", X, y)["equinorm"] == pytest.approx(length.std() / length.mean(), rel=1e-10)


def test_two_classes_have_no_angle_to_converge_to():
    X, y = clusters(np.eye(2, 5), (9, 9), 0.5)
    assert "at least 3 classes" in value("nc2", X, y).reason


def test_a_class_in_the_middle_has_no_angle():
    X, y = clusters(np.array([[-1.0, 0], [0, 0], [1.0, 0]]), (9, 9, 9), 0.1)
    assert "the mean of class 1" in value("nc2", X, y).reason


@pytest.mark.parametrize(
    ("name", "extra"), [("nc1", ()), ("nc2", ()), ("nc3", (np.ones((5, 3)),)), ("nc4", ("labels",))]
)
def test_classes_with_the_same_mean_have_no_geometry(name, extra):
    y = np.arange(30) % 3
    X = np.random.default_rng(0).standard_normal((10, 5))[np.arange(30) // 3] + 4.0
    extra = [y if e == "labels" else e for e in extra] if name == "nc4" else extra
    assert "all class means are the same" in value(name, X, y, *extra).reason
    assert "only one" in value(name, X, np.zeros(30), *(np.zeros(30) if name == "nc4" else e for e in extra)).reason


def test_self_duality_of_equal_opposite_and_orthogonal_readouts():
    rng = np.random.default_rng(3)
    y = np.arange(40) % 4
    X = rng.standard_normal((4, 6))[y] + 0.3 * rng.standard_normal((40, 6))
    means = np.stack([X[y == c].mean(axis=0) for c in range(4)])
    M = (means - means.mean(axis=0)).T
    assert value("nc3", X, y, 1e120 * M) == pytest.approx(0.0, abs=1e-10)
    assert value("nc3", X, y, -0.01 * M) == pytest.approx(4.0, abs=1e-10)
    W = rng.standard_normal(M.shape)
    W -= M * (W * M).sum() / (M**2).sum()
    assert value("nc3", X, y, W) == pytest.approx(2.0, abs=1e-10)
    both = W / np.linalg.norm(W) + M / np.linalg.norm(M)
    assert value("nc3", X, y, both) == pytest.approx(2.0 - np.sqrt(2.0), abs=1e-10)


def test_self_duality_needs_a_readout_of_the_right_shape():
    X, y, W = simplex()
    assert "no linear readout" in value("nc3", X, y, None).reason
    assert "all zero" in value("nc3", X, y, 0 * W).reason
    for bad in (W.T, W[:, :4]):
        with pytest.raises(ProbeError, match=r"12 units and 5 classes need \(12, 5\)"):
            value("nc3", X, y, bad)
    with pytest.raises(ProbeError, match="the readout has 1 non-finite"):
        value("nc3", X, y, np.where(np.arange(W.size).reshape(W.shape) == 3, np.nan, W))


def test_disagreement_with_the_nearest_class_centre_is_counted():
    """On a line with class means −2.5 and 2.5: the fourth stimulus lies on the other side, the network errs on two."""
    X = np.array([[-4.0], [-4.0], [-4.0], [2.0], [1.0], [3.0], [3.0], [3.0]])
    y = np.array(["a"] * 4 + ["b"] * 4)
    network = np.array(["a", "a", "b", "a", "b", "b", "b", "z"])
    found = value("nc4", X, y, network)
    assert found == {"value": 3 / 8, "centre_accuracy": 7 / 8, "network_accuracy": 6 / 8}


def test_a_stimulus_between_two_centres_goes_to_the_first_class():
    X = np.array([[-1.0], [1.0], [-1.0], [1.0], [0.0], [0.0]])
    y = np.array([0, 1, 0, 1, 0, 1])
    assert value("nc4", X, y, np.zeros(6))["value"] == 2 / 6


def test_predictions_must_name_classes_as_labels_do():
    X, y, _ = simplex()
    with pytest.raises(ProbeError, match="no prediction is a class of labels"):
        value("nc4", X, y, np.full(40, "dog"))
    with pytest.raises(ProbeError, match=r"predictions have shape \(39,\)"):
        value("nc4", X, y, y[:39])
    with pytest.raises(ProbeError, match="predictions are needed"):
        value("nc4", X, y, None)


def test_reasons_do_not_depend_on_which_measure_is_asked():
    y = np.arange(30) % 3
    reasons = {value(n, np.ones((30, 5)), y, *e).reason for n, e in (("nc1", ()), ("nc3", (None,)), ("nc4", (y,)))}
    assert len(reasons) == 1
    assert isinstance(value("nc2", np.ones((30, 5)), y), Undefined)


def test_one_stimulus_in_every_class_says_nothing_about_collapse():
    found = PROBES["nc1"]().value(np.random.default_rng(0).standard_normal((12, 5)), np.arange(12))
    assert isinstance(found, Undefined)
    assert "every class has one stimulus" in found.reason
