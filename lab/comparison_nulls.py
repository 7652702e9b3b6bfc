"""The two permutation nulls of a comparison: for the mean similarity of every two groups of networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle

import numpy as np

from lab.comparison_table import Pairing
from lab.errors import UsageError
from probes import PairProbe, Undefined
from probes.all_pairs import Shelf
from probes.moments import Sums, moments, sums
from probes.nulls import NullResult, closed_form_null, group_nulls, null_result, orders

Part = tuple[int, tuple[int, ...]]
"""A group of networks and some of its seeds."""

ROWS = 4000
"""Rows up to which nulls are taken from n×n matrices. Their cost grows as the square and, in closed form, the cube of
n; beyond, permutations are drawn from the prepared representations themselves. A bound on n and not on memory, so that
the numbers do not depend on `--memory`."""

CLOSED = 3
"""Matrices of the size of one that its closed-form sums take beside it."""


class Nulls:
    """Nulls of the mean over the compared pairs of networks, for every two groups, with the same permutations for all.

    A test is of one statistic in the order as it is and in K others, over the same pairs of networks each time: what
    differs from pair to pair, such as how well a network separates the classes, is then in all K + 1 numbers alike.
    Which pairs: paired networks of one seed share their start and, through it, class means that a within-class
    permutation keeps; they must not meet. Their seeds are dealt into two halves, and those of the first half of one
    rule meet those of the other half of the other. Not the other way round as well: where networks of one seed are
    alike, the two crossings are nearly one number in the order as it is and two after a permutation, whose mean then
    spreads too little. Unpaired networks all meet. For probes that are inner products that takes one mean matrix per
    part of a group; the others, and all at many rows, take each network once. Value, null and p are of these pairs,
    whose mean is not quite that over all that are compared. Rows of one stimulus move together.

    The global null of such means is known in closed form where their matrices are symmetric and every row is a
    stimulus.

    Args:
        runs: id of each group's run. Of two groups the first by it meets, and stays, as the first, so that p does not
            depend on the order in which they were named.
        places: of each group, seed -> place of its prepared representation on the shelf.
        pairings: which seeds of which two groups are compared.
        labels: one per stimulus.
        memory: bytes for mean matrices; where not all of them fit, those of two groups are made at a time.
    """

    def __init__(
        self,
        probe: PairProbe,
        shelf: Shelf,
        runs: Sequence[str],
        places: Sequence[Mapping[int, int]],
        pairings: Mapping[tuple[int, int], Pairing],
        labels,
        permutations: int,
        memory: int,
    ):
        self.probe, self.shelf, self.places = probe, shelf, places
        self.labels, self.permutations, self.memory = labels, permutations, memory
        first = shelf[0] if len(shelf) else None
        self._n, self._together = (first.n, first.together) if first else (0, 1)
        self._by_matrix = probe.matrix is not None and self._n <= ROWS
        self._met = {pair: meeting for pair, pairing in pairings.items() if (meeting := _meeting(*pair, pairing, runs))}
        self._known: dict[tuple[str, int, int], np.ndarray] = {}
        self._sums: dict[Part, Sums] = {}
        self._means: dict[Part, np.ndarray] = {}

    def result(self, i: int, j: int, kind: str) -> NullResult | None:
        """The null of groups i and j; None where no two networks can be paired, or where a value does not know which
        stimulus is which."""
        info = self.probe.info
        if not info.paired:
            return None
        best = info.range[1] if info.direction == "similarity" else info.range[0]
        closed_form = kind == "global" and self._by_matrix and self.probe.symmetric_matrix and self._together == 1
        if closed_form and (i, j) in self._met:
            found = moments(*(self._sums_of(part) for part in self._met[i, j]))
            closed = closed_form_null(self._as_it_is(i, j), found, best=best)
            if closed is not None:
                return closed
        values = self.statistics(i, j, kind)
        if not np.isfinite(values).all():
            return None
        return null_result(kind, values[0], values[1:], direction=info.direction, best=best)

    def statistics(self, i: int, j: int, kind: str) -> np.ndarray:
        """The statistic of groups i and j in the order as it is, then in K orders that are the same for all groups;
        nan where there is none."""
        if (kind, i, j) not in self._known:
            if (i, j) not in self._met:
                self._known[kind, i, j] = np.full(self.permutations + 1, np.nan)
            elif not self._by_matrix:
                self._known[kind, i, j] = self._one_by_one(kind, i, j)
            else:
                whole = self._bytes(len(_parts(self._met.values()))) <= self.memory
                self._draw(kind, self._met if whole else [(i, j)])
        return self._known[kind, i, j]

    def _bytes(self, matrices: int) -> int:
        """What so many mean matrices take: once by themselves, and once more side by side or in closed form."""
        return 8 * self._n**2 * (matrices + max(matrices, CLOSED))

    def _mean_matrices(self, parts: Sequence[Part]) -> list[np.ndarray]:
        """The mean matrix of each part of a group; kept while there is room.

        Raises:
            UsageError: not even those of two groups fit.
        """
        if self._bytes(len(parts)) > self.memory:
            raise UsageError(
                f"the nulls of {self.probe.info.label} at {self._n} rows take {self._bytes(len(parts)) / 1e9:.2g} GB; "
                "give --memory more, or compare on fewer --stimuli"
            )
        if not set(parts) <= set(self._means):
            if self._bytes(len(self._means) + len(parts)) > self.memory:
                self._means.clear()
            for i, seeds in parts:
                if (i, seeds) not in self._means:
                    total = sum(self.probe.matrix(self.shelf[self.places[i][seed]]) for seed in seeds)
                    self._means[i, seeds] = total / len(seeds)
        return [self._means[part] for part in parts]

    def _as_it_is(self, i: int, j: int) -> float:
        """The statistic in the order of the stimuli as it is."""
        return float(np.vdot(*self._mean_matrices(self._met[i, j])))

    def _sums_of(self, part: Part) -> Sums:
        if part not in self._sums:
            self._sums[part] = sums(self._mean_matrices([part])[0])
        return self._sums[part]

    def _draw(self, kind: str, pairs: Iterable[tuple[int, int]]) -> None:
        """The statistics of all of these pairs of groups, from their mean matrices."""
        parts = _parts(self._met[pair] for pair in pairs)
        place = {part: at for at, part in enumerate(parts)}
        asked = {"kind": kind, "labels": self.labels, "permutations": self.permutations, "together": self._together}
        drawn = group_nulls(self._mean_matrices(parts), **asked)
        for i, j in pairs:
            a, b = self._met[i, j]
            self._known[kind, i, j] = np.array([self._as_it_is(i, j), *drawn[:, place[a], place[b]]])

    def _one_by_one(self, kind: str, i: int, j: int) -> np.ndarray:
        """The statistics from the prepared representations: a value per order and pair of networks, both ways where
        that matters."""
        probe, ((first, a), (other, b)) = self.probe, self._met[i, j]
        met = _each_once(a, b)
        n = self._n // self._together
        asked = [np.arange(n), *orders(n, kind, self.labels, self.permutations, seed=0)]
        found = np.empty((len(met), len(asked)))
        for values, (s, t) in zip(found, met, strict=True):
            x, y = self.shelf[self.places[first][s]], self.shelf[self.places[other][t]]
            for k, order in enumerate(asked):
                moved = probe.permute(y, order)
                ways = (
                    [probe.value(x, moved)] if probe.info.symmetric else [probe.value(x, moved), probe.value(moved, x)]
                )
                values[k] = np.mean([np.nan if isinstance(value, Undefined) else value for value in ways])
        return found.mean(axis=0)


def _meeting(i: int, j: int, pairing: Pairing, runs: Sequence[str]) -> tuple[Part, Part] | None:
    """Which networks of two groups meet, the first run first; None where there are none that may."""
    (i, a), (j, b) = sorted(((i, sorted(pairing.a)), (j, sorted(pairing.b))), key=lambda side: runs[side[0]])
    if pairing.paired:
        a, b = a[::2], b[1::2]
    return ((i, tuple(a)), (j, tuple(b))) if a and b else None


def _each_once(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    """The fewest pairs of these seeds in which each occurs."""
    return [(s, t) for s, t, _ in zip(cycle(a), cycle(b), range(max(len(a), len(b))), strict=False)]


def _parts(met: Iterable[tuple[Part, Part]]) -> list[Part]:
    """All that meet, each once."""
    return list(dict.fromkeys(part for pair in met for part in pair))


def null_sources(rows) -> str:
    """How the nulls of a comparison's rows were found: `global in closed form, within-class from 200 permutations`."""
    told = []
    for kind in ("global", "within"):
        draws = sorted(set(rows[f"null_{kind}_draws"][rows[f"null_{kind}"].notna()]))
        ways = ["in closed form" if K == 0 else f"from {K} permutations" for K in draws] or ["not taken"]
        told.append(f"{kind.replace('within', 'within-class')} {' or '.join(ways)}")
    return ", ".join(told)
