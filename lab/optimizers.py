"""The optimisers: a rule gives a direction, one of these decides the step. All are `optax`'s."""

from __future__ import annotations

import math
from collections.abc import Callable

import optax

from algorithms import RuleInfo
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


SCHEDULES = ("cosine", "constant")


def _schedule(learning_rate: float, schedule: str, steps: int):
    """The learning rate at every step: from `learning_rate` to 0 along half a cosine, or constant.

    Cosine: `eta_t = eta (1 + cos(pi t / T)) / 2` over all T steps of the run (Loshchilov & Hutter 2017,
    arXiv:1608.03983, without restarts).
    """
    return optax.cosine_decay_schedule(learning_rate, max(steps, 1)) if schedule == "cosine" else learning_rate


def _checked(optimizer: str, learning_rate: float, schedule: str) -> float:
    if schedule not in SCHEDULES:
        raise UsageError(f"--optimizer: {optimizer} knows the schedules {' and '.join(SCHEDULES)}, not {schedule!r}")
    return _number(optimizer, "learning rate", learning_rate, 0, open_low=True)


ForSteps = Callable[[int], optax.GradientTransformation]
"""An optimiser, once it is told how many steps the run has: the schedule ends with the last."""


def adam(
    learning_rate: float, schedule: str = "cosine", b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> ForSteps:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980)."""
    learning_rate = _checked("adam", learning_rate, schedule)
    settings = {
        "b1": _number("adam", "b1", b1, 0, 1),
        "b2": _number("adam", "b2", b2, 0, 1),
        "eps": _number("adam", "eps", eps, 0, open_low=True),
    }
    return lambda steps: optax.adam(_schedule(learning_rate, schedule, steps), **settings)


def adamw(learning_rate: float, schedule: str = "cosine", weight_decay: float = 1e-4) -> ForSteps:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)."""
    learning_rate = _checked("adamw", learning_rate, schedule)
    decay = _number("adamw", "weight_decay", weight_decay, 0)
    return lambda steps: optax.adamw(_schedule(learning_rate, schedule, steps), weight_decay=decay)


def sgd(learning_rate: float, schedule: str = "cosine", momentum: float = 0.0, nesterov: bool = False) -> ForSteps:
    """Gradient descent, with momentum if asked."""
    learning_rate = _checked("sgd", learning_rate, schedule)
    momentum = _number("sgd", "momentum", momentum, 0, 1)
    if nesterov and not momentum:
        raise UsageError("--optimizer: sgd(nesterov=True) changes nothing without momentum; give momentum=0.9")
    return lambda steps: optax.sgd(
        _schedule(learning_rate, schedule, steps), momentum=momentum or None, nesterov=nesterov
    )


OPTIMIZERS = {"adam": adam, "adamw": adamw, "sgd": sgd}
"""Every optimiser by the name its call string starts with."""

RATES = {
    "adam": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "adamw": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "sgd": (1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0),
}
"""The learning rates every rule is offered, by the kind of its optimiser: six, a factor of about 3 apart."""


def rates_of(info: RuleInfo) -> tuple[float, ...]:
    """The six learning rates of the search for this rule; the third of them is what it gets without a search.

    Raises:
        UsageError: the rule, a user's, names an optimiser that there is not.
    """
    kind = info.optimizer.partition("(")[0]
    if kind not in RATES:
        raise UsageError(
            f"--rule: RuleInfo(optimizer={info.optimizer!r}) of {info.name} must be one of {', '.join(RATES)}"
        )
    return info.rates or RATES[kind]


def with_rate(optimizer: str, rate: float) -> str:
    """`sgd(0.1, momentum=0.9)` of `sgd(momentum=0.9)`, and `adam(0.1)` of `adam`."""
    name, _, rest = optimizer.partition("(")
    rest = rest.rstrip(") ")
    return f"{name}({rate:g}{', ' + rest if rest else ''})"
