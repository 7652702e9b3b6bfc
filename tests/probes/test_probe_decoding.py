"""Linear and neighbour probes against hand-made worlds and independent classifiers and regressions."""

import numpy as np
import pytest

from probes import PROBES, ProbeError
from probes.decoding import stratified_folds


def world(n=120, d=15, classes=3, signal=0.7, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return signal * rng.standard_normal((classes, d))[y] + rng.standard_normal((n, d)), y


def test_separable_classes_are_decoded_perfectly():
    X, y = world(signal=20.0)
    result = PROBES["linear-probe"]().value(X, y)
    assert result["value"] == 1.0
    assert result["chance"] == np.bincount(y).max() / len(y)


def test_labels_without_relation_are_decoded_at_chance():
    """4 balanced classes, 400 stimuli, 10 draws: the mean accuracy has standard error about .007; ±.03."""
    accuracies = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        accuracies.append(
            PROBES["linear-probe"](ridge=1.0).value(rng.standard_normal((400, 10)), np.arange(400) % 4)["value"]
        )
    assert np.mean(accuracies) == pytest.approx(0.25, abs=0.03)


def test_labels_may_have_any_names():
    X, y = world()
    names = np.array(["cat", "dog", "eel"])[y]
    assert PROBES["linear-probe"]().value(X, names) == PROBES["linear-probe"]().value(X, y)


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_folds_are_stratified_even_and_deterministic(folds):
    y = np.random.default_rng(0).integers(0, 4, 101)
    fold = stratified_folds(y, folds)
    assert np.array_equal(fold, stratified_folds(y.copy(), folds))
    counts = np.array([np.bincount(fold[y == c], minlength=folds) for c in range(4)])
    assert (np.ptp(counts, axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= 1


def test_constant_units_are_left_out():
    X, y = world()
    padded = np.hstack([X, np.full((len(X), 2), 3.0), np.zeros((len(X), 1))])
    assert PROBES["linear-probe"]().value(padded, y) == PROBES["linear-probe"]().value(X, y)


def training_sets(X, y, folds):
    fold = stratified_folds(y, folds)
    for f in range(folds):
        train = fold != f
        mean, sd = X[train].mean(axis=0), X[train].std(axis=0)
        yield train, (X - mean) / sd


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("d", [5, 15, 150])
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_accuracy_equals_an_independent_ridge_classifier(classes, d, ridge):
    """The same objective on the same folds: predictions may differ only at ties, which continuous data do not have."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = world(n=130, d=d, classes=classes)
    correct = 0
    for train, Z in training_sets(X, y, 5):
        model = linear_model.RidgeClassifier(alpha=ridge * train.sum()).fit(Z[train], y[train])
        correct += (model.predict(Z[~train]) == y[~train]).sum()
    assert PROBES["linear-probe"](ridge=ridge).value(X, y)["value"] == correct / len(y)


@pytest.mark.parametrize("d", [15, 60])
def test_strength_is_the_one_that_leave_one_out_prefers(d):
    """An independent leave-one-out ridge, refitted for every left-out stimulus, chooses the same strengths."""
    X, y = world(n=60, d=d)
    ridges = tuple(np.logspace(-2, 1, 31))  # fine, so that a slightly wrong error would choose another one
    log_chosen = []
    for train, Z in training_sets(X, y, 3):
        Zt, T = Z[train], np.eye(3)[y[train]]
        n = len(Zt)
        errors = []
        for ridge in ridges:
            error = 0.0
            for i in range(n):
                keep = np.arange(n) != i
                m, b = Zt[keep].mean(axis=0), T[keep].mean(axis=0)
                A = Zt[keep] - m
                W = np.linalg.solve(A.T @ A + ridge * n * np.eye(d), A.T @ (T[keep] - b))
                error += ((T[i] - b - (Zt[i] - m) @ W) ** 2).sum()
            errors.append(error)
        log_chosen.append(np.log(ridges[int(np.argmin(errors))]))
    result = PROBES["linear-probe"](folds=3, ridge=ridges).value(X, y)
    assert np.log(result["ridge"]) == pytest.approx(np.mean(log_chosen), abs=1e-9)


@pytest.mark.parametrize("d", [4, 60])
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_explained_share_equals_an_independent_ridge_regression(d, ridge):
    """The same objective on the same folds: two float64 solutions of one linear system agree to 1e-9."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(d)
    X = rng.standard_normal((70, d)) * np.exp(rng.standard_normal(d))
    factor = X[:, 0] + 0.3 * X[:, 1] ** 2 + rng.standard_normal(70) + 5.0
    wrong = total = 0.0
    for train, Z in training_sets(X, factor, 5):
        model = linear_model.Ridge(alpha=ridge * train.sum()).fit(Z[train], factor[train])
        wrong += ((factor[~train] - model.predict(Z[~train])) ** 2).sum()
        total += ((factor[~train] - factor[train].mean()) ** 2).sum()
    found = PROBES["concept-probe"](ridge=ridge).value(X, factor)
    assert found["value"] == pytest.approx(1 - wrong / total, abs=1e-9)


def test_a_linear_factor_is_decoded_whatever_its_units_and_noise_explains_nothing():
    """ridge = 1e-4 leaves 1e-8 of the variance; 200 stimuli and 10 units of noise: R² = −d/n ± 4·√(2d)/n."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 10))
    factor = X @ rng.standard_normal(10)
    for scaled in (factor, 1e-200 * factor, 1e6 - 3.0 * factor):
        assert PROBES["concept-probe"](ridge=1e-4).value(X, scaled)["value"] == pytest.approx(1.0, abs=1e-6)
    noise = PROBES["concept-probe"](ridge=1e-4).value(X, rng.standard_normal(200))["value"]
    assert noise == pytest.approx(-10 / 200, abs=4 * np.sqrt(20) / 200)
    assert PROBES["concept-probe"]().value(X, rng.standard_normal(200))["ridge"] > 1.0  # it learns to answer the mean


def test_a_squared_factor_is_not_linear():
    """The trap on the card: x² is uncorrelated with x, and no line reads it."""
    X = np.random.default_rng(1).standard_normal((300, 3))
    assert PROBES["concept-probe"]().value(X, X[:, 0] ** 2)["value"] < 0.05


@pytest.mark.parametrize("factor", [np.arange(40).astype(str), np.r_[np.inf, np.zeros(39)], np.arange(40) + 0j])
def test_a_factor_that_is_no_number_is_refused(factor):
    with pytest.raises(ProbeError, match="use linear-probe"):
        PROBES["concept-probe"]().value(np.eye(40), factor)


def test_a_factor_that_does_not_vary_and_too_few_stimuli_have_no_value():
    X = np.random.default_rng(0).standard_normal((12, 3))
    assert "the factor is the same" in PROBES["concept-probe"]().value(X, np.full(12, 0.1)).reason
    assert "at least 14 stimuli" in PROBES["concept-probe"](folds=7).value(X, np.arange(12)).reason


@pytest.mark.parametrize("k", [1, 4, 10])
@pytest.mark.parametrize("d", [3, 50])
def test_neighbours_vote_as_in_an_independent_classifier(k, d):
    """Leave-one-out neighbours of scikit-learn, its vote, ties to the first class: a count, so exact."""
    neighbors = pytest.importorskip("sklearn.neighbors")
    X, y = world(n=90, d=d, classes=4)
    index = neighbors.NearestNeighbors(n_neighbors=k).fit(X).kneighbors(return_distance=False)
    votes = np.stack([(y[index] == c).sum(axis=1) for c in range(4)], axis=1)
    found = PROBES["knn-probe"](k=k).value(X, y)
    assert found == {"value": np.mean(votes.argmax(axis=1) == y), "chance": np.bincount(y).max() / 90, "k": float(k)}


def test_neighbours_find_curved_classes_that_no_line_finds():
    rng = np.random.default_rng(0)
    angle, y = 2 * np.pi * rng.random(400), np.arange(400) % 2
    X = (1.0 + y)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert PROBES["knn-probe"]().value(X, y)["value"] > 0.95
    assert PROBES["linear-probe"]().value(X, y)["value"] < 0.65


def test_a_repeated_stimulus_gives_its_label_away():
    """The trap on the card: labels without meaning, every stimulus twice, one neighbour."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 5)), rng.integers(0, 3, 60)
    assert PROBES["knn-probe"](k=1).value(np.vstack([X, X]), np.r_[y, y])["value"] == 1.0
    assert PROBES["knn-probe"](k=1).value(X, y)["value"] < 0.6


def test_neighbours_need_two_classes_and_more_than_k_stimuli():
    X = np.random.default_rng(0).standard_normal((10, 3))
    assert "at least 11 stimuli" in PROBES["knn-probe"]().value(X, np.arange(10) % 2).reason
    assert "only one class" in PROBES["knn-probe"]().value(X, np.zeros(10)).reason
