"""`lab tune`: from trials to a recipe, and from a recipe to the run that uses it and says so."""

import pytest

TUNE = ("tune", "--data", "tiny", "--batch", "20", "--trial-epochs", "1", "--epochs", "2", "--grid", "0.001,0.01,0.9")
HERE = ("--data", "tiny", "--arch", "mlp(6)")
FA = "fa(scale=1.0)"
RULE = """
import jax
from algorithms.rule import Rule, RuleInfo, objective_of


def rule(scale=1.0):
    def grads(key, net, params, state, batch):
        loss, g = jax.value_and_grad(lambda p: objective_of("ce")(net, p, state, batch))(params)
        return jax.tree.map(lambda x: scale * x, g), state, {"loss": loss}

    return Rule(info=RuleInfo("fa", "not the lab's fa", "G = dL/dW", "me", "W", "anything", (), "3"), grads=grads)
"""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, home, answer):
    """A store with recipes of the lab's fa and of a user's file that calls its rule fa; what `lab tune` answered."""
    place = tmp_path_factory.mktemp("tuned")
    (place / "fa.py").write_text(RULE)
    store = ("--store", place / "store")
    asked = ("-q", "--arch", "mlp(6)", *store)
    ours = answer(*TUNE, "--rule", FA, "--confirm", *asked)["recipe"]
    return place / "fa.py", ours, answer(*TUNE, "--rule", place / "fa.py", *asked)["recipe"], store


def test_a_recipe_has_its_best_trial_and_all_others(tuned):
    _, ours, mine, _ = tuned
    for recipe in (ours, mine):
        top = max(accuracy for _, _, accuracy in recipe["trials"])
        rate = next(rate for _, rate, accuracy in recipe["trials"] if accuracy == top)
        assert f"learning_rate={rate}," in recipe["optimizer"]
        assert [rate for _, rate, _ in recipe["trials"]][:3] == [0.001, 0.01, 0.9]
        assert (recipe["train_size"], recipe["trial_epochs"], recipe["epochs"]) == (500, 1, 2)
    assert (len(ours["test_accuracy"]), len(mine["test_accuracy"])) == (5, 0)
    assert "--confirm" in ours["command"]
    assert (ours["source"], len(mine["source"])) == ("", 64)


def test_the_next_run_uses_the_recipe_and_says_what_it_does_not_fit(tuned, ask, answer):
    _, ours, _, store = tuned
    asked = ("train", "--rule", FA, *HERE, "--dry-run", *store)
    got = answer(*asked)
    assert (got["spec"]["optimizer"], got["spec"]["epochs"], got["spec"]["batch"]) == (ours["optimizer"], 2, 20)
    assert got["chosen_by"]["how"] == "recipe"
    assert ask(*asked).stderr == ""
    assert "found on 500 training examples, and this run has 100" in ask(*asked, "--train-size", "100").stderr
    none = ask("train", "--rule", "fa(scale=7.0)", "--data", "tiny", "--dry-run", *store).stderr
    assert none.startswith("No recipe of fa: adam(learning_rate=0.001")


def test_a_users_rule_is_not_taken_for_one_of_the_lab_by_its_name(tuned, answer):
    file, ours, mine, store = tuned
    cards = {card["name"]: card["recipe"] for card in answer("rules", *HERE, *store)["rules"]}
    assert cards["fa"] is None  # what was tuned is fa(scale=1.0), and a file that calls itself fa
    assert answer("rules", FA, *HERE, *store)["recipe"] == ours
    assert answer("rules", file, *HERE, *store)["recipe"] == mine


def test_what_cannot_end_well_is_refused_before_any_trial(refuse, tmp_path):
    asked = (*TUNE, "--rule", "fa", "--store", tmp_path / "store")
    assert "cannot be written (it is a folder)" in refuse(2, *asked, "--save", tmp_path)
    assert "cannot be written" in refuse(2, *asked, "--save", "/proc/none/recipes.toml")
    assert "has seed 3, which --confirm reports" in refuse(2, *asked, "--seeds", "3-7", "--confirm")
