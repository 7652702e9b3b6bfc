"""Procrustes distances: how far apart two representations stay after the best rotation."""

import math
from collections.abc import Callable

import numpy as np

from probes.cca import principal
from probes.cka import ROTATION_SCALE_SHIFT
from probes.features import centred, exponent, narrowed
from probes.probe import INVARIANCES, PairProbe, ProbeError, ProbeInfo, Undefined, non_negative, pair_probe

# Above this cosine, 2 − 2·cosine loses digits; the length of the chord, measured as such, does not.
NEARLY_ALIKE = 0.99

FITTED_TRAP = (
    "The rotation is fitted on the same stimuli, so unrelated representations come out closer the more units there are "
    "per stimulus. "
)
CLASS_TRAP = "Class means alone make a small distance: read the within-class null."


def _chord(x: np.ndarray, y: np.ndarray) -> float:
    """Distance between unit-norm x and y after the best rotation, √(2 − 2‖xᵀy‖_*), accurate also when it is tiny."""
    if x.shape == y.shape and np.array_equal(x, y):
        return 0.0
    cross = x.T @ y
    cosine = float(np.linalg.svd(cross, compute_uv=False).sum())
    if cosine < NEARLY_ALIKE:
        return math.sqrt(2.0 - 2.0 * cosine)
    u, _, vt = np.linalg.svd(cross, full_matrices=False)
    x_common, y_common = x @ u, y @ vt.T
    # A sum of squares: what differs inside the matched directions, and what lies outside them.
    return math.sqrt(
        np.linalg.norm(x_common - y_common) ** 2
        + np.linalg.norm(x - x_common @ u.T) ** 2
        + np.linalg.norm(y - y_common @ vt) ** 2
    )


def angle_of(chord: float) -> float:
    """Angle in radians between unit vectors at that distance, when it is at most a right one."""
    return min(math.pi / 2, 2.0 * math.asin(min(1.0, chord / 2.0)))


