"""Functional probes beside networks written out in NumPy, fits of scikit-learn and scipy, and whole Jacobians.

Tolerance 1e-9 unless said: both sides evaluate one formula in float64. Accuracies are counts, so they are exact.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from lab_models import task_of, trained
from scipy.linalg import orthogonal_procrustes, svdvals
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cosine
from scipy.stats import linregress

from lab.functional_model import ForwardModel
from lab.networks import mlp
from probes.adversarial import adversarial_transfer
from probes.calibration import calibration_error
from probes.connectivity import mode_connectivity, permuted, weight_matching
from probes.forward import doubled
from probes.maps import affine_map
from probes.outputs import log_softmax
from probes.stitching import head_swap, probe_transfer, stitching, task_map
from probes.subject import Earlier, Subject, Task, subject
from probes.tangent_kernel import kernel_velocity, rich_lazy, tangent_alignment, tangent_distance
from probes.weight_probes import gradient_alignment, weight_feedback_angle, weight_spectrum

LINEAR = ForwardModel(mlp()((8, 8, 1), 2))
MODEL = ForwardModel(mlp(8, 6)((8, 8, 1), 4))
SMALL = ForwardModel(mlp(3, act="tanh")((4, 4, 1), 3))


@pytest.fixture(scope="module")
def task():
    return task_of(n=128, noise=0.6)


@pytest.fixture(scope="module")
def nets(task):
    return [trained(task, MODEL, seed, steps=100) for seed in (0, 1)]


def activity(s, x):
    """The last hidden layer, and the scores behind it."""
    h = x.reshape(len(x), -1)
    for name in ("dense1", "dense2"):
        h = np.maximum(h @ np.asarray(s.params[name]["kernel"], float) + np.asarray(s.params[name]["bias"], float), 0)
    return h


def answers(s, h):
    return (h @ np.asarray(s.params["output"]["kernel"], float) + np.asarray(s.params["output"]["bias"], float)).argmax(
        1
    )


def sklearns_ridge(h, target, strength, fit):
    linear_model = pytest.importorskip("sklearn.linear_model")
    mean, sd = h[fit].mean(0), np.where(h[fit].std(0) > 0, h[fit].std(0), 1.0)
    model = linear_model.Ridge(alpha=strength * fit.sum()).fit((h[fit] - mean) / sd, target)
    return model.predict((h - mean) / sd)


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_a_stitch_is_sklearns_ridge_between_the_two_halves_written_out(task, nets, strength):
    metrics = pytest.importorskip("sklearn.metrics")
    a, b = nets
    fit, y = task.fitting, task.y
    front, own = activity(a, task.x), activity(b, task.x)
    mapped = sklearns_ridge(front, own[fit], strength, fit)
    found = stitching(ridge=strength).value(task, a.at("dense2"), b.at("dense2"))
    host = np.mean(answers(b, own)[~fit] == y[~fit])
    assert found["host"] == host
    assert found["accuracy"] == np.mean(answers(b, mapped)[~fit] == y[~fit])
    assert found["value"] == found["accuracy"] / host
    explained = metrics.r2_score(own[~fit], mapped[~fit], multioutput="variance_weighted")
    assert found["r2"] == pytest.approx(explained, abs=1e-9)
    again = sklearns_ridge(own, own[fit], strength, fit)
    assert found["identity"] == np.mean(answers(b, again)[~fit] == y[~fit]) / host
    swap = head_swap(ridge=strength).value(task, a.at("dense2"), b.at("dense2"))
    assert swap["affine"] == found["value"]


def test_a_swapped_head_sees_scipys_rotation_of_the_other_layer(task, nets):
    metrics = pytest.importorskip("sklearn.metrics")
    a, b = nets
    fit, y = task.fitting, task.y
    front, own = activity(a, task.x), activity(b, task.x)
    R, _ = orthogonal_procrustes(front[fit] - front[fit].mean(0), own[fit] - own[fit].mean(0))
    turned = (front - front[fit].mean(0)) @ R + own[fit].mean(0)
    found = head_swap().value(task, a.at("dense2"), b.at("dense2"))
    assert found["value"] == np.mean(answers(b, turned)[~fit] == y[~fit]) / found["host"]
    assert found["raw"] == np.mean(answers(b, front)[~fit] == y[~fit]) / found["host"]
    explained = metrics.r2_score(own[~fit], turned[~fit], multioutput="variance_weighted")
    assert found["r2"] == pytest.approx(explained, abs=1e-9)


def test_a_transferred_readout_is_sklearns_ridge_behind_scipys_rotation(task, nets):
    a, b = nets
    fit, y = task.fitting, task.y
    of_a, of_b = activity(a, task.x), activity(b, task.x)
    R, _ = orthogonal_procrustes(of_b[fit] - of_b[fit].mean(0), of_a[fit] - of_a[fit].mean(0))
    turned = (of_b - of_b[fit].mean(0)) @ R + of_a[fit].mean(0)
    linear_model = pytest.importorskip("sklearn.linear_model")

    def accuracy(trained_on, read):
        mean, sd = trained_on[fit].mean(0), trained_on[fit].std(0)
        used = sd > 0
        model = linear_model.Ridge(alpha=0.1 * fit.sum())
        model.fit(((trained_on - mean) / np.where(used, sd, 1))[fit][:, used], np.eye(4)[y[fit]])
        return np.mean(model.predict(((read - mean) / np.where(used, sd, 1))[~fit][:, used]).argmax(1) == y[~fit])

    found = probe_transfer(ridge=0.1).value(task, a.at("dense2"), b.at("dense2"))
    own = accuracy(of_b, of_b)
    assert (found["own"], found["source"]) == (own, accuracy(of_a, of_a))
    assert found["value"] == accuracy(of_a, turned) / own
    assert found["raw"] == accuracy(of_a, of_b) / own


def test_a_stitch_by_task_loss_in_front_of_a_linear_readout_is_logistic_regression(nets):
    """The readout of 6 units to 4 classes reaches every affine map to the scores, so the least loss is that of an
    unpenalised multinomial regression, of random labels here, which no map separates."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    h, y = rng.standard_normal((120, 5)), rng.integers(0, 4, 120)
    b = nets[1].at("dense2")
    with jax.enable_x64(True):
        host = Subject(b.scores, model=MODEL, params=doubled(b.params), layer="dense2")
        S = task_map(host, (6,), affine_map(h, rng.standard_normal((120, 6))), h, y, 3000)
    z = S(h) @ np.asarray(b.params["output"]["kernel"], float) + np.asarray(b.params["output"]["bias"], float)
    model = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(h, y)
    theirs = -np.log(model.predict_proba(h)[np.arange(120), y]).mean()
    assert -log_softmax(z)[np.arange(120), y].mean() == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("bins", [5, 15])
