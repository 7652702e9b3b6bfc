"""When do rules part? Two rules against each other and against themselves, all along training, layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lab.comparison_table import ACCURACY_GAP, LOSS_GAP, no_match
from lab.figures.drawn import (
    Drawn,
    check_room,
    columns_of,
    counted,
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
    "loss": "Networks of a point are as near in training loss as stored steps come",
    "accuracy": "Networks of a point are as near in validation accuracy as stored steps come",
}
GROUND = "#EDEDED"
APART = {"loss": f"over {100 * LOSS_GAP:g} % apart", "accuracy": f"over {100 * ACCURACY_GAP:g} points apart"}


def tidy(rows: pd.DataFrame, chosen: list[tuple[str, str]], against: str) -> pd.DataFrame:
    """Every number of the figure on a line of its own.

    Columns: measure, direction, layer, rule_a, rule_b, quantity, of (the rule a ceiling belongs to), step_a, step_b,
    at_a, at_b (step, loss or accuracy of both rules), x (the step, or the place in order), apart (whether they are too
    far from each other to be called matched), value, low, high, seeds.
    """
    lines: list[dict[str, Any]] = []
    places: dict[tuple, int] = {}
    for row in rows.sort_values("point", kind="stable").to_dict("records"):
        pair = row["rule_a"], row["rule_b"]
        if pair not in chosen:
            continue
        here = (*pair, row["layer"])
        places[here] = places.get(here, -1) + 1
        same = {key: row[key] for key in ("measure", "direction", "layer", "rule_a", "rule_b")}
        a, b = (row[f"{against}_{side}"] for side in "ab")
        at = {"step_a": row["step_a"], "step_b": row["step_b"], "at_a": a, "at_b": b}
        at |= {"x": a if against == "step" else places[here], "apart": against != "step" and no_match(against, a, b)}
        for quantity in QUANTITIES:
            for side in "ab" if quantity == "ceiling" else ("",):
                name = f"{quantity}_{side}" if side else quantity
                values = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
                of = row[f"rule_{side}"] if side else ""
                lines.append({**same, "quantity": quantity, "of": of, **at, **values, "seeds": row["seeds"]})
    return pd.DataFrame(lines)


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
        title = counted(int(rows["n"].iloc[0]), _seeds(rows, chosen), style)
        figure = _drawn(style, table, chosen, f"{measure} ({direction})", against, title)
    return Drawn(figure, table, _caption(table, rows, chosen, against, labels), style)


def _drawn(style: Style, table: pd.DataFrame, chosen: list[tuple[str, str]], name: str, against: str, title: str):
    layers = list(dict.fromkeys(table["layer"]))
    room = style.width_in - 5 * style.font_pt / 72
    narrowest = (0.9 if style.height_in else 1.2) * style.panel_in  # width is what a slide has
    # One pair has its layers side by side; several have a row of pairs for each layer.
    panels = [(chosen[0], layer) for layer in layers]
    columns = columns_of(len(layers), room, narrowest)
    if len(chosen) > 1:
        columns = columns_of(len(chosen), room, narrowest)
        chunks = [chosen[k : k + columns] for k in range(0, len(chosen), columns)]
        panels = [
            (pair, layer) for chunk in chunks for layer in layers for pair in [*chunk, *[None] * (columns - len(chunk))]
        ]
    lines = -(-len(panels) // columns)
    panel = room / columns
    tall = min(max(0.75 * panel, 1.3), 2.1)
    letters_high = 5.5 if against == "step" else 7.5
    figure = new_figure(style, lines * (tall + 0.3) + letters_high * 1.5 * style.small_pt / 72 + 0.2)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True, sharex=against == "step")
    letters = int(0.95 * panel / text_width_in("m", style.small_pt))
    shown = [(ax, *panel) for ax, panel in zip(axes.flat, panels, strict=False) if panel[0]]
    for ax, pair, layer in shown:
        here = table[(table["rule_a"] == pair[0]) & (table["rule_b"] == pair[1]) & (table["layer"] == layer)]
        _panel(ax, here, pair, style)
        heading(ax, pair, letters, style)
        if against != "step":
            _ordered_axis(ax, here, pair, against, panel, style)
        ax.text(0.5, 0.02, layer, transform=ax.transAxes, size=style.small_pt, ha="center", va="bottom", color=INK)
    taken = {id(ax) for ax, *_ in shown}
    for ax in axes.flat:
        if id(ax) not in taken:
            ax.axis("off")
    if against == "step":
        step_axis(axes[0, 0], sorted({int(step) for step in table["x"]}), style, panel)
    # "accuracy (%)" where the panel is too narrow for more.
    axis = AXES[against]
    if text_width_in(axis, style.font_pt) > 1.15 * panel:
        axis = axis.partition(" ")[2]
    for column in axes.T:  # the lowest panel of each column carries the axis
        last = [ax for ax in column if id(ax) in taken][-1]
        last.tick_params(which="both", labelbottom=True)
        last.set_xlabel(axis)
    for ax, panel, below in zip(axes.flat, panels, panels[columns:], strict=False):
        if panel[0] and panel[0] == below[0]:  # the same rules, and so the same numbers
            ax.tick_params(which="both", labelbottom=False)
    known = table[["value", "low", "high"]].to_numpy(dtype=float)
    known = known[np.isfinite(known)]
    if known.size:
        margin = 0.06 * max(float(np.ptp(known)), 1e-3)
        bottom, top = known.min() - 3 * margin, known.max() + margin  # the layer's name stands at the bottom
        axes[0, 0].set_ylim(bottom, top)
        # No number where nothing can be: below 0 and above 1 of what stays between.
        least, most = 0.0 if known.min() >= 0 else bottom, 1.0 if known.max() < 1 + 1e-9 else top
        least, most = max(bottom, least), min(top, most) + 1e-9
        axes[0, 0].set_yticks([tick for tick in axes[0, 0].get_yticks() if least <= tick <= most])
    if style.height_in:  # where height is scarce the count stands beside the panels
        name, title = f"{name}\n{title}", ""
    figure.supylabel(name, size=style.font_pt, multialignment="center")
    _legend(figure, table, chosen, against, title, style)
    check_room(figure, style)
    return figure


def _legend(figure, table: pd.DataFrame, chosen: list[tuple[str, str]], against: str, title: str, style: Style):
    """What is drawn how, under how many stimuli and seeds it is."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    rules = list(dict.fromkeys(rule for pair in chosen for rule in pair))
    look = looks(rules)
    thick = {"linewidth": 1.4 * style.line_pt}
    ceilings = [Line2D([], [], color=look[rule].colour, marker=look[rule].marker, markeredgewidth=0, **thick)
                for rule in rules] if len(rules) <= ALL_PAIRS else [Line2D([], [], color=FAINT, **thick)]  # fmt: skip
    ink = {"color": INK, "marker": "o"}
    handles = {
        QUANTITIES["between"]: Line2D([], [], **ink),
        QUANTITIES["same_start"]: Line2D([], [], **ink, linestyle=(0, (1, 1.2)), markerfacecolor="white"),
        QUANTITIES["ceiling"]: tuple(ceilings),
    }
    if table["apart"].any():
        handles[APART[against]] = Patch(facecolor=GROUND, linewidth=0)
    wide = 3.4 * style.small_pt / 72 + max(text_width_in(label, style.small_pt) for label in handles)
    figure.legend(
        handles=list(handles.values()),
        labels=list(handles),
        title=title or None,
        loc="outside lower center",
        ncols=columns_of(len(handles), style.width_in, wide),
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    )


