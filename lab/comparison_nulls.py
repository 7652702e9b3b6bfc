"""The two permutation nulls of a comparison: for the mean similarity of every two groups of networks."""

from __future__ import annotations

import itertools

import numpy as np

from probes import PairProbe, Prepared, Undefined
from probes.moments import Moments, moments, sums
from probes.nulls import NullResult, closed_form_null, group_nulls, null_result, orders

Networks = tuple[list[int], dict[int, Prepared]]
"""Seeds of a group, in order, and the prepared representation of each."""


class Nulls:
    """Nulls of the mean over pairs of *different* seeds, for every two groups, with the same permutations for all.

    Networks that share a seed share their start and, through it, class means that a within-class permutation keeps; in
    the null as in the value they must not be paired. Seeds are dealt into two halves, and only networks of opposite
    halves meet. For probes that are inner products that takes one mean matrix per group and half; the others take
    each network with that of the next seed. Both use a part of the pairs, with the centre of all of them.

    The global null of such means is known in closed form where their matrices are symmetric; the two crossings of
    halves then enter with the mean of their means and the wider of their spreads, which their average cannot exceed.
    """

    def __init__(self, probe: PairProbe, groups: list[Networks], labels, permutations: int):
        self.probe, self.groups, self.labels, self.permutations = probe, groups, labels, permutations
        half = {seed: i % 2 for i, seed in enumerate(sorted({seed for seeds, _ in groups for seed in seeds}))}
        self._chosen = {
            (i, h): chosen
            for i, (seeds, _) in enumerate(groups)
            for h in (0, 1)
            if (chosen := [seed for seed in seeds if half[seed] == h])
        }
        self._place = {key: at for at, key in enumerate(self._chosen)}
        self._drawn: dict[str, np.ndarray] = {}
        self._means = self._sums = None

    def result(self, i: int, j: int, kind: str, observed: float) -> NullResult | None:
        """The null of groups i and j beside the observed mean; None where no two networks can be paired."""
        info = self.probe.info
        best = info.range[1] if info.direction == "similarity" else info.range[0]
        if kind == "global" and self.probe.matrix is not None and self.probe.symmetric_matrix:
            found = self._moments(i, j)
            closed = found and closed_form_null(observed, found, best=best)
            if closed is not None:
                return closed
        if kind not in self._drawn:
            self._drawn[kind] = self._draw(kind)
        values = self._drawn[kind][:, i, j]
        return (
            null_result(kind, observed, values, direction=info.direction, best=best)
            if np.isfinite(values).all()
            else None
        )

    def _mean_matrices(self) -> list[np.ndarray]:
        if self._means is None:
            self._means = [
                sum(self.probe.matrix(self.groups[i][1][seed]) for seed in seeds) / len(seeds)
                for (i, _), seeds in self._chosen.items()
            ]
        return self._means

    def _crossings(self, i: int, j: int) -> list[tuple[int, int]]:
        """Which mean matrices meet: those of opposite halves of the seeds."""
        keys = [((i, h), (j, 1 - h)) for h in (0, 1)]
        return [(self._place[a], self._place[b]) for a, b in keys if a in self._place and b in self._place]

    def _moments(self, i: int, j: int) -> Moments | None:
        if self._sums is None:
            self._sums = [sums(mean) for mean in self._mean_matrices()]
        met = [moments(self._sums[a], self._sums[b]) for a, b in self._crossings(i, j)]
        if not met:
            return None
        widest = max(met, key=lambda found: found.sd)
        return Moments(float(np.mean([found.mean for found in met])), widest.sd, widest.skewness)

    def _draw(self, kind: str) -> np.ndarray:
        """Null values of all pairs of groups: (K, groups, groups); nan where there are none."""
        null = np.full((self.permutations, len(self.groups), len(self.groups)), np.nan)
        if not self._chosen:
            return null
        if self.probe.matrix is None:
            return self._one_by_one(kind, null)
        drawn = group_nulls(self._mean_matrices(), kind=kind, labels=self.labels, permutations=self.permutations)
        for i, j in itertools.combinations(range(len(self.groups)), 2):
            met = self._crossings(i, j)
            if met:
                null[:, i, j] = np.mean([drawn[:, a, b] for a, b in met], axis=0)
        return null

    def _one_by_one(self, kind: str, null: np.ndarray) -> np.ndarray:
        """For probes that are no inner product: a value per pair and permutation."""
        probe = self.probe
        n = next(p.n for _, prepared in self.groups for p in prepared.values())
        for k, order in enumerate(orders(n, kind, self.labels, len(null), seed=0)):
            for i, j in itertools.combinations(range(len(self.groups)), 2):
                (seeds, a), (others, b) = self.groups[i], self.groups[j]
                met = [(s, t) for s, t in zip(seeds, others[1:] + others[:1], strict=False) if s != t]
                drawn = [probe.value(a[s], probe.permute(b[t], order)) for s, t in met]
                drawn = [v for v in drawn if not isinstance(v, Undefined)]
                null[k, i, j] = np.mean(drawn) if drawn else np.nan
        return null


def null_sources(rows) -> str:
    """How the nulls of a comparison's rows were found: `global in closed form, within-class from 200 permutations`."""
    told = []
    for kind in ("global", "within"):
        draws = sorted(set(rows[f"null_{kind}_draws"][rows[f"null_{kind}"].notna()]))
        ways = ["in closed form" if K == 0 else f"from {K} permutations" for K in draws] or ["not taken"]
        told.append(f"{kind.replace('within', 'within-class')} {' or '.join(ways)}")
    return ", ".join(told)
