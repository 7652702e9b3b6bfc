"""Learned feedback: the weights on the way back are plastic, and come to agree with those on the way forward.

Feedback alignment leaves B alone and lets W come to it. These rules move B towards W by local means, so that the error
that arrives is nearly backpropagation's, though no synapse is told the strength of another:

    kp      Kolen-Pollack. B gets the very step that W gets, and both lose the same small fraction of themselves at
            every step. What they share accumulates, what they began with is forgotten: `W - Bᵀ` shrinks geometrically.
    wm      weight mirror. In a phase of its own, noise is sent forward through W; since `E[ξ (W ξ)ᵀ] = Wᵀ` for white
            noise, a Hebbian product of what goes in and what comes out draws W on B.
    pfa     product feedback alignment. As kp, but the way back has two stages, `B = R Q`, with Q fixed and random and R
            learning. The path agrees with W while no single synapse of it does.
    dkp     direct Kolen-Pollack. The direct topology (`direct_feedback.py`) with B_l that learns `h_l eᵀ`, as if it
            were the readout of its block.

The decays are fractions per step: with plain descent at rate eta and an L2 penalty lambda, `decay = eta lambda`.
Under Adam the step is another, but W and B share it, so they converge at the same pace. A decay of d forgets the start
in some 3 / d steps; a large one also pulls W to zero, which costs accuracy.
"""

from __future__ import annotations

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array

from algorithms.direct_feedback import DFA, random_directly, sent_directly
from algorithms.feedback import FA, second_draw, sent_through
from algorithms.rule import LOSSES, Params, Rule, directions, objective_of, zero_taps
from algorithms.settings import choice, number, require_hidden, whole
from algorithms.transport import kernels, paired, replaced, uses


def decayed(updates: Params, params: Params, feedback: Params, decay: float) -> Params:
    """The optimiser's step and, for the weights that have feedback weights, the loss of a fraction of themselves."""
    pairs = paired(updates, feedback), paired(params, feedback)
    return replaced(updates, jax.tree.map(lambda u, W: u - decay * W, *pairs))


def kp(decay: float = 1e-4, loss: str = "ce") -> Rule:
    """Kolen-Pollack: forward and feedback weights take the same steps and forget at the same pace.

    delta_l = (B_{l+1} delta_{l+1}) ⊙ f'(z_l);  W_l ← (1 - d) W_l + u_l;  B_l ← (1 - d) B_l + u_lᵀ

    `u` is the step that the optimiser takes for W, whatever the optimiser: B needs no optimiser, and `W - Bᵀ` shrinks
    by the factor `1 - d` at every step, exactly. For plain descent, `u = -eta G`, this is L2 decay with `d = eta
    lambda`.

    Args:
        decay: d, the fraction of itself that each of the two loses per step; at most 1/2. As the learning rate is
            annealed and the decay is not, a large one shrinks weights that no longer learn.
        loss: "ce", "mse" or "bce".

    State: `{block: {"kernel": B}}` for every block but a plain first one; composite blocks nest deeper.
    References: Kolen & Pollack (1994), doi:10.1109/ICNN.1994.374486; Akrout et al. (2019), arXiv:1904.05391.
    """
    decay = number("kp", "decay", decay, high=0.5)
    choice("kp", "loss", loss, LOSSES)

    def init(key, net, params, example):
        del example
        return second_draw(key, net, params)

    def follow(updates, params, B):
        moved = jax.tree.map(lambda B, u: B + (u - decay * B), B, paired(updates, B))
        return decayed(updates, params, B, decay), moved

    grads, errors = directions(sent_through(loss, lambda key, params, B: B))
    info = replace(KP, loss=loss)
    return Rule(info=info, grads=grads, errors=errors, init=init, objective=objective_of(loss), follow=follow)


