"""Answers of `lab measure`: a probe on arrays of any origin, beside what says whether the number means anything."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lab.arrays import read_features
from lab.errors import UsageError
from probes import PairProbe, Prepared, SingleProbe, Undefined, headline
from probes.all_pairs import MEMORY, all_pairs, prepare_all
from probes.cautions import cautions, single_cautions
from probes.feature_maps import as_rows, different_positions, positions_of
from probes.features import class_labels
from probes.moments import moments, sums
from probes.nulls import RESTRICTED, NullResult, closed_form_null, null_test, orders, permutation_test

WANTED = {
    "labels": "--labels Y.npy, the class of each stimulus",
    "predictions": "--predictions P.npy, the class that the network answers for each stimulus",
    "readout": "--readout W.npy, the weights of the linear readout, units in rows and classes in columns",
}
FACTOR = ("concept-probe",)
"""Measures whose labels are numbers that are not classes."""
FACTOR_WANTED = "--labels Y.npy, a number for each stimulus: its angle, size, age"
NO_LABELS = "no labels given: what two networks share may be the classes alone; see --null within-class"
LABELS_UNUSED = (
    "the global null does not use the labels: what two networks share may be the classes alone; see --null within-class"
)
LONG = 5.0
"""Seconds after which someone wonders whether anything happens."""
CLOSED_UP_TO = 4000
"""Stimuli up to which the null of every pair among many arrays is computed: its cost grows as their cube."""


def measure_pair(
    probe: PairProbe,
    paths: list[str],
    labels,
    null: str,
    permutations: int | None,
    seed: int | None,
    blocks=None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Value, null and cautions of a pair probe.

    Args:
        labels: class of each stimulus, or None.
        permutations: how many to draw; None for the closed form where there is one, else 200.
        seed: of the draws; None for 0.
        blocks: whole numbers, one per stimulus, for a restricted null: stimuli change places with their like alone.
        say: is told how long a null will take that takes long.

    Raises:
        UsageError: a within-class null without labels, or with a class for each stimulus; no null where the value alone
            would mislead; blocks that are none, or positions that differ; a seed where nothing is drawn.
    """
    if null == "within-class" and labels is None:
        raise UsageError("--null within-class needs --labels Y.npy, the class of each stimulus")
    px, py = prepared_files(probe, paths)
    stimuli = px.n // px.together
    if null == "within-class" and class_labels(labels, stimuli).max() + 1 == stimuli:
        raise UsageError(
            "--labels gives every stimulus a class of its own, so that none can move; give larger classes, or leave "
            "out --null within-class"
        )
    draws = None if null != RESTRICTED else inside_blocks(blocks, stimuli, permutations or 200, seed or 0)
    begun = time.perf_counter()
    value = probe.value(px, py)
    seconds = time.perf_counter() - begun
    answer: dict[str, Any] = {
        "direction": probe.info.direction,
        "value": None,
        "n": stimuli,
        "units": [px.d, py.d],
        "null": None,
        "calibrated": None,
        **maps_facts(probe, px.n),
    }
    if null == "none":
        require_enough_stimuli(probe, stimuli, max(px.d, py.d), "leave out --null none")
    warnings = cautions(probe, px.n, px.d, py.d, by_row(labels, px), (px, py))
    warnings += about_labels(labels, null)
    if draws is not None:
        warnings += few_orders(blocks, len(draws))
    if isinstance(value, Undefined):
        return {**answer, "undefined": value.reason, "warnings": warnings}
    answer["value"] = value
    if null != "none" and probe.info.paired:
        in_closed_form = null == "global" and permutations is None and px.n <= CLOSED_UP_TO
        found = null_test(probe, px, py) if in_closed_form else None
        if found is None:
            drawn = {"permutations": permutations or 200, "seed": seed or 0, "draws": draws}
            if seconds * drawn["permutations"] > LONG:  # perhaps for what a first call loads and compiles
                seconds = seconds_to_draw(probe, px, py)
            if (whole := seconds * drawn["permutations"]) > LONG:
                say(f"drawing {drawn['permutations']} permutations of {probe.info.name}: some {whole:.0f} s")
            found = permutation_test(probe, px, py, kind=null, labels=labels, **drawn)
        elif seed is not None:
            raise UsageError(
                f"--seed changes nothing for {probe.info.name}, whose null is known in closed form, so that nothing is "
                "drawn; leave it out, or give --permutations"
            )
        if isinstance(found, Undefined):
            warnings.append(f"no null: {found.reason}")
        else:
            answer["null"] = {key: getattr(found, key) for key in ("kind", "mean", "sd", "p", "permutations")}
            if isinstance(found.calibrated, Undefined):
                answer["uncalibrated"] = found.calibrated.reason
            else:
                answer["calibrated"] = found.calibrated
    return {**answer, "warnings": warnings}


