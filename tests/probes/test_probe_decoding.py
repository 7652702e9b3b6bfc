"""The linear probe against hand-made worlds and an independent ridge classifier."""

import numpy as np
import pytest

from probes import PROBES
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
