"""Similarity of every network with every other, grouped by rule: one square per layer, one colour scale for all."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd

from lab.comparison_nulls import null_sources
from lab.figures.drawn import (
    Drawn,
    check_room,
    columns_of,
    direction_words,
    diverged_words,
    listed,
    match_words,
    new_figure,
    only_measure,
    seed_words,
    sentences,
    short,
    text_width_in,
    trim_height,
)
from lab.figures.style import Style, drawing, rule_colour
from lab.labels import legend, names_in_table

ABOUT = "every network with every other, grouped by rule; one panel per layer, one colour scale"
GAP = 0.8  # cells between the square and the column of untrained starts
BLANK, HATCHED = "#D9D9D9", "#8A8A8A"

Net = tuple[str, int]


def networks(pairs: pd.DataFrame, labels: list[str] | None = None) -> list[Net]:
    """Every network in the table as (rule, seed), rules in the order given, seeds ascending."""
    found = {(rule, int(seed)) for side in "ab" for rule, seed in zip(pairs[f"rule_{side}"], pairs[f"seed_{side}"])}  # noqa: B905
    order = labels or list(dict.fromkeys([*pairs["rule_a"], *pairs["rule_b"]]))
    trained = [(rule, seed) for rule, seed in found if rule in order]
    return sorted(trained, key=lambda net: (order.index(net[0]), net[1]))


def matrix_of(pairs: pd.DataFrame, nets: list[Net]) -> tuple[np.ndarray, np.ndarray]:
    """The values of one layer as a symmetric matrix, nan on its diagonal, and as a vector network against own start."""
    place = {net: i for i, net in enumerate(nets)}
    square, start = np.full((len(nets), len(nets)), np.nan), np.full(len(nets), np.nan)
    for row in pairs.itertuples():
        i = place[(row.rule_a, int(row.seed_a))]
        if row.kind == "untrained":
            start[i] = row.value
        else:
            j = place[(row.rule_b, int(row.seed_b))]
            square[i, j] = square[j, i] = row.value
    return square, start


def scale_of(values: np.ndarray) -> tuple[float, float]:
    """Ends of the shared colour scale: the range of all panels, rounded outward to twentieths of a power of ten."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-6))) / 2
    low, high = np.floor(low / step + 1e-9) * step, np.ceil(high / step - 1e-9) * step
    return float(low), float(high if high > low else low + step)


def draw(pairs: pd.DataFrame, rows: pd.DataFrame, style: Style, labels: list[str] | None = None) -> Drawn:
    """The networks × networks heat map.

    Args:
        pairs: one line per pair of networks (`Comparison.pairs`), of one measure.
        rows: one line per pair of rules (`Comparison.rows`), for the caption.
        style: of the page.
        labels: rules in the order in which they are to stand.
    """
    measure, direction = only_measure(pairs)
    nets, layers = networks(pairs, labels), list(dict.fromkeys(pairs["layer"]))
    of_layer = {layer: matrix_of(pairs[pairs["layer"] == layer], nets) for layer in layers}
    low, high = scale_of(pairs["value"].to_numpy(dtype=float))
    with drawing(style):
        figure = _drawn(style, nets, of_layer, measure, direction, (low, high))
    return Drawn(figure, pairs.reset_index(drop=True), _caption(pairs, rows, nets, of_layer, measure, direction), style)


def _drawn(style: Style, nets: list[Net], of_layer: dict[str, Any], measure: str, direction: str, ends):
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    rules = list(dict.fromkeys(rule for rule, _ in nets))
    beside = style.width_in > 5  # a narrow column has no room for a colour bar at the side
    names = names_in_table(list(map(short, rules)))
    names_in = max(text_width_in(name, style.small_pt) for name in names.values()) + 0.1
    letters = int(0.95 * style.width_in / text_width_in("m", style.small_pt))
    key = [line for said in legend(names) for line in textwrap.wrap(said, letters, subsequent_indent="    ")]
    bar_in = 8 * style.small_pt / 72 if beside else 0.0
    columns = columns_of(len(of_layer), style.width_in - names_in - bar_in, style.panel_in)
    lines = -(-len(of_layer) // columns)
    panel = (style.width_in - names_in - bar_in) / columns
    figure = new_figure(style, lines * (panel + 0.4) + names_in + 1.0 + len(key) * 1.5 * style.small_pt / 72)
    figure.set_layout_engine("compressed", wspace=0.05)
    axes = figure.subplots(lines, columns, squeeze=False)
    # Bright is always alike, so a distance runs through the map the other way round.
    colours = colormaps["viridis" if direction == "similarity" else "viridis_r"]
    norm = Normalize(*ends)
    for ax, (layer, (square, start)) in zip(axes.flat, of_layer.items(), strict=False):
        _panel(ax, nets, square, start, {"cmap": colours, "norm": norm}, style)
        ax.set_title(layer)
    for ax in axes.flat[len(of_layer) :]:
        ax.remove()
    for k, ax in enumerate(axes.flat[: len(of_layer)]):
        below = k + columns >= len(of_layer)
        _names(ax, nets, names, style, panel, left=k % columns == 0, below=below)
    shown = list(axes.flat[: len(of_layer)])
    mesh = shown[0].collections[0]
    place = (
        {"location": "right", "aspect": 24, "pad": 0.02}
        if beside
        else {"location": "bottom", "aspect": 30, "pad": 0.04}
    )
    if beside and lines == 1:
        place["aspect"] = 16
    bar = figure.colorbar(mesh, ax=shown, fraction=0.05, **place)
    bar.outline.set_visible(False)
    bar.set_label(f"{measure}{chr(10) if beside else chr(32)}({direction_words(direction)})", size=style.small_pt)
    bar.locator = _ticks()
    if key:
        figure.supxlabel("\n".join(key), x=0.01, ha="left", size=style.small_pt)
    trim_height(figure, style)
    check_room(figure, style)
    return figure


def _ticks():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])


