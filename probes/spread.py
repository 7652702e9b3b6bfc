"""How the directions of the stimuli spread over the unit sphere; their lengths do not enter."""

from typing import Any

import numpy as np

from probes.features import class_labels, features
from probes.probe import SingleProbe, Undefined, single_info

INVARIANCES = frozenset({"permutation", "orthogonal", "isotropic-scaling"})
NOT_CENTRED = "rows are not centred; rows of zeros have no direction and are left out and counted"
BLOCK = 4_000_000  # numbers in a block of cosines


def directions(X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows of X divided by their lengths, without rows of zeros; and which rows these are (boolean, n)."""
    x = features(X)
    _, exponent = np.frexp(np.abs(x).max(axis=1, keepdims=True))
    x = np.ldexp(x, -exponent)  # exact, and the squares of a short row do not underflow
    used = x.any(axis=1)
    return x[used] / np.linalg.norm(x[used], axis=1, keepdims=True), used


def anisotropy() -> SingleProbe:
    """Mean cosine of two different stimuli.

        mean_{i≠j} cos(x_i, x_j) = (‖Σ_i u_i‖² − n) / (n(n−1)),  u = x/‖x‖

    X is n×d. Returns value and zero_rows (left out). Range −1/(n−1)..1: 0 for directions without preference, 1 when all
    are the same. Undefined for fewer than two rows that are not zero.
    Source: Ethayarajh 2019, arXiv 1909.00512.
    """
    info = single_info(
        name="anisotropy",
        title="anisotropy (mean cosine)",
        formula="mean_{i≠j} cos(x_i, x_j)",
        citation="Ethayarajh 2019, arXiv 1909.00512",
        range=(-1.0, 1.0),
        invariances=INVARIANCES,
        convention="all pairs, in closed form, not a sample of them; " + NOT_CENTRED,
        cost="n·d",
        traps="Activations that are never negative have a positive mean cosine without any structure: the mean alone "
        "makes it.",
    )

    def value(X: Any) -> dict[str, float] | Undefined:
        u, used = directions(X)
        n = len(u)
        if n < 2:
            return Undefined(f"a pair of directions is needed, and {n} of {len(used)} rows are not all zero")
        mean = (float(np.linalg.norm(u.sum(axis=0))) ** 2 - n) / (n * (n - 1))
        return {"value": min(1.0, mean), "zero_rows": float((~used).sum())}

    return SingleProbe(info, value)


def uniformity() -> SingleProbe:
    """How evenly the directions fill the sphere: log mean Gaussian potential of pairs.

        log mean_{i<j} exp(−2 ‖u_i − u_j‖²),  u = x/‖x‖

    X is n×d. Returns value and zero_rows (left out). Range −8..0: 0 when all directions are the same; uniform
    directions approach −4 as d grows. Undefined for fewer than two rows that are not zero.
    Source: Wang and Isola 2020, arXiv 2005.10242.
    """
    info = single_info(
        name="uniformity",
        title="uniformity on the sphere",
        formula="log mean_{i<j} exp(−2‖u_i − u_j‖²), u = x/‖x‖",
        citation="Wang, Isola 2020, arXiv 2005.10242",
        range=(-8.0, 0.0),
        invariances=INVARIANCES,
        convention="t = 2, on the unit sphere (without it the exponentials underflow), a stimulus is not paired with "
        "itself; " + NOT_CENTRED,
        cost="n²·d",
        traps="Lower is more uniform, which is not better by itself: read alignment beside it. Few near pairs decide "
        "it.",
    )

    def value(X: Any) -> dict[str, float] | Undefined:
        u, used = directions(X)
        n = len(u)
        if n < 2:
            return Undefined(f"a pair of directions is needed, and {n} of {len(used)} rows are not all zero")
        total, block = 0.0, max(1, BLOCK // n)
        for start in range(0, n, block):
            cosine = u[start : start + block] @ u.T
            total += float(np.exp(4.0 * (np.minimum(cosine, 1.0) - 1.0)).sum())
        # Each direction has potential 1 with itself.
        return {"value": float(np.log((total - n) / (n * (n - 1)))), "zero_rows": float((~used).sum())}

    return SingleProbe(info, value)


def alignment() -> SingleProbe:
    """Mean squared distance, on the unit sphere, of two stimuli of the same class.

        mean_{i≠j, y_i=y_j} ‖u_i − u_j‖² = 2 − 2 Σ_c (‖Σ_{i∈c} u_i‖² − n_c) / Σ_c n_c(n_c−1),  u = x/‖x‖

    X is n×d, labels has n entries. Returns value and zero_rows (left out). Range 0..4: 0 when each class has one
    direction. Undefined when no class has two rows that are not zero.
    Source: Wang and Isola 2020, arXiv 2005.10242.
    """
    info = single_info(
        name="alignment",
        title="alignment inside classes",
        formula="mean ‖u_i − u_j‖² over pairs of one class, u = x/‖x‖",
        citation="Wang, Isola 2020, arXiv 2005.10242",
        range=(0.0, 4.0),
        invariances=INVARIANCES,
        convention="the positive pairs are all pairs of stimuli with one label (the paper takes two views of one "
        "image), each pair counts the same, exponent 2; " + NOT_CENTRED,
        cost="n·d",
        traps="Also 0 when all classes collapse to one direction: read uniformity beside it. Large classes have most "
        "of the pairs.",
    )

    def value(X: Any, labels: Any) -> dict[str, float] | Undefined:
        u, used = directions(X)
        y = class_labels(labels, len(used))[used]
        sizes = np.bincount(y, minlength=1)
        pairs = float((sizes * (sizes - 1)).sum())
        if pairs == 0:
            return Undefined("no class has two rows that are not all zero, so there is no pair to measure")
        sums = np.stack([u[y == c].sum(axis=0) for c in range(len(sizes))])
        mean = (float(np.linalg.norm(sums)) ** 2 - len(u)) / pairs
        return {"value": max(0.0, 2.0 - 2.0 * mean), "zero_rows": float((~used).sum())}

    return SingleProbe(info, value, needs=("labels",))