KP = replace(
    FA,
    name="kp",
    title="Kolen-Pollack: feedback weights take the forward weights' steps, and both decay",
    equation="delta_l = (B_{l+1} delta_{l+1}) * f'(z_l);  W <- (1-d) W + u;  B <- (1-d) B + u^T;  "
    "u the optimiser's step",
    citation="Akrout, Wilson, Humphreys, Lillicrap & Tweed (2019), Deep learning without weight transport, "
    "arXiv:1904.05391; after Kolen & Pollack (1994), Backpropagation without weight transport, "
    "doi:10.1109/ICNN.1994.374486",
    transports="the error, layer by layer, through feedback weights of their own; every step a synapse takes, to its "
    "partner",
    requires="any network",
    deviations=(
        "the decay is a constant fraction per step, not eta lambda with the eta of the schedule",
        "only weights that have a partner decay, so not those of a plain first block, nor biases",
        "B starts like a second draw of the forward weights",
        "biases and the scales of normalisation keep their exact derivatives",
    ),
    plastic=True,
    knob=("decay", (3e-5, 3e-4)),
)


def pfa(expansion: int = 10, decay: float = 1e-4, loss: str = "ce") -> Rule:
    """Product feedback alignment: a way back of two stages, of which one learns, and neither mirrors W.

    delta_l = (B_{l+1} delta_{l+1}) ⊙ f'(z_l),  B = R Q;  W ← (1 - d) W + u;  R ← (1 - d) R + uᵀ Qᵀ;  Q fixed, random

    `u` is the optimiser's step for W. The error visits a population of `expansion` times as many units as the block
    has outputs; R learns from their activity `Q delta` by the same outer product, and with the same optimiser, as W
    learns from `delta`. So `R - Wᵀ Qᵀ` shrinks by `1 - d` at every step, and `R Q → Wᵀ Qᵀ Q`, where `Qᵀ Q ≈ I` the
    better the larger the population.

    Args:
        expansion: units of the population between, per output of the block.
        decay: d, the fraction of themselves that W and R lose per step; at most 1/2.
        loss: "ce", "mse" or "bce".

    State: `{"R": {block: {"kernel": R}}, "Q": {block: {"kernel": Q}}}`.
    Reference: Ji-An & Benna (2024), arXiv:2405.20594.
    """
    whole("pfa", "expansion", expansion)
    decay = number("pfa", "decay", decay, high=0.5)
    choice("pfa", "loss", loss, LOSSES)

    def init(key, net, params, example):
        del example
        leaves, form = jax.tree.flatten(second_draw(key, net, params))
        R, Q = [], []
        for i, B in enumerate(leaves):
            one, two = jax.random.split(jax.random.fold_in(key, i))
            outputs, between = B.shape[-1], expansion * B.shape[-1]
            Q.append(jax.random.normal(two, (between, outputs), B.dtype) / math.sqrt(between))
            R.append(jnp.std(B) * jax.random.normal(one, (*B.shape[:-1], between), B.dtype))
        return {"R": jax.tree.unflatten(form, R), "Q": jax.tree.unflatten(form, Q)}

    def product(state):
        return jax.tree.map(jnp.matmul, state["R"], state["Q"])

    def follow(updates, params, state):
        R, Q = state["R"], state["Q"]
        moved = jax.tree.map(lambda R, Q, u: R + (u @ Q.T - decay * R), R, Q, paired(updates, R))
        return decayed(updates, params, R, decay), {"R": moved, "Q": Q}

    grads, errors = directions(sent_through(loss, lambda key, params, state: product(state)))
    info = replace(PFA, loss=loss)
    return Rule(info=info, grads=grads, errors=errors, init=init, objective=objective_of(loss), follow=follow)


