"""Learning by contrast between two states of one settling network: equilibrium propagation and its kin.

The network does not run forwards once; its layers pull on one another, up through `W_l` and down through `W_lᵀ`,
until they agree. Such a state `s_1 .. s_L` (`s_0 = x` is held) is a minimum of an energy, here the layered Hopfield
energy with a linear output unit, in which the way down may be weaker than the way up by a factor gamma per layer:

    E(s) = Σ_l gamma^{l-1} [G_l(s_l) - s_l · (W_l s_{l-1} + b_l)],    G_l' = f⁻¹,    G_L(s) = |s|²/2,

because `∂E/∂s_l = 0` reads `s_l = f(W_l s_{l-1} + b_l + gamma W_{l+1}ᵀ s_{l+1})`. The *free* phase settles with
nothing but the input; it is how the network computes, and its `s_L` are the scores. A second phase pulls the output
towards the target with strength beta, adding `gamma^{L-1} beta |s_L - y|²/2`, and the pull spreads downwards by the
same dynamics that computed the answer. There is no separate backward pass and no other kind of activity: what a
synapse must know is the product of its two neighbours' activities in two phases, a contrastive Hebbian rule.

The rules differ in how hard they pull. Equilibrium propagation pulls gently (beta below 1) and is exact as beta goes
to 0: one-sided its error falls as beta, with a push of the opposite sign (centred) as beta², and with N complex
strengths on a circle (holomorphic) as beta^N, for any gamma. Contrastive Hebbian learning (a file of its own) clamps
the output to the target and is exact as gamma goes to 0 instead. What is known to matter: the phases must really
settle (watch the metrics `residual` and `nudged_residual`), the nonlinearity must be bounded, and the coupling between
layers must not be so strong that there are several minima.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from algorithms.rule import Activations, Batch, Net, Params, Rule, RuleError, RuleInfo, mean_loss, stateless
from algorithms.settings import choice, number, require_dense, whole

States = tuple[Array, ...]
"""`s_1 .. s_L`, one row per sample."""

NUDGED_TOLERANCE = 0.1
"""The `nudged_residual` above which second phases have not come to rest. Where every sweep makes at least half of the
way that is left, what is missing is at most as much as the last sweep made. In mlp(256,128) on MNIST, with sweeps cut
short, the direction of `ep` was then off by about as much (.12 at .18, .05 at .06); with feedback = 1, which settles
slowly, by up to three times as much.
"""


def sweep(
    net: Net,
    params: Params,
    drive: Array,
    states: States,
    order: Sequence[int],
    feedback: float,
    clamp: Array | float = 0.0,
    target: Array | float = 0.0,
) -> States:
    """Every layer in turn goes to where the energy is lowest while the others stay: no sweep can raise the energy.

    Args:
        drive: `W_1 x + b_1`, which does not change while the network settles.
        order: layers from 0, in the order in which they move.
        feedback: gamma, the factor on the way down; 1 for a symmetric network.
        clamp: c of each row. The output goes to `(1 - c) z_L + c y`: free at c = 0, held at y at c = 1; a pull of
            strength beta is c = beta / (1 + beta).
    """
    s = list(states)
    top = len(s) - 1
    for i in order:
        z = drive if i == 0 else net.blocks[i].affine(params[net.blocks[i].name], s[i - 1])
        if i == top:
            s[i] = (1 - clamp) * z + clamp * target
        else:
            above = params[net.blocks[i + 1].name]["kernel"]
            s[i] = net.blocks[i].act(z + feedback * (s[i + 1] @ above.T))
    return tuple(s)


class Free(NamedTuple):
    """The free phase: `W_1 x + b_1`, where the network came to rest, and mean |change| in the last sweep."""

    drive: Array
    states: States
    residual: Float[Array, ""]


def settle_freely(net: Net, params: Params, x: Array, feedback: float, steps: int) -> Free:
    """Sweep upwards from all zeros; the first sweep is then an ordinary forward pass."""
    first = net.blocks[0]
    drive = first.affine(params[first.name], x)
    widths = [params[block.name]["bias"].shape[0] for block in net.blocks]
    start = tuple(jnp.zeros((len(x), width), drive.dtype) for width in widths)

    def step(_, s):
        return sweep(net, params, drive, s, range(len(s)), feedback)

    before = jax.lax.fori_loop(0, steps - 1, step, start)
    after = step(0, before)
    return Free(drive, after, total_change(after, before) / (len(x) * sum(widths)))


def total_change(after: States, before: States) -> Float[Array, ""]:
    """`Σ |a - b|` over all samples and units."""
    return sum(jnp.abs(a - b).sum() for a, b in zip(after, before, strict=True))


class Nudges(NamedTuple):
    """The second phases, run side by side: clamp and coefficient of each.

    The direction is `-Σ_k Re(coefficient_k s_l^k s_{l-1}^kᵀ)`, so the coefficients turn states into a derivative.
    """

    clamps: np.ndarray
    coefficients: np.ndarray


def nudges(variant: str, beta: float, points: int) -> Nudges:
    """Where the derivative with respect to beta at 0 is read off: two real strengths, or N on a circle.

    Cauchy's formula with N points is `d/dbeta = Σ_k e^{-iθ_k} s(beta e^{iθ_k}) / (N beta)`. Conjugate strengths give
    conjugate states, so those below the real axis are not run: the real part of those above counts twice.
    """
    if variant == "holomorphic":
        k = np.arange(points // 2 + 1)
        circle = np.exp(2j * np.pi * k / points)
        twice = np.where((k == 0) | (2 * k == points), 1, 2)
        strengths, coefficients = beta * circle, twice / circle / (points * beta)
    elif variant == "centred":
        strengths, coefficients = np.array([beta, -beta]), np.array([0.5, -0.5]) / beta
    else:
        strengths, coefficients = np.array([beta, 0.0]), np.array([1.0, -1.0]) / beta
    return Nudges(strengths / (1 + strengths), coefficients)


def contrast(net: Net, params: Params, batch: Batch, free: Free, nudged: Nudges, feedback: float, steps: int):
    """What the second phases say.

    Returns:
        Pseudo-gradients like params; for each block the signal per sample whose sum is the bias's direction; and how
        far from rest the phases stopped, as the fraction of their way from the free state made in the last sweep.
    """
    n, phases = len(batch.y), len(nudged.clamps)
    dtype = jnp.result_type(free.drive.dtype, *([jnp.complex64] if np.iscomplexobj(nudged.clamps) else []))

    def per_row(values: np.ndarray) -> Array:
        return jnp.repeat(jnp.asarray(values, dtype), n)[:, None]

    def copies(a: Array) -> Array:
        return jnp.tile(a.astype(dtype), (phases, 1))

    clamp, coefficient = per_row(nudged.clamps), per_row(nudged.coefficients)
    target = copies(jax.nn.one_hot(batch.y, net.classes))
    drive, start = copies(free.drive), tuple(copies(s) for s in free.states)
    downwards = range(len(start) - 1, -1, -1)  # the pull reaches the first layer within one sweep

    def step(_, s):
        return sweep(net, params, drive, s, downwards, feedback, clamp, target)

    before = jax.lax.fori_loop(0, steps - 1, step, start)
    states = step(0, before)
    unsettled = total_change(states, before) / (total_change(states, start) + jnp.finfo(dtype).tiny)
    pseudo, signals = {}, {}
    for i, block in enumerate(net.blocks):
        scale = feedback ** (i + 1 - len(net.blocks)) / n
        weighted = -scale * coefficient * states[i]
        signal = weighted.reshape(phases, n, -1).sum(0).real
        # The input is the same in all phases, so one product serves them all.
        kernel = batch.x.reshape(n, -1).T @ signal if i == 0 else (states[i - 1].T @ weighted).real
        pseudo[block.name] = {"kernel": kernel, "bias": signal.sum(0)}
        signals[block.name] = signal
    return pseudo, signals, unsettled


def two_phase_rule(
    info: RuleInfo, nudged: Nudges, feedback: float, free_steps: int, nudged_steps: int, holomorphic: bool
):
    """The rule that contrasts the given second phases; all rules of this family are one of these."""

    def check(net):
        require_settling(info.name, net, holomorphic)

    def learn(net: Net, params: Params, batch: Batch):
        free = settle_freely(net, params, batch.x, feedback, free_steps)
        return free, *contrast(net, params, batch, free, nudged, feedback, nudged_steps)

    def grads(key, net, params, state, batch):
        del key
        free, pseudo, _, unsettled = learn(net, params, batch)
        loss = mean_loss("mse", free.states[-1], batch.y)
        return pseudo, state, {"loss": loss, "residual": free.residual, "nudged_residual": unsettled}

    def errors(key, net, params, state, batch):
        del key, state
        return learn(net, params, batch)[2]

    def forward(net, params, state, x):
        del state
        *hidden, scores = settle_freely(net, params, x, feedback, free_steps).states
        return Activations(tuple(hidden), scores)

    def objective(net, params, state, batch):
        return mean_loss("mse", forward(net, params, state, batch.x).scores, batch.y)

    return Rule(info=info, grads=grads, errors=errors, init=stateless(check), forward=forward, objective=objective)


def settling_passes(free_steps: int, nudged_steps: int, nudged: Nudges) -> str:
    """What settling costs, in forward passes."""
    pulls = len(nudged.clamps)
    return (
        f"{2 * (free_steps + pulls * nudged_steps) + 2} at most ({free_steps} free sweeps, {nudged_steps} in each of "
        f"{pulls} second phases, counted as two passes each, and the learning); the first layer, often the largest, is "
        "passed once"
    )


BOUNDED = ("hard_sigmoid", "sigmoid", "tanh")
HOLOMORPHIC = ("sigmoid", "tanh")


def require_settling(rule: str, net: Net, holomorphic: bool) -> None:
    """Refuse networks that are not chains of dense layers, or whose nonlinearity the dynamics cannot live with."""
    require_dense(rule, net, "its energy couples neighbouring layers by one matrix each")
    for block in net.blocks[:-1]:
        if block.act_name not in BOUNDED:
            raise RuleError(
                f"{rule} needs a bounded nonlinearity, or its states run away; '{block.act_name}' (block "
                f"'{block.name}') is not; use --arch 'mlp(256,128,act=hard_sigmoid)', act=sigmoid or act=tanh"
            )
        if holomorphic and block.act_name not in HOLOMORPHIC:
            raise RuleError(
                f"{rule}(variant=holomorphic) needs a nonlinearity that is smooth for complex numbers; "
                f"'{block.act_name}' (block '{block.name}') is not; use --arch 'mlp(256,128,act=tanh)', act=sigmoid "
                "or variant=centred"
            )


POINTS = 4


def ep(
    variant: str = "centred",
    beta: float = 0.1,
    points: int = POINTS,
    feedback: float = 0.25,
    free_steps: int = 12,
    nudged_steps: int = 10,
) -> Rule:
    """Equilibrium propagation: the gradient from how a gentle pull on the output moves the equilibrium.

    dW_l = -gamma^{l-L} d/dbeta [s_l s_{l-1}ᵀ] at beta = 0;    s_l = f(W_l s_{l-1} + b_l + gamma W_{l+1}ᵀ s_{l+1})

    Args:
        variant: how the derivative is taken. "onesided": from 0 and beta, with an error of order beta; "centred":
            from beta and -beta, of order beta²; "holomorphic": from `points` complex strengths of modulus beta, of
            order beta^points.
        beta: strength of the pull, above 0; below 1 where a push of the same strength is needed too.
        points: N of the holomorphic variant, at least 2; 2 is the centred variant. The others have none.
        feedback: gamma, above 0 and at most 1, the paper's. It is the symmetric network with sqrt(gamma) W in place
            of W, in other units: below 1 it keeps the coupling of the common initial weights from making several
            minima. At 1 sweeps contract slowly and want some 100 free and 50 nudged steps, more than the residuals
            of the default numbers let see.
        free_steps: T1, sweeps of the free phase over all layers, from zero.
        nudged_steps: T2, sweeps of the second phases, from the end of the free phase.

    State: none.
    Metrics: `residual`, mean |s_{t+1} - s_t| of a unit in the last free sweep; `nudged_residual`, the fraction of
    their way from the free state that the second phases made in their last sweep.
    References: Scellier & Bengio (2017), arXiv:1602.05179; centred: Laborieux et al. (2021), arXiv:2006.03824;
    holomorphic: Laborieux & Zenke (2022), arXiv:2209.00530; layer by layer: Scellier et al. (2023), arXiv:2312.15103.
    """
    choice("ep", "variant", variant, ("onesided", "centred", "holomorphic"))
    beta = number("ep", "beta", beta)
    if variant != "onesided" and beta >= 1:
        raise RuleError(f"ep: beta must be below 1 for variant={variant!r}, where a push of 1 has no equilibrium")
    whole("ep", "points", points, least=2)
    if variant != "holomorphic" and points != POINTS:
        raise RuleError(f"ep: variant={variant} has no points; give them with variant=holomorphic")
    feedback = number("ep", "feedback", feedback, high=1.0)
    whole("ep", "free_steps", free_steps)
    whole("ep", "nudged_steps", nudged_steps)
    nudged = nudges(variant, beta, points)
    info = replace(EP, passes=settling_passes(free_steps, nudged_steps, nudged))
    return two_phase_rule(info, nudged, feedback, free_steps, nudged_steps, variant == "holomorphic")


EP = RuleInfo(
    name="ep",
    title="equilibrium propagation: how a gentle pull on the output moves the equilibrium",
    equation="dW_l = -gamma^(l-L) d/dbeta [s_l s_{l-1}^T] at 0;  "
    "s_l = f(W_l s_{l-1} + b_l + gamma W_{l+1}^T s_{l+1});  s_L = (W_L s_{L-1} + b_L + beta y) / (1 + beta)",
    citation="Scellier & Bengio (2017), Equilibrium propagation: bridging the gap between energy-based models and "
    "backpropagation, arXiv:1602.05179",
    transports="activity, up through every weight and down through its transpose, in two phases of one dynamics",
    requires="dense blocks with a bounded nonlinearity (hard_sigmoid, sigmoid, tanh); tanh or sigmoid for the "
    "holomorphic variant",
    deviations=(
        "layers move one after another, each to its own minimum, instead of all at once by small steps: the same "
        "equilibria, reached in fewer steps (as Scellier et al. 2023)",
        "the output unit is linear, outside the nonlinearity, and the loss is the squared error there",
        "the weights start from the common initialiser, not from smaller ones tuned per layer; the way down is "
        "weakened instead (feedback = 1 is the paper's), which has the same effect on the coupling and stays exact",
        "one learning rate and optimiser for all layers, not one rate per layer",
        "one-sided: the free phase runs on beside the nudged one, so that what is left of its drift cancels",
        "minibatches start from zero states, not from those of the last epoch",
    ),
    passes="",
    representation="the free equilibrium: it is what the network computes its answer with and what learning contrasts "
    "with; an ordinary forward pass, which lacks the way down, is not a state of this network",
    loss="mse",
    nonlinearity="hard_sigmoid",
    tolerance=1e-3,
    knob=("feedback", (0.125, 0.5)),
)
