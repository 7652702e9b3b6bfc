"""Forward-forward: forward passes on true and on false data take the place of a forward and a backward pass.

Each hidden layer has a loss of its own: its *goodness*, the sum of its squared activities, is to be high for images
that carry their own label (written over the first pixels) and low for the same images with a false label:

    g_l = Σ_j h_lj²;    h_l = f(W_l normalise(h_{l-1}) + b_l)

Activity is divided by its root mean square on its way up, so that a layer sees the direction of the one below and
never its length, which is where the answer already stands. No derivative leaves a layer. To predict, every label is
tried, and the one of the largest goodness wins; or a softmax readout, which learns from the top hidden layer under a
neutral label, answers after a single pass.

    ff      the algorithm
    ffbp    its control: the same losses, but their gradient goes down through all hidden layers. What sets it apart
            from `ff` is locality alone; what sets it apart from `bp` is the loss.

What is known to matter: false labels must never be the true one, and learning is faster when they are those that
the readout finds most likely ("hard" negatives); the objective: a threshold that both passes are held
against, or, in SymBa, the pair of passes against each other, which is steeper and needs no threshold; and the
learning rate: when it is high, units fall silent and do not come back (`silent` in the metrics).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from algorithms.rule import (
    Activations,
    Batch,
    Net,
    Rule,
    RuleError,
    RuleInfo,
    cross_entropy,
    directions,
    forward_pass,
    identity,
    stateless,
    zero_taps,
)
from algorithms.settings import choice, number, require_dense

EPSILON = 1e-8  # keeps the length normalisation of a silent layer finite, and its derivative
THRESHOLD, ALPHA = 1.0, 4.0


def ff(
    objective: str = "threshold",
    threshold: float = THRESHOLD,
    alpha: float = ALPHA,
    negatives: str = "hard",
    evaluation: str = "goodness",
) -> Rule:
    """The forward-forward algorithm with labels written into the input.

    Each hidden layer of n_l units, with goodness g⁺ for true labels and g⁻ for false ones, descends one of

        "threshold":  loss_l = softplus(n_l·threshold - g⁺) + softplus(g⁻ - n_l·threshold)
        "symba":      loss_l = softplus(-alpha (g⁺ - g⁻) / n_l)

    and nothing is sent from layer to layer but normalised activity. The last block is the softmax readout of Hinton's
    section 3.3: it learns by its own local gradient from the top hidden layer under the neutral label.

    Args:
        objective: what a layer's loss is: "threshold" (Hinton) or "symba" (Lee & Song).
        threshold: goodness per unit at which a layer is undecided; of the objective "threshold".
        alpha: steepness in the difference of goodness per unit; of the objective "symba".
        negatives: how false labels are drawn: "hard", by the probabilities that the readout gives them under the
            neutral label, or "uniform".
        evaluation: what a prediction is read from: "goodness", summed over all hidden layers; "upper", the same
            without the first layer; "readout", the softmax readout under the neutral label.

    Metrics: `silent`, the fraction of hidden units that are zero for all images of the step.
    References: Hinton (2022), arXiv:2212.13345; SymBa: Lee & Song (2023), arXiv:2303.08418.
    """
    return goodness_rule(FF, jax.lax.stop_gradient, objective, threshold, alpha, negatives, evaluation)


def ffbp(
    objective: str = "threshold",
    threshold: float = THRESHOLD,
    alpha: float = ALPHA,
    negatives: str = "hard",
    evaluation: str = "goodness",
) -> Rule:
    """Control: forward-forward's losses, with their gradient sent back through all hidden layers.

    dW_k = ∂(Σ_l loss_l) / ∂W_k over all layers l ≥ k, where forward-forward takes loss_k alone. The readout learns
    locally in both.

    Args:
        objective, threshold: as for `ff`.
        alpha, negatives, evaluation: as for `ff`.
    """
    return goodness_rule(FFBP, identity, objective, threshold, alpha, negatives, evaluation)


def goodness_rule(
    info: RuleInfo,
    between: Callable[[Array], Array],
    objective: str,
    threshold: float,
    alpha: float,
    negatives: str,
    evaluation: str,
) -> Rule:
    """What `ff` and its control share.

    Args:
        between: applied to each hidden activity on its way up in training; where it stops gradients, losses are local.
    """
    name = info.name
    choice(name, "objective", objective, ("threshold", "symba"))
    threshold, alpha = number(name, "threshold", threshold), number(name, "alpha", alpha)
    for setting, value, default, its in (
        ("threshold", threshold, THRESHOLD, "threshold"),
        ("alpha", alpha, ALPHA, "symba"),
    ):
        if value != default and objective != its:
            raise RuleError(f"{name}: {setting} belongs to objective={its} and changes nothing under {objective}")
    choice(name, "negatives", negatives, ("hard", "uniform"))
    choice(name, "evaluation", evaluation, ("goodness", "upper", "readout"))

    def check(net: Net):
        require_room_for_labels(name, net)
        if evaluation == "upper" and len(net.blocks) < 3:
            raise RuleError(
                f"{name}(evaluation=upper) reads all hidden layers but the first, and there is only one; "
                "use --arch 'mlp(256,128)' or evaluation=goodness"
            )

    def hidden(net: Net, params, x, label, taps=None, between=identity):
        """`h_1 .. h_L` for inputs that carry `label`."""
        return forward_pass(net, params, normalise(overlay(x, label)), taps, link=lambda h: normalise(between(h)))

    def loss_of(h: Float[Array, "twice_the_batch units"]) -> Float[Array, ""]:
        """One layer's loss from its activities in both passes, true labels first."""
        true, false = jnp.split(goodness(h), 2)
        units = h.shape[1]
        if objective == "symba":
            return jax.nn.softplus(-alpha * (true - false) / units).mean()
        level = units * threshold
        return (jax.nn.softplus(level - true) + jax.nn.softplus(false - level)).mean()

    def surrogate(key, net: Net, params, state, batch: Batch, taps):
        del state
        n, classes, top = len(batch.y), net.classes, net.blocks[-1]
        neutral = jax.lax.stop_gradient(hidden(net, params, batch.x, no_label(batch.x, classes))[-2])
        z = top.affine(params[top.name], normalise(neutral))
        readout = cross_entropy(z if taps is None else z + taps[top.name][:n], batch.y).mean()
        false = false_labels(key, batch.y, z if negatives == "hard" else jnp.zeros_like(z))
        labels = jax.nn.one_hot(jnp.concatenate([batch.y, false]), classes, dtype=batch.x.dtype)
        hs = hidden(net, params, jnp.concatenate([batch.x, batch.x]), labels, taps, between)[:-1]
        loss = sum(loss_of(h) for h in hs)
        silent = jnp.concatenate([(h == 0).all(0) for h in hs]).mean()
        return loss + readout, {"loss": loss, "readout_loss": readout, "silent": silent}

    def forward(net: Net, params, state, x):
        del state
        *seen, logits = hidden(net, params, x, no_label(x, net.classes))

        def tried(code):
            hs = hidden(net, params, x, jnp.broadcast_to(code, (len(x), net.classes)))[:-1]
            return sum(goodness(h) for h in (hs[1:] if evaluation == "upper" else hs))

        codes = jnp.eye(net.classes, dtype=x.dtype)
        scores = logits if evaluation == "readout" else jax.lax.map(tried, codes).T
        return Activations(tuple(seen), scores)

    def readout_loss(net: Net, params, state, batch: Batch):
        del state
        logits = hidden(net, params, batch.x, no_label(batch.x, net.classes))[-1]
        return cross_entropy(logits, batch.y).mean()

    grads, _ = directions(surrogate)

    def errors(key, net: Net, params, state, batch: Batch):
        # A hidden layer hears two signals, one per pass; they are stacked, true labels first, never added up.
        both = zero_taps(net, params, jnp.concatenate([batch.x, batch.x]))
        signals = jax.grad(lambda taps: surrogate(key, net, params, state, batch, taps)[0])(both)
        top = net.blocks[-1].name
        return {**signals, top: signals[top][: len(batch.y)]}

    return Rule(info=info, grads=grads, errors=errors, init=stateless(check), forward=forward, objective=readout_loss)


