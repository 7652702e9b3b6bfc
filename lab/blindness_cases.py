"""Pairs of networks of which everything is known: same or different in function, in geometry, beyond the class labels.

Small networks on synthetic stimuli, most with random hidden weights and a closed-form readout, built so that measures
of similarity go wrong in the ways that were published. Seeds are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N, CLASSES = 240, 4
FEW = 2  # stimuli that are outliers
RIDGE = 1e-2
STEPS, RATE = 1000, 0.02  # of gradient descent
GEOMETRY, CLASSES_ALONE, LITTLE, CONTROLS = "same geometry", "same classes", "little shared", "same function"
FRONTS = "stitched fronts"
"""Kinds of cases: geometry (nearly) the same and the function not; the classes shared, and nothing inside them; nothing
shared but one direction or a few stimuli; a trained network and what should not pass for one before its readout; and
the controls, whose function is exactly the same."""

LENC = "Lenc, Vedaldi 2015, arXiv 1411.5908"
BANSAL = "Bansal, Nakkiran, Barak 2021, arXiv 2106.07682"
DINH = "Dinh, Pascanu, Bengio, Bengio 2017, arXiv 1703.04933"
DING = "Ding, Denain, Steinhardt 2021, arXiv 2108.01661"
DAVARI = "Davari, Horoi, Natik, Lajoie, Wolf, Belilovsky 2023, arXiv 2210.16156"
SMITH = "Smith, Mannering, Marcu 2025, Functional Alignment Can Mislead, ICML"
GROGER = "Gröger, Wen, Brbić 2026, arXiv 2602.14486"


@dataclass(frozen=True, eq=False)
class Case:
    """Two networks on the same stimuli, and what is known of them.

    Attributes:
        name: in one or two words.
        about: what was done, in a sentence.
        source: who showed it, "" if nobody in particular.
        a, b: hidden representations, stimuli × units.
        readout_a, readout_b: the fixed next layer of each, units × answers; an answer is the argmax of h W.
        y: the answer that is right, of each stimulus. classes: labels that a comparison could know.
        different: whether a measure should tell the two apart; of a control it should not.
        function, geometry, beyond_classes: what is the same: the answers; geometry up to rotation and scale; whatever
            the two share inside classes. None where nearly so.
        group: cases of one kind.
        within: measured beside stimuli permuted inside their classes, not over all of them.
    """

    name: str
    about: str
    source: str
    a: np.ndarray
    b: np.ndarray
    readout_a: np.ndarray
    readout_b: np.ndarray
    y: np.ndarray
    classes: np.ndarray
    different: bool
    function: bool | None
    geometry: bool | None
    beyond_classes: bool | None
    group: str
    within: bool = False

    @property
    def accuracies(self) -> tuple[float, float]:
        """Share of right answers of either network."""
        right = [(h @ W).argmax(1) == self.y for h, W in ((self.a, self.readout_a), (self.b, self.readout_b))]
        return float(right[0].mean()), float(right[1].mean())

    @property
    def agreement(self) -> float:
        """Share of stimuli that both answer alike: 1 where the function is the same."""
        return float(((self.a @ self.readout_a).argmax(1) == (self.b @ self.readout_b).argmax(1)).mean())


def readout(h: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ridge regression of one-hot answers on h, without a bias: a row's answer does not change with its length."""
    strength = RIDGE * np.square(h).sum() / h.shape[1]
    return np.linalg.solve(h.T @ h + strength * np.eye(h.shape[1]), h.T @ np.eye(y.max() + 1)[y])


