"""What a similarity would be if there were nothing to see: permutation nulls and calibration.

Two nulls answer two questions. The *global* null permutes all stimuli of one representation: beating it means that
the two networks have something in common. The *within-class* null permutes stimuli only inside their class: beating
it means that they have more in common than the classes, which every network trained on the same labels shares. With
other groups than classes in place of the labels (subjects, sessions, categories) it is any restricted null.
Stimuli are taken to be exchangeable (inside a group, for the second null). Crops of one image or positions of one
feature map are not: rows of one stimulus (`Prepared.together` of them) move as one.

The global null of values that are inner products of symmetric matrices need not be drawn: its moments are known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probes.features import class_labels
from probes.moments import TIE, Moments, moments, sums
from probes.probe import PairProbe, Prepared, ProbeError, Undefined, one_of, positive_integer

KINDS = ("global", "within-class")
RESTRICTED = "restricted"

# Beyond this skewness three moments do not give the tail (see `Moments.p_at_least`), and permutations are drawn.
SKEWED = 1.5

# Nor do they say anything about the far tail: a smaller p is given as this one.
SMALLEST_P = 1e-6
COUNTABLE = 10  # stimuli; of fewer there are not even 1e6 orders


@dataclass(frozen=True, eq=False)
class NullResult:
    """An observed value beside its permutation null.

    Attributes:
        kind: "global", "within-class", or "restricted" to orders of the caller's.
        observed: the value that was tested.
        mean, sd: of the null values.
        p: probability of a value at least as alike as observed; where K permutations were drawn,
            (1 + #{null at least as alike}) / (K + 1), which is never below 1/(K + 1).
        threshold: τ, the value that unrelated representations pass with probability at most alpha.
        calibrated: how far the observed value lies beyond τ on the way to identical, in 0..1; Undefined where K is so
            small that nothing can lie beyond τ.
        permutations: K; 0 where the null is known in closed form.
        values: the K null values.
        alpha: level of the threshold.
    """

    kind: str
    observed: float
    mean: float
    sd: float
    p: float
    threshold: float
    calibrated: float | Undefined
    permutations: int
    values: np.ndarray
    alpha: float = 0.05


def global_permutation(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random order of n stimuli."""
    return rng.permutation(n)


def within_class_permutation(labels: Any, rng: np.random.Generator) -> np.ndarray:
    """A random order that moves each stimulus to the place of one of its own class; labels[order] equals labels.

    A class of one stimulus stays where it is; `probes.cautions` says how many there are.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ProbeError(f"labels have shape {labels.shape}; pass one class label per stimulus.")
    order = np.empty(len(labels), dtype=np.intp)
    order[np.argsort(labels, kind="stable")] = np.lexsort((rng.random(len(labels)), labels))
    return order


def orders(n: int, kind: str, labels: Any, permutations: int, seed: int) -> list[np.ndarray]:
    """The K orders of n stimuli of a null: a function of its arguments only, so that all pairs can be tested with the
    same ones."""
    one_of("kind", kind, KINDS)
    positive_integer("permutations", permutations)
    rng = np.random.default_rng(seed)
    if kind == "global":
        return [global_permutation(n, rng) for _ in range(permutations)]
    codes = class_labels(labels, n)
    return [within_class_permutation(codes, rng) for _ in range(permutations)]


def rows_of(order: np.ndarray, together: int) -> np.ndarray:
    """The order of rows when stimuli of so many consecutive rows each take this order."""
    order = np.asarray(order)
    return (order[:, None] * together + np.arange(together)).ravel() if together > 1 else order


def null_result(
    kind: str, observed: float, values: Any, *, direction: str = "similarity", best: float = 1.0, alpha: float = 0.05
) -> NullResult:
    """p-value, threshold and calibrated value from an observed value and its K null values.

    For a similarity s:  τ = the ⌈(1−α)(K+1)⌉-th smallest of {s} ∪ null,  calibrated = clip((s − τ)/(s_max − τ), 0, 1).
    For a distance d:    τ = the ⌈(1−α)(K+1)⌉-th largest of {d} ∪ null,   calibrated = clip((τ − d)/(τ − d_min), 0, 1).
    An order statistic rather than an interpolated quantile, because interpolation lets more than α through. With
    fewer than 1/α − 1 permutations τ is the most extreme value, which nothing passes, and no value is calibrated.
    `best` is s_max or d_min. The calibrated value is 0 when τ already is the best possible.
    Source: Gröger, Wen and Brbić 2026, arXiv 2602.14486.
    """
    one_of("kind", kind, (*KINDS, RESTRICTED))
    one_of("direction", direction, ("similarity", "distance"))
    if not 0 < alpha < 1:
        raise ProbeError(f"alpha={alpha!r} must lie between 0 and 1.")
    values = np.array(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or not math.isfinite(observed):
        raise ProbeError("a null needs a finite observed value and a non-empty vector of finite null values.")
    values.setflags(write=False)
    sign = 1.0 if direction == "similarity" else -1.0
    s, null, s_max = sign * observed, sign * values, sign * best
    K = len(null)
    # Relative to the values themselves: a distance may have any unit.
    slack = TIE * max(abs(s), float(np.abs(null).max()), abs(best) if math.isfinite(best) else 0.0)
    p = (1 + int((null >= s - slack).sum())) / (K + 1)
    rank = math.ceil((1 - alpha) * (K + 1) - 1e-9)
    tau = float(np.sort(np.append(null, s))[rank - 1])
    room = s_max - tau
    calibrated: float | Undefined = min(1.0, max(0.0, (s - tau) / room)) if room > slack else 0.0
    least = math.ceil(1 / alpha - 1e-9) - 1
    if least > K:
        drawn = "1 permutation" if K == 1 else f"{K} permutations"
        calibrated = Undefined(f"{drawn} cannot reach p = {alpha:g}; take at least {least}")
    return NullResult(
        kind=kind,
        observed=float(observed),
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if K > 1 else 0.0,
        p=p,
        threshold=sign * tau,
        calibrated=calibrated,
        permutations=K,
        values=values,
        alpha=alpha,
    )


def closed_form_null(observed: float, found: Moments, *, best: float = 1.0, alpha: float = 0.05) -> NullResult | None:
    """The global null of a similarity Σ_ij A_ij B_ij from the exact moments over all permutations.

    τ and p are those of Pearson's type III distribution with these three moments, p no smaller than 1e-6. None where
    the null is so skewed that three moments do not say how its tail runs; then permutations must be drawn.
    """
    if abs(found.skewness) > SKEWED:
        return None
    tau = found.quantile(1 - alpha)
    calibrated = min(1.0, max(0.0, (observed - tau) / (best - tau))) if best - tau > TIE else 0.0
    p = max(SMALLEST_P, float(found.p_at_least(observed)))
    return NullResult("global", observed, found.mean, found.sd, p, tau, calibrated, 0, np.empty(0), alpha)


def null_test(probe: PairProbe, px: Prepared, py: Prepared, *, alpha: float = 0.05) -> NullResult | Undefined | None:
    """`closed_form_null` of one pair, or None where there is none: another kind of value, or too skewed a null.

    Nor is there one for rows that move several at a time: these moments are over orders of single rows; nor for so few
    that their orders can be counted, for which no smooth distribution stands.
    """
    if probe.matrix is None or not probe.symmetric_matrix or px.together > 1 or px.n < COUNTABLE:
        return None
    observed = probe.value(px, py)
    if isinstance(observed, Undefined):
        return observed
    found = moments(*(sums(probe.matrix(p)) for p in (px, py)))
    return closed_form_null(observed, found, best=probe.info.range[1], alpha=alpha)


def maximum_null(
    observed: Any,
    null: Any,
    *,
    kind: str = "global",
    direction: str = "similarity",
    best: float = 1.0,
    alpha: float = 0.05,
) -> NullResult:
    """Null of the largest similarity among several, or of the smallest distance, such as over all pairs of layers.

    observed: any shape; null: (K, that shape), drawn with the *same* K permutations for all of them (as `orders` gives
    for one seed), so that what the values have in common is in the null too. The largest of many values is large by
    chance alone; the null of the maximum is the maximum of each draw. `best` is as in `null_result`.
    Source: Gröger, Wen and Brbić 2026, arXiv 2602.14486.
    """
    observed, null = np.asarray(observed, dtype=np.float64), np.asarray(null, dtype=np.float64)
    if null.shape[1:] != observed.shape or not observed.size:
        raise ProbeError(f"a null of shape {null.shape} does not belong to values of shape {observed.shape}; draw K.")
    one_of("direction", direction, ("similarity", "distance"))
    most = np.max if direction == "similarity" else np.min
    drawn = most(null.reshape(len(null), -1), axis=1)
    return null_result(kind, float(most(observed)), drawn, direction=direction, best=best, alpha=alpha)


def permutation_test(
    probe: PairProbe,
    px: Prepared,
    py: Prepared,
    *,
    kind: str = "global",
    labels: Any = None,
    permutations: int = 200,
    seed: int = 0,
    alpha: float = 0.05,
    draws: Sequence[np.ndarray] | None = None,
) -> NullResult | Undefined:
    """Permutation null of one pair: the rows of y are re-ordered K times, x stays.

    Nothing is prepared anew: `probe.permute` only indexes. Undefined when the value itself is. Under
    `kind="restricted"` the stimuli take the orders in `draws`, the caller's own (trials inside their block, say).
    """
    observed = probe.value(px, py)
    if (kind == RESTRICTED) != (draws is not None):
        raise ProbeError('draws=..., the orders that are allowed, go with kind="restricted"; give both or neither.')
    draws = orders(py.n // py.together, kind, labels, permutations, seed) if draws is None else list(draws)
    if isinstance(observed, Undefined):
        return observed
    values = [probe.value(px, probe.permute(py, order)) for order in draws]
    for value in values:
        if isinstance(value, Undefined):
            return value
    direction = probe.info.direction
    best = probe.info.range[1] if direction == "similarity" else probe.info.range[0]
    return null_result(kind, observed, values, direction=direction, best=best, alpha=alpha)


def group_nulls(
    means: Sequence[np.ndarray | Undefined],
    *,
    kind: str = "global",
    labels: Any = None,
    permutations: int = 200,
    seed: int = 0,
    together: int = 1,
) -> np.ndarray:
    """Permutation null of the mean similarity between groups of networks, for all pairs of groups at once.

    means: g arrays (n×n), each the mean of `probe.matrix` over the networks of a group. Because a value is an inner
    product of matrices, the mean over all pairs (i in a, j in b) is the inner product of the two means, and

        null[k, a, b] = mean_ij ⟨M_i, π_k M_j π_kᵀ⟩ = ⟨M̄_a, π_k M̄_b π_kᵀ⟩

    costs one permutation of g matrices, however many networks there are. The same π_k serves all pairs of groups.
    The diagonal [k, a, a] includes i = j: there a network meets its own permuted self, which is no longer a
    comparison with itself. Each stimulus has `together` consecutive rows and one label.

    Returns: array (K, g, g).
    """
    stack = _stack(means)
    n, _, g = stack.shape
    draws = [rows_of(order, together) for order in orders(n // together, kind, labels, permutations, seed)]
    null = np.zeros((permutations, g, g))
    # Row blocks stay in the cache, with the group axis last one index fetches all g values, and buffers that live on
    # spare the allocator: together four times faster than permuting whole matrices. Orders are in range, so "clip"
    # changes nothing but lets take write straight into its buffer.
    block = max(1, 2**15 // (n * g))
    by_row, permuted = np.empty((block, n, g)), np.empty((block, n, g))
    for start in range(0, n, block):
        size = min(block, n - start)
        fixed = stack[start : start + size].reshape(-1, g).T.copy()
        for k, order in enumerate(draws):
            stack.take(order[start : start + size], axis=0, out=by_row[:size], mode="clip")
            by_row[:size].take(order, axis=1, out=permuted[:size], mode="clip")
            null[k] += fixed @ permuted[:size].reshape(-1, g)
    return null


def _stack(means: Sequence[np.ndarray | Undefined]) -> np.ndarray:
    """g matrices n×n as one array (n, n, g)."""
    arrays = []
    for i, mean in enumerate(means):
        if isinstance(mean, Undefined):
            raise ProbeError(f"group {i} has no mean matrix ({mean.reason}); leave the network out and count it.")
        arrays.append(np.asarray(mean, dtype=np.float64))
    shapes = {a.shape for a in arrays}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2 or len(set(next(iter(shapes)))) != 1:
        raise ProbeError(f"mean matrices must all be n×n with the same n; got shapes {sorted(shapes)}.")
    return np.stack(arrays, axis=-1)
