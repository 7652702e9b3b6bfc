"""What measures see and what they are blind to: a row per measure, a column per pair of known networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from lab.blindness import DRAWS, SAME
from lab.blindness_cases import Case
from lab.figures.drawn import Drawn, check_room, listed, new_figure, sentences, text_width_in, trim_height
from lab.figures.style import Style, drawing

ABOUT = "every pair measure on pairs of networks whose truth is known: what it sees, what it is blind to"
COLOURS = {"blind": "#E69F00", "alarm": "#A6CEE8", "sees": "#F4F4F4", "holds": "#F4F4F4", "undefined": "white"}
WORDS = {
    "blind": "blind: reads as the same",
    "alarm": "alarm: reads as different",
    "undefined": "undefined",
}
HATCHED = "#8A8A8A"
GAP = 0.35  # cells between groups of columns and of rows
LINE = 1.3  # height of a row, in letters


def draw(table: pd.DataFrame, known: Sequence[Case], style: Style) -> Drawn:
    """The table of `lab.blindness` as a picture.

    Args:
        table: a line per measure and case.
        known: the cases, in the order of the columns.
        style: of the page.
    """
    with drawing(style):
        figure = _drawn(table, known, style)
    return Drawn(figure, table.reset_index(drop=True), _caption(table, known), style)


def places(groups: Sequence[str]) -> list[float]:
    """Where each column or row begins: one cell after the other, and a gap wherever a new group begins."""
    begins = [0.0]
    for before, here in pairwise(groups):
        begins.append(begins[-1] + 1.0 + GAP * (before != here))
    return begins


def shown(position: float) -> str:
    """`.93`, cut and not rounded, so that .899 does not read as .90; 0 and 1 bare, also for what lies beyond them."""
    text = f"{math.floor(100 * min(max(position, 0.0), 1.0) + 1e-6) / 100:.2f}"
    return {"0.00": "0", "1.00": "1"}.get(text, text.lstrip("0"))


def _drawn(table: pd.DataFrame, known: Sequence[Case], style: Style):
    kinds = table.drop_duplicates("measure").set_index("measure")["kind"]
    groups = [case.group for case in known]
    across = dict(zip((case.name for case in known), places(groups), strict=True))
    down = dict(zip(kinds.index, places(list(kinds)), strict=True))
    width, height = list(across.values())[-1] + 1, list(down.values())[-1] + 1
    room = 0.7 * (style.height_in or style.max_height_in)  # the rest is for heads and legend
    row_in = min(LINE * style.small_pt / 72, room / height)
    small = min(style.small_pt, row_in * 72 / LINE * 1.1)
    heads_pt = 72 * max(text_width_in(name, small) for name in across) + small
    names_in = max(text_width_in(name, small) for name in down) + 0.1
    figure = new_figure(style, height * row_in + heads_pt / 72 + 1.0)
    ax = figure.add_subplot()
    cell_in = (style.width_in - names_in) / width
    fits = text_width_in(".88", small) < cell_in
    for cell in table.itertuples():
        _cell(ax, across[cell.case], down[cell.measure], cell, style, small if fits else None)
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.set_yticks([y + 0.5 for y in down.values()], down, size=small)
    ax.set_xticks([x + 0.5 for x in across.values()], across, rotation=90, size=small)
    ax.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    ax.spines[:].set_visible(False)
    _groups(ax, groups, list(across.values()), heads_pt, cell_in, style, small)
    _legend(figure, table, style)
    trim_height(figure, style)
    check_room(figure, style)
    return figure


def _cell(ax, x: float, y: float, cell: Any, style: Style, size: float | None) -> None:
    """One rectangle, with the position in it where there is room."""
    from matplotlib.patches import Rectangle

    look = {"facecolor": COLOURS[cell.verdict], "edgecolor": "white", "linewidth": style.thin_pt}
    if cell.verdict == "undefined":
        look |= {"hatch": style.hatch, "edgecolor": HATCHED, "linewidth": 0.0}
    ax.add_patch(Rectangle((x, y), 1, 1, **look))
    if size is not None and cell.verdict != "undefined":
        ax.text(x + 0.5, y + 0.52, shown(cell.position), ha="center", va="center", size=size, color="black")


def _groups(ax, groups: list[str], begins: list[float], above_pt, cell_in, style: Style, size) -> None:
    """The kind of the cases over their columns, with a line as long as these."""
    from matplotlib.transforms import offset_copy

    above = offset_copy(ax.get_xaxis_transform(), fig=ax.figure, y=above_pt, units="points")
    for group in dict.fromkeys(groups):
        mine = [x for x, g in zip(begins, groups, strict=True) if g == group]
        ax.plot([mine[0], mine[-1] + 1], [1, 1], color="black", transform=above, linewidth=style.thin_pt, clip_on=False)
        words = (
            group
            if 0.85 * text_width_in(group, size) < (mine[-1] + 1 - mine[0]) * cell_in
            else group.replace(" ", "\n", 1)
        )
        ax.annotate(
            words, ((mine[0] + mine[-1] + 1) / 2, 1), xycoords=above, xytext=(0, 0.3 * size),
            textcoords="offset points", ha="center", va="bottom", size=size,
        )  # fmt: skip


def _legend(figure, table: pd.DataFrame, style: Style) -> None:
    from matplotlib.patches import Patch

    there = [verdict for verdict in WORDS if (table["verdict"] == verdict).any()]
    patches = []
    for verdict in there:
        look = {"hatch": style.hatch, "edgecolor": HATCHED, "linewidth": 0.0} if verdict == "undefined" else {}
        patches.append(Patch(facecolor=COLOURS[verdict], label=WORDS[verdict], **look))
    if patches:
        columns = len(patches) if style.width_in > 5 else 1
        figure.legend(handles=patches, loc="outside lower center", ncols=columns)


def _caption(table: pd.DataFrame, known: Sequence[Case]) -> str:
    n = sorted({len(case.y) for case in known})
    undefined = table[table["verdict"] == "undefined"]
    return sentences(
        [
            "Measures that compare two networks (rows; below the gap those of function) on pairs of small synthetic "
            f"networks (columns; n = {listed(n)} stimuli, one pair each, one seed). A number is "
            "the place of the value between two anchors on the same data: 1 is the first network beside itself, 0 the "
            f"mean over K = {DRAWS} permutations of the second's stimuli (inside classes for “cues | class”); "
            "what lies below or above is shown as 0 or 1.",
            "Stitch: accuracy of the first's readout behind the second's layer and an affine map, fitted to the "
            "first's layer (match) or trained on the labels (task loss); back: of the second's readout behind the "
            "first's layer. The 1 is then the identity control.",
            f"From {SAME} on a pair reads as the same. Orange: blind, it reads as the same, and the two differ. Blue: "
            "alarm, it reads as different, and all answers are the same; a measure of geometry is not wrong by that.",
            *(f"{case.name}: {case.about} (accuracies {case.accuracies[0]:.2f} and {case.accuracies[1]:.2f}, equal "
              f"answers {case.agreement:.2f})." for case in known),
            f"Hatched: {len(undefined)} undefined "
            f"({listed([f'{c.measure} at {c.case}' for c in undefined.itertuples()], 4)})." if len(undefined) else "",
        ]
    )  # fmt: skip
