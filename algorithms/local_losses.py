"""Local losses: every block has a loss of its own, and no error ever crosses from one block to another.

Backpropagation gives all blocks one loss and carries its error through every weight above. Here a block is judged on
the spot. Between blocks the gradient is stopped, `h_l = f(W_l sg(h_{l-1}) + b_l)`, and block l descends a loss that
can be computed from h_l, the labels and perhaps a small auxiliary *head*, which learns beside the block, with an
optimiser of its own, and is thrown away in the end:

    pred      cross-entropy of a linear classifier on h_l: what the block knows must be there to be read off
    sim       |S(h_l) - S(y)|²: samples of one class must look alike, and samples of two classes must not;
              S is the matrix of all pairs' centred cosine similarity
    predsim   a weighted sum of the two

The last block is the network's readout and descends the ordinary loss from an input whose gradient is stopped. All
blocks can learn at once (`local`) or one after another, each on the finished output of the last (`greedy`). Such
losses train networks about as well as backpropagation does, at about its cost: what they give up is that a lower block
never hears what an upper one could have done with it. What is known to matter: the head (it must learn fast enough to
be worth listening to); a similarity between projections of h_l rather than between the h_l themselves; batches large
enough to hold several samples of every class, since S compares samples.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from algorithms.rule import (
    Batch,
    Net,
    Params,
    Rule,
    RuleError,
    RuleInfo,
    RuleState,
    Surrogate,
    cross_entropy,
    directions,
    forward_pass,
    hidden_shapes,
    mean_loss,
)
from algorithms.settings import choice, number, whole

KINDS = ("predsim", "pred", "sim")
BETA, WIDTH = 0.9, 64  # what they are unless said otherwise
EPSILON = 1e-6
"""Added in quadrature to a length that is divided by, so that a sample whose units all agree has a derivative."""
FEW = 3
"""Up to so many channels, places are compared one by one and not by each channel's spread over them."""

Heads = dict[str, Any]
"""Block name -> the auxiliary weights of that block."""


def learning_heads(surrogate: Surrogate, optimizer: optax.GradientTransformation):
    """`grads` and `errors` of a rule whose surrogate has auxiliary heads, `state["heads"]`, that descend it as well.

    The heads' optimiser keeps its memory in `state["optimizer"]`; whatever else is in the state is left as it is.
    """

    def grads(key, net: Net, params: Params, state: RuleState, batch: Batch):
        def value(params: Params, heads: Heads):
            return surrogate(key, net, params, {**state, "heads": heads}, batch, None)

        (pseudo, slope), metrics = jax.grad(value, argnums=(0, 1), has_aux=True)(params, state["heads"])
        return pseudo, heads_moved(optimizer, state, slope), metrics

    return grads, directions(surrogate)[1]


def heads_moved(optimizer: optax.GradientTransformation, state: RuleState, slope: Heads) -> RuleState:
    """The state after the heads' own optimiser has made a step against `slope`."""
    updates, memory = optimizer.update(slope, state["optimizer"], state["heads"])
    return {**state, "heads": optax.apply_updates(state["heads"], updates), "optimizer": memory}


def classifier(shape: jax.ShapeDtypeStruct, classes: int) -> Params:
    """A linear classifier of a block's flattened output, all zero: it begins by saying nothing."""
    # Heads are (outputs, inputs), so that their gradients are dᵀ h with few rows: XLA on a CPU takes twice as long, and
    # for classifiers five times, for hᵀ d with few columns.
    units = math.prod(shape.shape[1:])
    return {"kernel": jnp.zeros((classes, units), shape.dtype), "bias": jnp.zeros(classes, shape.dtype)}


def class_scores(head: Params, h: Float[Array, "batch ..."]) -> Float[Array, "batch classes"]:
    """What a linear classifier reads from a block's output."""
    return h.reshape(len(h), -1) @ head["kernel"].T + head["bias"]


