"""How figures look: the measures of a page per venue, and one fixed colour, marker and line per rule everywhere."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Style:
    """The measures of one venue.

    Attributes:
        name: as the user calls it.
        width_in: exact width of every figure, in inches.
        max_height_in: no figure is higher.
        height_in: exact height where the page is fixed (slides); None where content decides.
        font_pt: axis labels and panel titles.
        small_pt: tick labels, legends and rule names.
        line_pt: a curve. thin_pt: axes, ticks and error bars. marker_pt: diameter of a marker.
        panel_in: the narrowest panel in which this font is readable, in inches.
        grid: faint grid lines behind curves (Nature forbids them).
    """

    name: str
    width_in: float
    max_height_in: float
    height_in: float | None
    font_pt: float
    small_pt: float
    line_pt: float
    thin_pt: float
    marker_pt: float
    panel_in: float
    grid: bool

    @property
    def hatch(self) -> str:
        """Strokes for what is undefined, about as dense on a slide as in a column."""
        return "/" * max(2, round(54 / self.font_pt))


STYLES = {
    style.name: style
    for style in (
        Style("neurips", 5.5, 8.0, None, 9, 8, 1.2, 0.6, 3.6, 1.25, True),
        Style("icml", 3.25, 8.5, None, 8, 7, 1.0, 0.5, 3.0, 1.1, True),
        Style("nature", 89 / 25.4, 170 / 25.4, None, 7, 6, 1.0, 0.5, 3.0, 1.0, False),
        Style("slides", 40 / 3, 7.5, 7.5, 20, 15, 2.8, 1.3, 9.0, 2.6, True),
    )
}
"""Style name -> its measures: a column or text width and the type size of the venue."""

FAMILIES = ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans")
"""Wanted typefaces; only installed ones are asked for, and the last comes with matplotlib."""


@cache
def _installed_families() -> tuple[str, ...]:
    from matplotlib import font_manager

    # Only TrueType can be embedded as TrueType; a PostScript Helvetica would become another font in the PDF.
    there = {font.name for font in font_manager.fontManager.ttflist if font.fname.lower().endswith(".ttf")}
    return tuple(name for name in FAMILIES if name in there)


def rc(style: Style) -> dict[str, Any]:
    """Matplotlib settings of a style, for `matplotlib.rc_context`; nothing global is changed."""
    return {
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "credit-lab",  # else ids in an SVG are random
        "font.family": "sans-serif",
        "font.sans-serif": list(_installed_families()),
        "mathtext.fontset": "dejavusans",
        "text.usetex": False,
        "font.size": style.font_pt,
        "axes.titlesize": style.font_pt,
        "axes.labelsize": style.font_pt,
        "xtick.labelsize": style.small_pt,
        "ytick.labelsize": style.small_pt,
        "legend.fontsize": style.small_pt,
        "legend.title_fontsize": style.small_pt,
        "legend.frameon": False,
        "legend.borderpad": 0.2,
        "legend.handlelength": 1.8,
        "legend.handletextpad": 0.5,
        "legend.labelspacing": 0.3,
        "legend.columnspacing": 1.2,
        "lines.linewidth": style.line_pt,
        "lines.markersize": style.marker_pt,
        "lines.markeredgewidth": style.thin_pt,
        "hatch.linewidth": style.thin_pt,
        "axes.linewidth": style.thin_pt,
        "axes.labelpad": 0.28 * style.font_pt,
        "axes.titlepad": 0.4 * style.font_pt,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "axes.axisbelow": True,
        "grid.color": "#E3E3E3",
        "grid.linewidth": style.thin_pt,
        **{f"{x}tick.major.width": style.thin_pt for x in "xy"},
        **{f"{x}tick.minor.width": 0.7 * style.thin_pt for x in "xy"},
        **{f"{x}tick.major.size": 0.3 * style.font_pt for x in "xy"},
        **{f"{x}tick.minor.size": 0.17 * style.font_pt for x in "xy"},
        **{f"{x}tick.major.pad": 0.22 * style.font_pt for x in "xy"},
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.w_pad": 0.24 * style.font_pt / 72,
        "figure.constrained_layout.h_pad": 0.24 * style.font_pt / 72,
        "figure.dpi": 100,
        "savefig.dpi": 300,
        "savefig.bbox": None,  # "tight" would crop the figure to another width than the column's
    }


@contextmanager
def drawing(style: Style) -> Iterator[None]:
    """Within, matplotlib draws in this style and nothing of the user's own matplotlibrc shows."""
    import matplotlib.style

    with matplotlib.style.context(["default", rc(style)]):
        yield


RULE_LOOKS = {
    "bp": ("#0072B2", "o"),
    "fa": ("#E69F00", "s"),
    "dfa": ("#009E73", "^"),
    "es": ("#D55E00", "D"),
    "ff": ("#CC79A7", "v"),
    "frozen": ("#5A5A5A", "P"),
    "untrained": ("#000000", "X"),
}
"""Rule -> colour and marker; colours by Okabe and Ito (Wong 2011), and grey, told apart by colour-blind readers."""

OTHER_COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#661100", "#882255", "#AA4499",
    "#6699CC", "#994F00", "#5D3A9B", "#1A6E6E", "#B2182B", "#7A8B00", "#40B0A6", "#D35FB7",
)  # fmt: skip
OTHER_MARKERS = ("p", "h", "<", ">", "d", "*", "8", "H")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)), (0, (6, 1, 1, 1, 1, 1)))
"""Line styles in the order in which they are used to tell apart what shares a colour."""


@dataclass(frozen=True)
class Look:
    """How a rule's curve is drawn."""

    colour: str
    marker: str
    dashes: Any


def base_name(label: str) -> str:
    """`fa` of `fa`, `fa(scale=0.5)` and `fa [optimizer=adam(0.01)]`."""
    return label.split("[")[0].split("(")[0].strip()


def _look(name: str) -> Look:
    if name in RULE_LOOKS:
        return Look(*RULE_LOOKS[name], DASHES[0])
    # A checksum, not a counter: a rule looks the same whatever else is in the figure, and `hash` differs per process.
    rest, colour = divmod(zlib.crc32(name.encode()), len(OTHER_COLOURS))
    rest, marker = divmod(rest, len(OTHER_MARKERS))
    return Look(OTHER_COLOURS[colour], OTHER_MARKERS[marker], DASHES[rest % len(DASHES)])


def rule_colour(label: str) -> str:
    """The one colour of a rule in all figures."""
    return _look(base_name(label)).colour


def rule_marker(label: str) -> str:
    """The one marker of a rule in all figures."""
    return _look(base_name(label)).marker


def looks(labels: list[str]) -> dict[str, Look]:
    """Label -> look. Variants of one rule in one figure share its colour and marker and differ in their dashes."""
    found: dict[str, Look] = {}
    for label in labels:
        plain = _look(base_name(label))
        earlier = [look.dashes for look in found.values() if (look.colour, look.marker) == (plain.colour, plain.marker)]
        free = [dashes for dashes in (plain.dashes, *DASHES) if dashes not in earlier]
        found[label] = Look(plain.colour, plain.marker, free[0] if free else plain.dashes)
    return found
