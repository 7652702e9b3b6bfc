"""Answers of `lab measure`: a probe on arrays of any origin, beside what says whether the number means anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lab.arrays import read_features
from lab.errors import UsageError
from probes import PairProbe, Prepared, SingleProbe, Undefined, headline
from probes.all_pairs import all_pairs, prepare_all
from probes.cautions import cautions
from probes.moments import moments, sums
from probes.nulls import NullResult, closed_form_null, null_test, permutation_test

WANTED = {
    "labels": "--labels Y.npy, the class of each stimulus",
    "predictions": "--predictions P.npy, the class that the network answers for each stimulus",
    "readout": "--readout W.npy, the weights of the linear readout, units in rows and classes in columns",
}
NO_LABELS = "no labels given: what two networks share may be the classes alone; see --null within-class"
CLOSED_UP_TO = 4000
"""Stimuli up to which the null of every pair among many arrays is computed: its cost grows as their cube."""


def measure_pair(
    probe: PairProbe, paths: list[str], labels, null: str, permutations: int | None, seed: int
) -> dict[str, Any]:
    """Value, null and cautions of a pair probe.

    Args:
        permutations: how many to draw; None for the closed form where there is one, else 200.

    Raises:
        UsageError: a within-class null without labels; no null where the value alone would mislead.
    """
    if null == "within-class" and labels is None:
        raise UsageError("--null within-class needs --labels Y.npy, the class of each stimulus")
    px, py = (probe.prepare(read_features(path)) for path in paths)
    value = probe.value(px, py)
    answer: dict[str, Any] = {
        "direction": probe.info.direction,
        "value": None,
        "n": px.n,
        "units": [px.d, py.d],
        "null": None,
        "calibrated": None,
    }
    if null == "none":
        require_enough_stimuli(probe, px.n, max(px.d, py.d))
    warnings = cautions(probe, px.n, px.d, py.d, labels, (px, py))
    if labels is None:
        warnings.append(NO_LABELS)
    if isinstance(value, Undefined):
        return {**answer, "undefined": value.reason, "warnings": warnings}
    answer["value"] = value
    if null != "none" and probe.info.paired:
        found = null_test(probe, px, py) if null == "global" and permutations is None else None
        if found is None:
            drawn = {"permutations": permutations or 200, "seed": seed}
            found = permutation_test(probe, px, py, kind=null, labels=labels, **drawn)
        if isinstance(found, Undefined):
            warnings.append(f"no null: {found.reason}")
        else:
            answer["null"] = {key: getattr(found, key) for key in ("kind", "mean", "sd", "p", "permutations")}
            answer["calibrated"] = found.calibrated
    return {**answer, "warnings": warnings}


def require_enough_stimuli(probe: PairProbe, n: int, d: int) -> None:
    """A value that is high by construction must not stand alone.

    Raises:
        UsageError: fewer than 2d stimuli, for a probe that this misleads.
    """
    if probe.info.few_stimuli and n < 2 * d:
        raise UsageError(
            f"{probe.info.name} without a null would mislead: with n = {n} stimuli and {d} units, "
            f"{probe.info.few_stimuli}; leave out --null none, or give {2 * d} stimuli"
        )


def measure_all(probe: PairProbe, paths: list[str], labels, null: str, memory: int) -> dict[str, Any]:
    """Values of all pairs of more than two arrays, and p of each under the global null in closed form.

    Arrays are read one at a time. Where no closed form is known there is no null, and the answer says so.

    Raises:
        UsageError: no null where the values alone would mislead.
    """
    seen: list[Prepared] = []
    parts: list[Any] = []
    closed = null == "global" and probe.matrix is not None and probe.symmetric_matrix

    def prepared() -> Iterator[Prepared]:
        for p in prepare_all(probe, map(read_features, paths), memory):
            if closed and p.n <= CLOSED_UP_TO:
                parts.append(None if p.undefined else sums(probe.matrix(p)))
            seen.append(Prepared(p.probe, p.n, p.d, (), p.undefined, p.notes))
            yield p

    values = all_pairs(probe, prepared(), memory=memory)
    n, widths = seen[0].n, [p.d for p in seen]
    if not parts:
        require_enough_stimuli(probe, n, max(widths))
    warnings = cautions(probe, n, max(widths), max(widths), labels, seen)
    if labels is None:
        warnings.append(NO_LABELS)
    p_values = None
    if parts:
        p_values = [
            [_p(values[i, j], a, b, probe.info.range[1]) for j, b in enumerate(parts)] for i, a in enumerate(parts)
        ]
    elif null != "none":
        why = f"n is above {CLOSED_UP_TO}" if closed else "none is known in closed form"
        warnings.append(
            f"no null for {len(paths)} arrays at once: {why}; give two arrays at a time to draw permutations"
        )
    return {
        "direction": probe.info.direction,
        "files": paths,
        "n": n,
        "units": widths,
        "values": [[None if np.isnan(v) else float(v) for v in row] for row in values],
        "p": p_values,
        "undefined": {path: p.undefined.reason for path, p in zip(paths, seen, strict=True) if p.undefined},
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
    array = read_features(path)
    for name in probe.needs:
        if name not in given:
            raise UsageError(f"{probe.info.name} needs {WANTED[name]}")
    found = probe.value(array, **given)
    answer: dict[str, Any] = {
        "value": None,
        "n": len(array),
        "units": [array.shape[1]],
        "null": None,
        "calibrated": None,
        "warnings": [],
    }
    if isinstance(found, Undefined):
        return {**answer, "undefined": found.reason}
    answer["value"] = float(headline(found))
    if isinstance(found, dict):
        answer["details"] = {name: float(v) for name, v in found.items() if name != "value"}
    return answer
