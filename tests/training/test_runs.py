"""Whole runs on a small data set: asked for, interrupted, killed, resumed, diverged."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import lab.runner as runner
from lab.request import Wish, make_request
from lab.runner import Interrupted, checkpoint_steps, evaluation_steps, train
from runs import Store, diverged_seeds, list_checkpoints, load_checkpoint, run_id


def assert_same_run(found, expected):
    """Checkpoints are the same files, byte for byte, and the tables hold the same numbers, bit for bit."""
    kept = [
        {name: folder.read_bytes(name) for name in folder.files() if name.startswith("checkpoints/")}
        for folder in (found, expected)
    ]
    assert found.status == expected.status == "complete"
    assert kept[0] == kept[1]
    pd.testing.assert_frame_equal(found.read_table("metrics"), expected.read_table("metrics"), check_exact=True)
    assert found.verify() == []
    assert not list(found.path.glob("resume/*"))


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory, blobs):
    """The run of `fa` as it is when nothing happens to it."""
    wish = Wish(rule="fa", data="blobs", arch="mlp(6,5)", optimizer="adam(0.01)", epochs=3, batch=10, seeds="2")
    return train(make_request(wish, []), Store(tmp_path_factory.mktemp("whole")))


def test_the_record_of_a_run(uninterrupted):
    table = uninterrupted.read_table("metrics")
    assert sorted(table["step"].unique()) == [0, 6, 12, 18]
    assert set(table["seed"]) == {0, 1}
    assert not table.duplicated(["seed", "step", "layer", "metric"]).any()
    assert list_checkpoints(uninterrupted, 0) == list_checkpoints(uninterrupted, 1) == [0, 6, 12, 18]
    assert (table[table["metric"] == "test_accuracy"]["step"] == 18).all()
    angles = table[table["metric"] == "angle"].set_index("layer")["value"]
    assert (angles["output"] == 0).all()  # the readout of feedback alignment follows the exact gradient
    assert angles["dense1"].between(1, 179).all()
    accuracy = table[table["metric"] == "validation_accuracy"]["value"]
    assert np.allclose(accuracy * 12, np.round(accuracy * 12), atol=1e-5)  # of twelve validation rows
    assert {"params/dense1/kernel", "rule_state/dense2/kernel"} <= set(load_checkpoint(uninterrupted, 0, 18)[0])


def test_the_same_request_is_not_computed_twice(uninterrupted, ask, monkeypatch):
    monkeypatch.setattr(runner, "_Training", None)
    store = Store(uninterrupted.path.parent.parent)
    assert train(ask(rule="fa(scale=1)"), store).path == uninterrupted.path


def test_run_twice_the_bits_are_the_same(uninterrupted, ask, store):
    assert_same_run(train(ask(rule="fa"), store), uninterrupted)


@pytest.mark.parametrize("reports", [1, 4, 7])
def test_after_ctrl_c_the_same_request_ends_with_the_same_bits(reports, uninterrupted, ask, store):
    seen, before = [], signal.getsignal(signal.SIGINT)

    def press(progress):
        seen.append(progress.done)
        if len(seen) == reports:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        train(ask(rule="fa"), store, press)
    assert signal.getsignal(signal.SIGINT) is before
    assert store.get(ask(rule="fa").spec).status == "incomplete"
    assert seen[-1] < 36  # steps of both seeds
    assert_same_run(train(ask(rule="fa"), store), uninterrupted)


@pytest.mark.parametrize("saves", [1, 3, 6])
def test_a_run_that_dies_before_a_file_is_written_resumes_to_the_same_bits(
    saves, uninterrupted, ask, store, monkeypatch
):
    class Dies(BaseException):
        """What no handler expects."""

    count, save = [0], runner.save

    def failing(*args):
        count[0] += 1
        if count[0] > saves:
            raise Dies
        save(*args)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "SAVE_EVERY", 0.0)  # every stretch is saved
        patch.setattr(runner, "save", failing)
        with pytest.raises(Dies):
            train(ask(rule="fa"), store)
    assert_same_run(train(ask(rule="fa"), store), uninterrupted)


LAB = "from lab.cli import main; import lab.runner as runner; runner.SAVE_EVERY = runner.STRETCH = 0.0; main()"


def test_a_killed_command_resumes_to_the_same_bits(uninterrupted, tmp_path):
    said = "--rule fa --data blobs --arch mlp(6,5) --optimizer adam(0.01) --epochs 3 --batch 10 --seeds 2 --device cpu"
    command = [sys.executable, "-c", LAB, "train", *said.split(), "--store", str(tmp_path), "--json"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            deadline = time.monotonic() + 120
            while not list(tmp_path.glob("runs/*/resume/*.safetensors")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.002)
        finally:
            process.kill()
    folder = Store(tmp_path).list()[0]
    assert folder.status == "incomplete"
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["path"] == str(folder.path)
    assert_same_run(folder, uninterrupted)


def test_a_run_that_diverges_is_finished_and_says_where_each_seed_broke(ask, store):
    folder = train(ask(rule="bp", optimizer="sgd(1e30)", seeds="3"), store)
    assert folder.status == "diverged"
    table = folder.read_table("metrics")
    assert table["step"].max() == 18
    bad = diverged_seeds(folder.manifest)
    assert set(bad) == {0, 1, 2}
    assert all(0 <= step < 18 for step in bad.values())
    for seed, step in bad.items():
        rows = table[table["seed"] == seed]
        loss = rows[rows["metric"] == "train_loss"].set_index("step")["value"]
        assert loss[loss.index <= step].notna().all()
        assert loss[loss.index > step + 1].isna().all()
        assert rows[rows["metric"] == "test_accuracy"]["value"].item() == 0  # scores that are no numbers are wrong


def test_no_epochs_make_the_untrained_control(ask, store):
    folders = [train(ask(rule=rule, epochs=0), store) for rule in ("bp", "fa")]
    assert [list_checkpoints(folder, 0) for folder in folders] == [[0], [0]]
    one, two = (load_checkpoint(folder, 1, 0)[0] for folder in folders)
    params = [name for name in one if name.startswith("params/")]
    assert len(params) == 6
    assert all(one[name].tobytes() == two[name].tobytes() for name in params)


def test_ways_to_ask_for_the_same_thing_have_one_id(ask):
    ids = {run_id(ask(rule=rule).spec) for rule in ("fa", "fa()", "fa(1)", "fa(scale=1)", " fa( scale = 1.0 ) ")}
    assert len(ids) == 1
    others = [ask(rule="fa(scale=2)"), ask(rule="dfa"), ask(rule="fa", seeds="3"), ask(rule="fa", order_seed=5)]
    assert len({run_id(other.spec) for other in others} | ids) == 5


@pytest.mark.parametrize("per_epoch", [1, 7, 31, 101, 5000])
@pytest.mark.parametrize("epochs", [0, 1, 2, 5, 16])
def test_steps_that_are_measured_and_kept(per_epoch, epochs):
    measured, kept, last = evaluation_steps(per_epoch, epochs), checkpoint_steps(per_epoch, epochs), per_epoch * epochs
    assert measured == sorted(set(measured))
    assert kept <= set(measured)
    assert {0, last} <= kept
    assert measured[-1] == last
    assert set(range(0, last + 1, per_epoch)) <= set(measured)
    assert {per_epoch * e for e in (1, 2, 4, 8, 16) if e <= epochs} <= kept
    if epochs and per_epoch > 1000:
        assert {10, 100, 1000} <= kept
