"""Networks run by JAX: compiled once per architecture, since the model is a static argument."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probes.features import features
from probes.subject import Model, Subject


def doubled(tree: Any) -> Any:
    """Real arrays of a tree as float64; call it under `jax.enable_x64`."""

    def cast(leaf):
        leaf = jnp.asarray(leaf)
        return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)


@partial(jax.jit, static_argnums=0)
def scores(model: Model, params: Any, x: jax.Array) -> jax.Array:
    """Scores of the whole network, n × classes."""
    return model.scores(params, x)


@partial(jax.jit, static_argnums=(0, 3))
def hidden(model: Model, params: Any, x: jax.Array, layer: str) -> jax.Array:
    """Activations of a hidden layer, in their own shape."""
    return model.hidden(params, x, layer)


@partial(jax.jit, static_argnums=(0, 3))
def rest(model: Model, params: Any, h: jax.Array, layer: str) -> jax.Array:
    """Scores from activations of a hidden layer."""
    return model.rest(params, h, layer)


def cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    """`−log softmax(z)[y]`, mean over stimuli, in nats."""
    right = jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
    return (jax.nn.logsumexp(logits, axis=1) - right).mean()


def representation(s: Subject, x: jax.Array, params: Any = None) -> tuple[np.ndarray, tuple[int, ...]]:
    """The subject's layer on x as n × units, and the shape of one stimulus' activations."""
    h = np.asarray(hidden(s.model, s.params if params is None else params, x, s.layer))
    return features(h.reshape(len(h), -1), f"layer {s.layer}"), h.shape[1:]


def answers(s: Subject, h: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Predictions of the subject from n × units activations of its layer."""
    return np.asarray(rest(s.model, s.params, jnp.asarray(h.reshape(len(h), *shape)), s.layer)).argmax(axis=1)
