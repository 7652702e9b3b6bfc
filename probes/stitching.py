"""Stitching: does the rest of one network work on the representation of another?

The front of A up to its layer and the rest of B behind its layer are joined by a map. A map that is free enough, and
is told the labels, joins anything to anything; so every value comes with controls.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probes.decoding import RIDGES as READOUT_RIDGES
from probes.decoding import ridge_strengths
from probes.forward import answers, cross_entropy, representation
from probes.maps import RIDGES, AffineMap, affine_map, explained, orthogonal_map
from probes.probe import FunctionalProbe, ProbeInfo, Undefined, one_of, positive_integer
from probes.subject import Subject, Task, functional_probe

Parts = dict[str, float | Undefined]
HALVES = "fitted on every other stimulus of each class, evaluated on the others"


def _right(prediction: np.ndarray, y: np.ndarray) -> float:
    return float((prediction == y).mean())


def _share(accuracy: float, host: float) -> float | Undefined:
    return accuracy / host if host > 0 else Undefined("the host answers no held-out stimulus right")


@partial(jax.jit, static_argnums=(0, 1, 2))
def _task_loss(model: Any, layer: str, shape: tuple, params: Any, flat: jax.Array, h: jax.Array, y: jax.Array):
    """Loss of the host's rest behind the map, and its gradient with respect to the map alone."""

    def loss(flat):
        wide = int(np.prod(shape))
        M = flat[:-wide].reshape(-1, wide)
        mapped = (h @ M + flat[-wide:]).reshape(len(h), *shape)
        return cross_entropy(model.rest(params, mapped, layer), y)

    return jax.value_and_grad(loss)(flat)


def task_map(b: Subject, shape: tuple[int, ...], start: AffineMap, h: np.ndarray, y: np.ndarray, steps: int):
    """The affine map after `steps` iterations of L-BFGS on the host's cross-entropy, from `start`."""
    from scipy.optimize import minimize

    h, y = jnp.asarray(h), jnp.asarray(y)

    def loss(flat):
        found, slope = _task_loss(b.model, b.layer, shape, b.params, jnp.asarray(flat), h, y)
        return float(found), np.asarray(slope)

    flat = np.concatenate([start.M.ravel(), start.b])
    best = minimize(loss, flat, jac=True, method="L-BFGS-B", options={"maxiter": steps}).x
    wide = len(start.b)
    return AffineMap(best[:-wide].reshape(-1, wide), best[-wide:], start.ridge)


