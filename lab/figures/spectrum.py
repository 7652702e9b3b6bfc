"""Eigenvalue spectra of the representations on logarithmic axes, with the range and exponent of the power-law fit."""

from __future__ import annotations

from typing import Any

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

ABOUT = (
    "eigenvalues of each layer's covariance, log-log, with the exponent of a power law and the range it was fitted to"
)
FLOOR = 1e-8
"""Eigenvalues below this share of the variance are rounding, and would squeeze the rest into a corner."""


def summary_of(curves: pd.DataFrame) -> pd.DataFrame:
    """Every eigenvalue over seeds: layer, rule, index, seeds, undefined, mean, low, high."""
    if curves.empty:
        raise LabError("there is nothing to draw: no run has a sound seed")
    values = curves.assign(eigenvalue=curves["eigenvalue"].astype(float)).groupby(
        ["layer", "rule", "index"], sort=False
    )
    table = values["eigenvalue"].agg(
        seeds="count", undefined=lambda v: int(v.isna().sum()), mean="mean", low="min", high="max"
    )
    return table.reset_index().astype({"seeds": int, "undefined": int})


def exponents_of(fits: pd.DataFrame) -> pd.DataFrame:
    """Exponents over seeds: their mean and standard deviation (n - 1), the fitted range, how many are undefined."""
    columns = ["layer", "rule", "fitted", "undefined_fits", "exponent", "exponent_sd", "fit_from", "fit_to", "r2"]
    lines = []
    for (layer, rule), of in fits.groupby(["layer", "rule"], sort=False):
        known = of[of["exponent"].notna()]
        sd = known["exponent"].std(ddof=1) if len(known) > 1 else np.nan
        span = known["low"].min(), known["high"].max()
        mean, r2 = known["exponent"].mean(), known["r2"].mean()
        lines.append([layer, rule, len(known), len(of) - len(known), mean, sd, *span, r2])
    return pd.DataFrame(lines, columns=columns)


def draw(curves: pd.DataFrame, fits: pd.DataFrame, style: Style, n: int) -> Drawn:
    """One panel per layer: line = mean over seeds, band = lowest to highest seed.

    Args:
        curves: rule, seed, layer, index, eigenvalue.
        fits: rule, seed, layer, exponent, low, high, r2.
        style: of the page.
        n: stimuli that the covariance was taken over.
    """
    summary, exponents = summary_of(curves), exponents_of(fits)
    with drawing(style):
        figure = _drawn(style, summary, exponents)
    table = summary.merge(exponents, on=["layer", "rule"], how="left")
    return Drawn(figure, table, _caption(curves, summary, exponents, n), style)


