"""Small changes of the input that change the answer: how near they are, and whether two networks share them.

Attacks use the exact derivative of the forward pass, whatever rule trained the network: a rule that sends no true
gradients would otherwise look robust.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probes.forward import scores
from probes.probe import FunctionalProbe, ProbeError, ProbeInfo, Undefined, non_negative, positive_integer
from probes.subject import Subject, Task, functional_probe


def _margin(scores: jax.Array, y: jax.Array) -> jax.Array:
    """Score of the right class less the largest other one, of each stimulus."""
    right = jax.nn.one_hot(y, scores.shape[1], dtype=bool)
    return jnp.where(right, scores, 0.0).sum(axis=1) - jnp.where(right, -jnp.inf, scores).max(axis=1)


def _lengths(x: jax.Array) -> jax.Array:
    """L2 norm of each stimulus, shaped to divide it."""
    return jnp.sqrt((x**2).sum(axis=tuple(range(1, x.ndim)), keepdims=True))


@partial(jax.jit, static_argnums=(0, 5, 6))
def attacked(model: Any, params: Any, x: jax.Array, y: jax.Array, epsilon: float, steps: int, box: tuple | None):
    """Stimuli within L2 distance epsilon of x that lower the margin: `steps` normalised gradient steps, projected.

    Normalising each stimulus' gradient makes the step independent of the scale of the scores.
    """
    step = epsilon if steps == 1 else 2.5 * epsilon / steps

    def once(_, moved):
        slope = jax.grad(lambda at: _margin(model.scores(params, at), y).sum())(moved)
        # A gradient may be below 1e-154, whose square is 0: bring its largest entry to 1 first.
        slope /= jnp.maximum(jnp.abs(slope).max(axis=tuple(range(1, x.ndim)), keepdims=True), jnp.finfo(x.dtype).tiny)
        moved = moved - step * slope / jnp.maximum(_lengths(slope), jnp.finfo(x.dtype).tiny)
        away = moved - x
        moved = x + away * jnp.minimum(1.0, epsilon / jnp.maximum(_lengths(away), jnp.finfo(x.dtype).tiny))
        # x lies in the box, so cutting at its sides brings a point nearer to x, never farther.
        return moved if box is None else jnp.clip(moved, *box)

    return jax.lax.fori_loop(0, steps, once, x)


def _checked_box(box: Any) -> tuple[float, float] | None:
    if box is None:
        return None
    try:
        low, high = (float(end) for end in box)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        raise ProbeError(f"box={box!r} must be the smallest and largest value of an input, as in (0, 1), or None.")
    return low, high


def adversarial_transfer(
    epsilon: float = 1.0, steps: int = 10, box: tuple[float, float] | None = (0.0, 1.0)
) -> FunctionalProbe:
    """How many adversarial examples made on A also fool B, relative to those made on B itself.

        x' = argmin margin_A within ‖x' − x‖₂ ≤ ε;   rate = P(B wrong at x'_A)/P(B wrong at x'_B)

    margin = right score − largest other; `steps` projected steps along its normalised gradient (1: a single step of
    length ε), no random start. Only stimuli that both networks classify right count. Returns value (rate), transferred
    (P(B wrong at x'_A)), own (P(B wrong at x'_B)), source (P(A wrong at x'_A)) and stimuli. `value(task, a, b)`
    attacks A. Range 0..about 1. Undefined where a network has no differentiable forward pass, where the two share no
    right answer, and where the attack never fools B itself.
    Source: Szegedy et al. 2013, arXiv 1312.6199; Goodfellow, Shlens and Szegedy 2014, arXiv 1412.6572 (one step);
    Madry, Makelov, Schmidt, Tsipras and Vladu 2017, arXiv 1706.06083 (many); Carlini and Wagner 2016,
    arXiv 1608.04644 (margin).
    """
    epsilon, steps, box = non_negative("epsilon", epsilon), positive_integer("steps", steps), _checked_box(box)
    if epsilon == 0:
        raise ProbeError("epsilon=0 allows no change of the input; pass the largest L2 distance, e.g. epsilon=1.")
    info = ProbeInfo(
        name="adversarial-transfer",
        title="transfer of adversarial examples",
        kind="functional",
        formula="P(B wrong at x'_A)/P(B wrong at x'_B), ‖x' − x‖₂ ≤ ε",
        citation="Goodfellow, Shlens, Szegedy 2014, arXiv 1412.6572; Madry, Makelov, Schmidt, Tsipras, Vladu 2017, "
        "arXiv 1706.06083; Carlini, Wagner 2016, arXiv 1608.04644",
        range=(0.0, np.inf),
        direction="similarity",
        symmetric=False,
        metric=False,
        invariances=frozenset(),
        convention=f"L2 ball, margin loss, step ε for one step and 2.5 ε/steps for many, inputs within {box}; stimuli "
        "that both classify right",
        cost="steps·backward pass",
        traps="A larger ε makes everything transfer: read `transferred` and `own`. Saturated units hide the gradient "
        "and make a network look robust: `own` near 0 is then no merit. Differences along the data's largest "
        "directions transfer between any two networks.",
        params=(("epsilon", epsilon), ("steps", steps), ("box", box)),
    )

    def value(task: Task, a: Subject, b: Subject) -> dict[str, float | Undefined] | Undefined:
        x, y = task.x, jnp.asarray(task.y)
        if box is not None and not bool(((x >= box[0]) & (x <= box[1])).all()):
            raise ProbeError(f"some inputs lie outside box={box}; pass box=None or the range of the inputs.")

        def wrong(s: Subject, at: jax.Array) -> np.ndarray:
            return np.asarray(scores(s.model, s.params, at).argmax(axis=1)) != task.y

        both = ~(wrong(a, x) | wrong(b, x))
        if not both.any():
            return Undefined("there is no stimulus that both networks classify right")
        on_a, on_b = (attacked(s.model, s.params, x, y, epsilon, steps, box) for s in (a, b))
        transferred, own, source = (float(wrong(s, at)[both].mean()) for s, at in ((b, on_a), (b, on_b), (a, on_a)))
        return {
            "value": transferred / own if own > 0 else Undefined(f"no attack within ε = {epsilon} fools B itself"),
            "transferred": transferred,
            "own": own,
            "source": source,
            "stimuli": float(both.sum()),
        }

    return functional_probe(info, value, 2, "model")


@partial(jax.jit, static_argnums=(0, 3))
def boundary_points(model: Any, params: Any, x: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """Points just across the decision boundary near each stimulus, and whether one was found within `steps`.

    DeepFool: take the scores for linear, step to the nearest of the boundaries that they then have and 2 % beyond,
    repeat until the answer changes; then bisect the straight way from the stimulus, down to rounding.
    """

    def one(x0):
        def answer(at):
            return model.scores(params, at[None])[0]

        first = answer(x0).argmax()

        def step(carry):
            at, i = carry
            z = answer(at)
            slopes = jax.jacrev(answer)(at).reshape(len(z), -1)
            gap, normal = z - z[first], slopes - slopes[first]
            size = jnp.sqrt((normal**2).sum(axis=1))
            usable = (size > 0) & (jnp.arange(len(z)) != first)
            distance = jnp.where(usable, jnp.abs(gap) / jnp.where(usable, size, 1.0), jnp.inf)
            nearest = distance.argmin()
            # Past the boundary of this linearisation by 2 %, and by a little more where the stimulus lies on it.
            length = 1.02 * distance[nearest] + 1e-12 * (1.0 + jnp.sqrt((x0**2).sum()))
            move = jnp.where(usable[nearest], length / jnp.where(usable[nearest], size[nearest], 1.0), 0.0)
            return at + (move * normal[nearest]).reshape(at.shape), i + 1

        def unchanged(carry):
            at, i = carry
            return (i < steps) & (answer(at).argmax() == first)

        there, _ = jax.lax.while_loop(unchanged, step, (x0, 0))
        found = answer(there).argmax() != first

        def halve(_, ends):
            inside, outside = ends
            middle = (inside + outside) / 2
            crossed = answer(x0 + middle * (there - x0)).argmax() != first
            return jnp.where(crossed, inside, middle), jnp.where(crossed, middle, outside)

        _, outside = jax.lax.fori_loop(0, 60, halve, (jnp.zeros(()), jnp.ones(())))
        return x0 + outside * (there - x0), found

    return jax.lax.map(one, x, batch_size=32)


def adversarial_distance(points: int = 100, steps: int = 50) -> FunctionalProbe:
    """L2 distance from a stimulus to the decision boundary, as DeepFool finds it.

        min ‖r‖₂ such that argmax f(x + r) ≠ argmax f(x);  exact for a linear classifier, else an upper bound

    Of the first `points` stimuli, whether classified right or not. Returns value (mean), median, relative (mean of
    ‖r‖/‖x‖), and missed (share of stimuli whose boundary was not found in `steps` linearisations and which the rest
    leaves out). Range 0..∞. Undefined where there is no differentiable forward pass or no boundary is found.
    Source: Moosavi-Dezfooli, Fawzi and Frossard 2016, arXiv 1511.04599.
    """
    points, steps = positive_integer("points", points), positive_integer("steps", steps)
    info = ProbeInfo(
        name="adversarial-distance",
        title="distance to the decision boundary",
        kind="functional",
        formula="mean min ‖r‖₂ with argmax f(x + r) ≠ argmax f(x)",
        citation="Moosavi-Dezfooli, Fawzi, Frossard 2016, arXiv 1511.04599",
        range=(0.0, np.inf),
        direction=None,
        symmetric=None,
        metric=False,
        invariances=frozenset(),
        convention=f"the first {points} stimuli, up to {steps} steps with an overshoot of 2 %, then bisection to the "
        "boundary; inputs may leave their range",
        cost="points·steps·C backward passes",
        traps="An upper bound. In units of the input, so it compares networks on one data set only. Dead or saturated "
        "networks have no slope to follow: read `missed`.",
        params=(("points", points), ("steps", steps)),
    )

    def value(task: Task, s: Subject) -> dict[str, float | Undefined] | Undefined:
        x = task.x[:points]
        near, found = boundary_points(s.model, s.params, x, steps)
        found = np.asarray(found)
        if not found.any():
            return Undefined(f"no stimulus reaches a decision boundary within {steps} linearisations")
        distance = np.asarray(_lengths(near - x)).ravel()[found]
        size = np.asarray(_lengths(x)).ravel()[found]
        return {
            "value": float(distance.mean()),
            "median": float(np.median(distance)),
            "relative": float((distance / size).mean())
            if (size > 0).all()
            else Undefined("a stimulus is all zero, so its distance relative to its length does not exist"),
            "missed": float((~found).mean()),
        }

    return functional_probe(info, value, 1, "model")
