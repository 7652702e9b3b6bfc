"""Procrustes distance: how far apart two representations stay after the best rotation."""

import math

import numpy as np

from probes.cka import ROTATION_SCALE_SHIFT
from probes.features import centred, narrowed
from probes.probe import PairProbe, ProbeInfo, Undefined, pair_probe

# Above this cosine, arccos loses digits; the length of the chord does not.
NEARLY_ALIKE = 0.99


def _angle(x: np.ndarray, y: np.ndarray) -> float:
    """Angle between unit-norm x and y after the best rotation, accurate also when it is tiny."""
    if x.shape == y.shape and np.array_equal(x, y):
        return 0.0
    cross = x.T @ y
    cosine = float(np.linalg.svd(cross, compute_uv=False).sum())
    if cosine < NEARLY_ALIKE:
        return math.acos(cosine)
    u, _, vt = np.linalg.svd(cross, full_matrices=False)
    x_common, y_common = x @ u, y @ vt.T
    # Squared chord as a sum of squares: what differs inside the matched directions, and what lies outside them.
    chord2 = (
        np.linalg.norm(x_common - y_common) ** 2
        + np.linalg.norm(x - x_common @ u.T) ** 2
        + np.linalg.norm(y - y_common @ vt) ** 2
    )
    return 2.0 * math.asin(min(1.0, math.sqrt(chord2) / 2.0))


def angular_procrustes() -> PairProbe:
    """Angular Procrustes distance in radians: a metric between representations up to rotation, scale and shift.

        θ = arccos ‖XᵀY‖_*  with X, Y column-centred and of unit Frobenius norm;  ‖·‖_* = sum of singular values

    X is n×d1, Y is n×d2; widths may differ (the narrower is padded with zeros). Range 0..π/2; exactly 0 for identical
    arrays. Undefined for a constant representation.
    Source: Williams, Kunz, Kornblith and Linderman 2021, arXiv 2110.14739.
    """
    info = ProbeInfo(
        name="angular-procrustes",
        title="angular Procrustes distance",
        kind="pair",
        formula="arccos ‖XᵀY‖_*, X and Y column-centred with unit Frobenius norm",
        citation="Williams, Kunz, Kornblith, Linderman 2021, arXiv 2110.14739",
        range=(0.0, math.pi / 2),
        direction="distance",
        symmetric=True,
        metric=True,
        invariances=ROTATION_SCALE_SHIFT,
        convention="a distance, in radians; reflections count as rotations; its cosine is the normalised Bures "
        "similarity",
        cost="n·d² + d³",
        traps="The rotation is fitted on the same stimuli, so unrelated representations come out closer the more "
        "units there are per stimulus. Linear in variance, so it sees smaller principal components than CKA. "
        "Class means alone make a small distance: read the within-class null.",
        few_stimuli="the rotation fits noise, and unrelated representations come out close",
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        c = narrowed(c)
        return (c / np.linalg.norm(c),)

    return pair_probe(
        info,
        prepare=prepare,
        value=lambda a, b: _angle(a[0], b[0]),
        permute=lambda a, order: (a[0][order],),
    )