def rotation(d: int, rng: np.random.Generator) -> np.ndarray:
    """A random orthogonal d × d matrix."""
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def without_top(h: np.ndarray, W: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """h without its first principal component, and W no longer reading that direction."""
    v = np.linalg.svd(h - h.mean(0), full_matrices=False)[2][0]
    return h - np.outer((h - h.mean(0)) @ v, v), None if W is None else W - np.outer(v, v @ W)


def stimuli(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n × 12) that vary in three directions, in four classes, and the classes."""
    y = np.arange(N) % CLASSES
    x = 1.5 * rng.standard_normal((CLASSES, 12))[y] + rng.standard_normal((N, 3)) @ rng.standard_normal((3, 12))
    return x + 0.1 * rng.standard_normal((N, 12)), y


def rectified(x: np.ndarray, d: int, rng: np.random.Generator) -> np.ndarray:
    """A hidden layer of d rectified units with random weights."""
    return np.maximum(x @ rng.standard_normal((x.shape[1], d)) / np.sqrt(x.shape[1]), 0.0)


def cases() -> tuple[Case, ...]:
    """All of them, differences first, then controls; a function of nothing."""
    return (*_same_geometry(), *_same_classes(), *_carried_by_little(), *_fronts(), *_controls())


def _network(seed: int, d: int = 140) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, hidden layer, readout and classes of a plain network."""
    rng = np.random.default_rng(seed)
    x, y = stimuli(rng)
    h = rectified(x, d, rng)
    return x, h, readout(h, y), y


def _same_geometry() -> list[Case]:
    """The same geometry, or nearly, and another function."""
    rng = np.random.default_rng(1)
    x, h, W, y = _network(0)
    turned = h @ rotation(h.shape[1], rng)
    other = rectified(x, h.shape[1], rng)
    loud = 3.0 * rng.standard_normal((N, 8)) @ np.linalg.qr(rng.standard_normal((24, 8)))[0].T
    basis = np.linalg.qr(np.linalg.svd(loud, full_matrices=True)[2][8:].T)[0]  # what the loud part leaves free
    quiet = 0.5 * np.eye(CLASSES)[y] @ basis[:, :CLASSES].T
    whole = loud + quiet + 0.02 * rng.standard_normal((N, 24))
    read = basis[:, :CLASSES]
    mixed = whole + (whole[rng.permutation(N)] - whole) @ read @ read.T
    V = read @ readout(whole @ read, y)
    return [
        Case("rotated", "hidden layer turned by a random rotation; the next layer is kept", "",
             h, turned, W, W, y, y, True, False, True, True, GEOMETRY),
        Case("other head", "two networks with other initial weights; the second is read by the head of the first",
             LENC, h, other, W, W, y, y, True, False, None, True, GEOMETRY),
        Case("quiet mixed", "the low-variance directions that the next layer reads hold another stimulus' values",
             DING, whole, mixed, V, V, y, y, True, False, None, True, GEOMETRY),
    ]  # fmt: skip


def _same_classes() -> list[Case]:
    """The class means in common and nothing inside classes."""
    rng = np.random.default_rng(2)
    d, y = 64, np.arange(N) % CLASSES
    # Means at equal distances, as trained networks have them: what one says of the classes the other says too.
    means, more = (3.0 * np.sqrt(d) * rotation(d, rng)[:CLASSES] for _ in range(2))
    cue_a, cue_b = rng.choice([0, 1], (2, N))
    axis_a, axis_b = rng.standard_normal((2, d))
    a = means[y] + 0.5 * np.outer(2 * cue_a - 1, axis_a) + rng.standard_normal((N, d))
    b = more[y] + 0.5 * np.outer(2 * cue_b - 1, axis_b) + rng.standard_normal((N, d))
    shuffled = _within(y, rng)
    fine = 2 * y + cue_a
    W = readout(a, fine)
    cues = (a, b, readout(a, y), readout(b, y), y, y, True, True, False, False, CLASSES_ALONE)
    said = "networks that share the classes and see other cues inside them"
    return [
        Case("shuffled", "stimuli exchanged inside their classes, whose means stay; finer answers are lost",
             "", a, a[shuffled], W, W, fine, y, True, False, False, False, CLASSES_ALONE),
        Case("other cues", said, SMITH, *cues),
        Case("cues | class", f"{said}; beside stimuli permuted inside classes", GROGER,
             *cues, within=True),
    ]  # fmt: skip


def _within(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An order that moves every stimulus to the place of the next of its class in a random round."""
    order = np.arange(len(y))
    for c in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == c))
        order[members] = np.roll(members, 1)
    return order


def _carried_by_little() -> list[Case]:
    """Unrelated networks for unrelated tasks, but for one direction or a few stimuli."""
    rng = np.random.default_rng(3)
    d, y, z = 40, np.arange(N) % CLASSES, rng.permutation(np.arange(N) % CLASSES)
    a, b = (2.0 * rng.standard_normal((CLASSES, d))[c] + rng.standard_normal((N, d)) for c in (y, z))
    common = 10.0 * rng.standard_normal(N)
    with_a, with_b = (
        h + np.outer(common, axis) / np.sqrt(d) * 4 for h, axis in zip((a, b), _units(d, rng), strict=True)
    )
    W_a, W_b = readout(with_a, y), readout(with_b, z)
    less_a, less_b = without_top(with_a)[0], without_top(with_b)[0]
    loud_a, loud_b = a.copy(), b.copy()
    loud_a[:FEW] *= 100.0
    loud_b[:FEW] *= 100.0
    return [
        Case("one axis", "networks for unrelated tasks that share their first principal component", "",
             with_a, with_b, W_a, W_b, y, y, True, False, False, False, LITTLE),
        Case("axis removed", "the same two, each without its first principal component", "",
             less_a, less_b, readout(less_a, y), readout(less_b, z), y, y, True, False, False, False, LITTLE),
        Case("outliers", "networks for unrelated tasks; two stimuli are 100 times as long in both", DAVARI,
             loud_a, loud_b, readout(a, y), readout(b, z), y, y, True, False, False, False, LITTLE),
    ]  # fmt: skip


def descended(x: np.ndarray, y: np.ndarray, d: int, rng: np.random.Generator, steps: int):
    """Hidden layer and readout of a network of d rectified units after so many steps of gradient descent on y."""
    V = np.sqrt(2 / x.shape[1]) * rng.standard_normal((x.shape[1], d))
    W = rng.standard_normal((d, CLASSES)) / np.sqrt(d)
    for _ in range(steps):
        h = np.maximum(x @ V, 0.0)
        odds = np.exp(h @ W - (h @ W).max(1, keepdims=True))
        error = (odds / odds.sum(1, keepdims=True) - np.eye(CLASSES)[y]) / len(y)
        V, W = V - RATE * x.T @ (error @ W.T * (h > 0)), W - RATE * h.T @ error
    return np.maximum(x @ V, 0.0), W


def _fronts() -> list[Case]:
    """A trained network, and fronts that a stitch may join to its readout although they share little with it."""
    from probes.stitching import clustered_noise  # loads JAX

    rng = np.random.default_rng(5)
    d = 64
    x, y = stimuli(rng)
    h, W = descended(x, y, d, rng, STEPS)
    fresh, fresh_W = descended(x, y, d, rng, 0)
    misled, misled_W = descended(x, rng.permutation(y), d, rng, STEPS)
    noise = clustered_noise(y, d, 0)
    return [
        Case("untrained", "a trained network, and another one before training", BANSAL,
             h, fresh, W, fresh_W, y, y, True, False, False, True, FRONTS),
        Case("random labels", "a trained network, and another one trained on labels that were shuffled", "",
             h, misled, W, misled_W, y, y, True, False, False, True, FRONTS),
        Case("clusters", "a trained network, and noise around a random centre for each class", SMITH,
             h, noise, W, readout(noise, y), y, y, True, True, False, False, FRONTS),
    ]  # fmt: skip


def _units(d: int, rng: np.random.Generator) -> np.ndarray:
    """Two random directions of length √d."""
    axes = rng.standard_normal((2, d))
    return axes / np.linalg.norm(axes, axis=1, keepdims=True) * np.sqrt(d)


def _controls() -> list[Case]:
    """The same function, exactly."""
    rng = np.random.default_rng(4)
    _, h, W, y = _network(0)
    d = h.shape[1]
    order, Q = rng.permutation(d), rotation(d, rng)
    scale = np.exp(rng.standard_normal(d))
    bright = h + np.outer(6.0 * rng.standard_normal(N), rng.standard_normal(d) / 2)
    dim, blind = without_top(bright, readout(bright, y))
    loud = h.copy()
    loud[:FEW] *= 100.0
    return [
        Case("permuted + head", "units in another order, and the next layer with them", "",
             h, h[:, order], W, W[order], y, y, False, True, True, True, CONTROLS),
        Case("rotated + head", "hidden layer turned, and the next layer turned back", "",
             h, h @ Q, W, Q.T @ W, y, y, False, True, True, True, CONTROLS),
        Case("rescaled + head", "every unit scaled by a factor of its own, and the next layer back", DINH,
             h, h * scale, W, W / scale[:, None], y, y, False, True, False, True, CONTROLS),
        Case("unread axis", "without its first principal component, which the next layer does not read", "",
             bright, dim, blind, blind, y, y, False, True, False, True, CONTROLS),
        Case("outliers in one", "two stimuli are 100 times as long in the second; no answer changes", DAVARI,
             h, loud, W, W, y, y, False, True, False, True, CONTROLS),
    ]  # fmt: skip
