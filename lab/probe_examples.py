"""Representations that probes are checked on: what they must not notice, and what they must."""

from __future__ import annotations

import numpy as np

N, D, CLASSES = 300, 30, 4

SMALL_ENOUGH = {"spectrum-exponent": "spectrum-exponent(low=3,high=20)"}
"""Settings for probes of the lab whose own ask for more dimensions than the examples have."""

Example = tuple[np.ndarray, np.ndarray]
"""A representation (stimuli × units) and the class of each stimulus."""


def representation(seed: int, d: int = D) -> Example:
    """Rectified features of unequal scale, with classes, one dead unit and one that hardly moves."""
    rng = np.random.default_rng(seed)
    y = np.arange(N) % CLASSES
    z = np.random.default_rng(7).standard_normal((N, 6)) @ rng.standard_normal((6, d))
    x = 0.4 * z + 0.6 * rng.standard_normal((CLASSES, d))[y] + rng.standard_normal((N, d))
    x *= np.exp(1.2 * rng.standard_normal(d))
    x = np.maximum(x, 0.0)
    x[:, 0] = 0.0
    x[:, 1] = 0.05 * (np.arange(N) % 2)
    return x, y


def partner() -> np.ndarray:
    """Another representation, near enough to the first for neighbours to agree well above chance."""
    x = representation(1)[0]
    return x[:, 5:] + 0.5 * np.random.default_rng(3).standard_normal((N, D - 5))


def transformation(which: str, d: int) -> tuple[np.ndarray, np.ndarray]:
    """The A (d×d) and b (d) of x → xA + b that stands for one of `INVARIANCES`."""
    rng = np.random.default_rng(11)
    if which == "permutation":
        return np.eye(d)[:, rng.permutation(d)], np.zeros(d)
    if which == "orthogonal":
        return np.linalg.qr(rng.standard_normal((d, d)))[0], np.zeros(d)
    if which == "isotropic-scaling":
        return 3.7 * np.eye(d), np.zeros(d)
    if which == "translation":
        return np.eye(d), 3.0 * rng.standard_normal(d)
    return np.linalg.qr(rng.standard_normal((d, d)))[0] * np.logspace(-1, 1, d), np.zeros(d)


def independent(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two representations that share nothing: Gaussian, of unequal widths."""
    rng = np.random.default_rng([1, n, d, seed])
    return rng.standard_normal((n, d)), rng.standard_normal((n, d + 2))


def of_one_world(
    n: int, d: int, seed: int, strength: float, classes: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two representations of stimuli with a common latent (5-dimensional, of the given strength) and common classes,
    whose class means are drawn for each representation apart; and the classes."""
    rng = np.random.default_rng([2, n, d, seed])
    y = np.arange(n) % classes
    latent = strength * rng.standard_normal((n, 5))

    def seen() -> np.ndarray:
        means = 2.0 * rng.standard_normal((classes, d))
        return means[y] + latent @ rng.standard_normal((5, d)) + rng.standard_normal((n, d))

    return seen(), seen(), y
