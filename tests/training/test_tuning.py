"""The search for a learning rate: as many trials for every rule, edges noticed, trials that are the runs they name."""

import math
from functools import partial

import pytest

from lab.errors import UsageError
from lab.optimizers import RATES as ALL_RATES
from lab.optimizers import rates_of, with_rate
from lab.recipes import Recipe, find_recipe, read_recipes, write_recipe
from lab.request import Wish, make_request, make_rule
from lab.runner import train
from lab.summary import last_values
from lab.tuning import WIDENINGS, Knob, Trial, best, knob_of, search, trial, with_setting

RATES = ALL_RATES["adam"]
SCALE = Knob("scale", 1.0, (0.5, 2.0))


def peak(at: float, width: float = 1.0, best_scale: float = 1.0):
    """An accuracy that falls off on both sides of one rate, and on both sides of one scale."""

    def accuracy(setting: str, rate: float) -> float:
        scale = float(setting.partition("=")[2] or 1)
        return math.exp(-((math.log10(rate / at) / width) ** 2) - 0.01 * math.log(scale / best_scale) ** 2)

    return accuracy


def test_six_rates_then_two_beside_the_best():
    trials, edge = search(peak(1.2e-3), RATES, None)
    assert [t.rate for t in trials[:6]] == list(RATES)
    assert [t.rate for t in trials[6:]] == [0.00058, 0.0017]  # a third of a decade apart: 1e-3 times 3^(±1/2)
    assert best(trials).rate == 1e-3
    assert not edge


def test_a_knob_takes_the_place_of_the_two_and_no_rule_gets_more_trials():
    trials, edge = search(peak(3e-3), RATES, SCALE)
    assert [(t.knob, t.rate) for t in trials[6:]] == [("scale=0.5", 3e-3), ("scale=2.0", 3e-3)]
    assert best(trials) == trials[3]
    assert not edge
    assert len(trials) == len(search(peak(3e-3), RATES, None).trials) == 8


@pytest.mark.parametrize(("at", "tried"), [(5e-2, [0.09]), (8e-5, [3e-5])])
def test_a_best_rate_at_the_end_of_the_range_widens_it(at, tried):
    trials, edge = search(peak(at), RATES, None)
    assert [t.rate for t in trials[6:-2]] == tried
    assert not edge


def test_a_best_knob_at_the_end_of_its_range_widens_it():
    trials, edge = search(peak(3e-3, best_scale=3.0), RATES, SCALE)
    assert [t.knob for t in trials[6:]] == ["scale=0.5", "scale=2.0", "scale=4.0", "scale=8.0"]
    assert best(trials).knob == "scale=4.0"
    assert not edge
    whole = search(lambda setting, rate: -rate + 0.1 * (setting == "steps=300"), RATES[:2], Knob("steps", 1000, (300,)))
    assert [t.knob for t in whole.trials if t.knob] == ["steps=300", "steps=90"]  # 300 · 300 / 1000, a whole number


def test_an_optimum_beyond_all_widening_is_reported():
    trials, edge = search(lambda setting, rate: rate, RATES, SCALE)
    assert len(trials) == 8 + WIDENINGS
    assert edge
    trials, edge = search(peak(3e-3, best_scale=1000.0), RATES, SCALE)
    assert len(trials) == 8 + WIDENINGS
    assert edge


def test_a_knob_that_cannot_go_so_far_is_an_edge_since_what_lies_between_is_untried():
    def attempt(setting, rate):
        value = float(setting.partition("=")[2] or 0.9)
        if value > 1:
            raise UsageError("beta must be at most 1")
        return value - abs(math.log(rate / 1e-3))

    trials, edge = search(attempt, RATES, Knob("beta", 0.9, (0.5, 0.99)))
    assert best(trials).knob == "beta=0.99"
    assert len(trials) == 8
    assert edge


