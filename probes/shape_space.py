"""Networks as points in one space of shapes: maps from a matrix of distances, and the paths that training takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probes.intervals import similarity_matrix
from probes.probe import ProbeError, positive_integer

ITERATIONS = 1000
CONVERGED = 1e-9  # relative fall of the stress at which it counts as having reached its minimum


@dataclass(frozen=True, eq=False)
class ShapeMap:
    """Points whose Euclidean distances come near to given ones.

    Attributes:
        points: N×k, centred, along their principal axes.
        stress: Kruskal's stress-1, √(Σ (d_ij − δ_ij)² / Σ d_ij²) with d the map's and δ the given distances; 0 is
            perfect, above .2 the picture misleads.
        negative: share of the eigenvalues' absolute sum that is negative in classical scaling: how far the distances
            are from those of any points, in any number of dimensions.
        explained: share of the sum of positive eigenvalues in the first k.
    """

    points: np.ndarray
    stress: float
    negative: float
    explained: float


def shape_map(distances: Any, dimensions: int = 2) -> ShapeMap:
    """Metric multidimensional scaling of a symmetric N×N matrix of distances, which should be a true metric.

        minimise  Σ_{i<j} (‖z_i − z_j‖ − δ_ij)²  by majorisation,  Z ← (1/N) B(Z) Z,
        B_ij = −δ_ij / ‖z_i − z_j‖ for i ≠ j,  B_ii = −Σ_{j≠i} B_ij,   from the classical solution

    Nothing is drawn at random, so one matrix gives one map. Similarities and squared distances are no metric: take
    angular Procrustes, `shape`, or the arccosine of CKA.
    Source: Torgerson 1952, doi 10.1007/BF02288916 (classical); de Leeuw 1977, Applications of convex analysis to
    multidimensional scaling (majorisation); Kruskal 1964, doi 10.1007/BF02289565 (stress-1).

    Raises:
        ProbeError: fewer than 3 networks, undefined, negative or asymmetric distances.
    """
    D = similarity_matrix(distances, "the matrix of distances", square=True).copy()
    positive_integer("dimensions", dimensions)
    np.fill_diagonal(D, 0.0)
    N = len(D)
    if N < 3:
        raise ProbeError(f"a map needs at least 3 networks, and there are {N}.")
    if not np.isfinite(D).all() or (D < 0).any() or abs(D - D.T).max() > 1e-9 * max(D.max(), 1e-300):
        raise ProbeError("distances must be finite, at least 0 and symmetric; leave undefined networks out first.")
    H = np.eye(N) - 1 / N
    eigenvalues, vectors = np.linalg.eigh(-0.5 * H @ D**2 @ H)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    positive = np.maximum(eigenvalues, 0.0)
    size = np.abs(eigenvalues).sum()
    k = min(dimensions, N - 1)
    Z = np.zeros((N, dimensions))
    Z[:, :k] = vectors[:, :k] * np.sqrt(positive[:k])
    Z = _principal(_majorised(Z, D))
    apart = _apart(Z)
    total = (apart**2).sum()
    return ShapeMap(
        points=Z,
        stress=float(np.sqrt(((apart - D) ** 2).sum() / total)) if total > 0 else 0.0,
        negative=float((positive - eigenvalues).sum() / size) if size > 0 else 0.0,
        explained=float(positive[:k].sum() / positive.sum()) if positive.sum() > 0 else 1.0,
    )


def _apart(Z: np.ndarray) -> np.ndarray:
    return np.linalg.norm(Z[:, None] - Z[None], axis=-1)


def _majorised(Z: np.ndarray, D: np.ndarray) -> np.ndarray:
    before = np.inf
    for _ in range(ITERATIONS):
        apart = _apart(Z)
        stress = ((apart - D) ** 2).sum()
        if not stress < before * (1 - CONVERGED):
            break
        before = stress
        B = -np.divide(D, apart, out=np.zeros_like(D), where=apart > 0)
        np.fill_diagonal(B, 0.0)
        np.fill_diagonal(B, -B.sum(axis=1))
        Z = B @ Z / len(D)
    return Z


def _principal(Z: np.ndarray) -> np.ndarray:
    """Centred, along its own principal axes, each turned so that its largest coordinate is positive."""
    Z = Z - Z.mean(axis=0)
    Z = Z @ np.linalg.svd(Z, full_matrices=len(Z) < Z.shape[1])[2].T
    return Z * np.where(Z[np.abs(Z).argmax(axis=0), np.arange(Z.shape[1])] < 0, -1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Path:
    """How one network moved through shape space.

    Attributes:
        length: Σ_t d(t, t+1), of the polygon through the stored checkpoints: more checkpoints can only lengthen it.
        displacement: d(first, last).
        tortuosity: length / displacement, at least 1 in a metric; None if it came back to where it started.
        velocity: d(t, t+1) / (step_{t+1} − step_t) of each leg.
        to_end: d(t, last) at each checkpoint.
    """

    length: float
    displacement: float
    tortuosity: float | None
    velocity: np.ndarray
    to_end: np.ndarray


def path(distances: Any, steps: Sequence[float]) -> Path:
    """Length, tortuosity and velocity of a path from the distances between its T ≥ 2 checkpoints (T×T).

    steps: the training step (or any other increasing clock, such as minus the loss) of each checkpoint.

    Raises:
        ProbeError: fewer than two checkpoints, a clock that does not increase, undefined distances.
    """
    D = similarity_matrix(distances, "the matrix of distances", square=True)
    clock = np.asarray(steps, dtype=np.float64)
    if len(D) < 2 or clock.shape != (len(D),) or not (np.diff(clock) > 0).all():
        raise ProbeError(f"a path needs two or more checkpoints at increasing steps; got {len(D)} at {list(steps)}.")
    legs = np.diagonal(D, 1)
    if not np.isfinite(legs).all() or not np.isfinite(D[:, -1]).all():
        raise ProbeError("some distances along the path are undefined; leave those checkpoints out.")
    length, displacement = float(legs.sum()), float(D[0, -1])
    return Path(
        length,
        displacement,
        length / displacement if displacement > 0 else None,
        legs / np.diff(clock),
        D[:, -1].copy(),
    )
