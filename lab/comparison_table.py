"""The table of a comparison: two rules at one layer, by one probe, beside all that gives the number a meaning."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import ne
from typing import Any, NamedTuple

import numpy as np

from lab.capture import mean_of, shaped, sound_seeds
from lab.cells import ONE_SEED, WHOLE, joined, mean_interval, put
from probes import ProbeInfo, Undefined
from probes.intervals import between_interval, contrast_interval, contrast_range, mean_between, within_interval
from probes.nulls import KINDS, NullResult
from probes.seed_tests import paired_swap_test, seed_label_test
from probes.subject import Subject
from runs import RunFolder

ACCURACY_GAP = 0.02
"""Networks matched by accuracy whose accuracies differ by more than this are said not to match."""

LOSS_GAP = 0.1
"""The same for losses, as a share of the larger."""

NO_VALUE = Undefined("some pairs of networks have no value")
NO_SHARED_START = Undefined("no two of these networks share a start")
OTHER_NETWORKS = Undefined("one seed does not mean one start for networks of two architectures")

FEWEST = 3
"""Seeds per rule below which there is neither an interval nor a test over seeds."""


@dataclass(frozen=True)
class Plan:
    """What is compared and how.

    Attributes:
        measures: call strings of probes of two networks.
        stimuli: number of test inputs.
        permutations: K of the nulls that are drawn.
        match: "steps" (the last of each), "accuracy" or "loss" (see `capture.matched_steps`).
        layers: names of blocks; None for all that the runs have in common.
        search: whether the pair of layers that match best is searched for, and not each compared with its namesake.
    """

    measures: tuple[str, ...] = ("debiased-cka",)
    stimuli: int = 1000
    permutations: int = 200
    match: str = "steps"
    layers: tuple[str, ...] | None = None
    search: bool = False


@dataclass(frozen=True)
class Group:
    """One run in a comparison: its networks at the compared step and at step 0.

    Attributes:
        accuracy, loss: seed -> validation accuracy, and training loss since the stored step before, at that step.
        trained, start: layer -> seed -> representation, at that step and at step 0.
        networks, untrained: seed -> the network itself, at that step and at step 0; empty where no measure needs it.
        shapes: layer -> shape of a representation of one stimulus, positions first; the arrays have it flattened.
    """

    folder: RunFolder
    label: str
    step: int
    accuracy: Mapping[int, float]
    loss: Mapping[int, float]
    trained: dict[str, dict[int, np.ndarray]]
    start: dict[str, dict[int, np.ndarray]]
    networks: dict[int, Subject] = field(default_factory=dict)
    untrained: dict[int, Subject] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        return sound_seeds(self.folder)

    def shaped(self, layer: str, h: np.ndarray) -> np.ndarray:
        """A representation at a layer with its positions, if it has any."""
        return shaped(h, self.shapes.get(layer, ()))


@dataclass(frozen=True)
class Measured:
    """One run's networks at one layer, as one probe sees them.

    Attributes:
        seeds: those that have a value; the order of rows and columns of every matrix of values.
        undefined: seed -> why it has none.
        untrained: value of each trained network with its own start.
    """

    group: Group
    seeds: list[int]
    undefined: dict[int, str]
    untrained: list[float | Undefined]


def tabulate(
    info: ProbeInfo,
    layer: str,
    measured: Sequence[Measured],
    values: np.ndarray,
    plan: Plan,
    null: Callable[[int, int, str], NullResult | None],
    remarks: Callable[[int, int], list[str]],
):
    """All rows and all pairs of networks of one probe at one layer.

    Args:
        values: between all networks, run after run; nan where there is none. The diagonal enters no number.
        null: (run a, run b, kind) -> the null of their networks.
        remarks: (run a, run b) -> what else a reader of their row should be told.
    """
    ends = np.cumsum([0, *(len(m.seeds) for m in measured)])
    spans = [slice(begin, end) for begin, end in itertools.pairwise(ends)]
    rows, pairs = [], []
    for i, m in enumerate(measured):
        pairs += pairs_within(info, layer, m, values[spans[i], spans[i]])
        for j in range(i + 1, len(measured)):
            parts = Parts(*(values[spans[r], spans[c]] for r, c in ((i, i), (j, j), (i, j), (j, i))))
            pairs += network_pairs(info, layer, "between", m, measured[j], parts.ab)
            if not info.symmetric:
                pairs += network_pairs(info, layer, "between", measured[j], m, parts.ba)
            row = row_of(info, layer, m, measured[j], parts, partial(null, i, j), plan)
            rows.append(noted(row, remarks(i, j)))
    return rows, pairs


def noted(row: dict[str, Any], more: list[str]) -> dict[str, Any]:
    """The same row with its notes and some more as one text, each once."""
    return {**row, "notes": joined([*row["notes"], *more])}


class Parts(NamedTuple):
    """Values within and between two groups a and b; ab[i, j] is value(a_i, b_j), ba[j, i] is value(b_j, a_i)."""

    aa: np.ndarray
    bb: np.ndarray
    ab: np.ndarray
    ba: np.ndarray


def pairs_within(info: ProbeInfo, layer: str, m: Measured, within) -> list[dict[str, Any]]:
    rows = network_pairs(info, layer, "within", m, m, within, keep=(lambda i, j: i < j) if info.symmetric else ne)
    for seed, value in zip(m.seeds, m.untrained, strict=True):
        number = np.nan if isinstance(value, Undefined) else value
        rows.append(_pair(info, layer, "untrained", m.group.label, seed, m.group.label, seed, number))
    return rows


def network_pairs(info, layer, kind, a: Measured, b: Measured, S, keep=lambda i, j: True) -> list[dict[str, Any]]:
    return [
        _pair(info, layer, kind, a.group.label, s, b.group.label, t, S[i, j])
        for (i, s), (j, t) in itertools.product(enumerate(a.seeds), enumerate(b.seeds))
        if keep(i, j)
    ]


def _pair(info, layer, kind, rule_a, seed_a, rule_b, seed_b, value) -> dict[str, Any]:
    return {
        "measure": info.label,
        "direction": info.direction,
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

    paired: by seed, so that no two networks of one seed are compared: they share all that is drawn from it, which is
    their data order and, in every layer of one shape, their initial weights. notes: what was left out.
    """

    a: list[int]
    b: list[int]
    paired: bool
    notes: tuple[str, ...] = ()