PFA = replace(
    KP,
    name="pfa",
    title="product feedback alignment: a two-stage way back whose product agrees with W, though no part of it does",
    equation="delta_l = (R Q delta_{l+1}) * f'(z_l);  W <- (1-d) W + u;  R <- (1-d) R + u^T Q^T;  Q fixed, random",
    citation="Ji-An & Benna (2024), Deep learning without weight symmetry, arXiv:2405.20594",
    transports="the error, layer by layer, through two feedback matrices; every step a synapse takes, through Q",
    deviations=(
        "of the two factors one learns and one is fixed, as in the authors' published code (one reading of the text "
        "would let both learn)",
        "R takes the optimiser's step for W, projected; with plain descent this is the paper's rule, under Adam the "
        "paper's R would have moments of its own",
        "the decay is a constant fraction per step, not eta lambda with the eta of the schedule; biases and a plain "
        "first block do not decay",
        "Q is Gaussian, not uniform; it acts on the output channels of a convolution, and on the last axis of an "
        "attention projection",
        "biases and the scales of normalisation keep their exact derivatives",
    ),
)


def wm(rate: float = 0.01, decay: float = 0.01, loss: str = "ce") -> Rule:
    """Weight mirror: noise is sent through every forward weight, and feedback weights copy what they see of it.

    engaged: delta_l = (B_{l+1} delta_{l+1}) ⊙ f'(z_l);  mirror: B ← (1 - decay) B + rate ξ (W ξ)ᵀ,  ξ ~ N(0, I)

    A step is engaged first, then one mirror phase follows with as much noise as the batch has samples. The noise
    enters at each weight by itself, at its input; the product is averaged over samples and over the places that share
    the weight, so its expectation is W, for dense layers and convolutions alike. B follows W with a lag of 1 / decay
    steps and settles at `rate / decay` times it.

    Args:
        rate: of the Hebbian step. Equal to `decay`, B becomes as large as W.
        decay: fraction of itself that B loses per step, at most 1.
        loss: "ce", "mse" or "bce".

    State: `{block: {"kernel": B}}` for every block but a plain first one; composite blocks nest deeper.
    Reference: Akrout et al. (2019), arXiv:1904.05391.
    """
    rate = number("wm", "rate", rate)
    decay = number("wm", "decay", decay, high=1.0)
    choice("wm", "loss", loss, LOSSES)

    def init(key, net, params, example):
        del example
        return second_draw(key, net, params)

    engaged, errors = directions(sent_through(loss, lambda key, params, B: B))

    def grads(key, net, params, B, batch):
        pseudo, _, metrics = engaged(key, net, params, B, batch)
        seen = mirrored(key, net, params, B, batch.x)
        return pseudo, jax.tree.map(lambda B, M: B + (rate * M - decay * B), B, seen), metrics

    return Rule(info=replace(WM, loss=loss), grads=grads, errors=errors, init=init, objective=objective_of(loss))


def mirrored(key: Array, net, params: Params, chosen: Params, x: Array) -> Params:
    """One mirror phase: an unbiased estimate of every weight in `chosen` from noise and what it becomes.

    For `y = op(ξ, W)` the estimate is the local product of ξ and y, the one a weight learns by, divided by how many
    products it is a sum of: that is the same local product of ones and ones.
    """
    leaves, form = jax.tree.flatten(paired(params, chosen))
    seen = []
    for i, (W, use) in enumerate(zip(leaves, form.flatten_up_to(uses(net, params, x, chosen)), strict=True)):
        noise = jax.random.normal(jax.random.fold_in(key, i), use.x, W.dtype)
        y, product = jax.vjp(lambda W, noise=noise, use=use: use.op(noise, W), W)
        one = jnp.ones((1, *use.x[1:]), W.dtype)
        ones, count = jax.vjp(lambda W, one=one, use=use: use.op(one, W), W)
        seen.append(product(y)[0] / (len(x) * count(jnp.ones_like(ones))[0]))
    return jax.tree.unflatten(form, seen)