def test_a_widening_does_not_repeat_a_rate():
    trials, _ = search(lambda setting, rate: rate, (0.001, 0.0012), None)
    assert [t.rate for t in trials[:-2]] == [0.001, 0.0012, 0.0014, 0.002]  # .00144 and .00163 to one digit, if new


def test_of_equals_the_first_tried_wins():
    assert best([Trial("", 0.1, 0.5), Trial("", 0.3, 0.5)]).rate == 0.1


def test_call_strings_with_a_rate_and_with_a_setting():
    assert with_rate("adam", 3e-4) == "adam(0.0003)"
    assert with_rate("sgd(momentum=0.9)", 0.1) == "sgd(0.1, momentum=0.9)"
    call = "my_rule(a=1, loss='ce')"
    assert with_setting("./my_rule.py(1)", call, "") == "./my_rule.py(a=1, loss='ce')"
    assert with_setting("./my_rule.py", call, "a=2.5") == "./my_rule.py(a=2.5, loss='ce')"


def test_a_knob_that_a_setting_leaves_no_meaning_is_not_searched_for():
    """The loss pred of `local` has no beta, which weighs it against sim."""
    for asked, searched in (("local(kind=pred)", False), ("local(width=32)", True)):
        rule, call, _ = make_rule(asked)
        assert (knob_of(asked, call, rule.info) is not None) == searched


@pytest.mark.parametrize(("asked", "searched"), [("kp", True), ("kp(loss=mse)", True), ("kp(0.001)", False)])
def test_a_knob_that_the_user_sets_is_not_searched_for(asked, searched):
    rule, call, _ = make_rule(asked)
    knob = knob_of(asked, call, rule.info)
    assert (knob is not None) == searched
    if searched:
        assert (knob.name, knob.default) == ("decay", 1e-4)


def test_rates_are_the_optimisers_unless_the_rule_says_its_own():
    assert rates_of(make_rule("fa")[0].info) == RATES
    es = rates_of(make_rule("es")[0].info)
    assert len(es) == 6
    assert math.log10(es[-1] / es[0]) == pytest.approx(math.log10(RATES[-1] / RATES[0]))  # as wide as everybody's


def test_a_trial_is_the_run_it_stands_for_and_is_made_once(ask, store, tmp_path):
    request = ask(rule="fa")
    found = trial(request, tmp_path / "tuning", lambda progress: None)
    run = train(request, store)
    assert found["validation_accuracy"] == list(last_values(run, "validation_accuracy").values())
    assert found["cpu_seconds"] > 0
    (file,) = (tmp_path / "tuning").iterdir()
    file.write_text(file.read_text().replace(str(found["cpu_seconds"]), "77.0"))
    assert trial(request, tmp_path / "tuning", lambda progress: None)["cpu_seconds"] == 77.0
    # Neither a damaged file nor what other code, versions or another device have found is believed.
    keys = ('"source": "', '"device": "', '"jax": "')
    for text in ("{", *(file.read_text().replace(key, f"{key}0") for key in keys)):
        file.write_text(text)
        again = trial(request, tmp_path / "tuning", lambda progress: None)
        assert again["validation_accuracy"] == found["validation_accuracy"]
        assert again["cpu_seconds"] != 77.0


