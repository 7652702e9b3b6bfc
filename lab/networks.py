"""The networks: chains of plain blocks, each one affine map and one parameter-free nonlinearity.

Layers are defined with `flax.nnx`, which draws their weights; everything after construction is plain JAX on nested
dicts. Both networks are chains of `PlainBlock`s, so every rule can reach `z = W h + b` and `h = f(z)` separately.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from algorithms.transport import bilinear
from lab.errors import UsageError

NONLINEARITIES = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "gelu": jax.nn.gelu,
    "leaky_relu": jax.nn.leaky_relu,
    "linear": lambda z: z,
}

# Variance of W is gain / fan_in, so that activations keep their scale through the nonlinearity (He et al. 2015,
# arXiv:1502.01852 for rectifiers; gain 1, LeCun et al. 1998, for the others).
RECTIFIERS = ("relu", "gelu", "leaky_relu")


def _kernel_init(act: str):
    return nnx.initializers.variance_scaling(2.0 if act in RECTIFIERS else 1.0, "fan_in", "normal")


class Dense(nnx.Module):
    """`z = flatten(h) W + b`, W of shape (units in, units out)."""

    def __init__(self, n_in: int, n_out: int, act: str, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_kernel_init(act)(rngs.params(), (n_in, n_out)))
        self.bias = nnx.Param(jnp.zeros(n_out))

    def __call__(self, h: Array) -> Array:
        return bilinear(jnp.matmul, h.reshape(len(h), -1), self.kernel.get_value()) + self.bias.get_value()


def convolve(h: Array, W: Array) -> Array:
    """Convolution of N×H×W×C images with a height×width×in×out kernel, stride 1, no padding.

    Written as shifted windows times a matrix: on a CPU, XLA runs the convolution primitive inside a compiled loop
    without its fast kernels, and this form is ten times faster there (`python -m tests.bench conv`).
    """
    height, width, _, n_out = W.shape
    rows, columns = h.shape[1] - height + 1, h.shape[2] - width + 1
    windows = [h[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)]
    return jnp.concatenate(windows, axis=-1) @ W.reshape(-1, n_out)


class Conv(nnx.Module):
    """`z = h * W + b`, W of shape (kernel, kernel, channels in, channels out)."""

    def __init__(self, kernel: int, n_in: int, n_out: int, act: str, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_kernel_init(act)(rngs.params(), (kernel, kernel, n_in, n_out)))
        self.bias = nnx.Param(jnp.zeros(n_out))

    def __call__(self, h: Array) -> Array:
        return bilinear(convolve, h, self.kernel.get_value()) + self.bias.get_value()


def mean_pool(h: Array, size: int) -> Array:
    """Mean over non-overlapping size×size windows; rows and columns that fill no window are dropped."""
    if size == 1:
        return h
    window = (1, size, size, 1)
    return jax.lax.reduce_window(h, 0.0, jax.lax.add, window, window, "VALID") / size**2


@dataclass(frozen=True)
class PlainBlock:
    """One affine map (`kind` says which) followed by a nonlinearity and, for convolutions, mean pooling."""

    name: str
    kind: str
    act_name: str
    sizes: tuple[int, ...]  # what the layer's constructor takes before `act`
    pool: int = 1
    plain: bool = True

    def layer(self, rngs: nnx.Rngs) -> nnx.Module:
        return (Dense if self.kind == "dense" else Conv)(*self.sizes, self.act_name, rngs)

    def init(self, key: Array) -> dict[str, Array]:
        """Fresh parameters: a normal kernel and a zero bias."""
        return nnx.to_pure_dict(nnx.state(self.layer(nnx.Rngs(params=key)), nnx.Param))

    def affine(self, params: dict[str, Any], h: Array) -> Array:
        graph = nnx.graphdef(nnx.eval_shape(lambda: self.layer(nnx.Rngs(0))))
        return nnx.merge(graph, params)(h)

    def act(self, z: Array) -> Array:
        return mean_pool(NONLINEARITIES[self.act_name](z), self.pool)


@dataclass(frozen=True)
class Network:
    """A chain of blocks that ends in linear logits.

    Attributes:
        blocks: first to last; hidden blocks are `dense1`, `conv1`, ...; the last is `output`.
        input_shape: (height, width, channels) of one input.
        classes: number of logits.
    """

    blocks: tuple[PlainBlock, ...]
    input_shape: tuple[int, ...]
    classes: int

    def init(self, key: Array) -> dict[str, dict[str, Array]]:
        """Parameters of every block; block i's depend on the key and on i alone, not on what follows it."""
        return {block.name: block.init(jax.random.fold_in(key, i)) for i, block in enumerate(self.blocks)}

    @property
    def hidden(self) -> tuple[str, ...]:
        """Names of the hidden blocks, whose activations are the network's representation."""
        return tuple(block.name for block in self.blocks[:-1])


