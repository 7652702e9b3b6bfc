"""Are rules more different than another seed, an untrained network, or the labels alone explain? Layer by layer.

Every slot of the x axis is one layer of one pair of rules: the pair's value in the middle, what each of the two rules
reaches with itself and with its own start on its side, and what shuffled stimuli reach as lines across.
"""

from __future__ import annotations

import itertools
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
    text_width_in,
    wrapped,
)
from lab.figures.style import Style, drawing, rule_colour

ABOUT = "two rules against another seed, their own start and the nulls, layer by layer, with intervals over seeds"
ALL_PAIRS = 3
"""Up to so many rules every pair has a panel; beyond, every rule is shown against the first one named."""
HALF = 0.4  # of a slot
INK, FAINT, HATCHED = "#1A1A1A", "#9A9A9A", "#A8A8A8"
QUANTITIES = {
    "between": "two rules, other seeds",
    "same_start": "two rules, same start",
    "ceiling": "same rule, other seed",
    "untrained": "own start",
    "null_global": "global null",
    "null_within": "within-class null",
}


def shown_pairs(rows: pd.DataFrame, labels: list[str] | None = None) -> list[tuple[str, str]]:
    """The pairs of rules that have a panel, in order."""
    rules = labels or list(dict.fromkeys([*rows["rule_a"], *rows["rule_b"]]))
    there = set(zip(rows["rule_a"], rows["rule_b"], strict=True))
    pairs = list(itertools.combinations(rules, 2))
    if len(rules) > ALL_PAIRS:
        pairs = [pair for pair in pairs if pair[0] == rules[0]]
    return [pair if pair in there else pair[::-1] for pair in pairs if pair in there or pair[::-1] in there]


def tidy(rows: pd.DataFrame, pairs: pd.DataFrame, chosen: list[tuple[str, str]]) -> pd.DataFrame:
    """Every number of the figure on a line of its own.

    Columns: measure, direction, layer, rule_a, rule_b, quantity, of (the rule a ceiling or start belongs to), seed_a,
    seed_b (of a single pair of networks), value, low, high.
    """
    lines: list[dict[str, Any]] = []
    for row in rows.to_dict("records"):
        if (row["rule_a"], row["rule_b"]) not in chosen:
            continue
        same = {key: row[key] for key in ("measure", "direction", "layer", "rule_a", "rule_b")}
        for quantity in QUANTITIES:
            for side in "ab" if quantity in ("ceiling", "untrained") else ("",):
                name = f"{quantity}_{side}" if side else quantity
                ends = {end: row.get(f"{name}_{end}", np.nan) for end in ("low", "high")}
                of = row[f"rule_{side}"] if side else ""
                lines.append({**same, "quantity": quantity, "of": of, "value": row[name], **ends})
    between = pairs[pairs["kind"] == "between"]
    for row in between.to_dict("records"):
        if (row["rule_a"], row["rule_b"]) in chosen:
            quantity = "one pair, same start" if row["seed_a"] == row["seed_b"] else "one pair, other seeds"
            lines.append({**{k: v for k, v in row.items() if k != "kind"}, "quantity": quantity, "of": ""})
    columns = [
        "measure",
        "direction",
        "layer",
        "rule_a",
        "rule_b",
        "quantity",
        "of",
        "seed_a",
        "seed_b",
        "value",
        "low",
        "high",
    ]
    return pd.DataFrame(lines).reindex(columns=columns)


def draw(pairs: pd.DataFrame, rows: pd.DataFrame, style: Style, labels: list[str] | None = None) -> Drawn:
    """One panel per pair of rules (for more than three rules: per rule, against the first).

    Args:
        pairs: one line per pair of networks (`Comparison.pairs`), of one measure.
        rows: one line per pair of rules (`Comparison.rows`).
        style: of the page.
        labels: rules in order; the first is the reference.
    """
    measure, direction = only_measure(rows)
    chosen = shown_pairs(rows, labels)
    table = tidy(rows, pairs, chosen)
    with drawing(style):
        figure = _drawn(style, table, chosen, measure, direction)
    return Drawn(figure, table, _caption(table, rows, chosen, measure, direction, labels), style)


