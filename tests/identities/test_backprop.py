"""Backpropagation beside differences of the loss: whatever a network is made of, its slopes are what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import mean_loss

from algorithms import RULES, Batch
from algorithms.rule import forward_pass
from lab.networks import conv, mlp, resnet, vit

# Smooth nonlinearities: a difference across a kink is no slope.
NETWORKS = {
    "mlp": (mlp(7, 6, act="tanh"), "bce"),
    "conv": (conv(2, dense=(5,), kernel=3, act="tanh"), "mse"),
    "resnet": (resnet(2, 4, blocks=1, groups=2, act="gelu"), "ce"),
    "vit": (vit(6, depth=1, heads=2, patch=4), "ce"),
}


@pytest.mark.parametrize("arch", NETWORKS)
def test_the_gradient_is_the_slope_along_any_direction(arch, x64):
    make, loss = NETWORKS[arch]
    net, rng = make((8, 8, 1), 3), np.random.default_rng(0)

    def normal(tree):
        return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), tree)

    params = jax.tree.map(lambda leaf: jnp.asarray(0.5 * leaf), normal(jax.eval_shape(net.init, jax.random.key(0))))
    batch = Batch(jnp.asarray(rng.random((4, 8, 8, 1))), jnp.array([0, 2, 1, 1]))
    bp = RULES["bp"](loss=loss)
    gradient = jax.jit(lambda params: bp.grads(jax.random.key(0), net, params, {}, batch)[0])(params)
    logits = jax.jit(lambda params: forward_pass(net, params, batch.x)[-1])

    def at(step, v):
        return mean_loss(loss, np.asarray(logits(jax.tree.map(lambda W, v: W + step * v, params, v))), batch.y)

    # All parameters at once, and each block alone, so that a small gradient is not hidden behind a large one.
    for moved in (list(params), *([name] for name in params)):
        v = {name: jax.tree.map(lambda d, on=name in moved: on * d, normal(tree)) for name, tree in params.items()}
        slope = (at(1e-5, v) - at(-1e-5, v)) / 2e-5
        expected = sum(float((g * d).sum()) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(v), strict=True))
        # The third derivative, of up to 1e3 along directions of length 10, times 1e-10 / 6; rounding leaves 1e-10.
        assert slope == pytest.approx(expected, rel=1e-6, abs=1e-7), moved
        assert abs(expected) > 1e-3, moved