def _panel(ax, nets: list[Net], square: np.ndarray, start: np.ndarray, scale: dict[str, Any], style: Style) -> None:
    """One layer: the square, the column of own starts, what is undefined, and the borders of the rules."""
    n = len(nets)
    edges = np.arange(n + 1)
    mesh = {**scale, "edgecolors": "face", "linewidth": 0.1, "rasterized": n * n > 10_000}
    ax.pcolormesh(edges, edges, np.ma.masked_invalid(square), **mesh)
    strip = [n + GAP, n + GAP + 1]
    has_start = np.isfinite(start).any()
    if has_start:
        ax.pcolormesh(strip, edges, np.ma.masked_invalid(start)[:, None], **mesh)
    _cells(ax, [(i, i) for i in range(n)], facecolor=BLANK, edgecolor="none")
    missing = [(j, i) for i, j in zip(*np.nonzero(np.isnan(square)), strict=True) if i != j]
    missing += [(n + GAP, i) for i in range(n) if has_start and np.isnan(start[i])]
    _cells(ax, missing, facecolor="white", edgecolor=HATCHED, hatch=style.hatch, linewidth=0.0)
    rules = [rule for rule, _ in nets]
    for i in range(1, n):
        if rules[i] != rules[i - 1]:
            ax.hlines(i, 0, n, color="white", linewidth=style.line_pt)
            ax.vlines(i, 0, n, color="white", linewidth=style.line_pt)
            if has_start:
                ax.hlines(i, *strip, color="white", linewidth=style.line_pt)
    bar = 0.035 * n  # side bars: one rule, one colour
    for i, rule in enumerate(rules):
        _cells(ax, [(-1.8 * bar, i)], facecolor=rule_colour(rule), edgecolor="none", size=(bar, 1))
        _cells(ax, [(i, n + 0.8 * bar)], facecolor=rule_colour(rule), edgecolor="none", size=(1, bar))
    ax.set(xlim=(-1.8 * bar, n + (GAP + 1 if has_start else 0)), ylim=(n + 1.8 * bar, 0), aspect="equal")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def _cells(ax, corners, size=(1.0, 1.0), **look) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    if corners:
        collection = PatchCollection([Rectangle(corner, *size) for corner in corners], **look)
        ax.add_collection(collection, autolim=False)


def _names(ax, nets: list[Net], names: dict[str, str], style: Style, panel: float, left: bool, below: bool) -> None:
    """Rule names at the middle of their networks, on the outer panels only; upright below where they would collide.

    names: short label -> what stands there, a number where labels are long.
    """
    rules = [names[short(rule)] for rule, _ in nets]
    groups = list(dict.fromkeys(rules))
    middles = [np.mean([i + 0.5 for i, rule in enumerate(rules) if rule == group]) for group in groups]
    room = panel * 0.85 / len(nets)
    tight = any(text_width_in(g, style.small_pt) + 0.04 > room * rules.count(g) for g in groups)
    start = len(nets) + GAP + 0.5
    has_start = bool(ax.get_xlim()[1] > len(nets))
    ax.set_yticks(middles, groups if left else [""] * len(groups))
    ticks = [*middles, start] if has_start else middles
    shown = [*groups, *["start"] * has_start]
    ax.set_xticks(ticks, shown if below else [""] * len(ticks), rotation=90 if tight else 0)
    if has_start:
        ax.get_xticklabels()[-1].set_rotation(90)


def _caption(pairs, rows, nets: list[Net], of_layer, measure: str, direction: str) -> str:
    seeds = {rule: sum(r == rule for r, _ in nets) for rule in dict.fromkeys(rule for rule, _ in nets)}
    n = int(rows["n"].iloc[0])
    nulls = []
    for layer in of_layer:
        here = rows[rows["layer"] == layer]
        said = [f"{words} {here[column].mean():.2f}" for words, column in
                (("global", "null_global"), ("within-class", "null_within")) if here[column].notna().any()]  # fmt: skip
        nulls += [f"{layer} {', '.join(said)}"] * bool(said)
    missing = sum(int(np.isnan(square[np.triu_indices(len(nets), 1)]).sum()) for square, _ in of_layer.values())
    started = any(np.isfinite(start).any() for _, start in of_layer.values())
    lost = sum(int(np.isnan(start).sum()) for _, start in of_layer.values()) if started else 0
    return sentences(
        [
            f"{measure} ({direction_words(direction)}) between every two networks, on n = {n} stimuli; "
            f"{seed_words(seeds)}. A cell is one pair of networks, so no interval is drawn; side bars and white lines "
            "separate rules, seeds ascend within each, and all panels share one colour scale.",
            "The diagonal, a network with itself, is left grey.",
            "Column “start”: each network against its own initial weights." if started else "",
            f"Mean permutation null over pairs of rules ({null_sources(rows)}): {'; '.join(nulls)}."
            if nulls else "No null was computed.",
            match_words(rows),
            f"Hatched: {missing + lost} undefined value{'s' * (missing + lost != 1)} "
            f"({listed(_undefined(pairs), 4)})." if missing + lost else "",
            *diverged_words(rows),
        ]
    )  # fmt: skip


def _undefined(pairs: pd.DataFrame) -> list[str]:
    bad = pairs[pairs["value"].isna()]
    return [f"{r.rule_a} {r.seed_a}–{r.rule_b} {r.seed_b} at {r.layer}" for r in bad.itertuples()] or [
        "pairs not computed"
    ]
