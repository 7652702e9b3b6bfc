"""How feedback alignment, its direct form and backpropagation follow from one another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import assert_close, forward, numpy_tree, same_bits, small_mlp, softmax

from algorithms import RULES, Batch, RuleError
from lab.networks import mlp

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


def test_in_a_linear_network_the_product_of_the_weights_above_makes_direct_feedback_exact(x64):
    net, params, batch = small_mlp(7, 4, act="linear")
    W2, W3 = params["dense2"]["kernel"], params["output"]["kernel"]
    exact = direction("bp", net, params, {}, batch)
    assert_close(direction("dfa", net, params, {"dense1": W2 @ W3, "dense2": W3}, batch), exact)


def test_direct_feedback_hears_of_the_weights_above_only_through_the_output_error(x64):
    # The weights above change, the output bias makes up for it on the one sample there is: the error stays the same.
    net, params, batch = small_mlp(7, 4, n=1)
    other = jax.tree.map(lambda leaf: leaf, params)
    other["dense2"] = {"kernel": -2 * params["dense2"]["kernel"], "bias": params["dense2"]["bias"]}
    shift = forward(numpy_tree(params), batch.x, "tanh")[1][-1] - forward(numpy_tree(other), batch.x, "tanh")[1][-1]
    other["output"] = {"kernel": params["output"]["kernel"], "bias": params["output"]["bias"] + shift[0]}
    B = RULES["dfa"]().init(KEY, net, params, batch)
    first = lambda name, p, state: direction(name, net, p, state, batch)["dense1"]  # noqa: E731
    assert_close(first("dfa", other, B), first("dfa", params, B), rtol=1e-11)
    assert not np.allclose(first("bp", other, {})["kernel"], first("bp", params, {})["kernel"])


@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_feedback_weights_never_change_and_scale_with_scale(name):
    net, params, batch = small_mlp(7, 6)
    one, two = (RULES[name](scale=s).init(KEY, net, params, batch) for s in (1.0, 2.0))
    assert same_bits(two, jax.tree.map(lambda B: 2 * B, one))  # a power of two rounds nothing
    after = RULES[name]().grads(jax.random.key(5), net, params, one, batch)[1]
    assert same_bits(after, one)


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
    for name in ("bp", "fa", "dfa", "frozen"):
        rule = RULES[name]()
        _, _, metrics = rule.grads(KEY, net, params, rule.init(KEY, net, params, batch), batch)
        assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf"), "wide", True])
@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_a_scale_that_is_no_scale_is_refused(name, scale):
    with pytest.raises(RuleError, match="scale"):
        RULES[name](scale=scale)
