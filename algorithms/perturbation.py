"""Learning by trying: move something at random, see what it does to the loss, and go that way.

If a quantity `q` is moved by `σ ξ`, `ξ ~ N(0, I)`, the loss changes by `σ ξ·∇L`, and `ξ (ξ·∇L)` has `∇L` as its mean:
`E[ξ ξᵀ] = I`. No derivative is sent backwards; one number, the change of the loss, is broadcast to everyone, and each
part correlates it with what it did itself. The price is variance: the estimate from one draw of dimension d has the
squared length `(d + 2) ||∇L||²`, so what is moved decides what is learned.

- weights (`wp` here, `es` with a whole population and ranks): d is the number of parameters, and one draw
  serves the batch. Every sample's loss then carries the noise of all the others.
- nodes (`np`): noise is added to every pre-activation `z_l`, another draw for every sample, so that each sample's own
  loss credits its own noise. d is the number of units, hundreds of times smaller, and the noise averages out over
  the batch. The weights follow from their local product, `dW_l = delta_l h_{l-1}ᵀ`.
- `fg` (forward_gradient.py) takes the same two directions, but the exact directional derivative in place of a
  difference, and can give every block a loss of its own, so that d is the number of units of one block.

Trials that are to be compared must see the same samples; draws are fresh at every step; and `σ` must be small for the
loss to be linear, but not so small that float32 has no digits left for the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from algorithms.evolution import trials
from algorithms.rule import (
    LOSSES,
    Batch,
    Net,
    Params,
    Rule,
    RuleInfo,
    forward_pass,
    objective_of,
    stateless,
    zero_taps,
)
from algorithms.settings import choice, number, require_no_batch_norm, whole

Tree = dict[str, Array]
"""One array per block: noise, or an error signal."""

ONE_BY_ONE = "each sample's own loss is credited with that sample's noise alone"


def draw(key: PRNGKeyArray, like, sampler=jax.random.normal):
    """Random numbers in the structure, shapes and types of `like`, independent from leaf to leaf."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten([sampler(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)])


