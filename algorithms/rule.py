"""The contract of a learning rule: what it is given, what it gives back, and what it must say about itself.

A rule turns a batch into a *direction*: pseudo-gradients shaped like the parameters. What step follows from a
direction is the optimiser's business, so every rule is trained by the same optimisers. A rule is a `NamedTuple` of
pure functions, made by a factory that checks its hyper-parameters once; its memory (feedback weights, traces) is its
own state and never part of the network's parameters, so the parameter tree is the same, leaf for leaf, for all rules.

Notation, as in the literature: block l computes `z_l = W_l h_{l-1} + b_l` and `h_l = f(z_l)`; `h_0 = x`; the last
block's `z_L` are the logits; `delta_l` is the error signal at `z_l`; `e = softmax(z_L) - onehot(y)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

Params = dict[str, Any]
"""Nested dict: block name -> {"kernel": ..., "bias": ...} (composite blocks nest deeper)."""

RuleState = Any
"""A rule's own memory: any pytree of arrays, saved in every checkpoint beside the parameters."""

Metrics = dict[str, Array]
"""Scalars of one step. "loss" is required: it is what is watched for divergence and drawn while training."""


class RuleError(ValueError):
    """A rule cannot do what was asked: a bad hyper-parameter, or a network that it is not defined for."""


class Batch(NamedTuple):
    """Inputs scaled to [0, 1] and integer labels."""

    x: Float[Array, "batch ..."]
    y: Int[Array, " batch"]


@runtime_checkable
class Block(Protocol):
    """One link of the chain. A *plain* block is one affine map and one parameter-free nonlinearity."""

    name: str
    kind: str  # "dense" or "conv" for plain blocks ("patches" for the embedding of a vit); what it is otherwise
    plain: bool
    act_name: str  # the nonlinearity, "linear" where there is none; of a composite block, the one inside
    batch_norm: bool  # whether samples of a batch see one another in training

    def affine(self, params: Params, h: Array) -> Array:
        """`z = W h + b`; weights may be `Transported`."""

    def act(self, z: Array) -> Array:
        """`h = f(z)`."""


@runtime_checkable
class Net(Protocol):
    """What a rule may know of a network."""

    blocks: Sequence[Block]
    input_shape: tuple[int, ...]
    classes: int

    def init(self, key: PRNGKeyArray) -> Params:
        """Fresh parameters."""


class Activations(NamedTuple):
    """What a network shows when it is asked, not trained.

    hidden: the rule's representation, one array per hidden block. scores: the prediction is their argmax.
    """

    hidden: tuple[Float[Array, "batch ..."], ...]
    scores: Float[Array, "batch classes"]


@dataclass(frozen=True)
class RuleInfo:
    """What a rule says about itself; `lab rules NAME` prints it.

    Attributes:
        name: short name, as in `--rule NAME`.
        title: one line in plain words.
        equation: the update, in the notation of this module.
        citation: authors, year, title, arXiv id or DOI.
        transports: what has to travel backwards or sideways for a synapse to change.
        requires: what the network must be, in words.
        deviations: where this differs from the paper, and why.
        passes: forward passes per training sample (a backward pass is counted as two); begins with the number,
            or with how it follows from the number of blocks, L.
        representation: which activations are compared, and why these.
        loss: the name in `LOSSES` of what its readout descends; rules are compared within one loss only.
        nonlinearity: what the default network gets for this rule when the user names none.
        optimizer: the kind of optimiser its learning rate is searched for; "adam" unless the rule's own theory needs
            plain descent.
        rates: the six learning rates of the search, a factor of about 3 apart, where the scale of the rule's direction
            asks for others than the optimiser's usual ones; () for these.
        credit: whether labels are meant to shape hidden blocks. A rule that assigns credit must beat `frozen`.
        random: whether it draws random numbers at every step.
        plastic: whether its own state (feedback weights, auxiliary heads) learns.
        tolerance: for a rule that settles into an equilibrium, the metric `residual` above which a phase has not come
            to rest, and training says so; None for all others.
        knob: the one setting that the search for its learning rate tries too: its name and two values beside the
            default; None for a rule without one.
    """

    name: str
    title: str
    equation: str
    citation: str
    transports: str
    requires: str
    deviations: tuple[str, ...]
    passes: str
    representation: str = "the activations of an ordinary forward pass"
    loss: str = "ce"
    nonlinearity: str = "relu"
    optimizer: str = "adam"
    rates: tuple[float, ...] = ()
    credit: bool = True
    random: bool = False
    plastic: bool = False
    tolerance: float | None = None
    knob: tuple[str, tuple[Any, Any]] | None = None


def identity(h: Array) -> Array:
    """What links two blocks of an ordinary network: nothing."""
    return h


def forward_pass(
    net: Net,
    params: Params,
    x: Array,
    taps: dict[str, Array] | None = None,
    link: Callable[[Array], Array] = identity,
) -> tuple[Array, ...]:
    """`h_1 .. h_L` of the chain; `link` is applied to what each block is given except the first.

    `taps` are zeros added to `z_l`: the derivative of a loss with respect to a tap *is* the error signal `delta_l`,
    whatever the rule does on the way back.
    """
    hs: list[Array] = []
    h = x
    for i, block in enumerate(net.blocks):
        z = block.affine(params[block.name], link(h) if i else h)
        if taps is not None:
            z = z + taps[block.name]
        h = block.act(z)
        hs.append(h)
    return tuple(hs)


