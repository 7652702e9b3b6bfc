"""Intrinsic dimensions and the debiased participation ratio: other packages, points by hand, known manifolds.

Two float64 evaluations of one definition agree to 1e-9; printed constants hold to half a unit of the last digit.
"""

import itertools

import numpy as np
import pytest

from probes import PROBES, Undefined
from probes.nearest import nearest_rows

FIXED = np.random.default_rng(0).standard_normal((200, 30))


@pytest.fixture(scope="module")
def skdim():
    return pytest.importorskip("skdim")


def value(name, X, **settings):
    return PROBES[name](**settings).value(X)


def test_the_fixed_input_gives_the_dimensions_that_scikit_dimension_gives():
    assert value("twonn", FIXED)["value"] == pytest.approx(23.664313, abs=5e-7)
    assert value("mle-dimension", FIXED, k=20)["value"] == pytest.approx(15.557231, abs=5e-7)


def test_the_fixed_input_gives_the_row_corrected_participation_ratio_and_the_truth_is_30():
    assert value("debiased-participation-ratio", FIXED) == pytest.approx(29.7917599287, abs=1e-9)


def cloud(kind):
    rng = np.random.default_rng(1)
    if kind == "narrow":
        return rng.standard_normal((150, 3)) + 100.0
    if kind == "skewed":
        return np.exp(rng.standard_normal((120, 40)))
    if kind == "wide":
        return rng.standard_normal((60, 4)) @ rng.standard_normal((4, 90))
    return rng.standard_normal((kind, 30))


@pytest.mark.parametrize("kind", ["narrow", "skewed", "wide"])
def test_dimensions_equal_scikit_dimension(skdim, kind):
    X = cloud(kind)
    assert value("twonn", X)["value"] == pytest.approx(skdim.id.TwoNN().fit(X).dimension_, rel=1e-9)
    other = skdim.id.TwoNN(discard_fraction=0.35).fit(X).dimension_
    assert value("twonn", X, discard=0.35)["value"] == pytest.approx(other, rel=1e-9)
    for k in (2, 7, 20):
        other = skdim.id.MLE().fit(X, n_neighbors=k).dimension_
        assert value("mle-dimension", X, k=k)["value"] == pytest.approx(other, rel=1e-9)


@pytest.mark.parametrize("kind", ["narrow", "skewed", "wide", 4, 7])
def test_debiased_participation_ratio_equals_the_row_form_of_its_authors(kind):
    """They sum raw fourth powers, which an offset of 100 costs ten digits: they get the rows without it."""
    dimensionality = pytest.importorskip("dimensionality")
    X = cloud(kind)
    expected = dimensionality.participation_ratio(X - np.round(X.mean()), return_all=True)["row"]
    ours = value("debiased-participation-ratio", X)
    if isinstance(ours, Undefined):
        assert expected < 0
    else:
        assert ours == pytest.approx(expected, rel=1e-9)


def test_debiased_participation_ratio_is_the_ratio_of_averages_over_distinct_stimuli():
    X = np.random.default_rng(3).gamma(1.0, size=(7, 3))
    T, Q = [], []
    for i, j, k, l in itertools.permutations(range(7), 4):
        a, b = X[i] - X[j], X[k] - X[l]
        T.append((a @ a) * (b @ b) / 4)
        Q.append((a @ b) ** 2 / 4)
    assert value("debiased-participation-ratio", X) == pytest.approx(np.mean(T) / np.mean(Q), rel=1e-9)


@pytest.mark.parametrize("n", [15, 40, 160])
def test_debiased_participation_ratio_does_not_depend_on_the_number_of_stimuli(n):
    """Gaussian features with λ_i = 1/i, d = 25: the truth is (Σ1/i)²/Σ1/i². The mean of 300 draws is allowed 4 standard
    errors, and 8/n of the truth for the bias of a ratio; the uncorrected one is far outside that."""
    lam = 1.0 / np.arange(1, 26)
    truth = lam.sum() ** 2 / (lam**2).sum()
    draws = [np.random.default_rng([n, s]).standard_normal((n, 25)) * np.sqrt(lam) for s in range(300)]
    found = np.array([value("debiased-participation-ratio", X + 3.0) for X in draws])
    plain = np.array([value("participation-ratio", X) for X in draws])
    assert found.mean() == pytest.approx(truth, abs=4 * found.std() / np.sqrt(300) + truth * 1.2 / n)
    assert plain.mean() < truth / (1 + truth / n) * 1.1  # 1/PR ≈ 1/n + 1/truth
    assert plain.mean() < found.mean()


@pytest.mark.parametrize("n", [2, 3])
def test_debiased_participation_ratio_needs_four_stimuli(n):
    assert f"n = {n}" in value("debiased-participation-ratio", FIXED[:n]).reason


def test_equally_distant_stimuli_leave_no_debiased_participation_ratio():
    """One-hot rows: differences without a stimulus in common are orthogonal, so the estimate of tr Σ² is exactly 0."""
    assert "not above 0" in value("debiased-participation-ratio", np.eye(8)).reason


