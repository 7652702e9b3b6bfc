"""Comparing representations: one pair probe at one layer of every run, with the permutation nulls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lab.comparison_nulls import Nulls
from lab.comparison_table import Group, Measured, Plan, tabulate
from lab.errors import UsageError
from probes import PairProbe, Prepared
from probes.all_pairs import all_pairs, prepare_all
from probes.cautions import cautions


def common_layers(groups: list[Group], asked: tuple[str, ...] | None) -> list[str]:
    """The blocks that are compared with their namesakes: fixed beforehand, so no layer is chosen by its value."""
    common = [layer for layer in groups[0].trained if all(layer in group.trained for group in groups)]
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
    """The representations that have a value, prepared once for one probe, and how many units they have."""

    prepared: dict[int, Prepared]
    width: int


def _measured(probe: PairProbe, layer: str, group: Group) -> Representations:
    representations = (group.trained[layer][seed] for seed in group.seeds)
    prepared = dict(zip(group.seeds, prepare_all(probe, representations), strict=True))
    undefined = {s: p.undefined.reason for s, p in prepared.items() if p.undefined is not None}
    trained = {seed: p for seed, p in prepared.items() if p.undefined is None}
    starts = prepare_all(probe, (group.start[layer][seed] for seed in trained))
    untrained = [probe.value(p, start) for p, start in zip(trained.values(), starts, strict=True)]
    width = next(iter(group.trained[layer].values())).shape[1] if group.trained[layer] else 0
    return Representations(group, list(trained), undefined, untrained, trained, width)


def compare_layer(probe: PairProbe, layer: str, groups: list[Group], labels, plan: Plan, memory: int):
    """All rows and all pairs of networks of one probe at one layer."""
    measured = [_measured(probe, layer, group) for group in groups]
    everyone = [p for m in measured for p in m.prepared.values()]
    values = all_pairs(probe, everyone, memory=memory) if everyone else np.empty((0, 0))
    nulls = Nulls(probe, [(m.seeds, m.prepared) for m in measured], labels, plan.permutations)

    def remarks(i: int, j: int) -> list[str]:
        a, b = measured[i], measured[j]
        return cautions(probe, plan.stimuli, a.width, b.width, labels, [*a.prepared.values(), *b.prepared.values()])

    return tabulate(probe.info, layer, measured, values, plan, nulls.result, remarks)
