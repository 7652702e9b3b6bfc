"""Dissimilarities between stimuli, all four as squared Euclidean distances between points that stand for them.

A dissimilarity is described by its points z (n×r): D_ij = ‖z_i − z_j‖² up to one factor, which no comparison sees. That
is what squared Euclidean and Mahalanobis distances are, and 1 − cos(x_i, x_j) = ½‖x_i/‖x_i‖ − x_j/‖x_j‖‖².
"""

import numpy as np

from probes.cka import ROTATION_SCALE_SHIFT
from probes.features import ROUNDING, centred, narrowed, scaled
from probes.probe import Undefined

FORMULAS = {
    "sqeuclidean": "‖x_i − x_j‖²",
    "correlation": "1 − corr(x_i, x_j)",
    "cosine": "1 − cos(x_i, x_j)",
    "mahalanobis": "(x_i − x_j)ᵀ Σ⁺ (x_i − x_j)",
}

# 1 − corr centres each row across units, which a rotation of the units or a shift of one unit does not keep.
INVARIANCES = {
    "sqeuclidean": ROTATION_SCALE_SHIFT,
    "correlation": frozenset({"permutation", "isotropic-scaling"}),
    "cosine": frozenset({"permutation", "orthogonal", "isotropic-scaling"}),
    "mahalanobis": ROTATION_SCALE_SHIFT | {"invertible-linear"},
}


def points(x: np.ndarray, dissimilarity: str) -> np.ndarray | Undefined:
    """Rows whose squared Euclidean distances are the dissimilarities of the rows of x, up to one factor."""
    if dissimilarity == "cosine":
        return _on_the_sphere(scaled(x), "is zero in every unit, and a zero pattern has no direction")
    if dissimilarity == "correlation":
        raw = scaled(x)
        patterns = raw - raw.mean(axis=1, keepdims=True)
        patterns[np.linalg.norm(patterns, axis=1) <= ROUNDING * np.linalg.norm(raw, axis=1)] = 0.0
        return _on_the_sphere(
            patterns, "give the same response in every unit, and a constant pattern has no correlation"
        )
    c = centred(x)
    if isinstance(c, Undefined):
        return c
    return narrowed(c) if dissimilarity == "sqeuclidean" else _whitened(c)


def _on_the_sphere(patterns: np.ndarray, why: str) -> np.ndarray | Undefined:
    norms = np.linalg.norm(patterns, axis=1)
    flat = norms == 0.0
    if flat.any():
        where = f"{int(flat.sum())} of {len(patterns)} stimuli (first: row {int(np.argmax(flat))})"
        return Undefined(f"{where} {why}")
    unit = patterns / norms[:, None]
    return narrowed(unit - unit.mean(axis=0))  # a common shift leaves the distances and saves their digits


def _whitened(c: np.ndarray) -> np.ndarray | Undefined:
    """Left singular vectors: (x_i − x_j)ᵀ Σ⁺ (x_i − x_j) = (n − 1)‖u_i − u_j‖² for Σ = XcᵀXc/(n − 1)."""
    u, s, _ = np.linalg.svd(c, full_matrices=False)
    u = u[:, s > s[0] * max(c.shape) * np.finfo(np.float64).eps]
    n, rank = u.shape
    if rank >= n - 1:
        return Undefined(
            f"{n} stimuli that span {rank} dimensions all have the same Mahalanobis distance; take more stimuli than "
            "units"
        )
    return np.ascontiguousarray(u)
