"""Figures of the course of training show the numbers they were given, and say what a reader must know."""

import itertools

import numpy as np
import pytest
from matplotlib.path import Path
from tables import SIX, course, paths

from lab.errors import LabError
from lab.figures import dynamics
from lab.figures import paths as path_figure
from lab.figures.paths import arrows
from lab.figures.style import STYLES, rule_colour


def drawn_at(figure):
    """Every point of every line, over all panels."""
    return {
        (round(float(x), 9), round(float(y), 9))
        for ax in figure.axes
        for line in ax.lines
        for x, y in zip(np.atleast_1d(line.get_xdata()), np.atleast_1d(line.get_ydata()), strict=True)
    }


@pytest.mark.parametrize("against", ["step", "loss", "accuracy"])
def test_dynamics_plot_every_number_of_the_rows(neurips, against):
    rows = course(["bp", "fa", "dfa"], against=against)
    drawn = dynamics.draw(rows, neurips, against)
    points, table = drawn_at(drawn.figure), drawn.table
    for row in rows.to_dict("records"):
        a, b = row[f"{against}_a"], row[f"{against}_b"]
        x = a if against == "step" else row["point"] - rows["point"].min()  # points in their order
        for name in ("between", "same_start", "ceiling_a", "ceiling_b"):
            assert (round(x, 9), round(row[name], 9)) in points, name
        here = table[(table["rule_a"] == row["rule_a"]) & (table["rule_b"] == row["rule_b"])]
        here = here[
            (here["layer"] == row["layer"]) & (here["step_a"] == row["step_a"]) & (here["quantity"] == "between")
        ]
        (line,) = here.to_dict("records")
        assert (line["value"], line["low"], line["high"]) == tuple(
            row[f"between{end}"] for end in ("", "_low", "_high")
        )
        assert (line["x"], line["at_a"], line["at_b"]) == (x, a, b)
    assert len(drawn.figure.axes) == 6


@pytest.mark.parametrize(
    ("against", "above", "below"),
    [
        ("loss", ["0.69", "0.21", "0.062", "0.019"], ["0.71", "0.23", "0.082", "0.039"]),
        ("accuracy", ["10.0", "30.0", "50.0", "70.0", "90.0"], ["8.0", "28.0", "48.0", "68.0", "88.0"]),
    ],
)
def test_under_every_point_stands_how_far_both_rules_are(neurips, against, above, below):
    ax = dynamics.draw(course(against=against), neurips, against).figure.axes[0]
    ax.figure.draw_without_rendering()
    shown = [[label for label in ax.xaxis.get_ticklabels(minor=minor) if label.get_text()] for minor in (False, True)]
    assert [[label.get_text() for label in line] for line in shown] == [above, below]
    assert [{label.get_color() for label in line} for line in shown] == [{rule_colour("bp")}, {rule_colour("fa")}]
    top, bottom = (line[0].get_window_extent() for line in shown)
    assert top.y0 >= bottom.y1 - 0.25 * bottom.height  # one line below the other
    assert top.x0 + top.width / 2 == pytest.approx(bottom.x0 + bottom.width / 2, abs=1)


@pytest.mark.parametrize("style", ["neurips", "icml", "nature", "slides"])
def test_numbers_under_points_do_not_overlap(style):
    rows = course(["bp", "fa"], against="accuracy", steps=(0, 10, 100, 468, 936, 1872, 3744, 8580))
    figure = dynamics.draw(rows, STYLES[style], "accuracy").figure
    figure.draw_without_rendering()
    for ax in figure.axes:
        for minor in (False, True):
            boxes = [label.get_window_extent() for label in ax.xaxis.get_ticklabels(minor=minor) if label.get_text()]
            assert len(boxes) > 2
            assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_points_whose_rules_are_not_equally_far_stand_on_grey(neurips):
    rows = course(against="accuracy")
    rows.loc[rows["point"] == 3, "accuracy_b"] -= 0.05
    drawn = dynamics.draw(rows, neurips, "accuracy")
    grounds = [patch.get_extents() for patch in drawn.figure.axes[0].patches if patch.get_facecolor()[0] == 0xED / 255]
    left, right = (drawn.figure.axes[0].transData.transform([x, 0])[0] for x in (2.5, 3.5))
    ((x0, x1),) = [(ground.x0, ground.x1) for ground in grounds]
    assert (x0, x1) == pytest.approx((left, right))
    assert set(drawn.table.loc[drawn.table["apart"], "at_a"]) == {rows.loc[rows["point"] == 3, "accuracy_a"].iloc[0]}
    assert "leaves up to 7.0 points between them. Grey: over 2 points apart, no match." in drawn.caption
    (legend,) = drawn.figure.legends
    assert "over 2 points apart" in [text.get_text() for text in legend.get_texts()]


