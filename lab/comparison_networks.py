"""Comparing what networks do: one functional probe of two networks, between all networks of all runs."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import numpy as np

from lab.cells import mean_parts
from lab.comparison_table import Group, Measured, Plan, tabulate
from probes import Undefined, headline
from probes.probe import FunctionalProbe
from probes.subject import Subject, Task

NO_NULL = "a functional measure has no permutation null"
NO_BASELINE = Undefined("it rests on what networks answer right, and an untrained network answers by chance")


def against_its_start(probe: FunctionalProbe) -> bool:
    """Whether a trained network may be held against its own start.

    Not where a value is relative to what the other network gets right: one that is cut at a layer, or attacked.
    """
    return not probe.by_layer and probe.info.name != "adversarial-transfer"


def compare_networks(probe: FunctionalProbe, layer: str, groups: list[Group], task: Task, plan: Plan):
    """All rows and all pairs of networks of one probe, at one layer if it reads one."""

    def at(network: Subject) -> Subject:
        return network.at(layer) if probe.by_layer else network

    def untrained(group: Group, seed: int) -> float | Undefined:
        if not against_its_start(probe):
            return NO_BASELINE
        return headline(probe.value(task, group.networks[seed], group.untrained[seed]))

    measured = [Measured(g, g.seeds, {}, [untrained(g, seed) for seed in g.seeds]) for g in groups]
    everyone = [(g, seed, at(group.networks[seed])) for g, group in enumerate(groups) for seed in group.seeds]
    values = np.zeros((len(everyone), len(everyone)))
    further, reasons = defaultdict(list), defaultdict(Counter)
    for (i, (g, s, a)), (j, (h, t, b)) in itertools.permutations(enumerate(everyone), 2):
        if probe.info.symmetric and i > j:
            values[i, j] = values[j, i]
            continue
        found = probe.value(task, a, b)
        head, runs = headline(found), (min(g, h), max(g, h))
        values[i, j] = np.nan if isinstance(head, Undefined) else head
        if isinstance(head, Undefined):
            reasons[runs][head.reason] += 1
        if s != t:
            further[runs].append(found)

    def remarks(i: int, j: int) -> list[str]:
        lost = sum((reasons[runs] for runs in ((i, i), (j, j), (i, j))), Counter())
        told = [
            f"{probe.info.name}, no value for {count} pairs of networks: {reason}" for reason, count in lost.items()
        ]
        parts = [f"{k} {v:.4g}" for k, v in mean_parts(further[i, j]).items() if v is not None]
        return [NO_NULL, *told, *[f"{probe.info.name}, means between: {', '.join(parts)}"] * bool(parts)]

    return tabulate(probe.info, layer, measured, values, plan, lambda *asked: None, remarks)