def test_calibration_error_is_that_of_sklearns_curve_over_quantiles(bins):
    """300 stimuli of different confidence fall into bins of equal size, so the mean over bins is the mean over them.
    Labels are drawn as the scores say: some bins are too sure and some not sure enough."""
    calibration = pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(0)
    z = 2 * rng.standard_normal((300, 5))
    p = np.exp(log_softmax(z))
    y = (p.cumsum(axis=1) < rng.random((300, 1))).sum(axis=1)
    true, said = calibration.calibration_curve(p.argmax(1) == y, p.max(1), n_bins=bins, strategy="quantile")
    assert (true < said).any()
    assert (true > said).any()
    found = calibration_error(bins=bins).value(Task(y), Subject(z))
    assert found["value"] == pytest.approx(np.abs(true - said).mean(), abs=1e-9)


def test_units_of_one_hidden_layer_are_matched_by_one_assignment():
    """With one hidden layer the coordinate ascent is one linear assignment, of weights on both sides and biases; here
    the order would be another without any of the three."""
    task, model = task_of(), ForwardModel(mlp(12)((8, 8, 1), 4))
    a, b = (trained(task, model, seed) for seed in (0, 1))
    for i, s in enumerate((a, b)):
        s.params["dense1"]["bias"] = np.random.default_rng(i).standard_normal(12)
    a, b = (subject(task, model, s.params) for s in (a, b))
    p, q = a.params, b.params
    parts = [
        p["dense1"]["kernel"].T @ q["dense1"]["kernel"],
        p["output"]["kernel"] @ q["output"]["kernel"].T,
        np.outer(p["dense1"]["bias"], q["dense1"]["bias"]),
    ]
    order = linear_sum_assignment(sum(parts), maximize=True)[1]
    for i in range(3):
        without = linear_sum_assignment(sum(parts[:i] + parts[i + 1 :]), maximize=True)[1]
        assert not np.array_equal(without, order)
    assert np.array_equal(weight_matching(model.chain, p, q)["dense1"], order)
    aligned = subject(task, model, permuted(model.chain, q, {"dense1": order}))
    found = mode_connectivity(points=5).value(task, a, b)
    assert found["aligned"] == pytest.approx(mode_connectivity(points=5).value(task, a, aligned)["value"], abs=1e-12)
    assert 0 < found["aligned"] != found["value"]


