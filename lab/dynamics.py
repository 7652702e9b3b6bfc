"""Dynamics: a measure of two networks all along training, between rules and within them, and paths in shape space.

Every point of the course is a comparison as `lab compare` makes it, without nulls: these cost many times the rest, and
are to be had for any one point. Networks of two rules stand at one step, or, against loss and accuracy, where they are
equally far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.cells import WHOLE
from lab.comparison import cautions as differing
from lab.comparison import discoveries, labels_of, order_cautions
from lab.comparison_layers import remarks_on
from lab.comparison_networks import compare_networks
from lab.comparison_table import NO_VALUE, Measured, Plan, tabulate
from lab.course import AGAINST, Course, Node, course_of, left_out, moments
from lab.errors import UsageError
from lab.measures import Probe, by_layer, comparing_probe, refuse_idle_layers, settled
from lab.shape_paths import Paths, matrix_of, no_metric, shape_paths, together
from lab.tables import asked, read_tables, write_tables
from probes import PairProbe, Prepared, Undefined
from probes.all_pairs import MEMORY, Shelf
from probes.probe import FunctionalProbe
from runs import RunFolder, Store

FILE = "dynamics.json"
MATCH = dict(zip(AGAINST, ("steps", "loss", "accuracy"), strict=True))
"""What the course is held against -> what `lab compare` calls networks that are matched by it."""
LEFT_OUT = ("permutations", *(f"null_{kind}{end}" for kind in ("global", "within")
                              for end in ("", "_p", "_calibrated", "_draws")))  # fmt: skip


@dataclass(frozen=True)
class DynamicsPlan:
    """What is measured.

    Attributes:
        measures: call strings of probes of two networks.
        stimuli: number of test inputs.
        against: "step", or "loss" or "accuracy" for networks that are equally far (see `course.moments`).
        layers: names of hidden blocks; None for all that the runs have in common.
    """

    measures: tuple[str, ...] = ("debiased-cka",)
    stimuli: int = 1000
    against: str = "step"
    layers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Dynamics:
    """A finished course.

    Attributes:
        id: of the store's folder `dynamics/<id>` that holds the tables.
        labels: a short name per run, in the order they were given.
        rows: one line per measure, layer, pair of runs and point of the course.
        pairs: one line per pair of networks at each point.
        paths: those of the measures that are metrics; None where none is.
        about: the plan, the runs, and which measures give no paths, for a sidecar.
    """

    id: str
    labels: list[str]
    rows: Any
    pairs: Any
    paths: Paths | None
    about: dict[str, Any]


def dynamics_of(
    folders: list[RunFolder],
    plan: DynamicsPlan,
    store: Store,
    say: Callable[[str], None] = lambda line: None,
    memory: int = MEMORY,
) -> Dynamics:
    """Follow runs through training, or find it in the store; kept as Parquet tables and a JSON file.

    Args:
        memory: bytes for what all pairs of one measure at one layer are computed from.

    Raises:
        UsageError: fewer than two runs, one twice, different data, no common layer, fewer than two common steps.
        runs.RunError: a run is incomplete or damaged.
    """
    import pandas as pd

    if len(folders) < 2:
        raise UsageError("dynamics are those of at least two runs; `lab runs` lists those there are")
    if len({folder.id for folder in folders}) < len(folders):
        raise UsageError("a run is named twice; a run beside itself is the same-rule ceiling of every row")
    probes, sources, plan, about, key = asked(folders, plan, comparing_probe)
    refuse_idle_layers(probes, plan.layers)
    labels = labels_of(folders)
    for caution in (*differing(folders, labels, epochs=False), *order_cautions(folders, labels)):
        say(caution)
    layers = plan.layers if any(map(by_layer, probes)) else ()
    functional = any(isinstance(probe, FunctionalProbe) for probe in probes)
    with course_of(folders, labels, plan.stimuli, layers, functional, memory, say) as course:
        points = moments(folders, course.steps, plan.against)
        shapes = [its[layer] for its in course.shapes for layer in course.layers]
        probes = [settled(probe, shapes) for probe in probes]
        everywhere = [
            (probe, source, layer)
            for probe, source in zip(probes, sources, strict=True)
            for layer in (course.layers if by_layer(probe) else [WHOLE])
        ]
        paths = together([shape_paths(course, p, source, layer, store)
                          for p, source, layer in everywhere if p.info.metric])  # fmt: skip
        place = store.root / "dynamics" / key
        kept = read_tables(place, FILE, ("rows", "pairs"))
        if kept is not None:
            say(f"followed earlier: {place}")
            return Dynamics(key, labels, **kept[0], paths=paths, about=kept[1])
        rows, pairs = [], []
        for probe, _, layer in everywhere:
            say(f"measuring {probe.info.label} at {layer}, {len(points)} points")
            made, between = follow(probe, layer, course, points, plan, paths)
            rows += made
            pairs += between
    # At step 0 networks of one seed are the same network under any rule: nothing is tested there.
    tested = [row["rule_effect_p"] if row["step_a"] or row["step_b"] else np.nan for row in rows]
    for row, q in zip(rows, discoveries(tested), strict=True):
        row["rule_effect_q"] = q
    tables = {"rows": pd.DataFrame(rows), "pairs": pd.DataFrame(pairs)}
    no_paths = [why for probe in probes if (why := no_metric(probe))]
    about["plan"]["measures"] = [probe.info.label for probe in probes]
    about = {**about, "labels": labels, "steps": course.steps, "points": points, "no_paths": no_paths}
    about["left_out"] = left_out(folders, labels, course.steps)
    write_tables(place, FILE, tables, about)
    return Dynamics(key, labels, **tables, paths=paths, about=about)


def follow(
    probe: Probe, layer: str, course: Course, points: list[list[int]], plan: DynamicsPlan, paths: Paths | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All rows and all pairs of networks of one probe at one layer: pair of runs by pair of runs, points in order."""
    as_compared = Plan((probe.info.label,), plan.stimuli, 0, MATCH[plan.against], plan.layers)
    if isinstance(probe, FunctionalProbe):
        found = [compare_networks(probe, layer, course.groups(p), course.task, as_compared) for p in points]
    else:
        source = from_paths(course, paths, probe, layer) if probe.info.metric else measuring(course, probe, layer)
        with source as values_at:
            found = [compared(probe, layer, course, p, values_at(p), as_compared) for p in points]
    rows = [{"point": place, **row} for place, (made, _) in enumerate(found) for row in made]
    pairs = [{"point": place, **pair} for place, (_, made) in enumerate(found) for pair in made]
    # Matched to a third run, two runs may stand twice at the same steps.
    once = {(row["rule_a"], row["rule_b"], row["step_a"], row["step_b"]): row for row in reversed(rows)}
    rows = [{name: value for name, value in row.items() if name not in LEFT_OUT} for row in once.values()]
    rows.sort(key=lambda row: (course.labels.index(row["rule_a"]), course.labels.index(row["rule_b"]), row["point"]))
    return rows, pairs


