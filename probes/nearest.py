"""Nearest rows by Euclidean distance, exactly: to the last digits of a distance however near two rows are."""

import numpy as np

from probes.features import TIE_DECIMALS

BLOCK = 4_000_000  # numbers in a block of approximate distances


def nearest_rows(c: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the k < n nearest other rows and which rows they are, both n×k, nearest first.

    c is centred, its largest entry near 1. Distances that agree to 12 decimals tie, and ties go to the lower row.
    Products of rows find the candidates fast; ‖x‖² + ‖y‖² − 2xy loses the digits of a small distance, so the
    candidates that its rounding cannot tell apart are measured again by differences.
    """
    n, d = c.shape
    square = np.einsum("ij,ij->i", c, c)
    slack = 8 * (d + 3) * np.finfo(np.float64).eps * square.max()
    distance, index = np.empty((n, k)), np.empty((n, k), dtype=np.intp)
    block = max(1, BLOCK // n)
    for start in range(0, n, block):
        stop = min(start + block, n)
        rough = square[start:stop, None] + square - 2.0 * (c[start:stop] @ c.T)
        rough[np.arange(stop - start), np.arange(start, stop)] = np.inf
        reach = np.partition(rough, k - 1, axis=1)[:, k - 1] + slack
        for i in range(start, stop):
            candidates = np.flatnonzero(rough[i - start] <= reach[i - start])
            r = np.linalg.norm(c[candidates] - c[i], axis=1)
            order = np.argsort(np.round(r, TIE_DECIMALS), kind="stable")[:k]
            distance[i], index[i] = r[order], candidates[order]
    return distance, index