def overlay(x: Float[Array, "batch ..."], label: Float[Array, "batch classes"]) -> Float[Array, "batch ..."]:
    """Write the label code over the first `classes` entries of each input (the border of an image)."""
    flat = x.reshape(len(x), -1)
    return flat.at[:, : label.shape[1]].set(label).reshape(x.shape)


def normalise(h: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
    """Divide each sample by its root mean square: the next layer sees the direction of h, never its length."""
    axes = tuple(range(1, h.ndim))
    return h / jnp.sqrt(jnp.mean(h**2, axis=axes, keepdims=True) + EPSILON**2)


def goodness(h: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    """`g = Σ_j h_j²` of each sample."""
    return jnp.sum(h.reshape(len(h), -1) ** 2, axis=1)


def no_label(x: Float[Array, "batch ..."], classes: int) -> Float[Array, "batch classes"]:
    """The neutral label for every input: all classes equally likely."""
    return jnp.full((len(x), classes), 1 / classes, x.dtype)


def false_labels(key: PRNGKeyArray, y: Int[Array, " batch"], z: Float[Array, "batch classes"]) -> Int[Array, " batch"]:
    """A label for each image, drawn from `softmax(z)` over all labels but its own."""
    own = jax.nn.one_hot(y, z.shape[1], dtype=bool)
    return jax.random.categorical(key, jnp.where(own, -jnp.inf, z))


def require_room_for_labels(rule: str, net: Net) -> None:
    """Refuse networks whose first layer cannot see the label code everywhere, or whose input has no room for it."""
    require_dense(rule, net, "the label is written into the first pixels, which only a dense layer sees at every unit")
    if math.prod(net.input_shape) < net.classes:
        raise RuleError(
            f"{rule} writes one pixel per class into the input, but the input has only {math.prod(net.input_shape)} "
            f"entries for {net.classes} classes; use another rule for this data set"
        )


FF = RuleInfo(
    name="ff",
    title="forward-forward: raise goodness on true labels, lower it on false ones",
    equation="loss_l = softplus(n theta - g+) + softplus(g- - n theta);  g = sum_j h_j^2;  "
    "h_l = f(W_l h_{l-1} / rms(h_{l-1}) + b_l)",
    citation="Hinton (2022), The forward-forward algorithm: some preliminary investigations, arXiv:2212.13345",
    transports="nothing backwards; the label travels forward inside the input",
    requires="dense blocks and an input with at least as many entries as classes",
    deviations=(
        "all layers learn at once, from the common initialiser, with the run's optimiser",
        "no peer normalisation of mean activities, which the original uses to keep units from falling silent, and no "
        "leak in their derivative: the metric `silent` says how many are",
        "the softmax readout sees the top hidden layer alone, not all layers but the first: the network is a chain",
        "a prediction counts the goodness of the first hidden layer too, since it may be the only one "
        "(evaluation=upper leaves it out, as the original does)",
        "objective=symba: labels are written into the input as in forward-forward, not added as patterns of their "
        "class; goodness is taken per unit, so that alpha means the same at every width",
    ),
    passes="7 (positive, negative and neutral forward passes, a local backward pass for the first two); "
    "one pass per class to predict",
    representation="hidden activities, before length normalisation, with the neutral label 1/classes in the label "
    "pixels, so that nothing read from them can come from a label in the input",
    random=True,
    knob=("threshold", (0.5, 2.0)),
)

FFBP = replace(
    FF,
    name="ffbp",
    title="control: backpropagation of forward-forward's own losses through all hidden layers",
    equation="dW_k = sum over l >= k of d loss_l / d W_k;  loss_l and h_l as in ff",
    citation="none: a control of this lab for Hinton (2022), The forward-forward algorithm, arXiv:2212.13345",
    transports="the error of every layer's loss, through the transpose of the forward weights",
    deviations=("everything but the gradient's reach is as in `ff`",),
    passes="7 (positive, negative and neutral forward passes, a backward pass for the first two); one pass per class "
    "to predict",
)