def classify(head: Params, h: Float[Array, "batch ..."], y: Int[Array, " batch"]) -> Float[Array, ""]:
    """Mean cross-entropy of a linear classifier of h."""
    return cross_entropy(class_scores(head, h), y).mean()


def unit_rows(h: Float[Array, "batch features"]) -> Float[Array, "batch features"]:
    """U: each sample less the mean over its own features, at length 1, so that U Uᵀ are cosines."""
    c = h - h.mean(1, keepdims=True)
    return c * jax.lax.rsqrt(jnp.sum(c**2, axis=1, keepdims=True) + EPSILON**2)


def spread(h: Float[Array, "batch ... channels"]) -> Float[Array, "batch features"]:
    """Features to compare: the units of a dense block, and the standard deviation over places of each channel."""
    places = math.prod(h.shape[1:-1])
    if places == 1 or h.shape[-1] <= FEW:
        return h.reshape(len(h), -1)
    return jnp.sqrt(h.reshape(len(h), places, -1).var(1) + EPSILON**2)


def similarity_loss(features: Float[Array, "batch features"], y: Int[Array, " batch"], classes: int):
    """Mean square of `S(features) - S(onehot(y))` over all pairs, a sample with itself included.

    S is the cosine of every two samples, each less the mean over its own features.
    """
    return unlikeness(unit_rows(features), y, classes) / len(y) ** 2


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def unlikeness(U: Float[Array, "batch features"], y: Int[Array, " batch"], classes: int) -> Float[Array, ""]:
    """`|S - T|²` for S = U Uᵀ and, of the labels, T = V Vᵀ."""
    return unlikeness_and_slope(U, y, classes)[0]


@unlikeness.defjvp
def unlikeness_along(classes, primals, tangents):
    """With the slope written out: JAX does not see that S is symmetric, and would multiply twice as often."""
    value, slope = unlikeness_and_slope(*primals, classes)
    return value, jnp.sum(slope * tangents[0])


def unlikeness_and_slope(U, y, classes):
    """`|S - T|² = |UᵀU|² - 2 |UᵀV|² + |VᵀV|²`, which is cheaper where features are fewer than samples.

    Its derivative by U is `4 (S - T) U = 4 (U UᵀU - V VᵀU)`.
    """
    V = unit_rows(jax.nn.one_hot(y, classes, dtype=U.dtype))
    shared = V.T @ U
    if U.shape[0] > U.shape[1]:
        own = U.T @ U
        pulled = U @ own
    else:
        own = U @ U.T  # of the same norm
        pulled = own @ U
    value = jnp.sum(own**2) - 2 * jnp.sum(shared**2) + jnp.sum((V.T @ V) ** 2)
    return value, 4 * (pulled - V @ shared)


