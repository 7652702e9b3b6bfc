"""`lab compare`: which runs it takes, what it says beside each value, and when it must not give an interval."""

import csv
import io
import math

import numpy as np
import pandas as pd
import pytest

from lab.capture import dataset_of, observe, stimuli
from lab.cli.compare import _matched, _tests, seeds_per_rule, unmatched
from lab.cli.numbers import probability
from runs import Store

QUICK = ("--stimuli", "60", "--permutations", "20")


def test_the_table(ask, runs):
    result = ask("compare", runs["bp"], runs["fa"], *QUICK)
    first, header, line, *_ = result.stdout.splitlines()
    assert first == "debiased-cka (similarity), dense1"
    assert header.split("  ")[0] == "rules"
    for column in ("between [95 %]", "same start", "ceilings", "untrained", "global null", "within-class"):
        assert column in header
    assert line.startswith("bp - fa  ")
    assert "n = 60 test stimuli; 3 seeds per rule; intervals over seeds" in result.stdout
    assert "bp: step 10, validation accuracy " in result.stdout
    assert "Matched by nothing but the end of training." in result.stdout
    assert "debiased-cka" not in result.stderr.splitlines()[0]


def test_json_csv_and_the_stored_answer_agree(answer, ask, runs):
    found = answer("compare", runs["bp"], runs["fa"], *QUICK)
    assert (found["runs"], found["labels"]) == ([runs["bp"], runs["fa"]], ["bp", "fa"])
    (row,) = found["rows"]
    again = ask("compare", runs["bp"], runs["fa"], *QUICK, "--csv")
    assert "compared earlier: " in again.stderr
    (line,) = csv.DictReader(io.StringIO(again.stdout))
    assert float(line["between"]) == pytest.approx(row["between"], abs=1e-9)  # JSON keeps ten digits
    assert list(line) == list(row)
    assert row["paired"] is True
    assert row["seeds"] == 3
    assert row["between_low"] < row["between"] < row["between_high"]


def test_seeds_in_common_pair_networks_and_others_do_not(answer, runs):
    paired = answer("compare", runs["bp"], runs["fa"], *QUICK)["rows"][0]
    apart = answer("compare", runs["fa"], runs["later"], *QUICK)["rows"][0]
    assert (paired["paired"], apart["paired"]) == (True, False)
    assert paired["same_start"] is not None
    assert apart["same_start"] is None
    assert apart["between_low"] < apart["between"] < apart["between_high"]


def test_one_seed_gives_a_value_and_no_interval_and_says_why(answer, ask, runs):
    row = answer("compare", runs["alone"], runs["bp"], *QUICK)["rows"][0]
    assert row["between"] is not None
    assert row["between_low"] is row["between_high"] is row["ceiling_a"] is row["rule_effect_low"] is None
    assert "no interval" in row["notes"]
    said = ask("compare", runs["alone"], runs["bp"], *QUICK).stdout
    assert "note: no interval" in said
    assert "[no interval]" in said


def test_matched_by_accuracy(ask, runs):
    said = ask("compare", runs["bp"], runs["fa"], "--match", "accuracy", *QUICK).stdout
    assert "Matched by validation accuracy." in said


def test_matched_by_training_loss_where_the_loss_is_one(ask, refuse, runs, copied, tiny, answer):
    said = ask("compare", runs["bp"], runs["fa"], "--match", "loss", *QUICK).stdout
    assert "Matched by training loss." in said
    assert "training loss " in said.split("bp: step")[1].splitlines()[0]
    squared = answer("train", *tiny, "--rule", "bp(loss=mse)", "--epochs", "0", "--seeds", "1", "--store", copied)[
        "run"
    ]
    complaint = refuse(2, "compare", runs["bp"], squared, "--match", "loss", "--store", copied, *QUICK)
    assert "different losses" in complaint
    assert "match by accuracy" in complaint


def test_the_global_null_of_an_inner_product_is_not_drawn(answer, ask, runs):
    row = answer("compare", runs["bp"], runs["fa"], *QUICK)["rows"][0]
    assert (row["null_global_draws"], row["null_within_draws"]) == (0, 20)
    said = ask("compare", runs["bp"], runs["fa"], *QUICK).stdout
    assert "global in closed form, within-class from 20 permutations" in said