def _unit(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
    c = centred(x)
    if isinstance(c, Undefined):
        return c
    c = narrowed(c)
    return (c / np.linalg.norm(c),)


def _distance(prepare: Callable, value: Callable, permute: Callable, **card) -> PairProbe:
    card = {
        "kind": "pair",
        "citation": "Williams, Kunz, Kornblith, Linderman 2021, arXiv 2110.14739",
        "direction": "distance",
        "symmetric": True,
        "metric": True,
        "invariances": ROTATION_SCALE_SHIFT,
        "cost": "n·d² + d³",
        "few_stimuli": "the rotation fits noise, and unrelated representations come out close",
        **card,
    }
    return pair_probe(ProbeInfo(**card), prepare=prepare, value=value, permute=permute)


def procrustes() -> PairProbe:
    """Procrustes size-and-shape distance: a metric between representations up to rotation and shift.

        d = min_R ‖Xc − Yc R‖_F = √(‖Xc‖²_F + ‖Yc‖²_F − 2 ‖XcᵀYc‖_*),  R orthogonal, ‖·‖_* = sum of singular values

    X is n×d1, Y is n×d2; widths may differ (the narrower is padded with zeros). In the units of X, and growing with √n.
    Range 0..∞; exactly 0 for identical arrays. Undefined for a constant representation.
    Source: Williams, Kunz, Kornblith and Linderman 2021, arXiv 2110.14739; Ding, Denain and Steinhardt 2021,
    arXiv 2108.01661.
    """

    def prepare(x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | Undefined:
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        c = narrowed(c)
        norm = np.linalg.norm(c)
        return c / norm, np.ldexp([norm], exponent(x))  # `centred` has divided by that power of two

    def value(a: tuple, b: tuple) -> float:
        (x, (size_x,)), (y, (size_y,)) = a, b
        # ‖a x − b y‖² = (a − b)² + a b ‖x − y‖² for unit x and y: no difference of large numbers.
        return math.hypot(size_x - size_y, math.sqrt(size_x) * math.sqrt(size_y) * _chord(x, y))

    return _distance(
        prepare,
        value,
        lambda a, order: (a[0][order], a[1]),
        name="procrustes",
        title="Procrustes size-and-shape distance",
        formula="√(‖Xc‖²_F + ‖Yc‖²_F − 2 ‖XcᵀYc‖_*)",
        citation="Williams, Kunz, Kornblith, Linderman 2021, arXiv 2110.14739; "
        "Ding, Denain, Steinhardt 2021, arXiv 2108.01661",
        range=(0.0, math.inf),
        invariances=ROTATION_SCALE_SHIFT - {"isotropic-scaling"},
        convention="the distance itself (some codes return its square), not divided by √n, scale kept; reflections "
        "count as rotations",
        traps="Depends on the scale of the activations and on n: a network with twice the activity is far from its "
        "like. Use normalised-procrustes where scale means nothing. " + FITTED_TRAP + CLASS_TRAP,
    )


def normalised_procrustes() -> PairProbe:
    """Procrustes distance between representations of unit norm: a metric up to rotation, scale and shift.

        d = √(2 − 2 ‖XᵀY‖_*) = 2 sin(θ/2)  with X, Y column-centred and of unit Frobenius norm, θ the angular distance

    X is n×d1, Y is n×d2; widths may differ (the narrower is padded with zeros). Range 0..√2; exactly 0 for identical
    arrays. Undefined for a constant representation.
    Source: Williams, Kunz, Kornblith and Linderman 2021, arXiv 2110.14739.
    """
    return _distance(
        _unit,
        lambda a, b: min(math.sqrt(2.0), _chord(a[0], b[0])),
        lambda a, order: (a[0][order],),
        name="normalised-procrustes",
        title="normalised Procrustes distance",
        formula="√(2 − 2 ‖XᵀY‖_*), X and Y column-centred with unit Frobenius norm",
        range=(0.0, math.sqrt(2.0)),
        convention="the length of the chord whose arc is angular-procrustes (some codes return its square); "
        "reflections count as rotations",
        traps=FITTED_TRAP + "Orders pairs exactly as angular-procrustes does: the two are one piece of evidence. "
        "Linear in variance, so it sees smaller principal components than CKA. " + CLASS_TRAP,
    )


def angular_procrustes() -> PairProbe:
    """Angular Procrustes distance in radians: a metric between representations up to rotation, scale and shift.

        θ = arccos ‖XᵀY‖_*  with X, Y column-centred and of unit Frobenius norm;  ‖·‖_* = sum of singular values

    X is n×d1, Y is n×d2; widths may differ (the narrower is padded with zeros). Range 0..π/2; exactly 0 for identical
    arrays. Undefined for a constant representation.
    Source: Williams, Kunz, Kornblith and Linderman 2021, arXiv 2110.14739.
    """
    return _distance(
        _unit,
        lambda a, b: angle_of(_chord(a[0], b[0])),
        lambda a, order: (a[0][order],),
        name="angular-procrustes",
        title="angular Procrustes distance",
        formula="arccos ‖XᵀY‖_*, X and Y column-centred with unit Frobenius norm",
        range=(0.0, math.pi / 2),
        convention="a distance, in radians; reflections count as rotations; its cosine is the normalised Bures "
        "similarity",
        traps=FITTED_TRAP + "Linear in variance, so it sees smaller principal components than CKA. " + CLASS_TRAP,
    )


def shape(alpha: float = 0.5) -> PairProbe:
    """Angular shape distance after partial whitening: between canonical correlations (0) and Procrustes (1).

        θ = arccos ‖ZxᵀZy‖_* / (‖Zx‖_F ‖Zy‖_F),   Zx = α Xc/‖Xc‖_F + (1 − α) Xc(XcᵀXc)^(−1/2)/√rank Xc

    alpha=1 is the angular Procrustes distance; alpha=0 is arccos(Σρ/√(r1·r2)) with ρ the canonical correlations. X is
    n×d1, Y is n×d2, any widths. Range 0..π/2, exactly 0 for identical arrays. A metric up to rotation, scale and shift,
    at alpha=0 up to any invertible linear map. Undefined for a constant representation.
    Source: Williams, Kunz, Kornblith and Linderman 2021, arXiv 2110.14739.
    """
    if non_negative("alpha", alpha) > 1:
        raise ProbeError(f"alpha={alpha!r} must lie between 0 (whitened) and 1 (as it is).")

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        u, s, rank = principal(c)
        # Zx up to a rotation. Only directions above rounding are whitened; the rest keep their own tiny size.
        weight = alpha * s / np.linalg.norm(s)
        weight[:rank] += (1.0 - alpha) / math.sqrt(rank)
        return (u * (weight / np.linalg.norm(weight)),)

    return _distance(
        prepare,
        lambda a, b: angle_of(_chord(a[0], b[0])),
        lambda a, order: (a[0][order],),
        name="shape",
        title="shape distance after partial whitening",
        formula="arccos ‖ZxᵀZy‖_*/(‖Zx‖‖Zy‖), Zx = α Xc/‖Xc‖_F + (1 − α) Xc(XcᵀXc)^(−1/2)/√rank Xc",
        range=(0.0, math.pi / 2),
        invariances=INVARIANCES if alpha == 0 else ROTATION_SCALE_SHIFT,
        convention="Xc and its whitening are brought to one norm before they are mixed, so that alpha means the same "
        "at every scale and n (other codes mix them as they come); rank as in cca",
        traps=FITTED_TRAP + "The smaller alpha, the more directions of tiny variance weigh, and at alpha=0 unequal "
        "ranks alone give arccos √(r1/r2) even if one contains the other. " + CLASS_TRAP,
        params=(("alpha", float(alpha)),),
    )
