"""Named random streams: which numbers are drawn depends on a seed, a stream's name and a step, on nothing else.

Adding a stream renumbers no other, resuming needs no stored keys, and two rules with one seed draw the same weights
and the same batches because neither `init` nor `order` knows which rule is training.
"""

from __future__ import annotations

import zlib

import jax
from jaxtyping import Array

INIT, ORDER, RULE, NOISE, EXAMINATION = "init", "order", "rule", "noise", "examination"
"""Forward weights; data order; a rule's fixed draws (feedback weights), its draws at every step, and at evaluations."""


def stream(seed: int | Array, name: str, step: int | Array | None = None) -> Array:
    """The key of one stream of one seed, at one step if the stream has steps."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return key if step is None else jax.random.fold_in(key, step)
