"""Ways to compare two vectors of dissimilarities: ranks with their ties, and Kendall's τ in N log N."""

import numpy as np

from probes.features import TIE_DECIMALS
from probes.probe import Undefined

EQUAL = "all pairs of stimuli are equally dissimilar, so there is no order to compare"


def tied(v: np.ndarray) -> np.ndarray | Undefined:
    """Dissimilarities as shares of the largest, rounded so that ties are exact; Undefined when all tie."""
    largest = v.max()
    shares = v / largest if largest > 0 else v
    np.round(shares, TIE_DECIMALS, out=shares)
    return Undefined(EQUAL) if shares.min() == shares.max() else shares


def doubled_ranks(v: np.ndarray) -> np.ndarray:
    """2·rank − (N + 1) with average ranks 1..N for ties: whole numbers whose mean is 0, as int32."""
    N = len(v)
    order = np.argsort(v)
    s = v[order]
    first = np.append(True, s[1:] != s[:-1])  # of those that tie
    del s  # 8 bytes for each of up to 5e7 pairs: what is held at once decides whether 10,000 stimuli fit
    starts = np.flatnonzero(first).astype(np.int32)
    sizes = np.diff(starts, append=np.int32(N))
    ranks = np.empty(N, dtype=np.int32)
    ranks[order] = np.repeat(starts + (starts + sizes - N), sizes)
    return ranks


def inner(a: np.ndarray, b: np.ndarray) -> float:
    """Σ a_p b_p in float64, in pieces so that whole numbers are not converted all at once."""
    step = 2**16
    pieces = (slice(at, at + step) for at in range(0, len(a), step))
    return float(sum(a[p].astype(np.float64) @ b[p].astype(np.float64) for p in pieces))


def _tied_pairs(ordered: np.ndarray) -> int:
    """How many pairs of entries of a sorted vector are equal."""
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    runs = np.diff(ends, prepend=-1)
    return int((runs * (runs - 1) // 2).sum())


def inversions(s: np.ndarray) -> int:
    """How many pairs p < q have s_p > s_q: a merge sort from the bottom, one level of it at a time.

    Runs of 64 are compared with themselves, shifted. In a stable merge of two sorted halves of width w, the r-th entry
    (from 0) of the right half that lands at place p has passed w − (p − r) larger entries of the left half.
    """
    width = 64
    runs = np.full((-(-len(s) // width), width), np.iinfo(s.dtype).max, dtype=s.dtype)
    runs.reshape(-1)[: len(s)] = s
    count = sum(int(np.count_nonzero(runs[:, :-shift] > runs[:, shift:])) for shift in range(1, width))
    runs.sort(axis=1)
    while len(runs) > 1:
        if len(runs) % 2:
            runs = np.vstack([runs, np.full_like(runs[:1], np.iinfo(s.dtype).max)])
        halves = runs.reshape(-1, 2 * width)
        order = np.argsort(halves, axis=1, kind="stable")
        places = int(np.nonzero(order >= width)[1].sum())
        count += len(halves) * (width * width + width * (width - 1) // 2) - places
        runs = np.take_along_axis(halves, order, axis=1)
        width *= 2
    return count


def kendall_tau_a(a: np.ndarray, b: np.ndarray) -> float:
    """(concordant − discordant pairs of entries) / (all pairs of entries) of two vectors of whole numbers.

    Entries are sorted by a and, among equal ones, by b; what is still out of order in b is discordant (Knight 1966).
    """
    N = len(a)
    low = int(b.min())
    span = int(b.max()) - low + 1
    keys = np.sort(a.astype(np.int64) * span + (b - low))
    discordant = inversions((keys % span).astype(np.int32))
    tied_somewhere = _tied_pairs(np.sort(a)) + _tied_pairs(np.sort(b)) - _tied_pairs(keys)
    every = N * (N - 1) // 2
    return (every - tied_somewhere - 2 * discordant) / every