def seconds_to_draw(probe: PairProbe, px: Prepared, py: Prepared) -> float:
    """What one value of the null takes, when the probe has been called before."""
    order = np.random.default_rng(0).permutation(py.n // py.together)
    begun = time.perf_counter()
    probe.value(px, probe.permute(py, order))
    return time.perf_counter() - begun


def prepared_files(probe: PairProbe, paths: list[str], memory: int = MEMORY) -> Iterator[Prepared]:
    """Prepared representations of files, which are read as they are needed.

    Raises:
        UsageError: maps were asked for and no array has any, or positions that are compared differ.
    """
    shapes: list[tuple[int, ...]] = []

    def arrays() -> Iterator[np.ndarray]:
        for path in paths:
            array = read_features(path, probe.info.maps)
            shapes.append(array.shape)
            if len(shapes) == len(paths) or probe.info.maps == "positions":
                check_maps(probe, paths[: len(shapes)], shapes)
            yield array

    return prepare_all(probe, arrays(), memory)


def check_maps(probe: PairProbe | SingleProbe, paths: list[str], shapes: list[tuple[int, ...]]) -> None:
    """Refuse maps that change nothing, and positions that differ where they are compared one by one.

    Raises:
        UsageError: either of these.
    """
    if probe.info.maps and all(len(shape) < 3 for shape in shapes):
        raise UsageError(
            f"maps={probe.info.maps} changes nothing: {' and '.join(paths)} {'have' if len(paths) > 1 else 'has'} no "
            "positions between stimuli and units; leave it out"
        )
    for path, shape in zip(paths[1:], shapes[1:], strict=True):
        first, other = positions_of(shapes[0]), positions_of(shape)
        if probe.info.maps == "positions" and first != other:
            raise UsageError(different_positions(probe.info.label, paths[0], first, path, other))


def maps_facts(probe: PairProbe | SingleProbe, rows: int) -> dict[str, Any]:
    """What an answer says of feature maps; nothing where there are none."""
    return {"maps": probe.info.maps, "rows": rows} if probe.info.maps else {}


def by_row(labels, p: Prepared):
    """One label per stimulus as one per row of its positions."""
    return None if labels is None else np.repeat(class_labels(labels, p.n // p.together), p.together)


def inside_blocks(blocks: np.ndarray, n: int, permutations: int, seed: int) -> list[np.ndarray]:
    """K orders of n stimuli, in which each takes the place of one of its own block.

    Raises:
        UsageError: not one whole number per stimulus, or every stimulus has a block to itself.
    """
    if blocks.dtype.kind not in "iu" or blocks.shape != (n,):
        raise UsageError(
            f"--blocks has shape {blocks.shape} of {blocks.dtype}, and there are {n} stimuli; give one whole number "
            "for each: stimuli of one number change places"
        )
    if len(np.unique(blocks)) == n:
        raise UsageError("--blocks gives every stimulus a block of its own, so that none can move; give larger blocks")
    return orders(n, "within-class", blocks, permutations, seed)


def few_orders(blocks: np.ndarray, permutations: int) -> list[str]:
    """A warning where blocks allow fewer different orders than are drawn: p cannot fall below one over their number."""
    sizes = np.unique(blocks, return_counts=True)[1]
    log_orders = float(sum(math.lgamma(size + 1) for size in sizes))
    if log_orders >= math.log(permutations):
        return []
    return [f"the blocks allow only {round(math.exp(log_orders))} orders, so p is hardly below one over that"]


def about_labels(labels, null: str) -> list[str]:
    """Warnings where the classes alone may make two networks alike and the null does not say so, or are none."""
    if labels is None:
        return [NO_LABELS]
    return [*no_classes(labels), *([LABELS_UNUSED] if null == "global" else [])]


def no_classes(labels) -> list[str]:
    """A warning where labels look like measurements."""
    if labels is None or labels.dtype.kind != "f" or (labels == np.round(labels)).all():
        return []
    return [
        f"labels are no whole numbers, and each of {len(np.unique(labels))} different ones is taken for a class; "
        f"{FACTOR[0]} takes them as numbers"
    ]


def require_enough_stimuli(probe: PairProbe, n: int, d: int, cure: str) -> None:
    """A value that is high by construction must not stand alone.

    Raises:
        UsageError: fewer than 2d stimuli, for a probe that this misleads.
    """
    if probe.info.misleads(n, d):
        raise UsageError(
            f"{probe.info.name} without a null would mislead: with n = {n} stimuli and {d} units, "
            f"{probe.info.few_stimuli}; {cure}, or give {2 * d} stimuli"
        )


def measure_all(probe: PairProbe, paths: list[str], labels, null: str, memory: int) -> dict[str, Any]:
    """Values of all pairs of more than two arrays, and p of each under the global null in closed form.

    Arrays are read one at a time. Where no closed form is known there is no null, and the answer says so.

    Raises:
        UsageError: no null where the values alone would mislead; maps as in `prepared_files`.
    """
    seen: list[Prepared] = []
    parts: list[Any] = []
    closed = null == "global" and probe.matrix is not None and probe.symmetric_matrix

    def prepared() -> Iterator[Prepared]:
        for p in prepared_files(probe, paths, memory):
            if closed and p.n <= CLOSED_UP_TO and p.together == 1:
                parts.append(None if p.undefined else sums(probe.matrix(p)))
            seen.append(replace(p, arrays=()))
            yield p

    values = all_pairs(probe, prepared(), memory=memory)
    n, widths = seen[0].n, [p.d for p in seen]
    if not parts:
        require_enough_stimuli(
            probe, n // seen[0].together, max(widths), "give two arrays at a time, which have a null"
        )
    warnings = cautions(probe, n, max(widths), max(widths), by_row(labels, seen[0]), seen)
    warnings += about_labels(labels, null)
    p_values = None
    if parts:
        p_values = [
            [_p(values[i, j], a, b, probe.info.range[1]) for j, b in enumerate(parts)] for i, a in enumerate(parts)
        ]
    elif null != "none":
        large = closed and n > CLOSED_UP_TO
        why = f"n is above {CLOSED_UP_TO}" if large else "none is known in closed form"
        warnings.append(
            f"no null for {len(paths)} arrays at once: {why}; give two arrays at a time to draw permutations"
        )
    return {
        "direction": probe.info.direction,
        "files": paths,
        "n": n // seen[0].together,
        "units": widths,
        "values": [[None if np.isnan(v) else float(v) for v in row] for row in values],
        "p": p_values,
        "undefined": {path: p.undefined.reason for path, p in zip(paths, seen, strict=True) if p.undefined},
        **maps_facts(probe, n),
        "warnings": warnings,
    }


def _p(value: float, a: Any, b: Any, best: float) -> float | None:
    if a is None or b is None or np.isnan(value):
        return None
    found: NullResult | None = closed_form_null(float(value), moments(a, b), best=best)
    return None if found is None else found.p


def measure_single(probe: SingleProbe, path: str, given: dict[str, np.ndarray]) -> dict[str, Any]:
    """Value of a single probe, with its further numbers if it has any.

    Raises:
        UsageError: an input that the probe needs is missing.
    """
    array = read_features(path, probe.info.maps)
    check_maps(probe, [path], [array.shape])
    for name in probe.needs:
        if name not in given:
            factor = name == "labels" and probe.info.name in FACTOR
            raise UsageError(f"{probe.info.name} needs {FACTOR_WANTED if factor else WANTED[name]}")
    measured = as_rows(array, probe.info.maps)
    found = probe.value(array, **given)
    answer: dict[str, Any] = {
        "value": None,
        "n": len(array),
        "units": [measured.shape[1]],
        "null": None,
        "calibrated": None,
        **maps_facts(probe, len(measured)),
        "warnings": [
            *single_cautions(probe.info, measured, len(measured) // len(array)),
            *([] if probe.info.name in FACTOR else no_classes(given.get("labels"))),
        ],
    }
    if isinstance(found, Undefined):
        return {**answer, "undefined": found.reason}
    answer["value"] = float(headline(found))
    if isinstance(found, dict):
        answer["details"] = {name: float(v) for name, v in found.items() if name != "value"}
    return answer
