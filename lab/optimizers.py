"""The optimisers: a rule gives a direction, one of these decides the step. All are `optax`'s."""

from __future__ import annotations

import math

import optax

from lab.errors import UsageError


def _positive(name: str, learning_rate: float) -> float:
    number = isinstance(learning_rate, int | float) and not isinstance(learning_rate, bool)
    if not (number and math.isfinite(learning_rate) and learning_rate > 0):
        raise UsageError(f"--optimizer: {name} needs a finite learning rate above 0, not {learning_rate!r}")
    return float(learning_rate)


def adam(learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980)."""
    return optax.adam(_positive("adam", learning_rate), b1=b1, b2=b2, eps=eps)


def adamw(learning_rate: float, weight_decay: float = 1e-4) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)."""
    return optax.adamw(_positive("adamw", learning_rate), weight_decay=weight_decay)


def sgd(learning_rate: float, momentum: float = 0.0, nesterov: bool = False) -> optax.GradientTransformation:
    """Gradient descent, with momentum if asked."""
    return optax.sgd(_positive("sgd", learning_rate), momentum=momentum or None, nesterov=nesterov)


OPTIMIZERS = {"adam": adam, "adamw": adamw, "sgd": sgd}
"""Every optimiser by the name its call string starts with."""
