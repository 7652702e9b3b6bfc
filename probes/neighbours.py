"""Common nearest neighbours: do two representations put the same stimuli side by side?"""

import math
from collections.abc import Callable

import numpy as np

from probes.neighbour_lists import edges, hypergeometric, nearest_by_cosine, place, ranks_in, relabelled
from probes.probe import PairProbe, ProbeInfo, Undefined, pair_probe, positive_integer

KEPT = frozenset({"permutation", "orthogonal", "isotropic-scaling"})

TRAPS = (
    "Representations that share only classes agree on k of every (class size − 1) neighbours: read the within-class "
    "null. A row of zeros has cosine 0 with every other, so its neighbours come from the tie rule; so do those of "
    "duplicated rows, which also makes the value depend on the order of the rows. Resampling with replacement creates "
    "false neighbours."
)

KLABUNDE = "Klabunde, Schumacher, Strohmaier, Lemmerich 2023, arXiv 2305.06329"


def convention(k: int) -> str:
    return f"k = {k}, cosine, rows not centred, a stimulus is not its own neighbour, ties go to the lower row"


def _of_lists(info: ProbeInfo, k: int, value: Callable[[np.ndarray, np.ndarray], float], matrix=None) -> PairProbe:
    """A probe whose value is a function of the two n×k arrays of neighbours."""

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        found = nearest_by_cosine(x, k)
        return found if isinstance(found, Undefined) else (found[1],)

    return pair_probe(
        info,
        prepare=prepare,
        value=lambda a, b: value(a[0], b[0]),
        permute=lambda a, order: (relabelled(a[0], order),),
        matrix=matrix,
        symmetric_matrix=False,
    )


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
        invariances=KEPT,
        convention=convention(k),
        cost="n²·d to prepare, n·k for a pair",
        traps="Chance is k/(n−1), so values at different n or k do not compare. " + TRAPS,
        null_mean=lambda n, d1, d2: k / (n - 1),
        params=(("k", int(k)),),
    )

    def matrix(a: tuple, rows: slice, columns: slice) -> np.ndarray:
        lists = a[0]
        n = len(lists)
        place_of = np.full(n, -1)
        wanted = np.arange(n)[columns]
        place_of[wanted] = np.arange(len(wanted))
        to = place_of[lists[rows]]
        row, neighbour = np.nonzero(to >= 0)
        out = np.zeros((len(to), len(wanted)))
        out[row, to[row, neighbour]] = 1.0 / math.sqrt(n * k)
        return out

    return _of_lists(info, k, lambda a, b: np.count_nonzero(ranks_in(a, b)) / a.size, matrix)


def cycle_knn(k: int = 10) -> PairProbe:
    """Share of stimuli to which some neighbour in Y returns in X: i → one of N^Y(i) → i is among its N^X.

        cKNN = (1/n) Σ_i [ i ∈ ∪_{j ∈ N_k^Y(i)} N_k^X(j) ]

    Neighbours as in mutual-knn. X is n×d1, Y is n×d2. Range 0..1. Asymmetric: value(X, Y) steps in Y first and goes
    back in X. Undefined for a constant representation and for n ≤ k.
    Source: Huh, Cheung, Wang and Isola 2024, arXiv 2405.07987.
    """
    positive_integer("k", k)
    info = ProbeInfo(
        name="cycle-knn",
        title="cycles of nearest neighbours",
        kind="pair",
        formula="(1/n) Σ_i [i ∈ ∪_{j ∈ N_k^Y(i)} N_k^X(j)]",
        citation="Huh, Cheung, Wang, Isola 2024, arXiv 2405.07987",
        range=(0.0, 1.0),
        direction="similarity",
        symmetric=False,
        metric=False,
        invariances=KEPT,
        convention=convention(k) + "; the first step is taken in the second representation",
        cost="n²·d to prepare, n·k·log(n·k) for a pair",
        traps="One of k² paths is enough, so it saturates near 1; less than 1 even with itself, for stimuli that are "
        "nobody's neighbour. Chance is about 1 − (1 − k/(n−1))^k and lower with hubs: read the null. Keep both "
        "directions. " + TRAPS,
        params=(("k", int(k)),),
    )

    def value(a: np.ndarray, b: np.ndarray) -> float:
        n = len(a)
        back = b.astype(np.int64) * n + np.arange(n)[:, None]
        return float(place(edges(a), back)[1].any(axis=1).mean())

    return _of_lists(info, k, value)


