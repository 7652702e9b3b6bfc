"""What a table holds of a value: the number, the ends of its interval, and in words why one of them is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from probes import Undefined
from probes.intervals import Interval, jackknife

WHOLE = "output"
"""In place of a hidden block, for measures that see a network as a whole."""

Found = float | dict[str, Any] | Undefined
"""What a probe of one or two networks says: a number, several with a headline, or why there is none."""

ONE_SEED = Undefined("it takes networks of two different seeds")


def mean_interval(found: list[float | Undefined]) -> Interval | Undefined:
    """Mean over seeds with its jackknife interval (s/√m, Student's t); undefined if it is for any of them."""
    reasons = [v for v in found if isinstance(v, Undefined)]
    if reasons or not found:
        return reasons[0] if reasons else ONE_SEED
    numbers = np.array(found)
    return jackknife(lambda kept: float(numbers[kept].mean()), range(len(numbers)))


def joined(notes: Iterable[str]) -> str:
    """Notes as one cell of a table, each once; "; " stands only between two of them, so that they can be parted."""
    return "; ".join(dict.fromkeys(note.replace("; ", ", ") for note in notes))


def parted(cell: str) -> list[str]:
    """The notes that `joined` put into a cell."""
    return cell.split("; ") if cell else []


def put(
    row: dict[str, Any],
    name: str,
    found: Interval | Undefined,
    notes: list[str],
    bounds: tuple[float, float],
) -> None:
    """A value with its interval into three columns; what is undefined becomes nan here and a reason in the notes.

    bounds: what the number can be, by the measure's card; intervals are cut to it (`Interval.within`).
    """
    if isinstance(found, Undefined):
        row[name] = row[f"{name}_low"] = row[f"{name}_high"] = np.nan
        notes.append(f"{name.replace('_', ' ')} undefined: {found.reason}")
        return
    found = found.within(bounds)
    for suffix, value in (("", found.value), ("_low", found.low), ("_high", found.high)):
        row[name + suffix] = np.nan if isinstance(value, Undefined) else float(value)
    if isinstance(found.low, Undefined):
        notes.append(f"no interval: {found.low.reason}")


def mean_parts(found: list[Found]) -> dict[str, float | None]:
    """The further numbers of a result, each a mean over the results that have it; None where it never exists."""
    dicts = [result for result in found if isinstance(result, dict)]
    means: dict[str, float | None] = {}
    for name in dict.fromkeys(name for result in dicts for name in result if name != "value"):
        numbers = [float(r[name]) for r in dicts if name in r and not isinstance(r[name], Undefined)]
        numbers = [number for number in numbers if np.isfinite(number)]
        means[name] = float(np.mean(numbers)) if numbers else None
    return means
