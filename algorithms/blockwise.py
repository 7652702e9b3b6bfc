"""Self-supervised learning block by block: two views of one image should look alike to every block on its own.

Self-supervision replaces the label by a question that the data answer themselves. Every image is distorted twice at
random, into two *views*, and a block is good if its answers to the two views of one image agree while its answers to
different images do not collapse into one. Here each block has its own question of this kind and the gradient is
stopped between blocks: block l sees what block l-1 makes of the views, and descends

    barlow        Σ_i (1 - C_ii)² + λ Σ_{i≠j} C_ij²,  C = correlation of z (one view) with z' (the other), unit by unit
    contrastive   -log( exp(cos(z_i, z'_i) / τ) / Σ_{k≠i} exp(cos(z_i, z_k) / τ) ),  over all 2n views of the batch

where `z = V_2 relu(V_1 pool(h_l))` is a small projection that learns beside the block and is thrown away in the end
(`pool` is the mean over places, and the identity for a dense block). Barlow Twins wants each unit to agree with itself
and with no other; the contrastive loss wants a view to be closest to its twin.

No label reaches a hidden block. The last block is a linear readout of the top hidden block's activity on images as
they are, trained by the labels with its input held. What a network can learn so is decided by the distortions, which
say what is *not* to matter; they are the only thing the rule is told about the world.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from algorithms.local_losses import Heads, hidden_shapes, learning_heads
from algorithms.rule import Batch, Net, Params, Rule, RuleInfo, RuleState, forward_pass, mean_loss, zero_taps
from algorithms.settings import choice, number, require_hidden, whole

OBJECTIVES = ("barlow", "contrastive")
SHIFT, ZOOM, ERASE = 0.07, 0.2, 0.2
"""Distortions at strength 1, as fractions: of height and width (2 of 28 pixels), of the scale, of the shorter side."""
REDUNDANCY = 0.1
"""λ: what a correlation between two different units counts beside one of a unit with itself."""
TEMPERATURE = 0.2
"""τ: how much closer a twin must be than the others before the loss is content."""
EPSILON = 1e-6  # added in quadrature to what is divided by


def resampling(scale: Float[Array, " batch"], offset: Float[Array, " batch"], size: int) -> Float[Array, "batch s s"]:
    """Matrices that take every row (or column) from where it lay before zooming and shifting, by linear interpolation.

    Row a of the new image comes from row `scale (a - middle) + middle + offset` of the old one; beyond its edges there
    is zero.
    """
    rows, middle = jnp.arange(size, dtype=scale.dtype), (size - 1) / 2
    source = scale[:, None] * (rows - middle) + middle + offset[:, None]
    return jnp.maximum(0, 1 - jnp.abs(source[:, :, None] - rows))


def view(key: PRNGKeyArray, x: Float[Array, "batch h w c"], strength: float) -> Float[Array, "batch h w c"]:
    """Each image shifted and zoomed at random, height and width on their own, with a square erased at a random place.

    Vectors, which are images of a single row, have no neighbourhoods: each entry is erased with probability
    `ERASE * strength` instead.
    """
    n, height, width, _ = x.shape
    if min(height, width) == 1:
        kept = jax.random.uniform(key, x.shape, x.dtype) >= ERASE * strength
        return x * kept
    u = jax.random.uniform(key, (6, n), x.dtype, -1, 1)
    rows = resampling(1 + ZOOM * strength * u[0], SHIFT * strength * height * u[1], height)
    columns = resampling(1 + ZOOM * strength * u[2], SHIFT * strength * width * u[3], width)
    x = jnp.einsum("nab,nbwc->nawc", rows, x)
    x = jnp.einsum("nab,nwbc->nwac", columns, x)
    half = ERASE * strength * min(height, width) / 2

    def near(centre: Float[Array, " batch"], size: int):
        """Whether each row (or column) lies in the square; the centre, -1 to 1, is anywhere in the image."""
        return jnp.abs(jnp.arange(size) - (size - 1) / 2 - centre[:, None] * size / 2) < half

    erased = near(u[4], height)[:, :, None] & near(u[5], width)[:, None, :]
    return x * ~erased[..., None]


def barlow(z: Float[Array, "batch units"], twin: Float[Array, "batch units"]) -> Float[Array, ""]:
    """`Σ_i (1 - C_ii)² + λ Σ_{i≠j} C_ij²` with C the cross-correlation of the units over the batch."""

    def standardised(z):
        c = z - z.mean(0)
        return c * jax.lax.rsqrt(jnp.mean(c**2, axis=0) + EPSILON**2)

    C = standardised(z).T @ standardised(twin) / len(z)
    same = jnp.diagonal(C)
    return jnp.sum((1 - same) ** 2) + REDUNDANCY * (jnp.sum(C**2) - jnp.sum(same**2))


def info_nce(z: Float[Array, "batch units"], twin: Float[Array, "batch units"]) -> Float[Array, ""]:
    """Mean over all 2n views of the cross-entropy of finding its twin among the other 2n - 1, by cosine / τ."""
    both = jnp.concatenate([z, twin])
    unit = both * jax.lax.rsqrt(jnp.sum(both**2, axis=1, keepdims=True) + EPSILON**2)
    views = jnp.arange(len(both))
    closeness = jnp.where(views[:, None] == views, -jnp.inf, unit @ unit.T / TEMPERATURE)
    return optax.softmax_cross_entropy_with_integer_labels(closeness, jnp.roll(views, len(z))).mean()


def project(head: Params, h: Float[Array, "batch ..."]) -> Float[Array, "batch width"]:
    """`V_2 relu(V_1 pool(h))`."""
    pooled = h.reshape(len(h), -1, h.shape[-1]).mean(1)
    return jax.nn.relu(pooled @ head["V1"]) @ head["V2"]


def blockwise(objective: str = "barlow", strength: float = 1.0, width: int = 128, rate: float = 1e-3) -> Rule:
    """Blockwise self-supervised learning: every block makes two views of an image look alike.

    loss_l = barlow or contrastive of z and z' with z = V_2 relu(V_1 pool(h_l));  dW_l = ∂ loss_l / ∂ W_l with h_{l-1}
    held;  the readout: dW_L = e h_{L-1}ᵀ

    Args:
        objective: "barlow" (Barlow Twins) or "contrastive" (InfoNCE, as in SimCLR).
        strength: factor on all distortions; at 1 images of 28×28 are shifted by up to 2 pixels, zoomed by up to a
            fifth and lose a square of 5.6 pixels.
        width: units of the projection, in both of its layers.
        rate: learning rate of the projections' own Adam, which is not annealed.

    State: the projections and the memory of their optimiser.

    Reference: Siddiqui, Krueger, LeCun & Deny (2024), Blockwise self-supervised learning at scale, arXiv:2302.01647;
        the losses: Zbontar et al. (2021), arXiv:2103.03230, and Chen et al. (2020), arXiv:2002.05709.
    """
    loss = {"barlow": barlow, "contrastive": info_nce}[choice("blockwise", "objective", objective, OBJECTIVES)]
    strength = number("blockwise", "strength", strength, high=4.0)
    whole("blockwise", "width", width)
    optimizer = optax.adam(number("blockwise", "rate", rate))

    def init(key, net: Net, params: Params, example: Batch):
        require_hidden("blockwise", net)
        heads: Heads = {}
        for i, (name, shape) in enumerate(hidden_shapes(net, params, example).items()):
            first, second = jax.random.split(jax.random.fold_in(key, i))
            units = shape.shape[-1]
            heads[name] = {  # variance 2 / fan-in, as for the network's own rectifiers
                "V1": jax.random.normal(first, (units, width), shape.dtype) * math.sqrt(2 / units),
                "V2": jax.random.normal(second, (width, width), shape.dtype) * math.sqrt(2 / width),
            }
        return {"heads": heads, "optimizer": optimizer.init(heads)}

    def surrogate(key, net: Net, params: Params, state: RuleState, batch: Batch, taps):
        n = len(batch.y)
        views = jnp.concatenate([view(k, batch.x, strength) for k in jax.random.split(key)])
        hidden = forward_pass(net, params, views, taps, link=jax.lax.stop_gradient)[:-1]
        total = jnp.zeros((), hidden[0].dtype)
        for block, h in zip(net.blocks, hidden, strict=False):
            z = project(state["heads"][block.name], h)
            total += loss(z[:n], z[n:])
        top = net.blocks[-1]
        seen = jax.lax.stop_gradient(forward_pass(net, params, batch.x)[-2])
        z = top.affine(params[top.name], seen)
        readout = mean_loss("ce", top.act(z if taps is None else z + taps[top.name][:n]), batch.y)
        return total + readout, {"loss": readout, "local_loss": total}

    grads, _ = learning_heads(surrogate, optimizer)

    def errors(key, net: Net, params: Params, state: RuleState, batch: Batch):
        # A hidden block hears two signals, one per view; they are stacked and never added up.
        both = zero_taps(net, params, jnp.concatenate([batch.x, batch.x]))
        found = jax.grad(lambda taps: surrogate(key, net, params, state, batch, taps)[0])(both)
        top = net.blocks[-1].name
        return {**found, top: found[top][: len(batch.y)]}

    return Rule(info=BLOCKWISE, grads=grads, errors=errors, init=init)


BLOCKWISE = RuleInfo(
    name="blockwise",
    title="blockwise self-supervision: two views of an image look alike to every block",
    equation="loss_l = sum_i (1 - C_ii)^2 + lambda sum_{i!=j} C_ij^2, C = corr(z, z'), z = V_2 relu(V_1 pool(h_l)), or "
    "InfoNCE of z and z';  dW_l = d loss_l / d W_l",
    citation="Siddiqui, Krueger, LeCun & Deny (2024), Blockwise self-supervised learning at scale, arXiv:2302.01647",
    transports="nothing between blocks; labels reach the readout alone",
    requires="at least one hidden layer; made for images, and for vectors it only leaves entries out",
    deviations=(
        "blocks are this network's blocks, and in the paper the four stages of a ResNet-50",
        "views differ by shift, zoom and one erased square (vectors: by erased entries), chosen for small grey images: "
        "no flips, no changes of colour, no blur",
        "a projection of two layers of 128 units without batch norm, and in the paper of three layers of 8192; the "
        "weight of the correlations between units is .1 and not .0051, since there are fewer of them",
        "places are averaged before the projection; no noise is added to what a block is given",
        "Adam, and in the paper LARS with large batches",
        "the readout learns at the same time as the blocks, on images as they are",
    ),
    passes="7 (two views and the image forward, the two views backward through each block)",
    credit=False,
    random=True,
    plastic=True,
    knob=("strength", (0.5, 2.0)),
)