def local(kind: str = "predsim", beta: float = BETA, width: int = WIDTH, rate: float = 3e-3) -> Rule:
    """Local supervised losses, all blocks at once.

    loss_l = (1 - beta) CE(V_l h_l + c_l, y) + beta mean_ij (S(P_l h_l)_ij - S(y)_ij)²;  dW_l = ∂ loss_l / ∂ W_l

    Only block l's weights and its head (V_l, c_l, P_l) descend loss_l; the readout descends the cross-entropy.

    Args:
        kind: "predsim" for the sum above, "pred" for its first loss alone, "sim" for its second alone.
        beta: weight of the similarity loss in predsim, 0 to 1.
        width: units of the projection P_l on which similarity is measured; no more than the block has.
        rate: learning rate of the heads' own Adam, which is not annealed.

    State: the heads and the memory of their optimiser.

    Reference: Nøkland & Eidnes (2019), Training neural networks with local error signals, arXiv:1901.06656.
    """
    choice("local", "kind", kind, KINDS)
    beta = number("local", "beta", beta, high=1.0, closed=True)
    whole("local", "width", width)
    for name, value, default, kinds in (
        ("beta", beta, BETA, ("predsim",)),
        ("width", width, WIDTH, ("predsim", "sim")),
    ):
        if kind not in kinds and value != default:
            raise RuleError(f"local: kind={kind} has no {name}; give it with kind={' or kind='.join(kinds)}")
    optimizer = optax.adam(number("local", "rate", rate))
    weight_pred, weight_sim = {"predsim": (1 - beta, beta), "pred": (1.0, 0.0), "sim": (0.0, 1.0)}[kind]

    def init(key, net: Net, params: Params, example: Batch):
        heads: Heads = {}
        for i, (name, shape) in enumerate(hidden_shapes(net, params, example).items()):
            units = shape.shape[-1]
            draw = jax.random.normal(jax.random.fold_in(key, i), (units, min(width, units)), shape.dtype)
            parts = {"pred": classifier(shape, net.classes), "sim": draw.T / math.sqrt(units)}
            heads[name] = {part: weights for part, weights in parts.items() if part in kind}  # predsim has both
        return {"heads": heads, "optimizer": optimizer.init(heads)}

    def surrogate(key, net: Net, params: Params, state: RuleState, batch: Batch, taps):
        del key
        *hidden, scores = forward_pass(net, params, batch.x, taps, link=jax.lax.stop_gradient)
        total = jnp.zeros((), scores.dtype)
        for block, h in zip(net.blocks, hidden, strict=False):
            head = state["heads"][block.name]
            if "pred" in head:
                total += weight_pred * classify(head["pred"], h, batch.y)
            if "sim" in head:
                total += weight_sim * similarity_loss(spread(h @ head["sim"].T), batch.y, net.classes)
        readout = mean_loss("ce", scores, batch.y)
        return total + readout, {"loss": readout, "local_loss": total}

    grads, errors = learning_heads(surrogate, optimizer)
    return Rule(info=LOCAL, grads=grads, errors=errors, init=init)


LOCAL = RuleInfo(
    name="local",
    title="local supervised losses: prediction and similarity, all blocks at once",
    equation="loss_l = (1 - beta) CE(V_l h_l + c_l, y) + beta mean (S(P_l h_l) - S(y))^2;  dW_l = d loss_l / d W_l;  "
    "S = centred cosine similarity of all pairs of samples",
    citation="Nøkland & Eidnes (2019), Training neural networks with local error signals, arXiv:1901.06656",
    transports="the label to every block; an error through one linear head, never from block to block",
    requires="any network",
    deviations=(
        "beta is .9, chosen on plain networks; the paper's .99 is for batch norm, dropout and jittered images",
        "similarity is measured on 64 projected units, which is cheaper, and in the paper on as many as the block has",
        "feature maps are projected by a 1×1 convolution and not by a 3×3 one",
        "the linear classifier reads whole feature maps, never pooled ones",
        "heads learn with an Adam of their own at a constant rate, and in the paper with their block's",
        "no dropout, no label smoothing, no jitter; batch norm only where the network has it",
    ),
    passes="3 (one forward, one backward through each block and its head)",
    plastic=True,
    knob=("beta", (0.5, 0.99)),
)