WM = replace(
    FA,
    name="wm",
    title="weight mirror: feedback weights learn the forward weights from noise that is sent through them",
    equation="delta_l = (B_{l+1} delta_{l+1}) * f'(z_l);  B <- (1 - decay) B + rate xi (W xi)^T;  xi ~ N(0, I)",
    citation="Akrout, Wilson, Humphreys, Lillicrap & Tweed (2019), Deep learning without weight transport, "
    "arXiv:1904.05391",
    transports="the error, layer by layer, through feedback weights of their own; noise, forward, in its own phase",
    requires="any network",
    deviations=(
        "the mirror phase leaves out bias and nonlinearity: neurons are driven where they are linear, which the paper "
        "approximates with small noise",
        "one mirror phase of one batch follows every step, with none before training; B decays in place of the "
        "normalisation in the authors' code",
        "B starts like a second draw of the forward weights",
        "biases and the scales of normalisation keep their exact derivatives",
    ),
    passes="5 (one forward, one backward, one mirror phase: about two forward)",
    random=True,
    plastic=True,
    knob=("decay", (0.003, 0.03)),
)


def dkp(rate: float = 0.1, decay: float = 1e-4, loss: str = "ce") -> Rule:
    """Direct Kolen-Pollack: direct feedback matrices that learn like readouts of their blocks.

    delta_l = (B_l e) ⊙ f'(z_l);  B_l ← (1 - d) B_l - rate h_l eᵀ;  W_L ← (1 - d) W_L + u_L

    For the top hidden block `B_l` learns what the readout learns: under plain descent at the same rate `W_L - B_l` is
    multiplied by `1 - d` at every step, and with one hidden layer the rule is `kp`. Further down, `h_l eᵀ` is the
    gradient of a readout that is not there; that it comes to resemble the product of the weights above is observed,
    not proved.

    Args:
        rate: learning rate of B, plain descent.
        decay: d, the fraction of themselves that B and the readout's weights lose per step; at most 1/2.
        loss: "ce", "mse" or "bce".

    State: `{block: B_l of shape (units, classes)}` for every hidden block.
    Reference: Webster, Choi & Ahn (2020), openreview.net/forum?id=zgGmAx9ZcY.
    """
    rate = number("dkp", "rate", rate)
    decay = number("dkp", "decay", decay, high=0.5)
    choice("dkp", "loss", loss, LOSSES)

    def init(key, net, params, example):
        require_hidden("dkp", net)
        return random_directly(key, net, params, example, 1.0)

    def grads(key, net, params, B, batch):
        def value(params, shortcuts):
            return sent_directly(loss, net, params, B, batch.x, batch.y, None, shortcuts=shortcuts)

        zero = jax.tree.map(jnp.zeros_like, B)
        value, (pseudo, product) = jax.value_and_grad(value, argnums=(0, 1))(params, zero)
        B = jax.tree.map(lambda B, G: B - (rate * G + decay * B), B, product)
        return pseudo, B, {"loss": value}

    def errors(key, net, params, B, batch):
        zeros = zero_taps(net, params, batch.x)
        return jax.grad(lambda taps: sent_directly(loss, net, params, B, batch.x, batch.y, taps))(zeros)

    def follow(updates, params, B):
        readout = kernels({name: leaf for name, leaf in params.items() if name not in B})
        return decayed(updates, params, readout, decay), B

    info = replace(DKP, loss=loss)
    return Rule(info=info, grads=grads, init=init, objective=objective_of(loss), errors=errors, follow=follow)


DKP = replace(
    DFA,
    name="dkp",
    title="direct Kolen-Pollack: direct feedback that learns as if it were each block's readout",
    equation="delta_l = (B_l e) * f'(z_l);  B_l <- (1-d) B_l - rate h_l e^T;  W_L <- (1-d) W_L + u_L",
    citation="Webster, Choi & Ahn (2020), Learning the connections in direct feedback alignment, "
    "openreview.net/forum?id=zgGmAx9ZcY",
    transports="the output error, to each block at once, through a matrix that the block learns from its own activity",
    deviations=(
        "B learns by plain descent at a rate of its own, which no schedule lowers; the authors' code gives it Adam",
        "B is Gaussian, not uniform; hidden weights start from the common initialiser",
        "of the forward weights only the readout's decay, and by a constant fraction per step",
        "inside a composite block the signal goes on by the block's exact derivative",
        "the first form of the rule; the authors later add the product of the outputs and the projected error",
    ),
    plastic=True,
    knob=("rate", (0.03, 0.3)),
)
