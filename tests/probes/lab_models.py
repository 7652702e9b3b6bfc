"""Tasks, and random and trained networks of the lab, for functional probes."""

import jax
import jax.numpy as jnp
import numpy as np

from probes.subject import Task, subject


def task_of(n=64, side=8, classes=4, seed=0, noise=0.3):
    """Noisy class patterns as images, and their labels: easy, but not without errors."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.random((classes, side, side, 1))[y] + noise * rng.standard_normal((n, side, side, 1))
    return Task(y, np.clip(x, 0.0, 1.0))


def drawn(task, model, seed, **more):
    """A network with random weights, as large as a rectifier needs them, and small biases."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.05
        return scale * rng.standard_normal(leaf.shape)

    # Shapes alone: the lab's own draws would have to be compiled for every network.
    params = jax.tree.map(draw, jax.eval_shape(model.net.init, jax.random.key(0)))
    return subject(task, model, params, **more)


def trained(task, model, seed, steps=200, rate=0.05, **more):
    """The same after gradient descent on the task itself."""
    from probes.forward import cross_entropy, doubled

    before = drawn(task, model, seed).params
    with jax.enable_x64(True):
        x, y = doubled(task.x), jnp.asarray(task.y)
        descend = jax.jit(jax.grad(lambda p: cross_entropy(model.scores(p, x), y)))
        params = doubled(before)
        for _ in range(steps):
            params = jax.tree.map(lambda p, g: p - rate * g, params, descend(params))
    return subject(task, model, jax.tree.map(np.asarray, params), initial=before, **more)