def _drawn(style: Style, table: pd.DataFrame, chosen: list[tuple[str, str]], measure: str, direction: str):
    layers = list(dict.fromkeys(table["layer"]))
    widest = max(text_width_in(layer, style.small_pt) for layer in layers) + 0.06
    room = style.width_in - 5 * style.font_pt / 72
    legend_beside = len(chosen) == 1 and style.width_in > 5
    wanted = max(style.panel_in, 0.6 * len(layers) * widest)
    columns = columns_of(len(chosen), room, wanted)
    lines = -(-len(chosen) // columns)
    free = lines * columns - len(chosen)
    panel = room / columns if len(chosen) > 1 else room * (0.62 if legend_beside else 1)
    tall = min(max(0.8 * panel, 1.5), 2.3)
    legend_in = 0 if legend_beside or free else 5 * 1.5 * style.small_pt / 72
    figure = new_figure(style, lines * (tall + 0.35) + legend_in + 0.2)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    tight = panel * 0.95 / len(layers) < widest
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if tight else {}
    letters = int(0.95 * panel / text_width_in("m", style.small_pt))
    for k, (ax, pair) in enumerate(zip(axes.flat, chosen, strict=False)):
        here = table[(table["rule_a"] == pair[0]) & (table["rule_b"] == pair[1])]
        _panel(ax, here, pair, layers, style)
        heading(ax, pair, letters, style)
        below = k + columns >= len(chosen)
        ax.set_xticks(range(len(layers)), layers if below else [""] * len(layers), **turned)
    known = table[["value", "low", "high"]].to_numpy(dtype=float)
    known = known[np.isfinite(known)]
    if known.size:
        margin = 0.06 * max(float(np.ptp(known)), 1e-3)
        axes[0, 0].set_ylim(known.min() - margin, known.max() + margin)
    figure.supylabel(f"{measure} ({direction})", size=style.font_pt)
    handles = _legend(style, table)
    for ax in axes.flat[len(chosen) :]:
        ax.axis("off")
    if free:
        axes.flat[-1].legend(handles=handles, loc="center", borderaxespad=0)
    elif legend_beside:
        figure.legend(handles=handles, loc="outside right center")
    else:
        wide = 3.4 * style.small_pt / 72 + max(text_width_in(handle.get_label(), style.small_pt) for handle in handles)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns_of(len(handles), style.width_in, wide))
    check_room(figure, style)
    return figure


def _panel(ax, here: pd.DataFrame, pair: tuple[str, str], layers: list[str], style: Style) -> None:
    """One pair of rules over all layers; in each slot rule a is left, rule b right, and the pair in the middle."""
    if style.grid:
        ax.grid(axis="y")
    for x, layer in enumerate(layers):
        at = here[here["layer"] == layer]
        for name, side in zip(pair, (-1, 1), strict=True):
            _side(ax, at[at["of"] == name], x, side, rule_colour(name), style)
        for quantity, dashes in (("null_global", (0, (4, 2))), ("null_within", (0, (1, 1.2)))):
            for value in at.loc[at["quantity"] == quantity, "value"].dropna():
                ax.hlines(value, x - HALF, x + HALF, color=INK, linewidth=style.line_pt, linestyle=dashes, zorder=3)
        for k, quantity in enumerate(("one pair, other seeds", "one pair, same start")):
            values = at.loc[at["quantity"] == quantity, "value"].to_numpy(dtype=float)
            spread = np.linspace(-0.05, 0.05, len(values)) if len(values) > 1 else np.zeros(len(values))
            centre = x + (-0.08, 0.1)[k]
            ax.plot(
                centre + spread,
                values,
                ".",
                color=FAINT,
                markersize=0.7 * style.marker_pt,
                zorder=3.5,
                markeredgewidth=0,
            )
        for k, quantity in enumerate(("between", "same_start")):
            row = at[at["quantity"] == quantity].iloc[0]
            if np.isfinite(row["value"]):
                _pair_value(ax, x + (-0.08, 0.1)[k], row, style, filled=k == 0)
            elif quantity == "between":
                _hatch(ax, x - HALF, 2 * HALF, style)
    ax.set_xlim(-0.5, len(layers) - 0.5)
    ax.tick_params(axis="x", length=0)


def _pair_value(ax, x: float, row: pd.Series, style: Style, filled: bool) -> None:
    if np.isfinite(row["low"]) and np.isfinite(row["high"]):
        ax.vlines(x, row["low"], row["high"], color=INK, linewidth=1.6 * style.thin_pt, zorder=4)
    face = INK if filled else "white"
    ax.plot(x, row["value"], "o", color=INK, markerfacecolor=face, markersize=style.marker_pt, zorder=5)


def _side(ax, of: pd.DataFrame, x: float, side: int, colour: str, style: Style) -> None:
    """One rule's half of a slot: its ceiling as a band with a line, its untrained start as a cross."""
    from matplotlib.patches import Rectangle

    ceiling = of[of["quantity"] == "ceiling"].iloc[0]
    left = x - HALF if side < 0 else x
    if np.isfinite(ceiling["value"]):
        if np.isfinite(ceiling["low"]):
            size = HALF, ceiling["high"] - ceiling["low"]
            ax.add_patch(Rectangle((left, ceiling["low"]), *size, facecolor=colour, alpha=0.3, linewidth=0, zorder=1.5))
        ax.hlines(ceiling["value"], left, left + HALF, color=colour, linewidth=1.4 * style.line_pt, zorder=2)
    else:
        _hatch(ax, left, HALF, style)
    start = of[of["quantity"] == "untrained"].iloc[0]
    if np.isfinite(start["value"]):
        middle = x + side * 0.29
        if np.isfinite(start["low"]):
            ax.vlines(middle, start["low"], start["high"], color=colour, linewidth=1.6 * style.thin_pt, zorder=4)
        ax.plot(
            middle,
            start["value"],
            "x",
            color=colour,
            markersize=style.marker_pt,
            markeredgewidth=style.line_pt,
            zorder=5,
        )


