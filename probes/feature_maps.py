"""Feature maps on their way into a probe: how stimuli × positions × units become rows.

A layer that answers at many positions of a stimulus, as a convolution or a transformer's tokens do, can be asked three
questions, and their answers differ. Units are on the last axis; the axes between it and the first are positions.

    flatten     n × (h·w·c): every unit at every position is a unit; where something is seen counts
    pool        n × c:       a unit's mean over positions; what is seen counts, and where it is seen does not
    positions   (n·h·w) × c: every position is a stimulus of its own, and position p of image i in one network stands
                             against position p of image i in the other

Positions of one image are alike because it is one image. They are no independent stimuli, so a permutation null has to
move whole images: `Prepared.together` says how many rows that is.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from probes.nulls import rows_of
from probes.probe import PairProbe, Prepared, ProbeError, SingleProbe, Undefined, one_of

MAPS = ("flatten", "pool", "positions")

HELD_OUT = ("ridge", "linear-probe", "knn-probe", "concept-probe")
"""Probes that fit on some rows and judge on others, which must not be positions of the same image."""

IN_ORDER = ("minibatch-cka", "rtd")
"""Probes that take neighbouring rows, which would be the positions of one image or two."""


def positions_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the positions in an array of stimuli × positions × units; () where there is but one."""
    inner = tuple(shape[1:-1])
    return inner if math.prod(inner) != 1 else ()


def as_rows(X: Any, maps: str) -> Any:
    """An array of stimuli × positions × units (three axes or more) as rows × units; any other as it is."""
    x = np.asarray(X)
    if x.ndim < 3:
        return X
    if maps == "pool" and x.dtype.kind in "biuf" and x.size:
        return x.mean(axis=tuple(range(1, x.ndim - 1)), dtype=np.float64)
    if maps == "positions":
        return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return x.reshape(len(x), math.prod(x.shape[1:]))


def repeated(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """One value per stimulus as one per position.

    Raises:
        ProbeError: not one per stimulus.
    """
    array = np.asarray(values)
    if array.ndim != 1 or len(array) != shape[0]:
        raise ProbeError(f"{name} have shape {array.shape}, but there are {shape[0]} stimuli; pass one per stimulus.")
    return np.repeat(array, math.prod(positions_of(shape)))


def with_maps(probe: PairProbe | SingleProbe, maps: str) -> PairProbe | SingleProbe:
    """The same probe for arrays of stimuli × positions × units; the choice becomes part of its label.

    What has no positions is measured as it was. Under "positions" labels and predictions stay one per stimulus, and so
    do the orders that `permute` takes; two arrays must have the same positions.

    Raises:
        ProbeError: no such choice, or positions for a probe that holds rows out or takes a few.
    """
    one_of("maps", maps, MAPS)
    info = replace(probe.info, maps=maps)
    if maps == "positions" and info.name in HELD_OUT:
        raise ProbeError(
            f"{info.name} is fitted on some rows and judged on others, and with maps=positions both would show "
            "the same images; use maps=pool or maps=flatten."
        )
    if maps == "positions" and info.name in IN_ORDER:
        raise ProbeError(
            f"{info.name} takes rows in the order they come in, and with maps=positions these would be the positions "
            "of an image or two; use maps=pool or maps=flatten."
        )
    if isinstance(probe, SingleProbe):
        return probe._replace(info=info, value=_single_value(probe, maps))
    if maps != "positions":
        return probe._replace(info=info, prepare=lambda X: probe.prepare(as_rows(X, maps)))

    def prepare(X: Any) -> Prepared:
        return replace(probe.prepare(as_rows(X, maps)), positions=positions_of(np.shape(X)))

    def value(px: Prepared, py: Prepared) -> float | Undefined:
        if px.positions != py.positions:
            raise ProbeError(different_positions(info.label, "one array", px.positions, "the other", py.positions))
        return probe.value(px, py)

    def permute(p: Prepared, order: Any) -> Prepared:
        return replace(probe.permute(p, rows_of(order, p.together)), positions=p.positions)

    return probe._replace(info=info, prepare=prepare, value=value, permute=permute)


def different_positions(label: str, a: str, pa: tuple[int, ...], b: str, pb: tuple[int, ...]) -> str:
    """Why arrays with these positions cannot be compared position by position, and what can be done."""
    said = ["×".join(map(str, p)) if p else "none" for p in (pa, pb)]
    return (
        f"{label}: {a} has {said[0]} positions and {b} {said[1]}, and position p of both must show the same place; "
        "use maps=pool or maps=flatten."
    )


def _single_value(probe: SingleProbe, maps: str):
    def value(X: Any, *given: Any, **named: Any) -> Any:
        shape = np.shape(X)

        def each(name: str, its: Any) -> Any:
            one_each = name in ("labels", "predictions") and its is not None
            return repeated(its, shape, name) if one_each and maps == "positions" and len(shape) > 2 else its

        args = [each(name, its) for name, its in zip(probe.needs, given, strict=False)]
        return probe.value(as_rows(X, maps), *args, **{name: each(name, its) for name, its in named.items()})

    return value
