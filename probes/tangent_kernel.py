"""The empirical tangent kernel: which stimuli a step on one moves along with it, and whether training changed that."""

from functools import partial
from typing import Any

import jax
import numpy as np

from probes.probe import FunctionalProbe, ProbeInfo, Undefined, positive_integer
from probes.subject import Subject, Task, functional_probe
from probes.weights import weight_change

MEMORY = "points·parameters numbers are held at once; statistics of a normalisation among the parameters count as such"


@partial(jax.jit, static_argnums=0)
def _of_class(model: Any, params: Any, x: jax.Array, c: jax.Array) -> jax.Array:
    """G Gᵀ of the gradients of one class' score, one parameter array after the other."""
    slopes = jax.vmap(jax.grad(lambda p, one: model.scores(p, one[None])[0, c]), (None, 0))(params, x)
    return sum(g.reshape(len(x), -1) @ g.reshape(len(x), -1).T for g in jax.tree.leaves(slopes))


def tangent_kernel(model: Any, params: Any, x: jax.Array, classes: int) -> np.ndarray:
    """Θ_ij = 1/C Σ_c ⟨∂f_c(x_i)/∂θ, ∂f_c(x_j)/∂θ⟩, n × n: the kernel of the scores, averaged over classes."""
    return sum(np.asarray(_of_class(model, params, x, c)) for c in range(classes)) / classes


def kernel_alignment(K: np.ndarray, L: np.ndarray) -> float | Undefined:
    """CKA of two kernels, ⟨HKH, HLH⟩/(‖HKH‖‖HLH‖) with H = I − 11ᵀ/n; Undefined where a centred one is 0."""
    centred = []
    for kernel in (K, L):
        kernel = kernel / max(np.abs(kernel).max(), np.finfo(np.float64).tiny)
        c = kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True) + kernel.mean()
        if np.linalg.norm(c) <= 1e-13 * max(np.linalg.norm(kernel), np.finfo(np.float64).tiny):
            return Undefined("a kernel is the same for all pairs of stimuli, or there is one class only")
        centred.append(c / np.linalg.norm(c))
    return float(np.vdot(*centred))


def kernel_cosine(K: np.ndarray, L: np.ndarray) -> float | Undefined:
    """⟨K, L⟩/(‖K‖‖L‖), uncentred."""
    norms = [np.linalg.norm(kernel) for kernel in (K, L)]
    if min(norms) == 0:
        return Undefined("a kernel is zero: no score depends on any parameter")
    return float(np.vdot(K / norms[0], L / norms[1]))


def _kernel(task: Task, s: Subject, points: int, params: Any = None) -> np.ndarray:
    return tangent_kernel(s.model, s.params if params is None else params, task.x[:points], s.scores.shape[1])


def _task_kernel(y: np.ndarray) -> np.ndarray:
    return (y[:, None] == y[None, :]).astype(np.float64)


def _card(**card: Any) -> ProbeInfo:
    return ProbeInfo(kind="functional", metric=False, invariances=frozenset(), **card)


def tangent_alignment(points: int = 100) -> FunctionalProbe:
    """Alignment of the tangent kernel with the task: CKA(Θ, YYᵀ), Y one-hot labels.

        Θ_ij = 1/C Σ_c ⟨∂f_c(x_i)/∂θ, ∂f_c(x_j)/∂θ⟩

    Of the first `points` stimuli and the scores before any softmax. Returns a number, 0..1. Undefined where there is
    no differentiable forward pass, for one class, and for a kernel without variance.
    Source: Jacot, Gabriel and Hongler 2018, arXiv 1806.07572; Baratin et al. 2021, arXiv 2008.00938 (alignment).
    """
    points = positive_integer("points", points, least=2)
    info = _card(
        name="tangent-alignment",
        title="alignment of the tangent kernel with the task",
        formula="CKA(Θ, YYᵀ), Θ = 1/C Σ_c ∇f_c ∇f_cᵀ",
        citation="Jacot, Gabriel, Hongler 2018, arXiv 1806.07572; Baratin, George, Laurent, Hjelm, Lajoie, Vincent, "
        "Lacoste-Julien 2021, arXiv 2008.00938",
        range=(0.0, 1.0),
        direction=None,
        symmetric=None,
        convention=f"the first {points} stimuli; mean over classes of the same-class blocks, n × n; centred",
        cost="points·C backward passes + points²·parameters",
        traps="The kernel of gradient descent: a rule that moves weights otherwise learns with another one. Biased up "
        f"when stimuli are few. {MEMORY}.",
        params=(("points", points),),
    )

    def value(task: Task, s: Subject) -> float | Undefined:
        return kernel_alignment(_kernel(task, s, points), _task_kernel(task.y[:points]))

    return functional_probe(info, value, 1, "model")