def _hatch(ax, left: float, width: float, style: Style) -> None:
    """Mark what is undefined: an empty place would read as "nothing there"."""
    ax.axvspan(left, left + width, facecolor="none", edgecolor=HATCHED, hatch=style.hatch, linewidth=0, zorder=0.5)


def heading(ax, pair: tuple[str, str], letters: int, style: Style) -> None:
    """The two rules above the panel, each on its side over a bar of its colour."""
    from matplotlib.patches import Rectangle
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    # Across in panels, upward in inches: the bar is as thick in every panel, whatever its height.
    up = ax.figure.dpi_scale_trans + ScaledTranslation(0, 1, ax.transAxes)
    thick = 0.5 * style.font_pt
    for k, name in enumerate(pair):
        at = {"transform": blended_transform_factory(ax.transAxes, up), "clip_on": False}
        ax.add_patch(Rectangle((k / 2, 0), 0.5, thick / 72, facecolor=rule_colour(name), linewidth=0, **at))
        other = max(len(line) for line in wrapped(pair[1 - k], letters // 2).split("\n"))
        text, side = wrapped(name, max(8, letters - other - 1)), ("left", "right")[k]
        ax.set_title(text, loc=side, size=style.small_pt, pad=thick + 0.25 * style.font_pt, multialignment=side)


def _legend(style: Style, table: pd.DataFrame) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    point = {"linestyle": "none", "marker": "o", "color": INK}
    cross = {"linestyle": "none", "marker": "x", "color": FAINT, "markeredgewidth": style.line_pt}
    handles = [
        Line2D([], [], label=QUANTITIES["between"], **point),
        Line2D([], [], label=QUANTITIES["same_start"], markerfacecolor="white", **point),
        Line2D([], [], label="one pair of networks", linestyle="none", marker=".", color=FAINT, markeredgewidth=0),
        Patch(label=QUANTITIES["ceiling"], facecolor=FAINT, alpha=0.5, linewidth=0),
        Line2D([], [], label=QUANTITIES["untrained"], **cross),
        Line2D([], [], label=QUANTITIES["null_global"], color=INK, linestyle=(0, (4, 2))),
        Line2D([], [], label=QUANTITIES["null_within"], color=INK, linestyle=(0, (1, 1.2))),
    ]
    if table.loc[table["quantity"].isin(["between", "ceiling"]), "value"].isna().any():
        handles.append(Patch(label="undefined", facecolor="none", edgecolor=HATCHED, hatch=style.hatch, linewidth=0))
    return handles


def _caption(table, rows, chosen, measure: str, direction: str, labels) -> str:
    rows = rows[[pair in chosen for pair in zip(rows["rule_a"], rows["rule_b"], strict=True)]]
    seeds: dict[str, int] = {}
    for side in "ab":
        column = f"seeds_{side}" if f"seeds_{side}" in rows else "seeds"
        seeds |= dict(zip(rows[f"rule_{side}"], rows[column].astype(int), strict=True))
    n = int(rows["n"].iloc[0])
    rules = labels or list(seeds)
    kinds = table[table["quantity"].isin(QUANTITIES)]
    missing = kinds[kinds["value"].isna()]
    names = [
        f"{QUANTITIES[r.quantity]} of {r.of or f'{r.rule_a}–{r.rule_b}'} at {r.layer}" for r in missing.itertuples()
    ]
    spread = kinds[kinds["quantity"].isin(["between", "same_start", "ceiling", "untrained"]) & kinds["value"].notna()]
    bare = dict.fromkeys(r.of or f"{r.rule_a}–{r.rule_b}" for r in spread[spread["low"].isna()].itertuples())
    worst = rows[["null_global_p", "null_within_p"]].max().max()
    return sentences(
        [
            f"{measure} ({direction_words(direction)}) between two rules, n = {n} stimuli; {seed_words(seeds)}.",
            f"Every rule is shown against {rules[0]}." if len(rules) > ALL_PAIRS else "",
            "Filled: networks that differ in rule and seed; open: in rule only, from the same initial weights; small "
            "dots: single pairs of networks. Bands and crosses stand on their rule's side: the same rule with another "
            "seed (ceiling), and trained networks against their own initial weights.",
            "Bars and bands: 95 % intervals over seeds, the unit of the experiment, cut to the measure's range.",
            f"Dashed and dotted: means of the global and the within-class permutation null ({null_sources(rows)}"
            + (f"; largest p = {worst:.2g})." if worst == worst else ").") if rows["null_global"].notna().any()
            or rows["null_within"].notna().any() else "No null was computed.",
            match_words(rows),
            f"No interval is defined for {listed(bare)}." if bare else "",
            f"Undefined and not drawn (hatched where a place stays empty): {listed(dict.fromkeys(names))}."
            if names else "",
            *diverged_words(rows),
        ]
    )  # fmt: skip