def test_how_many_stimuli_and_seeds_stands_in_the_figure(neurips):
    (legend,) = dynamics.draw(course(), neurips).figure.legends
    assert legend.get_title().get_text() == "n = 1000 stimuli, 4 seeds per rule"
    (legend,) = path_figure.draw(*paths(), neurips).figure.legends
    assert legend.get_title().get_text() == "angular-procrustes, n = 1000 stimuli, 3 seeds per rule"


@pytest.mark.parametrize(
    ("steps", "numbers"),
    [
        ((0, 10, 62), ["0", "10", "62"]),
        ((0, 10, 100, 469, 938, 1876, 3752, 9380), ["0", "10", "100", "1k", "9380"]),
        ((0, 10, 100, 1000, 1100), ["0", "10", "100", "1.1k"]),  # no room for 1k beside the last
    ],
)
def test_the_last_step_has_its_number(neurips, steps, numbers):
    ax = dynamics.draw(course(steps=steps), neurips).figure.axes[0]
    ax.figure.draw_without_rendering()
    shown = ax.xaxis.get_ticklabels()
    assert [label.get_text() for label in shown] == numbers
    boxes = [label.get_window_extent() for label in shown]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_no_number_stands_where_the_measure_has_no_value(neurips):
    rows = course()
    ends = [name for name in rows if name.endswith(("_low", "_high"))]
    rows[ends] = rows[ends].clip(0, 1)
    rows.loc[0, ["same_start", "same_start_low", "same_start_high"]] = 1.0
    rows.loc[0, ["ceiling_a", "ceiling_a_low", "ceiling_a_high"]] = 0.01
    ax = dynamics.draw(rows, neurips).figure.axes[0]
    assert min(ax.get_yticks()) >= 0
    assert max(ax.get_yticks()) == pytest.approx(1)


def test_the_caption_of_dynamics(neurips):
    caption = dynamics.draw(course(SIX, seeds=4, layers=("dense1",)), neurips).caption
    assert (
        "debiased-cka (similarity: larger is more alike) over training, n = 1000 stimuli; 4 seeds per rule." in caption
    )
    assert "Every rule is shown against bp." in caption
    assert "95 % intervals over seeds, the unit of the experiment" in caption
    assert "No null is drawn" in caption
    assert "No interval is defined for bp–fa, bp, fa." in dynamics.draw(course(seeds=2), neurips).caption
    matched = dynamics.draw(course(against="accuracy"), neurips, "accuracy").caption
    assert "as near in validation accuracy as stored steps come, which leaves up to 2.0 points between them" in matched
    assert "over the accuracy of the rule on the left and, below, of the other." in matched
    assert "Grey" not in matched


def test_what_is_undefined_along_the_course_is_named(neurips):
    rows = course()
    ends = [f"ceiling_b{end}" for end in ("", "_low", "_high")]
    rows.loc[(rows["layer"] == "dense2") & (rows["step_a"] > 10), ends] = np.nan
    drawn = dynamics.draw(rows, neurips)
    assert "Undefined and not drawn: same rule, other seed of fa at dense2." in drawn.caption
    rows[[c for c in rows if rows[c].dtype == float and not c.startswith(("loss", "accuracy"))]] = np.nan
    dynamics.draw(rows, neurips).figure.draw_without_rendering()


