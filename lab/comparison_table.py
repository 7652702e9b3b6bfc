"""The table of a comparison: two rules at one layer, by one probe, beside all that gives the number a meaning."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from operator import ne
from typing import Any, NamedTuple

import numpy as np

from lab.capture import sound_seeds
from lab.comparison_nulls import Nulls
from lab.errors import UsageError
from probes import PairProbe, Prepared, Undefined
from probes.all_pairs import all_pairs
from probes.cautions import cautions
from probes.intervals import (
    Interval,
    between_interval,
    contrast_interval,
    jackknife,
    mean_between,
    within_interval,
)
from probes.nulls import KINDS
from probes.seed_tests import paired_swap_test, seed_label_test
from runs import RunFolder

ACCURACY_GAP = 0.02
"""Networks matched by accuracy whose accuracies differ by more than this are said not to match."""

ONE_SEED = Undefined("it takes networks of two different seeds")
NO_SHARED_START = Undefined("no two of these networks share a start")


@dataclass(frozen=True)
class Plan:
    """What is compared and how.

    Attributes:
        measures: call strings of pair probes.
        stimuli: number of test inputs.
        permutations: K of the nulls that are drawn.
        match: "steps" (the last of each), "accuracy" or "loss" (see `capture.matched_steps`).
        layers: names of blocks; None for all that the runs have in common.
    """

    measures: tuple[str, ...] = ("debiased-cka",)
    stimuli: int = 1000
    permutations: int = 200
    match: str = "steps"
    layers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Group:
    """One run in a comparison: its networks' representations at the compared step and at step 0.

    accuracy, loss: mean validation accuracy, and mean training loss since the stored step before, at that step.
    """

    folder: RunFolder
    label: str
    step: int
    accuracy: float
    loss: float
    trained: dict[str, dict[int, np.ndarray]]
    start: dict[str, dict[int, np.ndarray]]

    @property
    def seeds(self) -> list[int]:
        return sound_seeds(self.folder)


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


class Measured:
    """One group's representations at one layer, prepared once for one probe.

    Attributes:
        trained, start: seed -> its network after and before training; only seeds that have a value.
        undefined: seed -> why it has none.
        untrained: value of each trained network with its own start.
    """

    def __init__(self, probe: PairProbe, layer: str, group: Group):
        self.group = group
        prepared = {seed: probe.prepare(group.trained[layer][seed]) for seed in group.seeds}
        self.undefined = {s: p.undefined.reason for s, p in prepared.items() if p.undefined is not None}
        self.trained = {seed: p for seed, p in prepared.items() if p.undefined is None}
        self.start = {seed: probe.prepare(group.start[layer][seed]) for seed in self.trained}
        self.seeds = list(self.trained)
        self.untrained = [probe.value(self.trained[seed], self.start[seed]) for seed in self.seeds]
        self.width = next(iter(group.trained[layer].values())).shape[1] if group.trained[layer] else 0


def compare_layer(probe: PairProbe, layer: str, groups: list[Group], labels, plan: Plan, memory: int):
    """All rows and all pairs of networks of one probe at one layer."""
    measured = [Measured(probe, layer, group) for group in groups]
    everyone = [p for m in measured for p in m.trained.values()]
    values = all_pairs(probe, everyone, memory=memory) if everyone else np.empty((0, 0))
    ends = np.cumsum([0, *(len(m.seeds) for m in measured)])
    spans = [slice(begin, end) for begin, end in itertools.pairwise(ends)]
    nulls = Nulls(probe, [(m.seeds, m.trained) for m in measured], labels, plan.permutations)
    rows, pairs = [], []
    for i, m in enumerate(measured):
        pairs += _within_pairs(probe, layer, m, values[spans[i], spans[i]])
        for j in range(i + 1, len(measured)):
            parts = Parts(*(values[spans[r], spans[c]] for r, c in ((i, i), (j, j), (i, j), (j, i))))
            pairs += _pairs(probe, layer, "between", m, measured[j], parts.ab)
            if not probe.info.symmetric:
                pairs += _pairs(probe, layer, "between", measured[j], m, parts.ba)
            rows.append(_row(probe, layer, m, measured[j], parts, partial(nulls.result, i, j), labels, plan))
    return rows, pairs


class Parts(NamedTuple):
    """Values within and between two groups a and b; ab[i, j] is value(a_i, b_j), ba[j, i] is value(b_j, a_i)."""

    aa: np.ndarray
    bb: np.ndarray
    ab: np.ndarray
    ba: np.ndarray


def _within_pairs(probe: PairProbe, layer: str, m: Measured, within) -> list[dict[str, Any]]:
    rows = _pairs(probe, layer, "within", m, m, within, keep=(lambda i, j: i < j) if probe.info.symmetric else ne)
    for seed, value in zip(m.seeds, m.untrained, strict=True):
        number = np.nan if isinstance(value, Undefined) else value
        rows.append(_pair(probe, layer, "untrained", m.group.label, seed, m.group.label, seed, number))
    return rows


def _pairs(probe, layer, kind, a: Measured, b: Measured, S, keep=lambda i, j: True) -> list[dict[str, Any]]:
    return [
        _pair(probe, layer, kind, a.group.label, s, b.group.label, t, S[i, j])
        for (i, s), (j, t) in itertools.product(enumerate(a.seeds), enumerate(b.seeds))
        if keep(i, j)
    ]


def _pair(probe, layer, kind, rule_a, seed_a, rule_b, seed_b, value) -> dict[str, Any]:
    return {
        "measure": probe.info.label,
        "direction": probe.info.direction,
        "layer": layer,
        "kind": kind,
        "rule_a": rule_a,
        "seed_a": seed_a,
        "rule_b": rule_b,
        "seed_b": seed_b,
        "value": float(value),
    }


@dataclass(frozen=True)
class Pairing:
    """Which seeds of two runs are compared, and whether they are paired.

    paired: both networks of a seed started from the same weights and saw the same batches. notes: what was left out.
    """

    a: list[int]
    b: list[int]
    paired: bool
    notes: tuple[str, ...] = ()


def pair_up(a: Measured, b: Measured) -> Pairing:
    """Seeds of two runs: paired where both runs have them and one seed means one start, else all against all."""
    same_network = a.group.folder.spec.arch == b.group.folder.spec.arch
    if not same_network:
        note = f"{a.group.label} and {b.group.label} are different networks: one seed does not mean one start"
        return Pairing(a.seeds, b.seeds, False, (note,))
    common = [seed for seed in a.seeds if seed in b.seeds]
    if len(common) >= 2 or a.seeds == b.seeds:
        left = len({*a.seeds, *b.seeds}) - len(common)
        notes = (f"only the {len(common)} seeds that both runs have are compared",) * bool(left)
        return Pairing(common, common, True, notes)
    # A single shared seed is no paired design, and its two networks must not count as strangers.
    rest = [seed for seed in b.seeds if seed not in common]
    notes = tuple(f"seed {seed} of {b.group.label} is left out: {a.group.label} has it too" for seed in common)
    return Pairing(a.seeds, rest, False, notes)


def _row(probe: PairProbe, layer: str, a: Measured, b: Measured, parts: Parts, null, labels, plan) -> dict[str, Any]:
    """One line of the table: two rules at one layer, all of it over the same seeds.

    A value that depends on the order of its two networks enters everything as the mean of both directions, which stand
    beside it.
    """
    pairing = pair_up(a, b)
    notes = list(pairing.notes)
    row: dict[str, Any] = {
        "measure": probe.info.label,
        "direction": probe.info.direction,
        "layer": layer,
        "layer_choice": "same block in both, fixed beforehand",
        "rule_a": a.group.label,
        "rule_b": b.group.label,
        "run_a": a.group.folder.id,
        "run_b": b.group.folder.id,
        "n": plan.stimuli,
        "match": plan.match,
        "step_a": a.group.step,
        "step_b": b.group.step,
        "accuracy_a": a.group.accuracy,
        "accuracy_b": b.group.accuracy,
        "loss_a": a.group.loss,
        "loss_b": b.group.loss,
        "permutations": plan.permutations,
        "paired": pairing.paired,
        "seeds": min(len(pairing.a), len(pairing.b)),
    }
    if plan.match == "accuracy" and abs(a.group.accuracy - b.group.accuracy) > ACCURACY_GAP:
        gap = 100 * abs(a.group.accuracy - b.group.accuracy)
        notes.append(f"{a.group.label} and {b.group.label} differ by {gap:.1f} points at their nearest stored steps")
    ra, rb = [a.seeds.index(s) for s in pairing.a], [b.seeds.index(s) for s in pairing.b]
    A, B = parts.aa[np.ix_(ra, ra)], parts.bb[np.ix_(rb, rb)]
    forward, backward = parts.ab[np.ix_(ra, rb)], parts.ba[np.ix_(rb, ra)].T
    A, B, S = (A + A.T) / 2, (B + B.T) / 2, (forward + backward) / 2
    for side, m, W, rows in (("a", a, A, ra), ("b", b, B, rb)):
        lost = len(m.group.folder.spec.seeds) - len(m.group.seeds)
        row[f"seeds_{side}"], row[f"diverged_{side}"] = len(rows), lost
        notes += [f"{m.group.label}: {lost} of {len(m.group.folder.spec.seeds)} seeds diverged"] * bool(lost)
        notes += [f"{m.group.label}, seed {seed}: {why}" for seed, why in m.undefined.items()]
        _put(row, f"ceiling_{side}", within_interval(W) if len(W) > 1 else ONE_SEED, notes)
        _put(row, f"untrained_{side}", _mean_interval([m.untrained[i] for i in rows]), notes)
    defined = bool(S.size) and all(np.isfinite(M).all() for M in (S, A, B))
    several = defined and (min(len(A), len(B)) > 1)
    unknown = ONE_SEED if not S.size or defined else Undefined("some pairs of networks have no value")
    between = defined and (len(A) > 1 if pairing.paired else True)
    _put(row, "between", between_interval(S, pairing.paired) if between else unknown, notes)
    for name, one_way in (("a_to_b", forward), ("b_to_a", backward)):
        mean = mean_between(one_way, "exclude" if pairing.paired else "include") if between else unknown
        row[name] = np.nan if isinstance(mean, Undefined) else mean
    shared = defined and pairing.paired
    _put(row, "same_start", between_interval(S, True, "only") if shared else NO_SHARED_START, notes)
    facts = {"direction": probe.info.direction}
    effect = contrast_interval(A, B, S, **facts, paired=pairing.paired) if several else unknown
    _put(row, "rule_effect", effect, notes)
    row["rule_effect_p"] = row["rule_effect_p_floor"] = np.nan
    if several:
        test = paired_swap_test(A, B, S, **facts) if pairing.paired else _label_test(A, B, S, probe)
        row["rule_effect_p"], row["rule_effect_p_floor"] = test.p, test.floor
    for kind in KINDS:
        name = "null_" + kind.replace("-class", "")
        found = null(kind, row["between"]) if np.isfinite(row["between"]) else None
        row[name], row[f"{name}_p"], row[f"{name}_calibrated"] = (
            (np.nan, np.nan, np.nan) if found is None else (found.mean, found.p, found.calibrated)
        )
        row[f"{name}_draws"] = 0 if found is None else found.permutations
    prepared: list[Prepared] = [*a.trained.values(), *b.trained.values()]
    notes += cautions(probe, plan.stimuli, a.width, b.width, labels, prepared)
    row["notes"] = "; ".join(dict.fromkeys(notes))
    return row


def _label_test(A, B, S, probe: PairProbe):
    """Runs without a common start: independent networks, whose rule labels may be dealt anew."""
    groups = [0] * len(A) + [1] * len(B)
    return seed_label_test(np.block([[A, S], [S.T, B]]), groups, direction=probe.info.direction)


def _mean_interval(found: list[float | Undefined]) -> Interval | Undefined:
    """Mean over seeds with its jackknife interval (s/√m, Student's t); undefined if it is for any of them."""
    reasons = [v for v in found if isinstance(v, Undefined)]
    if reasons or not found:
        return reasons[0] if reasons else ONE_SEED
    numbers = np.array(found)
    return jackknife(lambda kept: float(numbers[kept].mean()), range(len(numbers)))


def _put(row: dict[str, Any], name: str, found: Interval | Undefined, notes: list[str]) -> None:
    """A value with its interval into three columns; what is undefined becomes nan here and a reason in the notes."""
    if isinstance(found, Undefined):
        row[name] = row[f"{name}_low"] = row[f"{name}_high"] = np.nan
        notes.append(f"{name.replace('_', ' ')} undefined: {found.reason}")
        return
    for suffix, value in (("", found.value), ("_low", found.low), ("_high", found.high)):
        row[name + suffix] = np.nan if isinstance(value, Undefined) else float(value)
    if isinstance(found.low, Undefined):
        notes.append(f"no interval: {found.low.reason}")
