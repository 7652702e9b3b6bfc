"""Target propagation: what comes back is not an error but a target, the activity a block should have had.

Backpropagation asks how the loss would change if a unit changed a little, and needs the transpose of every forward
weight to find out. Target propagation asks which activity of a block would have led to a better output, and finds out
by running the network backwards through *feedback maps* g_l, which lead from `h_l` to `h_{l-1}` with weights of their
own. The output is told where to go by its own loss, all others through the g_l:

    t_L = h_L - step dC/dh_L;    t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l);    dW_l = d/dW_l ||h_l - t_l||² / (2 step)

with `h_{l-1}` and all targets held fixed, so that learning is local to a block. The *difference* of two
reconstructions stands where plain target propagation has `g_l(t_l)`: then even an imperfect g_l gives no reason to
move when the output is right. Dividing by `step` gives the direction the scale of a gradient, whatever the step (that
of the output block *is* its gradient): how far targets lie is the rule's business, how far weights move the
optimiser's.

The rules differ in what g_l is:

    dtp     an inverse of block l, learned by reconstructing noisy activities: targets nearer to Gauss-Newton's than
            to gradient descent's (Meulemans et al. 2020, arXiv:2006.14331)
    fwdtp   a fixed random map; the forward weights have to come to terms with it
    ldrl    a linear map that learns to be the transpose of the block's Jacobian (`difference_reconstruction.py`)

In a linear chain whose g_l are exact inverses, moving block 1 to its target moves the output exactly to its own.

What is known to matter: feedback has to learn before its targets are used, so every batch teaches it first; it has to
keep up with forward weights that move, so its learning rate is its own; ten logits cannot tell what a hundred units
did, so an *inverse* of the readout is the weakest link; saturated or silent units pass no difference on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from algorithms.rule import LOSSES, Batch, Block, Net, Params, Rule, RuleInfo, directions, forward_pass, objective_of
from algorithms.settings import choice, number, require_dense, whole

Difference = Callable[[int, Array, Array], Array]
"""`(i, h, d) -> g(h + d) - g(h)`, g being the feedback map from block i (counted from 0) to the block below it."""


def displacements(hs: Sequence[Array], top: Array, difference: Difference) -> list[Array]:
    """`d_l = t_l - h_l` of every block, given that of the last.

    Displacements are carried, not targets: they are small beside activities, and `(h + d) - h` would lose most of
    their digits in single precision.
    """
    ds = [top]
    for i in range(len(hs) - 1, 0, -1):
        ds.append(difference(i, hs[i], ds[-1]))
    return ds[::-1]


def towards_targets(loss: str, step: float, feedback_of: Callable[[Net, Params, Any, Sequence[Array]], Difference]):
    """`grads` and `errors` of the family: the derivative of `Σ_l ||h_l - t_l||² / (2 step)`, averaged over the batch.

    Args:
        loss: the name of the loss whose gradient at the output, sample by sample, sets `t_L`.
        step: how far along it.
        feedback_of: `(net, params, state, activities) -> Difference`.
    """

    def surrogate(key, net: Net, params: Params, state, batch: Batch, taps):
        del key
        hs = forward_pass(net, params, batch.x, taps, link=jax.lax.stop_gradient)
        fixed = jax.lax.stop_gradient(hs)
        values, pull = jax.vjp(lambda scores: LOSSES[loss](scores, batch.y), fixed[-1])
        top = -step * pull(jnp.ones_like(values))[0]
        ds = jax.lax.stop_gradient(displacements(fixed, top, feedback_of(net, params, state, fixed)))
        gaps = [(h - there) - d for h, there, d in zip(hs, fixed, ds, strict=True)]  # h - t, with all digits of d
        return sum((gap**2).sum() for gap in gaps) / (2 * step * len(batch.y)), {"loss": values.mean()}

    return directions(surrogate)


def feedback_first(teach: Callable[..., Any], grads, errors):
    """The same `grads` and `errors`, after this very batch has taught the feedback: `teach(...) -> state`."""

    def taught_grads(key, net, params, state, batch):
        return grads(key, net, params, teach(key, net, params, state, batch), batch)

    def taught_errors(key, net, params, state, batch):
        return errors(key, net, params, teach(key, net, params, state, batch), batch)

    return taught_grads, taught_errors


def learn(key: PRNGKeyArray, loss_of: Callable[[Params, PRNGKeyArray], Array], optimizer, state: Any, steps: int):
    """The state after `steps` steps of the feedback weights down `loss_of(feedback, key)`, each with its own noise."""

    def once(i, state):
        slope = jax.grad(loss_of)(state["feedback"], jax.random.fold_in(key, i))
        updates, memory = optimizer.update(slope, state["optimizer"], state["feedback"])
        return {"feedback": optax.apply_updates(state["feedback"], updates), "optimizer": memory}

    return jax.lax.fori_loop(0, steps, once, state)


def noise_like(h: Array, key: PRNGKeyArray, draw: int, sigma: float) -> Array:
    """Normal noise of standard deviation sigma, in h's shape and type; `draw` numbers those of one key."""
    return sigma * jax.random.normal(jax.random.fold_in(key, draw), h.shape, h.dtype)


