"""Weights, feedback, directions and moving tangent kernels as probes: by hand, by simulation, in the lazy limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lab_models import drawn, task_of, trained

from algorithms.controls import lazy
from algorithms.rule import Batch
from lab.functional_model import ForwardModel
from lab.networks import mlp, vit
from probes import ProbeError, Undefined
from probes.forward import doubled
from probes.subject import Earlier, Subject, Task
from probes.tangent_kernel import kernel_velocity, rich_lazy, tangent_distance
from probes.weight_probes import (
    distance_from_initialisation,
    gradient_alignment,
    subspace_overlap,
    weight_feedback_angle,
    weight_spectrum,
)
from probes.weights import matrices

TASK = Task(np.array([0, 1, 0]))
SCORES = np.eye(2)[TASK.y]


def value(probe, layer="a", **known):
    return probe.value(TASK, Subject(SCORES, layer=layer, **known))


def kernel(W):
    return {"a": {"kernel": np.asarray(W, float), "bias": np.full(np.shape(W)[-1], 7.0)}}


def feedback(W, B):
    return value(weight_feedback_angle(), feedback={"a": (np.asarray(W, float), np.asarray(B, float))})


def test_feedback_equal_to_the_weights_is_at_no_angle_and_its_opposite_at_180_degrees():
    W = np.random.default_rng(0).standard_normal((30, 20))
    found = feedback(W, W)
    assert (found["value"], found["norm_ratio"]) == (0.0, 1.0)
    assert found["z"] == pytest.approx(np.sqrt(600), rel=1e-12)
    assert feedback(W, -2 * W)["value"] == 180.0
    assert feedback([[1.0, 1.0]], [[0.0, 3.0]])["value"] == pytest.approx(45.0, rel=1e-12)
    assert isinstance(feedback(W, 0 * W), Undefined)


def test_random_feedback_has_a_standard_normal_z():
    """2000 draws know a standard deviation to 1/√4000 = 1.6 %, and a mean to .022."""
    rng = np.random.default_rng(0)
    z = [feedback(rng.standard_normal((8, 5)), rng.standard_normal((8, 5)))["z"] for _ in range(2000)]
    assert np.std(z) == pytest.approx(1.0, abs=0.05)
    assert np.mean(z) == pytest.approx(0.0, abs=0.07)


def test_feedback_of_the_signs_starts_at_37_degrees():
    """⟨W, sign W⟩/(‖W‖√N) = E|w|/√E w² = √(2/π) for Gaussian W; N = 40000 know it to .6/200 = .003."""
    W = np.random.default_rng(0).standard_normal((200, 200))
    assert feedback(W, 0.3 * np.sign(W))["cosine"] == pytest.approx(np.sqrt(2 / np.pi), abs=0.01)


def test_spectrum_of_a_power_law_and_of_an_orthogonal_matrix():
    rng = np.random.default_rng(0)
    Q, R = (np.linalg.qr(rng.standard_normal((60, 60)))[0] for _ in range(2))
    s = np.arange(1, 61) ** -0.6
    found = value(weight_spectrum(), params=kernel(Q @ np.diag(s) @ R))
    assert found["exponent"] == pytest.approx(1.2, rel=1e-9)
    assert found["r2"] == pytest.approx(1.0, rel=1e-9)
    assert found["spectral"] == pytest.approx(1.0, rel=1e-9)
    assert found["value"] == pytest.approx((s**2).sum(), rel=1e-9)
    assert found["frobenius"] == pytest.approx(np.sqrt((s**2).sum()), rel=1e-9)
    assert value(weight_spectrum(), params=kernel(3 * Q))["value"] == pytest.approx(60.0, rel=1e-9)
    scaled = value(weight_spectrum(), params=kernel(1e-200 * Q @ np.diag(s) @ R))
    assert scaled["value"] == pytest.approx(found["value"], rel=1e-9)
    assert scaled["frobenius"] == pytest.approx(1e-200 * found["frobenius"], rel=1e-9)


def test_a_small_matrix_has_no_exponent_and_a_zero_one_no_spectrum():
    found = value(weight_spectrum(), params=kernel(np.diag([3.0, 4.0])))
    assert (found["value"], found["spectral"], found["frobenius"]) == pytest.approx((25 / 16, 4.0, 5.0))
    assert "only 2 are above rounding" in found["exponent"].reason
    assert "all zero" in value(weight_spectrum(), params=kernel(np.zeros((3, 3)))).reason
    with pytest.raises(ProbeError, match="at least three ranks"):
        weight_spectrum(low=4, high=5)


def test_distance_is_of_the_weights_alone_relative_and_absolute():
    before, now = kernel([[3.0, 4.0]]), kernel([[3.0, 6.0]])
    now["a"]["bias"] = np.array([100.0, 100.0])
    probe = distance_from_initialisation()
    assert value(probe, params=now, initial=before) == pytest.approx({"value": 2 / 5, "absolute": 2.0}, rel=1e-12)
    assert value(probe, params=before, initial=before) == {"value": 0.0, "absolute": 0.0}
    tiny = value(probe, params=kernel([[3e-200, 6e-200]]), initial=kernel([[3e-200, 4e-200]]))
    assert tiny["value"] == pytest.approx(2 / 5, rel=1e-12)
    found = value(probe, params=now, initial=kernel([[0.0, 0.0]]))
    assert found["absolute"] == pytest.approx(np.sqrt(45), rel=1e-12)
    assert "all zero" in found["value"].reason
    assert "before training" in value(probe, params=now).reason
    with pytest.raises(ProbeError, match="another shape"):
        value(probe, params=now, initial=kernel([[1.0]]))


def test_the_subspace_of_a_start_that_only_its_outputs_were_turned_of_is_all_there():
    """W₀ R reads the same inputs in the same order as W₀, and answers with other patterns of units."""
    rng = np.random.default_rng(0)
    Q, R = (np.linalg.qr(rng.standard_normal((20, 20)))[0] for _ in range(2))
    before = Q @ np.diag(np.arange(20.0, 0.0, -1.0))
    found = value(subspace_overlap(k=4), params=kernel(before @ R), initial=kernel(before))
    assert found["value"] == pytest.approx(1.0, abs=1e-9)
    assert found["units"] == pytest.approx((R[:4, :4] ** 2).sum() / 4, abs=1e-9)  # V₀ is the identity, V is Rᵀ
    assert (found["chance"], found["chance_units"]) == (0.2, 0.2)
    assert "rank 20" in value(subspace_overlap(k=21), params=kernel(before), initial=kernel(before)).reason
    assert "before training" in value(subspace_overlap(), params=kernel(before)).reason
    with pytest.raises(ProbeError, match="k=0"):
        subspace_overlap(k=0)


def test_subspaces_overlap_by_the_squared_cosines_of_scipys_angles():
    from scipy.linalg import subspace_angles, svd

    rng = np.random.default_rng(1)
    W, start = rng.standard_normal((2, 30, 12))
    found = value(subspace_overlap(k=5), params=kernel(W), initial=kernel(start))
    (U, _, Vt), (U0, _, V0t) = svd(W, full_matrices=False), svd(start, full_matrices=False)
    inputs, units = subspace_angles(U[:, :5], U0[:, :5]), subspace_angles(Vt[:5].T, V0t[:5].T)
    assert found["value"] == pytest.approx(np.mean(np.cos(inputs) ** 2), abs=1e-12)
    assert found["units"] == pytest.approx(np.mean(np.cos(units) ** 2), abs=1e-12)


def credit(direction, gradient):
    return lambda: ({"a": direction, "b": {"bias": np.zeros(1)}}, {"a": gradient, "b": {"bias": np.ones(1)}})


def test_directions_are_held_against_the_gradient_of_their_own_block():
    d, g = {"kernel": np.array([[3.0, 0.0]]), "bias": np.array([4.0])}, {"kernel": np.array([[0.0, 2.0]])}
    g["bias"] = np.zeros(1)
    found = value(gradient_alignment(), credit=credit(d, d))
    assert (found["value"], found["norm_ratio"], found["reference_norm"]) == (0.0, 1.0, 5.0)
    found = value(gradient_alignment(), credit=credit(d, g))
    assert found == pytest.approx({"value": 90.0, "cosine": 0.0, "norm_ratio": 2.5, "reference_norm": 2.0})
    assert "leaves this block" in value(gradient_alignment(), "b", credit=credit(d, g)).reason
    zero = jax.tree.map(np.zeros_like, g)
    assert value(gradient_alignment(), credit=credit(d, zero)).reason == "the gradient is zero"


def test_what_is_not_known_of_a_network_has_a_reason_and_a_wrong_name_is_refused():
    by_start = (distance_from_initialisation(), subspace_overlap())
    for probe in (weight_spectrum(), *by_start, weight_feedback_angle(), gradient_alignment()):
        assert isinstance(value(probe), Undefined)
        assert isinstance(probe.places(Subject(SCORES)), Undefined)
    none = Undefined("nothing goes back")
    assert value(weight_feedback_angle(), feedback=none) is none
    assert value(weight_feedback_angle(), feedback={"a": none}) is none
    with pytest.raises(ProbeError, match="'c' is none of a"):
        value(weight_spectrum(), "c", params=kernel([[1.0]]))


def test_places_are_the_weights_of_every_block_and_no_bias():
    params = jax.tree.map(
        lambda leaf: np.ones(leaf.shape), jax.eval_shape(vit(8, depth=1)((28, 28, 1), 10).init, jax.random.key(0))
    )
    found = weight_spectrum().places(Subject(SCORES, params=params))
    assert set(found) == {"patches", *(f"attention1.{name}" for name in ("qkv", "out", "up", "down")), "output"}
    assert matrices(params)["patches"].shape == (49, 8)


SMALL = ForwardModel(mlp(4, act="tanh")((4, 4, 1), 3))


@pytest.fixture(scope="module")
def task():
    return task_of(n=30, side=4, classes=3)


def test_lazy_training_moves_weights_as_one_over_alpha_and_the_kernel_as_its_square(task):
    """w − w₀ = O(1/α) at a pace of the scores that does not depend on α; 1 − cos of two kernels is quadratic in their
    difference. The next order is 1/α smaller: 1e-2 of the ratios at α = 100 leave 5 %."""
    start = drawn(task, SMALL, 0)

    def moved(alpha):
        rule, key = lazy(alpha), jax.random.key(0)
        with jax.enable_x64(True):
            params, batch = doubled(start.params), Batch(doubled(task.x), jnp.asarray(task.y))
            state = {"start": params}
            descend = jax.jit(lambda p: rule.grads(key, SMALL.net, p, state, batch)[0])
            for _ in range(30):
                params = jax.tree.map(lambda p, g: p - 0.1 * g, params, descend(params))
        s = Subject(start.scores, model=SMALL, params=jax.tree.map(np.asarray, params), initial=start.params)
        weights = distance_from_initialisation().value(task, s.at("dense1"))["value"]
        return weights, rich_lazy(points=30).value(task, s)["value"]

    (weights, kernels), (less, least) = moved(1e2), moved(1e3)
    assert weights > 1e-4
    assert weights / less == pytest.approx(10, rel=0.05)
    assert kernels / least == pytest.approx(100, rel=0.1)


def test_velocity_is_the_distance_from_the_moment_before_per_step(task):
    before, now = drawn(task, SMALL, 0), trained(task, SMALL, 0, steps=10)
    s = Subject(now.scores, model=SMALL, params=now.params, earlier=Earlier(before.params, 10))
    distance = tangent_distance(points=30).value(task, now, before)
    assert distance > 1e-4
    found = kernel_velocity(points=30).value(task, s)
    assert found == pytest.approx({"value": distance / 10, "distance": distance, "steps": 10.0}, rel=1e-9)
    assert "no stored moment" in kernel_velocity().value(task, now).reason


def test_the_kernel_of_a_linear_network_does_not_move(task):
    linear = ForwardModel(mlp()((4, 4, 1), 3))
    a, b = (drawn(task, linear, seed) for seed in range(2))
    s = Subject(a.scores, model=linear, params=a.params, earlier=Earlier(b.params, 3))
    assert kernel_velocity(points=30).value(task, s)["value"] == pytest.approx(0.0, abs=1e-12)
