"""Stitching, head swap and transfer of readouts on small networks: exact cases, controls, other packages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lab_models import drawn, task_of, trained

from lab.functional_model import ForwardModel
from lab.networks import conv, mlp
from probes import Undefined
from probes.forward import answers, representation
from probes.maps import affine_map, explained, orthogonal_map
from probes.stitching import clustered_noise, head_swap, probe_transfer, stitching
from probes.subject import Subject, Task

LAYER = "dense2"


@pytest.fixture(scope="module")
def task():
    return task_of(n=128)


@pytest.fixture(scope="module")
def model():
    return ForwardModel(mlp(8, 6)((8, 8, 1), 4))


@pytest.fixture(scope="module")
def nets(task, model):
    return [trained(task, model, seed).at(LAYER) for seed in (0, 1)]


def rotated(s, seed=5):
    """The same function with its last hidden layer turned: linear units, weights before and behind turned back."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))[0]
    p = {name: dict(block) for name, block in s.params.items()}
    p["dense2"] = {"kernel": p["dense2"]["kernel"] @ Q, "bias": p["dense2"]["bias"] @ Q + 1.0}
    behind = Q.T @ p["output"]["kernel"]
    p["output"] = {"kernel": behind, "bias": p["output"]["bias"] - np.ones(6) @ behind}
    return p


def test_affine_map_is_that_of_scikit_learns_ridge():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((50, 8)) * np.arange(1, 9) + 3.0, rng.standard_normal((50, 5))
    ours = affine_map(X, Y, (0.1,))
    z = (X - X.mean(0)) / X.std(0)
    theirs = linear.Ridge(alpha=0.1 * 50).fit(z, Y)
    np.testing.assert_allclose(ours(X), theirs.predict(z), rtol=0, atol=1e-9)


def test_orthogonal_map_is_scipys_procrustes_and_undoes_a_rotation_and_shift():
    from scipy.linalg import orthogonal_procrustes

    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((50, 8)), rng.standard_normal((50, 8))
    R, _ = orthogonal_procrustes(X - X.mean(0), Y - Y.mean(0))
    np.testing.assert_allclose(orthogonal_map(X, Y).M, R, atol=1e-9)
    turned = X @ np.linalg.qr(rng.standard_normal((8, 8)))[0] + 4.0
    np.testing.assert_allclose(orthogonal_map(X, turned)(X), turned, atol=1e-9)
    narrow = orthogonal_map(X, Y[:, :3]).M
    np.testing.assert_allclose(narrow.T @ narrow, np.eye(3), atol=1e-12)