def inverse(below: Block, weights: Params, h: Float[Array, "batch units"]) -> Float[Array, "batch units_below"]:
    """`g_l(h_l) = f_{l-1}(V_l h_l + c_l)`: its range is that of the activities it reconstructs."""
    return below.act(h @ weights["kernel"] + weights["bias"])


def random_inverses(key: PRNGKeyArray, net: Net, params: Params, scale: float) -> Params:
    """`V_l ~ N(0, scale² / units of block l)` and `c_l = 0` for every block but the first, in the parameters' type."""
    drawn = {}
    for i, block in enumerate(net.blocks[1:], 1):
        W = params[block.name]["kernel"]
        V = jax.random.normal(jax.random.fold_in(key, i), W.shape[::-1], W.dtype)
        drawn[block.name] = {"kernel": scale / math.sqrt(W.shape[1]) * V, "bias": jnp.zeros(W.shape[0], W.dtype)}
    return drawn


def through_inverses(net: Net, params: Params, state, hs: Sequence[Array]) -> Difference:
    """Differences of the inverses in `state["feedback"]`."""
    del params, hs

    def difference(i, h, d):
        below, weights = net.blocks[i - 1], state["feedback"][net.blocks[i].name]
        return inverse(below, weights, h + d) - inverse(below, weights, h)

    return difference


def transposed(block: Block, weights: Params, h: Array) -> Callable[[Array], Array]:
    """The way back through a block at the activity h below it: its Jacobian's transpose, with B where it has B."""
    pull = jax.vjp(lambda h: block.act(block.affine(weights, h)), h)[1]
    return lambda u: pull(u)[0]


DENSE_ONLY = "its feedback maps are dense, one layer back to the units that a block was given, and have no convolution"


def dtp(
    step: float = 0.1,
    noise: float = 0.1,
    iterations: int = 1,
    feedback_rate: float = 1e-3,
    first: str = "output",
    loss: str = "ce",
) -> Rule:
    """Difference target propagation with learned inverses.

    t_L = h_L - step dC/dh_L;  t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l);  dW_l = d/dW_l ||h_l - t_l||² / (2 step)
    g_l(h) = f_{l-1}(V_l h + c_l) descends ||g_l(f_l(h_{l-1} + xi)) - (h_{l-1} + xi)||²,  xi ~ N(0, noise²)

    Args:
        step: how far along its gradient the first target lies, above 0.
        noise: standard deviation of what is added to the activities that inverses learn to reconstruct.
        iterations: steps of the inverses per batch, before its targets are computed.
        feedback_rate: learning rate of the inverses (Adam, not annealed).
        first: where the first target is set by the gradient of the loss: "output", or "hidden" for the last hidden
            block, which the paper's own programs reach through the transposed readout weights.
        loss: "ce", "mse" or "bce".

    State: `{"feedback": {block: {"kernel": V_l, "bias": c_l}}, "optimizer": Adam's}`, for every block but the first.
    References: Lee, Zhang, Fischer & Bengio (2015), arXiv:1412.7525; first="output": Bartunov et al. (2018),
    arXiv:1807.04587.
    """
    step = number("dtp", "step", step)
    noise = number("dtp", "noise", noise)
    whole("dtp", "iterations", iterations)
    optimizer = optax.adam(number("dtp", "feedback_rate", feedback_rate))
    choice("dtp", "first", first, ("output", "hidden"))
    choice("dtp", "loss", loss, LOSSES)

    def init(key, net, params, example):
        del example
        require_dense("dtp", net, DENSE_ONLY)
        feedback = random_inverses(key, net, params, 1.0)
        return {"feedback": feedback, "optimizer": optimizer.init(feedback)}

    def teach(key, net: Net, params: Params, state, batch: Batch):
        hs = forward_pass(net, params, batch.x)

        def reconstruction(feedback, key):
            total = 0.0
            for i, block in enumerate(net.blocks[1:], 1):
                h = hs[i - 1] + noise_like(hs[i - 1], key, i, noise)
                above = block.act(block.affine(params[block.name], h))
                total += ((inverse(net.blocks[i - 1], feedback[block.name], above) - h) ** 2).sum()
            return total / len(batch.y)

        return learn(key, reconstruction, optimizer, state, iterations)

    def feedback_of(net: Net, params: Params, state, hs):
        through = through_inverses(net, params, state, hs)
        if first == "output":
            return through
        last = net.blocks[-1]

        def difference(i, h, d):  # the gradient at the last hidden block is the transpose at work on the output's
            exact = i == len(hs) - 1
            return transposed(last, params[last.name], hs[i - 1])(d) if exact else through(i, h, d)

        return difference

    grads, errors = feedback_first(teach, *towards_targets(loss, step, feedback_of))
    passes = (
        f"{4 + 3 * iterations} (one forward, two through the inverses, one for the weights, three per step of the "
        "inverses; all but the first and the weights' skip the first block)"
    )
    return Rule(
        info=replace(DTP, loss=loss, passes=passes), grads=grads, errors=errors, init=init, objective=objective_of(loss)
    )


