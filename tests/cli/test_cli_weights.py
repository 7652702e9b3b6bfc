"""Weights, feedback and directions of stored runs by name; what a run warns of at its end, and who repeats it."""

from shutil import copytree
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lab.capture import dataset_of, observe, stimuli
from lab.run_warnings import ALIKE, frozen_twin, in_seeds, unsettled, warnings_of
from probes.depth import scale_stability
from runs import Store

QUICK = ("--stimuli", "60")


@pytest.fixture(scope="module")
def stored(home, runs):
    """Run and step -> seed -> what its checkpoint holds."""
    store = Store(home / "store")

    def read(name, step):
        folder = store.find(runs[name])
        dataset = dataset_of([folder])
        return observe(folder, step, stimuli(dataset, 60), dataset).stored

    return read


def rows_of(answer, *args):
    """(rule, step, layer) -> row."""
    return {(row["rule"], row["step"], row["layer"]): row for row in answer("describe", *args, *QUICK)["rows"]}


def test_the_angle_with_the_feedback_weights_at_every_stored_step(answer, runs, stored):
    rows = rows_of(answer, runs["fa"], runs["bp"], "-m", "weight-feedback-angle", "--steps", "all")
    assert set(rows) == {(rule, step, "output") for rule in ("fa", "bp") for step in (0, 10)}
    for step in (0, 10):
        cosines = []
        for seed in stored("fa", step).values():
            W, B = (np.asarray(seed[part]["output"]["kernel"], np.float64) for part in ("params", "rule_state"))
            cosines.append((W * B).sum() / np.linalg.norm(W) / np.linalg.norm(B))
        row = rows["fa", step, "output"]
        assert row["value"] == pytest.approx(np.degrees(np.arccos(cosines)).mean(), rel=1e-6)
        assert row["parts"]["cosine"] == pytest.approx(np.mean(cosines), rel=1e-6)
        assert row["parts"]["z"] == pytest.approx(np.mean(cosines) * np.sqrt(8 * 4), rel=1e-6)
    assert rows["bp", 10, "output"]["value"] is None
    assert rows["bp", 10, "output"]["undefined"].startswith("bp has no feedback weights (it transports")


def test_directions_are_those_that_training_recorded(answer, home, runs):
    """Angles of the record are in single precision: some 1e-4 degrees of them."""
    rows = rows_of(answer, runs["fa"], "-m", "gradient-alignment", "--steps", "all")
    table = Store(home / "store").find(runs["fa"]).read_table("metrics")
    assert set(rows) == {("fa", step, layer) for step in (0, 10) for layer in ("dense1", "output")}
    for (_, step, layer), row in rows.items():
        recorded = table[(table["step"] == step) & (table["layer"] == layer)].groupby("metric")["value"].mean()
        assert row["value"] == pytest.approx(recorded["angle"], abs=1e-3)
        assert row["parts"]["norm_ratio"] == pytest.approx(recorded["norm_ratio"], rel=1e-4)
        assert row["parts"]["reference_norm"] == pytest.approx(recorded["reference_norm"], rel=1e-4)


def test_distances_and_spectra_are_of_every_weight_the_readout_included(answer, ask, runs, stored):
    measures = ("-m", "distance-from-initialisation", "-m", "weight-spectrum")
    rows = answer("describe", runs["bp"], *measures, *QUICK)["rows"]
    assert [row["layer"] for row in rows] == ["dense1", "output"] * 2
    for row in rows[:2]:
        kernels = [
            [np.asarray(stored("bp", step)[seed]["params"][row["layer"]]["kernel"], np.float64) for step in (10, 0)]
            for seed in range(3)
        ]
        moved = [np.linalg.norm(W - W0) / np.linalg.norm(W0) for W, W0 in kernels]
        assert (row["value"], row["untrained"]) == (pytest.approx(np.mean(moved), rel=1e-8), 0)
    said = ask("describe", runs["bp"], *measures, "--layer", "output", *QUICK).stdout
    assert "dense1" not in said
    assert "spectral" in said


def test_kernel_velocity_knows_the_stored_step_before(answer, runs):
    measures = ("-m", "kernel-velocity(points=20)", "-m", "rich-lazy(points=20)")
    first, second = answer("describe", runs["bp"], *measures, *QUICK)["rows"]
    assert first["parts"]["steps"] == 10
    assert first["value"] * 10 == pytest.approx(second["value"], rel=1e-6)  # the step before is the start
    assert "no stored moment before" in first["notes"]