def test_several_measures_and_a_layer(answer, runs):
    options = ("--measure", "linear-cka", "--measure", "mutual-knn(k=5)", "--layer", "dense1")
    rows = answer("compare", runs["bp"], runs["fa"], *options, *QUICK)["rows"]
    assert [(row["measure"], row["layer"]) for row in rows] == [("linear-cka", "dense1"), ("mutual-knn(k=5)", "dense1")]


def test_functional_measures_of_two_networks(answer, ask, home, runs):
    """Agreement by hand: the share of equal predictions, between seeds, within rules, from one start."""
    rows = answer("compare", runs["bp"], runs["fa"], "-m", "agreement", *QUICK[:2])["rows"]
    (row,) = rows
    assert (row["measure"], row["layer"], row["direction"]) == ("agreement", "output", "similarity")
    assert row["layer_choice"] == "the whole network"
    shown = {}
    for name in ("bp", "fa"):
        folder = Store(home / "store").find(runs[name])
        dataset = dataset_of([folder])
        for step in (0, 10):
            scores = observe(folder, step, stimuli(dataset, 60), dataset).scores
            shown[name, step] = np.array([z.argmax(axis=1) for z in scores.values()])
    bp, fa = shown["bp", 10], shown["fa", 10]
    between = (bp[:, None] == fa[None, :]).mean(axis=2)
    off = ~np.eye(3, dtype=bool)
    within = [(x[:, None] == x[None, :]).mean(axis=2)[off].mean() for x in (bp, fa)]
    assert row["between"] == pytest.approx(between[off].mean(), abs=1e-9)
    assert row["same_start"] == pytest.approx(np.diag(between).mean(), abs=1e-9)
    assert [row["ceiling_a"], row["ceiling_b"]] == pytest.approx(within, abs=1e-9)
    assert row["untrained_a"] == pytest.approx((bp == shown["bp", 0]).mean(), abs=1e-9)
    assert row["rule_effect"] == pytest.approx(np.mean(within) - between[off].mean(), abs=1e-9)
    assert row["a_to_b"] == row["b_to_a"] == row["between"]
    assert row["null_global"] is row["null_within"] is row["null_global_p"] is None
    assert "a functional measure has no permutation null" in row["notes"]
    assert "agreement, means between: normalised" in row["notes"]
    said = ask("compare", runs["bp"], runs["fa"], "-m", "agreement", *QUICK[:2]).stdout
    assert "agreement (similarity), output" in said
    assert "global not taken" in said


def test_an_asymmetric_functional_measure_keeps_both_directions_and_a_reason(answer, runs):
    """Layer by layer, beside a pair probe; with no untrained baseline, whose host would answer by chance."""
    rows = answer("compare", runs["alone"], runs["later"], "-m", "head-swap", "-m", "linear-cka", *QUICK)["rows"]
    swap, cka = rows
    assert (swap["layer"], cka["layer"], swap["measure"].startswith("head-swap(ridge=")) == ("dense1", "dense1", True)
    assert swap["between"] == pytest.approx((swap["a_to_b"] + swap["b_to_a"]) / 2, abs=1e-9)
    assert swap["a_to_b"] != swap["b_to_a"]
    assert swap["untrained_a"] is None
    assert "untrained a undefined: it rests on what networks answer right" in swap["notes"]
    assert cka["untrained_a"] is not None


def test_whole_networks_of_different_architectures_compare_and_a_missing_line_has_a_reason(answer, runs):
    rows = answer("compare", runs["bp"], runs["conv"], "-m", "agreement", "-m", "mode-connectivity", *QUICK[:2])["rows"]
    assert [row["between"] is None for row in rows] == [False, True]
    assert (
        "mode-connectivity, no value for 3 pairs of networks: the two networks have different parameters"
        in rows[1]["notes"]
    )


@pytest.fixture(scope="module")
def maps(ask, answer, tiny, tmp_path_factory):
    """A store with two runs of untrained networks of two convolutions, 6×6 and 4×4 positions, and one dense layer."""
    store = tmp_path_factory.mktemp("maps")
    options = ("--arch", "conv(2,3,kernel=3,pool=1,dense=(4))", "--epochs", "0", "--seeds", "3", "--store", store)
    return store, [answer("train", *tiny, "--rule", rule, *options)["run"] for rule in ("bp", "fa")]


