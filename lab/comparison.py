"""Comparing rules: similarity between networks beside every number that says whether it means anything.

A similarity of two networks is reported with its ceiling (same rule, another seed), the same network before training,
a global and a within-class permutation null, and intervals over seeds. Networks of two rules with one seed share
their initial weights, which makes them alike for that reason alone; such pairs are never mixed with the others.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from algorithms import RULES
from lab.callstring import short
from lab.capture import (
    Stimuli,
    dataset_of,
    matched_steps,
    metric_of,
    observe,
    reopen,
    rule_of,
    stimuli,
)
from lab.cells import WHOLE
from lab.comparison_layers import common_layers, compare_layer
from lab.comparison_networks import compare_networks
from lab.comparison_search import search_layers
from lab.comparison_table import Group, Plan
from lab.datasets.dataset import Dataset, as_float
from lab.errors import UsageError
from lab.functional_model import subjects
from lab.measures import by_layer, comparing_probe, has_null, refuse_idle_layers, settled
from lab.networks import ARCHITECTURES
from lab.optimizers import OPTIMIZERS
from lab.request import seeds_text
from lab.run_warnings import warnings_of
from lab.summary import rule_name
from lab.tables import asked, once, read_tables, write_tables
from probes.all_pairs import MEMORY
from probes.probe import FunctionalProbe, PairProbe
from probes.subject import Task
from runs import RunFolder, RunSpec, Store

FILE = "comparison.json"
PARTS = "parts"
BEST = "the best pair of layers"
Say = Callable[[str], None]


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
    """A short name per run, no two alike: its rule, "untrained" for zero epochs, and where others have that name too,
    what else was asked differently of them."""
    names = ["untrained" if f.spec.epochs == 0 else rule_name(f.spec.rule) for f in folders]
    labels = []
    for folder, name in zip(folders, names, strict=True):
        twins = [asked_of(f.spec) for f, other in zip(folders, names, strict=True) if other == name]
        own = asked_of(folder.spec)
        settings = [field for field in own if field not in SEEDS]
        alike = [twin for twin in twins if all(twin[field] == own[field] for field in settings)]
        fields = own if len(alike) > 1 else settings
        said = [f"{field}={own[field]}" for field in fields if len({twin[field] for twin in twins}) > 1]
        if alike.count(own) > 1:
            said.append(folder.id[-10:])
        labels.append(f"{name} [{', '.join(said)}]" if said else name)
    return labels


SEEDS = ("seeds", "order_seed")
"""What tells runs apart only where nothing else does."""


def asked_of(spec: RunSpec) -> dict[str, Any]:
    """What was asked of a run, in as few words as one would type."""
    orders = dict.fromkeys(spec.order_seeds)
    return {
        "rule": spec.rule if spec.sources else short(spec.rule, RULES),
        "arch": short(spec.arch, ARCHITECTURES),
        "optimizer": short(spec.optimizer, OPTIMIZERS),
        **{name: getattr(spec, name) for name in ("epochs", "train_size", "batch", "precision")},
        "seeds": seeds_text(spec.seeds),
        "order_seed": "seed" if tuple(spec.order_seeds) == tuple(spec.seeds) else ",".join(map(str, orders)),
    }


def compare_runs(
    folders: list[RunFolder], plan: Plan, store: Store, say: Say = lambda line: None, memory: int = MEMORY
) -> Comparison:
    """Compare runs, or find the comparison in the store; it is kept as two Parquet tables and a JSON file.

    Each measure at each layer is kept as soon as it is finished, until all are, so that a comparison that was stopped
    goes on from there.

    Args:
        memory: bytes for what all pairs of one measure at one layer are computed from.

    Raises:
        UsageError: fewer than two runs, one twice, different data, no common layer, a search without a null.
        runs.RunError: a run is incomplete or damaged.
    """
    import pandas as pd

    if len(folders) < 2:
        raise UsageError("a comparison needs at least two runs; `lab runs` lists those there are")
    if len({folder.id for folder in folders}) < len(folders):
        raise UsageError("a run is named twice; a run compared with itself is the same-rule ceiling of every row")
    probes, _, plan, about, key = asked(folders, plan, comparing_probe)
    refuse_idle_layers(probes, plan.layers)
    if plan.search:
        require_nulls(probes)
    place = store.root / "comparisons" / key
    labels = labels_of(folders)
    kept = read_tables(place, FILE, ("rows", "pairs"))
    if kept is None:
        dataset = dataset_of(folders)
        hidden = [reopen(folder, dataset)[1].hidden for folder in folders]
        layers = common_layers(hidden, plan.layers) if not plan.search and any(map(by_layer, probes)) else []
    besides = cautions(folders, labels, epochs=plan.match == "steps")
    for caution in (*besides, *order_cautions(folders, labels)):
        say(caution)
    for folder, label in zip(folders, labels, strict=True):
        for warning in warnings_of(folder, store):
            say(f"caution: {label}, {warning}")
    if kept is not None:
        say(f"compared earlier: {place}")
        tables, about = kept
        return Comparison(key, labels, **tables, about=about)
    seen = stimuli(dataset, plan.stimuli)
    steps = matched_steps(folders, plan.match)
    functional = any(isinstance(probe, FunctionalProbe) for probe in probes)
    groups = []
    for folder, label, step in zip(folders, labels, steps, strict=True):
        say(f"reading {label} at step {step}")
        groups.append(read_group(folder, label, step, seen, dataset, functional))
    probes = [settled(probe, shapes_at(groups, layers or plan.layers)) for probe in probes]
    task = Task(seen.y, np.asarray(as_float(seen.x)))

    def measure(probe: PairProbe | FunctionalProbe, layer: str):
        say(f"measuring {probe.info.label} at {layer}")
        if isinstance(probe, FunctionalProbe):
            return compare_networks(probe, layer, groups, task, plan)
        if plan.search:
            return search_layers(probe, groups, plan.layers, seen.y, plan, memory)
        return compare_layer(probe, layer, groups, seen.y, plan, memory)

    rows, pairs = [], []
    where = [(probe, layer) for probe in probes for layer in places_of(probe, layers, plan)]
    for i, (probe, layer) in enumerate(where):
        of = {"comparison": key, "measure": probe.info.label, "layer": layer}
        made, between = once(place / PARTS / f"{i}.json", of, partial(measure, probe, layer))
        rows += made
        pairs += between
    for test in ("rule_effect", "null_global", "null_within"):
        for row, q in zip(rows, discoveries([row[f"{test}_p"] for row in rows]), strict=True):
            row[f"{test}_q"] = q
    tables = {"rows": pd.DataFrame(rows), "pairs": pd.DataFrame(pairs)}
    about["plan"]["measures"] = [probe.info.label for probe in probes]
    about = {**about, "labels": labels, "steps": steps}
    write_tables(place, FILE, tables, about)
    shutil.rmtree(place / PARTS, ignore_errors=True)
    return Comparison(key, labels, **tables, about=about)


def read_group(folder: RunFolder, label: str, step: int, seen: Stimuli, dataset: Dataset, functional: bool) -> Group:
    """One run at the compared step and at step 0; its networks themselves only where they are asked for."""
    start = observe(folder, 0, seen, dataset)
    now = start if step == 0 else observe(folder, step, seen, dataset)
    accuracy, loss = (metric_of(folder, step, metric) for metric in ("validation_accuracy", "train_loss"))
    networks = [subjects(folder, dataset, at, start) if functional else {} for at in (now, start)]
    return Group(folder, label, step, accuracy, loss, now.hidden, start.hidden, *networks, now.shapes)


def places_of(probe: PairProbe | FunctionalProbe, layers: list[str], plan: Plan) -> list[str]:
    """Where a measure is taken: at each layer, at the best pair of them, or of the whole network."""
    if plan.search:
        return [BEST]
    return layers if by_layer(probe) else [WHOLE]


def shapes_at(groups: list[Group], layers: Sequence[str] | None) -> list[tuple[int, ...]]:
    """Shapes of what these layers of all runs, or all layers if none are named, answer to one stimulus."""
    return [shape for g in groups for layer, shape in g.shapes.items() if layer in (layers or g.shapes)]


def require_nulls(probes: list[PairProbe | FunctionalProbe]) -> None:
    """A best pair of layers says nothing without the null of the maximum.

    Raises:
        UsageError: a measure has no null of permuted stimuli.
    """
    for probe in probes:
        if not has_null(probe):
            without = "each layer with its namesake" if by_layer(probe) else "the whole networks"
            raise UsageError(
                f"--best-layers: {probe.info.label} has no permutation null, and the best of many layers says nothing "
                f"without one; search with debiased-cka or mutual-knn, or leave --best-layers out to compare {without}"
            )


def discoveries(p: list[float]) -> list[float]:
    """q of each test: the smallest false discovery rate at which it would be called, among all tests of a comparison
    (measures, layers, pairs of runs) of one kind; nan where there was none.

    Source: Benjamini and Hochberg 1995, doi 10.1111/j.2517-6161.1995.tb02031.x; it holds for tests that depend on each
    other positively, as those of neighbouring layers do (Benjamini and Yekutieli 2001, doi 10.1214/aos/1013699998).
    """
    from scipy.stats import false_discovery_control

    p = np.asarray(p, dtype=float)
    q = np.full(len(p), np.nan)
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    return q.tolist()


def cautions(folders: list[RunFolder], labels: list[str], epochs: bool = True) -> list[str]:
    """What else than the rule differs between runs, and so may be what a difference comes from.

    Not the optimizer, which is tuned for each rule; seeds and data orders have a caution of their own.

    Args:
        epochs: whether the numbers of epochs are to be alike: not where networks are matched by something else.
    """
    losses: dict[str, list[str]] = {}
    for folder, label in zip(folders, labels, strict=True):
        losses.setdefault(rule_of(folder).info.loss, []).append(label)
    found = []
    if len(losses) > 1:
        told = "; ".join(f"{', '.join(names)}: {loss}" for loss, names in losses.items())
        found.append(f"caution: the losses differ ({told}). Train bp with each of them as well, as in bp(loss=mse)")
    if told := differing_settings([folder.spec for folder in folders], labels, epochs):
        found.append(
            f"caution: besides the rule, runs differ in {told}: a rule effect is one of these as well. Train all alike "
            "or, where a rule needs its own, bp like each"
        )
    return found


def differing_settings(specs: list[RunSpec], labels: list[str], epochs: bool) -> str:
    """`arch (bp mlp(8); fa mlp(8,act=tanh)) and epochs (bp 2; fa 1)`; empty where runs are alike in all of these.

    Only the network and its precision are asked of untrained ones.
    """
    told = []
    for field in ("arch", "precision", "train_size", "batch", *["epochs"] * epochs):
        values: dict[Any, dict[str, None]] = {}
        for spec, label in zip(specs, labels, strict=True):
            if spec.epochs or field in ("arch", "precision"):
                values.setdefault(asked_of(spec)[field], {})[label.partition(" [")[0]] = None
        if len(values) > 1:
            said = "; ".join(f"{', '.join(names)} {value}" for value, names in values.items())
            told.append(f"{field.replace('_', ' ')} ({said})")
    return " and ".join(filter(None, (", ".join(told[:-1]), *told[-1:])))


def order_cautions(folders: list[RunFolder], labels: list[str]) -> list[str]:
    """Whether networks of one run share a data order that those of another do not: they are then more alike within a
    run than between, whatever their rules."""
    kinds: dict[str, list[str]] = {}
    for folder, label in zip(folders, labels, strict=True):
        spec = folder.spec
        if spec.epochs:
            own = tuple(spec.order_seeds) == tuple(spec.seeds)
            kinds.setdefault("one of its own for each seed" if own else f"{spec.order_seeds[0]}", []).append(label)
    if len(kinds) < 2:
        return []
    told = "; ".join(f"{', '.join(names)}: {kind}" for kind, names in kinds.items())
    return [
        f"caution: the data orders differ ({told}), so a rule effect is one of the order as well. Train all with one "
        "--order-seed, or all without, or split them with `lab variance`"
    ]