Values = tuple[np.ndarray, dict[Node, float | Undefined], dict[Node, Prepared]]
"""At one point: values between all networks, of each with its own start, and what is known of each."""


@contextmanager
def measuring(course: Course, probe: PairProbe, layer: str) -> Iterator[Callable[[list[int]], Values]]:
    """Values at a point from the representations; those before training are prepared once.

    Within the memory of the course: a quarter of it holds the starts, and what does not fit waits on disk.
    """
    before = course.at([course.steps[0]] * len(course.folders))
    places = {node[:2]: i for i, node in enumerate(before)}
    with Shelf((p for _, p in course.prepared(probe, layer, before)), course.memory // 4) as starts:

        def at(point: list[int]) -> Values:
            own: dict[Node, float | Undefined] = {}

            def meet(node: Node, p: Prepared) -> None:
                own[node] = probe.value(p, starts[places[node[:2]]])

            values, known = course.values(probe, layer, course.at(point), meet)
            return values, own, known

        yield at


@contextmanager
def from_paths(course: Course, paths: Paths, probe: PairProbe, layer: str) -> Iterator[Callable[[list[int]], Values]]:
    """The same from distances that are known already."""
    D, known = matrix_of(course, paths, probe, layer)
    place = {node: i for i, node in enumerate(course.nodes)}

    def at(point: list[int]) -> Values:
        nodes = course.at(point)
        rows = [place[node] for node in nodes]
        own = {node: D[place[node], place[*node[:2], course.steps[0]]] for node in nodes}
        own = {node: float(value) if np.isfinite(value) else NO_VALUE for node, value in own.items()}
        return D[np.ix_(rows, rows)], own, {node: known[node] for node in nodes}

    yield at


def compared(probe: PairProbe, layer: str, course: Course, point: list[int], found: Values, plan: Plan):
    """Rows and pairs of one point."""
    values, own, known = found
    measured, everyone = [], []
    for run, group in enumerate(course.groups(point)):
        nodes = {seed: (run, seed, point[run]) for seed in group.seeds}
        everyone.append([known[node] for node in nodes.values()])
        lost = {seed: known[node].undefined.reason for seed, node in nodes.items() if known[node].undefined}
        sound = [seed for seed in nodes if seed not in lost]
        measured.append(Measured(group, sound, lost, [own[nodes[seed]] for seed in sound]))
    kept = [i for i, p in enumerate(p for side in everyone for p in side) if p.undefined is None]

    def remarks(i: int, j: int) -> list[str]:
        return remarks_on(probe, everyone[i], everyone[j], course.seen.y)

    return tabulate(probe.info, layer, measured, values[np.ix_(kept, kept)], plan, lambda *asked: None, remarks)
