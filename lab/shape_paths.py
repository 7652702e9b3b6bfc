"""The paths of all networks through one space of shapes: distances between all of them at all steps, and their map.

Only a metric has such a space. The paths are those over the steps that the runs have in common, whatever else they
are held against, so that every network's polygon has corners at the same steps: more corners make a longer path.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.cells import joined, mean_interval, parted, put
from lab.course import METRICS, Course, Node
from lab.measures import Probe
from lab.tables import read_tables, request, write_tables
from probes import PROBES, Prepared, Undefined
from probes.probe import FunctionalProbe
from probes.shape_space import path, shape_map
from runs import Store

FILE = "paths.json"
TABLES = ("distances", "checkpoints", "networks", "maps")
A_METRIC = "angular-procrustes"
"""What is advised, and drawn, where no metric was asked for: it sees no scale, rotation or shift."""


@dataclass(frozen=True)
class PathPlan:
    """Which distances: one metric, on so many stimuli, at one hidden block or of the whole network."""

    measure: str
    stimuli: int
    layer: str


@dataclass(frozen=True)
class Paths:
    """Paths in shape space.

    Attributes:
        ids: of the store's folders `paths/<id>` that hold the tables, one per measure and layer.
        distances: one line per pair of networks at any two steps.
        checkpoints: one line per network and step: its place on the map, its distance from the step before, from the
            first and from the last.
        networks: one line per network: length, displacement and tortuosity of its path.
        maps: one line per measure and layer: stress, share of negative eigenvalues.
    """

    ids: tuple[str, ...]
    distances: Any
    checkpoints: Any
    networks: Any
    maps: Any


def no_metric(probe: Probe) -> str | None:
    """Why a measure gives no paths, and which would; None where it gives some."""
    if probe.info.metric:
        return None
    others = ", ".join(name for name, factory in PROBES.items() if factory().info.metric and name != A_METRIC)
    return f"{probe.info.label} is no metric, so there is no space of shapes; {A_METRIC} is one (others: {others})"


def shape_paths(course: Course, probe: Probe, source: bytes | None, layer: str, store: Store) -> Paths:
    """Paths of all networks of a course by one metric at one layer, made or found in the store.

    Each is kept as soon as it is made, so that a request that was stopped goes on from there.
    """
    import pandas as pd

    plan = PathPlan(probe.info.label, len(course.seen.y), layer)
    about, key = request(course.folders, plan, [source])
    place = store.root / "paths" / key
    kept = read_tables(place, FILE, TABLES)
    if kept is not None:
        course.say(f"paths measured earlier: {place}")
        return Paths((key,), **kept[0])
    pairs = len(course.nodes) * (len(course.nodes) - 1) // 2
    course.say(f"measuring {probe.info.label} at {layer} between {pairs} pairs of networks and steps")
    if isinstance(probe, FunctionalProbe):
        D = course.functional_values(probe, layer, course.nodes)
        known = {node: Prepared(probe.info.label, len(course.seen.y), 0, ()) for node in course.nodes}
    else:
        D, known = course.values(probe, layer, course.nodes)
    same = {"measure": probe.info.label, "layer": layer}
    tables = {
        name: pd.DataFrame([{**same, **line} for line in lines]) for name, lines in tabulated(course, D, known).items()
    }
    write_tables(place, FILE, tables, {**about, "labels": course.labels, "steps": course.steps})
    return Paths((key,), **tables)


def together(several: list[Paths]) -> Paths | None:
    """Paths by several metrics and at several layers, one below the other; None where there are none."""
    import pandas as pd

    if not several:
        return None
    tables = {name: pd.concat([getattr(paths, name) for paths in several], ignore_index=True) for name in TABLES}
    return Paths(tuple(key for paths in several for key in paths.ids), **tables)


def tabulated(course: Course, D: np.ndarray, known: dict[Node, Prepared]) -> dict[str, list[dict[str, Any]]]:
    """The four tables of one measure at one layer, from the distances between all nodes of a course."""
    D = D.copy()
    np.fill_diagonal(D, np.where(np.isnan(np.diag(D)), np.nan, 0.0))
    steps, T = course.steps, len(course.steps)
    spans = [slice(start, start + T) for start in range(0, len(D), T)]
    sound = [span for span in spans if np.isfinite(D[span, span]).all()]
    rows = np.concatenate([np.arange(len(D))[span] for span in sound]) if sound else np.arange(0)
    drawn = shape_map(D[np.ix_(rows, rows)]) if len(rows) > 2 and np.isfinite(D[np.ix_(rows, rows)]).all() else None
    places = {} if drawn is None else dict(zip(rows.tolist(), drawn.points, strict=True))
    measured = _measured(course)
    checkpoints, networks = [], []
    for span in spans:
        block, nodes = D[span, span], course.nodes[span]
        found = path(block, steps) if span in sound else None
        who = _who(course, nodes[0])
        whole = {
            "length": found.length,
            "displacement": found.displacement,
            "tortuosity": np.nan if found.tortuosity is None else found.tortuosity,
        } if found else dict.fromkeys(("length", "displacement", "tortuosity"), np.nan)  # fmt: skip
        lost = [known[node].undefined for node in nodes]
        why = next((reason.reason for reason in lost if reason), "" if found else "some of its distances have no value")
        networks.append({**who, "checkpoints": T, "first": steps[0], "last": steps[-1], **whole, "undefined": why})
        for t, node in enumerate(nodes):
            x, y = places.get(span.start + t, (np.nan, np.nan))
            checkpoints.append(
                {
                    **who,
                    "step": steps[t],
                    **measured[node],
                    "x": x,
                    "y": y,
                    "leg": block[t - 1, t] if t else np.nan,
                    "velocity": found.velocity[t - 1] if t and found else np.nan,
                    "from_start": block[0, t],
                    "to_end": block[t, -1],
                    "units": known[node].d,
                    "undefined": known[node].undefined.reason if known[node].undefined else "",
                    "notes": joined(known[node].notes),
                }
            )
    about = ("stress", "negative", "explained")
    the_map = {
        "networks": len(sound),
        "points": len(rows) if drawn else 0,
        **{name: getattr(drawn, name) if drawn else np.nan for name in about},
    }
    return {
        "distances": _distances(course, D),
        "checkpoints": checkpoints,
        "networks": networks,
        "maps": [{"n": len(course.seen.y), **the_map}],
    }


def _who(course: Course, node: Node) -> dict[str, Any]:
    run, seed, _ = node
    return {"rule": course.labels[run], "run": course.folders[run].id, "seed": seed}


def _distances(course: Course, D: np.ndarray) -> list[dict[str, Any]]:
    def side(name: str, node: Node) -> dict[str, Any]:
        run, seed, step = node
        return {f"rule_{name}": course.labels[run], f"seed_{name}": seed, f"step_{name}": step}

    pairs = itertools.combinations(enumerate(course.nodes), 2)
    return [{**side("a", a), **side("b", b), "value": D[i, j]} for (i, a), (j, b) in pairs]


def _measured(course: Course) -> dict[Node, dict[str, float]]:
    """Training loss and validation accuracy of every network at every step; nan where they were not taken."""
    found: dict[Node, dict[str, float]] = {}
    for run, folder in enumerate(course.folders):
        table = folder.read_table("metrics")
        table = table[table["layer"] == ""].set_index(["metric", "seed", "step"])["value"]
        for seed, step in itertools.product(course.seeds[run], course.steps):
            found[run, seed, step] = {
                name: float(table.get((metric, seed, step), np.nan)) for name, metric in METRICS.items()
            }
    return found


def matrix_of(course: Course, paths: Paths, probe: Probe, layer: str) -> tuple[np.ndarray, dict[Node, Prepared]]:
    """Distances between all nodes of a course and what is known of each, from the stored tables."""
    measure = probe.info.label
    here = [table[(table["measure"] == measure) & (table["layer"] == layer)]
            for table in (paths.distances, paths.checkpoints)]  # fmt: skip
    N = len(course.nodes)
    D = np.zeros((N, N))
    upper = np.triu_indices(N, 1)
    D[upper] = here[0]["value"]
    D += D.T
    known = {}
    for i, (node, row) in enumerate(zip(course.nodes, here[1].itertuples(), strict=True)):
        lost = Undefined(row.undefined) if row.undefined else None
        notes = tuple(parted(row.notes))
        positions = course.positions(node[0], layer) if probe.info.maps == "positions" else ()
        rows = len(course.seen.y) * math.prod(positions)
        known[node] = Prepared(measure, rows, row.units, (), lost, notes, positions)
        D[i, i] = np.nan if lost else 0.0
    return D, known


SUMMED = ("length", "displacement", "tortuosity", "first_velocity", "last_velocity")


def rule_means(paths: Paths) -> list[dict[str, Any]]:
    """Every rule's paths as means over its networks, with 95 % intervals over seeds; one line per measure and layer."""
    keys = ["measure", "layer", "rule"]
    moving = paths.checkpoints.dropna(subset=["velocity"]).groupby([*keys, "seed"], sort=False)["velocity"]
    ends = {"first_velocity": moving.first(), "last_velocity": moving.last()}
    lines = []
    for names, of in paths.networks.groupby(keys, sort=False):
        line: dict[str, Any] = dict(zip(keys, names, strict=True))
        kept = of[of["undefined"] == ""]
        line["seeds"], line["undefined"] = len(kept), len(of) - len(kept)
        notes: list[str] = []
        for name in SUMMED:
            numbers = [ends[name][(*names, seed)] for seed in kept["seed"]] if name in ends else list(kept[name])
            defined = [float(v) for v in numbers if np.isfinite(v)]
            none = Undefined("no path has a value")
            bounds = (1.0 if name == "tortuosity" else 0.0, np.inf)
            put(line, name, mean_interval(defined) if defined else none, notes, bounds)
        line["notes"] = joined(notes)
        lines.append(line)
    return lines
