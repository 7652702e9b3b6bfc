"""When do rules part? Two rules against each other and against themselves, all along training, layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lab.figures.drawn import (
    Drawn,
    check_room,
    columns_of,
    direction_words,
    diverged_words,
    listed,
    new_figure,
    only_measure,
    seed_words,
    sentences,
    text_width_in,
)
from lab.figures.layers import ALL_PAIRS, FAINT, INK, heading, shown_pairs
from lab.figures.learning import step_axis
from lab.figures.style import Style, drawing, looks

ABOUT = "two rules against each other and each against itself over training, by step, loss or accuracy"
QUANTITIES = {
    "between": "two rules, other seeds",
    "same_start": "two rules, same start",
    "ceiling": "same rule, other seed",
}
AXES = {"step": "step", "loss": "training loss", "accuracy": "validation accuracy (%)"}
HELD = {
    "step": "All networks of a point stand at one step; the axis is logarithmic from the first stored step on, and "
    "step 0 stands to its left.",
    "loss": "Networks of a point are equally far: every rule at its stored step with the nearest training loss",
    "accuracy": "Networks of a point are equally far: every rule at its stored step of nearest validation accuracy",
}


def tidy(rows: pd.DataFrame, chosen: list[tuple[str, str]], against: str) -> pd.DataFrame:
    """Every number of the figure on a line of its own.

    Columns: measure, direction, layer, rule_a, rule_b, quantity, of (the rule a ceiling belongs to), step_a, step_b, x
    (for two rules the mean of both), x_low, x_high (of the two), value, low, high, seeds.
    """
    lines: list[dict[str, Any]] = []
    for row in rows.to_dict("records"):
        if (row["rule_a"], row["rule_b"]) not in chosen:
            continue
        same = {key: row[key] for key in ("measure", "direction", "layer", "rule_a", "rule_b")}
        at = {side: row[f"{against}_{side}"] for side in "ab"}
        for quantity in QUANTITIES:
            for side in "ab" if quantity == "ceiling" else ("",):
                name = f"{quantity}_{side}" if side else quantity
                steps = {f"step_{s}": row[f"step_{side or s}"] for s in "ab"}
                ends = (at[side],) if side else tuple(at.values())
                place = {"x": np.mean(ends), "x_low": min(ends), "x_high": max(ends)}
                values = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
                of = row[f"rule_{side}"] if side else ""
                lines.append(
                    {**same, "quantity": quantity, "of": of, **steps, **place, **values, "seeds": row["seeds"]}
                )
    table = pd.DataFrame(lines)
    # A rule that waits for the other stands at one step several times.
    return table.drop_duplicates([name for name in table if name not in ("value", "low", "high")], ignore_index=True)


def draw(rows: pd.DataFrame, style: Style, against: str = "step", labels: list[str] | None = None) -> Drawn:
    """One panel per layer and pair of rules (for more than three rules: per rule, against the first).

    Args:
        rows: one line per pair of rules and point (`Dynamics.rows`), of one measure.
        style: of the page.
        against: what the points were held against.
        labels: rules in order; the first is the reference.
    """
    measure, direction = only_measure(rows)
    chosen = shown_pairs(rows, labels)
    table = tidy(rows, chosen, against)
    with drawing(style):
        figure = _drawn(style, table, chosen, f"{measure} ({direction})", against)
    return Drawn(figure, table, _caption(table, rows, chosen, against, labels), style)


def _drawn(style: Style, table: pd.DataFrame, chosen: list[tuple[str, str]], name: str, against: str):
    from matplotlib.lines import Line2D

    layers = list(dict.fromkeys(table["layer"]))
    room = style.width_in - 5 * style.font_pt / 72
    # One pair has its layers side by side; several have a row of pairs for each layer.
    panels = [(chosen[0], layer) for layer in layers]
    columns = columns_of(len(layers), room, 1.2 * style.panel_in)
    if len(chosen) > 1:
        columns = columns_of(len(chosen), room, 1.2 * style.panel_in)
        chunks = [chosen[k : k + columns] for k in range(0, len(chosen), columns)]
        panels = [
            (pair, layer) for chunk in chunks for layer in layers for pair in [*chunk, *[None] * (columns - len(chunk))]
        ]
    lines = -(-len(panels) // columns)
    panel = room / columns
    tall = min(max(0.75 * panel, 1.3), 2.1)
    figure = new_figure(style, lines * (tall + 0.3) + 4 * 1.5 * style.small_pt / 72 + 0.2)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True, sharex=True)
    letters = int(0.95 * panel / text_width_in("m", style.small_pt))
    shown = [(ax, *panel) for ax, panel in zip(axes.flat, panels, strict=False) if panel[0]]
    for ax, pair, layer in shown:
        here = table[(table["rule_a"] == pair[0]) & (table["rule_b"] == pair[1]) & (table["layer"] == layer)]
        _panel(ax, here, pair, style)
        heading(ax, pair, letters, style)
        ax.text(0.5, 0.02, layer, transform=ax.transAxes, size=style.small_pt, ha="center", va="bottom", color=INK)
    taken = {id(ax) for ax, *_ in shown}
    for ax in axes.flat:
        if id(ax) not in taken:
            ax.axis("off")
    _x_axis(axes[0, 0], table, against, style)
    for column in axes.T:  # the lowest panel of each column carries the axis
        last = [ax for ax in column if id(ax) in taken][-1]
        last.tick_params(labelbottom=True)
        last.set_xlabel(AXES[against])
    known = table[["value", "low", "high"]].to_numpy(dtype=float)
    known = known[np.isfinite(known)]
    if known.size:
        margin = 0.06 * max(float(np.ptp(known)), 1e-3)
        # The layer's name stands at the bottom; what is at most 1 needs no room above it, though a band may go there.
        top = 1.0 if table["value"].max() <= 1 < known.max() else known.max()
        axes[0, 0].set_ylim(known.min() - 3 * margin, top + margin)
    figure.supylabel(name, size=style.font_pt)
    handles = [
        Line2D([], [], color=INK, marker="o", label=QUANTITIES["between"]),
        Line2D([], [], color=INK, marker="o", linestyle=(0, (1, 1.2)), markerfacecolor="white",
               label=QUANTITIES["same_start"]),
        Line2D([], [], color=FAINT, linewidth=1.4 * style.line_pt, label=QUANTITIES["ceiling"]),
    ]  # fmt: skip
    wide = 3.4 * style.small_pt / 72 + max(text_width_in(handle.get_label(), style.small_pt) for handle in handles)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns_of(len(handles), style.width_in, wide))
    check_room(figure, style)
    return figure


def _panel(ax, here: pd.DataFrame, pair: tuple[str, str], style: Style) -> None:
    """One pair of rules at one layer: both ceilings in the colours of their rules, the pair in ink."""
    if style.grid:
        ax.grid(axis="y")
    look = looks(list(pair))
    for rule in pair:
        of = here[(here["quantity"] == "ceiling") & (here["of"] == rule)].sort_values("step_a")
        colour, dashes = look[rule].colour, look[rule].dashes
        ax.fill_between(of["x"], of["low"], of["high"], color=colour, alpha=0.2, linewidth=0)
        ax.plot(of["x"], of["value"], color=colour, linestyle=dashes, linewidth=1.4 * style.line_pt, zorder=2,
                marker=look[rule].marker, markersize=0.9 * style.marker_pt, markeredgewidth=0)  # fmt: skip
    for quantity, line, face in (("same_start", (0, (1, 1.2)), "white"), ("between", "-", INK)):
        of = here[here["quantity"] == quantity].sort_values(["step_a", "step_b"])
        known = of[of["value"].notna()]
        size = (0.75 if quantity == "between" else 0.6) * style.marker_pt
        if quantity == "between":
            ax.vlines(known["x"], known["low"], known["high"], color=INK, linewidth=style.thin_pt, zorder=3)
            ax.hlines(known["value"], known["x_low"], known["x_high"], color=INK, linewidth=style.thin_pt, zorder=3)
        ax.plot(of["x"], of["value"], color=INK, linestyle=line, linewidth=0.8 * style.line_pt, marker="o",
                markersize=size, markerfacecolor=face, zorder=4)  # fmt: skip


def _x_axis(ax, table: pd.DataFrame, against: str, style: Style) -> None:
    if against == "step":
        step_axis(ax, sorted({int(step) for step in table["x"]}), style)
    elif against == "loss":
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.invert_xaxis()  # training goes to the right
    else:
        from matplotlib.ticker import PercentFormatter

        ax.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=""))


def _caption(table, rows, chosen, against: str, labels) -> str:
    rows = rows[[pair in chosen for pair in zip(rows["rule_a"], rows["rule_b"], strict=True)]]
    measure, direction = only_measure(rows)
    seeds: dict[str, int] = {}
    for side in "ab":
        seeds |= dict(zip(rows[f"rule_{side}"], rows[f"seeds_{side}"].astype(int), strict=True))
    rules = labels or list(seeds)
    held = HELD[against]
    if against != "step":
        gap = (table["x_high"] - table["x_low"]).max()
        told = f"{100 * gap:.1f} points" if against == "accuracy" else f"{gap:.2g}"
        held += f"; a bar across joins the two, which differ by up to {told}." if gap == gap else "."
    lost = table[table["value"].isna()]
    names = [f"{QUANTITIES[r.quantity]} of {r.of or f'{r.rule_a}–{r.rule_b}'} at {r.layer}" for r in lost.itertuples()]
    bare = table[table["value"].notna() & table["low"].isna() & (table["quantity"] != "same_start")]
    unsure = dict.fromkeys(r.of or f"{r.rule_a}–{r.rule_b}" for r in bare.itertuples())
    return sentences(
        [
            f"{measure} ({direction_words(direction)}) over training, n = {int(rows['n'].iloc[0])} stimuli; "
            f"{seed_words(seeds)}.",
            f"Every rule is shown against {rules[0]}." if len(rules) > ALL_PAIRS else "",
            "Filled: networks that differ in rule and seed; open: in rule only, from the same initial weights. "
            "Coloured: the same rule with another seed (ceiling).",
            "Bars and bands: 95 % intervals over seeds, the unit of the experiment.",
            held,
            "No null is drawn: `lab compare` has those of one step.",
            f"No interval is defined for {listed(unsure)}." if unsure else "",
            f"Undefined and not drawn: {listed(dict.fromkeys(names))}." if names else "",
            *diverged_words(rows),
        ]
    )  # fmt: skip