def test_feature_maps_are_flattened_and_say_so_unless_another_choice_is_made(answer, maps):
    store, (a, b) = maps
    asked = ("compare", a, b, *QUICK, "--store", store)
    (first, second, dense) = answer(*asked)["rows"]
    assert {row["measure"] for row in (first, second, dense)} == {"debiased-cka(maps=flatten)"}
    assert [row["layer"] for row in (first, second, dense)] == ["conv1", "conv2", "dense1"]
    assert answer(*asked)["plan"]["measures"] == ["debiased-cka(maps=flatten)"]
    explicit = answer(*asked, "-m", "debiased-cka(maps=flatten)")["rows"]
    assert [row["between"] for row in explicit] == [row["between"] for row in (first, second, dense)]
    pooled = answer(*asked, "-m", "debiased-cka(maps=pool)", "--layer", "conv1")["rows"][0]
    assert pooled["measure"] == "debiased-cka(maps=pool)"
    assert pooled["between"] != first["between"]
    apart = answer(*asked, "-m", "debiased-cka(maps=positions)", "--layer", "conv1")["rows"][0]
    assert (apart["n"], apart["null_global_draws"]) == (60, 20)
    assert "36 positions of each of 60 stimuli" in apart["notes"]
    plain = answer(*asked, "--layer", "dense1")["rows"][0]
    assert plain["measure"] == "debiased-cka"
    assert plain["between"] == dense["between"]


def test_the_best_layers_of_convolutional_networks(answer, ask, refuse, maps):
    store, (a, b) = maps
    asked = ("compare", a, b, "--best-layers", *QUICK, "--store", store)
    (row,) = answer(*asked)["rows"]
    assert row["layer_choice"] == "best of 9 pairs of layers, null of the maximum"
    assert row["null_global_draws"] == row["null_within_draws"] == 20
    assert row["layer"] == f"{row['layer_a']} - {row['layer_b']}"
    said = ask(*asked).stdout
    title = "debiased-cka(maps=flatten) (similarity), best of 9 pairs of layers, null of the maximum"
    # Long names stand in a legend, and the tables have numbers.
    assert said.splitlines()[:4] == ["1: untrained [rule=bp]", "2: untrained [rule=fa]", "", title]
    assert said.splitlines()[5].startswith(f"1 {row['layer_a']} - 2 {row['layer_b']}  ")
    assert "the best pair of layers of every two rules" in said
    complaint = refuse(2, *asked, "-m", "debiased-cka(maps=positions)")
    assert "at conv1 has 6×6 positions and untrained [rule=bp] at conv2 4×4" in complaint


REFUSED = [
    (["bp"], 2, ["at least two runs", "`lab runs` lists those there are"]),
    (["bp", "bp"], 2, ["a run is named twice"]),
    (["bp", "conv"], 2, ["no hidden block of the same name", "one kind of network"]),
    (["bp", "other"], 2, ["different data (tiny, other)", "compare runs on one"]),
    (["bp", "fa", "--layer", "dense9"], 2, ["--layer dense9 is not a hidden block of all runs; they share dense1"]),
    (["bp", "fa", "--measure", "cka"], 2, ["unknown name 'cka'", "Did you mean 'linear-cka'?"]),
    (["bp", "fa", "--measure", "sparsity"], 2, ["describes one network, not a pair", "these compare two: linear-cka"]),
    (["bp", "fa", "--measure", "hessian"], 2, ["describes one network", "(`lab describe`)", "stitching"]),
    (["bp", "fa", "--stimuli", "201"], 2, ["give 10 to 200, the size of tiny's test set"]),
    (["bp", "fa", "--stimuli", "-1"], 2, ["give 10 to 200"]),
    (["bp", "fa", "--stimuli", "faces"], 2, ["'--stimuli': 'faces' is not a valid integer"]),
    (["bp", "fa", "--measure", "rsa(maps=pool)"], 2, ["maps=pool", "maps changes nothing", "leave it out"]),
    (["bp", "fa", "--measure", "agreement(maps=pool)"], 2, ["agreement measures networks, not their representations"]),
    (
        ["bp", "fa", "--best-layers", "-m", "agreement"],
        2,
        ["agreement has no permutation null", "debiased-cka", "the whole networks"],
    ),
    (["bp", "fa", "--best-layers", "-m", "imd"], 2, ["has no permutation null", "leave --best-layers out"]),
    (["bp", "fa", "-m", "agreement", "--permutations", "9"], 2, ["--permutations changes nothing for agreement"]),
    (["bp", "fa", "-m", "agreement", "--layer", "dense1"], 2, ["--layer changes nothing for agreement"]),
    (
        ["bp", "fa", "--best-layers", "--layer", "dense9"],
        2,
        ["dense9 is not a hidden block of bp; it has dense1"],
    ),
    (["bp", "fa", "--permutations", "0"], 2, ["'--permutations': 0 is not in the range"]),
    (["bp", "fa", "--match", "luck"], 2, ["'luck' is not one of 'steps', 'accuracy', 'loss'"]),
    (["bp", "fa", "--memory", "little"], 1, ["'little' is no amount of memory"]),
    (["bp", "fa", "--json", "--csv"], 2, ["--json and --csv exclude each other"]),
    ([], 2, ["Missing argument"]),
]


