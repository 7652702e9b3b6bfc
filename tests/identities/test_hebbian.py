"""Hebbian rules against NumPy, and the fixed points that theory gives them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import SLOPE, assert_close, numpy_tree, same_bits, small_mlp, softmax

from algorithms import RULES, Batch, RuleError
from lab.networks import conv, mlp

KEY = jax.random.key(0)
NAMES = ["softhebb", "oja", "sanger"]


def grads(rule, net, params, batch):
    return rule.grads(KEY, net, params, {}, batch)[0]


def readout_direction(block, h, y):
    """The exact gradient of the cross-entropy of a linear readout."""
    z = h @ block["kernel"] + block["bias"]
    e = (softmax(z) - np.eye(z.shape[1])[np.asarray(y)]) / len(h)
    return {"kernel": h.T @ e, "bias": e.sum(0)}


@pytest.mark.parametrize("power", [0.5, 0.0])
@pytest.mark.parametrize("act", ["relu", "tanh"])
def test_softhebb_by_hand(act, power, x64):
    # dw_k = r_k y_k (x - (w_k x) w_k), sample by sample; the next layer sees f(u - mean u), u = W x + b, at rms 1.
    net, params, batch = small_mlp(4, 6, act=act)
    W, h = numpy_tree(params), np.asarray(batch.x).reshape(6, -1)
    expected, hidden = {}, []
    for name in ("dense1", "dense2"):
        w, b = W[name]["kernel"], W[name]["bias"]
        x = h / np.sqrt((h**2).mean(1, keepdims=True))
        u = x @ w + b
        y = softmax(0.7 * u)
        grown = np.zeros_like(w)
        for n in range(6):
            for k in range(w.shape[1]):
                rate = abs(np.linalg.norm(w[:, k]) - 1) ** power
                grown[:, k] += rate * y[n, k] * (x[n] - (u[n, k] - b[k]) * w[:, k]) / 6
        expected[name] = {"kernel": -grown, "bias": softmax(0.7 * b[None])[0] - y.mean(0)}
        h = SLOPE[act][0](u - u.mean(1, keepdims=True))
        hidden.append(h)
    expected["output"] = readout_direction(W["output"], h, batch.y)
    rule = RULES["softhebb"](temperature=0.7, power=power)
    # The length normalisation adds 1e-8 to a length of order 1.
    assert_close(grads(rule, net, params, batch), expected, rtol=1e-6)
    read = rule.forward(net, params, {}, batch.x)
    assert_close(read.hidden, tuple(hidden), rtol=1e-6)
    assert_close(read.scores, h @ W["output"]["kernel"] + W["output"]["bias"], rtol=1e-6)


@pytest.mark.parametrize("name", ["oja", "sanger"])
def test_principal_components_by_hand(name, x64):
    # Unit i gives up what the units it hears predict of its input: all of them (Oja), or those up to i (Sanger).
    net, params, batch = small_mlp(4, 6)
    W, h = numpy_tree(params), np.asarray(batch.x).reshape(6, -1)
    expected = {}
    for block in ("dense1", "dense2"):
        w, b = W[block]["kernel"], W[block]["bias"]
        z = h @ w + b
        y, grown = z - z.mean(0), np.zeros_like(w)
        for n in range(6):
            for i in range(w.shape[1]):
                heard = range(w.shape[1]) if name == "oja" else range(i + 1)
                grown[:, i] += y[n, i] * (h[n] - sum(y[n, j] * w[:, j] for j in heard)) / 6
        expected[block] = {"kernel": -grown, "bias": z.mean(0)}
        h = np.tanh(z)
    expected["output"] = readout_direction(W["output"], h, batch.y)
    assert_close(grads(RULES[name](), net, params, batch), expected)


@pytest.mark.parametrize("name", NAMES)
def test_no_label_is_used_before_the_readout(name, x64):
    net, params, batch = small_mlp(4, 6)
    rule = RULES[name]()
    one, other = grads(rule, net, params, batch), grads(rule, net, params, batch._replace(y=(batch.y + 1) % 3))
    for block in ("dense1", "dense2"):
        assert same_bits(one[block], other[block])
        assert all(leaf.any() for leaf in jax.tree.leaves(one[block]))
    assert not same_bits(one["output"], other["output"])
    assert not rule.info.credit


@pytest.mark.parametrize("name", NAMES)
def test_the_readout_descends_the_reported_loss_and_sends_nothing_down(name, x64):
    net, params, batch = small_mlp(4, 6)
    rule = RULES[name]()
    exact = jax.grad(lambda p: rule.objective(net, p, {}, batch))(params)
    found, state, metrics = rule.grads(KEY, net, params, {}, batch)
    assert_close(found["output"], exact["output"])
    assert not np.allclose(found["dense2"]["kernel"], exact["dense2"]["kernel"], rtol=0.1)
    assert float(metrics["loss"]) == pytest.approx(float(rule.objective(net, params, {}, batch)), rel=1e-12)
    assert state == {}
    assert rule.errors is None


def descend(rule, net, params, batch, rate, steps):
    def step(_, params):
        direction = grads(rule, net, params, batch)
        return jax.tree.map(lambda p, g: p - rate * g, params, direction)

    return jax.lax.fori_loop(0, steps, step, params)


def test_softhebb_brings_every_weight_vector_to_length_one(x64):
    # Fixed point: E[y_k x] = E[y_k u_k] w_k with u_k = w_k x; multiplied by w_k this is |w_k|² = 1, whatever the bias.
    # It is held here, since a unit that no longer wins keeps its length. Convergence is exponential with power = 0.
    net, params, batch = small_mlp(4, n=40, inputs=6, act="relu", seed=4)
    rule = RULES["softhebb"](temperature=1.0, power=0.0)
    bias = jnp.array([0.3, -0.2, 0.1, 0.0])

    def step(_, W):
        here = {**params, "dense1": {"kernel": W, "bias": bias}}
        return W - 0.1 * grads(rule, net, here, batch)["dense1"]["kernel"]

    before = np.linalg.norm(params["dense1"]["kernel"], axis=0)
    W = jax.lax.fori_loop(0, 3000, step, params["dense1"]["kernel"])
    assert (np.abs(before - 1) > 0.1).all()
    np.testing.assert_allclose(np.linalg.norm(W, axis=0), 1, atol=1e-6)


def test_the_bias_of_softhebb_becomes_the_log_of_how_often_a_unit_wins(x64):
    # Its fixed point, softmax(t b) = E[y]; one batch, so the mean is exact.
    net, params, batch = small_mlp(3, n=20, inputs=4, act="relu", seed=1)
    params = jax.tree.map(lambda leaf: 0.3 * leaf, params)
    rule = RULES["softhebb"](temperature=0.5)
    after = descend(rule, net, params, batch, 0.5, 2000)
    x = np.asarray(batch.x).reshape(20, -1)
    x = x / np.sqrt((x**2).mean(1, keepdims=True))
    W, b = numpy_tree(after)["dense1"]["kernel"], numpy_tree(after)["dense1"]["bias"]
    np.testing.assert_allclose(softmax(0.5 * b[None])[0], softmax(0.5 * (x @ W + b)).mean(0), atol=1e-4)


@pytest.fixture(scope="module")
def cloud():
    """Inputs with a mean and a known covariance: eigenvectors Q, eigenvalues well apart."""
    rng = np.random.default_rng(5)
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    x = rng.normal(size=(200, 6))
    x = np.linalg.qr(x - x.mean(0))[0] * np.sqrt(200)  # exactly white
    return x * np.sqrt([3.0, 2.2, 1.5, 0.8, 0.5, 0.3]) @ Q.T + rng.normal(size=6), Q


@pytest.mark.parametrize("name", ["oja", "sanger"])
def test_weights_converge_to_the_leading_eigenvectors_of_the_covariance(name, cloud, x64):
    # The slowest mode decays at the gap .7 between the third and the fourth eigenvalue: e^(-.7 .05 1500) < 1e-22.
    x, Q = cloud
    net, params, _ = small_mlp(3, inputs=6)
    batch = Batch(jnp.asarray(x).reshape(200, 1, 6, 1), jnp.zeros(200, jnp.int32))
    params = jax.tree.map(lambda leaf: 0.1 * leaf, params)
    after = numpy_tree(descend(RULES[name](), net, params, batch, 0.05, 1500))["dense1"]
    W = after["kernel"]
    np.testing.assert_allclose(W.T @ W, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(W @ W.T, Q[:, :3] @ Q[:, :3].T, atol=1e-9)
    np.testing.assert_allclose(after["bias"], -x.mean(0) @ W, atol=1e-9)
    cosines = np.abs(Q[:, :3].T @ W)
    if name == "sanger":
        np.testing.assert_allclose(cosines, np.eye(3), atol=1e-9)
    else:  # a basis of the subspace, but not the eigenvectors
        assert np.abs(cosines - np.eye(3)).max() > 0.05


def test_with_one_unit_both_are_ojas_rule(x64):
    net, params, batch = small_mlp(1)
    oja, sanger = (grads(RULES[name](), net, params, batch) for name in ("oja", "sanger"))
    assert_close(oja, sanger)
    w, b = (np.asarray(params["dense1"][leaf]) for leaf in ("kernel", "bias"))
    x = np.asarray(batch.x).reshape(6, -1)
    y = (x @ w + b) - (x @ w + b).mean()
    assert_close(oja["dense1"]["kernel"], -(y * (x - y * w[:, 0])).mean(0)[:, None])


@pytest.mark.parametrize("name", NAMES)
def test_other_networks_than_dense_chains_are_refused(name):
    batch = Batch(jnp.zeros((2, 12, 12, 1)), jnp.zeros(2, jnp.int32))
    with pytest.raises(RuleError, match=r"conv1.*mlp"):
        RULES[name]().init(KEY, conv(2)((12, 12, 1), 3), None, batch)
    with pytest.raises(RuleError, match="hidden layer"):
        RULES[name]().init(KEY, mlp()((12, 12, 1), 3), None, batch)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": float("inf")}, {"power": -1}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(RuleError, match=next(iter(settings))):
        RULES["softhebb"](**settings)


def test_silent_inputs_give_finite_directions(x64):
    net, params, batch = small_mlp(4, 6, act="relu")
    for name in NAMES:
        found = grads(RULES[name](), net, params, batch._replace(x=0 * batch.x))
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
