"""Direct feedback: a signal about the output goes straight to every block, past all blocks in between.

In feedback alignment the error still climbs down layer by layer. Here each hidden block has a matrix `B_l` of its own
from the output (one column per class), and the chain between blocks carries nothing back:

    delta_l = (B_l signal) ⊙ f'(z_l);    dW_l = delta_l h_{l-1}ᵀ;    delta_L = e

    dfa     signal = e, the output error.
    sdfa    signal = sign(e): whether each output was too high or too low, not by how much.
    drtp    signal = -y*, the one-hot target. It is known before the forward pass is over, so a block can learn at once;
            but it is the same for a sample that is right and one that is wrong.

The signals are of one family: for outputs strictly between 0 and 1, `sign(e) = 1 - 2 y*`, so `sdfa` sends the target
and a constant. Neither signal vanishes with the error; both push for ever, and hidden units that saturate, tanh, are
what stops them, so `sdfa` and `drtp` are made for tanh units with a logistic output. The constant reaches every
sample alike. All of them are known to work badly on
convolutions, whose shared weights leave a random matrix little to align with. `dkp`, which learns B_l, is in
`learned_feedback.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from algorithms.rule import (
    LOSSES,
    Batch,
    Net,
    Params,
    Rule,
    RuleInfo,
    directions,
    forward_pass,
    hidden_shapes,
    mean_loss,
    objective_of,
)
from algorithms.settings import choice, number, require_hidden
from algorithms.transport import transport

Signal = Callable[[Float[Array, "batch classes"], Float[Array, "batch classes"]], Float[Array, "batch classes"]]
"""What is sent to the hidden blocks, from the output error `e` and the one-hot target, per sample."""


def random_directly(key: PRNGKeyArray, net: Net, params: Params, example: Batch, scale: float) -> Params:
    """`B_l` of shape (units, classes) for every hidden block, N(0, scale² / classes)."""
    return {
        name: scale
        / math.sqrt(net.classes)
        * jax.random.normal(jax.random.fold_in(key, i), (math.prod(shape.shape[1:]), net.classes), shape.dtype)
        for i, (name, shape) in enumerate(hidden_shapes(net, params, example).items())
    }


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sent(signal: Signal, z: Array, y: Array) -> Array:
    """z, whose derivative is not the error that arrives but `signal(error, target)`."""
    del signal, y
    return z


def _sent_backward(signal: Signal, y: Array, error: Array):
    n = len(error)  # the loss is a mean over the batch; signals are defined per sample
    target = jax.nn.one_hot(y, error.shape[1], dtype=error.dtype)
    return signal(n * error, target) / n, None


_sent.defvjp(lambda signal, z, y: (z, y), _sent_backward)


def sent_directly(
    loss: str,
    net: Net,
    params: Params,
    B: Params,
    x: Array,
    y: Int[Array, " batch"],
    taps: dict[str, Array] | None,
    signal: Signal | None = None,
    shortcuts: Params | None = None,
) -> Array:
    """The loss, whose derivatives reach hidden blocks through the matrices B alone; `signal` is `e` where not given.

    This is weight transport again: a shortcut from each `h_l` to the logits whose forward weights are zero and whose
    backward weights are `B_l`, while the chain itself is cut between blocks. The zeros may be handed in as `shortcuts`,
    to ask what such weights would learn.
    """
    if shortcuts is None:
        shortcuts = jax.tree.map(jnp.zeros_like, B)
    *hidden, logits = forward_pass(net, params, x, taps, link=jax.lax.stop_gradient)
    shortcut = jnp.zeros_like(logits)
    for block, h in zip(net.blocks[:-1], hidden, strict=True):
        shortcut += transport(jnp.matmul, h.reshape(len(h), -1), shortcuts[block.name], B[block.name])
    return mean_loss(loss, logits + (shortcut if signal is None else _sent(signal, shortcut, y)), y)


def _direct(info: RuleInfo, scale: float, loss: str, signal: Signal | None) -> Rule:
    """A rule with fixed random matrices and the given signal."""
    scale = number(info.name, "scale", scale)
    choice(info.name, "loss", loss, LOSSES)

    def init(key, net, params, example):
        require_hidden(info.name, net)
        return random_directly(key, net, params, example, scale)

    def surrogate(key, net, params, state, batch, taps):
        del key
        value = sent_directly(loss, net, params, state, batch.x, batch.y, taps, signal)
        return value, {"loss": value}

    grads, errors = directions(surrogate)
    return Rule(info=replace(info, loss=loss), grads=grads, errors=errors, init=init, objective=objective_of(loss))


def dfa(scale: float = 1.0, loss: str = "ce") -> Rule:
    """Direct feedback alignment: every block hears the output error through its own fixed random matrix.

    delta_L = e;  delta_l = (B_l e) ⊙ f'(z_l);  dW_l = delta_l h_{l-1}ᵀ

    Args:
        scale: B_l ~ N(0, scale² / classes), so that `B_l e` is about as large as `e`, per entry. Under Adam it hardly
            matters; under SGD it multiplies the hidden learning rate.
        loss: "ce", "mse" or "bce".

    State: `{block: B_l of shape (units, classes)}` for every hidden block.
    Reference: Nøkland (2016), arXiv:1609.01596.
    """
    return _direct(DFA, scale, loss, None)


DFA = RuleInfo(
    name="dfa",
    title="direct feedback alignment: the output error goes straight to every block",
    equation="delta_L = e;  delta_l = (B_l e) * f'(z_l);  dW_l = delta_l h_{l-1}^T;  B fixed, random",
    citation="Nokland (2016), Direct feedback alignment provides learning in deep neural networks, arXiv:1609.01596",
    transports="the output error, to each block at once, through a fixed random matrix",
    requires="any network with a hidden block; behind a pooling or a composite block the error enters at the block's "
    "output",
    deviations=(
        "hidden weights start from the common initialiser, not from zero, so that all rules share one start",
        "B is Gaussian, not uniform, and of one scale for all blocks, maps of features too",
        "inside a composite block the signal goes on by the block's exact derivative",
    ),
    passes="3 (one forward, one backward through single blocks)",
)


def sdfa(scale: float = 1.0, loss: str = "bce") -> Rule:
    """Direct feedback alignment with the sign of the error.

    delta_L = e;  delta_l = (B_l sign(e)) ⊙ f'(z_l);  dW_l = delta_l h_{l-1}ᵀ

    Args:
        scale: B_l ~ N(0, scale² / classes). Under Adam it hardly matters.
        loss: "ce", "mse" or "bce".

    State: `{block: B_l of shape (units, classes)}` for every hidden block.
    Reference: Frenkel, Lefebvre & Bol (2021), doi:10.3389/fnins.2021.629892 (arXiv:1909.01311).
    """
    return _direct(SDFA, scale, loss, lambda e, target: jnp.sign(e))


SDFA = replace(
    DFA,
    name="sdfa",
    title="direct feedback of the error's sign alone",
    equation="delta_L = e;  delta_l = (B_l sign(e)) * f'(z_l);  dW_l = delta_l h_{l-1}^T;  B fixed, random",
    citation="Frenkel, Lefebvre & Bol (2021), Learning without feedback: fixed random learning signals allow for "
    "feedforward training of deep neural networks, doi:10.3389/fnins.2021.629892 (arXiv:1909.01311)",
    transports="the sign of the output error, to each block at once, through a fixed random matrix",
    deviations=(
        "B is Gaussian, not uniform, and of one scale for all blocks; the optimiser is the run's own",
        "inside a composite block the signal goes on by the block's exact derivative",
        "convolutions learn by the same rule; the paper also reports them frozen",
    ),
    loss="bce",
    nonlinearity="tanh",
)


def drtp(scale: float = 1.0, loss: str = "bce") -> Rule:
    """Direct random target projection: every block hears the target, whatever the network made of the input.

    delta_L = e;  delta_l = -(B_l y*) ⊙ f'(z_l);  dW_l = delta_l h_{l-1}ᵀ;  y* one-hot

    The minus makes the signal the target's part of `e = p - y*`; as B is symmetric about zero, it changes nothing else.

    Args:
        scale: B_l ~ N(0, scale² / classes). Under Adam it hardly matters.
        loss: "ce", "mse" or "bce"; of the readout, the one block that hears an error.

    State: `{block: B_l of shape (units, classes)}` for every hidden block.
    Reference: Frenkel, Lefebvre & Bol (2021), doi:10.3389/fnins.2021.629892 (arXiv:1909.01311).
    """
    return _direct(DRTP, scale, loss, lambda e, target: -target)


DRTP = replace(
    SDFA,
    name="drtp",
    title="direct random target projection: a random code of the label is each block's error signal",
    equation="delta_L = e;  delta_l = -(B_l y*) * f'(z_l);  dW_l = delta_l h_{l-1}^T;  y* one-hot;  B fixed, random",
    transports="the label, to each block at once, through a fixed random matrix; no error below the readout",
    deviations=(
        "B is Gaussian, not uniform, and of one scale for all blocks; the optimiser is the run's own",
        "the sign of the signal is that of the target in e, the opposite of the paper's; B has no preferred sign",
        "inside a composite block the signal goes on by the block's exact derivative",
        "convolutions learn by the same rule; the paper also reports them frozen",
    ),
    passes="3 (one forward, one backward through single blocks)",
)
