"""Representational similarity analysis: do two representations order the pairs of stimuli alike?"""

import math

import numpy as np

from probes.cka import CLASS_TRAP, ROTATION_SCALE_SHIFT
from probes.features import ROUNDING, centred, scaled
from probes.probe import PairProbe, ProbeInfo, Undefined, one_of, pair_probe

DISSIMILARITIES = ("sqeuclidean", "correlation")
COMPARATORS = ("spearman", "pearson")

# Dissimilarities closer than this share of the largest are ties: duplicates and quantised features tie exactly in
# theory, and rounding must not order them.
TIE_DECIMALS = 12


def _squared_distances(x: np.ndarray) -> np.ndarray | Undefined:
    c = centred(x)
    if isinstance(c, Undefined):
        return c
    gram = c @ c.T
    sq = np.diag(gram)
    return np.maximum(sq[:, None] + sq[None, :] - 2.0 * gram, 0.0)


def _correlation_distances(x: np.ndarray) -> np.ndarray | Undefined:
    raw = scaled(x)
    c = raw - raw.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(c, axis=1)
    flat = norms <= ROUNDING * np.linalg.norm(raw, axis=1)
    if flat.any():
        return Undefined(
            f"{int(flat.sum())} of {len(x)} stimuli give the same response in every unit (first: row "
            f"{int(np.argmax(flat))}), and a constant pattern has no correlation"
        )
    c /= norms[:, None]
    return 1.0 - c @ c.T


def average_ranks(v: np.ndarray) -> np.ndarray:
    """Ranks 0..N−1 of a vector; equal entries share the mean of their ranks."""
    order = np.argsort(v, kind="stable")
    s = v[order]
    starts = np.flatnonzero(np.concatenate(([True], s[1:] != s[:-1])))
    ends = np.append(starts[1:], len(v))
    ranks = np.empty(len(v))
    ranks[order] = np.repeat((starts + ends - 1) / 2.0, ends - starts)
    return ranks


def rsa(dissimilarity: str = "sqeuclidean", comparator: str = "spearman") -> PairProbe:
    """Correlation between the dissimilarities of all pairs of stimuli in two representations.

        D_ij = ‖x_i − x_j‖²  or  1 − corr(x_i, x_j);   RSA = corr(rank D_X, rank D_Y) over pairs i < j

    X is n×d1, Y is n×d2. Range −1..1. `comparator="pearson"` correlates the dissimilarities themselves.
    Undefined if all dissimilarities of one representation are equal (a constant one, or n < 3).
    Source: Kriegeskorte, Mur and Bandettini 2008, doi 10.3389/neuro.06.004.2008.
    """
    one_of("dissimilarity", dissimilarity, DISSIMILARITIES)
    one_of("comparator", comparator, COMPARATORS)
    euclidean = dissimilarity == "sqeuclidean"
    info = ProbeInfo(
        name="rsa",
        title="representational similarity analysis",
        kind="pair",
        formula=f"{comparator} correlation of "
        + ("‖x_i − x_j‖²" if euclidean else "1 − corr(x_i, x_j)")
        + " over pairs of stimuli i < j",
        citation="Kriegeskorte, Mur, Bandettini 2008, doi 10.3389/neuro.06.004.2008",
        range=(-1.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        # 1 − corr centres each row across units, which a rotation of the units or a shift of one unit does not keep.
        invariances=ROTATION_SCALE_SHIFT if euclidean else frozenset({"permutation", "isotropic-scaling"}),
        convention=f"{dissimilarity} dissimilarity, {comparator}"
        + (" with average ranks for ties" if comparator == "spearman" else "")
        + ", diagonal left out",
        cost="n²·d + n²·log n",
        traps="The n(n−1)/2 pairs are not independent, so their number gives no p-value: permute stimuli. Follows "
        "whatever feature has the largest variance. " + CLASS_TRAP,
        null_mean=lambda n, d1, d2: 0.0,
        params=(("dissimilarity", dissimilarity), ("comparator", comparator)),
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        n = len(x)
        if n < 3:
            return Undefined(f"{n} stimuli give fewer than two pairs to correlate")
        D = _squared_distances(x) if euclidean else _correlation_distances(x)
        if isinstance(D, Undefined):
            return D
        upper = ~np.tri(n, dtype=bool)
        v = D[upper]
        largest = v.max()
        if largest > 0:
            v = v / largest
        tied = np.round(v, TIE_DECIMALS)
        if tied.min() == tied.max():
            return Undefined("all pairs of stimuli are equally dissimilar, so there is no order to compare")
        z = average_ranks(tied) if comparator == "spearman" else v
        z = z - z.mean()
        z /= np.linalg.norm(z) * math.sqrt(2.0)  # each pair stands twice in the matrix
        M = np.zeros((n, n))
        M[upper] = z
        return (M + M.T,)

    return pair_probe(
        info,
        prepare=prepare,
        value=lambda a, b: min(1.0, max(-1.0, float(np.vdot(a[0], b[0])))),
        permute=lambda a, order: (a[0][order][:, order],),
        matrix=lambda a, rows, columns: a[0][rows, columns],
    )
