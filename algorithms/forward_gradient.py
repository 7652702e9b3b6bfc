"""Forward gradients: an exact directional derivative, found on the way forward, credits its own direction."""

from __future__ import annotations

import math
from dataclasses import replace

import jax
import optax
from jaxtyping import Array, Float

from algorithms.local_losses import class_scores, classifier, heads_moved
from algorithms.perturbation import ONE_BY_ONE, draw, local_directions, mean_of_draws, per_sample
from algorithms.rule import (
    LOSSES,
    Batch,
    Net,
    Params,
    Rule,
    RuleError,
    RuleInfo,
    forward_pass,
    hidden_shapes,
    objective_of,
    zero_taps,
)
from algorithms.settings import choice, require_hidden, require_no_batch_norm, whole

HEAD_RATE = 1e-3
"""Learning rate of the auxiliary heads, which learn by Adam."""


def fg(by: str = "activities", local: bool = False, samples: int = 8, loss: str = "ce") -> Rule:
    """Forward gradient: the derivative of the loss along a random direction, times that direction.

    by="weights":      G = 1/n Σ_k (∇L·v_k) v_k,  v ~ N(0, I), L the mean loss of the batch
    by="activities":   delta_l = 1/n Σ_k (Σ_m δ_m·ξ_{k,m}) ξ_{k,l},  ξ ~ N(0, I) per sample;  dW_l = delta_l h_{l-1}ᵀ

    Both are unbiased. For one draw `E ||G||² = (D + 2) ||∇L||²` with D parameters; by activities, D is the number of
    units, for each sample. The bracket is one number that forward-mode differentiation carries along with the pass: no
    backward pass, no finite difference. `np` is the finite-difference form of by="activities".

    With `local`, blocks are cut apart, each hidden block descends the loss of a linear head of its own on `h_l`, and
    its bracket has the derivative of that loss alone: the noise of the other blocks is gone. Heads and readout have
    their error at hand and learn by its exact local product.

    Args:
        by: "activities" or "weights", what is moved.
        local: give every hidden block a loss of its own.
        samples: n, directions per step; the variance falls as 1/n.
        loss: "ce", "mse" or "bce", of the output and of every head.

    State: nothing; with `local`, `{"heads": {block: {"kernel", "bias"}}, "optimizer": ...}` for every hidden block.
    References: Baydin et al. (2022), arXiv:2202.08587 (weights); Ren et al. (2023), arXiv:2210.03310 (activities,
    local losses).
    """
    choice("fg", "by", by, ("activities", "weights"))
    if not isinstance(local, bool):
        raise RuleError(f"fg: local must be True or False, not {local!r}")
    whole("fg", "samples", samples)
    choice("fg", "loss", loss, LOSSES)
    optimizer = optax.adam(HEAD_RATE)

    def init(key, net: Net, params: Params, example: Batch):
        if by == "activities":
            require_no_batch_norm("fg by activities", net, ONE_BY_ONE)
        if not local:
            return {}
        require_hidden("fg(local=True)", net)
        heads = {}
        for i, (name, shape) in enumerate(hidden_shapes(net, params, example).items()):
            head, units = classifier(shape, net.classes), math.prod(shape.shape[1:])
            drawn = jax.random.normal(jax.random.fold_in(key, i), (units, net.classes), shape.dtype)
            heads[name] = head | {"kernel": drawn.T / math.sqrt(units)}
        return {"heads": heads, "optimizer": optimizer.init(heads)}

    def losses(net: Net, params: Params, state, batch: Batch, taps=None) -> dict[str, Float[Array, " batch"]]:
        """For each block, the loss of each sample that it is credited with."""
        if not local:
            value = LOSSES[loss](forward_pass(net, params, batch.x, taps)[-1], batch.y)
            return {block.name: value for block in net.blocks}
        *hidden, scores = forward_pass(net, params, batch.x, taps, link=jax.lax.stop_gradient)
        own = {
            block.name: LOSSES[loss](class_scores(state["heads"][block.name], h), batch.y)
            for block, h in zip(net.blocks[:-1], hidden, strict=True)
        }
        return own | {net.blocks[-1].name: LOSSES[loss](scores, batch.y)}

    def estimates(key, net: Net, params: Params, state, batch: Batch):
        """Of every block's weights the pseudo-gradient, or of its z the error signal; and the losses."""
        moved = params if by == "weights" else zero_taps(net, params, batch.x)

        def at(m):
            return losses(net, m, state, batch) if by == "weights" else losses(net, params, state, batch, m)

        values, slopes = jax.linearize(at, moved)

        def one(k):
            v = draw(k, moved)
            slope = slopes(v)
            if by == "weights":
                return {name: jax.tree.map(lambda leaf, d=d: d.mean() * leaf, v[name]) for name, d in slope.items()}
            return {name: per_sample(d / len(batch.y), v[name]) for name, d in slope.items()}

        found, last = mean_of_draws(one, key, samples), net.blocks[-1].name
        if local:
            found[last] = jax.grad(lambda m: at(m)[last].mean())(moved)[last]
        return found, values

    def grads(key, net: Net, params: Params, state, batch: Batch):
        found, values = estimates(key, net, params, state, batch)
        *hidden, last = (block.name for block in net.blocks)
        metrics = {"loss": values[last].mean()}
        direction = found if by == "weights" else local_directions(net, params, batch.x, found)
        if not local:
            return direction, state, metrics

        def head_loss(heads):
            own = losses(net, params, {"heads": heads}, batch)
            return sum(own[name].mean() for name in hidden)

        metrics["local_loss"] = sum(values[name].mean() for name in hidden)
        return direction, heads_moved(optimizer, state, jax.grad(head_loss)(state["heads"])), metrics

    def errors(key, net: Net, params: Params, state, batch: Batch):
        return estimates(key, net, params, state, batch)[0]

    if by == "weights":
        passes = f"{1 + 2 * samples} (one forward; {samples} derivatives, of two products each)"
    else:
        passes = f"{2 + samples} (one forward, {samples} derivatives, one for the local products)"
    info = replace(FG, loss=loss, plastic=local, passes=passes)
    return Rule(
        info=info,
        grads=grads,
        init=init,
        objective=objective_of(loss),
        errors=errors if by == "activities" else None,
    )


FG = RuleInfo(
    name="fg",
    title="forward gradient: an exact directional derivative, times its direction",
    equation="by weights: G = (grad L . v) v, v ~ N(0, I);  by activities: delta_l = (sum_m delta_m . xi_m) xi_l per "
    "sample, dW_l = delta_l h_{l-1}^T",
    citation="Baydin, Pearlmutter, Syme, Wood & Torr (2022), Gradients without backpropagation, arXiv:2202.08587; Ren, "
    "Kornblith, Liao & Hinton (2023), Scaling forward gradient with local losses, arXiv:2210.03310",
    transports="one number, to every parameter (weights) or, per sample, to every unit (activities); with local "
    "losses, each block its own",
    requires="any network; by activities, one without batch normalisation, and a composite block is moved at its "
    "output and uses its own derivative inside",
    deviations=(
        "directions are Gaussian and their number is a setting; none is normalised",
        "without local losses the logits are moved too, where Ren et al. give the readout its exact gradient",
        "local losses: one linear head per hidden block on its whole output; no groups, patches, mixer blocks, "
        "normalisation or masks of silent units",
        f"heads learn by Adam at {HEAD_RATE:g}, not by the run's optimiser",
    ),
    passes="n + 2 by activities, 2 n + 1 by weights",
    random=True,
)