def _check(arch: str, act: str, **sizes: int) -> None:
    if act not in NONLINEARITIES:
        raise UsageError(f"{arch}: unknown nonlinearity act={act!r}; known are {', '.join(NONLINEARITIES)}")
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise UsageError(f"{arch}: {name} must be a whole number above 0, not {size!r}")


def _dense_chain(n_in: int, widths: tuple[int, ...], act: str, classes: int) -> tuple[PlainBlock, ...]:
    ends = (n_in, *widths)
    hidden = [PlainBlock(f"dense{i}", "dense", act, ends[i - 1 : i + 1]) for i in range(1, len(ends))]
    return (*hidden, PlainBlock("output", "dense", "linear", (ends[-1], classes)))


def mlp(*widths: int, act: str = "relu"):
    """Multilayer perceptron: `mlp(256,128)` is 784-256-128-10 on MNIST. No widths: a linear classifier.

    Args:
        widths: units of each hidden layer.
        act: nonlinearity of the hidden layers.
    """
    _check("mlp", act, **{f"width {i}": width for i, width in enumerate(widths, 1)})

    def build(input_shape: tuple[int, ...], classes: int) -> Network:
        return Network(_dense_chain(math.prod(input_shape), widths, act, classes), input_shape, classes)

    return build


def conv(*channels: int, dense: tuple[int, ...] = (120, 84), kernel: int = 5, pool: int = 2, act: str = "relu"):
    """Convolutional network of LeNet's size: `conv(6,16)` has two 5×5 convolutions, each mean-pooled by 2.

    Args:
        channels: output channels of each convolution (stride 1, no padding, no batch norm).
        dense: units of the dense hidden layers behind them.
        kernel: height and width of every kernel.
        pool: height and width of the mean pooling behind every convolution; 1 for none.
        act: nonlinearity of the hidden layers.
    """
    if not isinstance(dense, tuple | list):
        dense = (dense,)
    sizes = {f"channels {i}": c for i, c in enumerate(channels, 1)} | {f"dense {i}": d for i, d in enumerate(dense, 1)}
    _check("conv", act, **sizes, kernel=kernel, pool=pool)
    if not channels:
        raise UsageError("conv: give the channels of at least one convolution, as in conv(6,16)")

    def build(input_shape: tuple[int, ...], classes: int) -> Network:
        if len(input_shape) != 3:
            raise UsageError(f"conv needs images (height, width, channels), but inputs have shape {input_shape}")
        height, width, n_in = input_shape
        blocks = []
        for i, n_out in enumerate(channels, 1):
            height, width = ((side - kernel + 1) // pool for side in (height, width))
            if min(height, width) < 1:
                raise UsageError(
                    f"conv: nothing is left of a {input_shape[0]}×{input_shape[1]} image after convolution {i}; "
                    "use fewer convolutions, a smaller kernel or less pooling"
                )
            blocks.append(PlainBlock(f"conv{i}", "conv", act, (kernel, n_in, n_out), pool))
            n_in = n_out
        chain = _dense_chain(height * width * n_in, tuple(dense), act, classes)
        return Network((*blocks, *chain), input_shape, classes)

    return build


ARCHITECTURES = {"mlp": mlp, "conv": conv}
"""Every network by the name its call string starts with."""