def _panel(ax, here: pd.DataFrame, pair: tuple[str, str], style: Style) -> None:
    """One pair of rules at one layer: both ceilings in the colours of their rules, the pair in ink."""
    if style.grid:
        ax.grid(axis="y")
    look = looks(list(pair))
    for rule in pair:
        of = here[(here["quantity"] == "ceiling") & (here["of"] == rule)].sort_values("x")
        colour, dashes = look[rule].colour, look[rule].dashes
        ax.fill_between(of["x"], of["low"], of["high"], color=colour, alpha=0.2, linewidth=0)
        if of["low"].notna().sum() == 1:  # one point spans no band
            ax.vlines(of["x"], of["low"], of["high"], color=colour, linewidth=style.line_pt, alpha=0.5)
        ax.plot(of["x"], of["value"], color=colour, linestyle=dashes, linewidth=1.4 * style.line_pt, zorder=2,
                marker=look[rule].marker, markersize=0.9 * style.marker_pt, markeredgewidth=0)  # fmt: skip
    for quantity, line, face in (("same_start", (0, (1, 1.2)), "white"), ("between", "-", INK)):
        of = here[here["quantity"] == quantity].sort_values("x")
        known = of[of["value"].notna()]
        size = (0.75 if quantity == "between" else 0.6) * style.marker_pt
        if quantity == "between":
            ax.vlines(known["x"], known["low"], known["high"], color=INK, linewidth=style.thin_pt, zorder=3)
        ax.plot(of["x"], of["value"], color=INK, linestyle=line, linewidth=0.8 * style.line_pt, marker="o",
                markersize=size, markerfacecolor=face, zorder=4)  # fmt: skip


