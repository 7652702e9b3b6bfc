"""A rule that takes batch normalisation is evaluated as the network that it trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms import RULES, Batch, RuleError
from lab.networks import resnet
from lab.normalisation import with_statistics

KEY = jax.random.key(0)
IN_CI = ("bp", "fa", "local")


def off(found, expected):
    """Largest difference, as a fraction of the largest entry."""
    return float(jnp.abs(found - expected).max() / jnp.abs(expected).max())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in IN_CI else pytest.mark.slow) for name in RULES]
)
def test_with_the_statistics_of_a_batch_evaluation_is_the_forward_pass_of_training_on_it(name):
    # They are taken of the plain chain: what a rule does between blocks of its own would leave them behind.
    rule = RULES[name]()
    net = resnet(4, 6, blocks=1, norm="batch", act=rule.info.nonlinearity)((8, 8, 1), 3)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, KEY)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)
    x, other = (jnp.asarray(rng.random((7, 8, 8, 1)) ** power, jnp.float32) for power in (1, 4))

    @jax.jit
    def read(params):
        state = rule.init(KEY, net, params, Batch(x, jnp.arange(7) % 3))
        seen = ({}, net.statistics(params, x), net.statistics(params, other))
        return [jax.tree.leaves(rule.forward(net, with_statistics(params, s), state, x)) for s in seen]

    try:
        trained, evaluated, elsewhere = read(params)
    except RuleError:
        assert name not in IN_CI  # the others may refuse
        return
    assert all(off(b, a) < 1e-4 for a, b in zip(trained, evaluated, strict=True))  # some hundred roundings of 6e-8
    assert off(elsewhere[-1], trained[-1]) > 0.1  # scores hear of the statistics