def test_affine_map_leaves_out_dead_units_and_recovers_an_affine_relation():
    """1e-6: the weakest penalty, 1e-8 of the standardised units' variance, and its condition."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 5))
    X[:, 2] = 0.7
    M = rng.standard_normal((5, 3))
    S = affine_map(X, X @ M - 2.0)
    np.testing.assert_allclose(S(X), X @ M - 2.0, atol=1e-6)
    assert (S.M[2] == 0).all()
    assert S.ridge == 1e-8
    constant = affine_map(np.ones((60, 5)), X)
    np.testing.assert_allclose(constant(np.ones((60, 5))), np.tile(X.mean(0), (60, 1)))
    assert isinstance(explained(X, np.ones((60, 5))), Undefined)


def test_a_network_stitched_into_itself_is_itself(task, nets):
    """Direct matching finds the identity to 1e-6, and no prediction here hangs on less."""
    found = stitching().value(task, nets[0], nets[0])
    assert found["value"] == found["identity"] == 1.0
    assert found["accuracy"] == found["host"]
    assert found["r2"] == pytest.approx(1.0, abs=1e-9)
    held_out = ~task.fitting
    assert found["host"] == np.mean(nets[0].prediction[held_out] == task.y[held_out])


def test_an_affine_change_of_the_layer_is_undone_by_the_stitch(task):
    linear = ForwardModel(mlp(8, 6, act="linear")((8, 8, 1), 4))
    a = trained(task, linear, 0).at(LAYER)
    b = Subject(a.scores, model=linear, params=rotated(a), layer=LAYER)
    for probe in (stitching(), head_swap()):
        assert probe.value(task, a, b)["value"] == 1.0
        assert probe.value(task, a, b)["r2"] == pytest.approx(1.0, abs=1e-6)
    swap = head_swap().value(task, a, b)
    assert swap["affine"] == 1.0
    assert swap["raw"] < 1.0
    moved = probe_transfer().value(task, a, b)
    assert moved["value"] == pytest.approx(1.0, abs=0.05)  # the ridge sees other axes, so a few answers may change
    assert moved["raw"] < moved["value"]
    own = probe_transfer().value(task, a, a)
    assert own["value"] == own["raw"] == 1.0
    assert own["own"] == own["source"]


def test_controls_tell_a_stitch_from_what_any_features_would_give(task, nets):
    found = stitching().value(task, *nets)
    assert found["value"] > 0.8
    assert found["shuffled"] < 0.6  # chance is .25 of these 64; three standard errors above it, .41
    assert found["noise"] > 0.8  # class means are all that it takes: the trap
    assert 0.0 <= found["untrained"] <= 1.0
    assert "identity" not in stitching(controls=False).value(task, *nets)
    fresh = Subject(nets[0].scores, model=nets[0].model, params=nets[0].params, layer=LAYER)
    assert "before training" in stitching().value(task, fresh, nets[1])["untrained"].reason


def test_stitching_by_task_lowers_the_loss_and_leaves_the_host_as_it_is(task, nets):
    a, b = nets
    found = stitching(by="task", steps=20).value(task, a, b)
    assert found["host"] == stitching().value(task, a, b)["host"]
    assert found["value"] > 0.8
    assert found["shuffled"] < 0.6
    assert found["r2"] < stitching().value(task, a, b)["r2"]  # it leaves what the host knows
    assert found == stitching(by="task", steps=20).value(task, a, b)  # no random numbers but the stated seed's


def test_head_swaps_affine_part_is_the_direct_stitch_and_directions_differ(task, nets):
    a, b = nets
    forward, backward = (stitching(controls=False).value(task, *pair) for pair in ((a, b), (b, a)))
    assert head_swap().value(task, a, b)["affine"] == forward["value"]
    assert forward["host"] != backward["host"] or forward["r2"] != backward["r2"]


def test_layers_of_different_width_and_networks_with_maps(task):
    maps = ForwardModel(conv(3, kernel=3, dense=(6,))((8, 8, 1), 4))
    plain = ForwardModel(mlp(8, 6)((8, 8, 1), 4))
    a, b = drawn(task, maps, 0), drawn(task, plain, 1)
    assert maps.layers == ("conv1", "dense1")
    linear = pytest.importorskip("sklearn.linear_model")
    fit = task.fitting
    with jax.enable_x64(True):
        front, _ = representation(a.at("conv1"), jnp.asarray(task.x))
        host, shape = representation(b.at("dense1"), jnp.asarray(task.x))
        z = (front - front[fit].mean(0)) / front[fit].std(0)
        mapped = linear.Ridge(alpha=fit.sum()).fit(z[fit], host[fit]).predict(z[~fit])
        expected = answers(b.at("dense1"), mapped, shape)
    found = stitching(controls=False, ridge=1.0).value(task, a.at("conv1"), b.at("dense1"))
    assert found["accuracy"] == np.mean(expected == task.y[~fit])
    own = stitching(controls=False).value(task, a.at("conv1"), a.at("conv1"))
    assert own["host"] == np.mean(a.prediction[~task.fitting] == task.y[~task.fitting])
    swap = head_swap().value(task, a.at("conv1"), b.at("dense1"))
    assert "shape (3, 3, 3) and B's (8,)" in swap["raw"].reason
    assert isinstance(probe_transfer().value(task, a.at("conv1"), b.at("dense1"))["raw"], Undefined)


def test_clustered_noise_knows_the_class_and_nothing_else():
    y = np.repeat(np.arange(3), 400)
    noise = clustered_noise(y, 50, seed=1)
    centres = np.stack([noise[y == c].mean(axis=0) for c in range(3)])
    within = noise - centres[y]
    assert within.std() == pytest.approx(0.25, abs=0.005)  # 60,000 draws: a standard error of .0007
    assert centres.var() == pytest.approx(1.0, abs=0.35)  # 150 draws: .115
    assert np.array_equal(noise, clustered_noise(y, 50, seed=1))


def test_what_is_missing_is_said(task, nets):
    a, b = nets
    spikes = Subject(a.scores, model=Undefined("spikes have no derivative"), layer=LAYER)
    assert stitching().value(task, spikes, b).reason == "spikes have no derivative"
    assert stitching().value(task, b, Subject(a.scores)).reason == "only the scores of this network are known"
    energies = Subject(a.scores, Undefined("energies"), a.model, a.params, layer=LAYER)
    assert stitching(by="task").value(task, a, energies).reason == "energies"
    assert stitching(controls=False).value(task, a, energies)["value"] > 0.8
    one = Task(task.y[:1], task.x[:1])
    alone = Subject(a.scores[:1], model=a.model, params=a.params, layer=LAYER)
    for probe in (stitching(), head_swap(), probe_transfer()):
        assert "one stimulus" in probe.value(one, alone, alone).reason


def test_a_host_that_is_never_right_has_no_relative_accuracy(task, nets):
    a, b = nets
    params = {**b.params, "output": {"kernel": np.zeros((6, 4)), "bias": jnp.array([0.0, 0.0, 0.0, 0.0])}}
    silent = Task(np.where(task.y == 0, 1, task.y), task.x)
    host = Subject(np.zeros((128, 4)), model=b.model, params=params, layer=LAYER)
    found = stitching(controls=False).value(silent, a, host)
    assert found["host"] == 0.0
    assert found["value"].reason == "the host answers no held-out stimulus right"
