"""What is measured at every evaluation: accuracy, readouts, scales, and the rule's direction beside the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from algorithms.rule import (
    LOSSES,
    Batch,
    Net,
    Params,
    Rule,
    RuleState,
    forward_pass,
    mean_loss,
    plain_forward,
)
from lab.datasets.dataset import as_float
from lab.normalisation import with_statistics
from lab.streams import EXAMINATION, stream
from lab.training import Examples, Learner, Trainer
from probes.depth import activity_norm, gradient_norm
from probes.spectrum import entropy_rank_of, participation_ratio_of, stable_rank_of

READOUT_FIT = 10_000  # training images that a layer's linear readout is fitted on ...
READOUT_FIT_WIDE = 2_000  # ... and for layers of more units than this, fitted in its dual form
DIAGNOSTIC_BATCH = 512  # training images on which directions and error signals are compared
READOUT_RIDGE = 1e-3  # ridge strength as a fraction of the mean feature variance


def ridge_readout(fit: Array, labels: Int[Array, " n"], classes: int):
    """Linear readout: ridge regression from centred features to one-hot labels.

    `W = (FᵀF + λI)⁻¹ Fᵀ Y`, or the same W through `Fᵀ(FFᵀ + λI)⁻¹ Y` when there are more features than rows; λ is
    `READOUT_RIDGE · n · (mean variance of a feature)`.

    Returns:
        A function from features to scores.
    """
    if fit.shape[1] > READOUT_FIT_WIDE:
        fit, labels = fit[:READOUT_FIT_WIDE], labels[:READOUT_FIT_WIDE]
    mean, target = fit.mean(0), jax.nn.one_hot(labels, classes)
    F, Y = fit - mean, target - target.mean(0)
    ridge = READOUT_RIDGE * (F**2).sum() / F.shape[1] + jnp.finfo(F.dtype).tiny
    if F.shape[1] <= F.shape[0]:
        W = jax.scipy.linalg.solve(F.T @ F + ridge * jnp.eye(F.shape[1]), F.T @ Y, assume_a="pos")
    else:
        W = F.T @ jax.scipy.linalg.solve(F @ F.T + ridge * jnp.eye(F.shape[0]), Y, assume_a="pos")
    return lambda features: (features - mean) @ W + target.mean(0)


def accuracy(scores: Float[Array, "n classes"], y: Int[Array, " n"]) -> Float[Array, ""]:
    """Fraction predicted right; a prediction from scores that are not finite counts as wrong."""
    right = (scores.argmax(1) == y) & jnp.isfinite(scores).all(1)
    return right.mean()


def in_chunks(function, x: Array, size: int = 500):
    """`function` of all rows of x, as stored, `size` at a time: activations of every example at once are not needed."""
    n = len(x)
    size = min(size, n)
    padded = jnp.concatenate([x, x[: -n % size]]).reshape(-1, size, *x.shape[1:])
    whole = jax.lax.map(lambda chunk: function(as_float(chunk)), padded)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], whole)


def flat(h: Array) -> Float[Array, "n units"]:
    return h.reshape(len(h), -1)


def angle_and_ratio(direction: Any, gradient: Any) -> dict[str, Array]:
    """Angle in degrees between two trees of arrays, ratio of their norms, norm of the second."""
    u, v = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (direction, gradient))
    norm_u, norm_v = jnp.linalg.norm(u), jnp.linalg.norm(v)
    # atan2 of the half-chord keeps its digits near 0 and 180 degrees, where arccos loses them; bitwise equal
    # directions give exactly 0.
    a, b = u / norm_u, v / norm_v
    angle = 2 * jnp.arctan2(jnp.linalg.norm(a - b), jnp.linalg.norm(a + b))
    return {"angle": jnp.rad2deg(angle), "norm_ratio": norm_u / norm_v, "reference_norm": norm_v}


def direction_and_gradient(rule: Rule, net: Net, key: Array, params: Params, state: RuleState, batch: Batch):
    """What a rule descends, the exact gradient of its objective, and the rule's metrics, on one batch."""
    pseudo, _, metrics = rule.grads(key, net, params, state, batch)
    gradient = jax.grad(lambda p: rule.objective(net, p, state, batch))(params)
    return pseudo, gradient, metrics


