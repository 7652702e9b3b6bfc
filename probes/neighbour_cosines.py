"""Cosines within neighbourhoods: not only which neighbours two representations share, but how near they are."""

import math

import numpy as np

from probes.distances import BLOCK
from probes.neighbour_lists import edges, nearest_by_cosine, place, ranks_in, relabelled
from probes.neighbours import KEPT, KLABUNDE, TRAPS, convention
from probes.probe import PairProbe, ProbeInfo, Undefined, pair_probe, positive_integer


def _masked_hsic(n: int, pairs: np.ndarray, k: np.ndarray, l: np.ndarray) -> float:
    """n(n−3) times Song's unbiased HSIC of two matrices that are 0 but at the given pairs (sorted i·n + j, i ≠ j).

    tr(KL) + ΣK ΣL/((n−1)(n−2)) − (1ᵀKL1 + 1ᵀLK1)/(n−2): a mask of neighbours is not symmetric, so the two orders of the
    last product differ, and both are taken.
    """
    i, j = pairs // n, pairs % n
    at, both = place(pairs, j * n + i)
    trace = k[both] @ l[at[both]]
    (k_rows, k_columns), (l_rows, l_columns) = (
        [np.bincount(side, weights=m, minlength=n) for side in (i, j)] for m in (k, l)
    )
    cross = k_columns @ l_rows + l_columns @ k_rows
    return float(trace + k.sum() * l.sum() / ((n - 1) * (n - 2)) - cross / (n - 2))


def cknna(k: int = 10) -> PairProbe:
    """Debiased CKA that looks only at pairs which are neighbours in both representations.

        CKNNA = h(M_X ∧ M_Y) / √(h_X(M_X) h_Y(M_Y)),  h(M) = HSIC_u(M∘K, M∘L),  M_X[i,j] = [j ∈ N_k^X(i)]

    K and L are cosines of the uncentred rows; h_X(M) = HSIC_u(M∘K, M∘K). X is n×d1, Y is n×d2. Range −1..1. Undefined
    for a constant representation, for n ≤ max(k, 3), and when a self term is not positive.
    Source: Huh, Cheung, Wang and Isola 2024, arXiv 2405.07987.
    """
    positive_integer("k", k, least=2)
    info = ProbeInfo(
        name="cknna",
        title="centred kernel nearest-neighbour alignment",
        kind="pair",
        formula="HSIC_u(M∘K, M∘L) / √(HSIC_u(M_X∘K, M_X∘K) HSIC_u(M_Y∘L, M_Y∘L)), M = M_X ∧ M_Y neighbour masks",
        citation="Huh, Cheung, Wang, Isola 2024, arXiv 2405.07987",
        range=(-1.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=KEPT,
        convention=convention(k) + "; Song's unbiased HSIC with tr(KL), so a pair counts when each is the other's "
        "neighbour, and with the mean of 1ᵀKL1 and 1ᵀLK1, which differ for these masks: the source's code takes the "
        "first alone, which is not symmetric, and adds 1e-6 below the line",
        cost="n²·d to prepare, n·k·log(n·k) for a pair",
        traps="A masked kernel is not positive semi-definite, so nothing bounds the value by ±1 in theory; what lies "
        "beyond is cut off. Depends on k more than mutual-knn does. " + TRAPS,
        params=(("k", int(k)),),
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray, ...] | Undefined:
        if len(x) < 4:
            return Undefined(f"the unbiased estimator divides by n − 3, and here n = {len(x)}")
        found = nearest_by_cosine(x, k)
        if isinstance(found, Undefined):
            return found
        _, lists, cosines = found
        n = len(lists)
        by_edge = np.argsort(np.arange(n)[:, None] * n + lists, axis=None)
        values = cosines.reshape(-1)[by_edge]
        own = _masked_hsic(n, edges(lists), values, values)
        if own <= 1e-12 * (values @ values):
            return Undefined("the cosines to the nearest neighbours have no positive HSIC with themselves")
        return lists, cosines, np.array([own])

    def value(a: tuple, b: tuple) -> float:
        (x, k_near, own_x), (y, l_near, own_y) = a, b
        n = len(x)
        rank = ranks_in(x, y)
        i, s = np.nonzero(rank)
        if not len(i):
            return 0.0
        pairs = i * n + y[i, s]
        by_edge = np.argsort(pairs)
        k_common, l_common = k_near[i, rank[i, s] - 1], l_near[i, s]
        h = _masked_hsic(n, pairs[by_edge], k_common[by_edge], l_common[by_edge])
        return min(1.0, max(-1.0, h / math.sqrt(own_x[0] * own_y[0])))

    return pair_probe(
        info,
        prepare=prepare,
        value=value,
        permute=lambda a, order: (relabelled(a[0], order), a[1][order], a[2]),
    )


def second_order_cosine(k: int = 10) -> PairProbe:
    """Mean cosine between the vectors of cosines to the neighbours that a stimulus has in either representation.

        S2 = (1/n) Σ_i cos(s_i^X, s_i^Y),   s_i^X = (cos(x_i, x_j) for j ∈ N_k^X(i) ∪ N_k^Y(i))

    Neighbours as in mutual-knn. X is n×d1, Y is n×d2. Range −1..1. A row of zeros counts 1 where it is zero in both
    and 0 otherwise. Undefined for a constant representation and for n ≤ k.
    Source: Hamilton, Leskovec and Jurafsky 2016, arXiv 1606.02821; Klabunde, Schumacher, Strohmaier and Lemmerich
    2023, arXiv 2305.06329.
    """
    positive_integer("k", k)
    info = ProbeInfo(
        name="second-order-cosine",
        title="second-order cosine similarity",
        kind="pair",
        formula="(1/n) Σ_i cos(s_i^X, s_i^Y), s_i cosines of i to N_k^X(i) ∪ N_k^Y(i)",
        citation="Hamilton, Leskovec, Jurafsky 2016, arXiv 1606.02821; " + KLABUNDE,
        range=(-1.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=KEPT,
        convention=convention(k) + "; vectors of cosines, as in the sources, where ReSi takes 1 − cosine",
        cost="n²·d to prepare, n·k·d for a pair",
        traps="Near 1 for any two representations whose cosines are all large, as rectified layers' are, and for "
        "unrelated ones as well: read the null. " + TRAPS,
        params=(("k", int(k)),),
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | Undefined:
        found = nearest_by_cosine(x, k)
        return found if isinstance(found, Undefined) else found[:2]

    def value(a: tuple, b: tuple) -> float:
        (x, of_x), (y, of_y) = a, b
        n = len(x)
        union = np.hstack([of_x, of_y])
        once = np.hstack([np.ones((n, k)), ranks_in(of_x, of_y) == 0])
        total = 0.0
        step = max(1, BLOCK // (2 * k * max(x.shape[1], y.shape[1])))
        for first in range(0, n, step):
            rows = slice(first, first + step)
            s, t = (np.matmul(unit[union[rows]], unit[rows, :, None])[:, :, 0] * once[rows] for unit in (x, y))
            norms = np.linalg.norm(s, axis=1) * np.linalg.norm(t, axis=1)
            both_silent = ~x[rows].any(axis=1) & ~y[rows].any(axis=1)
            cosine = np.divide(np.einsum("ij,ij->i", s, t), norms, out=both_silent.astype(float), where=norms > 0)
            total += float(cosine.sum())
        return min(1.0, max(-1.0, total / n))

    return pair_probe(
        info,
        prepare=prepare,
        value=value,
        permute=lambda a, order: (a[0][order], relabelled(a[1], order)),
    )
