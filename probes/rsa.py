"""Representational similarity analysis: do two representations order the pairs of stimuli alike?"""

import math

import numpy as np

from probes.cka import CLASS_TRAP, aligned, gaussian_null
from probes.comparators import doubled_ranks, inner, kendall_tau_a, tied
from probes.dissimilarities import FORMULAS, INVARIANCES, points
from probes.distances import entries, permuted, squared_distances
from probes.features import centred
from probes.probe import PairProbe, ProbeInfo, Undefined, one_of, pair_probe

DISSIMILARITIES = tuple(FORMULAS)
COMPARATORS = {
    "spearman": "Spearman correlation (average ranks for ties)",
    "pearson": "Pearson correlation",
    "kendall": "Kendall's τ_a (a tie counts as neither order)",
    "cosine": "cosine",
    "whitened-cosine": "cosine of the double-centred matrices (whitened by the covariance that i.i.d. noise causes)",
}


def _zero(n: int, d1: int, d2: int) -> float:
    return 0.0


def rsa(dissimilarity: str = "sqeuclidean", comparator: str = "spearman") -> PairProbe:
    """Agreement between the dissimilarities of all pairs of stimuli in two representations.

        RSA = comparator(D_X, D_Y) over pairs i < j;   D_ij = ‖x_i − x_j‖², 1 − corr(x_i, x_j), 1 − cos(x_i, x_j)
        or (x_i − x_j)ᵀ Σ⁺ (x_i − x_j), Σ = XcᵀXc/(n−1)

    Comparators: spearman, pearson, kendall (τ_a), cosine, and whitened-cosine = ⟨HDH, HEH⟩ / (‖HDH‖ ‖HEH‖), which
    with squared Euclidean distances is linear CKA. X is n×d1, Y is n×d2. Range −1..1, 0..1 for the cosines. Undefined
    for n < 3, if all dissimilarities of one representation are 0 (or equal, except for the cosines), if a stimulus has
    a constant (correlation) or zero (cosine) pattern, and for Mahalanobis distances with as many dimensions as stimuli.
    Source: Kriegeskorte, Mur and Bandettini 2008, doi 10.3389/neuro.06.004.2008; τ_a: Nili and others 2014,
    doi 10.1371/journal.pcbi.1003553; whitened: Diedrichsen and others 2020, arXiv 2007.02789.
    """
    one_of("dissimilarity", dissimilarity, DISSIMILARITIES)
    one_of("comparator", comparator, tuple(COMPARATORS))
    ranked, whitened = comparator in ("spearman", "kendall"), comparator == "whitened-cosine"
    signed = not comparator.endswith("cosine")
    is_cka = whitened and dissimilarity == "sqeuclidean"
    info = ProbeInfo(
        name="rsa",
        title="representational similarity analysis",
        kind="pair",
        formula=f"{COMPARATORS[comparator]} of {FORMULAS[dissimilarity]} over pairs of stimuli i < j",
        citation="Kriegeskorte, Mur, Bandettini 2008, doi 10.3389/neuro.06.004.2008"
        + ("; Diedrichsen, Berlot, Mur, Schütt, Shahbazi, Kriegeskorte 2020, arXiv 2007.02789" if whitened else "")
        + ("; Nili and others 2014, doi 10.1371/journal.pcbi.1003553" if comparator == "kendall" else ""),
        range=(-1.0 if signed else 0.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=INVARIANCES[dissimilarity],
        convention=f"{dissimilarity} dissimilarity, {comparator}"
        + ("" if whitened else ", diagonal left out")
        + (
            "; Σ is the covariance of the units over the stimuli (not of noise), Σ⁺ its pseudo-inverse without "
            "shrinkage, singular values above σ₁·max(n, d)·2⁻⁵²"
            if dissimilarity == "mahalanobis"
            else ""
        ),
        cost="n·d·min(n, d) to prepare and for a pair"
        if whitened
        else f"n²·d + n²·log n to prepare, {'n²·log n' if comparator == 'kendall' else 'n²'} for a pair",
        traps="The n(n−1)/2 pairs are not independent, so their number gives no p-value: permute stimuli. "
        + ("" if signed else "Far above 0 for unrelated representations: read the null. ")
        + ("With ties a representation does not reach 1 with itself. " if comparator == "kendall" else "")
        + (
            "All directions count alike, noise too. "
            if dissimilarity == "mahalanobis"
            else "Follows whatever feature has the largest variance. "
        )
        + CLASS_TRAP,
        null_mean=_zero if signed else gaussian_null if is_cka else None,
        params=(("dissimilarity", dissimilarity), ("comparator", comparator)),
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray, ...] | Undefined:
        if len(x) < 3:
            return Undefined(f"n = {len(x)} gives fewer than two pairs of stimuli to correlate")
        z = points(x, dissimilarity)
        if isinstance(z, Undefined):
            return z
        if whitened:
            # HDH = −2 H z zᵀ H, so its cosine is the linear CKA of the points: features instead of n² numbers.
            z = centred(z)
            return z if isinstance(z, Undefined) else (aligned(z),)
        v = squared_distances(z)
        shares = tied(v)
        if isinstance(shares, Undefined) and (signed or not v.any()):
            return shares
        if ranked:
            del v
            ranks = doubled_ranks(shares)
            return ranks, np.array([math.sqrt(inner(ranks, ranks))])
        v = v - v.mean() if comparator == "pearson" else v
        return (v / np.linalg.norm(v),)

    def value(a: tuple, b: tuple) -> float:
        if comparator == "kendall":
            return kendall_tau_a(a[0], b[0])
        if whitened:
            return min(1.0, float(np.linalg.norm(a[0].T @ b[0])) ** 2)
        norms = float(a[1][0] * b[1][0]) if ranked else 1.0
        return min(1.0, max(-1.0, inner(a[0], b[0]) / norms))

    def permute(a: tuple, order: np.ndarray) -> tuple:
        return (a[0][order] if whitened else permuted(a[0], order), *a[1:])

    def matrix(a: tuple, rows: slice, columns: slice) -> np.ndarray:
        if whitened:
            return a[0][rows] @ a[0][columns].T
        # Each pair stands twice in the matrix.
        return entries(a[0], rows, columns) / (math.sqrt(2.0) * (float(a[1][0]) if ranked else 1.0))

    return pair_probe(
        info, prepare=prepare, value=value, permute=permute, matrix=None if comparator == "kendall" else matrix
    )
