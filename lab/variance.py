"""Which cause makes networks differ: rules × initialisations × data orders, and the variance each of them makes.

A run has one data order for all its seeds if it was trained with `--order-seed`. Runs of several rules and orders,
with the same seeds, are the factorial design; only a complete one can be split.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lab.capture import dataset_of, matched_steps, mean_accuracy, observe, stimuli
from lab.comparison import cautions as differing
from lab.comparison import labels_of, shapes_at
from lab.comparison_layers import common_layers, require_same_positions
from lab.comparison_table import Group, no_match
from lab.course import require_enough
from lab.errors import LabError, UsageError
from lab.measures import Probe, comparing_probe, settled
from lab.tables import asked, read_tables, write_tables
from probes import PROBES, PairProbe
from probes.all_pairs import MEMORY, all_pairs, prepare_all
from probes.variance import squared_distances, variance_split
from runs import RunFolder, RunSpec, Store, diverged_seeds

FILE = "variance.json"
FACTORS = ("rule", "initialisation", "data order")
WITHIN = {"rule": "initialisation", "data order": "initialisation"}
"""What rules and orders are exchanged within: a rule's own random numbers are drawn with the initialisation, so alike
rules still differ within each. An interaction of rule and order is no such chance and counts as an effect."""
SETTING = ("rule", "arch", "optimizer", "data_sha256", "train_size", "epochs", "batch", "precision", "sources")
"""What two runs of one level of the factor "rule" have in common: all but their seeds."""


@dataclass(frozen=True)
class VariancePlan:
    """What is measured.

    Attributes:
        measures: call strings of probes of two representations that give squared distances.
        stimuli: number of test inputs.
        match: "steps" (the last of each run), "accuracy" or "loss" (see `capture.matched_steps`).
        permutations: of each factor's levels; all exchanges are taken if they are no more.
        layers: names of hidden blocks; None for all that the runs have in common.
    """

    measures: tuple[str, ...] = ("debiased-cka",)
    stimuli: int = 1000
    match: str = "steps"
    permutations: int = 999
    layers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Variance:
    """A finished split.

    Attributes:
        id: of the store's folder `variance/<id>` that holds the tables.
        rows: one line per measure, layer and factor or interaction.
        networks: one line per network, with its levels.
        about: the plan, the runs, what was left out, for a sidecar.
    """

    id: str
    rows: Any
    networks: Any
    about: dict[str, Any]


class Member(NamedTuple):
    """One network of a design: the run it is from and its level of each factor."""

    run: int
    rule: str
    init: int
    order: int


def design(folders: list[RunFolder]) -> tuple[list[Member], list[str]]:
    """The networks of a complete factorial design, and remarks on what was left out of it.

    An initialisation that diverged with any rule or order is left out with all of them.

    Raises:
        UsageError: one network twice, or combinations that no run has trained, with the command that trains some.
        LabError: every initialisation diverged somewhere.
    """
    settings: dict[tuple, RunFolder] = {}
    for folder in folders:
        settings.setdefault(_setting(folder.spec), folder)
    names = dict(zip(settings, labels_of(list(settings.values())), strict=True))
    members, lost = [], set()
    for run, folder in enumerate(folders):
        spec = folder.spec
        lost |= set(diverged_seeds(folder.manifest))
        for init, order in zip(spec.seeds, spec.order_seeds, strict=True):
            members.append(Member(run, names[_setting(spec)], init, order))
    cells = Counter(member[1:] for member in members)
    twice = next((cell for cell, count in cells.items() if count > 1), None)
    if twice:
        both = [folders[member.run].id for member in members if member[1:] == twice]
        raise UsageError(f"{_cell(*twice)} is in {' and in '.join(both)}; name one of these runs")
    rules, inits, orders = (list(dict.fromkeys(levels)) for levels in zip(*cells, strict=True))
    missing = [(rule, init, order) for rule in rules for order in sorted(orders) for init in sorted(inits)
               if (rule, init, order) not in cells]  # fmt: skip
    if missing:
        rule, _, order = missing[0]
        these = [init for name, init, at in missing if (name, at) == (rule, order)]
        example = next(folder for key, folder in settings.items() if names[key] == rule)
        raise UsageError(
            f"not every rule was trained with every initialisation and data order: {len(missing)} of "
            f"{len(rules) * len(inits) * len(orders)} combinations are missing, such as {_cell(*missing[0])}: "
            f"{training(example, these, order)}"
        )
    kept = [member for member in members if member.init not in lost]
    if not kept:
        raise LabError("every initialisation diverged with some rule or data order; train with a smaller learning rate")
    dropped = sorted(lost & set(inits))
    told = ", ".join(map(str, dropped))
    return kept, [f"initialisation {told} left out everywhere: a network with it diverged"] * bool(dropped)


def _setting(spec: RunSpec) -> tuple:
    return tuple(getattr(spec, name) for name in SETTING)


def _cell(rule: str, init: int, order: int) -> str:
    return f"{rule} with initialisation {init} and data order {order}"


def training(like: RunFolder, inits: list[int], order: int) -> str:
    """The command that trains networks as those of a run, with these initial weights and this data order."""
    spec = like.spec
    rule = spec.rule
    if spec.sources:
        source = next(Path(like.path / "source" / "rule").glob("*.py"))
        rule = f"{source}{rule[rule.index('(') :]}"
    seeds = ",".join(map(str, inits)) if len(inits) > 1 else f"{inits[0]}-{inits[0]}"
    words = {
        "rule": rule,
        "arch": spec.arch,
        "data": spec.data,
        "optimizer": spec.optimizer,
        "epochs": spec.epochs,
        "batch": spec.batch,
        "train-size": spec.train_size,
        **({"precision": spec.precision} if spec.precision != "float32" else {}),
        "seeds": seeds,
        "order-seed": order,
    }
    # A shell takes double quotes inside single ones as they are; the other way round is hard to read.
    return shlex.join(["lab", "train", *(w for k, v in words.items() for w in (f"--{k}", str(v).replace("'", '"')))])


def require_squares(probe: Probe) -> None:
    """Refuse a measure that is no squared distance between points, whose sum of squares could be split.

    Raises:
        UsageError: it is neither a metric nor an inner product of unit vectors.
    """
    if gives_squares(probe):
        return
    others = ", ".join(name for name, factory in PROBES.items() if gives_squares(factory()))
    raise UsageError(
        f"--measure {probe.info.label} gives no squared distances between representations, being neither a metric of "
        f"them nor an inner product; these do: {others}"
    )


def gives_squares(probe: Probe) -> bool:
    """Whether d² (of a metric) or 2 − 2s (of an inner product of unit vectors) is a squared distance."""
    if not isinstance(probe, PairProbe):
        return False
    return probe.info.metric or (probe.matrix is not None and probe.info.direction == "similarity")


def variance_of(
    folders: list[RunFolder],
    plan: VariancePlan,
    store: Store,
    say: Callable[[str], None] = lambda line: None,
    memory: int = MEMORY,
) -> Variance:
    """Split the variance among the networks of a design, or find the split in the store.

    Factors with one level explain nothing and are left out.

    Raises:
        UsageError: a run twice, different data, no complete design, a measure that gives no squared distances.
        ProbeError: too few factors or networks for a rest.
        runs.RunError: a run is incomplete or damaged.
    """
    import pandas as pd

    if len({folder.id for folder in folders}) < len(folders):
        raise UsageError("a run is named twice; name it once, since its networks would be the same")
    probes, _, plan, about, key = asked(folders, plan, comparing_probe)
    for probe in probes:
        require_squares(probe)
    dataset = dataset_of(folders)
    members, notes = design(folders)
    place = store.root / "variance" / key
    kinds = {member.rule: folders[member.run] for member in members}
    for caution in differing(list(kinds.values()), list(kinds), epochs=plan.match == "steps"):
        say(caution)
    kept = read_tables(place, FILE, ("rows", "networks"))
    if kept is not None:
        say(f"split earlier: {place}")
        return Variance(key, **kept[0], about=kept[1])
    levels = dict(zip(FACTORS, zip(*(member[1:] for member in members), strict=True), strict=True))
    factors = {name: of for name, of in levels.items() if len(set(of)) > 1}
    notes += [f"{name} is {of[0]} for all, and no factor" for name, of in levels.items() if name not in factors]
    steps = matched_steps(folders, plan.match)
    notes += unlike(folders, steps, plan.match)
    seen = stimuli(dataset, plan.stimuli)
    shown = []
    for folder, step in zip(folders, steps, strict=True):
        say(f"reading {folder.id} at step {step}")
        shown.append(observe(folder, step, seen, dataset))
    groups = [
        Group(f, f.id, step, {}, {}, its.hidden, {}, shapes=its.shapes)
        for f, step, its in zip(folders, steps, shown, strict=True)
    ]
    layers = common_layers([group.trained for group in groups], plan.layers)
    probes = [settled(probe, shapes_at(groups, layers)) for probe in probes]
    rows = []
    for probe, layer in [(probe, layer) for probe in probes for layer in layers]:
        say(f"measuring {probe.info.label} at {layer}")
        require_same_positions(probe, [(group, layer) for group in groups])
        arrays = (groups[m.run].shaped(layer, shown[m.run].hidden[layer][m.init]) for m in members)
        prepared = (require_enough(probe, layer, p) for p in prepare_all(probe, arrays, memory // 2))
        values = all_pairs(probe, prepared, memory=memory)
        same = {"measure": probe.info.label, "direction": probe.info.direction, "layer": layer, "n": plan.stimuli}
        rows += [{**same, "match": plan.match, **line} for line in split(values, probe, factors, plan.permutations)]
    notes += [
        f"p of {row['factor']} cannot be below {row['floor']:.3g}, whatever the networks: "
        + ("raise --permutations" if row["floor"] == 1 / (plan.permutations + 1) else "train more initialisations")
        for row in {row["factor"]: row for row in rows if row["floor"] > 0.05}.values()
    ]
    tables = {"rows": pd.DataFrame(rows), "networks": pd.DataFrame(_networks(members, folders, steps))}
    about["plan"]["measures"] = [probe.info.label for probe in probes]
    about = {**about, "levels": {name: sorted(set(of)) for name, of in levels.items()}, "notes": notes}
    write_tables(place, FILE, tables, about)
    return Variance(key, **tables, about=about)


def unlike(folders: list[RunFolder], steps: list[int], match: str) -> list[str]:
    """How far apart runs stand that were to be matched; the rest is the reader's."""
    if match == "steps":
        return []
    accuracy = [mean_accuracy(folder, step) for folder, step in zip(folders, steps, strict=True)]
    apart = max(accuracy) - min(accuracy)
    notes = [f"at their nearest stored steps these runs differ by up to {100 * apart:.1f} points of accuracy"]
    before = [f.id for f, step in zip(folders, steps, strict=True) if step == 0 and f.spec.epochs]
    return notes * no_match("accuracy", max(accuracy), min(accuracy)) + [
        f"{run} is matched before its first step: nothing it has stored later is as far" for run in before
    ]


