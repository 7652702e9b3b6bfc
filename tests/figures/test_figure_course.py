"""Figures of the course of training show the numbers they were given, and say what a reader must know."""

import numpy as np
import pytest
from tables import SIX, course, paths

from lab.errors import LabError
from lab.figures import dynamics
from lab.figures import paths as path_figure
from lab.figures.style import rule_colour


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
        for name, x in (("between", (a + b) / 2), ("same_start", (a + b) / 2), ("ceiling_a", a), ("ceiling_b", b)):
            assert (round(x, 9), round(row[name], 9)) in points, name
        here = table[(table["rule_a"] == row["rule_a"]) & (table["rule_b"] == row["rule_b"])]
        here = here[
            (here["layer"] == row["layer"]) & (here["step_a"] == row["step_a"]) & (here["quantity"] == "between")
        ]
        (line,) = here.to_dict("records")
        assert (line["value"], line["low"], line["high"]) == tuple(
            row[f"between{end}"] for end in ("", "_low", "_high")
        )
        assert (line["x_low"], line["x_high"]) == (min(a, b), max(a, b))
    assert len(drawn.figure.axes) == 6


def test_dynamics_over_loss_run_from_high_to_low(neurips):
    drawn = dynamics.draw(course(against="loss"), neurips, "loss")
    left, right = drawn.figure.axes[0].get_xlim()
    assert left > right > 0
    assert "nearest training loss; a bar across joins the two, which differ by up to 0.02." in drawn.caption


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
    assert "nearest validation accuracy; a bar across joins the two, which differ by up to 2.0 points." in matched


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