def tangent_distance(points: int = 100) -> FunctionalProbe:
    """Distance between two networks' tangent kernels, of two moments of training for instance.

        1 − ⟨Θ_A, Θ_B⟩/(‖Θ_A‖‖Θ_B‖)

    Between two moments of one training, per step, it is `kernel_velocity`. Returns a number, 0..1 (kernels are
    positive semidefinite, so their cosine is never negative). Undefined where there is no
    differentiable forward pass and for a kernel of zeros.
    Source: Fort, Dziugaite, Paul, Kharaghani, Roy and Ganguli 2020, arXiv 2010.15110.
    """
    points = positive_integer("points", points, least=2)
    info = _card(
        name="tangent-distance",
        title="distance between tangent kernels",
        formula="1 − ⟨Θ_A, Θ_B⟩/(‖Θ_A‖‖Θ_B‖)",
        citation="Fort, Dziugaite, Paul, Kharaghani, Roy, Ganguli 2020, arXiv 2010.15110",
        range=(0.0, 1.0),
        direction="distance",
        symmetric=True,
        convention=f"the first {points} stimuli; kernels averaged over classes (the source keeps all pairs of classes) "
        "and not centred",
        cost="2·points·C backward passes + points²·parameters",
        traps="The common mean of all entries makes unrelated kernels look alike: read it beside the distance of two "
        f"seeds. {MEMORY}.",
        params=(("points", points),),
    )

    def value(task: Task, a: Subject, b: Subject) -> float | Undefined:
        cosine = kernel_cosine(*(_kernel(task, s, points) for s in (a, b)))
        return cosine if isinstance(cosine, Undefined) else max(0.0, 1.0 - cosine)

    return functional_probe(info, value, 2, "model")


def rich_lazy(points: int = 100) -> FunctionalProbe:
    """Where between lazy and rich training ended: how far weights and tangent kernel moved from their start.

        value = 1 − ⟨Θ, Θ₀⟩/(‖Θ‖‖Θ₀‖);  weights = ‖θ − θ₀‖/‖θ₀‖;  alignment = CKA(Θ, YYᵀ), initial = CKA(Θ₀, YYᵀ)

    Lazy training moves neither; rich training turns the kernel towards the task. Range 0..1. Undefined where the
    parameters before training are not known and where there is no differentiable forward pass.
    Source: Chizat, Oyallon and Bach 2019, arXiv 1812.07956; Fort et al. 2020, arXiv 2010.15110.
    """
    points = positive_integer("points", points, least=2)
    info = _card(
        name="rich-lazy",
        title="change of the tangent kernel in training",
        formula="1 − ⟨Θ, Θ₀⟩/(‖Θ‖‖Θ₀‖), beside ‖θ − θ₀‖/‖θ₀‖",
        citation="Chizat, Oyallon, Bach 2019, arXiv 1812.07956; Fort, Dziugaite, Paul, Kharaghani, Roy, Ganguli 2020, "
        "arXiv 2010.15110",
        range=(0.0, 1.0),
        direction=None,
        symmetric=None,
        convention=f"the first {points} stimuli; kernels averaged over classes, not centred for the distance, centred "
        "for the alignments",
        cost="2·points·C backward passes + points²·parameters",
        traps="Weights move farther with more steps and larger rates, whatever the regime: compare at matched "
        f"accuracy. {MEMORY}.",
        params=(("points", points),),
    )

    def value(task: Task, s: Subject) -> dict[str, float | Undefined] | Undefined:
        if s.initial is None:
            return Undefined("the parameters before training are not known")
        now, before = (_kernel(task, s, points, params) for params in (s.params, s.initial))
        cosine, labels = kernel_cosine(now, before), _task_kernel(task.y[:points])
        return {
            "value": cosine if isinstance(cosine, Undefined) else max(0.0, 1.0 - cosine),
            "weights": weight_change(s.params, s.initial),
            "alignment": kernel_alignment(now, labels),
            "initial": kernel_alignment(before, labels),
        }

    return functional_probe(info, value, 1, "model")


def kernel_velocity(points: int = 100) -> FunctionalProbe:
    """How fast the tangent kernel turns: its distance from the stored moment before, per step.

        (1 − ⟨Θ_t, Θ_{t−Δ}⟩/(‖Θ_t‖‖Θ_{t−Δ}‖)) / Δ,  Δ steps

    Returns value (1 / step, 0..1), distance and steps (Δ). Undefined at the first stored moment, where there is no
    differentiable forward pass and for a kernel of zeros.
    Source: Fort, Dziugaite, Paul, Kharaghani, Roy and Ganguli 2020, arXiv 2010.15110.
    """
    points = positive_integer("points", points, least=2)
    info = _card(
        name="kernel-velocity",
        title="velocity of the tangent kernel",
        formula="(1 − ⟨Θ_t, Θ_{t−Δ}⟩/(‖Θ_t‖‖Θ_{t−Δ}‖)) / Δ",
        citation="Fort, Dziugaite, Paul, Kharaghani, Roy, Ganguli 2020, arXiv 2010.15110",
        range=(0.0, 1.0),
        direction=None,
        symmetric=None,
        convention=f"the first {points} stimuli; kernels averaged over classes (the source keeps all pairs of classes) "
        "and not centred; per step, since the stored moment before",
        cost="2·points·C backward passes + points²·parameters",
        traps="A distance, so it grows with the square of a small Δ and is bounded for a large one: velocities over "
        f"different Δ do not compare, nor do runs of different learning rates. {MEMORY}.",
        params=(("points", points),),
    )

    def value(task: Task, s: Subject) -> dict[str, float | Undefined] | Undefined:
        if s.earlier is None:
            return Undefined("there is no stored moment before this one")
        cosine = kernel_cosine(*(_kernel(task, s, points, params) for params in (s.params, s.earlier.params)))
        if isinstance(cosine, Undefined):
            return cosine
        distance = max(0.0, 1.0 - cosine)
        return {"value": distance / s.earlier.steps, "distance": distance, "steps": float(s.earlier.steps)}

    return functional_probe(info, value, 1, "model")
