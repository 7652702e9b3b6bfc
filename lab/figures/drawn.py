"""What every figure is made of: a canvas of exact width, the table of what it shows, and the words of its caption."""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import LabError
from lab.figures.style import Style

LETTER_EM = 0.57
"""About how wide a letter of a sans-serif typeface is, in its size."""


@dataclass(frozen=True)
class Drawn:
    """A finished figure.

    Attributes:
        figure: matplotlib's Figure, of the style's exact width.
        table: every number in it, and no other.
        caption: what a reader must know: n, seeds, unit of the interval, K, measure, what was matched, what is missing.
        style: the style it was drawn in; saving needs it too.
    """

    figure: Any
    table: Any
    caption: str
    style: Style


def new_figure(style: Style, height_in: float):
    """An empty figure of the style's width, off any screen; the height is what content wants, within the style's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.width_in, style.height_in or min(height_in, style.max_height_in)))
    FigureCanvasAgg(figure)
    return figure


def trim_height(figure, style: Style) -> None:
    """Cut empty paper above and below panels whose shape is fixed; the width stays exact."""
    if style.height_in:
        return
    for _ in range(2):  # the layout moves a little when the paper shrinks
        check_room(figure, style)
        used = figure.get_tightbbox()
        figure.set_figheight(min(used.height + 0.06, style.max_height_in))


def check_room(figure, style: Style) -> None:
    """Lay the figure out, and refuse one whose panels come out too small to read.

    Raises:
        LabError: too many panels, rules or names for a page of this style.
    """
    with warnings.catch_warnings():
        # This warning means that nothing was laid out at all; any other is for whoever runs the lab to see.
        warnings.filterwarnings("ignore", message=".*constrained_layout not applied.*")
        figure.draw_without_rendering()
        least = 3 * style.font_pt / 72
        sizes = [ax.get_position() for ax in figure.axes if ax.axison and ax.get_label() != "<colorbar>"]
        across, high = figure.get_size_inches()
        small = any(box.width * across < least or box.height * high < least for box in sizes)
        outside = figure.get_tightbbox()
    if small or outside.height > high + 0.1 or outside.width > across + 0.1:
        raise LabError(
            f"this is too much for one page in style {style.name}; name fewer runs, or choose layers with --layer"
        )


def columns_of(panels: int, room_in: float, narrowest_in: float) -> int:
    """How many panels stand side by side: as many as stay readable, in rows as even as can be."""
    most = max(1, min(panels, int(room_in / narrowest_in)))
    rows = -(-panels // most)
    return -(-panels // rows)


def text_width_in(text: str, size_pt: float) -> float:
    """About how wide a text is, before anything is drawn."""
    return max((len(line) for line in text.split("\n")), default=0) * LETTER_EM * size_pt / 72


def short(label: str) -> str:
    """A rule's label without what goes without saying: `fa [adam(0.01)]` of `fa [optimizer=adam(0.01)]`."""
    return re.sub(r"\b\w+=(?=\w+\()", "", label)


def wrapped(label: str, letters: int = 18) -> str:
    """A rule's short label on lines of so many letters, with the rule's name alone on the first."""
    name, bracket, rest = short(label).partition(" [")
    return "\n".join([name, *textwrap.wrap("[" + rest, letters)]) if bracket else name


def only_measure(table) -> tuple[str, str]:
    """Name and direction of the one measure in a table.

    Raises:
        LabError: there are several, or nothing to draw.
    """
    if table.empty:
        raise LabError(
            "there is nothing to draw: the comparison has no rows; compare runs with at least one sound seed"
        )
    names = list(dict.fromkeys(table["measure"]))
    if len(names) > 1:
        raise LabError(f"a figure shows one measure, and there are {len(names)} here ({', '.join(names)}); choose one")
    return names[0], table["direction"].iloc[0]


def direction_words(direction: str) -> str:
    return "similarity: larger is more alike" if direction == "similarity" else "distance: smaller is more alike"


MATCHED = {
    "steps": "Matched: steps (every network after its last step)",
    "accuracy": "Matched: accuracy (every rule at the stored step whose validation accuracy is nearest to the lowest "
    "final one)",
    "loss": "Matched: loss (every rule at the stored step whose training loss is nearest to the highest final one)",
}


def match_words(rows) -> str:
    """What was made equal before comparing, with the accuracies that resulted where they are known."""
    match = rows["match"].iloc[0]
    accuracy: dict[str, dict[str, None]] = {}  # one of each rule, but where its rows compare different seeds
    for side in "ab":
        for rule, value in zip(rows[f"rule_{side}"], rows[f"accuracy_{side}"], strict=True):
            if value == value:
                accuracy.setdefault(rule, {})[f"{100 * value:.1f} %"] = None
    known = ", ".join(f"{rule} {' or '.join(words)}" for rule, words in accuracy.items())
    return MATCHED.get(match, f"Matched: {match}") + (f"; validation accuracy {known}." if known else ".")


def seed_words(seeds: dict[str, int]) -> str:
    """`5 seeds per rule`, or how many each has where they differ."""
    counts = set(seeds.values())
    if len(counts) == 1:
        count = counts.pop()
        return f"{count} seed{'s' * (count != 1)} per rule"
    return "seeds: " + ", ".join(f"{rule} {count}" for rule, count in seeds.items())


def counted(n: int, seeds: dict[str, int], style: Style, name: str = "") -> str:
    """How many stimuli and seeds, as the title of a legend, on as many lines as the page wants."""
    words = ", ".join(
        part for part in (name, f"n = {n} stimuli", seed_words({short(r): m for r, m in seeds.items()})) if part
    )
    return textwrap.fill(words, int(0.95 * style.width_in / text_width_in("m", style.small_pt)))


def diverged_words(rows) -> list[str]:
    """Seeds that are not in the figure because training diverged, per rule; such columns may be absent."""
    lost: dict[str, int] = {}
    for side in "ab":
        if f"diverged_{side}" in rows:
            lost |= dict(zip(rows[f"rule_{side}"], rows[f"diverged_{side}"], strict=True))
    lost = {rule: int(count) for rule, count in lost.items() if count == count and count > 0}
    told = ", ".join(f"{count} of {rule}" for rule, count in lost.items())
    return [f"Diverged and not compared: {told}."] if told else []


def listed(items: Iterable[Any], most: int = 6) -> str:
    """A few of many, for a caption."""
    items = [str(item) for item in items]
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def sentences(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part)