def test_blocks_that_a_measure_does_not_read_are_refused(refuse, runs):
    said = refuse(2, "describe", runs["fa"], "-m", "weight-feedback-angle", "--layer", "dense1", *QUICK)
    assert "no value there" in said
    assert "it has dense1, output" in refuse(2, "describe", runs["fa"], "-m", "weight-spectrum", "--layer", "x", *QUICK)
    assert "not a hidden block" in refuse(2, "describe", runs["fa"], "-m", "sparsity", "--layer", "output", *QUICK)


HEALTHY = ("--data", "tiny", "--arch", "mlp(16)", "--epochs", "10", "--batch", "20", "--optimizer", "adam(0.02)")

EXPLODES = """
import jax
from algorithms.rule import Rule, RuleInfo


def rule():
    def grads(key, net, params, state, batch):
        still = jax.tree.map(lambda W: 0 * W, params)
        loss = batch.x.mean()
        moved = {"dense2": jax.tree.map(lambda W: -W, params["dense2"]), "output": params["output"]}
        return {**still, **moved}, state, {"loss": loss}

    return Rule(info=RuleInfo("explodes", "t", "e", "c", "W", "anything", (), "3"), grads=grads)
"""
CHECKS = ("scale stability", "reference validity", "depth utility")


def test_a_healthy_run_warns_of_nothing(ask, answer, tmp_path):
    """The lab's own defaults on MNIST take minutes: tests/accuracy."""
    options = ("train", *HEALTHY, "--rule", "bp", "--seeds", "1", "--store", tmp_path)
    assert "Warning" not in ask(*options).stderr
    assert answer(*options)["warnings"] == []


@pytest.fixture(scope="module")
def sick(home, ask, tmp_path_factory):
    """A store with a run whose second block doubles at every step while its readout vanishes, and one of fa."""
    here = tmp_path_factory.mktemp("sick")
    (here / "explodes.py").write_text(EXPLODES)
    small = ("--data", "tiny", "--arch", "mlp(8,8)", "--epochs", "1", "--batch", "50", "--seeds", "2", "--store", here)
    options = ("--rule", here / "explodes.py", "--optimizer", "sgd(1.0, momentum=0.0, schedule=constant)")
    warned = ask("train", *small, *options).stderr
    ask("train", *small, "--rule", "fa", "--optimizer", "sgd(1e-6)")
    return here, small, warned


def test_each_violation_is_one_line_at_the_end_of_training(sick):
    """Ten steps of W ← 2 W make 2¹⁰ times the activity; W ← W - W leaves a readout, and so a gradient, of zero."""
    lines = [line for line in sick[2].splitlines() if line.startswith("Warning, ")]
    assert [line.split(": ")[0] for line in lines] == [f"Warning, {check}" for check in CHECKS]
    assert "from dense1 to dense2, more than 50" in lines[0]
    assert "has norm 0, below 1e-07" in lines[1]
    assert "(seed 0; 2 of 2 seeds)" in lines[1]
    assert "% of a linear readout of its own untrained dense" in lines[2]


def test_whoever_reads_the_run_is_told_again(sick, ask, answer):
    here, small, _ = sick
    said = ask("runs", "show", "explodes", "--store", here).stderr
    assert [check in said for check in CHECKS] == [True] * 3
    warnings = answer("runs", "show", "explodes", "--store", here)["summary"]["warnings"]
    assert [line.partition(":")[0] for line in warnings] == list(CHECKS)
    again = ask("train", *small, "--rule", "fa", "--optimizer", "sgd(1e-6)").stderr  # stored, and not trained again
    assert "Warning, depth utility" in again
    said = ask("compare", "explodes", "fa", "--stimuli", "50", "--permutations", "10", "--store", here).stderr
    assert "caution: explodes, scale stability" in said
    assert "caution: fa, depth utility" in said


def test_a_stored_twin_with_frozen_blocks_takes_the_place_of_the_readout(sick, answer, tmp_path):
    here, small, _ = sick
    copytree(here, tmp_path / "store")
    run = answer("train", *small[:-1], tmp_path / "store", "--rule", "frozen", "--optimizer", "adam(0.05)")
    assert run["warnings"] == []  # it is not meant to use its depth
    (said,) = answer("runs", "show", "fa", "--store", tmp_path / "store")["summary"]["warnings"]
    assert f"% of the same network with frozen hidden blocks ({run['run']})" in said


