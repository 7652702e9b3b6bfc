"""Describing runs: measures of one network, at each layer and stored step, as means over seeds with their intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from algorithms import Rule
from lab.capture import (
    Observed,
    Stimuli,
    dataset_of,
    layer_shapes,
    mean_accuracy,
    mean_metric,
    observe,
    reopen,
    shaped,
    sound_seeds,
    stimuli,
)
from lab.cells import WHOLE, Found, joined, mean_interval, mean_parts, put
from lab.comparison import labels_of
from lab.datasets.dataset import Dataset, as_float
from lab.errors import UsageError
from lab.functional_model import Credit, own_forward, subjects
from lab.measures import by_layer, describing_probe, refuse_idle_layers, settled
from lab.networks import Network
from lab.tables import asked, read_tables, write_tables
from probes import SingleProbe, Undefined, headline
from probes.cautions import single_cautions
from probes.feature_maps import as_rows, positions_of
from probes.intervals import Interval
from probes.probe import FunctionalProbe
from probes.subject import Subject, Task
from runs import RunFolder, Store, list_checkpoints

FILE = "description.json"
DEFAULT = ("participation-ratio", "effective-rank", "sparsity", "dead-units", "linear-probe")

Say = Callable[[str], None]


@dataclass(frozen=True)
class DescriptionPlan:
    """What is measured.

    Attributes:
        measures: call strings of probes of one network.
        stimuli: number of test inputs.
        steps: "last", or "all" for every stored step.
        layers: names of blocks; None for all of each run.
    """

    measures: tuple[str, ...] = DEFAULT
    stimuli: int = 1000
    steps: str = "last"
    layers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Description:
    """A finished description.

    Attributes:
        id: of the store's folder `descriptions/<id>` that holds the table.
        labels: a short name per run, in the order they were given.
        rows: one line per measure, layer, run and step.
        about: the plan and the runs, for a sidecar.
    """

    id: str
    labels: list[str]
    rows: Any
    about: dict[str, Any]


def describe_runs(
    folders: list[RunFolder], plan: DescriptionPlan, store: Store, say: Say = lambda line: None
) -> Description:
    """Describe runs, or find the description in the store; it is kept as a Parquet table and a JSON file.

    Raises:
        UsageError: one run twice, different data, a layer that a run does not have, nothing to measure.
        runs.RunError: a run is incomplete or damaged.
    """
    import pandas as pd

    if len({folder.id for folder in folders}) < len(folders):
        raise UsageError("a run is named twice; name it once, since its rows would be the same")
    probes, _, plan, about, key = asked(folders, plan, describing_probe)
    refuse_idle_layers(probes, plan.layers)
    place, labels = store.root / "descriptions" / key, labels_of(folders)
    kept = read_tables(place, FILE, ("rows",))
    if kept is not None:
        say(f"described earlier: {place}")
        return Description(key, labels, kept[0]["rows"], kept[1])
    dataset = dataset_of(folders)
    seen = stimuli(dataset, plan.stimuli)
    chosen = [layers_of(folder, dataset, probes, plan.layers) for folder in folders]
    shapes = [layer_shapes(folder, dataset) for folder in folders]
    looked_at = [its[layer] for its, layers in zip(shapes, chosen, strict=True) for layer in layers if layer in its]
    probes = [settled(probe, looked_at) for probe in probes]
    rows: list[dict[str, Any]] = []
    for folder, label, layers in zip(folders, labels, chosen, strict=True):
        rows += describe_run(folder, label, probes, layers, plan, seen, dataset, say)
    if not rows:
        raise UsageError(f"--layer {', '.join(plan.layers or ())}: these measures have no value there; name another")
    # By measure and layer, so that what is to be seen side by side stands so; the sort keeps runs and steps in order.
    order = [probe.info.label for probe in probes]
    blocks = list(dict.fromkeys([*(layer for layers in chosen for layer in layers), WHOLE]))
    shown = list(dict.fromkeys(row["layer"] for row in rows))
    shown.sort(key=lambda layer: blocks.index(layer.partition(".")[0]))
    rows.sort(key=lambda row: (order.index(row["measure"]), shown.index(row["layer"])))
    about["plan"]["measures"] = order
    about = {**about, "labels": labels}
    table = pd.DataFrame(rows)
    write_tables(place, FILE, {"rows": table}, about)
    return Description(key, labels, table, about)


def layers_of(folder: RunFolder, dataset: Dataset, probes: list, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """The blocks of a run that are measured: hidden ones, and the readout where weights or directions are.

    Raises:
        UsageError: it has none of that name, or none at all and every measure needs one.
    """
    net = reopen(folder, dataset)[1]
    of_weights = any(isinstance(probe, FunctionalProbe) and probe.places for probe in probes)
    there = tuple(block.name for block in net.blocks) if of_weights else net.hidden
    missing = [layer for layer in asked or () if layer not in there]
    if missing:
        raise UsageError(
            f"--layer {missing[0]} is not a {'' if of_weights else 'hidden '}block of {folder.id}; it has "
            f"{', '.join(there)}"
        )
    if not net.hidden and all(by_layer(probe) for probe in probes):
        raise UsageError(f"{folder.id} has no hidden block; these measures describe one")
    return asked or there


@dataclass(frozen=True)
class Snapshot:
    """All sound networks of a run at one step, with what probes ask for beside a representation."""

    rule: Rule
    net: Network
    seen: Stimuli
    observed: Observed
    subjects: dict[int, Subject]

    def places(self, probe: SingleProbe | FunctionalProbe, layers: tuple[str, ...]) -> list[str]:
        """Where a probe is read, of what lies in these blocks; `WHOLE` where there is but one value, or none."""
        if by_layer(probe):
            return [layer for layer in self.net.hidden if layer in layers]
        if not probe.places or not self.subjects:
            return [WHOLE]
        there = probe.places(next(iter(self.subjects.values())))
        if isinstance(there, Undefined):
            return [WHOLE]
        blocks = [block.name for block in self.net.blocks if block.name in layers]
        return [name for block in blocks for name in there if name.partition(".")[0] == block]

    @cached_property
    def task(self) -> Task:
        return Task(self.seen.y, np.asarray(as_float(self.seen.x)))

    def readout(self, layer: str, seed: int, maps: str) -> np.ndarray | None:
        """Weights (units × classes) of the linear map from this layer to the scores; None where there is none, as from
        positions or from their means.

        Columns are those of the classes that occur. A rule with a forward pass of its own may transform the layer on
        its way to the readout.
        """
        if layer != self.net.hidden[-1] or own_forward(self.rule) is not None:
            return None
        if positions_of((1, *self.observed.shapes[layer])) and maps != "flatten":
            return None
        kernel = self.observed.stored[seed]["params"][self.net.blocks[-1].name]["kernel"]
        return np.asarray(kernel)[:, np.unique(self.seen.y)]

    def value(self, probe: SingleProbe | FunctionalProbe, layer: str, seed: int) -> Found:
        """What a probe says of one network."""
        if isinstance(probe, FunctionalProbe):
            network = self.subjects[seed]
            return probe.value(self.task, network.at(layer) if probe.by_layer or probe.places else network)
        given = {
            "labels": lambda: self.seen.y,
            "predictions": lambda: self.observed.scores[seed].argmax(axis=1),
            "readout": lambda: self.readout(layer, seed, probe.info.maps),
        }
        h = shaped(self.observed.hidden[layer][seed], self.observed.shapes[layer])
        return probe.value(h, *(given[name]() for name in probe.needs))

    def remarks(self, probe: SingleProbe | FunctionalProbe, layer: str) -> list[str]:
        """What else a reader of these values should be told; each remark once, whichever seed it is of."""
        if isinstance(probe, FunctionalProbe):
            return []
        shape, told = self.observed.shapes[layer], []
        for h in self.observed.hidden[layer].values():
            rows = as_rows(np.asarray(shaped(h, shape), np.float64), probe.info.maps)
            told += single_cautions(probe.info, rows, len(rows) // len(h))
        return list(dict.fromkeys(told))

    def values(self, probe: SingleProbe | FunctionalProbe, layer: str) -> dict[int, Found]:
        """The same of every sound seed."""
        return {seed: self.value(probe, layer, seed) for seed in self.observed.scores}


def describe_run(folder, label: str, probes, layers, plan: DescriptionPlan, seen: Stimuli, dataset, say: Say):
    """All rows of one run."""
    rule, net = reopen(folder, dataset)
    credit, stored = Credit(folder, dataset), list_checkpoints(folder, 0)
    seen_at = lru_cache(3)(lambda step: observe(folder, step, seen, dataset))
    functional = any(isinstance(probe, FunctionalProbe) for probe in probes)

    def snapshot(step: int) -> Snapshot:
        before = [earlier for earlier in stored if earlier < step][-1:] if functional else []
        networks = subjects(folder, dataset, seen_at(step), seen_at(0), *map(seen_at, before), credit=credit)
        return Snapshot(rule, net, seen, seen_at(step), networks)

    first = snapshot(0)
    asked = [(probe, place) for probe in probes for place in first.places(probe, layers)]
    say(f"measuring {label} at step 0")
    start = [first.values(probe, place) for probe, place in asked]
    told_at_start = [first.remarks(probe, place) for probe, place in asked]
    rows = []
    for step in stored if plan.steps == "all" else stored[-1:]:
        if step == 0:
            found, told = start, told_at_start
        else:
            say(f"measuring {label} at step {step}")
            now = snapshot(step)
            found = [now.values(probe, place) for probe, place in asked]
            told = [now.remarks(probe, place) for probe, place in asked]
        facts = {
            "rule": label,
            "run": folder.id,
            "step": step,
            "loss": mean_metric(folder, step, "train_loss"),
            "accuracy": mean_accuracy(folder, step),
            "diverged": len(folder.spec.seeds) - len(sound_seeds(folder)),
        }
        for (probe, layer), now, before, said in zip(asked, found, start, told, strict=True):
            n = 0 if getattr(probe, "places", None) else plan.stimuli  # weights and directions are shown no stimuli
            of = {"measure": probe.info.label, "kind": probe.info.kind, "layer": layer, "n": n, **facts}
            rows.append({**of, **cells(now, before, probe.info.range, said)})
    return rows


def cells(
    now: dict[int, Found], before: dict[int, Found], bounds: tuple[float, float], remarks: Sequence[str] = ()
) -> dict[str, Any]:
    """What a row holds of one measure: mean over seeds, that of the untrained networks, further numbers, reasons."""
    row: dict[str, Any] = {}
    notes: list[str] = []
    value, why = over_seeds(now)
    put(row, "value", value, notes, bounds)
    put(row, "untrained", over_seeds(before)[0], notes, bounds)
    row["seeds"] = len(now) - len(why)
    row["undefined"] = value.reason if isinstance(value, Undefined) else ""
    row["parts"] = json.dumps(mean_parts(list(now.values())))
    if row["seeds"]:
        notes += [f"seed {seed} undefined: {reason}" for seed, reason in why.items()]
    notes += remarks
    row["notes"] = joined(notes)
    return row


def over_seeds(found: dict[int, Found]) -> tuple[Interval | Undefined, dict[int, str]]:
    """Mean over the seeds that have a value, with its interval; and why the others have none."""
    heads = {seed: headline(result) for seed, result in found.items()}
    why = {seed: head.reason for seed, head in heads.items() if isinstance(head, Undefined)}
    numbers = [float(head) for seed, head in heads.items() if seed not in why]
    if numbers:
        return mean_interval(numbers), why
    return Undefined(", ".join(dict.fromkeys(why.values())) or "every seed diverged"), why