def split(values: np.ndarray, probe: PairProbe, factors: dict[str, tuple], permutations: int) -> list[dict[str, Any]]:
    """One line per factor and interaction, then the rest; one line that says why where some networks have no value.

    `by_chance` is the share that as many levels would take of points that differ by nothing but chance, df / (N − 1).
    """
    names = ("levels", "df", "squares", "share", "by_chance", "variance", "p", "floor")
    if not np.isfinite(values).all():
        lost = int(np.isnan(np.diag(values)).sum())
        why = f"{lost} networks have no value" if lost else "some pairs of networks have no value"
        return [{"factor": "", "networks": len(values), **dict.fromkeys(names, np.nan), "within": "", "undefined": why}]
    own = 1.0 if probe.info.direction == "similarity" else 0.0
    if np.abs(np.diag(values) - own).max() > 1e-6:
        raise UsageError(f"--measure {probe.info.label} is not {own:g} for a network and itself, so it is no distance")
    within = {name: unit for name, unit in WITHIN.items() if {name, unit} <= set(factors)}
    d2 = squared_distances(values, probe.info.direction)
    parts = variance_split(d2, factors, within=within, permutations=permutations)
    return [
        {
            "factor": part.factor,
            "networks": len(values),
            "levels": len(set(factors.get(part.factor, ()))) or np.nan,
            "df": part.df,
            "squares": part.squares,
            "share": part.share,
            "by_chance": part.df / (len(values) - 1),
            "variance": part.variance,
            "p": np.nan if part.p is None else part.p,
            "floor": np.nan if part.floor is None else part.floor,
            "within": " and ".join(part.within),
            "undefined": "",
        }
        for part in parts
    ]


def _networks(members: list[Member], folders: list[RunFolder], steps: list[int]) -> list[dict[str, Any]]:
    accuracy = [mean_accuracy(folder, step) for folder, step in zip(folders, steps, strict=True)]
    return [
        {
            **dict(zip(FACTORS, member[1:], strict=True)),
            "run": folders[member.run].id,
            "step": steps[member.run],
            "run_accuracy": accuracy[member.run],
        }
        for member in members
    ]
