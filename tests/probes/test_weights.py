"""Weights, directions and the checks on depth: by hand, by simulation, in limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lab_models import drawn, task_of

from algorithms.rule import Batch
from lab.examination import gradient_lengths
from lab.functional_model import ForwardModel
from lab.networks import conv
from probes import ProbeError, Undefined
from probes.depth import activity_norm, depth_utility, gradient_norm, reference_validity, scale_stability
from probes.forward import doubled
from probes.weights import (
    alignment,
    direction_alignment,
    matrices,
    subspace_overlap_of,
    weight_change,
    weight_feedback_alignment,
)


def tree(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return {
        "conv1": {"kernel": scale * rng.standard_normal((3, 3, 2, 5)), "bias": rng.standard_normal(5)},
        "stage": {"inner": {"kernel": rng.standard_normal((7, 6))}, "scale": np.ones(4)},
        "output": {"kernel": rng.standard_normal((6, 4)), "bias": np.zeros(4)},
    }


def test_every_weight_array_is_a_matrix_by_the_name_of_its_layer():
    found = matrices(tree())
    assert {name: W.shape for name, W in found.items()} == {
        "conv1": (18, 5),
        "stage.inner": (7, 6),
        "output": (6, 4),
    }
    assert np.array_equal(found["conv1"][:, 1], tree()["conv1"]["kernel"][..., 1].ravel())


def test_weight_change_is_relative_to_the_start():
    before = {"a": {"kernel": np.array([[3.0, 0.0]]), "bias": np.array([4.0])}, "b": {"bias": np.zeros(2)}}
    now = {"a": {"kernel": np.array([[3.0, 2.0]]), "bias": np.array([4.0])}, "b": {"bias": np.array([0.0, 1.5])}}
    assert weight_change(now, before) == pytest.approx(2.5 / 5)
    assert isinstance(weight_change({"b": now["b"]}, {"b": before["b"]}), Undefined)
    with pytest.raises(ProbeError, match="one architecture"):
        weight_change(now, {"a": now["a"]})


def test_subspaces_coincide_are_orthogonal_or_overlap_by_chance():
    rng = np.random.default_rng(0)
    Q, R = (np.linalg.qr(rng.standard_normal((20, 20)))[0] for _ in range(2))
    low = Q[:, :3] @ np.diag([3.0, 2.0, 1.0]) @ R[:, :3].T
    turned = Q[:, [2, 0, 1]] @ np.diag([5.0, 4.0, 3.0]) @ R[:, 3:6].T
    found = subspace_overlap_of(low, turned, k=3)
    assert found["value"] == pytest.approx(1.0, abs=1e-9)
    assert found["units"] == pytest.approx(0.0, abs=1e-9)
    assert subspace_overlap_of(low, 1e-150 * low, k=3)["units"] == pytest.approx(1.0, abs=1e-9)
    assert "rank 3" in subspace_overlap_of(low, Q, k=4).reason
    # Independent Gaussians: E‖U₁ᵀU₂‖² = k²/m. One draw spreads by about √2/m; 300 draws leave .0047 at m = 20 ...
    draws = [subspace_overlap_of(rng.standard_normal((20, 30)), rng.standard_normal((20, 30)), k=4) for _ in range(300)]
    assert (draws[0]["chance"], draws[0]["chance_units"]) == (4 / 20, 4 / 30)
    assert np.mean([d["value"] for d in draws]) == pytest.approx(4 / 20, abs=0.015)  # ... three of which this is
    assert np.mean([d["units"] for d in draws]) == pytest.approx(4 / 30, abs=0.015)


def test_feedback_of_random_sign_has_a_chance_distribution_of_one_over_root_mn():
    """3000 draws know a standard deviation to 1/√6000 = 1.3 %."""
    rng = np.random.default_rng(0)
    z = [weight_feedback_alignment(rng.standard_normal((8, 5)), rng.standard_normal((8, 5)))["z"] for _ in range(3000)]
    assert np.std(z) == pytest.approx(1.0, abs=0.04)
    assert np.mean(z) == pytest.approx(0.0, abs=0.06)


def test_alignment_by_hand_and_at_its_ends():
    W = np.array([[3.0, 4.0]])
    assert alignment(W, W)["angle"] == 0.0
    assert alignment(W, -2 * W) == pytest.approx(
        {"cosine": -1.0, "angle": 180.0, "norm_ratio": 0.5, "z": -np.sqrt(2)}, rel=1e-12
    )
    assert alignment(W, [[4.0, -3.0]])["angle"] == pytest.approx(90.0)
    tiny = alignment(W, W + 1e-9 * np.array([[4.0, -3.0]]))  # turned by 1e-9: the cosine is 1 in float64
    assert np.radians(tiny["angle"]) == pytest.approx(1e-9, rel=1e-6)
    assert alignment(1e-200 * W, 1e150 * W)["cosine"] == pytest.approx(1.0)
    assert alignment(1e-160 * W, 1e-162 * W)["norm_ratio"] == pytest.approx(100.0)
    assert "all zero" in alignment(W, 0 * W).reason
    with pytest.raises(ProbeError, match="transpose"):
        alignment(W, W.T)
    with pytest.raises(ProbeError, match="non-finite"):
        alignment(W, np.nan * W)


def test_directions_are_compared_block_by_block():
    direction, reference = tree(0), tree(0)
    reference["conv1"] = {name: -3.0 * leaf for name, leaf in reference["conv1"].items()}
    reference["output"] = {"kernel": np.zeros((6, 4)), "bias": np.zeros(4)}
    found = direction_alignment(direction, reference)
    assert found["conv1"]["angle"] == pytest.approx(180.0)
    assert found["conv1"]["norm_ratio"] == pytest.approx(1 / 3)
    assert found["stage"]["angle"] == 0.0
    assert isinstance(found["output"], Undefined)


def norms(*arrays):
    return {f"dense{i}": activity_norm(np.linalg.norm(h, axis=1)) for i, h in enumerate(arrays, 1)}


def test_growth_of_activity_is_watched_layer_by_layer():
    h = np.random.default_rng(0).standard_normal((30, 10))
    assert scale_stability(norms(h, 40 * h, 1600 * h)) is None
    assert "grows 60 times from dense2 to dense3" in scale_stability(norms(h, h, 60 * h))
    assert scale_stability(norms(h, h, 60 * h), threshold=61) is None
    assert scale_stability(norms(h)) is None
    assert "dense2 is silent" in scale_stability(norms(h, 0 * h, h))
    outlier = h.copy()
    outlier[0] *= 1e6
    assert scale_stability(norms(h, outlier)) is None  # a median over stimuli


def test_a_reference_gradient_at_the_floor_is_warned_of():
    g = np.random.default_rng(0).standard_normal((30, 10))
    lengths = np.linalg.norm(g, axis=1)
    of = {"dense1": gradient_norm(lengths), "dense2": gradient_norm(1e-9 * lengths)}
    assert reference_validity({"dense1": of["dense1"]}) is None
    assert "at dense2 has norm" in reference_validity(of)
    assert "below 1e-07" in reference_validity(of)
    assert reference_validity(of, floor=1e-10) is None
    assert reference_validity({}) is None


def test_a_network_that_answers_nearly_everything_right_has_a_sound_gradient():
    """One stimulus in a hundred has an error of 1, the others of 1e-12: their median is at the floor."""
    g = np.full(100, 1e-12)
    g[0] = 1.0
    assert gradient_norm(g) == pytest.approx(0.1)
    assert reference_validity({"dense1": gradient_norm(g)}) is None


def test_depth_that_brings_nothing_is_warned_of():
    assert depth_utility(0.40, 0.349) is None
    assert "30.6 % beside 34.9 % of" in depth_utility(0.306, 0.349)
    assert "95.0 % beside 94.0 % of" in depth_utility(0.95, 0.94)
    assert depth_utility(0.95, 0.94, margin=0.005) is None
    assert "% of a linear readout" in depth_utility(0.95, 0.94, "a linear readout")


def test_norms_that_training_takes_are_those_of_the_gradient_by_stimulus():
    """At the deepest layer (softmax(z) − onehot(y)) Wᵀ/n; at pooled feature maps central differences in float64, whose
    error is 1e-10; `gradient_lengths` sums some ten numbers in single precision."""
    task, net = task_of(), conv(2, kernel=3, dense=(5,))((8, 8, 1), 4)
    model = ForwardModel(net)
    s = drawn(task, model, 0)
    batch = Batch(jnp.asarray(task.x, jnp.float32), jnp.asarray(task.y))
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), s.params)
    maps, deepest = jax.jit(lambda p: gradient_lengths(net, p, "ce", batch))(params)
    p = np.exp(s.scores - s.scores.max(1, keepdims=True))
    error = p / p.sum(1, keepdims=True) - np.eye(4)[task.y]
    expected = np.linalg.norm(error @ s.params["output"]["kernel"].T / 64, axis=1)
    np.testing.assert_allclose(deepest, expected, rtol=1e-4, atol=1e-7)
    with jax.enable_x64(True):
        wide = doubled(s.params)
        h = np.asarray(model.hidden(wide, doubled(task.x), "conv1"))
        losses = jax.jit(lambda h: -jax.nn.log_softmax(model.rest(wide, h, "conv1"))[np.arange(64), task.y] / 64)
        slopes = [losses(h + step) - losses(h - step) for step in 1e-5 * np.eye(h[0].size).reshape(-1, *h[0].shape)]
    expected = np.linalg.norm(np.array(slopes) / 2e-5, axis=0)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-7)
