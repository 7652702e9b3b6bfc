"""The optimisers: a rule gives a direction, one of these decides the step. All are `optax`'s."""

from __future__ import annotations

import math

import optax

from lab.errors import UsageError


def _number(
    optimizer: str, name: str, value: float, low: float, high: float = math.inf, open_low: bool = False
) -> float:
    """A finite setting from low (not low itself, if `open_low`) to below high.

    Raises:
        UsageError: anything else.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value < high or (open_low and value == low):
        reach = f"above {low:g}" if open_low else f"at least {low:g}"
        below = "" if high == math.inf else f" and below {high:g}"
        raise UsageError(f"--optimizer: {optimizer} needs a finite {name} {reach}{below}, not {value!r}")
    return float(value)


def adam(learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980)."""
    return optax.adam(
        _number("adam", "learning rate", learning_rate, 0, open_low=True),
        b1=_number("adam", "b1", b1, 0, 1),
        b2=_number("adam", "b2", b2, 0, 1),
        eps=_number("adam", "eps", eps, 0, open_low=True),
    )


def adamw(learning_rate: float, weight_decay: float = 1e-4) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)."""
    return optax.adamw(
        _number("adamw", "learning rate", learning_rate, 0, open_low=True),
        weight_decay=_number("adamw", "weight_decay", weight_decay, 0),
    )


def sgd(learning_rate: float, momentum: float = 0.0, nesterov: bool = False) -> optax.GradientTransformation:
    """Gradient descent, with momentum if asked."""
    momentum = _number("sgd", "momentum", momentum, 0, 1)
    if nesterov and not momentum:
        raise UsageError("--optimizer: sgd(nesterov=True) changes nothing without momentum; give momentum=0.9")
    return optax.sgd(
        _number("sgd", "learning rate", learning_rate, 0, open_low=True), momentum=momentum or None, nesterov=nesterov
    )


OPTIMIZERS = {"adam": adam, "adamw": adamw, "sgd": sgd}
"""Every optimiser by the name its call string starts with."""