@pytest.mark.parametrize(("args", "code", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_refusals(refuse, runs, args, code, words):
    more = [] if "--stimuli" in args else ["--stimuli", "60"]
    message = refuse(code, "compare", *(runs.get(arg, arg) for arg in args), *more)
    assert [word for word in words if word not in message] == []


def test_names_that_fit_no_run_or_several(refuse, runs):
    message = refuse(4, "compare", "bp", "fa", *QUICK)
    assert "5 runs have the rule 'bp'" in message
    assert runs["later"] in message
    assert "name one" in message
    message = refuse(4, "compare", "tiny-mlp-8", runs["fa"])
    assert "'tiny-mlp-8' fits 5 runs" in message
    assert "Give more of the name." in message
    message = refuse(4, "compare", "nothing-like-it", runs["fa"])
    assert "no run 'nothing-like-it'" in message
    assert "`lab runs` lists the runs there are." in message


def test_an_empty_store_says_what_makes_a_run(refuse, tmp_path):
    assert "there are none yet. `lab train` makes one." in refuse(4, "compare", "bp", "fa", "--store", tmp_path)


def test_a_bad_setting_of_a_measure(refuse, runs):
    message = refuse(2, "compare", runs["bp"], runs["fa"], "--measure", "mutual-knn(k=0)", *QUICK)
    assert "--measure" in message


def test_a_run_that_is_compared_by_different_seeds_has_the_accuracy_of_each():
    steps = {"step_a": 40, "step_b": 20, "loss_a": math.nan, "loss_b": 0.5, "accuracy_b": 0.9}
    rows = [
        {"rule_a": "bp", "rule_b": rule, "accuracy_a": accuracy, **steps}
        for rule, accuracy in (("fa", 0.975), ("dfa", 0.98), ("kp", 0.98))
    ]
    assert _matched(pd.DataFrame(rows))[:2] == [
        "bp: step 40, validation accuracy 97.50 % or 98.00 %",
        "fa: step 20, validation accuracy 90.00 %, training loss 0.5000",
    ]


def test_the_footer_says_how_many_seeds_each_rule_has_and_which_test_was_made():
    own = pd.DataFrame([{"rule_a": "bp", "rule_b": "dfa", "seeds_a": 3, "seeds_b": 4, "paired": False}])
    assert seeds_per_rule(own) == "seeds per rule: bp 3, dfa 4"
    assert seeds_per_rule(own.assign(seeds_a=1, seeds_b=1)) == "1 seed per rule"
    tested = pd.concat([own.assign(rule_effect_p=p, paired=paired) for p, paired in ((0.03, False), (0.25, True))])
    assert _tests(tested[:1]) == "over the ways to deal the rules to the networks"
    assert _tests(tested[1:]) == "over swaps of rules within seeds"
    assert _tests(tested).startswith("over swaps of rules within seeds where two runs share seeds, over the ways")


def test_networks_that_could_not_be_matched_are_said_to_be_apart():
    """The limits are 2 points of accuracy and a tenth of the larger loss."""
    row = {"rule_a": "bp", "rule_b": "dfa", "accuracy_a": 0.95, "accuracy_b": 0.606, "loss_a": 0.20, "loss_b": 0.19}
    rows = pd.DataFrame([row | {"match": "accuracy"}] * 2)
    wanted = "NOT matched by validation accuracy: bp and dfa are 34.4 points apart at their nearest stored steps."
    assert unmatched(rows) == wanted
    assert unmatched(rows.assign(match="loss")) == unmatched(rows.assign(match="steps")) == ""


def test_no_p_is_printed_as_zero():
    assert [probability(p) for p in (1.0, 0.25, 0.001, 0.0004)] == ["1.000", ".250", ".001", "<.001"]


def test_a_request_that_cannot_be_met_is_refused_before_any_caution(ask, runs):
    said = ask("compare", runs["bp"], runs["conv"], *QUICK, code=2).stderr
    assert "no hidden block of the same name" in said
    assert "caution" not in said
