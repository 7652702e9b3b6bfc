"""The table of a comparison: two rules at one layer, by one probe, beside all that gives the number a meaning."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.capture import sound_seeds
from lab.errors import UsageError
from probes import PairProbe, Prepared, Undefined
from probes.cautions import cautions
from probes.intervals import Interval, between_interval, contrast_interval, jackknife, within_interval
from probes.nulls import group_nulls, null_result, orders
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
        permutations: K of both nulls.
        match: "steps" (the last of each) or "accuracy" (see `capture.matched_steps`).
        layers: names of blocks; None for all that the runs have in common.
    """

    measures: tuple[str, ...] = ("debiased-cka",)
    stimuli: int = 1000
    permutations: int = 200
    match: str = "steps"
    layers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Group:
    """One run in a comparison: its networks' representations at the compared step and at step 0."""

    folder: RunFolder
    label: str
    step: int
    accuracy: float
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
    """One group's representations at one layer, prepared once for one probe."""

    def __init__(self, probe: PairProbe, layer: str, group: Group):
        self.group = group
        self.trained = {seed: probe.prepare(group.trained[layer][seed]) for seed in group.seeds}
        self.undefined = {s: p.undefined.reason for s, p in self.trained.items() if p.undefined is not None}
        self.seeds = [seed for seed in group.seeds if seed not in self.undefined]
        self.start = {seed: probe.prepare(group.start[layer][seed]) for seed in self.seeds}
        self.within = values(probe, self.trained, self.trained, self.seeds, self.seeds, symmetric=True)
        self.untrained = [probe.value(self.trained[seed], self.start[seed]) for seed in self.seeds]
        self.width = next(iter(group.trained[layer].values())).shape[1] if group.trained[layer] else 0


def values(probe: PairProbe, a, b, rows: list[int], columns: list[int], symmetric: bool = False) -> np.ndarray:
    """Matrix of values between networks; nan where undefined, 1 or 0 on the diagonal of a group with itself."""
    best = probe.info.range[1] if probe.info.direction == "similarity" else probe.info.range[0]
    out = np.full((len(rows), len(columns)), np.nan)
    for (i, s), (j, t) in itertools.product(enumerate(rows), enumerate(columns)):
        if symmetric and j < i:
            out[i, j] = out[j, i]
        elif symmetric and i == j:
            out[i, j] = best
        else:
            value = probe.value(a[s], b[t])
            out[i, j] = np.nan if isinstance(value, Undefined) else value
    return out


def compare_layer(probe: PairProbe, layer: str, groups: list[Group], labels, plan: Plan):
    """All rows and all pairs of networks of one probe at one layer."""
    measured = [Measured(probe, layer, group) for group in groups]
    nulls = {kind: _nulls(probe, measured, kind, labels, plan.permutations) for kind in ("global", "within-class")}
    rows, pairs = [], []
    for i, m in enumerate(measured):
        pairs += _within_pairs(probe, layer, m)
        for j in range(i + 1, len(measured)):
            other = measured[j]
            S = values(probe, m.trained, other.trained, m.seeds, other.seeds)
            pairs += _pairs(probe, layer, "between", m, other, S)
            drawn = {kind: null[:, i, j] for kind, null in nulls.items()}
            rows.append(_row(probe, layer, m, other, S, drawn, labels, plan))
    return rows, pairs


def _nulls(probe: PairProbe, measured: list[Measured], kind: str, labels, permutations: int) -> np.ndarray:
    """Null of the mean over pairs of *different* seeds, for every two groups: (K, groups, groups); nan where none.

    Networks that share a seed share their start and, through it, class means that a within-class permutation keeps; in
    the null as in the value they must not be paired. Seeds are dealt into two halves, and only networks of opposite
    halves meet. For probes that are inner products that takes one mean matrix per group and half; the others take
    each network with that of the next seed. Both use a part of the pairs, with the centre of all of them.
    """
    null = np.full((permutations, len(measured), len(measured)), np.nan)
    if probe.matrix is None:
        return _nulls_one_by_one(probe, measured, kind, labels, null)
    half = {seed: i % 2 for i, seed in enumerate(sorted({seed for m in measured for seed in m.seeds}))}
    chosen = {(i, h): [s for s in m.seeds if half[s] == h] for i, m in enumerate(measured) for h in (0, 1)}
    chosen = {key: seeds for key, seeds in chosen.items() if seeds}
    if not chosen:
        return null
    means = []
    for (i, _), seeds in chosen.items():
        mean = sum(probe.matrix(measured[i].trained[seed]) for seed in seeds) / len(seeds)
        means.append(mean)
    place = {key: at for at, key in enumerate(chosen)}
    drawn = group_nulls(means, kind=kind, labels=labels, permutations=permutations)
    for i, j in itertools.combinations(range(len(measured)), 2):
        crossed = [drawn[:, place[i, h], place[j, 1 - h]] for h in (0, 1) if (i, h) in place and (j, 1 - h) in place]
        if crossed:
            null[:, i, j] = np.mean(crossed, axis=0)
    return null


