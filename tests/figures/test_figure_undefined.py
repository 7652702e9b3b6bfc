"""What is undefined is marked in the figure and named in its caption; no warning, no silent gap."""

import numpy as np
import pytest
from tables import comparison, metrics, spectra

from lab.errors import LabError
from lab.figures import layers, learning, similarity, spectrum

NAN = float("nan")


def hatches(figure):
    found = []
    for ax in figure.axes:
        found += [patch.get_hatch() for patch in (*ax.patches, *ax.collections) if patch.get_hatch()]
    return found


def test_missing_cells_are_hatched_and_counted(neurips):
    pairs, rows = comparison(seeds=3)
    assert not hatches(similarity.draw(pairs, rows, neurips).figure)
    pairs.loc[pairs.query("kind == 'between' and layer == 'dense2'").index[:2], "value"] = NAN
    drawn = similarity.draw(pairs, rows, neurips)
    assert len(hatches(drawn.figure)) == 1
    assert "Hatched: 2 undefined values (bp 0–fa 0 at dense2, bp 0–fa 1 at dense2)." in drawn.caption


def test_a_pair_that_was_never_computed_is_hatched_too(neurips):
    pairs, rows = comparison(seeds=3)
    drawn = similarity.draw(pairs.drop(index=pairs.query("kind == 'between'").index[0]), rows, neurips)
    assert len(hatches(drawn.figure)) == 1
    assert "Hatched: 1 undefined value (pairs not computed)." in drawn.caption


def test_all_values_missing_still_draws(neurips):
    pairs, rows = comparison(seeds=2)
    pairs["value"] = NAN
    drawn = similarity.draw(pairs, rows, neurips)
    drawn.figure.draw_without_rendering()
    assert hatches(drawn.figure)
    numbers = rows.select_dtypes(float).columns
    drawn = layers.draw(pairs, rows.assign(**dict.fromkeys(numbers, NAN)), neurips)
    drawn.figure.draw_without_rendering()
    assert "No null was computed" in drawn.caption
    assert "validation accuracy bp" not in drawn.caption


def test_two_seeds_have_no_interval_and_the_caption_says_so(neurips):
    drawn = layers.draw(*comparison(seeds=2), neurips)
    assert "No interval is defined for bp–fa, bp, fa." in drawn.caption
    assert "No interval" not in layers.draw(*comparison(seeds=3), neurips).caption


@pytest.mark.parametrize("lost", ["between", "ceiling_b"])
def test_an_undefined_quantity_is_hatched_in_its_place(neurips, lost):
    pairs, rows = comparison(seeds=4)
    rows.loc[1, [lost, f"{lost}_low", f"{lost}_high"]] = NAN
    drawn = layers.draw(pairs, rows, neurips)
    assert hatches(drawn.figure)
    assert "Undefined and not drawn" in drawn.caption
    assert "at dense2" in drawn.caption
    legends = [*drawn.figure.legends, *(ax.get_legend() for ax in drawn.figure.axes if ax.get_legend())]
    assert "undefined" in [text.get_text() for legend in legends for text in legend.get_texts()]


def test_a_rule_without_angles_is_named(neurips):
    drawn = learning.draw(metrics(["bp", "frozen"]), neurips)
    assert "No angle is defined for frozen." in drawn.caption
    assert "left out" not in drawn.caption


def test_curves_that_hide_each_other_and_blocks_without_angle_are_named(neurips):
    table = metrics(["bp", "fa"])
    same = (table["metric"] == "angle") & (table["layer"] == "output")
    table.loc[same, "value"] = 0.0
    table = table[~((table["metric"] == "angle") & (table["layer"] == "dense2") & (table["rule"] == "fa"))]
    caption = learning.draw(table, neurips).caption
    assert "Curves that lie on each other: bp, fa at output." in caption
    assert "No angle was recorded for fa at dense2." in caption


def test_seeds_that_stop_having_a_value_are_named(neurips):
    table = metrics(["bp", "es"])
    late = (
        (table["rule"] == "es")
        & (table["seed"] == 1)
        & (table["step"] > 100)
        & (table["metric"] == "validation_accuracy")
    )
    table.loc[late, "value"] = NAN
    drawn = learning.draw(table, neurips)
    assert "left out of mean and band: es accuracy." in drawn.caption
    es = drawn.table.query("rule == 'es' and metric == 'validation_accuracy'")
    assert es["undefined"].sum() == es.query("step > 100")["step"].nunique()


def test_undefined_exponents_and_zero_eigenvalues_are_named(neurips):
    curves, fits = spectra(["bp", "fa"])
    fits.loc[(fits["rule"] == "fa") & (fits["layer"] == "dense1"), ["exponent", "low", "high", "r2"]] = NAN
    curves.loc[(curves["index"] > 100) & (curves["layer"] == "dense2"), "eigenvalue"] = 0.0
    curves.loc[(curves["index"] == 250) & (curves["layer"] == "dense1"), "eigenvalue"] = 1e-20
    drawn = spectrum.draw(curves, fits, neurips, n=100)
    texts = [text.get_text() for ax in drawn.figure.axes if ax.get_legend() for text in ax.get_legend().get_texts()]
    assert "fa: undefined" in texts
    assert "Exponent undefined for fa at dense1 (3 of 3)." in drawn.caption
    assert "Not drawn, being zero or undefined: 56 means." in drawn.caption
    assert "2 means below 1e-08 lie outside the axis." in drawn.caption
    fits[["exponent", "low", "high", "r2"]] = NAN
    assert "No exponent could be fitted." in spectrum.draw(curves, fits, neurips, n=100).caption


def test_one_seed_has_no_spread(neurips):
    drawn = spectrum.draw(*spectra(seeds=1), neurips, n=100)
    assert drawn.table["exponent_sd"].isna().all()
    assert "1 seed per rule" in drawn.caption


def test_too_much_for_a_page_is_refused(neurips):
    many = [f"rule{i}" for i in range(50)]
    with pytest.raises(LabError, match="too much for one page"):
        spectrum.draw(*spectra(many, seeds=1, layers=(("dense1", 4),)), neurips, n=100)


def test_empty_ranges_have_a_scale():
    assert similarity.scale_of(np.array([NAN])) == (0.0, 1.0)
    low, high = similarity.scale_of(np.array([0.5, 0.5]))
    assert low <= 0.5 < high or low < 0.5 <= high
