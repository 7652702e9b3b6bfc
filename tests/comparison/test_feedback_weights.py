"""Feedback weights as the lab finds them in a rule's state: those that its error signals really come through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms import RULES
from algorithms.rule import Batch, forward_pass
from lab.feedback_weights import DIRECT, LAYERED, NOT_SO, feedback_of
from lab.networks import conv, mlp
from probes import Undefined

BATCH = Batch(jnp.asarray(np.random.default_rng(0).random((6, 4, 4, 1)), jnp.float32), jnp.arange(6) % 3)
LINEAR = mlp(5, 4, act="linear")((4, 4, 1), 3)


def started(name, net=LINEAR, **settings):
    rule, key = RULES[name](**settings), jax.random.key(3)
    params = net.init(jax.random.key(1))
    return rule, params, rule.init(key, net, params, BATCH)


def error_of(params):
    """`∂L/∂z_L` of the mean cross-entropy, by its closed form."""
    p = jax.nn.softmax(forward_pass(LINEAR, params, BATCH.x)[-1])
    return np.asarray(p - jax.nn.one_hot(BATCH.y, 3)) / 6


@pytest.mark.parametrize("name", sorted(LAYERED))
def test_in_a_linear_network_layered_errors_are_multiplied_by_the_feedback_weights(name):
    """delta_l = delta_{l+1} Bᵀ. What target propagation sends is a multiple of it, so directions are compared."""
    rule, params, state = started(name)
    pairs = feedback_of(rule, False, LINEAR, params, state)
    assert list(pairs) == ["dense2", "output"]
    errors = rule.errors(jax.random.key(0), LINEAR, params, state, BATCH)
    if name == "ldrl":  # it teaches its feedback before it sends anything
        state = rule.grads(jax.random.key(0), LINEAR, params, state, BATCH)[1]
        pairs = feedback_of(rule, False, LINEAR, params, state)
    for below, above in (("dense2", "output"), ("dense1", "dense2")):
        W, B = pairs[above]
        np.testing.assert_array_equal(W, params[above]["kernel"])
        expected, found = np.asarray(errors[above]) @ B.T, np.asarray(errors[below])
        expected, found = expected / np.linalg.norm(expected), found / np.linalg.norm(found)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["dfa", "dkp"])
def test_direct_errors_are_multiplied_by_matrices_that_stand_for_all_weights_above(name):
    rule, params, state = started(name)
    pairs = feedback_of(rule, False, LINEAR, params, state)
    errors, e = rule.errors(jax.random.key(0), LINEAR, params, state, BATCH), error_of(params)
    for layer in ("dense1", "dense2"):
        np.testing.assert_allclose(errors[layer], e @ pairs[layer][1].T, atol=1e-6)
    W2, W3 = (np.asarray(params[name]["kernel"], np.float64) for name in ("dense2", "output"))
    np.testing.assert_allclose(pairs["dense1"][0], W2 @ W3, atol=1e-12)
    np.testing.assert_allclose(pairs["dense2"][0], W3, atol=1e-12)


def test_convolutions_have_kernels_as_matrices_and_no_product():
    net = conv(2, 3, kernel=2, pool=1, dense=(5,))((4, 4, 1), 3)
    rule, params, state = started("fa", net)
    pairs = feedback_of(rule, False, net, params, state)
    assert {name: W.shape for name, (W, _) in pairs.items()} == {"conv2": (8, 3), "dense1": (12, 5), "output": (5, 3)}
    rule, params, state = started("fa", net, feedback="dense")
    pairs = feedback_of(rule, False, net, params, state)
    assert "no entry for each weight" in pairs["conv2"].reason
    assert not isinstance(pairs["dense1"], Undefined)
    rule, params, state = started("dfa", net)
    pairs = feedback_of(rule, False, net, params, state)
    assert "conv2 stands above it" in pairs["conv1"].reason
    assert [array.shape for array in pairs["conv2"]] == [(12, 3), (12, 3)]


OTHERS = sorted(set(RULES) - set(LAYERED) - set(DIRECT))
OF_ANOTHER_USE = {
    "blockwise": "projections on which a block's views are compared",
    "greedy": "classifiers of a block's own, which send an error to that block alone",
    "lazy": "the weights that it began with",
    "local": "heads of a block's own, which send an error to that block alone",
    "pepita": "a matrix from the output to the input, against the way of no weight",
}
"""Matrices in a rule's state that are no feedback weights: what they are."""


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_rule_says_why_it_has_none(name):
    found = feedback_of(RULES[name](), False, LINEAR, {}, {})
    assert isinstance(found, Undefined)
    assert found.reason.startswith(f"{name} ")
    assert ";" not in found.reason  # which separates notes


@pytest.mark.parametrize("name", OTHERS)
def test_a_rule_with_matrices_in_its_state_stands_in_a_table(name):
    """Whoever adds a rule with feedback weights and forgets its row hears of it here."""
    rule = RULES[name]()
    net = mlp(5, 4, act=rule.info.nonlinearity)((4, 4, 1), 3)
    key = jax.random.key(0)
    state = jax.eval_shape(lambda: rule.init(key, net, net.init(key), BATCH))
    matrices = any(leaf.ndim > 1 for leaf in jax.tree.leaves(state))
    assert name in NOT_SO or matrices == (name in OF_ANOTHER_USE)


def test_a_rule_from_a_file_is_not_guessed_at():
    assert "a rule from a file" in feedback_of(RULES["fa"](), True, LINEAR, {}, {}).reason
    assert {*LAYERED, *DIRECT, *NOT_SO} <= set(RULES)
