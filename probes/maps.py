"""Linear maps from one representation to another: fitted on some stimuli, judged on others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from probes.decoding import RIDGES as READOUT_RIDGES
from probes.decoding import _readout
from probes.probe import Undefined

# Nearly no penalty at the lower end: a representation mapped to itself has to come out as it went in.
RIDGES = (1e-8, 1e-6, *READOUT_RIDGES)


class AffineMap(NamedTuple):
    """`h ↦ h M + b`, with the ridge strength it was fitted with (0 where there is none)."""

    M: np.ndarray
    b: np.ndarray
    ridge: float = 0.0

    def __call__(self, h: np.ndarray) -> np.ndarray:
        return h @ self.M + self.b


def affine_map(X: np.ndarray, Y: np.ndarray, ridges: Sequence[float] = RIDGES) -> AffineMap:
    """The affine map that minimises `‖XM + b − Y‖² + ridge·n·‖S M‖²`, S the standard deviations of X's units.

    Of several strengths it takes the one with the smallest leave-one-out error on these stimuli.
    """
    mean, sd, target = X.mean(axis=0), X.std(axis=0), Y.mean(axis=0)
    used = sd > 1e-12 * sd.max()
    M = np.zeros((X.shape[1], Y.shape[1]))
    if not used.any():
        return AffineMap(M, target)
    weights, ridge = _readout((X[:, used] - mean[used]) / sd[used], Y - target, ridges)
    M[used] = weights / sd[used, None]
    return AffineMap(M, target - mean @ M, ridge)


def orthogonal_map(X: np.ndarray, Y: np.ndarray) -> AffineMap:
    """The rotation (or reflection) and shift that minimise `‖XR + b − Y‖²`; RᵀR = I, or RRᵀ = I where Y is wider."""
    mean, target = X.mean(axis=0), Y.mean(axis=0)
    u, _, vt = np.linalg.svd((X - mean).T @ (Y - target), full_matrices=False)
    R = u @ vt
    return AffineMap(R, target - mean @ R)


def explained(prediction: np.ndarray, Y: np.ndarray) -> float | Undefined:
    """R² = 1 − ‖Ŷ − Y‖²/‖Y − mean‖² over all entries; below 0 where the mean would have done better."""
    total = float(((Y - Y.mean(axis=0)) ** 2).sum())
    if total <= 1e-28 * max(1.0, float((Y**2).sum())):
        return Undefined("what is to be matched is the same for all stimuli, so there is no variance to explain")
    return 1.0 - float(((prediction - Y) ** 2).sum()) / total
