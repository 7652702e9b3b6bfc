"""Where training leads: the paths of all networks in one space of shapes, drawn on a plane by their distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lab.errors import LabError
from lab.figures.drawn import (
    Drawn,
    check_room,
    columns_of,
    counted,
    listed,
    new_figure,
    seed_words,
    sentences,
    short,
    text_width_in,
    trim_height,
)
from lab.figures.style import Style, drawing, looks

ABOUT = "paths of all networks over training in one space of shapes (a metric, such as angular-procrustes)"
INK = "#1A1A1A"
SHORT = 0.08  # of a panel: on a leg no longer an arrowhead would hide it
MISLEADING = 0.2
"""Stress above which distances on the map are said to mislead."""


def draw(checkpoints: pd.DataFrame, maps: pd.DataFrame, style: Style) -> Drawn:
    """One panel per layer: a line per network, through its stored steps.

    Args:
        checkpoints: one line per network and step (`Paths.checkpoints`), of one measure.
        maps: one line per layer (`Paths.maps`).
        style: of the page.

    Raises:
        LabError: several measures, or no layer has a map.
    """
    names = list(dict.fromkeys(maps["measure"]))
    if len(names) > 1:
        raise LabError(f"a figure shows one measure, and there are {len(names)} here ({', '.join(names)}); choose one")
    drawn = maps[maps["stress"].notna()]
    table = checkpoints[checkpoints["layer"].isin(drawn["layer"]) & checkpoints["x"].notna()].reset_index(drop=True)
    if drawn.empty or table.empty:
        raise LabError("there is nothing to draw: at every layer some distances between networks have no value")
    with drawing(style):
        figure = _drawn(style, table, drawn, names[0])
    return Drawn(figure, table, _caption(table, checkpoints, maps, names[0]), style)


def _drawn(style: Style, table: pd.DataFrame, maps: pd.DataFrame, measure: str):
    from matplotlib.lines import Line2D

    layers, rules = list(maps["layer"]), list(dict.fromkeys(table["rule"]))
    room = style.width_in - 3 * style.font_pt / 72
    columns = columns_of(len(layers), room, 1.6 * style.panel_in)
    lines = -(-len(layers) // columns)
    panel = min(room / columns, 0.6 * style.width_in)
    figure = new_figure(style, lines * (panel + 0.4) + 5 * 1.5 * style.small_pt / 72)
    figure.set_layout_engine("compressed")  # panels have a shape of their own
    axes = figure.subplots(lines, columns, squeeze=False)
    look = looks(rules)
    spans = table.groupby("layer", sort=False)[["x", "y"]].agg(lambda v: v.max() - v.min())
    tallest = min(1.0, max(0.3, float((spans["y"] / spans["x"]).max())))
    for ax, of in zip(axes.flat, maps.itertuples(), strict=False):
        _panel(ax, table[table["layer"] == of.layer], look, tallest, style)
        words = f"stress {of.stress:.2f}"
        ax.text(1, 1.01, words, transform=ax.transAxes, size=style.small_pt, ha="right", va="bottom", color=INK)
        ax.set_title(of.layer, loc="left")
    for k, ax in enumerate(axes.flat):
        if k >= len(layers):
            ax.axis("off")
            continue
        ax.set(xlabel="first axis" if k + columns >= len(layers) else "", ylabel="" if k % columns else "second axis")
    handles: list[Any] = [
        Line2D([], [], color=look[r].colour, marker=look[r].marker, linestyle=look[r].dashes, label=short(r),
               markeredgewidth=0) for r in rules
    ]  # fmt: skip
    grey = {"color": INK, "linestyle": "none"}
    handles.append(Line2D([], [], marker="o", markerfacecolor="white", label="start", **grey))
    handles.append(Line2D([], [], marker="o", markeredgewidth=0, label="end", **grey))
    wide = 3.4 * style.small_pt / 72 + max(text_width_in(handle.get_label(), style.small_pt) for handle in handles)
    count = {rule: of["seed"].nunique() for rule, of in table.groupby("rule", sort=False)}
    across = columns_of(len(handles), style.width_in, wide)
    title = counted(int(maps["n"].iloc[0]), count, style, measure)
    figure.legend(handles=handles, loc="outside lower center", ncols=across, title=title)
    trim_height(figure, style)
    check_room(figure, style)
    return figure


def _panel(ax, here: pd.DataFrame, look, tallest: float, style: Style) -> None:
    """One layer. Axes have the unit of the distance and one scale, but no direction means anything by itself.

    tallest: height over width, the same for all panels.
    """
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D

    head = Path([(-0.5, -0.5), (0, 0.5), (0.5, -0.5)])
    low, high = here[["x", "y"]].min(), here[["x", "y"]].max()
    half = 0.55 * max(float(high["x"] - low["x"]), float(high["y"] - low["y"]) / tallest, 1e-12)
    span = 2 * half
    for (rule, _), of in here.groupby(["rule", "seed"], sort=False):
        of = of.sort_values("step")
        own = look[rule]
        ax.plot(of["x"], of["y"], color=own.colour, linestyle=own.dashes, linewidth=0.7 * style.line_pt, alpha=0.8,
                marker="o", markersize=0.45 * style.marker_pt, markeredgewidth=0, zorder=2)  # fmt: skip
        for x, y, dx, dy in arrows(of[["x", "y"]].to_numpy(), SHORT * span):
            turned = np.degrees(np.arctan2(dy, dx)) - 90  # both axes have one scale
            # Open: the networks of some rules end in a filled triangle.
            ax.plot(x, y, marker=head.transformed(Affine2D().rotate_deg(turned)), color=own.colour, fillstyle="none",
                    markersize=1.3 * style.marker_pt, markeredgewidth=0.8 * style.line_pt, zorder=2.5)  # fmt: skip
        first, last = of.iloc[0], of.iloc[-1]
        ax.plot(first["x"], first["y"], "o", color=INK, markerfacecolor="white", markersize=0.8 * style.marker_pt,
                zorder=3)  # fmt: skip
        ax.plot(last["x"], last["y"], own.marker, color=own.colour, markersize=1.2 * style.marker_pt,
                markeredgewidth=0, zorder=4)  # fmt: skip
    middle = (low + high) / 2
    ax.set(xlim=(middle["x"] - half, middle["x"] + half))
    ax.set(ylim=(middle["y"] - half * tallest, middle["y"] + half * tallest))
    ax.set_aspect("equal", adjustable="box")
    ax.locator_params(nbins=5, steps=[1, 2, 5, 10])


def arrows(points: np.ndarray, shortest: float) -> list[tuple[float, float, float, float]]:
    """Middle and direction (x, y, dx, dy) of every leg of a path on which an arrowhead has room."""
    legs = np.diff(points, axis=0)
    long = np.hypot(*legs.T) > shortest
    return [(*middle, *leg) for middle, leg in zip((points[:-1] + legs / 2)[long], legs[long], strict=True)]


def _caption(table: pd.DataFrame, checkpoints: pd.DataFrame, maps: pd.DataFrame, measure: str) -> str:
    drawn = maps[maps["stress"].notna()]
    some = table[table["layer"] == drawn["layer"].iloc[0]]
    seeds = {rule: int(of["seed"].nunique()) for rule, of in some.groupby("rule", sort=False)}
    steps = sorted(set(table["step"]))
    told = [
        f"{r.layer}: stress {r.stress:.3f}, negative eigenvalues {100 * r.negative:.1f} % of the absolute sum, two "
        f"axes explain {100 * r.explained:.0f} %"
        for r in drawn.itertuples()
    ]
    bad = list(drawn.loc[drawn["stress"] > MISLEADING, "layer"])
    whole = checkpoints.groupby(["layer", "rule", "seed"], sort=False)["x"].apply(lambda x: x.isna().any())
    lost = [f"{rule} seed {seed} at {layer}" for (layer, rule, seed), gone in whole.items() if gone]
    return sentences(
        [
            f"Paths of networks over training in the space of shapes: {measure} between all networks at all "
            f"{len(steps)} stored steps ({listed(steps, 10)}) on n = {int(maps['n'].iloc[0])} stimuli, drawn by metric "
            f"multidimensional scaling, layer by layer; {seed_words(seeds)}.",
            "A line is one network. Open: before training, where networks of one seed are the same under every rule; "
            "filled: after the last step; dots: stored steps between; arrowheads point forward in time. Axes are in "
            "units of the distance; their directions mean nothing by themselves.",
            f"Fit ({'; '.join(told)}).",
            f"Stress above {MISLEADING:g} at {listed(bad)}: distances there mislead; the table has the true ones from "
            "step to step." if bad else "",
            f"Undefined and not drawn: {listed(lost)}." if lost else "",
        ]
    )  # fmt: skip
