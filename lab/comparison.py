"""Comparing rules: similarity between networks beside every number that says whether it means anything.

A similarity of two networks is reported with its ceiling (same rule, another seed), the same network before training,
a global and a within-class permutation null, and intervals over seeds. Networks of two rules with one seed share
their initial weights, which makes them alike for that reason alone; such pairs are never mixed with the others.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lab.callstring import build
from lab.capture import capture, dataset_of, final_step, matched_steps, mean_accuracy, sound_seeds, stimuli
from lab.errors import UsageError
from lab.summary import rule_name
from probes import PROBES, PairProbe, Prepared, Undefined
from probes.intervals import (
    Interval,
    between_interval,
    contrast_interval,
    jackknife,
    within_interval,
)
from probes.nulls import cautions, group_nulls, null_result, orders
from probes.seed_tests import paired_swap_test, seed_label_test
from runs import RunFolder, Store
from runs.files import write_atomically

Say = Callable[[str], None]


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
class Comparison:
    """A finished comparison.

    Attributes:
        id: of the store's folder `comparisons/<id>` that holds the tables.
        labels: a short name per run, in the order they were given.
        rows: one line per measure, layer and pair of runs.
        pairs: one line per pair of networks.
        about: the plan, the runs and what was matched, for a sidecar.
    """

    id: str
    labels: list[str]
    rows: Any
    pairs: Any
    about: dict[str, Any]


def labels_of(folders: list[RunFolder]) -> list[str]:
    """A short name per run: its rule, "untrained" for zero epochs, and what else differs where that is not enough."""
    names = ["untrained" if f.spec.epochs == 0 else rule_name(f.spec.rule) for f in folders]
    fields = ("rule", "arch", "optimizer", "epochs", "train_size", "batch", "precision")
    labels = []
    for folder, name in zip(folders, names, strict=True):
        twins = [f for f, other in zip(folders, names, strict=True) if other == name]
        differing = [k for k in fields if len({getattr(f.spec, k) for f in twins}) > 1]
        what = ", ".join(f"{k}={getattr(folder.spec, k)}" for k in differing)
        labels.append(f"{name} [{what or folder.id[-10:]}]" if len(twins) > 1 else name)
    return labels


def pair_probe_of(text: str) -> tuple[PairProbe, str]:
    """The pair probe a call string names, and its canonical name."""
    made, _ = build(text, PROBES, "--measure", "`lab probes` lists them.")
    if not isinstance(made, PairProbe):
        known = ", ".join(name for name, factory in PROBES.items() if isinstance(factory(), PairProbe))
        raise UsageError(f"--measure {text} describes one network, not a pair; these compare two: {known}")
    return made, made.info.label


def compare_runs(folders: list[RunFolder], plan: Plan, store: Store, say: Say = lambda line: None) -> Comparison:
    """Compare runs, or find the comparison in the store; it is kept as two Parquet tables and a JSON file.

    Raises:
        UsageError: fewer than two runs, one twice, different data, no common layer.
        runs.RunError: a run is incomplete or damaged.
    """
    if len(folders) < 2:
        raise UsageError("a comparison needs at least two runs; `lab runs` lists those there are")
    if len({folder.id for folder in folders}) < len(folders):
        raise UsageError("a run is named twice; a run compared with itself is the same-rule ceiling of every row")
    for folder in folders:
        folder.require_complete()
    probes = [pair_probe_of(text) for text in plan.measures]
    plan = Plan(tuple(label for _, label in probes), plan.stimuli, plan.permutations, plan.match, plan.layers)
    about = {"schema": 1, "runs": [folder.id for folder in folders], "plan": asdict(plan)}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:10]
    place = store.root / "comparisons" / key
    labels = labels_of(folders)
    if (place / "comparison.json").is_file():
        import pandas as pd

        say(f"compared earlier: {place}")
        rows, pairs = (pd.read_parquet(place / f"{name}.parquet") for name in ("rows", "pairs"))
        return Comparison(key, labels, rows, pairs, json.loads((place / "comparison.json").read_text()))
    dataset = dataset_of(folders)
    seen = stimuli(dataset, plan.stimuli)
    steps = matched_steps(folders, plan.match)
    groups = []
    for folder, label, step in zip(folders, labels, steps, strict=True):
        say(f"reading {label} at step {step}")
        start = capture(folder, 0, seen, dataset)
        trained = start if step == 0 else capture(folder, step, seen, dataset)
        groups.append(Group(folder, label, step, mean_accuracy(folder, step), trained, start))
    layers = common_layers(groups, plan.layers)
    rows, pairs = [], []
    for (probe, label), layer in itertools.product(probes, layers):
        say(f"measuring {label} at {layer}")
        made, between = _compare_layer(probe, layer, groups, seen.y, plan)
        rows += made
        pairs += between
    return _keep(place, key, labels, rows, pairs, about, steps)


def _keep(place, key, labels, rows, pairs, about, steps) -> Comparison:
    """Write the tables and, last, the JSON file that says they are whole."""
    import io

    import pandas as pd

    rows, pairs = pd.DataFrame(rows), pd.DataFrame(pairs)
    about = {**about, "labels": labels, "steps": steps}
    place.mkdir(parents=True, exist_ok=True)
    for name, table in (("rows", rows), ("pairs", pairs)):
        buffer = io.BytesIO()
        table.to_parquet(buffer, engine="pyarrow", index=False)
        write_atomically(place / f"{name}.parquet", buffer.getvalue())
    write_atomically(place / "comparison.json", (json.dumps(about, indent=1) + "\n").encode())
    return Comparison(key, labels, rows, pairs, about)


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


class _Measured:
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


def _compare_layer(probe: PairProbe, layer: str, groups: list[Group], labels, plan: Plan):
    """All rows and all pairs of networks of one probe at one layer."""
    measured = [_Measured(probe, layer, group) for group in groups]
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


def _nulls(probe: PairProbe, measured: list[_Measured], kind: str, labels, permutations: int) -> np.ndarray:
    """Null of the mean over pairs for every two groups, (K, groups, groups); the same permutations for all.

    For probes that are inner products one mean matrix per group is permuted. For the others the mean is over pairs of
    one position in the two lists of seeds, each permuted: fewer pairs, the same centre, a slightly wider null.
    """
    usable = [m for m in measured if m.seeds]
    index = [i for i, m in enumerate(measured) if m.seeds]
    null = np.full((permutations, len(measured), len(measured)), np.nan)
    if not usable:
        return null
    n = usable[0].trained[usable[0].seeds[0]].n
    if probe.matrix is not None:
        means = []
        for m in usable:
            mean = np.zeros((n, n))
            for seed in m.seeds:
                mean += probe.matrix(m.trained[seed]) / len(m.seeds)
            means.append(mean)
        null[np.ix_(range(permutations), index, index)] = group_nulls(
            means, kind=kind, labels=labels, permutations=permutations
        )
        return null
    for k, order in enumerate(orders(n, kind, labels, permutations, seed=0)):
        for i, j in itertools.combinations(index, 2):
            a, b = measured[i], measured[j]
            drawn = [
                probe.value(a.trained[s], probe.permute(b.trained[t], order))
                for s, t in zip(a.seeds, b.seeds, strict=False)
            ]
            null[k, i, j] = np.mean([v for v in drawn if not isinstance(v, Undefined)])
    return null


def _within_pairs(probe: PairProbe, layer: str, m: _Measured) -> list[dict[str, Any]]:
    rows = _pairs(probe, layer, "within", m, m, m.within, upper=True)
    for seed, value in zip(m.seeds, m.untrained, strict=True):
        number = np.nan if isinstance(value, Undefined) else value
        rows.append(_pair(probe, layer, "untrained", m.group.label, seed, m.group.label, seed, number))
    return rows


def _pairs(probe, layer, kind, a: _Measured, b: _Measured, S, upper: bool = False) -> list[dict[str, Any]]:
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


def _row(probe: PairProbe, layer: str, a: _Measured, b: _Measured, S, drawn, labels, plan: Plan) -> dict[str, Any]:
    """One line of the table: two rules at one layer."""
    notes: list[str] = []
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
    }
    for side, m in (("a", a), ("b", b)):
        lost = len(m.group.folder.spec.seeds) - len(m.group.seeds)
        row[f"seeds_{side}"], row[f"diverged_{side}"] = len(m.seeds), lost
        notes += [f"{m.group.label}: {lost} of {len(m.group.folder.spec.seeds)} seeds diverged"] * bool(lost)
        notes += [f"{m.group.label}, seed {seed}: {why}" for seed, why in m.undefined.items()]
        _put(row, f"ceiling_{side}", within_interval(m.within) if len(m.seeds) > 1 else None, notes)
        _put(row, f"untrained_{side}", _mean_interval(m.untrained), notes)
    common = [seed for seed in a.seeds if seed in b.seeds]
    paired = set(a.seeds) == set(b.seeds) or len(common) >= 2
    row["paired"] = paired
    row["seeds"] = len(common) if paired else min(len(a.seeds), len(b.seeds))
    if paired and len(common) < max(len(a.seeds), len(b.seeds)):
        notes.append(f"only the {len(common)} seeds that both runs have are compared")
    ra = [a.seeds.index(s) for s in common] if paired else range(len(a.seeds))
    rb = [b.seeds.index(s) for s in common] if paired else range(len(b.seeds))
    S, A, B = S[np.ix_(ra, rb)], a.within[np.ix_(ra, ra)], b.within[np.ix_(rb, rb)]
    enough = np.isfinite(S).all() and S.size and np.isfinite(A).all() and np.isfinite(B).all()
    between = between_interval(S, paired) if enough and (not paired or len(common) > 1) else None
    _put(row, "between", between, notes)
    _put(row, "same_start", between_interval(S, True, "only") if enough and paired else None, [])
    many = enough and min(len(A), len(B)) > 1
    effect = contrast_interval(A, B, S, direction=probe.info.direction, paired=paired) if many else None
    _put(row, "rule_effect", effect, notes)
    row["rule_effect_p"] = row["rule_effect_p_floor"] = np.nan
    if many:
        test = paired_swap_test(A, B, S, direction=probe.info.direction) if paired else _label_test(A, B, S, probe)
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
    """Runs without a common seed: independent networks, whose rule labels may be dealt anew."""
    return seed_label_test(np.block([[A, S], [S.T, B]]), [0] * len(A) + [1] * len(B), direction=probe.info.direction)


def _mean_interval(found: list[float | Undefined]) -> Interval | None:
    """Mean over seeds with its jackknife interval (s/√m, Student's t)."""
    numbers = np.array([v for v in found if not isinstance(v, Undefined)])
    return jackknife(lambda kept: float(numbers[kept].mean()), range(len(numbers))) if len(numbers) else None


def _put(row: dict[str, Any], name: str, interval: Interval | None, notes: list[str]) -> None:
    """A value with its interval into three columns; what is undefined becomes nan here and a reason in the notes."""
    for suffix, value in (("", "value"), ("_low", "low"), ("_high", "high")):
        found = None if interval is None else getattr(interval, value)
        row[name + suffix] = float(found) if isinstance(found, float | int) else np.nan
        if isinstance(found, Undefined):
            notes.append(f"no interval: {found.reason}" if suffix else found.reason)


def final_accuracies(folders: list[RunFolder]) -> list[float]:
    """Mean validation accuracy of each run after its last step."""
    return [mean_accuracy(folder, final_step(folder)) for folder in folders]