def _drawn(style: Style, summary: pd.DataFrame, exponents: pd.DataFrame):
    layers, rules = list(dict.fromkeys(summary["layer"])), list(dict.fromkeys(summary["rule"]))
    legend_in = 1.45 * (len(rules) + 1) * style.small_pt / 72
    room = style.width_in - 3.5 * style.font_pt / 72
    widest = (
        max(text_width_in(f"{short(rule)}: 0.00 ± 0.00", style.small_pt) for rule in rules) + 2.5 * style.small_pt / 72
    )
    columns = columns_of(len(layers), room, max(style.panel_in, widest))
    lines = -(-len(layers) // columns)
    tall = min(max(0.85 * room / columns, 1.3), 2.2)
    figure = new_figure(style, lines * (tall + legend_in + 4 * style.font_pt / 72))
    # Every other row of the grid holds the legends of the row above.
    share = (style.height_in / lines - legend_in) if style.height_in else tall + 4 * style.font_pt / 72
    grid = figure.add_gridspec(2 * lines, columns, height_ratios=[max(share, 0.1), legend_in] * lines)
    axes, first = [], None
    for k in range(len(layers)):
        axes.append(figure.add_subplot(grid[2 * (k // columns), k % columns], sharey=first))
        first = axes[0]
    look = looks(rules)
    for k, (ax, layer) in enumerate(zip(axes, layers, strict=True)):
        here = summary[summary["layer"] == layer]
        fitted = exponents[exponents["layer"] == layer].set_index("rule")
        handles = [_curve(ax, here[here["rule"] == rule], look[rule], fitted, style) for rule in rules]
        _fitted_range(ax, fitted)
        ax.set(xscale="log", yscale="log", xlabel="index")
        ax.set_title(layer)
        if k % columns == 0:
            ax.set_ylabel("share of variance")
        else:
            ax.tick_params(labelleft=False)
        below = figure.add_subplot(grid[2 * (k // columns) + 1, k % columns])
        below.axis("off")
        below.legend(handles=[h for h in handles if h], title="exponent α", loc="upper center", borderaxespad=0)
    known = summary[["low", "high"]].to_numpy(dtype=float)
    known = known[np.isfinite(known) & (known > 0)]
    if known.size:
        first.set_ylim(max(float(known.min()), FLOOR) / 1.5, float(known.max()) * 1.5)
    check_room(figure, style)
    return figure


def _curve(ax, of: pd.DataFrame, look, fitted: pd.DataFrame, style: Style) -> Any:
    """One rule's spectrum; returns the handle whose text states its exponent, or nothing where there is no curve."""
    from matplotlib.lines import Line2D

    of = of[(of["mean"] > 0)].sort_values("index")
    if of.empty:
        return None
    line = {"color": look.colour, "linestyle": look.dashes}
    ax.fill_between(
        of["index"], of["low"].clip(lower=FLOOR / 100), of["high"], color=look.colour, alpha=0.2, linewidth=0
    )
    # A few markers, evenly spaced on the logarithmic axis, so that curves can be told apart without colour.
    place = np.unique(np.searchsorted(of["index"], np.geomspace(1, of["index"].iloc[-1], 6)))
    marks = {"marker": look.marker, "markevery": place.tolist(), "markersize": style.marker_pt, "markeredgewidth": 0}
    ax.plot(of["index"], of["mean"], **line, **marks)
    rule = of["rule"].iloc[0]
    label = f"{short(rule)}: {exponent_words(fitted.loc[rule]) if rule in fitted.index else 'no fit'}"
    return Line2D([], [], **line, marker=look.marker, markeredgewidth=0, label=label)


def exponent_words(fit: Any) -> str:
    """`1.02 ± 0.03`, without the spread where there is one seed; `undefined` where no seed could be fitted."""
    if not np.isfinite(fit["exponent"]):
        return "undefined"
    return f"{fit['exponent']:.2f}" + (f" ± {fit['exponent_sd']:.2f}" if np.isfinite(fit["exponent_sd"]) else "")


def _fitted_range(ax, fitted: pd.DataFrame) -> None:
    if fitted["fit_from"].notna().any():
        ax.axvspan(fitted["fit_from"].min(), fitted["fit_to"].max(), facecolor="#EDEDED", linewidth=0, zorder=0)


def _caption(curves, summary: pd.DataFrame, exponents: pd.DataFrame, n: int) -> str:
    seeds = {rule: int(of["seed"].nunique()) for rule, of in curves.groupby("rule", sort=False)}
    ranges = {
        layer: f"{int(of['fit_from'].min())}–{int(of['fit_to'].max())}"
        for layer, of in exponents.groupby("layer", sort=False) if of["fit_from"].notna().any()
    }  # fmt: skip
    same = set(ranges.values())
    told = same.pop() if len(same) == 1 else ", ".join(f"{layer} {span}" for layer, span in ranges.items())
    unfit = [f"{r.rule} at {r.layer} ({r.undefined_fits} of {r.undefined_fits + r.fitted})"
             for r in exponents.itertuples() if r.undefined_fits]  # fmt: skip
    low = summary["mean"] <= 0
    below = summary[(summary["mean"] < FLOOR) & ~low]
    r2 = exponents["r2"].min()
    return sentences(
        [
            f"Eigenvalues of the covariance of each layer's activations, as shares of its variance, on n = {n} "
            f"stimuli; {seed_words(seeds)}. Line: mean over seeds; band: from the lowest to the highest seed.",
            f"α: exponent of a power law fitted to the shaded indices ({told}), mean ± standard deviation over seeds"
            + (f"; lowest mean r² {r2:.2f}." if r2 == r2 else ".") if ranges else "No exponent could be fitted.",
            f"Exponent undefined for {listed(unfit)}." if unfit else "",
            f"Not drawn, being zero or undefined: {int(low.sum() + summary['mean'].isna().sum())} means."
            if low.any() or summary["mean"].isna().any() else "",
            f"{len(below)} means below {FLOOR:g} lie outside the axis." if len(below) else "",
        ]
    )  # fmt: skip
