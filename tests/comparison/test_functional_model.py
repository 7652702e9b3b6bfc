"""The lab's networks as functional probes see them: the same function, cut anywhere, or a reason why not."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms import RULES
from algorithms.rule import plain_forward
from lab.functional_model import ForwardModel, forward_model, no_logits, own_forward
from lab.normalisation import with_statistics
from probes import Undefined
from probes.weights import weight_change

SHAPE, CLASSES = (8, 8, 1), 3
ARCHS = ["mlp(5,4)", "conv(2,kernel=3,dense=(4,))", "resnet(4,blocks=1,norm=batch)"]
X = jnp.asarray(np.random.default_rng(0).random((6, *SHAPE), np.float32))


@cache
def network(arch: str) -> tuple[ForwardModel, dict]:
    """A model and parameters in evaluation: with running averages where there are any."""
    model, rng = forward_model(arch, SHAPE, CLASSES), np.random.default_rng(1)
    # Shapes alone: the lab's own draws would have to be compiled for every network.
    shapes = jax.eval_shape(model.net.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32), shapes)
    return model, with_statistics(params, model.net.statistics(params, X[:4]))


@pytest.mark.parametrize("arch", ARCHS)
def test_it_is_the_networks_own_forward_pass_and_can_be_cut_at_every_hidden_block(arch):
    model, params = network(arch)
    shown = plain_forward(model.net, params, {}, X)
    assert model.layers == model.net.hidden
    np.testing.assert_array_equal(model.scores(params, X), shown.scores)
    for layer, h in zip(model.layers, shown.hidden, strict=True):
        np.testing.assert_array_equal(model.hidden(params, X, layer), h)
        np.testing.assert_array_equal(model.rest(params, h, layer), shown.scores)


def test_networks_of_one_architecture_share_one_model():
    one, other = (forward_model("mlp(5,4)", SHAPE, CLASSES) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != forward_model("mlp(5)", SHAPE, CLASSES)


def test_plain_blocks_are_a_chain_and_composite_ones_are_not():
    assert network(ARCHS[1])[0].chain == ("conv1", "dense1", "output")
    assert "residual1 is composite" in network(ARCHS[2])[0].chain.reason


def test_running_averages_are_constants_and_can_be_taken_anew():
    """Of batch normalisation: no derivative goes to them, they are no weights, and on a batch they are the batch's."""
    model, params = network(ARCHS[2])
    slope = jax.grad(lambda p: model.scores(p, X)[:, 0].sum())(params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope["residual1"]["statistics"]))
    assert np.any(slope["residual1"]["norm1"]["scale"])
    settled = model.settled(params, X)
    bare = {name: {k: v for k, v in block.items() if k != "statistics"} for name, block in params.items()}
    # Two orders of one float32 sum.
    np.testing.assert_allclose(model.scores(settled, X), model.scores(bare, X), atol=1e-5)
    assert weight_change(jax.tree.map(np.asarray, settled), jax.tree.map(np.asarray, params)) == 0
    plain, weights = network(ARCHS[0])
    assert jax.tree.structure(plain.settled(weights, X)) == jax.tree.structure(weights)


@pytest.mark.parametrize(
    ("rule", "forward", "logits"),
    [
        (RULES["bp"](), True, True),
        (RULES["fa"](), True, True),
        (RULES["bp"](loss="mse"), True, False),
        (RULES["pc"](), True, False),
        (RULES["drtp"](), True, False),
        (RULES["ff"](), False, False),
        (RULES["ep"](), False, False),
        (RULES["cwc"](), False, False),
    ],
    ids=lambda value: value.info.name if hasattr(value, "info") else "",
)
def test_what_cannot_be_had_of_a_rule_has_a_reason(rule, forward, logits):
    for found, there in ((own_forward(rule), forward), (no_logits(rule), logits)):
        assert (found is None) is there
        assert there or (isinstance(found, Undefined) and rule.info.name in found.reason)