def test_every_network_has_its_path_from_start_to_end(neurips):
    checkpoints, maps = paths(["bp", "fa"], seeds=3)
    drawn = path_figure.draw(checkpoints, maps, neurips)
    assert len(drawn.table) == len(checkpoints)
    drawn.figure.draw_without_rendering()
    for ax, layer in zip(drawn.figure.axes, ("dense1", "dense2"), strict=True):
        here = checkpoints[checkpoints["layer"] == layer]
        whole = [line for line in ax.lines if len(line.get_xdata()) > 1]
        single = [(line.get_xdata()[0], line.get_ydata()[0], line) for line in ax.lines if len(line.get_xdata()) == 1]
        assert len(whole) == 6
        for (rule, _), of in here.groupby(["rule", "seed"], sort=False):
            (line,) = [line for line in whole if line.get_xdata()[-1] == of["x"].iloc[-1]]
            assert line.get_color() == rule_colour(rule)
            np.testing.assert_array_equal(np.column_stack([line.get_xdata(), line.get_ydata()]), of[["x", "y"]])
            (end,) = [mark for x, y, mark in single if (x, y) == tuple(of[["x", "y"]].iloc[-1])]
            assert end.get_color() == rule_colour(rule)
            starts = [mark for x, y, mark in single if (x, y) == tuple(of[["x", "y"]].iloc[0])]
            assert {mark.get_markerfacecolor() for mark in starts} == {"white"}
        x, y = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
        box, (across, high) = ax.get_position(), drawn.figure.get_size_inches()
        assert box.height * high / (box.width * across) == pytest.approx(y / x, rel=1e-6)  # one scale on both axes
        assert ax.get_xlim()[0] < here["x"].min() < here["x"].max() < ax.get_xlim()[1]
        assert ax.get_ylim()[0] < here["y"].min() < here["y"].max() < ax.get_ylim()[1]
        assert "stress 0.12" in [text.get_text() for text in ax.texts]


def test_arrowheads_on_a_path_point_forward_in_time(neurips):
    """A path right, then a hair's breadth up, then down: two heads, in the middle of the legs with room for one."""
    assert arrows(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.01], [1.0, -0.99]]), 0.08) == [
        (0.5, 0.0, 1.0, 0.0),
        (1.0, -0.49, 0.0, -1.0),
    ]
    checkpoints, maps = paths(["bp"], seeds=1, layers=("dense1",), steps=(0, 10))
    ax = path_figure.draw(checkpoints, maps, neurips).figure.axes[0]
    (head,) = [line for line in ax.lines if isinstance(line.get_marker(), Path)]
    tip = head.get_marker().vertices[1]
    (start, end) = checkpoints[["x", "y"]].to_numpy()
    assert tip / np.linalg.norm(tip) == pytest.approx((end - start) / np.linalg.norm(end - start))
    assert (head.get_xdata()[0], head.get_ydata()[0]) == pytest.approx(tuple((start + end) / 2))
    assert head.get_color() == rule_colour("bp")


def test_the_caption_of_paths(neurips):
    checkpoints, maps = paths()
    caption = path_figure.draw(checkpoints, maps, neurips).caption
    assert "all 4 stored steps (0, 10, 46, 92) on n = 1000 stimuli" in caption
    assert "3 seeds per rule" in caption
    assert "dense1: stress 0.120, negative eigenvalues 1.0 % of the absolute sum, two axes explain 60 %" in caption
    assert "mislead" not in caption
    maps.loc[1, "stress"] = 0.3
    checkpoints.loc[(checkpoints["rule"] == "fa") & (checkpoints["seed"] == 1), ["x", "y"]] = np.nan
    caption = path_figure.draw(checkpoints, maps, neurips).caption
    assert "Stress above 0.2 at dense2: distances there mislead" in caption
    assert "Undefined and not drawn: fa seed 1 at dense1, fa seed 1 at dense2." in caption


def test_paths_without_a_map_are_refused(neurips):
    checkpoints, maps = paths()
    with pytest.raises(LabError, match="nothing to draw"):
        path_figure.draw(checkpoints, maps.assign(stress=np.nan), neurips)
    with pytest.raises(LabError, match="a figure shows one measure"):
        path_figure.draw(checkpoints, maps.assign(measure=["shape", "procrustes"]), neurips)
