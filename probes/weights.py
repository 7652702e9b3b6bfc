"""Weights themselves: their spectra, how far training took them, and what of them the feedback shares.

Norms of weights are no property of the function: scaling a rectifier's inputs up and its outputs down changes them
and nothing else. Compare networks of one architecture, from one distribution of initial weights.
"""

import math
from typing import Any

import numpy as np

from probes.features import features, scaled
from probes.probe import ProbeError, Undefined
from probes.spectrum import exponent_of, stable_rank_of

Parts = dict[str, float | Undefined]


def matrices(params: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Every weight array of nested dicts as a matrix inputs × units, by the name of its layer; no bias is one.

    A convolution's kernel becomes (height · width · channels in) × channels out. Names of nested blocks are joined by
    dots, without the last part "kernel".
    """
    found = {}
    for name, leaf in params.items():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(leaf, dict):
            found |= matrices(leaf, path)
        elif np.ndim(leaf) >= 2 and name != "bias":  # of a transformer's patches, one for each place
            layer = path.removesuffix(".kernel")
            found[layer] = features(np.reshape(leaf, (-1, np.shape(leaf)[-1])), f"the weights of {layer}")
    return found


def weight_spectrum_of(W: np.ndarray, low: int, high: int) -> Parts | Undefined:
    """Stable rank Σσ²/σ₁² of a matrix (uncentred), as "value"; spectral norm σ₁, Frobenius norm, and exponent.

    The exponent, with r2 of its fit, is that of σ_i² ∝ i^−a over ranks low..high. Undefined for a matrix of zeros.
    """
    s = np.linalg.svd(W, compute_uv=False)
    rank, fit = stable_rank_of(s), exponent_of(s, low, high)
    if isinstance(rank, Undefined):
        return Undefined("the weights are all zero")
    fitted = {"value": fit, "r2": fit} if isinstance(fit, Undefined) else fit
    return {
        "value": rank,
        "spectral": float(s[0]),
        "frobenius": length(s),
        "exponent": fitted["value"],
        "r2": fitted["r2"],
    }


def length(array: np.ndarray) -> float:
    """Euclidean norm of all entries, whose squares neither over- nor underflow."""
    largest = float(np.abs(array).max(initial=0.0))
    return largest * float(np.linalg.norm(array / largest)) if largest > 0 else 0.0


def _flat(tree: Any) -> np.ndarray:
    """All weights of nested dicts in one vector, in the order of sorted names.

    Running averages of batch normalisation, which networks hold under "statistics", are no weights.
    """
    if isinstance(tree, dict):
        return np.concatenate([np.zeros(0), *(_flat(tree[name]) for name in sorted(tree) if name != "statistics")])
    return np.asarray(tree, np.float64).ravel()


def tree_length(tree: Any) -> float:
    """Euclidean norm of all weights of nested dicts."""
    return length(_flat(tree))


def _shape(tree: Any) -> Any:
    return {name: _shape(leaf) for name, leaf in tree.items()} if isinstance(tree, dict) else np.shape(tree)


def _same_shape(first: Any, second: Any) -> None:
    if _shape(first) != _shape(second):
        raise ProbeError("the two parameter trees differ in names or shapes; compare networks of one architecture.")


def weight_change(params: Any, initial: Any) -> float | Undefined:
    """Relative distance of all weights from where they started, `‖θ − θ₀‖/‖θ₀‖`; undefined if that was 0."""
    _same_shape(params, initial)
    now, before = _flat(params), _flat(initial)
    size = float(np.linalg.norm(before))
    if size == 0:
        return Undefined("the initial weights are all zero, so there is no relative distance from them")
    return float(np.linalg.norm(now - before)) / size


def subspace_overlap_of(first: Any, second: Any, k: int) -> Parts | Undefined:
    """Overlap of the k leading singular subspaces of two matrices m × n (inputs × units).

    `‖U₁ᵀU₂‖²_F/k` of their inputs as "value" and `‖V₁ᵀV₂‖²_F/k` as "units"; "chance" k/m and "chance_units" k/n of
    independent random ones. Undefined where a matrix has a rank below k.
    """
    pair = [scaled(features(M, "a weight matrix")) for M in (first, second)]
    m, n = pair[0].shape
    if pair[1].shape != (m, n):
        raise ProbeError(f"the matrices have shapes {pair[0].shape} and {pair[1].shape}; compare the same layer.")
    bases = []
    for M in pair:
        u, s, vt = np.linalg.svd(M, full_matrices=False)
        rank = int((s > s[0] * max(m, n) * np.finfo(np.float64).eps).sum())
        if rank < k:
            why = f"the weights have rank {rank}, which leaves no subspace of {k} directions"
            return Undefined(why + f": take subspace-overlap(k={rank}) or less" * (rank > 0))
        bases.append((u[:, :k], vt[:k].T))
    inputs, units = (float(np.linalg.norm(bases[0][i].T @ bases[1][i]) ** 2) / k for i in (0, 1))
    return {"value": inputs, "units": units, "chance": k / m, "chance_units": k / n}


def alignment(first: Any, second: Any) -> Parts | Undefined:
    """Angle between two arrays of one shape, as vectors: cosine, angle in degrees, ratio of norms, and z.

        cos = ⟨u, v⟩/(‖u‖‖v‖);  z = cos · √N,  N entries: independent random directions have cos ~ N(0, 1/N)

    The angle keeps its digits near 0 and 180 degrees. Undefined where one of the arrays is all zero.
    """
    u, v = (np.asarray(array, np.float64).ravel() for array in (first, second))
    if np.shape(first) != np.shape(second):
        raise ProbeError(f"arrays have shapes {np.shape(first)} and {np.shape(second)}; transpose or reshape first.")
    if not (np.isfinite(u).all() and np.isfinite(v).all()):
        raise ProbeError("an array has non-finite entries; a diverged network has no angle: leave it out.")
    if not (u.any() and v.any()):
        return Undefined("an array is all zero and has no direction")
    a, b = scaled(u), scaled(v)
    norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    # Scaling was by powers of two, so these quotients are exact, and no norm over- or underflows.
    ratio = norm_a / norm_b * float((np.abs(u).max() / np.abs(a).max()) / (np.abs(v).max() / np.abs(b).max()))
    a, b = a / norm_a, b / norm_b
    cosine = float(a @ b)
    return {
        "cosine": cosine,
        "angle": math.degrees(2.0 * math.atan2(float(np.linalg.norm(a - b)), float(np.linalg.norm(a + b)))),
        "norm_ratio": ratio,
        "z": cosine * math.sqrt(u.size),
    }


def weight_feedback_alignment(W: Any, B: Any) -> Parts | Undefined:
    """Alignment of forward weights with the feedback weights that stand for their transpose, both m × n.

    W is inputs × units of the layer above; B has the same shape if the error travels back as `δ Bᵀ`. For direct
    feedback, W is the product of all matrices from the layer to the output. See `alignment` for what comes back; z
    counts standard deviations of chance, which are 1/√(mn).
    Source: Lillicrap, Cownden, Tweed and Akerman 2016, doi 10.1038/ncomms13276.
    """
    return alignment(W, B)


def direction_alignment(direction: dict[str, Any], reference: dict[str, Any]) -> dict[str, Parts | Undefined]:
    """Of each block: `alignment` of a rule's direction with a reference such as the exact gradient.

    Same parameters, same batch, before any optimiser. One number for all blocks would be that of the largest block.
    High alignment is necessary for descent, not sufficient for learning.
    """
    _same_shape(direction, reference)
    return {name: alignment(_flat(direction[name]), _flat(reference[name])) for name in direction}
