"""Weight transport: a linear map that is used with `W` on the way forward and with `B` on the way back.

Backpropagation needs, at every synapse, the transpose of the forward weights: `dx = Wᵀ dy`. Whether a rule has that
is *the* difference within the feedback-alignment family, so it is one mechanism here:

    y  = op(x, W)               forward
    dx = (d op(x, B) / dx)ᵀ dy  backward: what is sent on        (backprop: B = W; feedback alignment: B fixed, random)
    dW = (d op(x, W) / dW)ᵀ dy  backward: what the weights learn (always the local outer product)

`op` is any bilinear map (dense product, convolution, projection in an attention head). A block does not know which
rule trains it: it calls `bilinear(op, x, weight)`, and a rule hands it weights that are `Transported` pairs. With
`B = W` the result equals `jax.grad` bit for bit, since the same transposed operations run on the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from algorithms.rule import Net, Params

BilinearOp = Callable[[Array, Array], Array]


class Transported(NamedTuple):
    """Weights that go forward as `W` and backward as `B`, both of one shape."""

    W: Array
    B: Array


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def transport(op: BilinearOp, x: Array, W: Array, B: Array) -> Array:
    """`op(x, W)`, whose derivative with respect to `x` is that of `op(x, B)`."""
    del B
    return op(x, W)


def _forward(op: BilinearOp, x: Array, W: Array, B: Array):
    return op(x, W), (x, W, B)


def _backward(op: BilinearOp, saved: tuple[Array, Array, Array], dy: Array):
    x, W, B = saved
    (dx,) = jax.vjp(lambda x: op(x, B), x)[1](dy)
    (dW,) = jax.vjp(lambda W: op(x, W), W)[1](dy)
    return dx, dW, jnp.zeros_like(B)  # B never learns by this path; a rule that trains B does so in its own state


transport.defvjp(_forward, _backward)


def bilinear(op: BilinearOp, x: Array, weight: Array | Transported) -> Array:
    """`op(x, W)` by whichever way back the weight carries. Blocks call this for every weight they own."""
    if isinstance(weight, Transported):
        return transport(op, x, weight.W, weight.B)
    return op(x, weight)


def with_feedback(params: Params, feedback: Params) -> Params:
    """The same parameters, with each weight that has feedback weights in `feedback` replaced by the pair."""
    return {
        name: leaf
        if name not in feedback
        else with_feedback(leaf, feedback[name])
        if isinstance(leaf, dict)
        else Transported(leaf, feedback[name])
        for name, leaf in params.items()
    }


def kernels(params: Params) -> Params:
    """The sub-tree of weights that an error signal passes through: every leaf called "kernel"."""
    kept = {name: kernels(leaf) if isinstance(leaf, dict) else leaf for name, leaf in params.items()}
    return {name: leaf for name, leaf in kept.items() if name == "kernel" or (isinstance(leaf, dict) and leaf)}


def feedback_weights(net: Net, params: Params) -> Params:
    """The weights that need a way back: all kernels except the first block's, behind which nothing learns."""
    return kernels({block.name: params[block.name] for block in net.blocks[1:]})
