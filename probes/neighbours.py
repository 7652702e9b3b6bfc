"""Mutual nearest neighbours: do two representations put the same stimuli side by side?"""

import math

import numpy as np

from probes.features import scaled
from probes.probe import PairProbe, ProbeInfo, Undefined, pair_probe, positive_integer

# Cosines are rounded here before they are ranked, so that duplicates tie exactly and rounding does not choose.
TIE_DECIMALS = 12


def cosines(x: np.ndarray) -> np.ndarray:
    """Cosine of every pair of rows, n×n; a row of zeros has cosine 0 with every other."""
    raw = scaled(x)
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    unit = np.divide(raw, norms, out=np.zeros_like(raw), where=norms > 0)
    return np.round(unit @ unit.T, TIE_DECIMALS)


def nearest(similarity: np.ndarray, k: int) -> np.ndarray:
    """Boolean n×n: row i marks the k largest entries of row i without i itself; ties go to the lower index."""
    s = np.array(similarity)
    np.fill_diagonal(s, -np.inf)
    kth = np.partition(s, len(s) - k, axis=1)[:, len(s) - k, None]
    above = s > kth
    ties = s == kth
    missing = k - above.sum(axis=1, keepdims=True)
    return above | (ties & (np.cumsum(ties, axis=1) <= missing))


def mutual_knn(k: int = 10) -> PairProbe:
    """Mean share of the k nearest neighbours of a stimulus that two representations have in common.

        mKNN = (1/n) Σ_i |N_k^X(i) ∩ N_k^Y(i)| / k,   neighbours by cosine of the uncentred rows, without i itself

    X is n×d1, Y is n×d2. Range 0..1; chance is k/(n−1). Undefined for a constant representation and for n ≤ k.
    Source: Huh, Cheung, Wang and Isola 2024, arXiv 2405.07987.
    """
    positive_integer("k", k)
    info = ProbeInfo(
        name="mutual-knn",
        title="mutual nearest neighbours",
        kind="pair",
        formula="(1/n) Σ_i |N_k^X(i) ∩ N_k^Y(i)| / k",
        citation="Huh, Cheung, Wang, Isola 2024, arXiv 2405.07987",
        range=(0.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=frozenset({"permutation", "orthogonal", "isotropic-scaling"}),
        convention=f"k = {k}, cosine, rows not centred, a stimulus is not its own neighbour, ties go to the lower row",
        cost="n²·d",
        traps="Chance is k/(n−1), so values at different n or k do not compare. Representations that share only "
        "classes agree at k/(class size − 1): read the within-class null. A row of zeros has cosine 0 with every "
        "other, so its neighbours come from the tie rule; so do those of duplicated rows, which also makes the value "
        "depend on the order of the rows. Resampling with replacement creates false neighbours.",
        null_mean=lambda n, d1, d2: k / (n - 1),
        params=(("k", int(k)),),
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        if len(x) <= k:
            return Undefined(f"k = {k} neighbours need at least {k + 1} stimuli, and there are {len(x)}")
        s = cosines(x)
        others = s[~np.eye(len(s), dtype=bool)]
        if others.min() == others.max():
            return Undefined(f"all pairs of the {len(x)} stimuli have the same cosine, so no neighbour is nearer")
        return (nearest(s, k),)

    return pair_probe(
        info,
        prepare=prepare,
        value=lambda a, b: float(np.count_nonzero(a[0] & b[0])) / (len(a[0]) * k),
        permute=lambda a, order: (a[0][order][:, order],),
        matrix=lambda a, rows, columns: a[0][rows, columns] / math.sqrt(len(a[0]) * k),
        symmetric_matrix=False,
    )