DTP = RuleInfo(
    name="dtp",
    title="difference target propagation: targets come back through learned inverses",
    equation="t_L = h_L - step dC/dh_L;  t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l);  "
    "dW_l = d/dW_l |h_l - t_l|^2 / (2 step);  g_l learns to invert block l",
    citation="Lee, Zhang, Fischer & Bengio (2015), Difference target propagation, arXiv:1412.7525",
    transports="targets, layer by layer, through inverses with weights of their own, which learn",
    requires="dense blocks, since an inverse is one dense layer; made for tanh: with relu, what an inverse holds to be "
    "silent gets no target",
    deviations=(
        "the first target is set at the logits and reaches the last hidden block through a learned inverse too; the "
        "paper sets it at the last hidden block, which takes the transposed readout weights (first='hidden')",
        "each batch teaches the inverses first and then uses them; the paper's programs alternate whole epochs of both",
        "the inverses learn by Adam from Gaussian weights of variance 1 / units, not by RMSprop from orthogonal ones; "
        "their learning rate is not annealed",
        "the local gradient is divided by the step of the targets, so that it has the scale of a gradient",
        "no epochs in which the inverses alone learn, before the first",
    ),
    passes="",
    nonlinearity="tanh",
    random=True,
    plastic=True,
    knob=("noise", (0.03, 0.3)),
)


def fwdtp(step: float = 0.1, scale: float = 0.1, loss: str = "ce") -> Rule:
    """Difference target propagation through fixed random maps.

    t_L = h_L - step dC/dh_L;  t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l);  dW_l = d/dW_l ||h_l - t_l||² / (2 step)
    g_l(h) = f_{l-1}(V_l h),  V_l fixed, random

    Close to feedback alignment, but for two things: the signal is not multiplied by f' on its way down (it is, for the
    weights of each block), and it is damped where the feedback map itself saturates.

    Args:
        step: how far along its gradient the output's target lies, above 0.
        scale: V_l ~ N(0, scale² / units of block l); small values keep the maps out of saturation.
        loss: "ce", "mse" or "bce".

    State: `{"feedback": {block: {"kernel": V_l, "bias": 0}}}`, for every block but the first.
    Reference: Shibuya, Inoue, Kawakami & Sato (2023), arXiv:2212.10352.
    """
    step = number("fwdtp", "step", step)
    scale = number("fwdtp", "scale", scale)
    choice("fwdtp", "loss", loss, LOSSES)

    def init(key, net, params, example):
        del example
        require_dense("fwdtp", net, DENSE_ONLY)
        return {"feedback": random_inverses(key, net, params, scale)}

    grads, errors = towards_targets(loss, step, through_inverses)
    return Rule(info=replace(FWDTP, loss=loss), grads=grads, errors=errors, init=init, objective=objective_of(loss))


FWDTP = RuleInfo(
    name="fwdtp",
    title="difference target propagation through fixed random maps",
    equation="t_L = h_L - step dC/dh_L;  t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l);  "
    "dW_l = d/dW_l |h_l - t_l|^2 / (2 step);  g_l fixed, random",
    citation="Shibuya, Inoue, Kawakami & Sato (2023), Fixed-weight difference target propagation, arXiv:2212.10352",
    transports="targets, layer by layer, through fixed random maps",
    requires="dense blocks, since a feedback map is one dense layer; made for tanh",
    deviations=(
        "no batch normalisation (the paper has variants with and without)",
        "forward weights start from the common initialiser, not orthogonal",
        "V is Gaussian, not uniform, and the nonlinearity of a feedback map is that of the block it leads to",
        "the local gradient is divided by the step of the targets, so that it has the scale of a gradient",
    ),
    passes="4 (one forward, two through the maps, one for the weights)",
    nonlinearity="tanh",
    knob=("scale", (0.01, 1.0)),
)