def cross_entropy(scores: Float[Array, "batch classes"], y: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """`-log softmax(z)[y]` of each sample, in nats; its derivative is `e = softmax(z) - onehot(y)`."""
    return optax.softmax_cross_entropy_with_integer_labels(scores, y)


def squared_error(scores: Float[Array, "batch classes"], y: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """`||z - onehot(y)||² / 2` of each sample; its derivative is `e = z - onehot(y)`."""
    return 0.5 * jnp.sum((scores - jax.nn.one_hot(y, scores.shape[1], dtype=scores.dtype)) ** 2, axis=1)


def binary_cross_entropy(scores: Float[Array, "batch classes"], y: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """Logistic loss of each sample, summed over classes; its derivative is `e = sigmoid(z) - onehot(y)`."""
    target = jax.nn.one_hot(y, scores.shape[1], dtype=scores.dtype)
    return optax.sigmoid_binary_cross_entropy(scores, target).sum(1)


LOSSES = {"ce": cross_entropy, "mse": squared_error, "bce": binary_cross_entropy}
"""Loss of each sample from its logits and label, by the name a rule's `loss` setting takes."""


def mean_loss(loss: str, scores: Float[Array, "batch classes"], y: Int[Array, " batch"]) -> Float[Array, ""]:
    """The named loss, averaged over the batch: what is descended."""
    return LOSSES[loss](scores, y).mean()


def plain_forward(net: Net, params: Params, state: RuleState, x: Array) -> Activations:
    """The representation of a rule whose network is just a network: one forward pass."""
    del state
    *hidden, scores = forward_pass(net, params, x)
    return Activations(tuple(hidden), scores)


def objective_of(loss: str) -> Callable[[Net, Params, RuleState, Batch], Float[Array, ""]]:
    """What the exact gradient, the reference for a rule's direction, is taken of: the loss of the forward pass."""

    def objective(net, params, state, batch):
        return mean_loss(loss, plain_forward(net, params, state, batch.x).scores, batch.y)

    return objective


def no_state(key: PRNGKeyArray, net: Net, params: Params, example: Batch) -> RuleState:
    """For rules that remember nothing."""
    del key, net, params, example
    return {}


def stateless(check: Callable[[Net], None]) -> Callable[[PRNGKeyArray, Net, Params, Batch], RuleState]:
    """`init` of a rule that remembers nothing; `check` refuses networks that it is not defined for."""

    def init(key, net, params, example):
        del key, params, example
        check(net)
        return {}

    return init


def all_blocks(net: Net) -> tuple[str, ...]:
    """Names of all blocks, first to last."""
    return tuple(block.name for block in net.blocks)


class Rule(NamedTuple):
    """A learning rule: pure functions, safe under `jit`, `vmap` and `scan`.

    Attributes:
        info: what it says about itself.
        grads: `(key, net, params, state, batch) -> (pseudo-gradients like params, state, metrics)`.
        init: `(key, net, params, example) -> state`. Raises `RuleError` for a network it is not defined for.
        forward: `(net, params, state, x) -> Activations`, how the network runs when it is read.
        objective: `(net, params, state, batch) -> loss`, whose exact gradient the direction is compared with.
        errors: `(key, net, params, state, batch) -> {block: delta}`, the error signal that reaches each block per
            sample, or None for a rule that sends none.
        trains: `net -> names of the blocks that learn`; all others stay bitwise as they started.
        follow: `(updates, params, state) -> (updates, state)`, called with the step that the optimiser is about to
            take, for rules whose own weights take part in it; None for all others.
    """

    info: RuleInfo
    grads: Callable[[PRNGKeyArray, Net, Params, RuleState, Batch], tuple[Params, RuleState, Metrics]]
    init: Callable[[PRNGKeyArray, Net, Params, Batch], RuleState] = no_state
    forward: Callable[[Net, Params, RuleState, Array], Activations] = plain_forward
    objective: Callable[[Net, Params, RuleState, Batch], Array] = objective_of("ce")
    errors: Callable[[PRNGKeyArray, Net, Params, RuleState, Batch], dict[str, Array]] | None = None
    trains: Callable[[Net], tuple[str, ...]] = all_blocks
    follow: Callable[[Params, Params, RuleState], tuple[Params, RuleState]] | None = None


Surrogate = Callable[[PRNGKeyArray, Net, Params, RuleState, Batch, dict[str, Array] | None], tuple[Array, Metrics]]
"""A scalar whose derivative, taken with the rule's own backward pass, is the rule's direction; and its metrics."""


def directions(surrogate: Surrogate):
    """`grads` and `errors` of a rule that is the derivative of a surrogate.

    Returns:
        The two functions, ready for `Rule(grads=..., errors=...)`. The surrogate's taps (see `forward_pass`) give
        the error signals; training passes no taps, so they cost nothing there.
    """

    def grads(key, net, params, state, batch):
        pseudo, metrics = jax.grad(lambda p: surrogate(key, net, p, state, batch, None), has_aux=True)(params)
        return pseudo, state, metrics

    def errors(key, net, params, state, batch):
        zeros = zero_taps(net, params, batch.x)
        return jax.grad(lambda taps: surrogate(key, net, params, state, batch, taps)[0])(zeros)

    return grads, errors


def zero_taps(net: Net, params: Params, x: Array) -> dict[str, Shaped[Array, "batch ..."]]:
    """A zero for every `z_l`, in its shape, found without computing anything."""
    shapes: dict[str, Array] = {}
    h = x
    for block in net.blocks:
        z = jax.eval_shape(block.affine, params[block.name], h)
        shapes[block.name] = jnp.zeros(z.shape, z.dtype)
        h = jax.eval_shape(block.act, z)
    return shapes


def hidden_shapes(net: Net, params: Params, example: Batch) -> dict[str, jax.ShapeDtypeStruct]:
    """What every hidden block gives for the example, found without computing anything."""
    *shapes, _ = jax.eval_shape(lambda params, x: forward_pass(net, params, x), params, example.x)
    return {block.name: shape for block, shape in zip(net.blocks, shapes, strict=False)}
