"""Intrinsic dimension from the distances of each stimulus to its nearest ones.

Unlike the ranks of `spectrum`, these count the directions of a curved sheet, not of the flat space it lies in.
"""

import math
from typing import Any

import numpy as np

from probes.features import TIE_DECIMALS, centred, features, narrowed
from probes.nearest import nearest_rows
from probes.probe import SingleProbe, Undefined, fraction, positive_integer, single_info

INVARIANCES = frozenset({"permutation", "orthogonal", "isotropic-scaling", "translation"})

FEW_TRAP = (
    "Too low when the dimension is above about 10 and stimuli are few: neighbours must be near for the theory to hold. "
    "Noise of all units counts as dimension at the scale of the nearest neighbours. Stimuli on a grid, or quantised "
    "activations, tie and mislead it."
)


def distinct_distances(X: Any, k: int) -> tuple[np.ndarray, int] | Undefined:
    """Distances of each stimulus to its k nearest, and how many stimuli were left out as repeats of an earlier one.

    A repeat is not a new point of the manifold: its distance of zero has no logarithm, and two copies that are both
    neighbours of a third stimulus are at the same distance from it.
    """
    x = features(X)
    c = centred(x)
    if isinstance(c, Undefined):
        return c
    c = narrowed(c)
    n = len(c)
    if n > k:
        distance, index = nearest_rows(c, k)
        repeat = (np.round(distance[:, 0], TIE_DECIMALS) == 0) & (index[:, 0] < np.arange(n))
        c = c[~repeat]
    if len(c) <= k:
        return Undefined(f"{k} nearest neighbours need at least {k + 1} distinct stimuli, and there are {len(c)}")
    if len(c) < n:
        distance, _ = nearest_rows(c, k)
    return np.sort(distance, axis=1), n - len(c)


def twonn(discard: float = 0.1) -> SingleProbe:
    """Intrinsic dimension from the ratio of the distances to the second and the first neighbour.

        d = Σ_i x_i y_i / Σ_i x_i²,  x_i = log μ_(i),  y_i = −log(1 − i/N),  i = 1..⌊N(1 − discard)⌋,  μ = r₂/r₁

    X is n×d; μ_(1) ≤ μ_(2) ≤ … over the N distinct stimuli. Returns value, used (N) and repeats (stimuli left out
    because they repeat an earlier one). Above 0. Undefined for a constant representation, for fewer than 3 distinct
    stimuli, and when both neighbours are equally far everywhere.
    Source: Facco, d'Errico, Rodriguez and Laio 2017, doi 10.1038/s41598-017-11873-y.
    """
    discard = fraction("discard", discard)
    info = single_info(
        name="twonn",
        title="intrinsic dimension (two nearest neighbours)",
        formula="slope through the origin of −log(1 − F(μ)) on log μ, μ = r₂/r₁",
        citation="Facco, d'Errico, Rodriguez, Laio 2017, doi 10.1038/s41598-017-11873-y",
        range=(0.0, np.inf),
        invariances=INVARIANCES,
        convention=f"F(μ_(i)) = i/N, counted from 1 over all N ratios; the largest {discard:g} of the ratios stay out "
        "of the fit, not out of N; least squares through the origin; repeated stimuli are left out first",
        cost="n²·d",
        traps=FEW_TRAP,
        params=(("discard", discard),),
    )

    def value(X: Any) -> dict[str, float] | Undefined:
        found = distinct_distances(X, 2)
        if isinstance(found, Undefined):
            return found
        distance, repeats = found
        n = len(distance)
        x = np.sort(np.log(distance[:, 1] / distance[:, 0]))[: math.floor(n * (1.0 - discard))]
        if len(x) == 0 or x[-1] <= 1e-12:
            return Undefined("the second neighbour is no farther than the first, so the ratios tell nothing")
        y = -np.log1p(-np.arange(1, len(x) + 1) / n)
        return {"value": float(x @ y / (x @ x)), "used": float(n), "repeats": float(repeats)}

    return SingleProbe(info, value)


def mle_dimension(k: int = 20) -> SingleProbe:
    """Intrinsic dimension by maximum likelihood from the k nearest neighbours, inverses averaged over stimuli.

        1/d = (1/N) Σ_i 1/(k−1) Σ_{j<k} log(T_k(i) / T_j(i)),  T_j(i) the distance of stimulus i to its j-th neighbour

    X is n×d. Returns value, used (N distinct stimuli) and repeats (those left out because they repeat an earlier one).
    Above 0. Undefined for a constant representation, for fewer than k + 1 distinct stimuli, and when all k neighbours
    are equally far everywhere.
    Source: Levina and Bickel 2004, NIPS 17; MacKay and Ghahramani 2005, comments on it (the average).
    """
    positive_integer("k", k, least=2)
    info = single_info(
        name="mle-dimension",
        title="intrinsic dimension (maximum likelihood)",
        formula="1 / mean_i [Σ_{j<k} log(T_k/T_j) / (k−1)]",
        citation="Levina, Bickel 2004, NIPS 17; MacKay, Ghahramani 2005, comments on Levina and Bickel",
        range=(0.0, np.inf),
        invariances=INVARIANCES,
        convention=f"k = {k}, divided by k − 1 (not k − 2), inverses averaged over stimuli (the source averages the "
        "dimensions themselves, which is larger); repeated stimuli are left out first",
        cost="n²·d",
        traps="Values at different k do not compare: larger k looks at a coarser scale. " + FEW_TRAP,
        params=(("k", int(k)),),
    )

    def value(X: Any) -> dict[str, float] | Undefined:
        found = distinct_distances(X, k)
        if isinstance(found, Undefined):
            return found
        distance, repeats = found
        inverse = float(np.log(distance[:, -1:] / distance[:, :-1]).mean())
        if inverse <= 1e-12:
            return Undefined(f"all {k} neighbours are equally far, so their distances tell nothing")
        return {"value": 1.0 / inverse, "used": float(len(distance)), "repeats": float(repeats)}

    return SingleProbe(info, value)
