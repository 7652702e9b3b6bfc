"""Representation topology divergence: which clusters and loops of one representation the other does not have."""

import numpy as np

from probes.cka import ROTATION_SCALE_SHIFT
from probes.distances import entries, squared_distances
from probes.features import centred, narrowed
from probes.probe import PairProbe, ProbeError, ProbeInfo, Undefined, pair_probe, positive_integer

QUANTILE = 0.9

# ripser keeps filtration values in single precision, which holds whole numbers exactly up to 2^24.
MOST_STIMULI = 4096


def _ripser():
    try:
        from ripser import ripser
    except ImportError:
        raise ProbeError(
            "rtd needs the package ripser, which is not installed; install it with pip install 'credit-lab[topology]'."
        ) from None
    return ripser


def cross_barcode_sum(v: np.ndarray, w: np.ndarray) -> float:
    """Total length of the bars of dimension 1 of the R-Cross-Barcode from distances v to min(v, w).

    v, w: distances of all pairs i < j, on one scale. The bars are those of the Vietoris-Rips filtration of 2n + 1
    points: the stimuli at distances v, the stimuli again at distances min(v, w), tied to the first by 0 for the same
    stimulus and v_ij for i < j, and an apex at distance 0 of all the first. What is not listed is never connected.
    Only the order of the distances matters for which bars there are, so ripser is given ranks and the lengths are
    taken in float64.
    """
    levels, rank = np.unique(np.concatenate([[0.0], v, np.minimum(v, w)]), return_inverse=True)
    first, second = (entries(part, slice(None), slice(None)) for part in np.split(rank[1:], 2))
    n = len(first)
    never = float(len(levels))
    m = np.full((2 * n + 1, 2 * n + 1), never)
    m[:n, :n] = first
    m[n:-1, n:-1] = second
    across = np.where(np.tri(n, k=-1, dtype=bool), never, first)
    m[n:-1, :n], m[:n, n:-1] = across, across.T
    m[-1, :n] = m[:n, -1] = 0.0
    np.fill_diagonal(m, 0.0)
    bars = _ripser()(m, maxdim=1, thresh=never - 0.5, distance_matrix=True)["dgms"][1].astype(np.intp)
    return float((levels[bars[:, 1]] - levels[bars[:, 0]]).sum())


def rtd(stimuli: int = 200) -> PairProbe:
    """Representation topology divergence: persistent features that appear at different scales in the two.

        RTD = ½ [ Σ bar lengths of R-Cross-Barcode₁(X → Y) + the same (Y → X) ],  distances over their .9 quantile

    X is n×d1, Y is n×d2; only the first `stimuli` rows are used. Range 0..∞; exactly 0 for identical arrays. Undefined
    for a constant representation and when nine tenths of all distances are 0.
    Errors: ProbeError where the optional package ripser (credit-lab[topology]) is not installed.
    Source: Barannikov, Trofimov, Balabin and Burnaev 2022, arXiv 2201.00058.
    """
    positive_integer("stimuli", stimuli, least=3)
    if stimuli > MOST_STIMULI:
        raise ProbeError(f"stimuli={stimuli} would never finish: the cost grows as their cube; take at most 500 or so.")
    info = ProbeInfo(
        name="rtd",
        title="representation topology divergence",
        kind="pair",
        formula="½ Σ bar lengths of R-Cross-Barcode₁(X, Y) and (Y, X), Euclidean distances over their .9 quantile",
        citation="Barannikov, Trofimov, Balabin, Burnaev 2022, arXiv 2201.00058",
        range=(0.0, np.inf),
        direction="distance",
        symmetric=True,
        metric=False,
        invariances=ROTATION_SCALE_SHIFT,
        convention=f"first {stimuli} rows, once, where the source averages over random subsets of 500; the quantile is "
        "taken over the whole n×n matrix with its zero diagonal, as in the source's code; homology of dimension 1, "
        "coefficients mod 2; needs the package ripser",
        cost=f"grows as (2·{stimuli})³ for a pair, whatever n: seconds at 200, ten times that at 500; a null of 200 "
        "permutations costs 200 pairs",
        traps="A sum over bars, so it grows with the number of stimuli: values at different numbers do not compare. "
        "0 means the same clusters and loops at the same scales, not the same geometry. Euclidean distances in many "
        "dimensions concentrate, and bars then come from noise. Representations that share only classes share their "
        "largest features.",
        params=(("stimuli", int(stimuli)),),
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        c = centred(x)
        return c if isinstance(c, Undefined) else (narrowed(c),)

    def distances(z: np.ndarray) -> np.ndarray | Undefined:
        """Of the first rows; made here because a permutation brings other rows to the front."""
        z = z[:stimuli]
        v = np.sqrt(squared_distances(z - z.mean(axis=0)))
        scale = np.quantile(np.concatenate([v, v, np.zeros(len(z))]), QUANTILE)
        if scale == 0.0:
            return Undefined(f"nine tenths of the distances between the first {len(z)} stimuli are 0")
        return v / scale

    def value(a: tuple, b: tuple) -> float | Undefined:
        v, w = distances(a[0]), distances(b[0])
        for side in (v, w):
            if isinstance(side, Undefined):
                return side
        return (cross_barcode_sum(v, w) + cross_barcode_sum(w, v)) / 2.0

    return pair_probe(info, prepare=prepare, value=value, permute=lambda a, order: (a[0][order],))