def _nulls_one_by_one(probe: PairProbe, measured: list[Measured], kind: str, labels, null: np.ndarray) -> np.ndarray:
    """`_nulls` for probes that are no inner product: a value per pair and permutation."""
    prepared = [p for m in measured for p in m.trained.values()]
    if not prepared:
        return null
    for k, order in enumerate(orders(prepared[0].n, kind, labels, len(null), seed=0)):
        for i, j in itertools.combinations(range(len(measured)), 2):
            a, b = measured[i], measured[j]
            shifted = b.seeds[1:] + b.seeds[:1]
            met = [(s, t) for s, t in zip(a.seeds, shifted, strict=False) if s != t]
            drawn = [probe.value(a.trained[s], probe.permute(b.trained[t], order)) for s, t in met]
            drawn = [v for v in drawn if not isinstance(v, Undefined)]
            null[k, i, j] = np.mean(drawn) if drawn else np.nan
    return null


def _within_pairs(probe: PairProbe, layer: str, m: Measured) -> list[dict[str, Any]]:
    rows = _pairs(probe, layer, "within", m, m, m.within, upper=True)
    for seed, value in zip(m.seeds, m.untrained, strict=True):
        number = np.nan if isinstance(value, Undefined) else value
        rows.append(_pair(probe, layer, "untrained", m.group.label, seed, m.group.label, seed, number))
    return rows


def _pairs(probe, layer, kind, a: Measured, b: Measured, S, upper: bool = False) -> list[dict[str, Any]]:
    return [
        _pair(probe, layer, kind, a.group.label, s, b.group.label, t, S[i, j])
        for (i, s), (j, t) in itertools.product(enumerate(a.seeds), enumerate(b.seeds))
        if not upper or i < j
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


def _row(probe: PairProbe, layer: str, a: Measured, b: Measured, S, drawn, labels, plan: Plan) -> dict[str, Any]:
    """One line of the table: two rules at one layer, all of it over the same seeds."""
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
        "permutations": plan.permutations,
        "paired": pairing.paired,
        "seeds": min(len(pairing.a), len(pairing.b)),
    }
    if plan.match == "accuracy" and abs(a.group.accuracy - b.group.accuracy) > ACCURACY_GAP:
        gap = 100 * abs(a.group.accuracy - b.group.accuracy)
        notes.append(f"{a.group.label} and {b.group.label} differ by {gap:.1f} points at their nearest stored steps")
    ra, rb = [a.seeds.index(s) for s in pairing.a], [b.seeds.index(s) for s in pairing.b]
    S, A, B = S[np.ix_(ra, rb)], a.within[np.ix_(ra, ra)], b.within[np.ix_(rb, rb)]
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
    shared = defined and pairing.paired
    _put(row, "same_start", between_interval(S, True, "only") if shared else NO_SHARED_START, notes)
    facts = {"direction": probe.info.direction}
    effect = contrast_interval(A, B, S, **facts, paired=pairing.paired) if several else unknown
    _put(row, "rule_effect", effect, notes)
    row["rule_effect_p"] = row["rule_effect_p_floor"] = np.nan
    if several:
        test = paired_swap_test(A, B, S, **facts) if pairing.paired else _label_test(A, B, S, probe)
        row["rule_effect_p"], row["rule_effect_p_floor"] = test.p, test.floor
    best = probe.info.range[1] if probe.info.direction == "similarity" else probe.info.range[0]
    for kind, null in drawn.items():
        name = "null_" + kind.replace("-class", "")
        row[name] = row[f"{name}_p"] = row[f"{name}_calibrated"] = np.nan
        if np.isfinite(row["between"]) and np.isfinite(null).all():
            found = null_result(kind, row["between"], null, direction=probe.info.direction, best=best)
            row[name], row[f"{name}_p"], row[f"{name}_calibrated"] = found.mean, found.p, found.calibrated
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