def jaccard(k: int = 10) -> PairProbe:
    """Mean Jaccard similarity of the sets of k nearest neighbours.

        J = (1/n) Σ_i |N_k^X(i) ∩ N_k^Y(i)| / |N_k^X(i) ∪ N_k^Y(i)|

    Neighbours as in mutual-knn. X is n×d1, Y is n×d2. Range 0..1; chance is Σ_c P(c) c/(2k − c) with hypergeometric
    P. Undefined for a constant representation and for n ≤ k.
    Source: Klabunde, Schumacher, Strohmaier and Lemmerich 2023, arXiv 2305.06329.
    """
    positive_integer("k", k)
    common = np.arange(k + 1)
    info = ProbeInfo(
        name="jaccard",
        title="Jaccard similarity of neighbourhoods",
        kind="pair",
        formula="(1/n) Σ_i |N_k^X(i) ∩ N_k^Y(i)| / |N_k^X(i) ∪ N_k^Y(i)|",
        citation=KLABUNDE,
        range=(0.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=KEPT,
        convention=convention(k),
        cost="n²·d to prepare, n·k for a pair",
        traps="Values at different n or k do not compare, because chance differs. " + TRAPS,
        null_mean=lambda n, d1, d2: float(hypergeometric(n, k) @ (common / (2 * k - common))),
        params=(("k", int(k)),),
    )

    def value(a: np.ndarray, b: np.ndarray) -> float:
        c = np.count_nonzero(ranks_in(a, b), axis=1)
        return float((c / (2 * k - c)).mean())

    return _of_lists(info, k, value)


def rank_similarity(k: int = 10) -> PairProbe:
    """Agreement on the order of the common nearest neighbours, the nearest ones counting most.

        RS = (1/n) Σ_i (1/H_c) Σ_{j ∈ N_k^X(i) ∩ N_k^Y(i)} 2 / ((1 + |r_ij − r'_ij|) (r_ij + r'_ij)),  H_c = Σ_{m≤c} 1/m

    r_ij and r'_ij are the ranks, from 1, of j among the neighbours of i; c = |N_k^X(i) ∩ N_k^Y(i)|, and a stimulus
    without common neighbours counts 0. X is n×d1, Y is n×d2. Range 0..1. Undefined for a constant representation and
    for n ≤ k.
    Source: Klabunde, Schumacher, Strohmaier and Lemmerich 2023, arXiv 2305.06329.
    """
    positive_integer("k", k)
    harmonic = np.concatenate(([1.0], np.cumsum(1.0 / np.arange(1, k + 1))))  # of no neighbours the sum is 0 anyway
    rank = np.arange(1, k + 1)

    def weight(r: np.ndarray, s: np.ndarray) -> np.ndarray:
        return 2.0 / ((1 + np.abs(r - s)) * (r + s))

    def chance(n: int, d1: int, d2: int) -> float:
        share = np.arange(k + 1) / harmonic
        return float(hypergeometric(n, k) @ share * weight(rank[:, None], rank).mean())

    info = ProbeInfo(
        name="rank-similarity",
        title="rank similarity of neighbourhoods",
        kind="pair",
        formula="(1/n) Σ_i (1/H_c) Σ_{j common} 2 / ((1 + |r − r'|)(r + r')), c common neighbours, H_c = Σ_{m≤c} 1/m",
        citation=KLABUNDE,
        range=(0.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=KEPT,
        convention=convention(k) + "; divided by H of the number of common neighbours, as in ReSi (arXiv 2408.00531), "
        "where some codes divide by H_k",
        cost="n²·d to prepare, n·k for a pair",
        traps="A single common neighbour of rank 1 in both counts as much as k that agree: read jaccard beside it. "
        "Values at different n or k do not compare, because chance differs. " + TRAPS,
        null_mean=chance,
        params=(("k", int(k)),),
    )

    def value(a: np.ndarray, b: np.ndarray) -> float:
        r = ranks_in(a, b)
        shared = r > 0
        total = np.where(shared, weight(r, rank), 0.0).sum(axis=1)
        return min(1.0, float((total / harmonic[shared.sum(axis=1)]).mean()))

    return _of_lists(info, k, value)