def pair_up(a: Measured, b: Measured) -> Pairing:
    """Seeds of two runs: paired where both runs have them, whatever their networks, else all against all."""
    common = [seed for seed in a.seeds if seed in b.seeds]
    if len(common) >= 2 or a.seeds == b.seeds:
        left = len({*a.seeds, *b.seeds}) - len(common)
        notes = (f"only the {len(common)} seeds that both runs have are compared",) * bool(left)
        return Pairing(common, common, True, notes)
    # A single shared seed is no paired design, and its two networks must not count as strangers: one of them goes, that
    # of the run with more seeds; of two with as many, that of the second by id, whichever was named first.
    other, more = sorted((a, b), key=lambda m: (len(m.seeds), m.group.folder.id))
    rest = [seed for seed in more.seeds if seed not in common]
    notes = tuple(f"seed {seed} of {more.group.label} is left out: {other.group.label} has it too" for seed in common)
    return Pairing(rest, b.seeds, False, notes) if more is a else Pairing(a.seeds, rest, False, notes)


def row_of(info: ProbeInfo, layer: str, a: Measured, b: Measured, parts: Parts, null, plan) -> dict[str, Any]:
    """One line of the table: two rules at one layer, all of it over the same seeds.

    A value that depends on the order of its two networks enters everything as the mean of both directions, which stand
    beside it.
    """
    pairing = pair_up(a, b)
    notes = list(pairing.notes)
    compared = ((a.group, pairing.a), (b.group, pairing.b))
    accuracy_a, accuracy_b = (mean_of(group.accuracy, seeds) for group, seeds in compared)
    loss_a, loss_b = (mean_of(group.loss, seeds) for group, seeds in compared)
    row: dict[str, Any] = {
        "measure": info.label,
        "direction": info.direction,
        "layer": layer,
        "layer_choice": "the whole network" if layer == WHOLE else "same block in both, fixed beforehand",
        "rule_a": a.group.label,
        "rule_b": b.group.label,
        "run_a": a.group.folder.id,
        "run_b": b.group.folder.id,
        "n": plan.stimuli,
        "match": plan.match,
        "step_a": a.group.step,
        "step_b": b.group.step,
        "accuracy_a": accuracy_a,
        "accuracy_b": accuracy_b,
        "loss_a": loss_a,
        "loss_b": loss_b,
        "permutations": plan.permutations,
        "paired": pairing.paired,
        "seeds": min(len(pairing.a), len(pairing.b)),
    }
    if plan.match == "accuracy" and no_match(plan.match, accuracy_a, accuracy_b):
        gap = 100 * abs(accuracy_a - accuracy_b)
        notes.append(f"{a.group.label} and {b.group.label} differ by {gap:.1f} points at their nearest stored steps")
    if plan.match == "loss" and no_match(plan.match, loss_a, loss_b):
        told = f"{loss_a:.3g} and {loss_b:.3g}"
        notes.append(f"{a.group.label} and {b.group.label} have losses {told} at their nearest stored steps")
    for side in (a, b) if plan.match != "steps" else ():
        if side.group.step == 0 and side.group.folder.spec.epochs:
            notes.append(f"{side.group.label} is matched before its first step: nothing it has stored later is as far")
    ra, rb = [a.seeds.index(s) for s in pairing.a], [b.seeds.index(s) for s in pairing.b]
    A, B = parts.aa[np.ix_(ra, ra)], parts.bb[np.ix_(rb, rb)]
    forward, backward = parts.ab[np.ix_(ra, rb)], parts.ba[np.ix_(rb, ra)].T
    A, B, S = (A + A.T) / 2, (B + B.T) / 2, (forward + backward) / 2
    for side, m, W, rows in (("a", a, A, ra), ("b", b, B, rb)):
        lost = len(m.group.folder.spec.seeds) - len(m.group.seeds)
        row[f"seeds_{side}"], row[f"diverged_{side}"] = len(rows), lost
        notes += [f"{m.group.label}: {lost} of {len(m.group.folder.spec.seeds)} seeds diverged"] * bool(lost)
        notes += [f"{m.group.label}, seed {seed}: {why}" for seed, why in m.undefined.items()]
        put(
            row,
            f"ceiling_{side}",
            NO_VALUE if not all_known(W, True) else within_interval(W) if len(W) > 1 else ONE_SEED,
            notes,
            info.range,
        )
        put(row, f"untrained_{side}", mean_interval([m.untrained[i] for i in rows]), notes, info.range)
    defined = bool(S.size) and all_known(S, pairing.paired) and all_known(A, True) and all_known(B, True)
    several = defined and (min(len(A), len(B)) > 1)
    unknown = ONE_SEED if not S.size or defined else NO_VALUE
    between = defined and (len(A) > 1 if pairing.paired else True)
    put(row, "between", between_interval(S, pairing.paired) if between else unknown, notes, info.range)
    for name, one_way in (("a_to_b", forward), ("b_to_a", backward)):
        mean = mean_between(one_way, "exclude" if pairing.paired else "include") if between else unknown
        row[name] = np.nan if isinstance(mean, Undefined) else mean
    one_start = a.group.folder.spec.arch == b.group.folder.spec.arch
    shared = defined and pairing.paired and one_start and np.isfinite(np.diag(S)).all()
    lost = NO_VALUE if defined else unknown
    apart = NO_SHARED_START if not pairing.paired else lost if one_start else OTHER_NETWORKS
    put(row, "same_start", between_interval(S, True, "only") if shared else apart, notes, info.range)
    facts = {"direction": info.direction}
    effect = contrast_interval(A, B, S, **facts, paired=pairing.paired) if several else unknown
    put(row, "rule_effect", effect, notes, contrast_range(info.range))
    row["rule_effect_p"] = row["rule_effect_p_floor"] = np.nan
    fewest = min(len(A), len(B))
    if several and fewest < FEWEST:
        notes.append(f"no test of the rule effect: it needs at least {FEWEST} seeds per rule, and there are {fewest}")
    elif several:
        test = paired_swap_test(A, B, S, **facts) if pairing.paired else _label_test(a, b, A, B, S, info)
        row["rule_effect_p"], row["rule_effect_p_floor"] = test.p, test.floor
    for kind in KINDS:
        name = "null_" + kind.replace("-class", "")
        found = null(kind) if np.isfinite(row["between"]) else None
        row[name], row[f"{name}_p"] = (np.nan, np.nan) if found is None else (found.mean, found.p)
        uncalibrated = found is None or isinstance(found.calibrated, Undefined)
        row[f"{name}_calibrated"] = np.nan if uncalibrated else found.calibrated
        row[f"{name}_draws"] = 0 if found is None else found.permutations
    row["notes"] = notes
    return row


def no_match(by: str, a: float, b: float) -> bool:
    """Whether two accuracies, or two losses, are too far from each other to be called matched."""
    gap = ACCURACY_GAP if by == "accuracy" else LOSS_GAP * max(a, b)
    return abs(a - b) > gap + 1e-9  # .92 and .90 differ by no more than .02


def all_known(values: np.ndarray, paired: bool) -> bool:
    """Whether all values are there that enter a mean: where seeds are paired, those on the diagonal do not."""
    return bool(np.isfinite(values[~np.eye(len(values), dtype=bool)] if paired else values).all())


def _label_test(a: Measured, b: Measured, A, B, S, info: ProbeInfo):
    """Runs without a common start: independent networks, whose rule labels may be dealt anew.

    By the order of the runs' ids: where labels are drawn, p is that of the draws, whichever run was named first.
    """
    if b.group.folder.id < a.group.folder.id:
        A, B, S = B, A, S.T
    groups = [0] * len(A) + [1] * len(B)
    return seed_label_test(np.block([[A, S], [S.T, B]]), groups, direction=info.direction)
