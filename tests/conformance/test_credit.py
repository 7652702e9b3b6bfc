"""Rules that assign credit beat a network whose hidden blocks never learn, where random features are not enough."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from algorithms import RULES
from algorithms.rule import plain_forward
from lab.networks import mlp
from lab.training import Trainer, on_device


def exclusive_or(n: int, seed: int):
    """Whether two of ten inputs have one sign; the other eight are noise. No linear readout does better than half."""
    rng = np.random.default_rng(seed)
    y, sign, x = np.arange(n) % 2, rng.choice([-1, 1], n), rng.normal(size=(n, 10))
    x[:, :2] = np.stack([sign, np.where(y == 1, sign, -sign)], axis=1) + 0.3 * x[:, :2]
    return x.reshape(n, 1, 10, 1).astype(np.float32), y


def accuracies(name: str) -> list[float]:
    seeds = (0, 1, 2, 3)
    (x, y), (new_x, new_y) = exclusive_or(1000, 0), exclusive_or(1000, 1)
    net = mlp(16, 16)((1, 10, 1), 2)
    trainer = Trainer(RULES[name](), net, optax.adam(0.01), 20, len(seeds))
    keys, examples = trainer.seeds(seeds), on_device(x, y)
    learner = trainer.start.__wrapped__(keys, examples)
    for epoch in range(20):
        learner = trainer.advance(learner, keys, keys, epoch, 0, 50, examples)
    own = [jax.tree.map(lambda leaf, i=i: leaf[i], learner.params) for i in range(len(seeds))]
    return [
        float((plain_forward(net, params, {}, jnp.asarray(new_x)).scores.argmax(1) == new_y).mean()) for params in own
    ]


@pytest.fixture(scope="module")
def random_features():
    return accuracies("frozen")


@pytest.mark.parametrize("name", ["bp", "fa", "dfa"])
def test_learning_below_the_readout_pays(name, random_features):
    # Clusters lie 3.3 standard deviations from the borders: .998 is possible; random features reach .6 to .75.
    assert max(random_features) < 0.85
    assert min(accuracies(name)) > 0.95
