"""PEPITA: the error is added to the input, and a second forward pass takes the place of the backward pass.

Backpropagation sends the error down the network, on wires of its own. PEPITA ("present the error to perturb the input
to modulate activity") sends it up, on the wires that are there: a fixed random matrix F projects the error e at the
logits onto the input, and the network runs a second time, on the input so changed:

    x' = x + F e;    h'_l = m_l ⊙ f(W_l h'_{l-1} + b_l),    h'_0 = x'

(m_l is dropout's mask, one for both passes of a sample; it is 1 unless dropout is asked for.)

A hidden block learns from the difference that this makes to its activity, the last block from its error in the second
pass. There is no backward pass, no weight on a way back but F, and no derivative of f:

    dW_l = (h_l - h'_l) h'_{l-1}ᵀ;    dW_L = e' h'_{L-1}ᵀ

For a small F the difference in the first block is `h_1 - h'_1 = -f'(z_1) ⊙ (W_1 F e)`. That is feedback alignment with
B = -W_1 F, feedback weights that move while W_1 learns (Srinivasan et al. 2024: "adaptive feedback alignment").
Were the passes given masks of their own, the masks would differ by far more than the error makes them differ.

What is known to matter: F must be small beside what an initialiser would draw (the paper takes a twentieth of He's), so
that the second pass stays near the first; and depth, since a change of the input says less and less about the blocks
far above it. Several outer products of the two passes' activities are in use, and each has its own name here. With the
activities of the first pass on both sides of the weight ("clean") the direction of a hidden block is the paper's
("modulated") to first order in F, where that of the readout differs; with each pass's own ("hebbian") it has one more
term, `h_l (h_{l-1} - h'_{l-1})ᵀ`, of the same order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from algorithms.rule import (
    Batch,
    Block,
    Net,
    Params,
    Rule,
    RuleError,
    RuleInfo,
    cross_entropy,
    hidden_shapes,
    zero_taps,
)
from algorithms.settings import choice, number, require_plain


def pepita(scale: float = 0.005, outer: str = "modulated", dropout: float = 0.0) -> Rule:
    """Error-driven input modulation: two forward passes, the second on an input that the error has changed.

    x' = x + F e;  dW_l = (h_l - h'_l) h'_{l-1}ᵀ;  dW_L = e' h'_{L-1}ᵀ;  h', e' of the second pass, F fixed, random

    Args:
        scale: F is uniform between ± scale sqrt(6 / inputs): He's initialiser, times this. The paper's 0.05 goes with
            SGD and momentum; under Adam a tenth of it did better. Much below, the differences drown in float32.
        outer: whose activities stand in the outer products. "modulated": as above, the paper's. "clean": the first
            pass's, `dW_l = (h_l - h'_l) h_{l-1}ᵀ` and `dW_L = e h_{L-1}ᵀ`. "hebbian": each pass's own, the first
            Hebbian, the second anti-Hebbian, `dW_l = h_l h_{l-1}ᵀ - h'_l h'_{l-1}ᵀ`, with dW_L as in the paper.
        dropout: share of hidden units that are silent in both passes of a sample while it is learnt, the others being
            divided by 1 - dropout; below 1. The paper's is 0.1.

    State: `{"F": F, of shape (inputs, classes)}`.
    References: Dellaferrera & Kreiman (2022), arXiv:2201.11665; the other outer products: Srinivasan et al. (2024),
    arXiv:2302.05440.
    """
    scale = number("pepita", "scale", scale)
    choice("pepita", "outer", outer, ("modulated", "clean", "hebbian"))
    keep = 1 - number("pepita", "dropout", dropout, high=0.99, closed=True)

    def init(key, net: Net, params, example: Batch):
        require_comparable(net, params, example)
        inputs = math.prod(net.input_shape)
        limit = scale * math.sqrt(6 / inputs)
        return {"F": jax.random.uniform(key, (inputs, net.classes), example.x.dtype, -limit, limit)}

    def both_passes(key, net: Net, params, state, batch: Batch):
        masks = [1.0] * len(net.blocks)
        if keep < 1:
            shapes = hidden_shapes(net, params, batch).values()
            masks[:-1] = [silence(jax.random.fold_in(key, i), keep, h) for i, h in enumerate(shapes)]
        hs = masked_pass(net, params, batch.x, masks)
        e = error(hs[-1], batch)
        modulated = batch.x + (e @ state["F"].T).reshape(batch.x.shape)
        hs_mod = masked_pass(net, params, modulated, masks)
        return (batch.x, *hs), (modulated, *hs_mod), e, error(hs_mod[-1], batch)

    def grads(key, net: Net, params, state, batch: Batch):
        hs, hs_mod, e, e_mod = both_passes(key, net, params, state, batch)
        differences = [h - h_mod for h, h_mod in zip(hs[1:-1], hs_mod[1:-1], strict=True)]
        if outer == "modulated":
            pseudo = products(net, params, [*differences, e_mod], hs_mod)
        elif outer == "clean":
            pseudo = products(net, params, [*differences, e], hs)
        else:
            hebbian = products(net, params, [*hs[1:-1], jnp.zeros_like(e)], hs)
            anti = products(net, params, [*hs_mod[1:-1], -e_mod], hs_mod)
            pseudo = jax.tree.map(jnp.subtract, hebbian, anti)
        return pseudo, state, {"loss": cross_entropy(hs[-1], batch.y).mean()}

    def errors(key, net: Net, params, state, batch: Batch):
        hs, hs_mod, e, e_mod = both_passes(key, net, params, state, batch)
        signals = {
            block.name: (h - h_mod) / len(batch.y)
            for block, h, h_mod in zip(net.blocks[:-1], hs[1:-1], hs_mod[1:-1], strict=True)
        }
        return {**signals, net.blocks[-1].name: (e if outer == "clean" else e_mod) / len(batch.y)}

    return Rule(info=PEPITA, grads=grads, init=init, errors=errors)


def masked_pass(net: Net, params: Params, x: Array, masks: Sequence[Array | float]) -> tuple[Array, ...]:
    """`h_1 .. h_L` of the chain with `h_l = m_l f(z_l)`."""
    hs: list[Array] = []
    for block, mask in zip(net.blocks, masks, strict=True):
        x = mask * block.act(block.affine(params[block.name], x))
        hs.append(x)
    return tuple(hs)


def silence(key: Array, keep: float, like: Array) -> Array:
    """Dropout's mask (Srivastava et al. 2014): 1/keep with probability `keep` and else 0, so that its mean is 1."""
    return jax.random.bernoulli(key, keep, like.shape).astype(like.dtype) / keep


def error(logits: Float[Array, "batch classes"], batch: Batch) -> Float[Array, "batch classes"]:
    """`e = softmax(z_L) - onehot(y)` of each sample."""
    return jax.nn.softmax(logits) - jax.nn.one_hot(batch.y, logits.shape[1], dtype=logits.dtype)


def products(net: Net, params: Params, above: Sequence[Array], below: Sequence[Array]) -> Params:
    """The outer product of what stands above each block with what stands below it, averaged over the batch.

    Args:
        above: one array per block, in the shape of its z.
        below: what each block is given, first to last; any more are not read.

    Returns:
        Shaped like the parameters. A bias learns like the weight of a unit that is always 1.
    """

    def product(block: Block, delta: Array, h: Array) -> Params:
        # A block's z is linear in its parameters; the transpose of that map *is* the outer product.
        pull = jax.vjp(lambda own: block.affine(own, h), params[block.name])[1]
        return pull(delta / len(h))[0]

    return {block.name: product(block, delta, h) for block, delta, h in zip(net.blocks, above, below[:-1], strict=True)}


def require_comparable(net: Net, params: Params, example: Batch) -> None:
    """Refuse networks in which an activity does not belong to one unit's z: composite blocks, and pooling."""
    require_plain("pepita", net, "each unit compares its own activity between two passes")
    zs, hs = zero_taps(net, params, example.x), hidden_shapes(net, params, example)
    pooled = [block for block in net.blocks[:-1] if hs[block.name].shape != zs[block.name].shape]
    if pooled:
        raise RuleError(
            f"pepita is not defined for block '{pooled[0].name}' ({pooled[0].kind}): it compares the activity of "
            "each unit, and pooling leaves only their means; use --arch 'mlp(256,128)' or 'conv(6,16,pool=1)', "
            "or another rule"
        )


PEPITA = RuleInfo(
    name="pepita",
    title="PEPITA: a second forward pass, on an input that the error has changed",
    equation="x' = x + F e;  dW_l = (h_l - h'_l) h'_{l-1}^T;  dW_L = e' h'_{L-1}^T;  h', e' of the second pass, "
    "F fixed, random",
    citation="Dellaferrera & Kreiman (2022), Error-driven input modulation: solving the credit assignment problem "
    "without a backward pass, arXiv:2201.11665",
    transports="the error, to the input, through a fixed random matrix; from there up, through the forward weights",
    requires="dense blocks, or convolutions without pooling",
    deviations=(
        "scale=0.005, a tenth of the paper's, which did better with Adam; scale=0.05 is the paper's",
        "no dropout by default; dropout=0.1 is the paper's, by one mask for both passes",
        "biases learn, like the weight of a unit that is always 1; the paper's networks have none",
        "the run's common initialiser (He normal for rectifiers) and optimiser, not He uniform and SGD with momentum",
        "no convolution with pooling behind it",
    ),
    passes="3 (two forward, one for the outer products)",
    knob=("scale", (0.02, 0.05)),
)