def gradient_lengths(net: Net, params: Params, loss: str, batch: Batch) -> list[Float[Array, " n"]]:
    """`‖∂L/∂h_l‖` of each sample at every hidden block of an ordinary forward pass, L the mean loss of the batch."""

    def shifted(shifts: list[Array]) -> Float[Array, ""]:
        h = batch.x
        for block, shift in zip(net.blocks, [*shifts, 0.0], strict=True):
            h = block.act(block.affine(params[block.name], h)) + shift
        return mean_loss(loss, h, batch.y)

    shapes = jax.eval_shape(lambda p, x: forward_pass(net, p, x), params, batch.x)[:-1]
    return [lengths(g) for g in jax.grad(shifted)([jnp.zeros(h.shape, h.dtype) for h in shapes])]


def lengths(h: Array) -> Float[Array, " n"]:
    """L2 norm of each row, whatever the shape of a row."""
    return jnp.linalg.norm(flat(h), axis=1)


Row = tuple[str, str, float | None]
"""(layer, metric, value): layer is "" for the whole network; None where the value is undefined (a vanished norm)."""


@dataclass(frozen=True)
class Examiner:
    """Measures a cohort; nothing here changes what is learned.

    Attributes:
        trainer: whose cohorts are measured.
        fit: training examples, on the device, that readouts are fitted and directions compared on.
    """

    trainer: Trainer
    fit: Examples

    @cached_property
    def _scores(self):
        rule, net = self.trainer.rule, self.trainer.net

        def scores(learner: Learner, fit: Examples, held_out: Examples):
            params = with_statistics(learner.params, learner.statistics)

            def forward(x):
                return rule.forward(net, params, learner.rule_state, x)

            seen = in_chunks(forward, held_out.x)
            # Scores, which cost some rules a pass per class, are not used here, so they are not computed.
            fitted = in_chunks(lambda x: forward(x).hidden, fit.x)
            layers = {}
            for name, h, g in zip(net.hidden, seen.hidden, fitted, strict=True):
                readout = ridge_readout(flat(g), fit.y, net.classes)
                layers[name] = {
                    "readout_accuracy": accuracy(readout(flat(h)), held_out.y),
                    "activation_rms": jnp.sqrt((h**2).mean()),
                }
            return accuracy(seen.scores, held_out.y), layers

        return self.trainer.over_cohort(scores, mapped=1)

    @cached_property
    def _directions(self):
        rule, net = self.trainer.rule, self.trainer.net

        def directions(learner: Learner, seed: Array, step, fit: Examples):
            params, state = learner.params, learner.rule_state
            batch = Batch(as_float(fit.x[:DIAGNOSTIC_BATCH]), fit.y[:DIAGNOSTIC_BATCH])
            key = stream(seed, EXAMINATION, step)
            pseudo, gradient, metrics = direction_and_gradient(rule, net, key, params, state, batch)
            trained = rule.trains(net)
            compared = {name: angle_and_ratio(pseudo[name], gradient[name]) for name in trained}
            errors = {} if rule.errors is None else rule.errors(key, net, params, state, batch)
            signals = {name: flat(errors[name]) for name in trained if name in errors}
            return compared, signals, {name: value for name, value in metrics.items() if name != "loss"}

        return self.trainer.over_cohort(directions, mapped=2)

    @cached_property
    def _norms(self):
        rule, net = self.trainer.rule, self.trainer.net

        def norms(learner: Learner, held_out: Examples):
            params = with_statistics(learner.params, learner.statistics)
            batch = Batch(as_float(held_out.x[:DIAGNOSTIC_BATCH]), held_out.y[:DIAGNOSTIC_BATCH])
            hidden = rule.forward(net, params, learner.rule_state, batch.x).hidden
            found = {"activation_norm": dict(zip(net.hidden, map(lengths, hidden), strict=True))}
            if rule.forward is plain_forward and rule.info.loss in LOSSES:
                gradients = gradient_lengths(net, params, rule.info.loss, batch)
                found["gradient_norm"] = dict(zip(net.hidden, gradients, strict=True))
            return found

        return self.trainer.over_cohort(norms, mapped=1)

    @cached_property
    def accuracy(self):
        """`(learner, held_out) -> accuracy` of the prediction, one for each seed of the cohort; nothing else."""
        rule, net = self.trainer.rule, self.trainer.net

        def right(learner: Learner, held_out: Examples):
            params = with_statistics(learner.params, learner.statistics)
            seen = in_chunks(lambda x: rule.forward(net, params, learner.rule_state, x).scores, held_out.x)
            return accuracy(seen, held_out.y)

        return self.trainer.over_cohort(right, mapped=1)

    def scores(self, learner: Learner, held_out: Examples, split: str) -> list[list[Row]]:
        """For each seed of the cohort: accuracy of the prediction and of every layer's readout on `held_out`.

        Args:
            split: "validation" or "test", the first word of the metrics' names.
        """
        predicted, layers = jax.device_get(self._scores(learner, self.fit, held_out))
        return [
            [
                ("", f"{split}_accuracy", float(right)),
                *(
                    (layer, f"{split}_{metric}", float(v[i]))
                    for layer, vs in layers.items()
                    for metric, v in vs.items()
                ),
            ]
            for i, right in enumerate(predicted)
        ]

    def norms(self, learner: Learner, held_out: Examples) -> list[list[Row]]:
        """For each seed: norms of the activity and of the exact gradient at each hidden block (`probes.depth`).

        On the first examples held out; no gradient for rules that read their networks in a way of their own.
        """
        found = jax.device_get(self._norms(learner, held_out))
        typical = {"activation_norm": activity_norm, "gradient_norm": gradient_norm}
        return [
            [
                (layer, f"validation_{metric}", finite(typical[metric](np.asarray(v[i], np.float64))))
                for metric, layers in found.items()
                for layer, v in layers.items()
            ]
            for i in range(self.trainer.width)
        ]

    def directions(self, learner: Learner, seeds: Array, step: int) -> list[list[Row]]:
        """For each seed: angle, norm ratio and reference norm per block, ranks of the error signal, the rule's metrics.

        Direction and gradient are taken on the same batch at the same parameters. `evaluations`, for rules that try
        networks out, is the number tried so far; `residual`, for rules that settle, is how far from rest they stopped.
        """
        compared, signals, metrics = jax.device_get(self._directions(learner, seeds, step, self.fit))
        return [self._direction_rows(i, step, compared, signals, metrics) for i in range(len(seeds))]

    def _direction_rows(self, i: int, step: int, compared, signals, metrics) -> list[Row]:
        rows = [(block, name, finite(v[i])) for block, values in compared.items() for name, v in values.items()]
        for block, delta in signals.items():
            values = singular_values(delta[i])
            for name, rank in (
                ("error_entropy_rank", entropy_rank_of),
                ("error_participation_ratio", participation_ratio_of),
                ("error_stable_rank", stable_rank_of),
            ):
                rows.append((block, name, finite(rank(values)) if values.sum() > 0 else None))
        for name, value in metrics.items():
            counted = step if name == "evaluations" else 1
            rows.append(("", name, finite(value[i] * counted)))
        return rows


def finite(value: float | np.floating) -> float | None:
    """The number, or None where it is not one."""
    return float(value) if np.isfinite(value) else None


def singular_values(delta: np.ndarray) -> np.ndarray:
    """Singular values in float64, through the smaller Gram matrix: half the digits, which is enough for a rank.

    A signal that is not finite has none: all zeros.
    """
    delta = np.asarray(delta, np.float64)
    if not np.isfinite(delta).all():
        return np.zeros(1)
    gram = delta @ delta.T if delta.shape[0] <= delta.shape[1] else delta.T @ delta
    return np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))[::-1]