def greedy(steps: int = 1000, rate: float = 3e-3) -> Rule:
    """Greedy layer-wise training: one hidden block after another, each with an auxiliary classifier.

    loss_l = CE(V_l h_l + c_l, y) while `steps (l - 1) <= t < steps l`, otherwise dW_l = 0

    The last hidden block's classifier is the network's readout, and its turn lasts to the end of training. Until then
    the readout follows, from an input whose gradient is stopped, so that there is a prediction at any time. With one
    hidden layer this is backpropagation.

    Args:
        steps: training steps of each hidden block but the last.
        rate: learning rate of the auxiliary classifiers' own Adam, which is not annealed.

    State: the auxiliary classifiers and the memory of their optimiser; steps taken; whose turn the last step was.

    Reference: Belilovsky, Eickenberg & Oyallon (2019), Greedy layerwise learning can scale to ImageNet,
        arXiv:1812.11446.
    """
    whole("greedy", "steps", steps)
    optimizer = optax.adam(number("greedy", "rate", rate))

    def turns(net: Net, step: Int[Array, ""]) -> dict[str, Array]:
        """Hidden block -> whether it is its turn."""
        hidden = [block.name for block in net.blocks[:-1]]
        turn = jnp.minimum(step // steps, len(hidden) - 1)
        return {name: turn == i for i, name in enumerate(hidden)}

    def init(key, net: Net, params: Params, example: Batch):
        del key
        shapes = hidden_shapes(net, params, example)
        heads = {block.name: classifier(shapes[block.name], net.classes) for block in net.blocks[:-2]}
        step = jnp.zeros((), jnp.int32)
        return {"heads": heads, "optimizer": optimizer.init(heads), "step": step, "turn": turns(net, step)}

    def surrogate(key, net: Net, params: Params, state: RuleState, batch: Batch, taps):
        del key
        turn, top = turns(net, state["step"]), net.blocks[-1]
        # The last block's logits are computed below, where they may send an error to the block before.
        hidden = forward_pass(net, params, batch.x, taps, link=jax.lax.stop_gradient)[:-1]
        total = jnp.zeros((), jnp.result_type(batch.x))
        for block, h in zip(net.blocks[:-2], hidden, strict=False):
            total += jnp.where(turn[block.name], classify(state["heads"][block.name], h, batch.y), 0)
        h = batch.x
        if hidden:
            h = jnp.where(turn[net.blocks[-2].name], hidden[-1], jax.lax.stop_gradient(hidden[-1]))
        z = top.affine(params[top.name], h)
        readout = mean_loss("ce", top.act(z if taps is None else z + taps[top.name]), batch.y)
        return total + readout, {"loss": readout, "local_loss": total}

    learn, errors = learning_heads(surrogate, optimizer)

    def grads(key, net: Net, params: Params, state: RuleState, batch: Batch):
        pseudo, state, metrics = learn(key, net, params, state, batch)
        return pseudo, {**state, "step": state["step"] + 1, "turn": turns(net, state["step"])}, metrics

    def follow(updates: Params, params: Params, state: RuleState):
        """No step for a block whose turn it is not: an optimiser's momentum or decay would still move it."""
        del params
        turn = state["turn"]
        still = {
            name: jax.tree.map(lambda u, on=on: jnp.where(on, u, jnp.zeros_like(u)), updates[name])
            for name, on in turn.items()
        }
        return {**updates, **still}, state

    return Rule(info=GREEDY, grads=grads, errors=errors, init=init, follow=follow)


GREEDY = RuleInfo(
    name="greedy",
    title="greedy layer-wise training: one hidden block after another",
    equation="loss_l = CE(V_l h_l + c_l, y) while steps (l-1) <= t < steps l, otherwise dW_l = 0;  "
    "the last hidden block and the readout descend CE together, to the end",
    citation="Belilovsky, Eickenberg & Oyallon (2019), Greedy layerwise learning can scale to ImageNet, "
    "arXiv:1812.11446",
    transports="the label to the block whose turn it is; an error through one linear classifier",
    requires="any network; training of more steps than the turns of all hidden blocks but the last",
    deviations=(
        "auxiliary classifiers are linear (k = 1 of the paper's auxiliary problems), without pooling",
        "one run's optimiser and annealed rate for all turns: a block whose turn comes late learns at a lower rate, "
        "and an Adam that has counted the steps before does not correct the bias of its first steps",
        "the readout learns at every step and not from its turn on",
    ),
    passes="3 (one forward, one backward through the block whose turn it is; all blocks are computed and masked)",
    plastic=True,
    knob=("rate", (1e-3, 1e-2)),
)
