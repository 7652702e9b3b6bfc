"""Curvature of the loss: the ends of the Hessian's spectrum and its trace, without the Hessian."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from probes.forward import cross_entropy
from probes.probe import FunctionalProbe, ProbeError, ProbeInfo, Undefined, positive_integer
from probes.subject import Subject, Task, functional_probe


def _slope(model: Any, params: Any, x: jax.Array, y: jax.Array):
    """The parameters as one vector, and the gradient of the loss as a function of that vector."""
    flat, tree = ravel_pytree(params)
    return flat, jax.grad(lambda theta: cross_entropy(model.scores(tree(theta), x), y))


@partial(jax.jit, static_argnums=0)
def gradient(model: Any, params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Gradient of the cross-entropy, as one vector."""
    flat, slope = _slope(model, params, x, y)
    return slope(flat)


@partial(jax.jit, static_argnums=0)
def hessian_product(model: Any, params: Any, x: jax.Array, y: jax.Array, v: jax.Array) -> jax.Array:
    """Hessian of the cross-entropy times a vector: the derivative of the gradient along it."""
    flat, slope = _slope(model, params, x, y)
    return jax.jvp(slope, (flat,), (v,))[1]


def hessian(k: int = 1, draws: int = 20, tolerance: float = 1e-6, seed: int = 0) -> FunctionalProbe:
    """Largest eigenvalues, smallest eigenvalue and trace of the Hessian of the cross-entropy on these stimuli.

        λ₁ ≥ .. ≥ λ_k and λ_min by Lanczos with H v = ∂(∇L)/∂θ · v;  tr H ≈ mean vᵀHv, v random signs (Hutchinson)

    Returns value (λ₁), eigenvalue_2 .. eigenvalue_k, smallest, trace, trace_se (Monte Carlo standard error over the
    draws), and gradient (norm: curvature means least away from a minimum). Range −∞..∞. Undefined for scores that are
    no logits, without a differentiable forward pass, and for k parameters or fewer.
    Source: Pearlmutter 1994, doi 10.1162/neco.1994.6.1.147 (products); Hutchinson 1990,
    doi 10.1080/03610919008812866 (trace); Yao, Gholami, Keutzer and Mahoney 2019, arXiv 1912.07145 (in networks).
    """
    k, draws = positive_integer("k", k), positive_integer("draws", draws, least=2)
    seed = positive_integer("seed", seed, least=0)
    if not 0 < tolerance < 1:
        raise ProbeError(f"tolerance={tolerance!r} must lie between 0 and 1: it is relative to the largest eigenvalue.")
    info = ProbeInfo(
        name="hessian",
        title="curvature of the loss",
        kind="functional",
        formula="λ₁ of ∂²L/∂θ², L the cross-entropy",
        citation="Pearlmutter 1994, doi 10.1162/neco.1994.6.1.147; Hutchinson 1990, doi 10.1080/03610919008812866; "
        "Yao, Gholami, Keutzer, Mahoney 2019, arXiv 1912.07145",
        range=(-np.inf, np.inf),
        direction=None,
        symmetric=None,
        metric=False,
        invariances=frozenset(),
        convention=f"mean cross-entropy of these stimuli, all parameters; Lanczos in float64 to {tolerance:g}, {draws} "
        "draws of random signs",
        cost="(Lanczos steps + draws)·4 forward passes",
        traps="Not invariant to rescaling rectifiers, which changes no function. Rules that do not follow the gradient "
        "stop off a minimum: read `gradient` and `smallest`. At high confidence the cross-entropy is flat whatever "
        "the weights. Use training stimuli.",
        params=(("k", k), ("draws", draws), ("tolerance", tolerance), ("seed", seed)),
    )

    def value(task: Task, s: Subject) -> dict[str, float | Undefined] | Undefined:
        from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

        y, rng = jnp.asarray(task.y), np.random.default_rng(seed)
        slope = np.asarray(gradient(s.model, s.params, task.x, y))
        P = len(slope)
        if k >= P:
            return Undefined(f"there are {P} parameters, too few for Lanczos to find {k} eigenvalues")

        def product(v: np.ndarray) -> np.ndarray:
            v = jnp.asarray(np.asarray(v, np.float64).reshape(P))
            return np.asarray(hessian_product(s.model, s.params, task.x, y, v))

        def ends(which: str, count: int, shift: float) -> np.ndarray | Undefined:
            H = LinearOperator((P, P), matvec=lambda v: product(v) - shift * np.asarray(v).reshape(P), dtype=np.float64)
            start = rng.standard_normal(P)
            try:
                found = eigsh(H, count, which=which, v0=start, tol=tolerance, return_eigenvectors=False, maxiter=500)
            except ArpackNoConvergence:
                return Undefined("Lanczos iteration did not converge; allow a larger tolerance")
            return np.sort(found)[::-1] + shift

        largest = ends("LA", k, 0.0)
        if isinstance(largest, Undefined):
            return largest
        # Shifted by the largest, the smallest is far from 0, and the tolerance is relative to their distance.
        smallest = ends("SA", 1, float(abs(largest[0])))
        signs = rng.choice([-1.0, 1.0], size=(draws, P))
        samples = np.array([v @ product(v) for v in signs])
        return {
            "value": float(largest[0]),
            **{f"eigenvalue_{i}": float(eigenvalue) for i, eigenvalue in enumerate(largest[1:], 2)},
            "smallest": smallest if isinstance(smallest, Undefined) else float(smallest[0]),
            "trace": float(samples.mean()),
            "trace_se": float(samples.std(ddof=1) / math.sqrt(draws)),
            "gradient": float(np.linalg.norm(slope)),
        }

    return functional_probe(info, value, 1, "model", logits=True)
