"""Alignment of matrices that are not linear in the features: a Gaussian kernel, and Euclidean distances.

Both are made from all pairwise distances once per representation and centred there, so that a pair costs one inner
product of n(n − 1)/2 numbers.
"""

import math
from collections.abc import Callable

import numpy as np

from probes.cka import CLASS_TRAP, ROTATION_SCALE_SHIFT
from probes.distances import double_centred, entries, permuted, squared_distances
from probes.features import centred, narrowed
from probes.probe import PairProbe, ProbeError, ProbeInfo, Undefined, non_negative, one_of, pair_probe

ESTIMATORS = ("biased", "unbiased")


def _alignment(
    info: ProbeInfo,
    matrix_of: Callable[[np.ndarray], np.ndarray | Undefined],
    unbiased: bool = False,
    root: bool = False,
) -> PairProbe:
    """Cosine of two centred matrices, or its square root; matrix_of makes them from squared distances, diagonal 0."""

    def prepare(x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | Undefined:
        if unbiased and len(x) < 4:
            return Undefined(f"the unbiased estimator divides by n − 3, and here n = {len(x)}")
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        m = matrix_of(squared_distances(narrowed(c)))
        if isinstance(m, Undefined):
            return m
        upper, diagonal = double_centred(m, unbiased)
        norm = math.sqrt(2.0 * (upper @ upper) + diagonal @ diagonal)
        if norm <= 1e-12 * np.linalg.norm(m):
            return Undefined("all pairs of stimuli are equally far apart, so nothing is left without the diagonal")
        return upper / norm, diagonal / norm

    def value(a: tuple, b: tuple) -> float:
        cosine = min(1.0, 2.0 * float(a[0] @ b[0]) + float(a[1] @ b[1]))
        return math.sqrt(max(0.0, cosine)) if root else max(info.range[0], cosine)

    def matrix(a: tuple, rows: slice, columns: slice) -> np.ndarray:
        return entries(a[0], rows, columns, a[1])

    return pair_probe(
        info,
        prepare=prepare,
        value=value,
        permute=lambda a, order: (permuted(a[0], order), a[1][order]),
        matrix=None if root else matrix,
    )


def rbf_cka(bandwidth: float | int = 1.0) -> PairProbe:
    """CKA with a Gaussian kernel, biased: like linear CKA, but about stimuli nearer than some distance σ.

        K_ij = exp(−‖x_i − x_j‖² / 2σ²),  σ = bandwidth · median_{i<j} ‖x_i − x_j‖,
        CKA = ⟨HKH, HLH⟩ / (‖HKH‖ ‖HLH‖),  H = I − 11ᵀ/n

    X is n×d1, Y is n×d2; each has its own σ. Range 0..1. Undefined for a constant representation and when at least
    half of all pairs of stimuli coincide. A large bandwidth gives linear CKA.
    Source: Kornblith, Norouzi, Lee and Hinton 2019, arXiv 1905.00414.
    """
    bandwidth = non_negative("bandwidth", bandwidth)
    if bandwidth == 0.0:
        raise ProbeError("bandwidth=0 leaves no stimulus near another; pass a positive share of the median distance.")
    info = ProbeInfo(
        name="rbf-cka",
        title="CKA with a Gaussian kernel (biased)",
        kind="pair",
        formula=f"⟨HKH, HLH⟩ / (‖HKH‖ ‖HLH‖), K_ij = exp(−‖x_i − x_j‖²/2σ²), σ = {bandwidth:g} · median distance",
        citation="Kornblith, Norouzi, Lee, Hinton 2019, arXiv 1905.00414",
        range=(0.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=ROTATION_SCALE_SHIFT,
        convention=f"σ is {bandwidth:g} times the median of the Euclidean (not squared) distances of all pairs i < j, "
        "of each representation by itself; biased HSIC; arccos of it is a metric",
        few_stimuli="unrelated representations score high by construction",
        cost="n²·d to prepare, n² for a pair",
        traps="The bandwidth decides the value: with 30 units or more, below .3 medians every stimulus is similar only "
        "to itself and anything scores near 1 (as with an absolute σ of 1); above 3 it is linear CKA. Report it. "
        "Biased upwards with fewer stimuli than units. " + CLASS_TRAP,
        params=(("bandwidth", bandwidth),),
    )

    def kernel(squared: np.ndarray) -> np.ndarray | Undefined:
        median = float(np.median(np.sqrt(squared)))
        if median == 0.0:
            return Undefined("at least half of all pairs of stimuli coincide, so the median distance is 0")
        # K − 1 centres to the same matrix as K and keeps its digits where K is nearly 1.
        return np.expm1(squared / (-2.0 * (bandwidth * median) ** 2))

    return _alignment(info, kernel)


def distance_correlation(estimator: str = "biased") -> PairProbe:
    """Distance correlation: 0 in the population if and only if the two are independent.

        A = HDH with D_ij = ‖x_i − x_j‖, B likewise from Y;   dCor = √( ⟨A, B⟩ / (‖A‖ ‖B‖) )

    X is n×d1, Y is n×d2. Range 0..1. `estimator="unbiased"` gives the squared form ⟨A, B⟩ / (‖A‖ ‖B‖) of U-centred
    distances instead, in −1..1, which is debiased CKA with the kernel −D. Undefined for a constant representation;
    the unbiased form also for n < 4 and for stimuli that are all equally far apart.
    Source: Székely, Rizzo and Bakirov 2007, doi 10.1214/009053607000000505; unbiased: Székely and Rizzo 2014,
    doi 10.1214/14-AOS1255.
    """
    one_of("estimator", estimator, ESTIMATORS)
    unbiased = estimator == "unbiased"
    info = ProbeInfo(
        name="distance-correlation",
        title="distance correlation" + (" (unbiased, squared)" if unbiased else " (biased)"),
        kind="pair",
        formula="⟨A, B⟩ / (‖A‖ ‖B‖), A and B U-centred Euclidean distances"
        if unbiased
        else "√(⟨HDH, HEH⟩ / (‖HDH‖ ‖HEH‖)), D and E Euclidean distances",
        citation="Székely, Rizzo 2014, doi 10.1214/14-AOS1255"
        if unbiased
        else "Székely, Rizzo, Bakirov 2007, doi 10.1214/009053607000000505",
        range=(-1.0 if unbiased else 0.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=ROTATION_SCALE_SHIFT,
        convention="Euclidean distances with exponent 1; "
        + ("the square, not its root, because it can be negative" if unbiased else "the root is taken, as in dcor"),
        few_stimuli="" if unbiased else "unrelated representations score high by construction",
        cost="n²·d to prepare, n² for a pair",
        traps=(
            "A square: not comparable with the biased form, which is a root. Slightly negative means unrelated. "
            if unbiased
            else "Far above 0 for unrelated representations, the more so the fewer stimuli per unit: read the null, or "
            'use estimator="unbiased". '
        )
        + CLASS_TRAP,
        null_mean=(lambda n, d1, d2: 0.0) if unbiased else None,
        params=(("estimator", estimator),),
    )
    return _alignment(info, np.sqrt, unbiased, root=not unbiased)
