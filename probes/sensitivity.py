"""How a hidden layer moves when the input does: the spectrum of its Jacobian, far from and at the boundary."""

from functools import partial
from typing import Any

import jax
import numpy as np

from probes.adversarial import boundary_points
from probes.probe import FunctionalProbe, ProbeInfo, Undefined, positive_integer
from probes.subject import Subject, Task, functional_probe


@partial(jax.jit, static_argnums=(0, 3))
def _jacobians(model: Any, params: Any, x: jax.Array, layer: str) -> jax.Array:
    def layer_of(one):
        return model.hidden(params, one[None], layer).ravel()

    return jax.vmap(jax.jacrev(layer_of))(x)


def jacobian_spectra(model: Any, params: Any, x: jax.Array, layer: str) -> np.ndarray:
    """Singular values of ∂h/∂x at each stimulus, largest first: n × min(units, inputs)."""
    parts = []
    for i in range(0, len(x), 16):  # one Jacobian holds units × inputs numbers
        J = np.asarray(_jacobians(model, params, x[i : i + 16], layer))
        parts.append(np.linalg.svd(J.reshape(len(J), J.shape[1], -1), compute_uv=False))
    return np.concatenate(parts)


def log_volumes(spectra: np.ndarray, k: int) -> np.ndarray:
    """Σ log σ_i of the k largest singular values of each row; nan where one of them is 0 up to rounding."""
    s = spectra[:, :k]
    sound = s[:, -1] > 1e-12 * s[:, 0]
    return np.log(np.where(sound[:, None], s, np.nan)).sum(axis=1)


def jacobian_volume(k: int = 5, points: int = 100, steps: int = 50) -> FunctionalProbe:
    """Whether a layer magnifies the input more at the decision boundary than at the data.

        log V_k(x) = Σ_{i≤k} log σ_i(∂h/∂x);   value = mean of log V_k(x_b) − log V_k(x)

    x are the first `points` stimuli, x_b the point of the network's decision boundary that DeepFool finds for each
    (see adversarial-distance). Returns value (above 0: larger at the boundary), far (mean log V_k at the stimuli),
    near (at the boundary), largest (mean σ₁ at the stimuli), frobenius (root mean Σσ²), rank (mean (Σσ²)²/Σσ⁴), and
    kept (share of stimuli with a boundary and with k singular values above rounding at both points; means are over
    these). Range −∞..∞. Undefined where a layer has fewer than k units or inputs and where no stimulus is kept.
    Source: Zavatone-Veth, Yang, Rubinfien and Pehlevan 2023, arXiv 2301.11375.
    """
    k, points = positive_integer("k", k), positive_integer("points", points)
    steps = positive_integer("steps", steps)
    info = ProbeInfo(
        name="jacobian-volume",
        title="magnification at the decision boundary",
        kind="functional",
        formula="mean Σ_{i≤k} log σ_i(∂h/∂x) at the boundary less at the stimulus",
        citation="Zavatone-Veth, Yang, Rubinfien, Pehlevan 2023, arXiv 2301.11375",
        range=(-np.inf, np.inf),
        direction=None,
        symmetric=None,
        metric=False,
        invariances=frozenset(),
        convention=f"pseudo-volume of the {k} largest singular values (all of them would be 0 for most layers); the "
        "boundary point belonging to each stimulus, not another stimulus of small margin",
        cost="points·units·(backward pass + inputs·min(units, inputs))",
        traps="Rectifiers make the Jacobian constant within a region: few stimuli give few distinct values. Boundary "
        "points lie off the data. `far` and `near` depend on the scale of the layer, their difference does not.",
        params=(("k", k), ("points", points), ("steps", steps)),
    )

    def value(task: Task, s: Subject) -> dict[str, float | Undefined] | Undefined:
        x = task.x[:points]
        far = jacobian_spectra(s.model, s.params, x, s.layer)
        if far.shape[1] < k:
            return Undefined(f"the Jacobian has {far.shape[1]} singular values, fewer than k = {k}")
        edge, found = boundary_points(s.model, s.params, x, steps)
        near = jacobian_spectra(s.model, s.params, edge, s.layer)
        volumes = np.stack([log_volumes(far, k), log_volumes(near, k)])
        kept = np.asarray(found) & np.isfinite(volumes).all(axis=0)
        if not kept.any():
            return Undefined(f"no stimulus has a boundary point and {k} singular values above rounding at both")
        at_data, at_edge = volumes[:, kept].mean(axis=1)
        power = far[kept] ** 2
        return {
            "value": float(at_edge - at_data),
            "far": float(at_data),
            "near": float(at_edge),
            "largest": float(far[kept, 0].mean()),
            "frobenius": float(np.sqrt(power.sum(axis=1).mean())),
            "rank": float((power.sum(axis=1) ** 2 / (power**2).sum(axis=1)).mean()),
            "kept": float(kept.mean()),
        }

    return functional_probe(info, value, 1, "layer")
