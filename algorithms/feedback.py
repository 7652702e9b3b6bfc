"""Feedback alignment and sign symmetry: the error comes back layer by layer, but not through the transposed weights.

Backpropagation sends the error down through `Wᵀ`: every synapse on the way back would have to know the strength of one
on the way forward. These rules keep backpropagation's route and change only what stands on it, a matrix B for each W:

    delta_l = (B_{l+1} delta_{l+1}) ⊙ f'(z_l);    dW_l = delta_l h_{l-1}ᵀ

    fa          B is random and never changes. The forward weights come to agree with it ("alignment"): what they learn
                through B is such that B ends up sending useful errors.
    usf         B is s sign(W), all magnitudes equal: directions without magnitudes.
    brsf, frsf  B is |R| ⊙ sign(W): random magnitudes, redrawn for every batch or fixed.

What is known to matter: feedback alignment is close to backpropagation in shallow dense networks and falls behind with
depth and in convolutions; one bit per synapse, its sign, is nearly enough to close that gap (Liao et al. 2016,
Moskovitz et al. 2018). The scale of B is a second learning rate for the blocks below under plain descent, and hardly
anything under Adam, which divides it away.

B stands in for every weight called "kernel" that an error passes through, those inside residual or attention blocks
included (`transport.py`). Biases and the scales of normalisation keep their exact derivatives: nothing is sent through
them that would need another synapse. Rules that learn B are in `learned_feedback.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from algorithms.rule import (
    LOSSES,
    Batch,
    Net,
    Params,
    Rule,
    RuleInfo,
    RuleState,
    Surrogate,
    directions,
    forward_pass,
    mean_loss,
    objective_of,
)
from algorithms.settings import choice, number
from algorithms.transport import feedback_weights, paired, uses, with_feedback


def sent_through(loss: str, feedback: Callable[[PRNGKeyArray, Params, RuleState], Params]) -> Surrogate:
    """The surrogate of a rule whose error comes back through `feedback(key, params, state)`, a B for each W."""

    def surrogate(key, net, params, state, batch, taps):
        B = jax.lax.stop_gradient(feedback(key, params, state))
        value = mean_loss(loss, forward_pass(net, with_feedback(params, B), batch.x, taps)[-1], batch.y)
        return value, {"loss": value}

    return surrogate


def second_draw(key: PRNGKeyArray, net: Net, params: Params) -> Params:
    """Random weights for every way back, drawn like a second set of initial forward weights.

    Where forward weights begin at zero, as some initialise the end of a residual branch, zero feedback would cut the
    path for ever: there N(0, 1 / fan-in).
    """
    drawn = feedback_weights(net, net.init(key))
    leaves, form = jax.tree.flatten(drawn)

    def alive(i: int, B: Array) -> Array:
        spare = jax.random.normal(jax.random.fold_in(key, i), B.shape, B.dtype) / math.sqrt(B.size / B.shape[-1])
        return jnp.where(jnp.any(B != 0), B, spare)

    drawn = jax.tree.unflatten(form, [alive(i, B) for i, B in enumerate(leaves)])
    return jax.tree.map(lambda B, W: B.astype(W.dtype), drawn, feedback_weights(net, params))


def fa(scale: float = 1.0, loss: str = "ce", feedback: str = "kernel") -> Rule:
    """Feedback alignment: backpropagation with fixed random weights on the way back.

    delta_L = e;  delta_l = (B_{l+1} delta_{l+1}) ⊙ f'(z_l);  dW_l = delta_l h_{l-1}ᵀ

    Args:
        scale: B is drawn like a second set of initial forward weights, times this. Under Adam it hardly matters
            (each tensor's scale is normalised away); under SGD it multiplies the hidden learning rate.
        loss: "ce", "mse" or "bce".
        feedback: the way back through an operation that shares its weights between places, as a convolution does:
            "kernel", random weights of the same form, shared in the same way; or "dense", a random matrix with a
            weight for every pair of units, N(0, scale² / units out). Dense layers are the same under both.

    State: `{block: {"kernel": B}}` for every block but a plain first one; composite blocks nest deeper.
    References: Lillicrap et al. (2016), doi:10.1038/ncomms13276 (arXiv:1411.0247); random kernels: Moskovitz et al.
    (2018), arXiv:1812.06488. A dense matrix is the definition of 2016 applied to a convolution as the linear map it is.
    """
    scale = number("fa", "scale", scale)
    choice("fa", "loss", loss, LOSSES)
    choice("fa", "feedback", feedback, ("kernel", "dense"))

    def init(key, net, params, example):
        B = jax.tree.map(lambda B: scale * B, second_draw(key, net, params))
        return B if feedback == "kernel" else unshared(jax.random.fold_in(key, 1), net, params, example, B, scale)

    grads, errors = directions(sent_through(loss, lambda key, params, B: B))
    info = replace(FA, loss=loss)
    return Rule(info=info, grads=grads, errors=errors, init=init, objective=objective_of(loss))


def unshared(key: PRNGKeyArray, net: Net, params: Params, example: Batch, B: Params, scale: float) -> Params:
    """The same feedback weights, with a dense matrix in the place of every kernel whose weights serve many places.

    Those are the kernels with fewer weights than there are pairs of units.
    """
    leaves, form = jax.tree.flatten(B)
    used = form.flatten_up_to(uses(net, params, example.x, B))

    def dense(i: int, B: Array) -> Array:
        units_in, units_out = math.prod(used[i].x[1:]), math.prod(used[i].y[1:])
        if B.size == units_in * units_out:
            return B
        drawn = jax.random.normal(jax.random.fold_in(key, i), (units_in, units_out), B.dtype)
        return scale * drawn / math.sqrt(units_out)

    return jax.tree.unflatten(form, [dense(i, B) for i, B in enumerate(leaves)])


FA = RuleInfo(
    name="fa",
    title="feedback alignment: fixed random weights on the way back",
    equation="delta_L = e;  delta_l = (B_{l+1} delta_{l+1}) * f'(z_l);  dW_l = delta_l h_{l-1}^T;  B fixed, random",
    citation="Lillicrap, Cownden, Tweed & Akerman (2016), Random synaptic feedback weights support error "
    "backpropagation for deep learning, doi:10.1038/ncomms13276",
    transports="the error, layer by layer, through fixed random weights",
    requires="any network; a convolution gets a random kernel or, by feedback='dense', a random matrix on the way back",
    deviations=(
        "B is drawn from the forward initialiser, not from a uniform distribution tuned per layer",
        "biases and the scales of normalisation keep their exact derivatives",
    ),
    passes="3 (one forward, one backward)",
)


def signs(W: Array) -> Array:
    """+1 or -1 for every weight; +1 for 0, so that a weight that begins at zero does not close its path."""
    return jnp.where(W < 0, -1, 1).astype(W.dtype)


def magnitude_of(B: Array) -> Array:
    """Root mean square of initial weights: the one magnitude that all of them get."""
    return jnp.sqrt(jnp.mean(B**2))


def usf(scale: float = 1.0, loss: str = "ce") -> Rule:
    """Sign symmetry, uniform: the error comes back through the signs of the forward weights.

    delta_l = (s_{l+1} sign(W_{l+1})ᵀ delta_{l+1}) ⊙ f'(z_l);  dW_l = delta_l h_{l-1}ᵀ

    The signs are those of the weights at this very step.

    Args:
        scale: s_l is the standard deviation of block l's initial weights, times this. Under Adam it hardly matters.
        loss: "ce", "mse" or "bce".

    State: `{block: {"kernel": s}}`, one number for every B.
    References: Liao, Leibo & Poggio (2016), arXiv:1510.05067; Moskovitz et al. (2018), arXiv:1812.06488.
    """
    scale = number("usf", "scale", scale)
    choice("usf", "loss", loss, LOSSES)

    def init(key, net, params, example):
        del example
        return jax.tree.map(lambda B: scale * magnitude_of(B), second_draw(key, net, params))

    grads, errors = directions(sent_through(loss, lambda key, params, s: signed(params, s)))
    return Rule(info=replace(USF, loss=loss), grads=grads, errors=errors, init=init, objective=objective_of(loss))


def signed(params: Params, magnitudes: Params) -> Params:
    """`B = magnitude ⊙ sign(W)` for every weight that has a magnitude."""
    return jax.tree.map(lambda s, W: s * signs(W), magnitudes, paired(params, magnitudes))


USF = RuleInfo(
    name="usf",
    title="uniform sign symmetry: the signs of the forward weights go back, all with one magnitude",
    equation="delta_l = (s sign(W_{l+1})^T delta_{l+1}) * f'(z_l);  dW_l = delta_l h_{l-1}^T",
    citation="Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?, arXiv:1510.05067",
    transports="the error, layer by layer, and the sign of every forward weight",
    requires="any network",
    deviations=(
        "no batch normalisation and no batch manhattan update (both are the paper's remedies for badly scaled errors); "
        "s is the root mean square of a second draw of the initial weights, where Moskovitz et al. (2018) match the "
        "norm of the weights themselves",
        "the sign of an exact zero is +1",
        "biases and the scales of normalisation keep their exact derivatives",
    ),
    passes="3 (one forward, one backward)",
)


def brsf(scale: float = 1.0, loss: str = "ce") -> Rule:
    """Sign symmetry, magnitudes redrawn for every batch.

    delta_l = ((|R_{l+1}| ⊙ sign(W_{l+1}))ᵀ delta_{l+1}) ⊙ f'(z_l);  dW_l = delta_l h_{l-1}ᵀ;  R ~ N(0, s²)

    All samples of a batch share one R.

    Args:
        scale: s_l is the standard deviation of block l's initial weights, times this. Under Adam it hardly matters.
        loss: "ce", "mse" or "bce".

    State: `{block: {"kernel": s}}`, one number for every B.
    Reference: Liao, Leibo & Poggio (2016), arXiv:1510.05067.
    """
    scale = number("brsf", "scale", scale)
    choice("brsf", "loss", loss, LOSSES)

    def init(key, net, params, example):
        del example
        return jax.tree.map(lambda B: scale * magnitude_of(B), second_draw(key, net, params))

    def feedback(key, params, state):
        leaves, form = jax.tree.flatten(paired(params, state))
        R = [jax.random.normal(jax.random.fold_in(key, i), W.shape, W.dtype) for i, W in enumerate(leaves)]
        return signed(params, jax.tree.map(lambda s, R: s * abs(R), state, jax.tree.unflatten(form, R)))

    grads, errors = directions(sent_through(loss, feedback))
    return Rule(info=replace(BRSF, loss=loss), grads=grads, errors=errors, init=init, objective=objective_of(loss))


BRSF = replace(
    USF,
    name="brsf",
    title="sign symmetry with random magnitudes, redrawn for every batch",
    equation="delta_l = ((|R_{l+1}| * sign(W_{l+1}))^T delta_{l+1}) * f'(z_l);  dW_l = delta_l h_{l-1}^T;  "
    "R redrawn per batch",
    deviations=(
        "no batch normalisation and no batch manhattan update (both are the paper's remedies for badly scaled errors)",
        "R is Gaussian with the standard deviation of the initial weights",
        "the sign of an exact zero is +1",
        "biases and the scales of normalisation keep their exact derivatives",
    ),
    random=True,
)


def frsf(scale: float = 1.0, loss: str = "ce") -> Rule:
    """Sign symmetry, random magnitudes that never change.

    delta_l = ((|R_{l+1}| ⊙ sign(W_{l+1}))ᵀ delta_{l+1}) ⊙ f'(z_l);  dW_l = delta_l h_{l-1}ᵀ;  R fixed

    Args:
        scale: R is drawn like a second set of initial forward weights, times this. Under Adam it hardly matters.
        loss: "ce", "mse" or "bce".

    State: `{block: {"kernel": |R|}}` for every block but a plain first one; composite blocks nest deeper.
    Reference: Liao, Leibo & Poggio (2016), arXiv:1510.05067.
    """
    scale = number("frsf", "scale", scale)
    choice("frsf", "loss", loss, LOSSES)

    def init(key, net, params, example):
        del example
        return jax.tree.map(lambda R: scale * abs(R), second_draw(key, net, params))

    grads, errors = directions(sent_through(loss, lambda key, params, R: signed(params, R)))
    return Rule(info=replace(FRSF, loss=loss), grads=grads, errors=errors, init=init, objective=objective_of(loss))


FRSF = replace(
    BRSF,
    name="frsf",
    title="sign symmetry with random magnitudes that stay fixed",
    equation="delta_l = ((|R_{l+1}| * sign(W_{l+1}))^T delta_{l+1}) * f'(z_l);  dW_l = delta_l h_{l-1}^T;  R fixed",
    random=False,
)