def clustered_noise(y: np.ndarray, d: int, seed: int) -> np.ndarray:
    """Features that know nothing of the stimuli but their class: a random centre for each, and noise of a quarter."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((y.max() + 1, d))[y] + 0.25 * rng.standard_normal((len(y), d))


def stitching(
    by: str = "match", steps: int = 100, ridge: Any = RIDGES, controls: bool = True, seed: int = 0
) -> FunctionalProbe:
    """Accuracy of B's rest on A's layer through an affine map, relative to B's own accuracy.

        S = argmin ‖S(h_A) − h_B‖² + ridge term      (by="match": direct matching, told no labels)
        S = argmin CE(rest_B(S(h_A)), y)             (by="task": both ends frozen)

    `value(task, a, b)` puts A in front of B (forward); `value(task, b, a)` is the backward direction: a stitch that
    works one way may fail the other. Returns value (accuracy/host), accuracy, host (B's own on the same stimuli), r2
    (of S(h_A) as a prediction of h_B, on held-out stimuli), ridge, and as controls, each an accuracy relative to the
    host's: identity (B in front of itself), untrained (A before training), noise (random features that cluster by
    class), shuffled (A, with what the fit is told shuffled over stimuli). Range 0..about 1. Undefined where a network
    has no differentiable forward pass, where the host is never right, and, by="task", for scores that are no logits.
    Source: Lenc and Vedaldi 2015, arXiv 1411.5908; Bansal, Nakkiran and Barak 2021, arXiv 2106.07682; Balogh and
    Jelasity 2024, arXiv 2412.11299 (direct matching); Smith, Mannering and Marcu 2025, ICML (clustered noise).
    """
    one_of("by", by, ("match", "task"))
    steps, ridges = positive_integer("steps", steps), ridge_strengths(ridge)
    seed = positive_integer("seed", seed, least=0)
    info = ProbeInfo(
        name="stitching",
        title="stitching accuracy",
        kind="functional",
        formula="accuracy(rest_B ∘ S ∘ front_A)/accuracy(B), S affine",
        citation="Lenc, Vedaldi 2015, arXiv 1411.5908; Bansal, Nakkiran, Barak 2021, arXiv 2106.07682; "
        "Balogh, Jelasity 2024, arXiv 2412.11299; Smith, Mannering, Marcu 2025, Functional Alignment Can Mislead, ICML",
        range=(0.0, np.inf),
        direction="similarity",
        symmetric=False,
        metric=False,
        invariances=frozenset(),
        convention=f"{HALVES}; feature maps flattened, one affine map for all units (others: 1×1 convolutions); "
        + (
            "least squares on standardised units, ridge by leave-one-out error"
            if by == "match"
            else f"{steps} iterations of L-BFGS from the direct match"
        ),
        cost="n·d²" if by == "match" else "steps·(n·d_A·d_B + forward)",
        traps="By task loss almost anything stitches: the map leaves the host's distribution (r2 falls) and uses the "
        "labels; read `noise` and `shuffled` first, prefer match. Class means alone make a good stitch. Maps of many "
        "units need many stimuli: read `identity`.",
        params=(("by", by), *((("steps", steps),) if by == "task" else ()), ("ridge", ridges), ("seed", seed)),
    )

    def value(task: Task, a: Subject, b: Subject) -> Parts | Undefined:
        fit, y = task.fitting, task.y
        if fit.all():
            return Undefined("there is one stimulus, and the map needs others to be fitted on")
        own, shape = representation(b, task.x)
        host = _right(answers(b, own[~fit], shape), y[~fit])

        def stitched(front: np.ndarray, order: np.ndarray | None = None) -> tuple[float, AffineMap]:
            target, told = own[fit], y[fit]
            if order is not None:
                target, told = (target[order], told) if by == "match" else (target, told[order])
            S = affine_map(front[fit], target, ridges)
            if by == "task":
                S = task_map(b, shape, S, front[fit], told, steps)
            return _right(answers(b, S(front[~fit]), shape), y[~fit]), S

        front, _ = representation(a, task.x)
        accuracy, S = stitched(front)
        found: Parts = {
            "value": _share(accuracy, host),
            "accuracy": accuracy,
            "host": host,
            "r2": explained(S(front[~fit]), own[~fit]),
            "ridge": S.ridge,
        }
        if controls:
            found["identity"] = _share(stitched(own)[0], host)
            found["untrained"] = (
                Undefined("the parameters before training are not known")
                if a.initial is None
                else _share(stitched(representation(a, task.x, a.initial)[0])[0], host)
            )
            found["noise"] = _share(stitched(clustered_noise(y, front.shape[1], seed))[0], host)
            order = np.random.default_rng(seed).permutation(int(fit.sum()))
            found["shuffled"] = _share(stitched(front, order)[0], host)
        return found

    return functional_probe(info, value, 2, "layer", logits=by == "task")


def head_swap(ridge: Any = RIDGES) -> FunctionalProbe:
    """Accuracy of B's rest on A's layer: as it is, rotated and shifted, and through an affine map.

        accuracy(rest_B(S(h_A)))/accuracy(B);  S = identity (raw), h R + b with R orthogonal (value), h M + b (affine)

    R, M and b are fitted without labels on half of the stimuli. Returns value (orthogonal), raw (Undefined where the
    widths differ), affine, host (B's own accuracy) and r2 of the orthogonal map. `value(task, a, b)` gives B's rest A's
    representation. Range 0..about 1.
    Source: Lenc and Vedaldi 2015, arXiv 1411.5908; Schönemann 1966, doi 10.1007/BF02289451 (the rotation).
    """
    ridges = ridge_strengths(ridge)
    info = ProbeInfo(
        name="head-swap",
        title="accuracy with the other's head",
        kind="functional",
        formula="accuracy(rest_B(h_A R + b))/accuracy(B), R orthogonal",
        citation="Lenc, Vedaldi 2015, arXiv 1411.5908; Schönemann 1966, doi 10.1007/BF02289451",
        range=(0.0, np.inf),
        direction="similarity",
        symmetric=False,
        metric=False,
        invariances=frozenset(),
        convention=f"maps {HALVES}; the rotation keeps A's scale, reflections count as rotations",
        cost="n·d² + d³",
        traps="Raw is near chance between networks of unrelated initial weights whatever they share. A rotation of "
        "many units fitted on few stimuli fits class means and no more.",
        params=(("ridge", ridges),),
    )

    def value(task: Task, a: Subject, b: Subject) -> Parts | Undefined:
        fit, y = task.fitting, task.y
        if fit.all():
            return Undefined("there is one stimulus, and the maps need others to be fitted on")
        (front, shape_a), (own, shape) = representation(a, task.x), representation(b, task.x)
        host = _right(answers(b, own[~fit], shape), y[~fit])

        def share(h: np.ndarray) -> float | Undefined:
            return _share(_right(answers(b, h, shape), y[~fit]), host)

        R, M = orthogonal_map(front[fit], own[fit]), affine_map(front[fit], own[fit], ridges)
        return {
            "value": share(R(front[~fit])),
            "raw": share(front[~fit])
            if shape_a == shape
            else Undefined(f"A's layer has shape {shape_a} and B's {shape}, so B's head cannot take it as it is"),
            "affine": share(M(front[~fit])),
            "host": host,
            "r2": explained(R(front[~fit]), own[~fit]),
        }

    return functional_probe(info, value, 2, "layer")


def probe_transfer(ridge: Any = READOUT_RIDGES) -> FunctionalProbe:
    """Accuracy on B's representation of a linear readout that was fitted on A's.

        W_A = ridge regression of one-hot labels on h_A;  accuracy(h_B R W_A)/accuracy(h_B W_B), R orthogonal

    R (with a shift) takes B's representation to A's and is fitted without labels on the stimuli that readouts are
    fitted on. Returns value (after the rotation), raw (without any map; Undefined where the widths differ), own
    (accuracy of B's readout on B) and source (of A's on A). `value(task, a, b)` reads B with A's readout. Range
    0..about 1.
    Source: after Alain and Bengio 2016, arXiv 1610.01644.
    """
    ridges = ridge_strengths(ridge)
    info = ProbeInfo(
        name="probe-transfer",
        title="transfer of a linear readout",
        kind="functional",
        formula="accuracy(h_B R W_A)/accuracy(h_B W_B), readout W_A fitted on A, R orthogonal",
        citation="after Alain, Bengio 2016, arXiv 1610.01644; Schönemann 1966, doi 10.1007/BF02289451",
        range=(0.0, np.inf),
        direction="similarity",
        symmetric=False,
        metric=False,
        invariances=frozenset(),
        convention=f"ridge readouts of standardised units, {HALVES}; networks' own heads are not used",
        cost="n·d² + d³",
        traps="The rotation matches class means if nothing else, and class means are what a readout uses. Compare with "
        "the untrained network.",
        params=(("ridge", ridges),),
    )

    def value(task: Task, a: Subject, b: Subject) -> Parts | Undefined:
        fit, y = task.fitting, task.y
        if fit.all():
            return Undefined("there is one stimulus, and readouts need others to be fitted on")
        onehot = np.eye(a.scores.shape[1])[y[fit]]
        (from_a, shape_a), (of_b, shape_b) = representation(a, task.x), representation(b, task.x)
        reader_a, reader_b = (affine_map(h[fit], onehot, ridges) for h in (from_a, of_b))

        def accuracy(reader: AffineMap, h: np.ndarray) -> float:
            return _right(reader(h[~fit]).argmax(axis=1), y[~fit])

        own = accuracy(reader_b, of_b)
        turned = orthogonal_map(of_b[fit], from_a[fit])(of_b)
        return {
            "value": _share(accuracy(reader_a, turned), own),
            "raw": _share(accuracy(reader_a, of_b), own)
            if shape_a == shape_b
            else Undefined(f"A's layer has shape {shape_a} and B's {shape_b}, so one readout does not fit both"),
            "own": own,
            "source": accuracy(reader_a, from_a),
        }

    return functional_probe(info, value, 2, "layer")
