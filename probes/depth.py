"""Does a rule use the depth of its network, and is the gradient it is compared with worth comparing with?

Accuracy and the cosine with the gradient miss both failures: hidden activity that explodes, which drives the exact
gradient to the floor where a cosine means nothing, and blocks that are trained without being of use.
Source: Hao, Wan and Zhai 2026, arXiv 2606.21126. Each check returns a sentence of warning, or None.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

LARGEST_GROWTH = 50.0
SMALLEST_GRADIENT = 1e-7
SMALLEST_GAIN = 0.02


def activity_norm(lengths: np.ndarray) -> float:
    """Median over stimuli of ‖h‖."""
    return float(np.median(lengths))


def gradient_norm(lengths: np.ndarray) -> float:
    """Root mean square over stimuli of ‖∂L/∂h‖, L the mean loss of a batch of a few hundred.

    Not the median: most stimuli of a good classifier have no error left, and its gradient is sound all the same.
    """
    return float(np.sqrt(np.mean(lengths**2)))


def scale_stability(norms: Mapping[str, float], threshold: float = LARGEST_GROWTH) -> str | None:
    """Warns where activity grows more than `threshold` times from one hidden layer to the next.

        max_l ‖h_{l+1}‖/‖h_l‖

    norms: `activity_norm` by layer, first to last. Trained by gradient descent, residual networks stay below 5 and
    early transformers below 25; those that fail reach 100 and more. Layers of different width differ in norm by the
    square root of the ratio for that reason alone.
    """
    for layer, norm in norms.items():
        if norm == 0:
            return f"{layer} is silent for at least half of the stimuli: nothing of them reaches the output"
    growth = {pair: norms[pair[1]] / norms[pair[0]] for pair in pairwise(norms)}
    worst = max(growth, key=growth.__getitem__, default=None)
    if worst is None or growth[worst] <= threshold:
        return None
    return (
        f"activity grows {growth[worst]:.3g} times from {worst[0]} to {worst[1]}, more than {threshold:g}: scales "
        "explode, and gradients behind them are not to be trusted"
    )


def reference_validity(norms: Mapping[str, float], floor: float = SMALLEST_GRADIENT) -> str | None:
    """Warns where the exact gradient at a hidden layer is so small that a cosine with it means nothing.

        ‖∂L/∂h_l‖ < floor

    norms: `gradient_norm` by layer, on stimuli that the network was not trained on: the gradient of what it has
    learned by heart goes to zero in every network that learns well. The gradient of a mean shrinks with the batch, and
    so does what the floor means.
    """
    layer = min(norms, key=norms.__getitem__, default=None)
    if layer is None or norms[layer] >= floor:
        return None
    told = f"norm {norms[layer]:.3g}, below {floor:g}"
    return f"the exact gradient at {layer} has {told}: an angle to it means nothing"


def depth_utility(
    accuracy: float,
    frozen: float,
    beside: str = "the network with frozen hidden blocks",
    margin: float = SMALLEST_GAIN,
) -> str | None:
    """Warns where a network is hardly better than one whose hidden blocks were never trained.

    accuracy, frozen: of the network, and of what `beside` says: the same architecture with all blocks but the last
    frozen, trained alike.
    """
    gain = accuracy - frozen
    if gain >= margin:
        return None
    return (
        f"accuracy is {100 * accuracy:.1f} % beside {100 * frozen:.1f} % of {beside} (asked for: {100 * margin:+.1f} "
        "points): training the depth brought little or nothing"
    )
