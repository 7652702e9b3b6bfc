"""Contrastive Hebbian learning: what the network answers, against what it does with the right answer held fast.

The oldest rule that learns by contrast (Movellan 1991, after the Boltzmann machine). The network settles twice, by the
dynamics of `algorithms/equilibrium.py`: *free*, with only the input held, and *clamped*, with the output held at the
target as well. A synapse learns the product of its neighbours' activities when clamped and unlearns it when free, so
learning stops where the two agree.

With an output that is held and not gently pulled, the difference between the two states is no derivative, and the rule
in general follows no gradient. Xie and Seung found the case in which it does: the way down is weaker than the way up by
a factor gamma per layer. The target then moves layer l by `gamma^{L-l}` times what backpropagation would send there, to
first order, and scaling each layer's step by the inverse gives the gradient of the squared error, up to an error of
order gamma. So gamma is the one setting that matters: small enough for the direction, large enough for the difference
of two states to be seen above their precision.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from algorithms.equilibrium import Nudges, settling_passes, two_phase_rule
from algorithms.rule import Rule, RuleInfo
from algorithms.settings import number, whole

CLAMPED = Nudges(np.array([1.0, 0.0]), np.array([1.0, -1.0]))
"""The second phases: one held at the target, and the free one, run on beside it."""


def chl(gamma: float = 0.1, free_steps: int = 8, clamped_steps: int = 8) -> Rule:
    """Contrastive Hebbian learning with weak feedback: the output is clamped, and the way down is faint.

    dW_l = gamma^{l-L} (s_l s_{l-1}ᵀ of the free phase - s_l s_{l-1}ᵀ of the clamped phase)

    with `s_l = f(W_l s_{l-1} + b_l + gamma W_{l+1}ᵀ s_{l+1})` in both. As gamma goes to 0 this is backpropagation of
    the squared error: `s_l(clamped) - s_l(free) = -gamma^{L-l} delta_l`, to first order.

    Args:
        gamma: strength of the way down, above 0 and at most 1. The error is of order gamma; in single precision the
            difference of the phases keeps about 7 + (L-1) log10(gamma) digits.
        free_steps: sweeps of the free phase over all layers, from zero.
        clamped_steps: sweeps of the clamped phase, from the end of the free phase.

    State: none.
    Metrics: `residual` and `nudged_residual`, as of `ep`.
    Reference: Xie & Seung (2003), doi:10.1162/089976603762552988.
    """
    gamma = number("chl", "gamma", gamma, high=1.0)
    whole("chl", "free_steps", free_steps)
    whole("chl", "clamped_steps", clamped_steps)
    info = replace(CHL, passes=settling_passes(free_steps, clamped_steps, CLAMPED))
    return two_phase_rule(info, CLAMPED, gamma, free_steps, clamped_steps, holomorphic=False)


CHL = RuleInfo(
    name="chl",
    title="contrastive Hebbian learning: clamped minus free, with weak feedback",
    equation="dW_l = gamma^(l-L) (free s_l s_{l-1}^T - clamped s_l s_{l-1}^T);  "
    "s_l = f(W_l s_{l-1} + b_l + gamma W_{l+1}^T s_{l+1})",
    citation="Xie & Seung (2003), Equivalence of backpropagation and contrastive Hebbian learning in a layered "
    "network, doi:10.1162/089976603762552988",
    transports="activity, up through every weight and, faintly, down through its transpose, in two phases",
    requires="dense blocks with a bounded nonlinearity (hard_sigmoid, sigmoid, tanh)",
    deviations=(
        "layers move one after another to their fixed points instead of by a differential equation",
        "the free phase runs on beside the clamped one, so that what is left of its drift cancels",
        "the weights start from the common initialiser",
    ),
    passes="",
    representation="the free equilibrium, which the scores are read from",
    loss="mse",
    nonlinearity="hard_sigmoid",
    tolerance=1e-3,
    knob=("gamma", (0.03, 0.3)),
)
