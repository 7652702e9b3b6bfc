"""A figure shows the numbers it was given, all of them and no others, and says what a reader must know."""

import numpy as np
import pandas as pd
import pytest
from tables import SIX, comparison, metrics, spectra

from lab.errors import LabError
from lab.figures import layers, learning, similarity, spectrum
from lab.figures.drawn import short, wrapped


def colour_of(mesh, value):
    return tuple(mesh.cmap(mesh.norm(value)))


def test_similarity_cells_are_the_pairs_mirrored(neurips):
    pairs, rows = comparison(["bp", "fa"], seeds=3)
    drawn = similarity.draw(pairs, rows, neurips, ["bp", "fa"])
    pd.testing.assert_frame_equal(drawn.table, pairs)
    drawn.figure.draw_without_rendering()
    mesh = drawn.figure.axes[0].collections[0]
    shown = np.ma.filled(mesh.get_array(), np.nan).reshape(6, 6)
    assert np.isnan(np.diag(shown)).all()
    here = pairs[pairs["layer"] == "dense1"]
    nets = [(rule, seed) for rule in ("bp", "fa") for seed in range(3)]
    for row in here[here["kind"] != "untrained"].itertuples():
        i, j = nets.index((row.rule_a, row.seed_a)), nets.index((row.rule_b, row.seed_b))
        assert shown[i, j] == shown[j, i] == row.value
    start = np.ma.filled(drawn.figure.axes[0].collections[1].get_array(), np.nan).ravel()
    assert start.tolist() == here.loc[here["kind"] == "untrained", "value"].tolist()


def test_similarity_panels_share_one_scale(neurips):
    pairs, rows = comparison(SIX, seeds=2, layers=("conv1", "conv2", "dense1"))
    figure = similarity.draw(pairs, rows, neurips).figure
    scales = {(m.norm.vmin, m.norm.vmax) for ax in figure.axes[:3] for m in ax.collections[:2]}
    assert len(scales) == 1
    low, high = scales.pop()
    assert low <= pairs["value"].min()
    assert high >= pairs["value"].max()


def test_bright_is_alike_for_similarities_and_distances(neurips):
    alike, unlike = [], []
    for direction in ("similarity", "distance"):
        pairs, rows = comparison(seeds=3, direction=direction)
        drawn = similarity.draw(pairs, rows, neurips)
        mesh = drawn.figure.axes[0].collections[0]
        order = np.sort(pairs["value"])[:: 1 if direction == "similarity" else -1]
        unlike.append(sum(colour_of(mesh, order[0])[:3]))
        alike.append(sum(colour_of(mesh, order[-1])[:3]))
        assert f"({direction}: " in drawn.caption
        assert f"({direction}: " in drawn.figure.axes[-1].get_ylabel()
    assert min(alike) > max(unlike)


def test_layers_plots_every_number_of_the_rows(neurips):
    pairs, rows = comparison(["bp", "fa", "dfa"], seeds=4)
    drawn = layers.draw(pairs, rows, neurips)
    table = drawn.table
    for row in rows.to_dict("records"):
        here = table[
            (table["rule_a"] == row["rule_a"]) & (table["rule_b"] == row["rule_b"]) & (table["layer"] == row["layer"])
        ]
        for quantity in ("between", "same_start"):
            line = here[here["quantity"] == quantity].iloc[0]
            assert (line["value"], line["low"], line["high"]) == tuple(
                row[quantity + end] for end in ("", "_low", "_high")
            )
        for side in "ab":
            of = here[here["of"] == row[f"rule_{side}"]].set_index("quantity")
            assert of.loc["ceiling", "value"] == row[f"ceiling_{side}"]
            assert of.loc["untrained", "low"] == row[f"untrained_{side}_low"]
        assert here.loc[here["quantity"] == "null_within", "value"].item() == row["null_within"]
    between = pairs[pairs["kind"] == "between"]
    single = table[table["quantity"].str.startswith("one pair")]
    assert sorted(single["value"]) == sorted(between["value"])
    drawn_points = {y for ax in drawn.figure.axes for line in ax.lines for y in np.atleast_1d(line.get_ydata())}
    assert set(between["value"]) | set(rows["between"]) | set(rows["untrained_a"]) <= drawn_points


@pytest.mark.parametrize(("rules", "panels"), [(["bp", "fa"], 1), (["bp", "fa", "dfa"], 3), (SIX, 5)])
def test_many_rules_are_shown_against_the_first(neurips, rules, panels):
    pairs, rows = comparison(rules, seeds=3)
    drawn = layers.draw(pairs, rows, neurips, rules)
    assert len(drawn.table[["rule_a", "rule_b"]].drop_duplicates()) == panels
    assert ("against bp" in drawn.caption) == (len(rules) > 3)


def test_another_reference_can_be_named_first(neurips):
    pairs, rows = comparison(SIX, seeds=3)
    drawn = layers.draw(pairs, rows, neurips, ["ff", "bp", "fa", "dfa", "es", "frozen"])
    shown = drawn.table[["rule_a", "rule_b"]].drop_duplicates()
    assert len(shown) == 5
    assert ((shown["rule_a"] == "ff") | (shown["rule_b"] == "ff")).all()
    assert "against ff" in drawn.caption