def test_two_nearest_neighbours_by_hand():
    """Points 0, 1, 3, 7 on a line: (r₁, r₂) = (1, 3), (1, 2), (2, 3), (4, 6), so μ = 1.5, 1.5, 2 and 3 is discarded."""
    x = np.log([1.5, 1.5, 2.0])
    y = -np.log([3 / 4, 2 / 4, 1 / 4])
    found = value("twonn", np.array([[0.0], [1.0], [3.0], [7.0]]))
    assert found == {"value": pytest.approx(x @ y / (x @ x), rel=1e-12), "used": 4.0, "repeats": 0.0}


def test_maximum_likelihood_by_hand():
    """The same points: with k = 2 the inverse is the mean of log μ; with k = 3 of [log(T₃/T₁) + log(T₃/T₂)]/2."""
    X = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert value("mle-dimension", X, k=2)["value"] == pytest.approx(4 / np.log(3 * 2 * 1.5 * 1.5), rel=1e-12)
    logs = np.log([(7 / 1) * (7 / 3), (6 / 1) * (6 / 2), (4 / 2) * (4 / 3), (7 / 4) * (7 / 6)])
    assert value("mle-dimension", X, k=3)["value"] == pytest.approx(4 / (logs.sum() / 2), rel=1e-12)


@pytest.mark.parametrize("name", ["twonn", "mle-dimension"])
def test_repeated_stimuli_are_left_out_and_counted(name):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((80, 5))
    alone = value(name, X)
    doubled = value(name, np.vstack([X, X[:30], X[:10], X[:10]]))
    assert (alone["used"], alone["repeats"]) == (80.0, 0.0)
    assert (doubled["used"], doubled["repeats"]) == (80.0, 50.0)
    assert doubled["value"] == pytest.approx(alone["value"], rel=1e-9)
    rotated = np.vstack([X, X[:30]]) @ np.linalg.qr(rng.standard_normal((5, 5)))[0]
    assert value(name, rotated)["repeats"] == 30.0  # a rotation may round two copies differently


@pytest.mark.parametrize(("name", "enough"), [("twonn", 3), ("mle-dimension", 21)])
def test_too_few_distinct_stimuli_have_no_dimension(name, enough):
    for n in (1, 2, enough - 1):
        reason = value(name, np.eye(30)[:n]).reason
        assert f"at least {enough} distinct stimuli, and there are {n}" in reason or (n == 1 and "one row" in reason)
    assert "there are 2" in value(name, np.tile([[0.0, 1.0], [1.0, 0.0]], (40, 1))).reason
    assert isinstance(value(name, FIXED[:enough]), dict)


@pytest.mark.parametrize("name", ["twonn", "mle-dimension"])
def test_equally_distant_stimuli_have_no_dimension(name):
    assert "far" in value(name, 0.3 * np.eye(40)).reason


def circle(n, rng):
    angle = 2 * np.pi * rng.random(n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_tori_have_the_dimension_of_their_circles(d):
    """Products of d circles have no edge and no curvature inside. log μ is exponential with rate d: over 1000 stimuli
    its mean has relative error .03; .1 leaves room for the curvature outside at the distance of 20 neighbours."""
    rng = np.random.default_rng(d)
    X = np.hstack([circle(1000, rng) for _ in range(d)]) @ np.linalg.qr(rng.standard_normal((50, 50)))[0][: 2 * d]
    assert value("twonn", X)["value"] == pytest.approx(d, rel=0.1)
    assert value("mle-dimension", X)["value"] == pytest.approx(d, rel=0.1)


def test_ten_dimensions_read_as_eight():
    """The trap on the card: in a cube of dimension 10 with 2000 stimuli other codes measured 7.9 and 8.1."""
    X = np.random.default_rng(0).random((2000, 10))
    assert value("twonn", X)["value"] == pytest.approx(7.9, abs=0.8)  # one draw; the fit spreads by about 4 %
    assert value("mle-dimension", X)["value"] == pytest.approx(8.1, abs=0.2)


def test_nearest_rows_are_exact_however_near_they_are(monkeypatch):
    """Clusters of spread 1e-9 at distance 1, where ‖x‖² + ‖y‖² − 2xy has no digit left; in blocks of a few rows."""
    monkeypatch.setattr("probes.nearest.BLOCK", 500)
    rng = np.random.default_rng(5)
    c = rng.standard_normal((6, 4))[np.arange(90) % 6] + 1e-9 * rng.standard_normal((90, 4))
    distance, index = nearest_rows(c, 5)
    true = np.linalg.norm(c[:, None] - c, axis=2)
    np.fill_diagonal(true, np.inf)
    # Distances of 1e-9 that differ by less than 1e-12 may change places.
    np.testing.assert_allclose(np.sort(distance, axis=1), np.sort(true, axis=1)[:, :5], atol=1e-12)
    np.testing.assert_allclose(distance, np.take_along_axis(true, index, axis=1), rtol=1e-12)
    assert (index != np.arange(90)[:, None]).all()


def test_tied_rows_go_to_the_lower_one():
    _, index = nearest_rows(np.array([[0.0], [0.5], [0.5], [-0.5], [0.5]]), 3)
    assert index.tolist() == [[1, 2, 3], [2, 4, 0], [1, 4, 0], [0, 1, 2], [1, 2, 0]]