def made(name, accuracy, status="complete", **differing):
    """A stand-in for a stored run: its last validation accuracy, and what else than in the others was asked."""
    asked = {**dict.fromkeys(ALIKE, 1), "sources": (), **differing}
    table = pd.DataFrame({"metric": "validation_accuracy", "step": [0, 5], "value": [0.9, accuracy]})
    return SimpleNamespace(id=name, status=status, spec=SimpleNamespace(**asked), read_table=lambda _: table)


def test_the_twin_is_the_best_finished_run_of_frozen_that_was_asked_for_alike():
    others = [made("fa-1", 0.9), made("frozen-1", 0.5), made("frozen-2", 0.6), made("frozen-3", 0.7, status="damaged")]
    others += [made(f"frozen-{field}", 0.8, **{field: 2}) for field in ALIKE]
    others += [made("frozen-mine", 0.8, sources=(("rule", "beef"),))]  # a user's own file frozen.py
    assert frozen_twin(made("bp-1", 0.95), SimpleNamespace(list=lambda: others)) == (0.6, "frozen-2")
    assert frozen_twin(made("bp-1", 0.95), SimpleNamespace(list=lambda: others[:1])) is None


def test_runs_that_were_stored_before_the_norms_were_are_read_all_the_same(home, runs):
    assert in_seeds("scale stability", {}, scale_stability) is None
    store = Store(home / "store")
    assert warnings_of(store.find(runs["lost"]), store) == []  # no sound seed, no word
    assert warnings_of(store.find(runs["conv"]), store) == []


def settled(residuals):
    """Warnings of a run of two seeds and three stored steps of a rule with a tolerance of .5."""
    table = pd.DataFrame({"metric": "residual", "seed": [0, 1] * 3, "step": [0, 0, 10, 10, 20, 20], "value": residuals})
    return unsettled(None, table)


def test_every_stored_step_must_be_at_rest_not_only_the_last(monkeypatch):
    monkeypatch.setattr("lab.run_warnings._info_of", lambda folder: SimpleNamespace(tolerance=0.5))
    assert settled([0.5, 0.4, 0.3, 0.2, 0.1, 0.0]) == []
    (said,) = settled([0.7, 0.4, 424.0, 0.2, 0.1, 0.0])
    assert "the phases did not come to rest: residual 4.2e+02 at step 10, above 0.5" in said
    assert said.endswith("(seed 0; 1 of 2 seeds, 2 of 3 stored steps)")


def test_a_residual_that_is_not_finite_is_the_worst(monkeypatch):
    """It is stored as undefined."""
    monkeypatch.setattr("lab.run_warnings._info_of", lambda folder: SimpleNamespace(tolerance=0.5))
    (said,) = settled([0.1, 0.1, 9.0, 0.1, 0.1, None])
    assert "residual inf at step 20" in said
    assert "(seed 1; 2 of 2 seeds, 2 of 3 stored steps)" in said


def test_a_comparison_says_that_phases_did_not_come_to_rest(ask, tmp_path):
    small = ("--data", "tiny", "--arch", "mlp(8,8)", "--epochs", "0", "--batch", "50", "--seeds", "2")
    for rule in ("bp", "fpc(steps=2,rate=0.1)"):
        ask("train", *small, "--rule", rule, "--optimizer", "adam(0.001)", "--store", tmp_path)
    said = ask("compare", "bp", "fpc", "--stimuli", "50", "--permutations", "10", "--store", tmp_path).stderr
    assert "caution: untrained [rule=fpc(steps=2,rate=0.1)], settling: the phases did not come to rest" in said
    assert said.count("settling") == 1


def test_measures_of_weights_say_that_they_took_no_stimuli(answer, ask, runs):
    measures = ("-m", "weight-spectrum", "-m", "sparsity")
    rows = answer("describe", runs["bp"], *measures, *QUICK)["rows"]
    assert {(row["measure"].partition("(")[0], row["n"]) for row in rows} == {("weight-spectrum", 0), ("sparsity", 60)}
    said = ask("describe", runs["bp"], *measures, *QUICK).stdout
    assert "n = 60 test stimuli (weight-spectrum(low=10, high=50): no test stimuli, but weights" in said


def test_a_subspace_that_is_too_large_names_its_layer_and_one_that_is_not(ask, runs):
    """The matrices are 64×8 and 8×4, and no random one has a lower rank."""
    said = ask("describe", runs["bp"], "-m", "subspace-overlap", *QUICK).stdout
    for layer, rank in (("dense1", 8), ("output", 4)):
        assert f"subspace-overlap(k=10), bp, {layer}: value undefined: the weights have rank {rank}," in said
        assert f"no subspace of 10 directions: take subspace-overlap(k={rank}) or less" in said
