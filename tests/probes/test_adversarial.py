"""Attacks, distances to the boundary and Jacobians: linear networks, where all of it has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lab_models import drawn, task_of, trained

from lab.functional_model import ForwardModel
from lab.networks import conv, mlp
from probes import ProbeError, Undefined
from probes.adversarial import adversarial_distance, adversarial_transfer, attacked, boundary_points
from probes.forward import hidden, scores
from probes.sensitivity import jacobian_spectra, jacobian_volume, log_volumes
from probes.subject import Subject, subject

LINEAR = ForwardModel(mlp()((8, 8, 1), 4))
MODEL = ForwardModel(mlp(8, 6)((8, 8, 1), 4))


@pytest.fixture(scope="module")
def task():
    return task_of()


@pytest.fixture(scope="module")
def nets(task):
    return [trained(task, MODEL, seed) for seed in (0, 1)]


def distances(s, x):
    """Of a linear classifier: min_k (z_first − z_k)/‖w_first − w_k‖."""
    W = np.asarray(s.params["output"]["kernel"], float)
    z = x.reshape(len(x), -1) @ W + np.asarray(s.params["output"]["bias"], float)
    first = z.argmax(1)
    gaps = z[np.arange(len(z)), first][:, None] - z
    norms = np.linalg.norm(W[:, first].T[:, :, None] - W[None], axis=1)
    return np.where(norms > 0, gaps / np.where(norms > 0, norms, 1), np.inf).min(1)


def test_distance_of_a_linear_classifier_is_exact(task):
    """1e-9: the boundary is bisected to 2^-60 of a step, and a stimulus' scores are rounded to 1e-15."""
    s = trained(task, LINEAR, 0)
    expected = distances(s, task.x)
    found = adversarial_distance(points=64).value(task, s)
    assert found["value"] == pytest.approx(expected.mean(), rel=1e-9)
    assert found["median"] == pytest.approx(np.median(expected), rel=1e-9)
    sizes = np.linalg.norm(task.x.reshape(64, -1), axis=1)
    assert found["relative"] == pytest.approx((expected / sizes).mean(), rel=1e-9)
    assert found["missed"] == 0.0


def test_boundary_points_of_a_network_lie_just_across_the_boundary(task, nets):
    """Those that are found; for the others the way has led to where all units of a layer are silent."""
    s = nets[0]
    with jax.enable_x64(True):
        x = jnp.asarray(task.x[:32])
        points, found = boundary_points(s.model, s.params, x, 50)
        there = np.asarray(scores(s.model, s.params, points))
        before = np.asarray(scores(s.model, s.params, x + (1 - 1e-9) * (points - x))).argmax(1)
        first = np.asarray(hidden(s.model, s.params, points, "dense1"))
    found = np.asarray(found)
    assert found.mean() > 0.5
    assert (first[~found] == 0).all()
    assert ((there.argmax(1) != s.prediction[:32]) == found).all()
    assert (before == s.prediction[:32]).all()
    top = np.sort(there[found], axis=1)
    np.testing.assert_allclose(top[:, -1], top[:, -2], atol=1e-9)


def test_a_network_without_slope_has_no_distance(task):
    params = {"output": {"kernel": np.zeros((64, 4)), "bias": np.arange(4.0)}}
    flat = subject(task, LINEAR, params)
    assert "within 50 linearisations" in adversarial_distance().value(task, flat).reason
    assert isinstance(adversarial_distance().value(task, Subject(flat.scores)), Undefined)


@pytest.mark.parametrize("steps", [1, 10])
def test_attack_on_a_linear_classifier_of_two_classes_goes_straight_to_the_other(steps):
    """The margin's gradient is w_right − w_other everywhere: x' = x − ε (w_right − w_other)/‖..‖."""
    task = task_of(classes=2)
    model = ForwardModel(mlp()((8, 8, 1), 2))
    s = drawn(task, model, 0)
    W = np.asarray(s.params["output"]["kernel"], float)
    normal = np.where(task.y == 0, 1.0, -1.0)[:, None] * (W[:, 0] - W[:, 1]) / np.linalg.norm(W[:, 0] - W[:, 1])
    with jax.enable_x64(True):
        found = attacked(model, s.params, jnp.asarray(task.x), jnp.asarray(task.y), 0.7, steps, None)
    np.testing.assert_allclose(np.asarray(found).reshape(64, -1), task.x.reshape(64, -1) - 0.7 * normal, atol=1e-12)


def test_attacks_stay_in_the_ball_and_in_the_box(task, nets):
    s = nets[0]
    with jax.enable_x64(True):
        x, y = jnp.asarray(task.x), jnp.asarray(task.y)
        moved = np.asarray(attacked(s.model, s.params, x, y, 1.3, 5, (0.0, 1.0)))
    assert moved.min() >= 0.0
    assert moved.max() <= 1.0
    assert np.linalg.norm((moved - task.x).reshape(64, -1), axis=1).max() <= 1.3 + 1e-12


def test_transfer_to_itself_is_complete_and_many_steps_fool_at_least_as_often(task, nets):
    a, b = nets
    many = adversarial_transfer(epsilon=1.0).value(task, a, b)
    one = adversarial_transfer(epsilon=1.0, steps=1).value(task, a, b)
    assert many["own"] >= one["own"]
    assert many["value"] == pytest.approx(many["transferred"] / many["own"])
    right = (a.prediction == task.y) & (b.prediction == task.y)
    assert many["stimuli"] == right.sum()
    itself = adversarial_transfer(epsilon=1.0).value(task, a, a)
    assert itself["value"] == 1.0
    assert itself["transferred"] == itself["own"] == itself["source"] > 0