def test_a_recipe_speaks_for_a_bare_name_only(tmp_path):
    path = tmp_path / "recipes.toml"
    path.write_text(
        "[[recipe]]\nname = \"fa\"\nrule = \"fa(scale=0.5, loss='ce', feedback='kernel')\"\n"
        "arch = \"mlp(6, 5, act='relu')\"\n"
        'data = "blobs"\noptimizer = "adam(0.02)"\nbatch = 12\nepochs = 7\ntrials = [["scale=0.5", 0.02, 0.9]]\n'
        'seeds = [1000]\ntrial_epochs = 5\ntrain_size = 60\nedge = false\ncommand = "lab tune --rule fa"\n'
    )
    said = {"data": "blobs", "arch": "mlp(6,5)"}
    tuned = make_request(Wish(rule="fa", **said), [path])
    assert tuned.spec.rule.startswith("fa(scale=0.5")
    assert (tuned.spec.batch, tuned.spec.epochs) == (12, 7)
    assert tuned.spec.optimizer.startswith("adam(learning_rate=0.02")
    assert tuned.chosen_by["how"] == "recipe"
    assert tuned.chosen_by["trials"] == (("scale=0.5", 0.02, 0.9),)
    plain = make_request(Wish(rule="fa()", batch=10, **said), [path])
    assert plain.spec.rule.startswith("fa(scale=1.0")
    assert (plain.spec.epochs, plain.chosen_by["how"]) == (20, "default")
    wider = make_request(Wish(rule="fa", data="blobs", arch="mlp(9)", batch=10), [path])
    assert wider.chosen_by["how"] == "recipe for another network or data set"
    given = make_request(Wish(rule="fa", optimizer="adam(0.5)", **said), [path])
    assert given.chosen_by["how"] == "given"
    assert given.spec.rule == given.chosen_by["settings"]["rule"] == tuned.spec.rule
    # Another network's recipe lends its rate, and nothing else.
    assert wider.spec.optimizer.startswith("adam(learning_rate=0.02")
    assert (wider.spec.rule[:12], wider.spec.epochs) == ("fa(scale=1.0", 20)


def test_searches_of_other_sizes_and_of_users_files_stand_side_by_side(tmp_path):
    path = tmp_path / "recipes.toml"
    common = {"rule": "fa(scale=1.0)", "arch": "mlp(6, act='relu')", "data": "blobs", "batch": 12, "epochs": 7}
    common |= {"trials": (("", 0.02, 0.9),), "seeds": (1000,), "trial_epochs": 5, "edge": False, "command": ""}
    for size, rate, source in ((60, 0.02, ""), (30, 0.01, ""), (60, 0.5, "beef"), (60, 0.03, ""), (60, 0.6, "deaf")):
        optimizer = f"adam({rate})"
        write_recipe(path, Recipe(name="fa", optimizer=optimizer, train_size=size, source=source, **common))
    assert [r.optimizer for r in read_recipes(path)] == ["adam(0.01)", "adam(0.03)", "adam(0.6)"]
    find = partial(find_recipe, [path], name="fa", arch=common["arch"], data="blobs", rule=None)
    assert find(source="", train_size=30).optimizer == "adam(0.01)"
    assert find(source="", train_size=60).optimizer == "adam(0.03)"
    assert find(source="deaf", train_size=30).optimizer == "adam(0.6)"
    assert find(source="beef", train_size=60) is None  # an earlier version of the user's file


def test_a_search_for_settings_that_chose_others_lends_its_rate_alone(tmp_path):
    path = tmp_path / "recipes.toml"
    asked = make_rule("kp(loss=mse)")[1]
    chosen = make_rule("kp(loss=mse, decay=0.01)")[1]
    recipe = {"arch": "mlp(6, 5, act='relu')", "data": "blobs", "optimizer": "sgd(0.02)", "batch": 10, "epochs": 7}
    recipe |= {"trials": (), "seeds": (1000,), "trial_epochs": 5, "train_size": 60, "edge": False, "command": ""}
    write_recipe(path, Recipe(name=asked, rule=chosen, **recipe))
    said = {"data": "blobs", "arch": "mlp(6,5)", "batch": 10}
    lent = make_request(Wish(rule="kp(loss=mse)", **said), [path])
    assert (lent.spec.rule, lent.spec.epochs) == (asked, 20)
    assert lent.chosen_by["how"] == "recipe for other settings"
    assert lent.spec.optimizer.startswith("sgd(learning_rate=0.02")
    whole = make_request(Wish(rule="kp(loss=mse, decay=0.01)", **said), [path])
    assert (whole.chosen_by["how"], whole.spec.epochs) == ("recipe", 7)
