"""Predictive coding: states settle into a compromise between input and label, then every weight learns its own error.

Each block predicts the state of the next, `u_l = block_l(h_{l-1})`, and the difference `e_l = h_l - u_l` is a
prediction error with units of its own. While a batch is learned, the input is clamped to the image and the output to
the label, and the hidden states h_l, which start as in a forward pass, move downhill on the energy

    E = ½ Σ_{l<L} ‖e_l‖² + ½ precision ‖e_L‖²          (squared error on linear outputs)

A state feels its own error and, through the weights above it, the error of what it predicts; nothing else travels.
Then each weight descends the same E, `dW_l = -(f'(z_l) ⊙ e_l) h_{l-1}ᵀ`, which is local. When the network is only
read, the output is free, all errors are zero at the lowest energy, and the states are those of a forward pass.

`pc` is this, as it stands. `ipc` lets the weights learn while the states still move. `epc` looks for the same resting
point by moving the errors instead of the states. `zil` and `fpc` change the schedule or freeze the predictions, and
are then backpropagation exactly.

What is known to matter. (1) The error enters at the top and sinks one block per step, by a factor `rate` each time:
with few or small steps hidden blocks learn next to nothing; with steps too large the states run away. The metric
`residual` (the norm of ∂E/∂h after the descent, relative to before) shows both. (2) At rest, predictive coding is not
backpropagation: in a linear network its first block learns from `S⁻¹ e`, not e, where S is the covariance of the
output that the errors of all blocks bring about. (3) It becomes backpropagation as `precision` goes to 0. (4) With a
precision of 1 and states that do come to rest, small shifts of hidden states explain the label away: weights grow to
make that easier (S grows, so E falls), and accuracy suffers; hence the small default. As weights grow so does the
curvature of E, and the stable rate falls.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from algorithms.prediction_energy import (
    AT_REST,
    clamp,
    descend,
    energy,
    first_state,
    needs_hidden,
    predict,
    residual,
    slopes,
)
from algorithms.rule import Rule, RuleInfo, directions, forward_pass, mean_loss, objective_of
from algorithms.settings import number, whole


def pc(steps: int = 20, rate: float = 0.03, momentum: float = 0.7, precision: float = 0.03) -> Rule:
    """Predictive coding: relax the states with input and label clamped, then learn from the errors that remain.

    h_l <- h_l - rate (e_l - J_{l+1}ᵀ e_{l+1}), steps times;  dW_l = -(f'(z_l) ⊙ e_l) h_{l-1}ᵀ / precision

    Args:
        steps: relaxation steps per batch. The first block hears nothing unless there are as many as hidden blocks.
        rate: step of a state, per sample. Stable below `2 (1 + momentum)` over the largest curvature of E, which is at
            most about `(1 + s)²` for weights of spectral norm s. Normalisation of a channel that hardly varies makes
            that large: residual networks want a tenth of the default, or less, and as many more steps.
        momentum: of the states, from rest for every batch; in [0, 1). 0 is plain descent, on which E never rises.
        precision: weight of the output error in E; the direction is divided by it. Below 1 the states stay closer to
            the forward pass and the direction to the gradient.

    Metrics: `energy`, per sample, where the descent stopped; `residual`, for mlp(256,128) on MNIST at the default
    settings 0.38 before training and 0.05 after twenty epochs with Adam at 1e-3.
    Reference: Whittington & Bogacz (2017), doi:10.1162/NECO_a_00949.
    """
    steps, rate = whole("pc", "steps", steps), number("pc", "rate", rate)
    momentum = number("pc", "momentum", momentum, high=1 - 1e-6, closed=True)
    precision = number("pc", "precision", precision)

    def surrogate(key, net, params, state, batch, taps):
        del key, state
        fixed, target = jax.lax.stop_gradient(params), clamp(net, batch)
        *free, scores = forward_pass(net, fixed, batch.x)
        first = first_state(net, fixed, free[0])
        slope = slopes(net, fixed, first, target, precision)
        c, *rest = descend(slope, (first.start, *free[1:]), steps, rate, momentum)
        hs = (first.state(c), *rest)
        value = energy(net, params, (batch.x, *hs), (*hs, target), precision, taps) / len(target)
        return value / precision, {
            "loss": mean_loss("mse", scores, batch.y),
            "energy": value,
            "residual": residual(net, fixed, free, hs, target, precision),
        }

    grads, errors = directions(surrogate)
    info = replace(PC, passes=relaxed_passes(steps))
    return Rule(info=info, grads=grads, errors=errors, init=needs_hidden("pc"), objective=objective_of("mse"))


def relaxed_passes(steps: int) -> str:
    """What a relaxation costs, in forward passes."""
    return (
        f"{2 * steps + 2} (one forward; a forward and a backward to the states, both above the first block only, in "
        f"each of {steps} steps; one to the weights of single blocks)"
    )


PC = RuleInfo(
    name="pc",
    title="predictive coding: relax the states between input and label, then learn the errors that remain",
    equation="E = 1/2 sum_{l<L} |e_l|^2 + precision/2 |e_L|^2,  e_l = h_l - f(W_l h_{l-1});  "
    "h_l <- h_l - rate dE/dh_l;  dW_l = -(f'(z_l) * e_l) h_{l-1}^T / precision;  dW_L = -e_L h_{L-1}^T",
    citation="Whittington & Bogacz (2017), An approximation of the error backpropagation algorithm in a predictive "
    "coding network with local Hebbian synaptic plasticity, doi:10.1162/NECO_a_00949",
    transports="the error of a block, to the states below it, through the transpose of its weights; at every step",
    requires="at least one hidden block; composite blocks are predicted as a whole, from their input",
    deviations=(
        "states are activities and predictions f(W h), as in Millidge et al. (arXiv:2006.04182); the paper's states "
        "are what enters f, and predictions W f(h)",
        "states move with momentum, so that 20 steps come nearer to rest; momentum=0 is the paper's descent",
        "an output error weighs 0.03 of a hidden one; the authors' example code (ModelDB 218084) gives it variance 10, "
        "a weight of 0.1, with which this network learns more slowly",
        "with relu the energy has kinks, where the descent comes to rest with a residual above zero",
        "the direction is divided by the precision, so that it tends to the gradient when that goes to 0",
        "when a narrower dense block comes second, the first state moves in that block's coordinates: the same descent",
    ),
    passes="",
    representation=AT_REST,
    loss="mse",
    tolerance=0.5,
    knob=("precision", (0.01, 0.1)),
)


def ipc(steps: int = 8, rate: float = 0.03) -> Rule:
    """Incremental predictive coding: weights learn at every step of the relaxation, not only at its end.

    dW_l = mean over steps of -(f'(z_l) ⊙ e_l) h_{l-1}ᵀ;  h_l <- h_l - rate (e_l - J_{l+1}ᵀ e_{l+1})

    Args:
        steps: steps of states and weights per batch, the first one from the forward pass. A block hears nothing of the
            label unless there are more steps than blocks above it.
        rate: step of a state, per sample. Stable below 2 over the largest curvature of E.

    Metrics: `energy`, per sample, mean over the steps; `residual`, at the last of them. Weights learn on the way, so
    nothing has to be at rest, and with few small steps nearly all of the slope is left. But steps of a stable rate
    shrink every part of a quadratic energy's slope, by `|1 - rate curvature|`, so that above 1 the states run away.
    Reference: Salvatori et al. (2024), arXiv:2212.00720.
    """
    steps, rate = whole("ipc", "steps", steps), number("ipc", "rate", rate)

    def surrogate(key, net, params, state, batch, taps):
        del key, state
        fixed, target = jax.lax.stop_gradient(params), clamp(net, batch)
        *free, scores = forward_pass(net, fixed, batch.x)
        first = first_state(net, fixed, free[0])
        slope = slopes(net, fixed, first, target, 1.0)

        def step(states, _):
            return jax.tree.map(lambda s, g: s - rate * g, states, slope(states)), states

        _, (c, *rest) = jax.lax.scan(step, (first.start, *free[1:]), None, length=steps)
        path = (jax.vmap(first.state)(c), *rest)
        values = jax.vmap(lambda hs: energy(net, params, (batch.x, *hs), (*hs, target), 1.0, taps))(path)
        value = values.mean() / len(target)
        return value, {
            "loss": mean_loss("mse", scores, batch.y),
            "energy": value,
            "residual": residual(net, fixed, free, [h[-1] for h in path], target),
        }

    grads, errors = directions(surrogate)
    info = replace(IPC, passes=f"{3 * steps + 1} (one forward; a forward and a backward in each of {steps} steps)")
    return Rule(info=info, grads=grads, errors=errors, init=needs_hidden("ipc"), objective=objective_of("mse"))


IPC = RuleInfo(
    name="ipc",
    title="incremental predictive coding: states and weights descend the energy at the same time",
    equation="at every step: dW_l += -(f'(z_l) * e_l) h_{l-1}^T;  h_l <- h_l - rate dE/dh_l",
    citation="Salvatori, Song, Yordanov, Millidge, Sha, Emde, Xu, Bogacz & Lukasiewicz (2024), A stable, fast, and "
    "fully automatic learning algorithm for predictive coding networks, arXiv:2212.00720",
    transports="the error of a block, to the states below it, through the transpose of its weights; at every step",
    requires="at least one hidden block; composite blocks are predicted as a whole, from their input",
    deviations=(
        "the weights stay while a batch is learned, and the optimiser makes one step along the mean of the directions "
        "met on the way: the same to first order in the learning rate",
        "states are activities and predictions f(W h); the paper predicts W f(h)",
        "the path begins at the forward pass, so the blocks near the output learn from more of it than those below",
    ),
    passes="",
    representation=AT_REST,
    loss="mse",
    tolerance=1.0,  # a stable step never lengthens the slope of a quadratic energy; the rule asks for no rest
    knob=("rate", (0.01, 0.1)),
)


def epc(steps: int = 20, rate: float = 0.03, momentum: float = 0.7, precision: float = 0.03) -> Rule:
    """Error optimisation: the resting point of predictive coding, found by moving the errors and not the states.

    h_l = u_l(h_{l-1}) + e_l;  e_l <- e_l - rate (e_l - (∂u_L/∂e_l)ᵀ e_L);  dW_l = -(f'(z_l) ⊙ e_l) h_{l-1}ᵀ / precision

    An error moves every state above it, so one step carries the label to all blocks at once.

    Args:
        steps: steps of the errors per batch; one is enough for every block to hear.
        rate: step of an error, per sample. Stable below `2 (1 + momentum)` over the largest curvature of E, which is
            for a chain that is linear in its errors the largest eigenvalue of `1 + precision (∂u_L/∂e)(∂u_L/∂e)ᵀ`.
        momentum: of the errors, from rest for every batch; in [0, 1).
        precision: weight of the output error in E; the direction is divided by it.

    Reference: Goemaere et al. (2025), arXiv:2505.20137.
    """
    steps, rate = whole("epc", "steps", steps), number("epc", "rate", rate)
    momentum = number("epc", "momentum", momentum, high=1 - 1e-6, closed=True)
    precision = number("epc", "precision", precision)

    def surrogate(key, net, params, state, batch, taps):
        del key, state
        fixed, target = jax.lax.stop_gradient(params), clamp(net, batch)
        *free, scores = forward_pass(net, fixed, batch.x)
        first = first_state(net, fixed, free[0])

        def chain(at, es):
            """States from the second on, and the scores, of a forward pass with an error added to every state."""
            hs = [first.above(at)]
            for block, e in zip(net.blocks[2:], es, strict=True):
                hs.append(predict(block, fixed, hs[-1] + e))
            return hs

        def slope(errors):
            c, *es = errors
            u, pull = jax.vjp(lambda at, es: chain(at, es)[-1], first.meets(c), es)
            at, back = pull(precision * (target - u))
            return (c - at, *(e - pulled for e, pulled in zip(es, back, strict=True)))

        start = (first.start, *(jnp.zeros_like(h) for h in free[1:]))
        c, *es = descend(slope, start, steps, rate, momentum)
        us = chain(first.meets(c), es)[:-1]
        hs = (first.state(c), *(u + e for u, e in zip(us, es, strict=True)))
        value = energy(net, params, (batch.x, *hs), (*hs, target), precision, taps) / len(target)
        return value / precision, {
            "loss": mean_loss("mse", scores, batch.y),
            "energy": value,
            "residual": residual(net, fixed, free, hs, target, precision),
        }

    grads, errors = directions(surrogate)
    info = replace(EPC, passes=relaxed_passes(steps))
    return Rule(info=info, grads=grads, errors=errors, init=needs_hidden("epc"), objective=objective_of("mse"))


EPC = RuleInfo(
    name="epc",
    title="predictive coding by error optimisation: its resting point, reached through the whole chain",
    equation="h_l = f(W_l h_{l-1}) + e_l;  E = 1/2 sum_{l<L} |e_l|^2 + precision/2 |e_L|^2;  "
    "e_l <- e_l - rate dE/de_l;  dW_l = -(f'(z_l) * e_l) h_{l-1}^T / precision;  dW_L = -e_L h_{L-1}^T",
    citation="Goemaere, Oliviers, Bogacz & Demeester (2025), Error optimization: overcoming exponential signal decay "
    "in deep predictive coding networks, arXiv:2505.20137",
    transports="the output error, through the transpose of every weight above, at every step: as in backpropagation",
    requires="at least one hidden block; composite blocks are predicted as a whole, from their input",
    deviations=(
        "an output error weighs 0.03 of a hidden one, as for pc; precision=1 is the paper's",
        "errors move with momentum, as for pc; momentum=0 is the paper's descent",
        "the direction is divided by the precision, not by rate * steps as in the authors' code",
    ),
    passes="",
    representation=AT_REST,
    loss="mse",
    tolerance=0.5,
    knob=("precision", (0.01, 0.1)),
)
