"""Intrinsic multi-scale distance: how heat spreads over the neighbourhood graphs of two representations."""

import numpy as np

from probes.cka import ROTATION_SCALE_SHIFT
from probes.distances import BLOCK
from probes.features import centred, narrowed
from probes.neighbour_lists import nearest
from probes.probe import PairProbe, ProbeInfo, Undefined, pair_probe, positive_integer

TIMES = np.logspace(-1.0, 1.0, 256)

# Factor by which the source's code multiplies, so that values are numbers between 1 and 1000.
UNIT = 1e6

# exp(−tL) is expanded in Chebyshev polynomials of degree up to 2·HALF; at t = 10 the next coefficient is 1e-18.
HALF = 16


def neighbour_graph(lists: np.ndarray):
    """D^{-1/2} A D^{-1/2} of the graph that joins i and j if either is among the neighbours of the other (sparse)."""
    from scipy.sparse import coo_array, dia_array

    n, k = lists.shape
    arcs = coo_array((np.ones(n * k), (np.repeat(np.arange(n), k), lists.reshape(-1))), shape=(n, n)).tocsr()
    either = (arcs + arcs.T).sign()
    root = 1.0 / np.sqrt(either.sum(axis=1))
    scale = dia_array((root[None], [0]), shape=(n, n))
    return (scale @ either @ scale).tocsr()


def heat_trace(s, times: np.ndarray = TIMES) -> np.ndarray:
    """tr exp(−t(I − S)) for a sparse symmetric S with eigenvalues in −1..1, exact to rounding.

        exp(−t(I − S)) = Σ_j c_j(t) T_j(S),  c_0 = e^{−t} I_0(t),  c_j = 2 e^{−t} I_j(t)  (modified Bessel functions)

    The traces come from half as many polynomials: tr T_{2j} = 2‖T_j‖² − n and tr T_{2j+1} = 2⟨T_j, T_{j+1}⟩ − tr S,
    summed over blocks of columns, so no n×n array is made and no random vector is drawn.
    """
    from scipy.special import ive

    n = s.shape[0]
    trace = np.zeros(2 * HALF + 1)
    step = max(1, BLOCK // (8 * n))
    for first in range(0, n, step):
        width = min(step, n - first)
        before = np.zeros((n, width))
        before[np.arange(first, first + width), np.arange(width)] = 1.0
        now = s @ before
        trace[0] += np.vdot(before, before)
        trace[1] += np.vdot(before, now)
        for j in range(1, HALF + 1):
            trace[2 * j] += np.vdot(now, now)
            if j < HALF:
                before, now = now, 2.0 * (s @ now) - before
                trace[2 * j + 1] += np.vdot(before, now)
    trace[2::2] = 2.0 * trace[2::2] - n
    trace[3::2] = 2.0 * trace[3::2] - trace[1]
    degree = np.arange(2 * HALF + 1)
    return (np.where(degree == 0, 1.0, 2.0) * ive(degree, times[:, None])) @ trace


def imd(k: int = 5) -> PairProbe:
    """Intrinsic multi-scale distance: largest weighted difference of two heat traces.

        IMD = 10⁶ max_t e^{−2(t + 1/t)} |h_X(t) − h_Y(t)|,   h(t) = (1/n) Σ_i e^{−tλ_i}

    λ are the eigenvalues of the normalised Laplacian I − D^{−1/2} A D^{−1/2} of the graph in which i and j are joined
    if one is among the k nearest of the other (Euclidean); t runs over 256 values from .1 to 10, equally spaced in
    log t. X is n×d1, Y is n×d2. Range 0..10⁶e⁻⁴. Unpaired: it compares two clouds of points and does not know which
    row of one belongs to which row of the other. Undefined for a constant representation and for n ≤ k.
    Source: Tsitsulin, Munkhoeva, Mottin, Karras, Bronstein, Oseledets and Müller 2019, arXiv 1905.11141.
    """
    positive_integer("k", k)
    info = ProbeInfo(
        name="imd",
        title="intrinsic multi-scale distance",
        kind="pair",
        formula="10⁶ max_t e^{−2(t+1/t)} |h_X(t) − h_Y(t)|, h(t) = (1/n) Σ e^{−tλ}, λ of the normalised Laplacian of "
        f"the {k}-nearest-neighbour graph",
        citation="Tsitsulin, Munkhoeva, Mottin, Karras, Bronstein, Oseledets, Müller 2019, arXiv 1905.11141",
        range=(0.0, UNIT * np.exp(-4.0)),
        direction="distance",
        symmetric=True,
        metric=False,
        invariances=ROTATION_SCALE_SHIFT,
        convention=f"k = {k}, Euclidean, unweighted graph of either's neighbours, ties go to the lower row; 256 times "
        "in .1..10; heat traces divided by n and multiplied by 10⁶ as in the source's code, but exact (Chebyshev "
        "polynomials), where that code draws random vectors and varies by tens of per cent from call to call",
        paired=False,
        cost="n²·(d + 16k) to prepare, 256 for a pair",
        traps="Unpaired: the rows of one may be in any order, so permuting stimuli changes nothing and no permutation "
        "null exists (p is 1); two layers can be at distance 0 and agree on no stimulus. Answers another question "
        "than the paired measures: keep it out of their tables. The graph has one scale k; duplicates and ties make "
        "it depend on the order of the rows.",
        params=(("k", int(k)),),
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        z = narrowed(c)
        norms = np.einsum("ij,ij->i", z, z)
        largest = norms.max()

        def nearness(rows: slice) -> np.ndarray:
            return (2.0 * (z[rows] @ z.T) - norms[rows, None] - norms) / largest

        found = nearest(nearness, len(z), k, "distance")
        if isinstance(found, Undefined):
            return found
        return (heat_trace(neighbour_graph(found[0])) / len(z),)

    def value(a: tuple, b: tuple) -> float:
        return float((np.exp(-2.0 * (TIMES + 1.0 / TIMES)) * np.abs(a[0] - b[0])).max() * UNIT)

    return pair_probe(info, prepare=prepare, value=value, permute=lambda a, order: a)