def test_learning_is_mean_and_range_over_seeds(neurips):
    table = metrics(["bp", "fa"], seeds=4)
    drawn = learning.draw(table, neurips)
    for row in drawn.table.itertuples():
        here = table[(table["metric"] == row.metric) & (table["layer"] == row.layer)]
        values = here[(here["rule"] == row.rule) & (here["step"] == row.step)]["value"]
        assert row.seeds == 4
        assert row.mean == pytest.approx(values.mean(), abs=1e-12)
        assert (row.low, row.high) == (values.min(), values.max())
    assert set(drawn.table["metric"]) == {"validation_accuracy", "angle"}
    accuracy = drawn.table[(drawn.table["metric"] == "validation_accuracy") & (drawn.table["rule"] == "fa")]
    curves = [line.get_ydata().tolist() for line in drawn.figure.axes[0].lines]
    assert accuracy.sort_values("step")["mean"].tolist() in curves
    assert "lowest to the highest seed" in drawn.caption


def test_learning_has_step_zero_on_its_axis(neurips):
    ax = learning.draw(metrics(), neurips).figure.axes[0]
    assert ax.get_xscale() == "symlog"
    assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1]
    assert 0 in ax.get_xticks()


def test_learning_without_training_or_angles(neurips):
    table = metrics(["bp"], seeds=1)
    table = table[(table["step"] == 0) & (table["metric"] == "validation_accuracy")]
    drawn = learning.draw(table, neurips)
    assert "No angle was recorded" in drawn.caption
    assert "No band, with one seed: bp" in drawn.caption
    with pytest.raises(LabError, match="nothing to draw"):
        learning.draw(table[table["metric"] == "none"], neurips)


def test_spectrum_is_mean_and_range_with_the_exponent(neurips):
    curves, fits = spectra(["bp", "fa"], seeds=3)
    drawn = spectrum.draw(curves, fits, neurips, n=500)
    line = drawn.table.query("layer == 'dense2' and rule == 'fa' and index == 7").iloc[0]
    values = curves.query("layer == 'dense2' and rule == 'fa' and index == 7")["eigenvalue"]
    found = fits.query("layer == 'dense2' and rule == 'fa'")["exponent"]
    assert line["mean"] == pytest.approx(values.mean(), abs=1e-15)
    assert (line["low"], line["high"]) == (values.min(), values.max())
    assert (line["exponent"], line["exponent_sd"]) == pytest.approx((found.mean(), found.std(ddof=1)))
    texts = [text.get_text() for ax in drawn.figure.axes if ax.get_legend() for text in ax.get_legend().get_texts()]
    assert f"fa: {found.mean():.2f} ± {found.std(ddof=1):.2f}" in texts
    assert "n = 500 stimuli; 3 seeds per rule" in drawn.caption
    assert "(11–64)" in drawn.caption


def test_captions_of_comparisons_say_what_a_reader_needs(neurips):
    pairs, rows = comparison(["bp", "fa"], seeds=4)
    for figure in (similarity, layers):
        caption = figure.draw(pairs, rows, neurips).caption
        for said in (
            "n = 1000 stimuli",
            "4 seeds per rule",
            "global in closed form, within-class from 200 permutations",
            "debiased-cka (similarity",
            "Matched: steps",
            "98.0 %",
        ):
            assert said in caption
    assert "95 % intervals over seeds" in caption


def test_captions_count_seeds_per_rule_and_what_diverged(neurips):
    pairs, rows = comparison(["bp", "es"], seeds=4)
    gone = (pairs["rule_a"] == "es") & (pairs["seed_a"] == 3) | (pairs["rule_b"] == "es") & (pairs["seed_b"] == 3)
    rows = rows.assign(seeds_a=4, seeds_b=3, diverged_a=0, diverged_b=1)
    for figure in (similarity, layers):
        caption = figure.draw(pairs[~gone], rows, neurips).caption
        assert "seeds: bp 4, es 3" in caption
        assert "Diverged and not compared: 1 of es." in caption


def test_a_figure_shows_one_measure(neurips):
    pairs, rows = comparison()
    both = pd.concat([pairs, pairs.assign(measure="rsa")])
    with pytest.raises(LabError, match="one measure"):
        similarity.draw(both, rows, neurips)
    with pytest.raises(LabError, match="nothing to draw"):
        similarity.draw(pairs.iloc[:0], rows, neurips)


def test_labels_are_shortened_without_losing_what_differs():
    assert short("fa [optimizer=adam(0.01), epochs=5]") == "fa [adam(0.01), epochs=5]"
    assert wrapped("fa [optimizer=adam(0.01)]") == "fa\n[adam(0.01)]"
    assert wrapped("frozen") == "frozen"


def test_long_rule_names_are_numbers_with_a_key_below_the_squares(neurips):
    long = ("bp [optimizer=adam(0.001), epochs=2]", "bp [optimizer=sgd(0.1), epochs=1]")
    figure = similarity.draw(*comparison(rules=long), neurips).figure
    first = figure.axes[0]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["1", "2"]
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["1", "2", "start"]
    assert figure.get_supxlabel() == "1: bp [adam(0.001), epochs=2]\n2: bp [sgd(0.1), epochs=1]"
    assert similarity.draw(*comparison(), neurips).figure.get_supxlabel() == ""
