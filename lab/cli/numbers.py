"""Numbers as the tables of the command line print them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable


def grouped(notes: Iterable[str]) -> list[str]:
    """Each note once; counts of rows that differ in nothing but their first number as one, from lowest to highest."""
    counts: dict[tuple[str, str], list[int]] = {}
    for note in notes:
        counted = re.search(r"(?:^|: )(\d+) of ", note)
        who, rest = (note[: counted.start(1)], note[counted.end(1) :]) if counted else ("", note)
        counts.setdefault((who, rest), []).extend([int(counted[1])] if counted else [])
    return [
        f"{who}{min(found)}{f' to {max(found)}' * (min(found) < max(found))}{rest}" if found else rest
        for (who, rest), found in counts.items()
    ]


def number(value: float, sign: str = "") -> str:
    """Three decimals without the leading zero, as journals print numbers below one: eight columns have to fit."""
    return "undefined" if math.isnan(value) else f"{value:{sign}.3f}".replace("0.", ".", 1 if abs(value) < 1 else 0)


def probability(p: float) -> str:
    """p or q; none is zero, however many zeros it begins with."""
    return "<.001" if p < 0.001 else number(p)


def interval(row, name: str, sign: str = "") -> str:
    if math.isnan(row[name]):
        return "undefined"
    if math.isnan(row[f"{name}_low"]):
        return f"{number(row[name], sign)} [no interval]"
    return f"{number(row[name], sign)} [{number(row[f'{name}_low'], sign)}, {number(row[f'{name}_high'], sign)}]"


def test(row) -> str:
    """p of the rule effect and the least p that so few seeds can give."""
    if math.isnan(row["rule_effect_p"]):
        return "-"
    return f"{probability(row['rule_effect_p'])} ({probability(row['rule_effect_p_floor'])})"


def discovery(row) -> str:
    """q of the rule effect."""
    return "-" if math.isnan(row["rule_effect_q"]) else probability(row["rule_effect_q"])
