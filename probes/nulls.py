"""What a similarity would be if there were nothing to see: permutation nulls and calibration.

Two nulls answer two questions. The *global* null permutes all stimuli of one representation: beating it means that
the two networks have something in common. The *within-class* null permutes stimuli only inside their class: beating
it means that they have more in common than the classes, which every network trained on the same labels shares.
Stimuli are taken to be exchangeable (inside a class, for the second null); crops of one image or positions of one
feature map are not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probes.features import class_labels
from probes.probe import PairProbe, Prepared, ProbeError, Undefined, one_of, positive_integer

KINDS = ("global", "within-class")

NEIGHBOURHOODS = ("mutual-knn", "cycle-knn", "cknna", "jaccard", "rank-similarity", "second-order-cosine")
BIASED = ("rbf-cka", "distance-correlation(estimator=biased)", "eigenspace-overlap")

# A permutation that leaves the value alone in exact arithmetic must count as a tie, not as less extreme.
TIE = 1e-10


@dataclass(frozen=True, eq=False)
class NullResult:
    """An observed value beside its permutation null.

    Attributes:
        kind: "global" or "within-class".
        observed: the value that was tested.
        mean, sd: of the null values.
        p: (1 + #{null at least as alike as observed}) / (K + 1); never below 1/(K + 1).
        threshold: τ, the value that unrelated representations pass with probability at most alpha.
        calibrated: how far the observed value lies beyond τ on the way to identical, in 0..1.
        permutations: K.
        values: the K null values.
        alpha: level of the threshold.
    """

    kind: str
    observed: float
    mean: float
    sd: float
    p: float
    threshold: float
    calibrated: float
    permutations: int
    values: np.ndarray
    alpha: float = 0.05


def global_permutation(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random order of n stimuli."""
    return rng.permutation(n)


def within_class_permutation(labels: Any, rng: np.random.Generator) -> np.ndarray:
    """A random order that moves each stimulus to the place of one of its own class; labels[order] equals labels.

    A class of one stimulus stays where it is; `cautions` says how many there are.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ProbeError(f"labels have shape {labels.shape}; pass one class label per stimulus.")
    order = np.empty(len(labels), dtype=np.intp)
    order[np.argsort(labels, kind="stable")] = np.lexsort((rng.random(len(labels)), labels))
    return order


def orders(n: int, kind: str, labels: Any, permutations: int, seed: int) -> list[np.ndarray]:
    """The K orders of a null: a function of its arguments only, so that all pairs can be tested with the same ones."""
    one_of("kind", kind, KINDS)
    positive_integer("permutations", permutations)
    rng = np.random.default_rng(seed)
    if kind == "global":
        return [global_permutation(n, rng) for _ in range(permutations)]
    codes = class_labels(labels, n)
    return [within_class_permutation(codes, rng) for _ in range(permutations)]


def null_result(
    kind: str, observed: float, values: Any, *, direction: str = "similarity", best: float = 1.0, alpha: float = 0.05
) -> NullResult:
    """p-value, threshold and calibrated value from an observed value and its K null values.

    For a similarity s:  τ = the ⌈(1−α)(K+1)⌉-th smallest of {s} ∪ null,  calibrated = clip((s − τ)/(s_max − τ), 0, 1).
    For a distance d:    τ = the ⌈(1−α)(K+1)⌉-th largest of {d} ∪ null,   calibrated = clip((τ − d)/(τ − d_min), 0, 1).
    An order statistic rather than an interpolated quantile, because interpolation lets more than α through. With
    fewer than 1/α − 1 permutations τ is the most extreme value, so nothing passes. `best` is s_max or d_min. The
    calibrated value is 0 when τ already is the best possible.
    Source: Gröger, Wen and Brbić 2026, arXiv 2602.14486.
    """
    one_of("kind", kind, KINDS)
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
    slack = TIE * max(1.0, abs(s))
    p = (1 + int((null >= s - slack).sum())) / (K + 1)
    rank = math.ceil((1 - alpha) * (K + 1) - 1e-9)
    tau = float(np.sort(np.append(null, s))[rank - 1])
    room = s_max - tau
    calibrated = min(1.0, max(0.0, (s - tau) / room)) if room > slack else 0.0
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
) -> NullResult | Undefined:
    """Permutation null of one pair: the rows of y are re-ordered K times, x stays.

    Nothing is prepared anew: `probe.permute` only indexes. Undefined when the value itself is.
    """
    observed = probe.value(px, py)
    draws = orders(py.n, kind, labels, permutations, seed)
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
) -> np.ndarray:
    """Permutation null of the mean similarity between groups of networks, for all pairs of groups at once.

    means: g arrays (n×n), each the mean of `probe.matrix` over the networks of a group. Because a value is an inner
    product of matrices, the mean over all pairs (i in a, j in b) is the inner product of the two means, and

        null[k, a, b] = mean_ij ⟨M_i, π_k M_j π_kᵀ⟩ = ⟨M̄_a, π_k M̄_b π_kᵀ⟩

    costs one permutation of g matrices, however many networks there are. The same π_k serves all pairs of groups.
    The diagonal [k, a, a] includes i = j: there a network meets its own permuted self, which is no longer a
    comparison with itself.

    Returns: array (K, g, g).
    """
    stack = _stack(means)
    n, _, g = stack.shape
    draws = orders(n, kind, labels, permutations, seed)
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


def group_null(
    mean_a: np.ndarray,
    mean_b: np.ndarray,
    *,
    kind: str = "global",
    labels: Any = None,
    permutations: int = 200,
    seed: int = 0,
    alpha: float = 0.05,
    observed: float | None = None,
) -> NullResult:
    """Permutation null of the mean similarity over all pairs (i in group a, j in group b).

    mean_a, mean_b: n×n, mean of `probe.matrix` over each group. The observed value is ⟨mean_a, mean_b⟩ = the mean over
    all pairs, unless `observed` gives another one (such as the mean over pairs of different seeds).
    """
    null = group_nulls([mean_a, mean_b], kind=kind, labels=labels, permutations=permutations, seed=seed)[:, 0, 1]
    if observed is None:
        observed = float(np.vdot(mean_a, mean_b))
    return null_result(kind, observed, null, alpha=alpha)


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


def cautions(
    probe: PairProbe,
    n: int,
    d1: int,
    d2: int,
    labels: Any = None,
    prepared: Sequence[Prepared] = (),
) -> list[str]:
    """What a reader of this value at this n and these widths should be told, one line each; often nothing.

    `prepared` adds remarks on the rows (all-zero, duplicates) of the representations themselves.
    """
    name, d, settings = probe.info.name, max(d1, d2), dict(probe.info.params)
    said = []
    if name == "linear-cka" and n < 2 * d:
        expected = probe.info.null_mean(n, d1, d2)
        said.append(
            f"linear-cka: with n = {n} stimuli and {d1} and {d2} units, unrelated representations score about "
            f"{expected:.2f}; use debiased-cka or more than {2 * d} stimuli."
        )
    if name == "angular-procrustes" and n < 2 * d:
        said.append(
            f"angular-procrustes: with n = {n} stimuli and {d1} and {d2} units, the rotation fits noise and unrelated "
            f"representations come out close; use more than {2 * d} stimuli, or read the null."
        )
    if name == "debiased-cka" and n < 20:
        said.append(f"debiased-cka: unbiased but very noisy at n = {n} stimuli.")
    if probe.info.label.startswith(BIASED) and n < 2 * d:
        said.append(
            f"{name}: with n = {n} stimuli and {d1} and {d2} units, unrelated representations score high: read the "
            "null."
        )
    if name == "minibatch-cka" and n % settings["batch"]:
        said.append(f"minibatch-cka: the last {n % settings['batch']} of {n} stimuli fill no batch and are not used.")
    if name == "rtd" and n > settings["stimuli"]:
        said.append(f"rtd: only the first {settings['stimuli']} of {n} stimuli are used.")
    if name == "imd":
        said.append("imd: unpaired: it does not know which stimulus is which, so permuting stimuli tests nothing.")
    sizes = None if labels is None else np.bincount(class_labels(labels, n))
    if name in NEIGHBOURHOODS:
        k = settings["k"]
        if n > 1 and k / (n - 1) >= 0.1:
            what = "chance is" if name == "mutual-knn" else "a neighbour is shared by chance at a rate of"
            said.append(f"{name}: {what} {k / (n - 1):.2f} at k = {k} and n = {n}; use a smaller k.")
        if sizes is not None and len(sizes) > 1 and k >= sizes.min():
            said.append(
                f"{name}: k = {k} reaches outside the smallest class ({sizes.min()} stimuli), so classes decide "
                "part of the value; use a smaller k."
            )
    if sizes is not None:
        alone = int((sizes == 1).sum())
        if alone:
            said.append(
                f"{alone} of {len(sizes)} classes have one stimulus, which a within-class permutation cannot move: the "
                "within-class null is too high by what they share."
            )
        if len(sizes) == 1:
            said.append("there is one class only, so the within-class null is the global null.")
    for note in dict.fromkeys(note for p in prepared for note in p.notes):
        said.append(f"{note}.")
    return said
