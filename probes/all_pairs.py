"""All pairs of many representations at once, within a memory limit.

Each representation is prepared once. Values that are inner products of n×n matrices then follow for all pairs as
matrix products: the matrices are made a block of rows at a time, one row of numbers per representation, and every
block adds its products to the m×m table. Only the upper triangle is made where the matrices are symmetric. What does
not fit beside the blocks is kept on disk and read a group at a time.
"""

import itertools
import math
import os
import re
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from probes.probe import PairProbe, Prepared, ProbeError, Undefined

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
MEMORY = 2 * 2**30
SMALLEST = 2**20
CACHED = 2**17  # entries, 1 MiB
SCRATCH = 40  # bytes per pair of stimuli that the greediest preparation, sorting all dissimilarities, holds at once
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bytes_of(text: str) -> int:
    """Bytes in `3GB`, `512MiB` or `1000000`.

    Raises:
        ProbeError: it is no such amount, or below 1 MiB.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?b|b?)", str(text).strip().lower())
    if not found:
        raise ProbeError(f"{text!r} is no amount of memory; write it like 3GB or 512MiB.")
    amount = int(float(found[1]) * UNITS[found[2]])
    if amount < SMALLEST:
        raise ProbeError(f"{text!r} is less than 1 MiB, too little to hold a block of rows; give more.")
    return amount


class Shelf:
    """Prepared representations in memory up to a limit, the others on disk; a context manager that cleans up.

    Args:
        prepared: made one at a time, so that raw arrays need not all be there at once.
        memory: bytes that may stay in memory.
        folder: where a temporary folder is made if they do not fit; the system's own by default.
    """

    def __init__(self, prepared: Iterable[Prepared], memory: int, folder: Path | None = None):
        self.sizes: list[int] = []
        self.full = False
        self._items: list[Prepared] = []
        self._stored: dict[int, list[Path]] = {}
        with ExitStack() as stack:
            place = None
            for i, item in enumerate(prepared):
                self.sizes.append(sum(array.nbytes for array in item.arrays))
                self.full = self.full or sum(self.sizes) > memory
                if self.full:
                    place = place or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
                    self._stored[i] = [place / f"{i}-{j}.npy" for j in range(len(item.arrays))]
                    for path, array in zip(self._stored[i], item.arrays, strict=True):
                        np.save(path, array)
                    item = replace(item, arrays=())
                self._items.append(item)
            self._stack = stack.pop_all()

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, i: int) -> Prepared:
        item = self._items[i]
        return replace(item, arrays=tuple(map(np.load, self._stored[i]))) if i in self._stored else item

    def rows(self) -> set[int]:
        """How many rows they have: one number if they can be compared."""
        return {item.n for item in self._items}

    def __enter__(self) -> "Shelf":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()


def prepare_all(probe: PairProbe, arrays: Iterable[Any], memory: int = MEMORY) -> Iterator[Prepared]:
    """`probe.prepare` of each array, in order, several at a time: sorting and products run without Python's lock.

    Args:
        arrays: n×d each; an iterator is read as they are needed, so that they are not all there at once.
        memory: bytes for what is being prepared at one time; one array at a time where it is not enough for two.

    Raises:
        ProbeError: as `probe.prepare` does, for the array whose turn it is.
    """
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(CORES)
    try:
        for array in arrays:
            waiting.append(pool.submit(probe.prepare, array))
            rows = math.prod(array.shape[:-1]) if probe.info.maps == "positions" else len(array)
            if len(waiting) >= min(CORES, memory // (SCRATCH * rows**2)):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def all_pairs(
    probe: PairProbe, prepared: Iterable[Prepared], *, memory: int = MEMORY, folder: Path | None = None
) -> np.ndarray:
    """Values between all representations: m×m float64, entry [i, j] the value of (i, j), nan where it is undefined.

    Args:
        prepared: what `prepare_all` made of them; an iterator is read once, so that raw arrays need not all be kept.
        memory: bytes for prepared representations and blocks together.
        folder: where what does not fit is kept meanwhile.

    Raises:
        ProbeError: as `probe.value` does, or they differ in their number of rows.
    """
    with Shelf(prepared, memory // 2, folder) as shelf:
        if len(shelf.rows()) > 1:
            raise ProbeError(
                f"the representations have {' and '.join(map(str, sorted(shelf.rows())))} rows, but row i of all must "
                "be the same stimulus; compute them on the same stimuli."
            )
        values = np.full((len(shelf), len(shelf)), np.nan)
        groups = _groups(shelf.sizes, memory // 4 if shelf.full else math.inf)
        for g, one in enumerate(groups):
            left = {i: p for i in one if (p := shelf[i]).undefined is None}
            for other in groups[: g + 1]:
                right = left if other is one else {i: p for i in other if (p := shelf[i]).undefined is None}
                if left and right:
                    _fill(values, probe, left, right, memory // 2)
        return values


def _groups(sizes: list[int], limit: float) -> list[list[int]]:
    """Consecutive items whose sizes add up to at most the limit; one at least."""
    groups: list[list[int]] = []
    held = 0
    for i, size in enumerate(sizes):
        if not groups or held + size > limit:
            groups.append([])
            held = 0
        groups[-1].append(i)
        held += size
    return groups


def _fill(values: np.ndarray, probe: PairProbe, left: dict[int, Prepared], right: dict[int, Prepared], memory: int):
    """Values of all pairs of two groups, in both orders; `right` may be `left`."""
    if probe.matrix is not None:
        found = products(probe, list(left.values()), None if right is left else list(right.values()), memory)
        found = np.clip(found, *probe.info.range)
        values[np.ix_(list(left), list(right))] = found
        values[np.ix_(list(right), list(left))] = found.T
        return

    def value(x: Prepared, y: Prepared) -> float:
        found = probe.value(x, y)
        return math.nan if isinstance(found, Undefined) else found

    for (i, x), (j, y) in itertools.product(left.items(), right.items()):
        if not probe.info.symmetric:
            values[i, j] = value(x, y)
            values[j, i] = values[j, i] if right is left else value(y, x)
        elif right is not left or j <= i:
            values[i, j] = values[j, i] = value(x, y)


def products(
    probe: PairProbe, left: list[Prepared], right: list[Prepared] | None = None, memory: int = MEMORY
) -> np.ndarray:
    """⟨M_x, M_y⟩ for all x in left and y in right (left again if None), from blocks of rows of all matrices at once.

    On an accelerator the blocks are made and multiplied there, in float64; on a CPU by NumPy, whose BLAS notices
    that a product with its own transpose is symmetric.
    """
    import jax

    if jax.default_backend() == "cpu":
        return _blockwise(np, probe, left, right, memory)
    with jax.enable_x64(True):
        there = [replace(p, arrays=tuple(map(jax.device_put, p.arrays))) for p in (*left, *(right or ()))]
        other = None if right is None else there[len(left) :]
        return np.asarray(_blockwise(jax.numpy, probe, there[: len(left)], other, memory))


def _blockwise(xp: Any, probe: PairProbe, left: list[Prepared], right: list[Prepared] | None, memory: int) -> Any:
    sides = [left] if right is None else [left, right]
    n = left[0].n
    # Half of the memory is for what the parts are made from; a part that fits the cache is made several times faster.
    block = max(1, min(n, memory // (2 * 8 * n * sum(map(len, sides))), CACHED // n))
    table = xp.zeros((len(left), len(sides[-1])))
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        columns = slice(start if probe.symmetric_matrix else 0, n)
        # What lies above the diagonal block counts twice, √2 in each factor.
        weight = xp.where(xp.arange(n)[columns] < rows.stop, 1.0, math.sqrt(2)) if probe.symmetric_matrix else 1.0
        stacks = [_stacked(xp, probe, side, rows, columns, weight) for side in sides]
        table = table + stacks[0] @ stacks[-1].T
    return table


def _stacked(xp: Any, probe: PairProbe, side: list[Prepared], rows: slice, columns: slice, weight: Any) -> Any:
    """One row of numbers per representation: its part of the matrix, weighted."""
    if xp is not np:
        return xp.stack([xp.ravel(probe.matrix(p, rows, columns) * weight) for p in side])
    stack = np.empty((len(side), rows.stop - rows.start, columns.stop - columns.start))
    for part, p in zip(stack, side, strict=True):
        np.multiply(probe.matrix(p, rows, columns), weight, out=part)
    return stack.reshape(len(side), -1)
