"""Which of a rule's own state are feedback weights, and which forward weights they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms import Rule
from algorithms.feedback import signed
from algorithms.rule import Net, Params, RuleState
from probes.probe import Undefined
from probes.weights import matrices

Pairs = dict[str, tuple[np.ndarray, np.ndarray] | Undefined]
"""Name of a weight or block -> (W, B) of one shape, or why that one has none."""

LAYERED: dict[str, Callable[[Params, RuleState], Params]] = {
    "fa": lambda params, B: B,
    "kp": lambda params, B: B,
    "wm": lambda params, B: B,
    "pfa": lambda params, state: jax.tree.map(jnp.matmul, state["R"], state["Q"]),
    "usf": signed,
    "frsf": signed,
    "ldrl": lambda params, state: state["feedback"],
    "fwdtp": lambda params, state: {name: {"kernel": V["kernel"].T} for name, V in state["feedback"].items()},
}
"""Rules whose error comes back layer by layer: (params, state) -> B for each W, in the shape of W."""

DIRECT = ("dfa", "sdfa", "drtp", "dkp")
"""Rules whose error comes directly from the output: their state is a matrix (units, classes) for each hidden block."""

NOT_SO = {
    "brsf": "draws its feedback weights anew for every batch",
    "dtp": "has feedback weights that learn the inverse of each block, not its transpose",
}


def feedback_of(rule: Rule, own: bool, net: Net, params: Params, state: RuleState) -> Pairs | Undefined:
    """Forward and feedback weights of one network in pairs.

    Args:
        own: whether the rule is a user's, whose state only the user can read.
    """
    name = rule.info.name
    if own:
        return Undefined(f"{name} is a rule from a file, which does not say what of its state are feedback weights")
    if name in LAYERED:
        return _layered(params, LAYERED[name](params, state))
    if name in DIRECT:
        return {block.name: _direct(net, params, block.name, state[block.name]) for block in net.blocks[:-1]}
    none = f"has no feedback weights (it transports {rule.info.transports.replace('; ', ', ')})"
    return Undefined(f"{name} {NOT_SO.get(name, none)}")


def _layered(params: Params, feedback: Params) -> Pairs:
    W = matrices(params)
    # Under `feedback='dense'` a convolution has a synapse for every pair of units on the way back.
    dense = Undefined("a dense matrix stands for a convolution on the way back: it has no entry for each weight")
    return {name: (W[name], B) if W[name].shape == B.shape else dense for name, B in matrices(feedback).items()}


def _direct(net: Net, params: Params, block: str, B: Any) -> tuple[np.ndarray, np.ndarray] | Undefined:
    """Product of all weights above a block, units × classes, and what its error comes through."""
    names = [b.name for b in net.blocks]
    above = net.blocks[names.index(block) + 1 :]
    for b in above:
        if b.kind != "dense":
            return Undefined(f"{b.name} stands above it, which is no matrix that a product could be taken of")
    product = np.asarray(params[above[0].name]["kernel"], np.float64)
    for b in above[1:]:
        product = product @ np.asarray(params[b.name]["kernel"], np.float64)
    return product, np.asarray(B, np.float64)
