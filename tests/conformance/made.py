"""Every rule on every kind of network, on one small task: what the contract of a rule is tested on."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from algorithms import RULES, Batch, Rule
from lab.networks import Network, conv, mlp
from lab.training import Examples, Trainer, on_device

NETS = {"relu": mlp(16, 12), "tanh": mlp(16, 12, act="tanh"), "conv": conv(2, 3, dense=(8,))}
REFUSED = {("ff", "conv")}
COMBINATIONS = [(rule, net) for rule in RULES for net in NETS if (rule, net) not in REFUSED]
LEARNING_RATE = {"ff": 0.003, "frozen": 0.05}
"""Relu units of forward-forward die at larger rates; the readout alone learns slowly. All others: .01."""
SHAPE, CLASSES, BATCH, SEEDS = (16, 16, 1), 4, 16, (3, 8)


def clusters(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images that are one of four random templates, with noise: classes that any learner should tell apart."""
    rng = np.random.default_rng(seed)
    templates = np.random.default_rng(99).random((CLASSES, *SHAPE))
    y = np.arange(n) % CLASSES
    return (templates[y] + 0.3 * rng.normal(size=(n, *SHAPE))).clip(0, 1).astype(np.float32), y


class Made(NamedTuple):
    rule: Rule
    net: Network
    trainer: Trainer
    examples: Examples
    batch: Batch
    seeds: jax.Array
    grads: object  # (key, params, state, batch), compiled


@cache
def made(name: str, arch: str) -> Made:
    """A rule and a network with compiled programs, shared by the tests."""
    net, rule = NETS[arch](SHAPE, CLASSES), RULES[name]()
    # Decay is there to catch it moving what the rule does not train.
    optimizer = optax.adamw(LEARNING_RATE.get(name, 0.01), weight_decay=0.01)
    trainer = Trainer(rule, net, optimizer, BATCH, len(SEEDS))
    x, y = clusters(160)
    grads = jax.jit(lambda key, params, state, batch: rule.grads(key, net, params, state, batch))
    batch = Batch(jnp.asarray(x[:BATCH]), jnp.asarray(y[:BATCH], jnp.int32))
    return Made(rule, net, trainer, on_device(x, y), batch, trainer.seeds(SEEDS), grads)


@cache
def started(name: str, arch: str):
    """The cohort before its first step. `__wrapped__` runs the program uncompiled, which here is much faster."""
    m = made(name, arch)
    return m.trainer.start.__wrapped__(m.seeds, m.examples)


def one_of(tree, i: int):
    """One seed of a cohort."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


def same_bits(a, b) -> bool:
    """Two trees hold the same numbers, bit for bit."""
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.asarray(u).tobytes() == np.asarray(v).tobytes()
        for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
