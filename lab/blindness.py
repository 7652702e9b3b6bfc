"""What measures of similarity see and what they are blind to: every measure, put to every case whose truth is known.

A value by itself says little, so it is placed between two anchors on the very same data: 1 is what the measure gives
for the first network beside itself, 0 is its mean over permuted stimuli of the second (inside their classes, where a
case asks for what is shared beyond them). Values from `SAME` on read as "the same", smaller ones as "different".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.blindness_cases import Case
from probes import PROBES, PairProbe, ProbeError, Undefined
from probes.nulls import orders

SAME = 0.9
DRAWS = 10  # permutations whose mean is the lower anchor
CLEAR = 3.0  # standard deviations of a draw by which the two anchors must differ
RULE = (
    "position = (value - unrelated)/(identical - unrelated); identical: the first network beside itself; unrelated: "
    f"mean over {DRAWS} permutations of the second's stimuli; from {SAME} on a pair reads as the same"
)
VERDICTS = {
    (True, True): "sees",
    (True, False): "blind",
    (False, True): "alarm",
    (False, False): "holds",
}
"""(the two differ, the measure says so) -> what that is called."""

QUICK = {"rtd": "rtd(stimuli=40)"}
"""Settings in which a probe of the table takes part, where its own would take minutes."""


@dataclass(frozen=True)
class Measure:
    """Anything that compares the two networks of a case.

    Attributes:
        name: as it stands in the table.
        kind: "pair" (of their representations) or "functional" (of what they do).
        place: case -> (value, value of the first beside itself, order -> value with permuted stimuli of the second).
        paired: whether the order of stimuli matters to it.
        direction: "similarity" where larger is more alike, else "distance".
    """

    name: str
    kind: str
    place: Callable[[Case], tuple[Any, Any, Callable[[np.ndarray], Any]]]
    paired: bool = True
    direction: str = "similarity"


def pair_measure(probe: PairProbe, name: str | None = None) -> Measure:
    """A pair probe as a measure; representations are prepared once per case."""

    def place(case: Case):
        pa, pb = probe.prepare(case.a), probe.prepare(case.b)
        return probe.value(pa, pb), probe.value(pa, pa), lambda order: probe.value(pa, probe.permute(pb, order))

    return Measure(name or probe.info.name, "pair", place, probe.info.paired, probe.info.direction)


def pair_probes() -> list[tuple[str, PairProbe]]:
    """Every pair probe of the table by its name, in settings that take part here."""
    from lab.callstring import build

    made = [(name, build(QUICK.get(name, name), PROBES, "NAME")[0]) for name in PROBES]
    return [(name, probe) for name, probe in made if isinstance(probe, PairProbe)]


def default_measures() -> list[Measure]:
    """Every pair probe of the table whose rows are paired, and the functional ones that need no training."""
    pairs = [pair_measure(probe, name) for name, probe in pair_probes() if probe.info.paired]
    return pairs + functional_measures()


def functional_measures() -> list[Measure]:
    """What the two do: equal answers, and the first network's next layer on the second's representation, or back."""
    from lab.blindness_networks import head_on, same_answers, stitch

    return [
        Measure("agreement", "functional", same_answers),
        Measure("head-swap: as it is", "functional", head_on("raw")),
        Measure("head-swap: rotated", "functional", head_on("value")),
        Measure("stitch: match", "functional", stitch("match")),
        Measure("stitch: match, back", "functional", stitch("match", back=True)),
        Measure("stitch: task loss", "functional", stitch("task")),
        Measure("stitch: task loss, back", "functional", stitch("task", back=True)),
    ]


def examine(measure: Measure, case: Case) -> dict[str, Any]:
    """One cell of the table: the value, its anchors, its place between them, and the verdict."""
    cell = {
        "measure": measure.name,
        "kind": measure.kind,
        "case": case.name,
        "group": case.group,
        "different": case.different,
        "null": "within-class" if case.within else "global",
        **dict.fromkeys(("value", "identical", "unrelated", "position"), np.nan),
        "verdict": "undefined",
        "reason": "",
    }
    if not measure.paired:
        return {**cell, "reason": "it does not know which stimulus is which, so permuting them makes nothing unrelated"}
    try:
        value, identical, permuted = measure.place(case)
        draws = orders(len(case.y), cell["null"], case.classes, DRAWS, seed=0)
        null = [permuted(order) for order in draws]
    except ProbeError as error:
        return {**cell, "reason": str(error)}
    for found in (value, identical, *null):
        if isinstance(found, Undefined):
            return {**cell, "reason": found.reason}
    unrelated, spread = float(np.mean(null)), float(np.std(null, ddof=1))
    cell |= {"value": float(value), "identical": float(identical), "unrelated": unrelated}
    apart = identical - unrelated
    if not (apart if measure.direction == "similarity" else -apart) > max(CLEAR * spread, 1e-9):
        return {**cell, "reason": "identical and unrelated representations cannot be told apart"}
    position = (value - unrelated) / apart
    return {**cell, "position": float(position), "verdict": VERDICTS[case.different, bool(position < SAME)]}


def table(measures: Sequence[Measure], cases: Iterable[Case], say: Callable[[str], None] = lambda line: None):
    """Every measure at every case, as a data frame with a line for each; `say` is told which measure is at work."""
    import pandas as pd

    cases, cells = list(cases), []
    for measure in measures:
        say(measure.name)
        cells += [examine(measure, case) for case in cases]
    return pd.DataFrame(cells)


def described(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """What is known of each case, for programs."""
    return [
        {
            "case": case.name,
            "about": case.about,
            "source": case.source,
            "group": case.group,
            "different": case.different,
            "same_function": case.function,
            "same_geometry": case.geometry,
            "same_beyond_classes": case.beyond_classes,
            "accuracies": list(case.accuracies),
            "agreement": case.agreement,
            "stimuli": len(case.y),
            "units": [case.a.shape[1], case.b.shape[1]],
        }
        for case in cases
    ]
