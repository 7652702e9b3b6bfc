"""How the rules learn: accuracy on the validation split, and the angle between each rule's step and backprop's."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lab.errors import LabError
from lab.figures.drawn import (
    Drawn,
    check_room,
    columns_of,
    listed,
    new_figure,
    seed_words,
    sentences,
    short,
    text_width_in,
)
from lab.figures.style import Style, drawing, looks

ABOUT = "validation accuracy over training, and the angle of each rule's step to the true gradient, block by block"
WIDE_IN = 5.0  # from here on accuracy and angles stand side by side


def summary_of(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean, lowest and highest over seeds of what the figure shows.

    Columns: metric, layer, rule, step, seeds (that have a value), undefined (that have none), mean, low, high.
    """
    wanted = metrics[
        ((metrics["metric"] == "validation_accuracy") & (metrics["layer"] == "")) | (metrics["metric"] == "angle")
    ]
    if wanted.empty:
        raise LabError("there is nothing to draw: these runs hold no validation accuracy and no angle")
    keys = ["metric", "layer", "rule", "step"]
    values = wanted.assign(value=wanted["value"].astype(float)).groupby(keys, sort=False)["value"]
    table = values.agg(seeds="count", undefined=lambda v: int(v.isna().sum()), mean="mean", low="min", high="max")
    return table.reset_index().astype({"seeds": int, "undefined": int})


def draw(metrics: pd.DataFrame, style: Style) -> Drawn:
    """Curves over steps: line = mean over seeds, band = lowest to highest seed.

    Args:
        metrics: the metrics tables of the runs, one below the other, with their labels in a column `rule`.
        style: of the page.
    """
    table = summary_of(metrics)
    seeds = {rule: int(of["seed"].nunique()) for rule, of in metrics.groupby("rule", sort=False)}
    with drawing(style):
        figure = _drawn(style, table, list(seeds))
    return Drawn(figure, table, _caption(table, seeds), style)


def _drawn(style: Style, table: pd.DataFrame, rules: list[str]):
    from matplotlib.lines import Line2D

    # A block whose angle no rule has would be an empty panel.
    angles = table[(table["metric"] == "angle") & (table["seeds"] > 0)]
    blocks = list(dict.fromkeys(angles["layer"]))
    accuracy = table[table["metric"] == "validation_accuracy"]
    accuracy_ax, block_axes, figure = _axes(style, blocks)
    look = looks(rules)
    for ax, part in [
        (accuracy_ax, accuracy),
        *((ax, angles[angles["layer"] == b]) for ax, b in zip(block_axes, blocks, strict=True)),
    ]:
        for rule in rules:
            _curve(ax, part[part["rule"] == rule].sort_values("step"), look[rule], style)
        step_axis(ax, sorted(set(table["step"])), style)
        if style.grid:
            ax.grid(axis="y")
    _accuracy_axis(accuracy_ax)
    top = max(92.0, float(angles["high"].max()) + 2) if len(angles) else 92.0
    for ax, block in zip(block_axes, blocks, strict=True):
        ax.axhline(90, color="#1A1A1A", linewidth=style.line_pt, linestyle=(0, (4, 2)), zorder=1)
        ax.set_title(block)
        ax.set(ylim=(-2, top), yticks=range(0, int(top) + 1, 30))
    handles = [
        Line2D([], [], color=look[r].colour, marker=look[r].marker, linestyle=look[r].dashes, label=short(r))
        for r in rules
    ]
    wide = max(text_width_in(short(rule), style.small_pt) for rule in rules) + 4 * style.small_pt / 72
    columns = columns_of(len(rules), style.width_in, wide)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    check_room(figure, style)
    return figure


def _axes(style: Style, blocks: list[str]):
    """Accuracy beside the angles on a wide page, above them in a column; angles share their axis."""
    if not blocks:
        figure = new_figure(style, min(0.6 * style.width_in, 2.6) + 0.4)
        accuracy = figure.subplots()
        accuracy.set_xlabel("step")
        return accuracy, [], figure
    if style.width_in > WIDE_IN:
        columns = columns_of(len(blocks), 3.0, 1.0)  # three blocks a row
        lines = -(-len(blocks) // columns)
        figure = new_figure(style, 0.4 + (2.0 if lines == 1 else 1.5 * lines))
        left, right = figure.add_gridspec(1, 2, width_ratios=(1, 0.45 + 0.55 * columns))
    else:
        columns = columns_of(len(blocks), 3.0, 1.0)
        lines = -(-len(blocks) // columns)
        figure = new_figure(style, 2.1 + 1.45 * lines)
        left, right = figure.add_gridspec(2, 1, height_ratios=(1.5, 1.2 * lines))
    accuracy = figure.add_subplot(left)
    accuracy.set_xlabel("step")
    axes = right.subgridspec(lines, columns).subplots(sharex=False, sharey=True, squeeze=False)
    for k, ax in enumerate(axes.flat):
        if k >= len(blocks):
            ax.remove()
            continue
        if k % columns == 0:
            ax.set_ylabel("angle to gradient (°)")
        if k + columns >= len(blocks):
            ax.set_xlabel("step")
    return accuracy, list(axes.flat[: len(blocks)]), figure


def _curve(ax, of: pd.DataFrame, look, style: Style) -> None:
    """One rule's mean with its band; steps where no seed has a value break the line."""
    if of["mean"].isna().all():
        return
    line = {"color": look.colour, "linestyle": look.dashes, "marker": look.marker}
    ax.fill_between(of["step"], of["low"], of["high"], color=look.colour, alpha=0.2, linewidth=0)
    ax.plot(
        of["step"], of["mean"], **line, markersize=0.8 * style.marker_pt, markeredgewidth=0, clip_on=False, zorder=3
    )


def _accuracy_axis(ax) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=""))
    ax.set_ylabel("validation accuracy (%)")


