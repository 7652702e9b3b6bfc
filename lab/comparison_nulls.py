"""The two permutation nulls of a comparison: for the mean similarity of every two groups of networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lab.errors import UsageError
from probes import PairProbe, Undefined
from probes.all_pairs import Shelf
from probes.moments import Moments, Sums, moments, sums
from probes.nulls import NullResult, closed_form_null, group_nulls, null_result, orders

Networks = tuple[list[int], dict[int, int]]
"""Seeds of a group, in order, and the place of each one's prepared representation on the shelf."""

ROWS = 4000
"""Rows up to which nulls are taken from n×n matrices. Their cost grows as the square and, in closed form, the cube of
n; beyond, permutations are drawn from the prepared representations themselves. A bound on n and not on memory, so that
the numbers do not depend on `--memory`."""

CLOSED = 3
"""Matrices of the size of one that its closed-form sums take beside it."""


class Nulls:
    """Nulls of the mean over pairs of *different* seeds, for every two groups, with the same permutations for all.

    Networks that share a seed share their start and, through it, class means that a within-class permutation keeps; in
    the null as in the value they must not be paired. Seeds are dealt into two halves, and only networks of opposite
    halves meet. For probes that are inner products that takes one mean matrix per group and half; the others, and all
    of them at many rows, take each network with that of the next seed. Both use a part of the pairs, with the centre of
    all of them. Rows of one stimulus move together.

    The global null of such means is known in closed form where their matrices are symmetric and every row is a
    stimulus; the two crossings of halves then enter with the mean of their means and the wider of their spreads, which
    their average cannot exceed.

    Args:
        labels: one per stimulus.
        memory: bytes for mean matrices; where not all of them fit, those of two groups are made at a time.
    """

    def __init__(
        self, probe: PairProbe, shelf: Shelf, groups: Sequence[Networks], labels, permutations: int, memory: int
    ):
        self.probe, self.shelf, self.groups, self.labels = probe, shelf, groups, labels
        self.permutations, self.memory = permutations, memory
        first = shelf[0] if len(shelf) else None
        self._n, self._together = (first.n, first.together) if first else (0, 1)
        self._by_matrix = probe.matrix is not None and self._n <= ROWS
        half = {seed: i % 2 for i, seed in enumerate(sorted({seed for seeds, _ in groups for seed in seeds}))}
        self._chosen = {
            (i, h): chosen
            for i, (seeds, _) in enumerate(groups)
            for h in (0, 1)
            if (chosen := [seed for seed in seeds if half[seed] == h])
        }
        self._drawn: dict[tuple[str, int, int], np.ndarray] = {}
        self._sums: dict[tuple[int, int], Sums] = {}
        self._means: dict[tuple[int, int], np.ndarray] = {}

    def result(self, i: int, j: int, kind: str, observed: float) -> NullResult | None:
        """The null of groups i and j beside the observed mean; None where no two networks can be paired, or where a
        value does not know which stimulus is which."""
        info = self.probe.info
        if not info.paired:
            return None
        best = info.range[1] if info.direction == "similarity" else info.range[0]
        if kind == "global" and self._by_matrix and self.probe.symmetric_matrix and self._together == 1:
            found = self._moments(i, j)
            closed = found and closed_form_null(observed, found, best=best)
            if closed is not None:
                return closed
        values = self.values(i, j, kind)
        return (
            null_result(kind, observed, values, direction=info.direction, best=best)
            if np.isfinite(values).all()
            else None
        )

    def values(self, i: int, j: int, kind: str) -> np.ndarray:
        """K null values of the mean between groups i and j, the same K orders for all; nan where there are none."""
        if (kind, i, j) not in self._drawn:
            if not self._by_matrix:
                self._drawn[kind, i, j] = self._one_by_one(kind, i, j)
            else:
                whole = self._bytes(len(self._chosen)) <= self.memory
                self._draw(kind, range(len(self.groups)) if whole else (i, j))
        return self._drawn[kind, i, j]

    def _bytes(self, matrices: int) -> int:
        """What so many mean matrices take: once by themselves, and once more side by side or in closed form."""
        return 8 * self._n**2 * (matrices + max(matrices, CLOSED))

    def _mean_matrices(self, keys: list[tuple[int, int]]) -> list[np.ndarray]:
        """The mean matrix of each group and half; kept while there is room.

        Raises:
            UsageError: not even those of two groups fit.
        """
        if self._bytes(len(keys)) > self.memory:
            raise UsageError(
                f"the nulls of {self.probe.info.label} at {self._n} rows take {self._bytes(len(keys)) / 1e9:.2g} GB; "
                "give --memory more, or compare on fewer --stimuli"
            )
        if not set(keys) <= set(self._means):
            if self._bytes(len(self._means) + len(keys)) > self.memory:
                self._means.clear()
            for i, h in keys:
                if (i, h) not in self._means:
                    seeds, places = self._chosen[i, h], self.groups[i][1]
                    total = sum(self.probe.matrix(self.shelf[places[seed]]) for seed in seeds)
                    self._means[i, h] = total / len(seeds)
        return [self._means[key] for key in keys]

    def _crossings(self, i: int, j: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Which mean matrices meet: those of opposite halves of the seeds."""
        met = [((i, h), (j, 1 - h)) for h in (0, 1)]
        return [(a, b) for a, b in met if a in self._chosen and b in self._chosen]

    def _moments(self, i: int, j: int) -> Moments | None:
        crossings = self._crossings(i, j)
        for key in {key for pair in crossings for key in pair} - set(self._sums):
            self._sums[key] = sums(self._mean_matrices([key])[0])
        met = [moments(self._sums[a], self._sums[b]) for a, b in crossings]
        if not met:
            return None
        widest = max(met, key=lambda found: found.sd)
        return Moments(float(np.mean([found.mean for found in met])), widest.sd, widest.skewness)

    def _draw(self, kind: str, groups: Sequence[int]) -> None:
        """Null values of all pairs of these groups, from their mean matrices."""
        keys = [key for key in self._chosen if key[0] in groups]
        place = {key: at for at, key in enumerate(keys)}
        drawn = None
        for i in groups:
            for j in groups:
                met = self._crossings(i, j)
                if met and drawn is None:
                    asked = {"kind": kind, "labels": self.labels, "permutations": self.permutations}
                    drawn = group_nulls(self._mean_matrices(keys), **asked, together=self._together)
                self._drawn[kind, i, j] = (
                    np.mean([drawn[:, place[a], place[b]] for a, b in met], axis=0)
                    if met
                    else np.full(self.permutations, np.nan)
                )

    def _one_by_one(self, kind: str, i: int, j: int) -> np.ndarray:
        """From the prepared representations: a value per permutation and pair of networks."""
        probe, (seeds, a), (others, b) = self.probe, self.groups[i], self.groups[j]
        drawn: list[list[float]] = [[] for _ in range(self.permutations)]
        asked = orders(self._n // self._together, kind, self.labels, self.permutations, seed=0) if self._n else []
        for s, t in zip(seeds, others[1:] + others[:1], strict=False):
            if s == t:
                continue
            x, y = self.shelf[a[s]], self.shelf[b[t]]
            for order, values in zip(asked, drawn, strict=True):
                value = probe.value(x, probe.permute(y, order))
                if not isinstance(value, Undefined):
                    values.append(value)
        return np.array([np.mean(values) if values else np.nan for values in drawn])


def null_sources(rows) -> str:
    """How the nulls of a comparison's rows were found: `global in closed form, within-class from 200 permutations`."""
    told = []
    for kind in ("global", "within"):
        draws = sorted(set(rows[f"null_{kind}_draws"][rows[f"null_{kind}"].notna()]))
        ways = ["in closed form" if K == 0 else f"from {K} permutations" for K in draws] or ["not taken"]
        told.append(f"{kind.replace('within', 'within-class')} {' or '.join(ways)}")
    return ", ".join(told)
