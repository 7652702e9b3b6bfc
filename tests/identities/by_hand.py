"""Multilayer perceptrons written out in NumPy float64: what the rules are held against."""

import jax
import jax.numpy as jnp
import numpy as np

from algorithms import Batch
from lab.networks import mlp

SLOPE = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
    "linear": (lambda z: z, np.ones_like),
}
"""f and f' of each nonlinearity."""


def softmax(z):
    shifted = np.exp(z - z.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def small_mlp(*widths, act="tanh", n=6, inputs=5, classes=3, seed=0):
    """A network, its parameters with biases that are not zero, and a batch; float64 under `jax.enable_x64`."""
    net = mlp(*widths, act=act)((1, inputs, 1), classes)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), net.init(jax.random.key(0)))
    return net, params, Batch(jnp.asarray(rng.random((n, 1, inputs, 1))), jnp.asarray(rng.integers(0, classes, n)))


def numpy_tree(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


def forward(params, x, act):
    """`h_0 .. h_L` and `z_1 .. z_L`; the last block is linear."""
    f = SLOPE[act][0]
    hs, zs = [np.asarray(x, np.float64).reshape(len(x), -1)], []
    for i, block in enumerate(params.values(), 1):
        zs.append(hs[-1] @ block["kernel"] + block["bias"])
        hs.append(zs[-1] if i == len(params) else f(zs[-1]))
    return hs, zs


OUTPUT = {"ce": softmax, "mse": lambda z: z, "bce": lambda z: 1 / (1 + np.exp(-z))}
"""What each loss compares with the one-hot target; the difference is the derivative of the loss at the logits."""


def mean_loss(loss, z, y):
    """The named loss of logits of moderate size, averaged over the batch."""
    target = np.eye(z.shape[1])[np.asarray(y)]
    each = {
        "ce": lambda: np.log(np.exp(z).sum(1)) - (z * target).sum(1),
        "mse": lambda: ((z - target) ** 2).sum(1) / 2,
        "bce": lambda: (np.log1p(np.exp(z)) - z * target).sum(1),
    }[loss]()
    return each.mean()


def directions(params, x, y, act, back=None, direct=None, loss="ce", signal=lambda e, target: e):
    """Error signals and directions of all blocks.

    back: block -> the weights its error signal is sent down through (its own where none are given).
    direct: block -> the matrix (units, classes) through which it hears the output; replaces `back`.
    signal: what is sent through `direct`, from the output error of each sample and its one-hot target.
    """
    names, slope = list(params), SLOPE[act][1]
    hs, zs = forward(params, x, act)
    target = np.eye(zs[-1].shape[1])[np.asarray(y)]
    e = (OUTPUT[loss](zs[-1]) - target) / len(x)
    delta = {names[-1]: e}
    for i in range(len(names) - 2, -1, -1):
        if direct is not None:
            sent = signal(len(x) * e, target) @ direct[names[i]].T / len(x)
        else:
            above = names[i + 1]
            B = params[above]["kernel"] if back is None else back[above]["kernel"]
            sent = delta[above] @ B.T
        delta[names[i]] = sent * slope(zs[i])
    local = {name: {"kernel": hs[i].T @ delta[name], "bias": delta[name].sum(0)} for i, name in enumerate(names)}
    return delta, local


def assert_close(found, expected, rtol=1e-12):
    """Two trees of float64 arrays agree: 1e-12 is some thousand roundings, of sums of at most a hundred terms."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=rtol * np.abs(np.asarray(b)).max())


def same_bits(a, b):
    """Two trees hold the same numbers, bit for bit."""
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.asarray(u).tobytes() == np.asarray(v).tobytes()
        for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
