"""Distances between all pairs of stimuli, and symmetric matrices kept as the vector of what lies above the diagonal.

The vector goes row after row, (0, 1), (0, 2), ..., (1, 2), ...: n(n − 1)/2 numbers, half the memory of the matrix, and
sums, ranks and medians over pairs are taken on it as it is.
"""

import math

import numpy as np

# Squared distances below this share of the two squared norms are rounding: duplicates are at distance 0 exactly.
DUPLICATE = 1e-14

# Entries of a block that is made at once: 32 MiB in float64. The small one stays in the cache.
BLOCK = 2**22
SMALL_BLOCK = 2**15


def squared_distances(z: np.ndarray) -> np.ndarray:
    """‖z_i − z_j‖² of all pairs of rows i < j, from inner products: centre z first, or digits go to its offset."""
    n = len(z)
    norms = np.einsum("ij,ij->i", z, z)
    v = np.empty(n * (n - 1) // 2)
    step, at = max(1, BLOCK // n), 0
    for first in range(0, n, step):
        rows = slice(first, first + step)
        size = norms[rows, None] + norms[None, first:]
        block = size - 2.0 * (z[rows] @ z[first:].T)
        block[block <= DUPLICATE * size] = 0.0
        upper = block[_above(block)]
        v[at : at + len(upper)] = upper
        at += len(upper)
    return v


def _above(block: np.ndarray) -> np.ndarray:
    return ~np.tri(*block.shape, dtype=bool)


def stimuli(v: np.ndarray) -> int:
    """n of a vector with n(n − 1)/2 entries."""
    return (1 + math.isqrt(1 + 8 * len(v))) // 2


def _look_up(v: np.ndarray, n: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Entries (i, j) of the matrix; on the diagonal, which the vector does not hold, any of its numbers."""
    low = np.minimum(i, j)
    return v[low * (2 * n - low - 1) // 2 - low - 1 + np.maximum(i, j)]


def entries(v: np.ndarray, rows: slice, columns: slice, diagonal: np.ndarray | float = 0.0) -> np.ndarray:
    """That part of the symmetric matrix, float64."""
    n = stimuli(v)
    every = np.arange(n)
    i, j = every[rows, None], every[None, columns]
    out = np.empty((i.size, j.size))
    step = max(1, SMALL_BLOCK // n)
    for first in range(0, len(out), step):
        part = slice(first, first + step)
        out[part] = _look_up(v, n, i[part], j)
    row, column = np.nonzero(i == j)
    out[row, column] = np.broadcast_to(diagonal, n)[i[row, 0]]
    return out


def permuted(v: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The vector of the matrix whose rows and columns are taken in this order."""
    n = len(order)
    out, at = np.empty_like(v), 0
    step = max(1, SMALL_BLOCK // n)
    for first in range(0, n, step):
        block = _look_up(v, n, order[first : first + step, None], order[None, first:])
        upper = block[_above(block)]
        out[at : at + len(upper)] = upper
        at += len(upper)
    return out


def row_sums(v: np.ndarray) -> np.ndarray:
    """Row sums of the symmetric matrix with zeros on its diagonal."""
    n = stimuli(v)
    sums, at = np.zeros(n), 0
    for i in range(n - 1):
        row = v[at : at + n - 1 - i]
        sums[i] += row.sum()
        sums[i + 1 :] += row
        at += len(row)
    return sums


def double_centred(v: np.ndarray, unbiased: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A matrix M with zeros on its diagonal, centred: what is above the diagonal, and the diagonal.

        biased:    HMH = M_ij − r_i/n − r_j/n + Σr/n²,                     H = I − 11ᵀ/n,  r_i = Σ_j M_ij
        unbiased:  M_ij − r_i/(n−2) − r_j/(n−2) + Σr/((n−1)(n−2)) for i ≠ j, and 0 for i = j

    The second is the U-centring of Székely and Rizzo 2014, whose inner products are n(n − 3) times Song's HSIC.
    """
    sums = row_sums(v)
    n = len(sums)
    share = sums / (n - 2 if unbiased else n)
    share -= sums.sum() / ((n - 1) * (n - 2) if unbiased else n * n) / 2.0
    out, at = v.copy(), 0
    for i in range(n - 1):
        out[at : at + n - 1 - i] -= share[i] + share[i + 1 :]
        at += n - 1 - i
    return out, np.zeros(n) if unbiased else -2.0 * share
