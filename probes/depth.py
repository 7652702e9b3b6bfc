"""Does a rule use the depth of its network, and is the gradient it is compared with worth comparing with?

Accuracy and the cosine with the gradient miss both failures: hidden activity that explodes, which drives the exact
gradient to the floor where a cosine means nothing, and blocks that are trained without being of use.
Source: Hao, Wan and Zhai 2026, arXiv 2606.21126. Each check returns a sentence of warning, or None.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probes.features import features
from probes.forward import cross_entropy
from probes.probe import Undefined
from probes.subject import Subject, Task, in_double

LARGEST_GROWTH = 50.0
SMALLEST_GRADIENT = 1e-7
SMALLEST_GAIN = 0.02


def _typical_norm(array: Any, name: str) -> float:
    """Median over stimuli of the L2 norm."""
    array = np.asarray(array)
    return float(np.median(np.linalg.norm(features(array.reshape(len(array), -1), name), axis=1)))


def scale_stability(hidden: Sequence[Any], threshold: float = LARGEST_GROWTH) -> str | None:
    """Warns where activity grows more than `threshold` times from one hidden layer to the next.

        max_l ‖h_{l+1}‖/‖h_l‖, ‖·‖ the median over stimuli of the L2 norm

    hidden: activations of each layer, first to last, stimuli in rows. Trained by gradient descent, residual networks
    stay below 5 and early transformers below 25; those that fail reach 100 and more. Layers of different width differ
    in norm by the square root of the ratio for that reason alone.
    """
    norms = [_typical_norm(h, f"hidden layer {i}") for i, h in enumerate(hidden, 1)]
    for i, norm in enumerate(norms, 1):
        if norm == 0:
            return f"hidden layer {i} is silent for at least half of the stimuli: nothing of them reaches the output."
    growth = [after / before for before, after in pairwise(norms)]
    if not growth or max(growth) <= threshold:
        return None
    worst = int(np.argmax(growth))
    return (
        f"activity grows {growth[worst]:.3g} times from hidden layer {worst + 1} to {worst + 2}, more than "
        f"{threshold:g}: scales explode, and gradients behind them are not to be trusted."
    )


@partial(jax.jit, static_argnums=(0, 3))
def _gradient(model: Any, params: Any, x: jax.Array, layer: str, y: jax.Array) -> jax.Array:
    h = model.hidden(params, x, layer)
    return jax.grad(lambda h: cross_entropy(model.rest(params, h, layer), y))(h)


def deepest_gradient(task: Task, s: Subject) -> np.ndarray | Undefined:
    """Exact gradient of the mean cross-entropy at the deepest hidden layer, one row per stimulus."""

    def value(task: Task, s: Subject) -> np.ndarray:
        found = _gradient(s.model, s.params, task.x, s.model.layers[-1], jnp.asarray(task.y))
        return np.asarray(found).reshape(len(found), -1)

    if s.no_logits is not None:
        return s.no_logits
    return s.model if isinstance(s.model, Undefined) else in_double("the deepest gradient", value, task, s)


def reference_validity(gradient: Any, floor: float = SMALLEST_GRADIENT) -> str | None:
    """Warns where the exact gradient at the deepest hidden layer is so small that a cosine with it means nothing.

        median over stimuli of ‖∂L/∂h_L‖ < floor, L the mean loss of a batch of a few hundred

    gradient: stimuli in rows, as `deepest_gradient` gives it. The gradient of a mean shrinks with the batch, and so
    does what the floor means.
    """
    norm = _typical_norm(gradient, "the gradient")
    if norm >= floor:
        return None
    value = f"norm {norm:.3g}, below {floor:g}"
    return f"the exact gradient at the deepest hidden layer has {value}: an angle to it means nothing."


def depth_utility(accuracy: float, frozen: float, margin: float = SMALLEST_GAIN) -> str | None:
    """Warns where a network is hardly better than its twin whose hidden blocks were never trained.

    accuracy, frozen: of the network, and of the same architecture trained alike with all blocks but the last frozen.
    """
    gain = accuracy - frozen
    if gain >= margin:
        return None
    return (
        f"accuracy is {100 * gain:+.1f} points beside the network with frozen hidden blocks (asked for: "
        f"{100 * margin:+.1f}): training the depth brought little or nothing."
    )
