"""Linear mode connectivity: does the loss rise on the straight line between two networks' parameters?

Hidden units have no order, so a line between two parameter trees means little until the units of one are put into
the order of the other's.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from probes.forward import cross_entropy
from probes.probe import FunctionalProbe, ProbeError, ProbeInfo, Undefined, positive_integer
from probes.subject import Subject, Task, functional_probe

Order = dict[str, np.ndarray]


def _kernels(chain: tuple[str, ...], params: Any) -> list[np.ndarray]:
    """Kernels of the chain as (positions, units below, units): what is between units of two blocks, at every position.

    A flattened feature map has its channels last, so one unit below is every `units below`-th row of a dense kernel.
    """
    kernels, below = [], None
    for name in chain:
        kernel = np.asarray(params[name]["kernel"], np.float64)
        below = kernel.shape[-2] if below is None else below
        if int(np.prod(kernel.shape[:-1])) % below:
            raise ProbeError(
                f"the kernel of {name} has shape {kernel.shape}, which does not follow a block of {below} units; "
                "list the blocks of a chain in their order."
            )
        kernels.append(kernel.reshape(-1, below, kernel.shape[-1]))
        below = kernel.shape[-1]
    return kernels


def permuted(chain: tuple[str, ...], params: Any, order: Order) -> Any:
    """The same function with unit `order[block][i]` of every hidden block in place i."""
    changed, kernels = dict(params), _kernels(chain, params)
    for i, name in enumerate(chain):
        block, kernel = dict(params[name]), kernels[i]
        if i:
            kernel = kernel[:, order[chain[i - 1]]]
        if name in order:
            kernel = kernel[:, :, order[name]]
            if "bias" in block:
                block["bias"] = np.asarray(block["bias"])[order[name]]
        block["kernel"] = kernel.reshape(np.shape(block["kernel"]))
        changed[name] = block
    return changed


def weight_matching(chain: tuple[str, ...], params_a: Any, params_b: Any, sweeps: int = 100) -> Order:
    """Orders of B's hidden units that bring its weights near A's: coordinate ascent of linear assignments.

        max Σ_l ⟨W_l^A, P_l W_l^B P_{l−1}ᵀ⟩ + ⟨b_l^A, P_l b_l^B⟩  over permutations P_l of hidden blocks

    One block at a time, first to last, from the order as it is, until a sweep gains nothing: a local optimum.
    Source: Ainsworth, Hayase and Srinivasa 2022, arXiv 2209.04836.
    """
    a, b = _kernels(chain, params_a), _kernels(chain, params_b)
    hidden = chain[:-1]
    order = {name: np.arange(k.shape[-1]) for name, k in zip(hidden, a[:-1], strict=True)}
    for _ in range(sweeps):
        gained = False
        for i, name in enumerate(hidden):
            below = b[i][:, order[hidden[i - 1]]] if i else b[i]
            above = b[i + 1][:, :, order[hidden[i + 1]]] if i + 1 < len(hidden) else b[i + 1]
            gain = np.tensordot(a[i], below, axes=([0, 1], [0, 1]))
            gain += np.tensordot(a[i + 1], above, axes=([0, 2], [0, 2]))
            if "bias" in params_a[name]:
                gain += np.outer(params_a[name]["bias"], params_b[name]["bias"])
            rows, best = linear_sum_assignment(gain, maximize=True)
            better = gain[rows, best].sum() - gain[rows, order[name]].sum()
            if better > 1e-12 * np.abs(gain).max() * len(rows):
                order[name], gained = best, True
        if not gained:
            break
    return order


@partial(jax.jit, static_argnums=0)
def _along(model: Any, a: Any, b: Any, x: jax.Array, y: jax.Array, times: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss and accuracy at (1 − t) a + t b."""

    def at(t):
        between = jax.tree.map(lambda u, v: (1.0 - t) * u + t * v, a, b)
        logits = model.scores(model.settled(between, x), x)
        return cross_entropy(logits, y), (logits.argmax(axis=1) == y).mean()

    return jax.lax.map(at, times)


