"""Colours that are the same everywhere and can be told apart, and settings that leave nothing behind."""

import itertools

import matplotlib
import numpy as np
import pytest
from tables import SIX, comparison, course, metrics, paths, spectra

from lab.cli.figure import STYLE_NAMES
from lab.figures import dynamics, layers, learning, similarity, spectrum
from lab.figures import paths as path_figure
from lab.figures.style import OTHER_COLOURS, RULE_LOOKS, STYLES, drawing, looks, rc, rule_colour, rule_marker

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SEEN_BY = {
    "all cones": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
LEAST = {"all cones": 30.0, "deuteranopia": 15.0, "protanopia": 15.0}
"""Least distance of two rules' colours in CIELAB; 2.3 is just noticeable side by side."""


def linear(colour):
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def cielab(rgb):
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    t = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", SEEN_BY)
def test_rules_can_be_told_apart_by_colour(eye):
    colours = [colour for colour, _ in RULE_LOOKS.values()]
    seen = [cielab(SEEN_BY[eye] @ linear(colour)) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= LEAST[eye]


@pytest.mark.parametrize("colour", [*OTHER_COLOURS, *(colour for colour, _ in RULE_LOOKS.values())])
def test_colours_stand_out_from_paper(colour):
    assert np.linalg.norm(cielab(linear(colour)) - cielab(np.ones(3))) > 25


def test_a_rule_looks_the_same_whatever_its_label():
    for label in ("fa", "fa(scale=0.5)", "fa [optimizer=adam(0.01)]", "fa [rule=fa(scale=2.0), epochs=3]"):
        assert (rule_colour(label), rule_marker(label)) == RULE_LOOKS["fa"]


def test_unknown_rules_have_a_fixed_look_of_their_own():
    assert (rule_colour("pepita"), rule_marker("pepita")) == ("#332288", "*")  # pinned: printed figures rely on it
    names = [
        "sign",
        "kp",
        "wm",
        "drtp",
        "pepita",
        "ep",
        "pc",
        "tp",
        "dtp",
        "dni",
        "hebb",
        "oja",
        "hsic",
        "gim",
        "lm",
        "cl",
    ]
    found = looks([*RULE_LOOKS, *names])
    assert len({(look.colour, look.marker, str(look.dashes)) for look in found.values()}) == len(found)
    assert not {look.colour for name, look in found.items() if name in names} & {c for c, _ in RULE_LOOKS.values()}


def test_variants_of_a_rule_share_colour_and_differ_in_dashes():
    found = looks(["bp", "fa [epochs=1]", "fa [epochs=2]", "fa [epochs=3]"])
    variants = [look for label, look in found.items() if label.startswith("fa")]
    assert {look.colour for look in variants} == {rule_colour("fa")}
    assert len({str(look.dashes) for look in variants}) == 3


def colours_in(figure):
    """Every line and face colour of a figure, in hex."""
    found = set()
    for artist in figure.findobj():
        for name in ("get_color", "get_facecolor"):
            if not hasattr(artist, name):
                continue
            value = getattr(artist, name)()
            values = [value] if isinstance(value, str | tuple) else list(value)
            for one in values:
                if matplotlib.colors.is_color_like(one):
                    found.add(matplotlib.colors.to_hex(one).upper())
    return found


def test_a_rule_has_one_colour_in_every_figure(neurips):
    rules = ["bp", "es", "ff"]
    pairs, rows = comparison(rules, seeds=3)
    figures = [
        similarity.draw(pairs, rows, neurips),
        layers.draw(pairs, rows, neurips),
        dynamics.draw(course(rules), neurips),
        path_figure.draw(*paths(rules), neurips),
        learning.draw(metrics(rules), neurips),
        spectrum.draw(*spectra(rules), neurips, 100),
    ]
    wanted = {rule_colour(rule) for rule in rules}
    others = {colour for rule, (colour, _) in RULE_LOOKS.items() if rule not in rules} - {"#000000"}
    for drawn in figures:
        found = colours_in(drawn.figure)
        assert wanted <= found
        assert not others & found


def test_the_users_settings_neither_leak_in_nor_out():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"lines.linewidth": 17.0, "axes.facecolor": "red"}):
        with drawing(STYLES["icml"]):
            assert matplotlib.rcParams["lines.linewidth"] == STYLES["icml"].line_pt
            assert matplotlib.rcParams["axes.facecolor"] == "white"
        assert matplotlib.rcParams["lines.linewidth"] == 17.0
    assert dict(matplotlib.rcParams) == before


def test_drawing_leaves_pyplot_alone(neurips):
    from matplotlib import _pylab_helpers

    learning.draw(metrics(), neurips)
    assert not _pylab_helpers.Gcf.figs


def test_styles_and_their_settings(style):
    with matplotlib.rc_context(rc(style)):
        assert matplotlib.rcParams["font.size"] == style.font_pt
        assert matplotlib.rcParams["savefig.bbox"] is None
    assert style.small_pt >= 5  # what Nature asks for at least
    assert tuple(STYLES) == STYLE_NAMES


@pytest.mark.parametrize(("name", "count"), [*((name, 6) for name in STYLES), ("neurips", 2)])
def test_nothing_is_cut_off_in_any_style(name, count):
    style, rules = STYLES[name], SIX[:count]
    pairs, rows = comparison(rules, seeds=2)
    figures = [
        similarity.draw(pairs, rows, style),
        layers.draw(pairs, rows, style),
        dynamics.draw(course(rules, against="accuracy"), style, "accuracy"),
        path_figure.draw(*paths(rules), style),
        learning.draw(metrics(rules, seeds=2), style),
        spectrum.draw(*spectra(rules, seeds=2, layers=(("dense1", 40), ("dense2", 20))), style, 100),
    ]
    for drawn in figures:
        with drawing(style):
            drawn.figure.draw_without_rendering()
            box, (width, height) = drawn.figure.get_tightbbox(), drawn.figure.get_size_inches()
        assert width == pytest.approx(style.width_in, abs=1e-9)
        assert height <= style.max_height_in + 1e-9
        assert box.x0 > -0.01
        assert box.y0 > -0.01
        assert box.x1 < width + 0.01
        assert box.y1 < height + 0.01
