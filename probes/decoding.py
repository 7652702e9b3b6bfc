"""What a linear read-out can tell from a representation."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from probes.features import centred, class_labels, features, scaled
from probes.probe import ProbeError, ProbeInfo, SingleProbe, Undefined, non_negative, positive_integer

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
    several = isinstance(ridge, Sequence | np.ndarray) and not isinstance(ridge, str)
    ridges = tuple(non_negative("ridge", r) for r in (ridge if several else (ridge,)))
    if not ridges or 0.0 in ridges:
        raise ProbeError("ridge must be positive: without it the read-out is not unique; pass e.g. ridge=1e-4.")
    info = ProbeInfo(
        name="linear-probe",
        title="linear decoding accuracy",
        kind="single",
        formula="held-out accuracy of argmax_c (xW + b)_c, ridge regression to one-hot targets",
        citation="Alain, Bengio 2016, arXiv 1610.01644",
        range=(0.0, 1.0),
        direction=None,
        symmetric=None,
        metric=False,
        # Standardising each unit fixes the axes, so a rotation changes what the ridge penalises.
        invariances=frozenset({"permutation", "isotropic-scaling", "translation"}),
        convention=f"{folds} stratified folds dealt out in row order, features standardised on training folds, "
        "strength chosen inside the training folds",
        cost="folds·n·d·min(n, d)",
        traps="Random features of enough width decode well: read the untrained network beside it. Says what could be "
        "read out, not what the network uses. Folds follow row order: stimuli that come in correlated runs need "
        "shuffling first.",
        params=(("folds", int(folds)), ("ridge", ridges if several else ridges[0])),
    )

    def value(X: Any, labels: Any) -> dict[str, float] | Undefined:
        x = features(X)
        y = class_labels(labels, len(x))
        sizes = np.bincount(y)
        if len(sizes) < 2:
            return Undefined("there is only one class, so there is nothing to tell apart")
        if sizes.min() < folds:
            return Undefined(f"the smallest class has {sizes.min()} stimuli, fewer than the {folds} folds")
        x = centred(scaled(x))
        if isinstance(x, Undefined):
            return x
        onehot = np.eye(len(sizes))[y]
        fold = stratified_folds(y, folds)
        correct, log_ridge = 0, 0.0
        for f in range(folds):
            train = fold != f
            mean, sd = x[train].mean(axis=0), x[train].std(axis=0)
            used = sd > 1e-12 * sd.max() if sd.max() > 0 else np.zeros(len(sd), dtype=bool)
            if not used.any():
                return Undefined(f"the representation is constant on the training part of fold {f}")
            z = (x[:, used] - mean[used]) / sd[used]
            base = onehot[train].mean(axis=0)
            weights, chosen = _readout(z[train], onehot[train] - base, ridges)
            scores = z[~train] @ weights + base
            correct += int((np.argmax(scores, axis=1) == y[~train]).sum())
            log_ridge += math.log(chosen)
        n = len(y)
        return {
            "value": correct / n,
            "chance": float(sizes.max()) / n,
            "ridge": math.exp(log_ridge / folds),
            "folds": float(folds),
        }

    return SingleProbe(info, value, needs_labels=True)