def mode_connectivity(points: int = 21) -> FunctionalProbe:
    """Barrier of loss and of accuracy on the straight line between two networks, as they are and with units aligned.

        max_t L((1 − t) θ_A + t θ_B) − [(1 − t) L(θ_A) + t L(θ_B)],  t = 0, 1/(points − 1), .., 1

    L is the cross-entropy of these stimuli. Returns value (barrier of the loss, in nats), accuracy (the same for the
    loss of accuracy, 0..1), aligned and aligned_accuracy (after `weight_matching` of B to A). Range 0..∞. The aligned
    parts are Undefined for composite blocks; everything is for networks of different shape and for scores that are no
    logits.
    Source: Frankle, Dziugaite, Roy and Carbin 2020, arXiv 1912.05671; Entezari, Sedghi, Saukh and Neyshabur 2022,
    arXiv 2110.06296 (barrier); Ainsworth, Hayase and Srinivasa 2022, arXiv 2209.04836 (alignment).
    """
    points = positive_integer("points", points, least=3)
    info = ProbeInfo(
        name="mode-connectivity",
        title="barrier on the line between two networks",
        kind="functional",
        formula="max_t L((1 − t)θ_A + tθ_B) − [(1 − t)L(θ_A) + tL(θ_B)]",
        citation="Frankle, Dziugaite, Roy, Carbin 2020, arXiv 1912.05671; Entezari, Sedghi, Saukh, Neyshabur 2022, "
        "arXiv 2110.06296; Ainsworth, Hayase, Srinivasa 2022, arXiv 2209.04836",
        range=(0.0, np.inf),
        direction="distance",
        symmetric=True,
        metric=False,
        invariances=frozenset(),
        convention=f"{points} points with the ends; above the line between the ends, not above the better one; batch "
        "statistics are taken anew at every point; units matched by weights, blocks in a fixed order",
        cost=f"{points} forward passes + matching d³",
        traps="Loss barriers grow with confidence: read accuracy too, on training and on test stimuli. Matching finds "
        "a local optimum, so a barrier that stays says less than one that goes. Networks of one initial weight need "
        "no matching, and those alone are connected early in training.",
        params=(("points", points),),
    )

    def value(task: Task, a: Subject, b: Subject) -> dict[str, float | Undefined] | Undefined:
        shapes = [jax.tree.map(jnp.shape, s.params) for s in (a, b)]
        if shapes[0] != shapes[1]:
            return Undefined("the two networks have different parameters, so there is no line between them")
        times = jnp.linspace(0.0, 1.0, points)

        def barriers(other: Any) -> tuple[float, float]:
            loss, accuracy = (
                np.asarray(v) for v in _along(a.model, a.params, other, task.x, jnp.asarray(task.y), times)
            )
            line = np.asarray(times)
            # At the ends the barrier is 0 by definition; computed there, it would be rounding.
            above = (loss - (1 - line) * loss[0] - line * loss[-1])[1:-1]
            below = ((1 - line) * accuracy[0] + line * accuracy[-1] - accuracy)[1:-1]
            return max(0.0, float(above.max())), max(0.0, float(below.max()))

        loss, accuracy = barriers(b.params)
        aligned: tuple[float | Undefined, float | Undefined]
        if isinstance(a.model.chain, Undefined):
            aligned = a.model.chain, a.model.chain
        else:
            chain = a.model.chain
            order = weight_matching(chain, a.params, b.params)
            aligned = barriers(jax.tree.map(jnp.asarray, permuted(chain, b.params, order)))
        return {"value": loss, "accuracy": accuracy, "aligned": aligned[0], "aligned_accuracy": aligned[1]}

    return functional_probe(info, value, 2, "model", logits=True)