def _ordered_axis(ax, here: pd.DataFrame, pair: tuple[str, str], against: str, panel_in: float, style: Style) -> None:
    """Points evenly in their order over the loss or accuracy of both rules, in their colours, on two lines."""
    of = here.drop_duplicates("x").sort_values("x")
    last = int(of["x"].max())
    for x in of.loc[of["apart"], "x"]:
        ax.axvspan(x - 0.5, x + 0.5, color=GROUND, linewidth=0, zorder=0)
    told = (lambda v: f"{100 * v:.1f}") if against == "accuracy" else (lambda v: f"{v:.2g}")
    names = {side: list(map(told, of[f"at_{side}"])) for side in "ab"}
    letter = style.small_pt / 72
    widest = max(text_width_in(name, style.small_pt) for side in names.values() for name in side) + 0.3 * letter
    every = max(1, int(np.ceil(widest * (last + 1) / (0.95 * panel_in))))
    shown = [x for x in range(last + 1) if (last - x) % every == 0]
    look = looks(list(pair))
    ax.set_xlim(-0.5, last + 0.5)
    ax.xaxis.remove_overlapping_locs = False
    for side, rule, minor in (("a", pair[0], False), ("b", pair[1], True)):
        ax.set_xticks(shown, [names[side][x] for x in shown], minor=minor)
        pad = style.font_pt * (0.22 + minor * (0.3 + 1.1 * style.small_pt / style.font_pt))
        which = "minor" if minor else "major"
        ax.tick_params(axis="x", which=which, pad=pad, labelcolor=look[rule].colour, **({"length": 0} if minor else {}))
        ax.tick_params(axis="x", which=which, labelsize=style.small_pt)


def _seeds(rows: pd.DataFrame, chosen: list[tuple[str, str]]) -> dict[str, int]:
    """How many seeds of each rule are compared."""
    rows = rows[[pair in chosen for pair in zip(rows["rule_a"], rows["rule_b"], strict=True)]]
    seeds: dict[str, int] = {}
    for side in "ab":
        seeds |= dict(zip(rows[f"rule_{side}"], rows[f"seeds_{side}"].astype(int), strict=True))
    return seeds


def _caption(table, rows, chosen, against: str, labels) -> str:
    rows = rows[[pair in chosen for pair in zip(rows["rule_a"], rows["rule_b"], strict=True)]]
    measure, direction = only_measure(rows)
    seeds = _seeds(rows, chosen)
    rules = labels or list(seeds)
    held = HELD[against]
    if against != "step":
        gap = (table["at_a"] - table["at_b"]).abs().max()
        told = f"{100 * gap:.1f} points" if against == "accuracy" else f"{gap:.2g}"
        held += (f", which leaves up to {told} between them" if gap == gap else "") + ". "
        held += f"Grey: {APART[against]}, no match. " * bool(table["apart"].any())
        held += f"Points stand evenly in order, over the {against} of the rule on the left and, below, of the other."
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
            "Bars and bands: 95 % intervals over seeds, the unit of the experiment, cut to the measure's range.",
            held,
            "No null is drawn: `lab compare` has those of one step.",
            f"No interval is defined for {listed(unsure)}." if unsure else "",
            f"Undefined and not drawn: {listed(dict.fromkeys(names))}." if names else "",
            *diverged_words(rows),
        ]
    )  # fmt: skip
