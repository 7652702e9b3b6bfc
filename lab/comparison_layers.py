"""Comparing representations: one pair probe at one layer of every run, with the permutation nulls."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from lab.comparison_nulls import ROWS, Nulls
from lab.comparison_table import Group, Measured, Plan, pair_up, tabulate
from lab.errors import LabError, UsageError
from probes import PairProbe, Prepared, ProbeError, Undefined
from probes.all_pairs import Shelf, all_pairs, prepare_all
from probes.cautions import cautions
from probes.feature_maps import different_positions, positions_of


def common_layers(hidden: Sequence[Collection[str]], asked: tuple[str, ...] | None) -> list[str]:
    """The hidden blocks of all runs, each to be compared with its namesakes: fixed beforehand, so none is chosen by
    its value."""
    common = [layer for layer in hidden[0] if all(layer in its for its in hidden)]
    if asked:
        missing = [layer for layer in asked if layer not in common]
        if missing:
            raise UsageError(f"--layer {missing[0]} is not a hidden block of all runs; they share {', '.join(common)}")
        return list(asked)
    if not common:
        raise UsageError("these runs have no hidden block of the same name; compare runs of one kind of network")
    return common


@dataclass(frozen=True)
class Representations(Measured):
    """The representations of one run at one layer that have a value, prepared for one probe.

    Attributes:
        places: seed -> place of its prepared representation on the shelf.
        sketches: the same without their content, of which remarks are made.
    """

    layer: str
    places: dict[int, int] = field(default_factory=dict)
    sketches: list[Prepared] = field(default_factory=list)

    def add(self, seed: int, p: Prepared, untrained: float | Undefined, place: int) -> None:
        self.seeds.append(seed)
        self.untrained.append(untrained)
        self.places[seed] = place
        self.sketches.append(sketch(p))


def sketch(p: Prepared) -> Prepared:
    """A prepared representation without its content: remarks are made of shapes, which take no memory."""
    return replace(p, arrays=tuple(np.broadcast_to(np.float64(0), array.shape) for array in p.arrays))


@contextmanager
def prepared_at(
    probe: PairProbe, sites: Sequence[tuple[Group, str]], memory: int
) -> Iterator[tuple[Shelf, list[Representations]]]:
    """All networks of some runs at some layers, prepared one after another; what does not fit is kept on disk."""
    require_same_positions(probe, sites)
    measured = [Representations(group, [], {}, [], layer) for group, layer in sites]

    networks = [(m, seed) for m in measured for seed in m.group.seeds]

    def shown() -> Iterator[np.ndarray]:
        for m, seed in networks:
            for state in (m.group.trained, m.group.start):
                yield m.group.shaped(m.layer, state[m.layer][seed])

    def everyone() -> Iterator[Prepared]:
        made, place = prepare_all(probe, shown(), memory // 2), 0
        for m, seed in networks:
            try:
                p, start = next(made), next(made)
            except ProbeError as error:
                raise LabError(f"{m.group.label}, seed {seed}, {m.layer}: {error}") from None
            if p.undefined is not None:
                m.undefined[seed] = p.undefined.reason
                continue
            m.add(seed, p, probe.value(p, start), place)
            place += 1
            yield p

    with Shelf(everyone(), memory // 2) as shelf:
        yield shelf, measured


def require_same_positions(probe: PairProbe, sites: Sequence[tuple[Group, str]]) -> None:
    """Where every position is a stimulus, all must have the same ones.

    Raises:
        UsageError: naming the first two that differ.
    """
    if probe.info.maps != "positions":
        return
    there = [(f"{g.label} at {layer}", positions_of((1, *g.shapes.get(layer, (1,))))) for g, layer in sites]
    for name, positions in there[1:]:
        if positions != there[0][1]:
            raise UsageError(different_positions(probe.info.label, *there[0], name, positions))


def remarks_on(probe: PairProbe, a: Sequence[Prepared], b: Sequence[Prepared], labels) -> list[str]:
    """What a reader of the values between two runs' networks should be told besides them."""
    known = [*a, *b]
    if not known:
        return []
    n, together = known[0].n, known[0].together
    widths = [max((p.d for p in side), default=0) for side in (a, b)]
    return cautions(probe, n, *widths, np.repeat(labels, together), known)


def values_between(probe: PairProbe, shelf: Shelf, memory: int) -> np.ndarray:
    """Values between all networks on a shelf.

    n×n matrices pay where many networks share the making of each; at many rows a few are compared faster one by one.
    """
    if not len(shelf):
        return np.empty((0, 0))
    first = shelf[0]
    if first.n > ROWS and len(shelf) * first.d < first.n:
        probe = probe._replace(matrix=None)
    return all_pairs(probe, (shelf[i] for i in range(len(shelf))), memory=memory)


def compare_layer(probe: PairProbe, layer: str, groups: list[Group], labels, plan: Plan, memory: int):
    """All rows and all pairs of networks of one probe at one layer."""
    with prepared_at(probe, [(group, layer) for group in groups], memory) as (shelf, measured):
        values = values_between(probe, shelf, memory)
        pairings = {(i, j): pair_up(measured[i], measured[j]) for i, j in combinations(range(len(measured)), 2)}
        runs, places = [m.group.folder.id for m in measured], [m.places for m in measured]
        nulls = Nulls(probe, shelf, runs, places, pairings, labels, plan.permutations, memory)

        def remarks(i: int, j: int) -> list[str]:
            return remarks_on(probe, measured[i].sketches, measured[j].sketches, labels)

        return tabulate(probe.info, layer, measured, values, plan, nulls.result, remarks)
