"""Feedback alignment: how it, its direct form and backpropagation follow from one another, and what scales it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from by_hand import assert_close, directions, forward, numpy_tree, same_bits, small_mlp, softmax

from algorithms import RULES, Batch, RuleError
from algorithms.feedback import second_draw
from algorithms.transport import feedback_weights
from lab.networks import conv, convolve, mlp

KEY = jax.random.key(0)


def direction(name, net, params, state, batch):
    return RULES[name]().grads(KEY, net, params, state, batch)[0]


def test_with_one_hidden_layer_direct_feedback_is_feedback_alignment(x64):
    net, params, batch = small_mlp(7)
    B = jnp.asarray(np.random.default_rng(1).normal(size=(7, 3)))
    assert_close(
        direction("dfa", net, params, {"dense1": B}, batch),
        direction("fa", net, params, {"output": {"kernel": B}}, batch),
    )


def test_with_one_hidden_layer_both_agree_in_single_precision():
    net, params, batch = small_mlp(7)
    assert batch.x.dtype == jnp.float32
    B = jax.random.normal(jax.random.key(3), (7, 3))
    # Some ten roundings of 6e-8 each, relative to the largest entry.
    assert_close(
        direction("dfa", net, params, {"dense1": B}, batch),
        direction("fa", net, params, {"output": {"kernel": B}}, batch),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", ["fa", "usf", "brsf", "frsf", "dfa", "sdfa", "drtp"])
def test_feedback_weights_never_change_and_scale_with_scale(name):
    net, params, batch = small_mlp(7, 6)
    one, two = (RULES[name](scale=s).init(KEY, net, params, batch) for s in (1.0, 2.0))
    assert same_bits(two, jax.tree.map(lambda B: 2 * B, one))  # a power of two rounds nothing
    after = RULES[name]().grads(jax.random.key(5), net, params, one, batch)[1]
    assert same_bits(after, one)
    assert RULES[name]().follow is None


def test_the_last_layer_of_feedback_alignment_learns_by_its_exact_gradient_in_double_precision(x64):
    net, params, batch = small_mlp(7, 4)
    state = RULES["fa"]().init(KEY, net, params, batch)
    exact = directions(numpy_tree(params), batch.x, batch.y, "tanh")[1]
    found = direction("fa", net, params, state, batch)
    assert_close(found["output"], exact["output"])
    assert not np.allclose(found["dense2"]["kernel"], exact["dense2"]["kernel"])


def test_feedback_is_as_large_as_the_papers_say():
    # fa: like forward weights, variance 2 / fan-in for relu; dfa: variance 1 / classes. Standard error of a standard
    # deviation: 1 / sqrt(2 entries); five of them are allowed.
    net = mlp(200, 300)((1, 5, 1), 10)
    params = net.init(jax.random.key(2))
    batch = Batch(jnp.zeros((2, 1, 5, 1)), jnp.zeros(2, jnp.int32))
    fa, dfa = (RULES[name]().init(KEY, net, params, batch) for name in ("fa", "dfa"))
    for B, variance in ((fa["dense2"]["kernel"], 2 / 200), (dfa["dense1"], 1 / 10), (dfa["dense2"], 1 / 10)):
        assert float(B.std()) == pytest.approx(variance**0.5, rel=5 / (2 * B.size) ** 0.5)
    assert abs(float(jnp.corrcoef(dfa["dense1"].ravel(), dfa["dense2"][:200].ravel())[0, 1])) < 5 / 2000**0.5
    assert not same_bits(fa["dense2"]["kernel"], params["dense2"]["kernel"])


def test_the_loss_is_the_cross_entropy_of_the_forward_pass(x64):
    net, params, batch = small_mlp(7, 4)
    p = softmax(forward(numpy_tree(params), batch.x, "tanh")[1][-1])
    expected = -np.log(p[np.arange(len(p)), np.asarray(batch.y)]).mean()
    for name in ("bp", "fa", "usf", "kp", "dfa", "frozen", "untrained"):
        rule = RULES[name]()
        _, _, metrics = rule.grads(KEY, net, params, rule.init(KEY, net, params, batch), batch)
        assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-12)


def trained(optimizer, scale, steps=10):
    """Parameters after some steps of feedback alignment with all feedback weights times `scale`."""
    net, params, batch = small_mlp(7, 6)
    B = jax.tree.map(lambda B: scale * B.astype(float), feedback_weights(net, net.init(jax.random.key(5))))
    memory = optimizer.init(params)
    for _ in range(steps):
        updates, memory = optimizer.update(direction("fa", net, params, B, batch), memory, params)
        params = optax.apply_updates(params, updates)
    return params


def test_the_scale_of_feedback_is_dead_under_adam_and_alive_under_plain_descent(x64):
    # Adam divides by the root of the mean square of the same gradients. With eps = 0 and a power of two, which rounds
    # nothing, not one bit is left of the scale.
    assert same_bits(trained(optax.adam(0.01, eps=0.0), 1.0), trained(optax.adam(0.01, eps=0.0), 8.0))
    almost = optax.adam(0.01, eps=1e-12)
    # eps beside gradients of some 1e-3 at the least, over ten steps of .01: relative changes of 1e-9 are left.
    assert_close(trained(almost, 10.0), trained(almost, 1.0), rtol=1e-8)
    one, ten = (trained(optax.sgd(0.01), c)["dense1"]["kernel"] for c in (1.0, 10.0))
    start = small_mlp(7, 6)[1]["dense1"]["kernel"]
    assert float(jnp.linalg.norm(ten - start)) > 5 * float(jnp.linalg.norm(one - start))


CONV = conv(2, 3, dense=(5,), kernel=3, act="tanh")((10, 10, 1), 4)


def images(n=6):
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf.astype(float), CONV.init(jax.random.key(0)))
    return params, Batch(jnp.asarray(rng.random((n, 10, 10, 1))), jnp.asarray(rng.integers(0, 4, n)))


def as_matrix(W, shape):
    """A convolution as the matrix (units in, units out) that it is: its images of the unit vectors."""
    units = int(np.prod(shape))
    return convolve(jnp.eye(units).reshape(units, *shape), W).reshape(units, -1)


def test_a_dense_way_back_is_drawn_for_convolutions_and_only_for_them(x64):
    params, batch = images()
    kernel, dense = (RULES["fa"](feedback=way).init(KEY, CONV, params, batch) for way in ("kernel", "dense"))
    assert kernel["conv2"]["kernel"].shape == (3, 3, 2, 3)
    B = dense["conv2"]["kernel"]  # 4×4 places of 2 channels, pooled, to 2×2 of 3
    assert B.shape == (32, 12)
    assert float(B.std()) == pytest.approx(12**-0.5, rel=5 / (2 * B.size) ** 0.5)
    assert same_bits({**dense, "conv2": None}, {**kernel, "conv2": None})
    double = RULES["fa"](scale=2.0, feedback="dense").init(KEY, CONV, params, batch)
    assert same_bits(double, jax.tree.map(lambda B: 2 * B, dense))


def test_a_dense_way_back_that_is_the_convolution_gives_the_gradient(x64):
    params, batch = images()
    B = feedback_weights(CONV, params)
    B["conv2"] = {"kernel": as_matrix(params["conv2"]["kernel"], (4, 4, 2))}
    assert B["conv2"]["kernel"].shape == (32, 12)
    rule = RULES["fa"](feedback="dense")
    assert_close(rule.grads(KEY, CONV, params, B, batch)[0], direction("bp", CONV, params, {}, batch))
    B["conv2"]["kernel"] = B["conv2"]["kernel"].at[3, 5].add(1.0)  # one synapse of its own
    other = rule.grads(KEY, CONV, params, B, batch)[0]
    assert not np.allclose(other["conv1"]["kernel"], direction("bp", CONV, params, {}, batch)["conv1"]["kernel"])


class FromZero(type(CONV)):
    """A network whose readout begins at zero."""

    def init(self, key):
        params = super().init(key)
        return {**params, "output": jax.tree.map(jnp.zeros_like, params["output"])}


@pytest.mark.parametrize("name", ["fa", "usf", "frsf", "kp", "wm", "pfa"])
def test_weights_that_begin_at_zero_do_not_close_the_way_back(name):
    net, _, batch = small_mlp(7)
    net = FromZero(net.blocks, net.input_shape, net.classes)
    params = net.init(KEY)
    rule = RULES[name]()
    state = rule.init(jax.random.key(1), net, params, batch)
    assert rule.grads(KEY, net, params, state, batch)[0]["dense1"]["kernel"].any()


class AllFromZero(type(CONV)):
    """A network all of whose weights begin at zero."""

    def init(self, key):
        return jax.tree.map(jnp.zeros_like, super().init(key))


def test_in_the_place_of_zeros_feedback_has_variance_one_over_fan_in():
    made = conv(16, 32, dense=(100,), kernel=3)((10, 10, 1), 40)
    net = AllFromZero(made.blocks, made.input_shape, made.classes)
    B = second_draw(KEY, net, made.init(KEY))
    for name, fan_in in (("conv2", 3 * 3 * 16), ("dense1", 32), ("output", 100)):
        W = np.asarray(B[name]["kernel"], np.float64)
        # The standard errors of a standard deviation, 1 / sqrt(2 entries), and of a mean; five of them.
        assert W.std() == pytest.approx(fan_in**-0.5, rel=5 / (2 * W.size) ** 0.5)
        assert abs(W.mean()) < 5 * (fan_in * W.size) ** -0.5
    pair = np.corrcoef(B["dense1"]["kernel"].ravel(), B["output"]["kernel"].ravel()[:3200])[0, 1]
    assert abs(pair) < 5 / 3200**0.5


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf"), "wide", True])
@pytest.mark.parametrize("name", ["fa", "usf", "brsf", "frsf", "dfa", "sdfa", "drtp"])
def test_a_scale_that_is_no_scale_is_refused(name, scale):
    with pytest.raises(RuleError, match="scale"):
        RULES[name](scale=scale)


CONTROLS = ["frozen", "untrained", "shuffled", "lazy"]
LAYERED = ["fa", "usf", "brsf", "frsf", "kp", "wm", "pfa"]
DIRECT = ["dfa", "sdfa", "drtp", "dkp"]


@pytest.mark.parametrize("name", ["bp", *CONTROLS, *LAYERED, *DIRECT])
def test_a_loss_that_is_none_is_refused_and_a_known_one_is_said(name):
    with pytest.raises(RuleError, match="ce, mse, bce"):
        RULES[name](loss="hinge")
    assert RULES[name](loss="mse").info.loss == "mse"


def test_a_way_back_that_is_none_is_refused():
    with pytest.raises(RuleError, match="kernel, dense"):
        RULES["fa"](feedback="sparse")
