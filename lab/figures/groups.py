"""Which measures find the groups that networks were trained in: a panel per test, a row per measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lab.figures.drawn import Drawn, check_room, listed, new_figure, sentences, text_width_in
from lab.figures.style import Style, drawing
from lab.group_networks import EPOCHS, SEEDS, STIMULI, TRAIN, Shown

ABOUT = "every pair measure on groups of trained networks: does it find the groups, and the order of layers?"
LINE = 1.45  # height of a row, in letters
TRAINED, CONTROL = "#0072B2", "#8A8A8A"
LABELS = {"auprc": ("AUPRC", "→"), "violations": ("violations", "←")}
"""The arrow points to the better end."""


def draw(table: pd.DataFrame, shown: Sequence[Shown], style: Style) -> Drawn:
    """The tables of `lab.groups` as a picture: AUPRC where there are groups, violations where there are layers.

    Args:
        table: a line per measure, test, score and state.
        shown: the networks of every test, in the order of the panels.
        style: of the page.
    """
    score = {one.test.name: "violations" if one.test.layers else "auprc" for one in shown}
    table = table[table["score"] == table["test"].map(score)].reset_index(drop=True)
    with drawing(style):
        figure = _drawn(table, score, _counted(shown), style)
    return Drawn(figure, table, _caption(table, shown), style)


def ranked(table: pd.DataFrame) -> list[str]:
    """Measures by their mean AUPRC over the tests that have one, best first; those with an undefined one last."""
    found = table[(table["score"] == "auprc") & (table["state"] == "trained")]
    means = found.groupby("measure", sort=False)["value"].agg(lambda values: values.mean(skipna=False))
    return list(means.sort_values(ascending=False, kind="stable", na_position="last").index)


def _counted(shown: Sequence[Shown]) -> str:
    """`25 networks per test, 5 for layers`: how many each score is taken from."""
    counts = {one.test.name: len(one.group) for one in shown}
    most = max(set(counts.values()), key=list(counts.values()).count)
    others = [f"{count} for {name}" for name, count in counts.items() if count != most]
    return ", ".join([f"{most} networks per test", *others])


def _drawn(table: pd.DataFrame, score: dict[str, str], counted: str, style: Style):
    names = ranked(table)
    row_in = LINE * style.small_pt / 72
    room = 0.78 * (style.height_in or style.max_height_in)  # the rest is for titles, axes and the legend
    row_in = min(row_in, room / len(names))
    small = min(style.small_pt, row_in * 72 / LINE * 1.2)
    figure = new_figure(style, (max(len(names), 6) + 1) * row_in + 6 * style.font_pt / 72)
    axes = figure.subplots(1, len(score), sharey=True, squeeze=False)[0]
    down = {name: i for i, name in enumerate(names)}
    narrow = max(text_width_in(test, style.font_pt) for test in score) > (style.width_in - 1.5) / len(score)
    for k, (ax, (test, what)) in enumerate(zip(axes, score.items(), strict=True)):
        for cell in table[table["test"] == test].itertuples():
            _dot(ax, down[cell.measure], cell, style)
        ax.axvline(table.loc[table["test"] == test, "chance"].iloc[0], color="black", ls="--", lw=style.thin_pt)
        words = test.replace(" ", "\n") + "\n" * (k % 2) if narrow else test  # every other name stands higher
        ax.set_title(words, size=small if narrow else style.font_pt)
        ax.set(xlim=(-0.04, 1.04), ylim=(len(names) - 0.5, -0.5), xlabel=("\n" if narrow else " ").join(LABELS[what]))
        ax.xaxis.label.set_size(small if narrow else style.font_pt)
        ax.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
        ax.tick_params(axis="y", length=0)
        if style.grid:
            ax.set_axisbelow(True)
            ax.grid(axis="y")
    axes[0].set_yticks(list(down.values()), names, size=small)
    _legend(figure, table, counted, style)
    check_room(figure, style)
    return figure


def _dot(ax, y: int, cell: Any, style: Style) -> None:
    """One score: filled with its interval after training, hollow before; a cross at the left end where undefined."""
    if np.isnan(cell.value):
        if cell.state == "trained":
            ax.plot([0], [y], "x", color=CONTROL, clip_on=False)
    elif cell.state == "trained":
        ax.plot([cell.low, cell.high], [y, y], color=TRAINED, lw=style.line_pt, solid_capstyle="butt")
        ax.plot([cell.value], [y], "o", color=TRAINED, clip_on=False, zorder=4)
    else:
        # A ring around what lies on it.
        ax.plot([cell.value], [y], "o", mfc="none", mec=CONTROL, ms=1.5 * style.marker_pt, clip_on=False, zorder=3)


def _legend(figure, table: pd.DataFrame, counted: str, style: Style) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=TRAINED, marker="o", lw=style.line_pt, label="trained"),
        Line2D([], [], color=CONTROL, marker="o", mfc="none", ms=1.5 * style.marker_pt, ls="", label="before training"),
        Line2D([], [], color="black", ls="--", lw=style.thin_pt, label="chance"),
    ]
    if table["value"].isna().any():
        handles.append(Line2D([], [], color=CONTROL, marker="x", ls="", label="undefined"))
    columns = len(handles) if style.width_in > 5 else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=f"n = {STIMULI} stimuli, {counted}")


def _caption(table: pd.DataFrame, shown: Sequence[Shown]) -> str:
    chances = table.groupby("test", sort=False)["chance"].first()
    undefined = table[table["value"].isna() & (table["state"] == "trained")]
    return sentences(
        [
            "Measures that compare two networks (rows) on networks trained in groups (panels): bp on "
            f"{TRAIN} MNIST images, {EPOCHS} epochs, {SEEDS} networks in a group, each with a seed of its own; last "
            f"hidden layer, n = {STIMULI} test images. Filled: trained, with 95 % intervals (delete-one-network "
            "jackknife within groups). Hollow: the same networks before training, the control.",
            *(_about(one, chances[one.test.name]) for one in shown),
            "Rows: from the highest mean AUPRC down; an arrow at an axis points to its better end.",
            "AUPRC: average precision of “same group” among all pairs of different networks, 1 is best. Violations: of "
            "three layers, the nearer two less alike than the farthest two; 0 is best.",
            f"Crosses: {len(undefined)} undefined "
            f"({listed([f'{c.measure}, {c.test}: {c.reason}' for c in undefined.itertuples()], 3)})."
            if len(undefined)
            else "",
        ]
    )


def _about(one: Shown, by_chance: float) -> str:
    """What differs between the groups of a test, how many networks, and what chance gives."""
    levels = "" if one.test.layers else f" ({', '.join(f'{level:g}' for level in one.test.levels)})"
    return f"{one.test.name}: {one.test.about}{levels}; {len(one.group)} networks, chance {by_chance:.3f}."