def step_axis(ax, steps: list[int], style: Style, panel_in: float | None = None) -> None:
    """Logarithmic from the first step that was measured on, with step 0 a decade's width to its left.

    First and last step always have their number; between stand decades, or the steps themselves where these are few.

    panel_in: width of the panel, the narrowest one unless given.
    """
    later = [step for step in steps if step > 0]
    if not later:
        ax.set(xlim=(-1, 1), xticks=[0])
        return
    first = later[0]
    ax.set_xscale("symlog", linthresh=first, linscale=0.7)
    ax.set_xlim(-0.08 * first if steps[0] == 0 else first / 1.2, later[-1] * 1.15)
    decades = [10**k for k in range(12) if first <= 10**k <= later[-1]]
    between = decades if len(decades) > 2 else later
    ends = [steps[0], later[-1]]
    transform = ax.xaxis.get_transform()
    low, high = transform.transform(ax.get_xlim())
    inch = (panel_in or style.panel_in) / (high - low)

    def room(a: float, b: float) -> bool:
        apart = abs(float(np.diff(transform.transform([a, b]))[0])) * inch
        return apart > text_width_in(f"{step_name(a)}{step_name(b)}", style.small_pt) / 2 + 0.5 * style.small_pt / 72

    ticks = list(dict.fromkeys(ends))
    for step in between:
        if all(room(step, other) for other in ticks):
            ticks.append(step)
    ax.set_xticks(sorted(ticks))
    ax.set_xticks([], minor=True)
    ax.xaxis.set_major_formatter(lambda step, _: step_name(step))


def step_name(step: float) -> str:
    """`10k` of 10000, `8580` of 8580: short enough to stand side by side in a narrow panel, and exact."""
    names = [f"{step / size:.12g}{letter}" for size, letter in ((1_000_000, "M"), (1_000, "k")) if step >= size]
    return min([*names, f"{step:.12g}"], key=len)


def coinciding(angles: pd.DataFrame, rules: list[str]) -> list[str]:
    """Rules whose angles a reader cannot tell apart, being within half a degree at every step, block by block."""
    found = []
    for block, of in angles.groupby("layer", sort=False):
        means = of.pivot(index="step", columns="rule", values="mean").dropna(axis="columns")
        here = [rule for rule in rules if rule in means]
        for first in here:
            group = [rule for rule in here if (means[rule] - means[first]).abs().max() < 0.5]
            if len(group) > 1 and group[0] == first:
                found.append(f"{', '.join(group)} at {block}")
    return found


def _caption(table: pd.DataFrame, seeds: dict[str, int]) -> str:
    angles = table[table["metric"] == "angle"]
    none = [rule for rule in seeds if not (angles.loc[angles["rule"] == rule, "seeds"] > 0).any()]
    blocks = dict.fromkeys(angles.loc[angles["seeds"] > 0, "layer"])
    has = set(zip(angles["rule"], angles["layer"], strict=True))
    partly = [f"{r} at {b}" for r in seeds if r not in none for b in blocks if (r, b) not in has]
    some = table[(table["undefined"] > 0) & (table["seeds"] > 0)]
    gone = table[(table["seeds"] == 0) & ~table["rule"].isin(none)]
    lost = dict.fromkeys(f"{r.rule} {r.layer or 'accuracy'}" for r in pd.concat([some, gone]).itertuples())
    single = [rule for rule, count in seeds.items() if count == 1]
    return sentences(
        [
            f"Validation accuracy and angle between each rule's direction and the true gradient, per block, by "
            f"training step; {seed_words(seeds)}. Line: mean over seeds; band: from the lowest to the highest seed.",
            "The axis is logarithmic from the first measured step on; step 0 stands to its left.",
            "Dashed: 90°, no alignment." if len(angles) else "No angle was recorded.",
            f"No band, with one seed: {listed(single)}." if single else "",
            f"No angle is defined for {listed(none)}." if none and len(angles) else "",
            f"No angle was recorded for {listed(partly)}." if partly else "",
            f"Curves that lie on each other: {'; '.join(same)}." if (same := coinciding(angles, list(seeds))) else "",
            f"Undefined at some steps or seeds, and left out of mean and band: {listed(lost)}." if lost else "",
        ]
    )
