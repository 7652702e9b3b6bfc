"""Groups of small networks whose training sets are known: which of them should be more alike is known with these.

All networks of a test have one architecture, one rule (`bp`) and one budget, and each starts from a seed of its own, so
that before training no two of them are more alike than any others. Networks of one group see one training set; groups
differ in one number, how strongly that set was changed. Everything follows from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lab.datasets.dataset import Dataset, as_float, split

RESI = "Klabunde, Wald, Schumacher, Maier-Hein, Strohmaier, Lemmerich 2024, arXiv 2408.00531"
DATA = "mnist"
SEEDS = 5  # networks in a group
TRAIN, EPOCHS, BATCH, RATE = 2000, 30, 50, 2e-3
STIMULI = 300  # at least 4 for each unit
WIDTH, DEPTH = 64, 6  # of hidden layers; groups are compared in networks of two
PATCH = 2  # pixels, height and width of the shortcut

Change = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""(images in 0..1, labels, level, random numbers) -> what networks of this level see in one epoch."""


@dataclass(frozen=True)
class GroupTest:
    """Groups that differ in one number.

    Attributes:
        name: in one or two words.
        about: what differs between groups, in a sentence.
        levels: the number of each group; one level, for tests that compare the layers of a network.
        change: makes a level's training set of the common one. The same random numbers serve every level.
        fresh: whether the set is drawn anew in every epoch.
        seen: makes the stimuli of the common test images; all groups are shown the same ones.
        layers: compare the hidden layers of every network, not the last one among networks.
        first_seed: seeds of all its networks follow from this one on; no two tests share any.
    """

    name: str
    about: str
    levels: tuple[float, ...]
    change: Change
    fresh: bool = False
    seen: Callable[[np.ndarray, np.random.Generator], np.ndarray] = lambda x, rng: x
    layers: bool = False
    first_seed: int = 0

    @property
    def arch(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return (WIDTH,) * (DEPTH if self.layers else 2)

    @property
    def networks(self) -> int:
        """How many, over all groups."""
        return SEEDS * len(self.levels)


def mislabelled(x, y, level, rng):
    """Labels of a share of the images drawn anew; those of a smaller share are among those of a larger one."""
    other, turn = rng.integers(0, y.max() + 1, len(y)), rng.random(len(y))
    return x, np.where(turn < level, other, y)


def patched(x: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Images with a white square in the top rows, at one of the places 0, 1, ... from left to right."""
    x = x.copy()
    for i, left in enumerate(place * PATCH):
        x[i, :PATCH, left : left + PATCH] = 1.0
    return x


def shortcut(x, y, level, rng):
    """A white square in every image, at the place of its class with this probability, else at a random one."""
    other, turn = rng.integers(0, y.max() + 1, len(y)), rng.random(len(y))
    return patched(x, np.where(turn < level, y, other)), y


def noised(x, y, level, rng):
    """Gaussian noise of this standard deviation on every pixel."""
    return np.clip(x + level * rng.standard_normal(x.shape, np.float32), 0.0, 1.0), y


SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
TESTS = (
    GroupTest("label noise", "share of the training images whose label is random", SHARES, mislabelled),
    GroupTest(
        "shortcut",
        "probability that a white square in a training image gives its label away; in the stimuli its place is random",
        SHARES,
        shortcut,
        seen=lambda x, rng: patched(x, rng.integers(0, 10, len(x))),
        first_seed=100,
    ),
    GroupTest(
        "augmentation",
        "standard deviation of the pixel noise on the training images, anew in every epoch; the stimuli have none",
        (0.0, 0.1, 0.2, 0.4, 0.8),
        noised,
        fresh=True,
        first_seed=200,
    ),
    GroupTest(
        "layers",
        f"{DEPTH} hidden layers of each network: the closer two are, the more alike (of any chain, trained or not)",
        (0.0,),
        lambda x, y, level, rng: (x, y),
        layers=True,
        first_seed=300,
    ),
)


@dataclass(frozen=True, eq=False)
class Shown:
    """The networks of a test on its stimuli, before training and after it.

    Attributes:
        test: what differs between groups.
        hidden: "untrained" and "trained" -> networks × layers × stimuli × units; groups one after the other.
        group: of each network.
        accuracies: share of right answers on the stimuli, mean of each group after training.
    """

    test: GroupTest
    hidden: dict[str, np.ndarray]
    group: np.ndarray
    accuracies: tuple[float, ...]


def train(test: GroupTest, dataset: Dataset) -> Shown:
    """Train all networks of a test, a group at a time and all its seeds at once, and show them the stimuli."""
    import jax

    from algorithms import RULES
    from lab.capture import stimuli
    from lab.networks import mlp
    from lab.optimizers import adam
    from lab.training import Trainer, on_device

    rule, net = RULES["bp"](), mlp(*test.arch)(dataset.input_shape, dataset.classes)
    optimizer = adam(RATE)(EPOCHS * (TRAIN // BATCH))
    trainer = Trainer(rule, net, optimizer, BATCH, SEEDS)
    part, seen = split(dataset, train_size=TRAIN), stimuli(dataset, STIMULI)
    x, y = as_float(part.train_x), part.train_y
    show = trainer.over_cohort(lambda learner, x: rule.forward(net, learner.params, learner.rule_state, x), 1)
    inputs = test.seen(as_float(seen.x), np.random.default_rng(1))
    hidden: dict[str, list[np.ndarray]] = {"untrained": [], "trained": []}
    accuracies = []
    for place, level in enumerate(test.levels):
        seeds = trainer.seeds([test.first_seed + place * SEEDS + i for i in range(SEEDS)])
        examples = on_device(*test.change(x, y, level, np.random.default_rng(0)))
        learner = trainer.start(seeds, examples)
        for state in hidden:
            if state == "trained":
                for epoch in range(EPOCHS):
                    if test.fresh and epoch:
                        examples = on_device(*test.change(x, y, level, np.random.default_rng(epoch)))
                    learner = trainer.advance(learner, seeds, seeds, epoch, 0, TRAIN // BATCH, examples)
            found = jax.device_get(show(learner, inputs))
            kept = found.hidden if test.layers else found.hidden[-1:]
            hidden[state] += list(np.stack(kept, axis=1))
        accuracies.append(float((found.scores.argmax(-1) == seen.y).mean()))
    group = np.repeat(np.arange(len(test.levels)), SEEDS)
    return Shown(test, {state: np.stack(each) for state, each in hidden.items()}, group, tuple(accuracies))