def per_sample(number: Float[Array, " batch"], xi: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
    """Each sample's number times its own noise."""
    return number.reshape(-1, *[1] * (xi.ndim - 1)) * xi


def mean_of_draws(one: Callable[[PRNGKeyArray], Tree], key: PRNGKeyArray, samples: int) -> Tree:
    """The average of `one(key)` over independent keys, computed draw by draw: they stay in cache."""
    keys = jax.random.split(key, samples)
    total = one(keys[0])
    if samples > 1:
        total, _ = jax.lax.scan(lambda sum_, k: (jax.tree.map(jnp.add, sum_, one(k)), None), total, keys[1:])
    return jax.tree.map(lambda leaf: leaf / samples, total)


def local_directions(net: Net, params: Params, x: Array, delta: Tree) -> Params:
    """`dW_l = delta_l h_{l-1}ᵀ` of every block, summed over samples: what each does with the error at its `z_l`.

    A composite block applies its own exact derivative between its output and the weights inside.
    """

    def at_each_block(p: Params) -> Array:
        h, total = x, jnp.zeros((), x.dtype)
        for block in net.blocks:
            z = block.affine(p[block.name], jax.lax.stop_gradient(h))
            total += jnp.vdot(z, delta[block.name])
            h = block.act(z)
        return total

    return jax.grad(at_each_block)(params)


def np(samples: int = 8, sigma: float = 0.01, loss: str = "ce") -> Rule:
    """Node perturbation: noise on every pre-activation of every sample, credited with that sample's loss.

    delta_l = 1/n Σ_k (L(z + σ ξ_k) - L(z)) / σ · ξ_{k,l},   ξ ~ N(0, I);   dW_l = delta_l h_{l-1}ᵀ

    All blocks are perturbed at once: `z_l = W_l h_{l-1} + b_l + σ ξ_l`, where `h_{l-1}` carries the noise of the blocks
    below; L is the loss of one sample. As σ goes to 0, delta_l is an unbiased estimate of the error signal of
    backpropagation, with `E ||delta_l||² = ||δ_l||² + (N_l ||δ||² + ||δ_l||²) / n` for a block of N_l units, where
    `||δ||²` is summed over all blocks.

    Args:
        samples: n, noisy forward passes per step; the variance falls as 1/n.
        sigma: standard deviation of the noise on every pre-activation.
        loss: "ce", "mse" or "bce".

    References: Williams (1992), doi:10.1007/BF00992696; Fiete & Seung (2006), doi:10.1103/PhysRevLett.97.048104; all
    blocks at once: Dalm et al. (2023), arXiv:2310.00965.
    """
    whole("np", "samples", samples)
    sigma = number("np", "sigma", sigma)
    choice("np", "loss", loss, LOSSES)

    def check(net: Net):
        require_no_batch_norm("np", net, ONE_BY_ONE)

    def signals(key, net: Net, params: Params, batch: Batch) -> tuple[Tree, Array]:
        """delta_l of every block, divided by the batch size; the mean loss without noise."""

        def losses(taps):
            return LOSSES[loss](forward_pass(net, params, batch.x, taps)[-1], batch.y)

        silent = losses(None)
        zeros = zero_taps(net, params, batch.x)

        def one(k) -> Tree:
            xi = draw(k, zeros)
            change = losses(jax.tree.map(lambda noise: sigma * noise, xi)) - silent
            return jax.tree.map(lambda noise: per_sample(change / (sigma * len(batch.y)), noise), xi)

        return mean_of_draws(one, key, samples), silent.mean()

    def grads(key, net: Net, params: Params, state, batch: Batch):
        delta, value = signals(key, net, params, batch)
        return local_directions(net, params, batch.x, delta), state, {"loss": value}

    def errors(key, net: Net, params: Params, state, batch: Batch):
        del state
        return signals(key, net, params, batch)[0]

    info = replace(NP, loss=loss, passes=f"{samples + 2} (one silent, {samples} noisy, one for the local products)")
    return Rule(info=info, grads=grads, init=stateless(check), errors=errors, objective=objective_of(loss))


NP = RuleInfo(
    name="np",
    title="node perturbation: noise on the units, credited with the change of each sample's loss",
    equation="delta_l = (L(z + sigma xi) - L(z)) / sigma * xi_l;  dW_l = delta_l h_{l-1}^T;  xi ~ N(0, I) per sample",
    citation="Fiete & Seung (2006), Gradient learning in spiking neural networks by dynamic perturbation of "
    "conductances, doi:10.1103/PhysRevLett.97.048104; Dalm, Offergeld, Ahmad & van Gerven (2023), Effective learning "
    "with node perturbation in multi-layer neural networks, arXiv:2310.00965",
    transports="one number per sample and trial, the change of its loss, to every unit",
    requires="any network without batch normalisation; a composite block is perturbed at its output and uses its own "
    "derivative inside",
    deviations=(
        "each unit is credited with the noise it added itself, not with the whole change of its pre-activation",
        "inputs are not decorrelated",
        "h_{l-1} in the product is that of the noiseless pass",
    ),
    passes="n + 2",
    random=True,
    knob=("sigma", (0.001, 0.1)),
)


def wp(sigma: float = 0.01, loss: str = "ce") -> Rule:
    """Weight perturbation (SPSA): try one random step of all weights and its opposite, follow the better one.

    G = (L(θ + σ ε) - L(θ - σ ε)) / (2 σ) · ε,   ε_i = ±1 with equal odds

    G is an unbiased estimate of the gradient to O(σ²), and `||G||² = D (ε·∇L)²` has the mean `D ||∇L||²` for D
    parameters. One draw and one batch serve both evaluations. This is the smallest evolution strategy: one pair, no
    ranks.

    Args:
        sigma: size of the step that every parameter takes.
        loss: "ce", "mse" or "bce".

    Metrics: `evaluations` = 2, the networks tried in this step.
    Reference: Spall (1992), doi:10.1109/9.119632.
    """
    sigma = number("wp", "sigma", sigma)
    choice("wp", "loss", loss, LOSSES)

    def grads(key, net: Net, params: Params, state, batch: Batch):
        signs = draw(key, params, jax.random.rademacher)
        plus, minus = trials(net, params, batch, sigma, loss)(signs)
        slope = (plus - minus) / (2 * sigma)
        direction = jax.tree.map(lambda sign: slope * sign, signs)
        return direction, state, {"loss": (plus + minus) / 2, "evaluations": jnp.array(2, jnp.float32)}

    return Rule(info=replace(WP, loss=loss), grads=grads, objective=objective_of(loss))


WP = RuleInfo(
    name="wp",
    title="weight perturbation: try one random step and its opposite, follow the better one",
    equation="G = (L(theta + sigma eps) - L(theta - sigma eps)) / (2 sigma) eps;  eps_i = +-1",
    citation="Spall (1992), Multivariate stochastic approximation using a simultaneous perturbation gradient "
    "approximation, doi:10.1109/9.119632",
    transports="one number per step, to every parameter",
    requires="any network; the quality of a step falls with the number of parameters",
    deviations=(
        "the optimiser and its schedule are the run's own, not the gain sequences of the paper; sigma stays constant",
        "weights are perturbed in a copy, never in place, so that nothing has to be restored",
    ),
    passes="2",
    random=True,
    knob=("sigma", (0.001, 0.1)),
)
