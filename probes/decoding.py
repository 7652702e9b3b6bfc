"""What a simple read-out can tell from a representation: a linear one, or the nearest neighbours."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from probes.features import centred, class_labels, features, narrowed, scaled, stimuli
from probes.nearest import nearest_rows
from probes.probe import ProbeError, SingleProbe, Undefined, non_negative, positive_integer, single_info

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


def stratified_folds(y: np.ndarray, folds: int) -> np.ndarray:
    """Fold 0..folds−1 of each stimulus: dealt out like cards, class by class, in the order the stimuli come.

    No random numbers: the same labels give the same folds for every network, so that networks are compared on the
    same splits. Dealing goes on where the previous class stopped, which keeps the folds equal in size too.
    """
    fold = np.empty(len(y), dtype=np.intp)
    fold[np.argsort(y, kind="stable")] = np.arange(len(y)) % folds
    return fold


def leave_one_out_ridge(u: np.ndarray, s: np.ndarray, targets: np.ndarray, ridges: Sequence[float]) -> float:
    """The strength with the smallest leave-one-out squared error of ridge regression, summed over targets.

    u (n×r) and s (r) are from the singular value decomposition of the centred training features, targets (n×t) are
    centred too; the penalty is strength·n·‖W‖². Closed form e_i / (1 − h_i); equal errors go to the stronger one.
    """
    n = len(u)
    projected = u.T @ targets
    best = (math.inf, 0.0)
    for ridge in sorted(ridges, reverse=True):
        shrink = s**2 / (s**2 + ridge * n)
        left = 1.0 - 1.0 / n - (u**2) @ shrink  # 1 − leverage; 1/n is the intercept's
        residual = targets - u @ (shrink[:, None] * projected)
        error = float((np.einsum("ij,ij->i", residual, residual) / np.maximum(left, 1e-12) ** 2).sum())
        best = min(best, (error, ridge), key=lambda pair: pair[0])
    return best[1]


def _readout(x: np.ndarray, targets: np.ndarray, ridges: Sequence[float]) -> tuple[np.ndarray, float]:
    """Weights of the ridge regression of centred targets on standardised x, and the strength that was chosen."""
    n = len(x)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    keep = s > s[0] * max(x.shape) * np.finfo(np.float64).eps
    u, s, vt = u[:, keep], s[keep], vt[keep]
    ridge = leave_one_out_ridge(u, s, targets, ridges) if len(ridges) > 1 else float(ridges[0])
    return vt.T @ ((s / (s**2 + ridge * n))[:, None] * (u.T @ targets)), ridge


def _held_out(
    x: np.ndarray, targets: np.ndarray, fold: np.ndarray, ridges: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, float] | Undefined:
    """Predictions of the targets (n×t), each by the folds that it is not in; the means of these folds in its place;
    and the geometric mean of the strengths. Units constant on the training folds are left out."""
    predicted, base = np.empty_like(targets), np.empty_like(targets)
    folds, log_ridge = int(fold.max()) + 1, 0.0
    for f in range(folds):
        train = fold != f
        mean, sd = x[train].mean(axis=0), x[train].std(axis=0)
        used = sd > 1e-12 * sd.max() if sd.max() > 0 else np.zeros(len(sd), dtype=bool)
        if not used.any():
            return Undefined(f"the representation is constant on the training part of fold {f}")
        z = (x[:, used] - mean[used]) / sd[used]
        base[~train] = targets[train].mean(axis=0)
        weights, chosen = _readout(z[train], targets[train] - targets[train].mean(axis=0), ridges)
        predicted[~train] = z[~train] @ weights + base[~train]
        log_ridge += math.log(chosen)
    return predicted, base, math.exp(log_ridge / folds)


def ridge_strengths(ridge: Any) -> tuple[float, ...]:
    """One strength or several, each above 0."""
    several = isinstance(ridge, Sequence | np.ndarray) and not isinstance(ridge, str)
    ridges = tuple(non_negative("ridge", r) for r in (ridge if several else (ridge,)))
    if not ridges or 0.0 in ridges:
        raise ProbeError("ridge must be positive: without it the weights are not unique; pass e.g. ridge=1e-4.")
    return ridges


def linear_probe(folds: int = 5, ridge: float | int | Sequence[float | int] = RIDGES) -> SingleProbe:
    """Cross-validated accuracy of a linear classifier of the labels: ridge regression to one-hot targets.

        W = argmin Σ_i ‖y_i − x_i W − b‖² + ridge · n_train · ‖W‖²,   prediction = argmax_c (x W + b)_c

    X is n×d, labels has n entries. Features are standardised with mean and deviation of the training folds; units
    constant there are left out. With several strengths, each training fold chooses its own by leave-one-out error on
    itself alone. Returns value (accuracy over all held-out stimuli), chance (share of the largest class), ridge
    (geometric mean of the chosen ones) and folds. Range 0..1. Undefined for a constant representation, for fewer than
    two classes, and when a class has fewer stimuli than there are folds.
    Source: Alain and Bengio 2016, arXiv 1610.01644; Hoerl and Kennard 1970, doi 10.1080/00401706.1970.10488634.
    """
    positive_integer("folds", folds, least=2)
    ridges = ridge_strengths(ridge)
    info = single_info(
        name="linear-probe",
        title="linear decoding accuracy",
        formula="held-out accuracy of argmax_c (xW + b)_c, ridge regression to one-hot targets",
        citation="Alain, Bengio 2016, arXiv 1610.01644",
        range=(0.0, 1.0),
        # Standardising each unit fixes the axes, so a rotation changes what the ridge penalises.
        invariances=frozenset({"permutation", "isotropic-scaling", "translation"}),
        convention=f"{folds} stratified folds dealt out in row order, features standardised on training folds, "
        "strength chosen inside the training folds",
        cost="folds·n·d·min(n, d)",
        traps="Random features of enough width decode well: read the untrained network beside it. Says what could be "
        "read out, not what the network uses. Folds follow row order: stimuli that come in correlated runs need "
        "shuffling first.",
        params=(("folds", int(folds)), ("ridge", ridges if len(ridges) > 1 else ridges[0])),
    )

    def value(X: Any, labels: Any) -> dict[str, float] | Undefined:
        x = features(X)
        y = class_labels(labels, len(x))
        sizes = np.bincount(y)
        if len(sizes) < 2:
            return Undefined("there is only one class, so there is nothing to tell apart")
        if sizes.min() < folds:
            return Undefined(f"the smallest class has {stimuli(sizes.min())}, fewer than the {folds} folds")
        x = centred(scaled(x))
        if isinstance(x, Undefined):
            return x
        found = _held_out(x, np.eye(len(sizes))[y], stratified_folds(y, folds), ridges)
        if isinstance(found, Undefined):
            return found
        scores, _, strength = found
        return {
            "value": float((np.argmax(scores, axis=1) == y).mean()),
            "chance": float(sizes.max()) / len(y),
            "ridge": strength,
            "folds": float(folds),
        }

    return SingleProbe(info, value, needs=("labels",))


def concept_probe(folds: int = 5, ridge: float | int | Sequence[float | int] = RIDGES) -> SingleProbe:
    """Cross-validated share of the variance of a known factor that a linear read-out explains: ridge regression.

        R² = 1 − Σ_i (y_i − ŷ_i)² / Σ_i (y_i − ȳ)²,  ŷ_i and the mean ȳ from the folds that stimulus i is not in

    X is n×d; labels hold the factor, a number for each of the n stimuli (its angle, size, age). Weights as in
    linear-probe, with the factor in place of one-hot targets. Returns value, ridge (geometric mean of the chosen
    strengths) and folds. At most 1; 0 is as good as the mean, below 0 is worse. Undefined for a constant representation
    or factor, and for fewer than two stimuli per fold. ProbeError for labels that are words: linear-probe is for these.
    Source: Alain and Bengio 2016, arXiv 1610.01644; Hoerl and Kennard 1970, doi 10.1080/00401706.1970.10488634.
    """
    positive_integer("folds", folds, least=2)
    ridges = ridge_strengths(ridge)
    info = single_info(
        name="concept-probe",
        title="linear decodability of a known factor",
        formula="held-out R² of ridge regression of the factor on the standardised features",
        citation="Alain, Bengio 2016, arXiv 1610.01644; Hoerl, Kennard 1970, doi 10.1080/00401706.1970.10488634",
        range=(-math.inf, 1.0),
        # Standardising each unit fixes the axes, so a rotation changes what the ridge penalises.
        invariances=frozenset({"permutation", "isotropic-scaling", "translation"}),
        convention=f"{folds} folds dealt out in order of the factor, features standardised on training folds, strength "
        "chosen inside the training folds, errors of all folds in one ratio",
        cost="folds·n·d·min(n, d)",
        traps="Numbers that name classes are taken for magnitudes: linear-probe is for classes. An angle that wraps "
        "around is not linear: decode its sine and cosine. Random features of enough width decode well: read the "
        "untrained network beside it. Repeated stimuli leak from fold to fold.",
        params=(("folds", int(folds)), ("ridge", ridges if len(ridges) > 1 else ridges[0])),
    )

    def value(X: Any, labels: Any) -> dict[str, float] | Undefined:
        x = features(X)
        class_labels(labels, len(x))
        factor = np.asarray(labels)
        if factor.dtype.kind not in "biuf" or not np.isfinite(factor).all():
            raise ProbeError(
                f"the factor has dtype {factor.dtype} or infinite values, but a regression needs finite numbers; use "
                "linear-probe for classes."
            )
        if len(x) < 2 * folds:
            return Undefined(f"{folds} folds need at least {2 * folds} stimuli, and there are {len(x)}")
        x = centred(scaled(x))
        if isinstance(x, Undefined):
            return x
        target = centred(features(factor[:, None], "the factor"))
        if isinstance(target, Undefined):
            return Undefined(f"the factor is the same for all {len(x)} stimuli, so there is nothing to decode")
        found = _held_out(x, target, stratified_folds(factor, folds), ridges)
        if isinstance(found, Undefined):
            return found
        predicted, base, strength = found
        unexplained = float(((target - predicted) ** 2).sum() / ((target - base) ** 2).sum())
        return {"value": 1.0 - unexplained, "ridge": strength, "folds": float(folds)}

    return SingleProbe(info, value, needs=("labels",))


def knn_probe(k: int = 10) -> SingleProbe:
    """Leave-one-out accuracy of the majority among the k nearest neighbours.

        share of i with y_i = argmax_c #{j ∈ N_k(i): y_j = c},  N_k(i) the k nearest other stimuli by Euclidean distance

    X is n×d, labels has n entries. Returns value, chance (share of the largest class) and k. Range 0..1. Undefined for
    a constant representation, for one class, and for n ≤ k.
    Source: Cover and Hart 1967, doi 10.1109/TIT.1967.1053964.
    """
    positive_integer("k", k)
    info = single_info(
        name="knn-probe",
        title="accuracy of the nearest neighbours",
        formula="share of i with y_i = majority class of its k nearest other stimuli",
        citation="Cover, Hart 1967, doi 10.1109/TIT.1967.1053964",
        range=(0.0, 1.0),
        invariances=frozenset({"permutation", "orthogonal", "isotropic-scaling", "translation"}),
        convention=f"k = {k}, Euclidean distance (mutual-knn takes cosine), all votes count the same, a tied vote goes "
        "to the first class in sorted order, tied distances to the lower row",
        cost="n²·d",
        traps="Repeated stimuli give their own label away. A unit of large variance decides who is near. Leaving one "
        "out makes its class rarer among the rest: labels without meaning score below chance.",
        params=(("k", int(k)),),
    )

    def value(X: Any, labels: Any) -> dict[str, float] | Undefined:
        x = features(X)
        n = len(x)
        y = class_labels(labels, n)
        sizes = np.bincount(y)
        if len(sizes) < 2:
            return Undefined("there is only one class, so there is nothing to tell apart")
        if n <= k:
            return Undefined(f"k = {k} neighbours need at least {k + 1} stimuli, and there are {n}")
        if np.bincount(y).max() == 1:
            return Undefined("every class has one stimulus, so no neighbour can be of its class")
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        _, index = nearest_rows(narrowed(c), k)
        votes = np.zeros((n, len(sizes)))
        np.add.at(votes, (np.arange(n)[:, None], y[index]), 1.0)
        correct = float((np.argmax(votes, axis=1) == y).mean())
        return {"value": correct, "chance": float(sizes.max()) / n, "k": float(k)}

    return SingleProbe(info, value, needs=("labels",))
