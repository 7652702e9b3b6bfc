"""The k nearest neighbours of every stimulus, and how two lists of them compare.

Made and compared in blocks of rows, so that n stimuli take n·k numbers. A stimulus is not its own neighbour, whatever
else coincides with it. Lists go from the nearest on; equally near ones go to the lower row.
"""

from collections.abc import Callable

import numpy as np

from probes.distances import BLOCK
from probes.features import TIE_DECIMALS, narrowed, scaled
from probes.probe import Undefined


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows of length 1: their inner products are cosines. A row of zeros stays, with cosine 0 to every other."""
    raw = scaled(x)
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    return narrowed(np.divide(raw, norms, out=np.zeros_like(raw), where=norms > 0))


def nearest(
    similar: Callable[[slice], np.ndarray], n: int, k: int, what: str
) -> tuple[np.ndarray, np.ndarray] | Undefined:
    """Neighbours (n×k, int32) of n stimuli, and their similarities; Undefined when no neighbour is nearer than another.

    similar: rows → their similarities to all n stimuli, by which to rank; what: how a reason names these.
    """
    if n <= k:
        return Undefined(f"k = {k} neighbours need at least {k + 1} stimuli, and there are {n}")
    lists, values = np.empty((n, k), dtype=np.int32), np.empty((n, k))
    least, most = np.inf, -np.inf
    step = max(1, BLOCK // n)
    for first in range(0, n, step):
        s = np.round(similar(slice(first, first + step)), TIE_DECIMALS)
        own = np.arange(len(s)), np.arange(first, first + len(s))
        s[own] = np.inf
        least = min(least, s.min())
        s[own] = -np.inf
        most = max(most, s.max())
        kth = np.partition(s, n - k, axis=1)[:, n - k, None]
        above, ties = s > kth, s == kth
        missing = k - above.sum(axis=1, keepdims=True)
        chosen = np.nonzero(above | (ties & (np.cumsum(ties, axis=1) <= missing)))[1].reshape(-1, k)
        order = np.argsort(-np.take_along_axis(s, chosen, axis=1), axis=1, kind="stable")
        lists[first : first + step] = np.take_along_axis(chosen, order, axis=1)
        values[first : first + step] = np.take_along_axis(s, lists[first : first + step], axis=1)
    if least == most:
        return Undefined(f"all pairs of the {n} stimuli have the same {what}, so no neighbour is nearer")
    return lists, values


def nearest_by_cosine(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | Undefined:
    """Unit rows of x, the k neighbours of each by cosine, and the cosines."""
    unit = unit_rows(x)
    found = nearest(lambda rows: unit[rows] @ unit.T, len(x), k, "cosine")
    return found if isinstance(found, Undefined) else (unit, *found)


def relabelled(lists: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The lists of the stimuli taken in this order."""
    return np.argsort(order).astype(np.int32)[lists[order]]


def ranks_in(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rank from 1 of every neighbour b[i, j] in the list a[i]; 0 where it is not in there."""
    n, k = a.shape
    out = np.empty_like(b)
    step = max(1, 2**18 // n)  # a table of 1 MiB stays in the cache
    table = np.zeros((min(n, step), n), dtype=np.int32)
    for first in range(0, n, step):
        rows = slice(first, first + step)
        at = np.arange(len(a[rows]))[:, None]
        table[at, a[rows]] = np.arange(1, k + 1)
        out[rows] = table[at, b[rows]]
        table[at, a[rows]] = 0
    return out


def edges(lists: np.ndarray) -> np.ndarray:
    """The pairs (i, neighbour of i) as sorted whole numbers i·n + neighbour."""
    n = len(lists)
    return np.sort((np.arange(n)[:, None] * n + lists).reshape(-1))


def place(sorted_edges: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted edge stands among the sorted ones, and whether it does."""
    at = np.minimum(np.searchsorted(sorted_edges, wanted), len(sorted_edges) - 1)
    return at, sorted_edges[at] == wanted


def hypergeometric(n: int, k: int) -> np.ndarray:
    """Probability of c = 0..k common neighbours when k of n − 1 are drawn at random twice."""
    from math import comb

    others = n - 1
    return np.array([comb(k, c) * comb(others - k, k - c) / comb(others, k) for c in range(k + 1)])