@pytest.mark.parametrize("epsilon", [0.3, 1.0])
def test_attacks_carry_over_between_linear_classifiers_as_far_as_their_normals_agree(epsilon):
    """x' = x − ε·sign·n_A, so B errs exactly where its margin is below ε·n_A·(w_right − w_other)_B."""
    task = task_of(classes=2, noise=0.8)
    a, b = (trained(task, LINEAR, seed, steps=20) for seed in (0, 1))
    x, sign = task.x.reshape(64, -1), np.where(task.y == 0, 1.0, -1.0)
    parts = []
    for s in (a, b):
        W, bias = (np.asarray(s.params["output"][name], float) for name in ("kernel", "bias"))
        parts.append((W[:, 0] - W[:, 1], bias[0] - bias[1]))

    def margin(of, at):
        w, b0 = parts[of]
        return sign * (at @ w + b0)

    both = (margin(0, x) > 0) & (margin(1, x) > 0)
    moved = [x - epsilon * sign[:, None] * w / np.linalg.norm(w) for w, _ in parts]
    transferred, own, source = (np.mean(margin(of, moved[on])[both] < 0) for of, on in ((1, 0), (1, 1), (0, 0)))
    found = adversarial_transfer(epsilon=epsilon, box=None).value(task, a, b)
    assert own > 0
    assert found == {
        "value": transferred / own,
        "transferred": transferred,
        "own": own,
        "source": source,
        "stimuli": both.sum(),
    }


# Tangent kernels


def whole_kernels(x, *params):
    """J Jᵀ from the Jacobian of all scores with respect to all parameters."""
    with jax.enable_x64(True):
        x, unravel = jnp.asarray(x), ravel_pytree(doubled(params[0]))[1]
        jacobian = jax.jit(jax.jacrev(lambda theta: SMALL.scores(unravel(theta), x)))
        whole = [np.asarray(jacobian(ravel_pytree(doubled(p))[0])) for p in params]
    return [np.einsum("icp,jcp->ij", J, J) for J in whole]


def test_measures_of_tangent_kernels_are_those_of_whole_jacobians():
    task = task_of(n=24, side=4, classes=3)
    now = trained(task, SMALL, 0, steps=30)
    start = Subject(now.scores, model=SMALL, params=now.initial)
    K, L = whole_kernels(task.x, now.params, now.initial)
    H = np.eye(24) - 1 / 24
    labels = H @ (task.y[:, None] == task.y) @ H

    def aligned(K):
        return 1 - cosine((H @ K @ H).ravel(), labels.ravel())

    moved = cosine(K.ravel(), L.ravel())
    assert moved > 1e-4
    assert tangent_alignment().value(task, now) == pytest.approx(aligned(K), abs=1e-9)
    assert tangent_distance().value(task, now, start) == pytest.approx(moved, abs=1e-12)
    flat = [ravel_pytree(jax.tree.map(np.asarray, p))[0] for p in (now.params, now.initial)]
    weights = np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1])
    found = rich_lazy().value(task, now)
    assert found == pytest.approx(
        {"value": moved, "weights": weights, "alignment": aligned(K), "initial": aligned(L)}, rel=1e-9
    )
    later = Subject(now.scores, model=SMALL, params=now.params, earlier=Earlier(now.initial, 30))
    assert kernel_velocity().value(task, later)["value"] == pytest.approx(moved / 30, abs=1e-12)


# Weights and directions


def test_spectrum_of_a_random_matrix_is_scipys():
    W = np.random.default_rng(0).standard_normal((40, 25)) * np.logspace(0, -1, 25)
    s = svdvals(W)
    fit = linregress(np.log(np.arange(3, 21)), 2 * np.log(s[2:20]))
    found = weight_spectrum(low=3, high=20).value(
        Task(np.array([0, 1])), Subject(np.eye(2), params={"a": {"kernel": W, "bias": np.ones(25)}}, layer="a")
    )
    assert found == pytest.approx(
        {
            "value": np.linalg.norm(W) ** 2 / s[0] ** 2,
            "spectral": s[0],
            "frobenius": np.linalg.norm(W),
            "exponent": -fit.slope,
            "r2": fit.rvalue**2,
        },
        rel=1e-9,
    )


def test_angles_of_feedback_and_of_directions_are_scipys():
    rng = np.random.default_rng(0)
    W, g = rng.standard_normal((9, 6)), rng.standard_normal((9, 6))
    B = W + 0.7 * g
    expected = np.degrees(np.arccos(1 - cosine(W.ravel(), B.ravel())))
    two = Task(np.array([0, 1]))
    found = weight_feedback_angle().value(two, Subject(np.eye(2), feedback={"a": (W, B)}, layer="a"))
    assert found["value"] == pytest.approx(expected, rel=1e-9)
    assert found["z"] == pytest.approx(np.sqrt(54) * (1 - cosine(W.ravel(), B.ravel())), rel=1e-9)
    credit = {"a": {"kernel": W, "bias": g[0]}}, {"a": {"kernel": B, "bias": g[1]}}
    d, r = (np.concatenate([tree["a"]["kernel"].ravel(), tree["a"]["bias"]]) for tree in credit)
    found = gradient_alignment().value(two, Subject(np.eye(2), credit=lambda: credit, layer="a"))
    assert found["value"] == pytest.approx(np.degrees(np.arccos(1 - cosine(d, r))), rel=1e-9)
    assert found["norm_ratio"] == pytest.approx(np.linalg.norm(d) / np.linalg.norm(r), rel=1e-9)
