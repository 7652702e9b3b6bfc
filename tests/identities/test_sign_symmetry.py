"""Sign symmetry: what goes back are the signs of the weights as they are at this step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import assert_close, directions, numpy_tree, same_bits, small_mlp

from algorithms import RULES, Batch
from lab.networks import mlp

RULES_OF_SIGNS = ["usf", "brsf", "frsf"]
KEY = jax.random.key(0)


def way_back(rule, net, params, state, batch, key=KEY):
    """The matrix (hidden, classes) through which a linear network with one hidden layer sends its error.

    The errors of a squared loss span all classes, so `delta_1 = e Bᵀ` has one solution.
    """
    errors = rule.errors(key, net, params, state, batch)
    return np.linalg.lstsq(np.asarray(errors["output"]), np.asarray(errors["dense1"]), rcond=None)[0].T


@pytest.mark.parametrize("name", RULES_OF_SIGNS)
def test_signs_are_those_of_the_weights_at_every_step(name, x64):
    # Steps so large that weights keep changing sign.
    net, params, batch = small_mlp(7, act="linear", n=20)
    rule = RULES[name](loss="mse")
    state, flips = rule.init(KEY, net, params, batch), 0
    for step in range(5):
        key = jax.random.fold_in(KEY, step)
        B = way_back(rule, net, params, state, batch, key)
        W = np.asarray(params["output"]["kernel"])
        np.testing.assert_array_equal(np.sign(B), np.sign(W))
        pseudo, state, _ = rule.grads(key, net, params, state, batch)
        params = jax.tree.map(lambda p, g: p - 0.5 * g / abs(g).max(), params, pseudo)
        flips += (np.sign(W) != np.sign(np.asarray(params["output"]["kernel"]))).sum()
    assert flips > 0


@pytest.mark.parametrize("act", ["tanh", "relu"])
def test_uniform_signs_by_hand(act, x64):
    net, params, batch = small_mlp(4, 6, act=act)
    rule = RULES["usf"](scale=1.5)
    state = rule.init(jax.random.key(3), net, params, batch)
    assert [float(s) for s in jax.tree.leaves(state)] == pytest.approx(
        [1.5 * float(jnp.sqrt((B**2).mean())) for B in jax.tree.leaves(RULES["fa"]().init(*start(net, params, batch)))]
    )
    W = numpy_tree(params)
    back = {name: {"kernel": float(s["kernel"]) * np.sign(W[name]["kernel"])} for name, s in state.items()}
    delta, local = directions(W, batch.x, batch.y, act, back=back)
    assert_close(rule.grads(KEY, net, params, state, batch)[0], local)
    assert_close(rule.errors(KEY, net, params, state, batch), delta)


def start(net, params, batch):
    return jax.random.key(3), net, params, batch


def test_fixed_magnitudes_by_hand(x64):
    net, params, batch = small_mlp(4, 6)
    rule = RULES["frsf"]()
    state = rule.init(jax.random.key(3), net, params, batch)
    assert_close(state, jax.tree.map(abs, RULES["fa"]().init(*start(net, params, batch))))
    W = numpy_tree(params)
    back = jax.tree.map(
        lambda R, W: np.asarray(R) * np.sign(W), state, {name: {"kernel": W[name]["kernel"]} for name in state}
    )
    first, after, _ = rule.grads(KEY, net, params, state, batch)
    assert_close(first, directions(W, batch.x, batch.y, "tanh", back=back)[1])
    assert same_bits(after, state)
    assert same_bits(first, rule.grads(jax.random.key(9), net, params, state, batch)[0])


@pytest.mark.parametrize("name", ["usf", "frsf"])
def test_with_the_weights_own_magnitudes_it_is_backpropagation(name):
    # s sign(W) is W itself then, to the bit.
    net, params, batch = small_mlp(7, 4)
    own = {block: {"kernel": abs(params[block]["kernel"])} for block in ("dense2", "output")}
    found = RULES[name]().grads(KEY, net, params, own, batch)[0]
    assert same_bits(found, RULES["bp"]().grads(KEY, net, params, {}, batch)[0])


@pytest.mark.parametrize("name", ["usf", "frsf"])
def test_with_the_weights_own_magnitudes_it_is_backpropagation_in_double_precision(name, x64):
    net, params, batch = small_mlp(7, 4)
    own = {block: {"kernel": abs(params[block]["kernel"])} for block in ("dense2", "output")}
    delta, local = directions(numpy_tree(params), batch.x, batch.y, "tanh")
    assert_close(RULES[name]().grads(KEY, net, params, own, batch)[0], local)
    assert_close(RULES[name]().errors(KEY, net, params, own, batch), delta)


def test_magnitudes_are_those_of_initial_weights():
    # Variance 2 / fan-in for relu; five standard errors of a standard deviation.
    net = mlp(200, 300)((1, 5, 1), 10)
    params = jax.tree.map(jnp.zeros_like, net.init(KEY))  # the magnitude is not that of the weights as they are
    batch = Batch(jnp.zeros((2, 1, 5, 1)), jnp.zeros(2, jnp.int32))
    for name in ("usf", "brsf"):
        s = RULES[name]().init(KEY, net, params, batch)["dense2"]["kernel"]
        assert s.shape == ()
        assert float(s) == pytest.approx((2 / 200) ** 0.5, rel=5 / (2 * 60_000) ** 0.5)


def test_magnitudes_redrawn_for_every_batch_and_shared_by_its_samples(x64):
    net, params, batch = small_mlp(100, act="linear", n=8)
    rule = RULES["brsf"](loss="mse")
    state = rule.init(KEY, net, params, batch)
    one, again, two = (way_back(rule, net, params, state, batch, jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    s = float(state["output"]["kernel"])
    # |R| of R ~ N(0, s²) has mean square s² and mean s sqrt(2/π), to 5 standard errors of 300 draws; two draws agree
    # no more than chance would have it.
    assert (one**2).mean() == pytest.approx(s**2, rel=5 * (2 / 300) ** 0.5)
    assert abs(one).mean() == pytest.approx(s * (2 / np.pi) ** 0.5, rel=5 * 0.76 / 300**0.5)
    assert abs(np.corrcoef(abs(one).ravel(), abs(two).ravel())[0, 1]) < 5 / 300**0.5
    # The direction of a batch is the mean of its samples' only if they share one R.
    single = [rule.grads(KEY, net, params, state, Batch(batch.x[i : i + 1], batch.y[i : i + 1]))[0] for i in range(8)]
    mean = jax.tree.map(lambda *g: sum(g) / 8, *single)
    assert_close(rule.grads(KEY, net, params, state, batch)[0], mean, rtol=1e-11)


@pytest.mark.parametrize("name", RULES_OF_SIGNS)
def test_a_weight_of_exactly_zero_sends_as_a_positive_one_does(name, x64):
    net, params, batch = small_mlp(7, 4)
    rule = RULES[name]()
    state = rule.init(KEY, net, params, batch)
    readout = params["output"]
    zero, tiny = (
        {**params, "output": {**readout, "kernel": jnp.full_like(readout["kernel"], value)}} for value in (0.0, 1e-300)
    )
    errors = rule.errors(KEY, net, zero, state, batch)
    assert errors["dense2"].any()
    assert_close(errors, rule.errors(KEY, net, tiny, state, batch))