def test_scale_of_the_scores_does_not_hide_the_gradient(task, nets):
    """A softmax of scores a thousand times larger is saturated; the margin's direction is the same."""
    a, b = nets
    loud = {**b.params, "output": jax.tree.map(lambda v: 1e3 * np.asarray(v, float), b.params["output"])}
    loud = Subject(1e3 * b.scores, model=MODEL, params=loud)
    probe = adversarial_transfer()
    assert probe.value(task, a, loud) == pytest.approx(probe.value(task, a, b))


def test_transfer_says_why_it_does_not_exist(task, nets):
    a, b = nets
    spiking = Subject(a.scores, model=Undefined("spikes have no derivative"))
    assert adversarial_transfer().value(task, spiking, b).reason == "spikes have no derivative"
    flat = {**b.params, "output": {"kernel": np.zeros((6, 4)), "bias": np.array([1.0, 0, 0, 0])}}
    flat = subject(task, MODEL, flat)
    assert "fools B itself" in adversarial_transfer().value(task, a, flat)["value"].reason
    wrong = {**b.params, "output": {"kernel": np.zeros((6, 4)), "bias": np.array([0.0, 1, 0, 0])}}
    wrong = subject(task, MODEL, wrong)
    assert "both networks classify right" in adversarial_transfer().value(task, flat, wrong).reason


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"epsilon": 0}, "no change"), ({"epsilon": -1}, "epsilon"), ({"box": (1, 0)}, "box"), ({"steps": 0}, "steps")],
)
def test_settings_of_the_attack_are_checked(settings, said):
    with pytest.raises(ProbeError, match=said):
        adversarial_transfer(**settings)


def test_inputs_outside_the_box_are_refused(task, nets):
    with pytest.raises(ProbeError, match="outside box"):
        adversarial_transfer(box=(0.2, 0.4)).value(task, *nets)


def test_jacobian_of_a_linear_network_is_its_weights_everywhere(task):
    model = ForwardModel(mlp(8, 6, act="linear")((8, 8, 1), 4))
    s = trained(task, model, 0).at("dense2")
    W = np.asarray(s.params["dense1"]["kernel"], float) @ np.asarray(s.params["dense2"]["kernel"], float)
    sigma = np.linalg.svd(W, compute_uv=False)
    found = jacobian_volume(k=4, points=20).value(task, s)
    assert found["value"] == pytest.approx(0.0, abs=1e-9)
    assert found["far"] == pytest.approx(np.log(sigma[:4]).sum(), rel=1e-9)
    assert found["largest"] == pytest.approx(sigma[0], rel=1e-9)
    assert found["frobenius"] == pytest.approx(np.linalg.norm(W), rel=1e-9)
    assert found["rank"] == pytest.approx((sigma**2).sum() ** 2 / (sigma**4).sum(), rel=1e-9)
    assert found["kept"] == 1.0


def test_a_layer_steepest_at_the_boundary_magnifies_it(task):
    """h = tanh(w·x + b) with the boundary at h = 0: σ = ‖w‖(1 − h²) is largest there, ‖w‖ exactly."""
    model = ForwardModel(mlp(1, act="tanh")((8, 8, 1), 2))
    two = task_of(classes=2)
    w = np.random.default_rng(0).standard_normal((64, 1)) / 2
    centre = -np.median(two.x.reshape(64, -1) @ w)
    params = {
        "dense1": {"kernel": w, "bias": np.array([centre])},
        "output": {"kernel": np.array([[1.0, -1.0]]), "bias": np.zeros(2)},
    }
    s = subject(two, model, params).at("dense1")
    h = np.tanh(two.x.reshape(64, -1) @ w + centre)
    found = jacobian_volume(k=1, points=64).value(two, s)
    assert found["near"] == pytest.approx(np.log(np.linalg.norm(w)), abs=1e-9)
    assert found["value"] == pytest.approx(-np.log(1 - h**2).mean(), rel=1e-7)
    assert found["value"] > 0
    assert "2 singular values" not in str(found)
    assert "1 singular values, fewer than k = 2" in jacobian_volume(k=2).value(two, s).reason


def test_spectra_of_a_network_with_maps_are_those_of_finite_differences(task):
    """Central differences of float64 at step 1e-6 are good to 1e-9 or so, unless a kink lies between."""
    s = drawn(task, ForwardModel(conv(2, kernel=3, dense=(3,), act="tanh")((8, 8, 1), 4)), 0)
    with jax.enable_x64(True):
        x = jnp.asarray(task.x[:1])
        params = jax.tree.map(jnp.asarray, s.params)
        found = jacobian_spectra(s.model, params, x, "conv1")
        steps = 1e-6 * jnp.eye(64).reshape(64, 8, 8, 1)
        h = [np.asarray(hidden(s.model, params, x + sign * steps, "conv1")).reshape(64, -1) for sign in (1, -1)]
    expected = np.linalg.svd((h[0] - h[1]) / 2e-6, compute_uv=False)
    np.testing.assert_allclose(found[0], expected, atol=1e-7)


def test_a_vanishing_singular_value_has_no_logarithm():
    volumes = log_volumes(np.array([[2.0, 1.0, 0.0], [1.0, 1e-15, 0.0], [0.0, 0.0, 0.0]]), 2)
    assert volumes[0] == pytest.approx(np.log(2))
    assert np.isnan(volumes[1:]).all()
