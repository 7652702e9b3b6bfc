"""Exact moments of a permutation null, without drawing a permutation.

A value that is an inner product of symmetric matrices, T(π) = Σ_ij A_ij B_π(i)π(j), is a sum over index patterns. For
a random π the mean of B_π(i)π(j) B_π(k)π(l) ... depends only on which of i, j, k, l are equal, so each power of T is a
sum over the set partitions of its indices of

    (Σ over distinct indices of A's product) (Σ over distinct indices of B's product) / (n (n−1) ... (n−v+1)),

with v distinct indices. Sums over distinct indices follow from free sums by Möbius inversion on the lattice of
partitions, and a free sum factors over the connected parts of the multigraph whose edges are the matrix entries.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from probes.probe import ProbeError

Partition = tuple[tuple[int, ...], ...]
Graph = tuple[tuple[int, int], ...]

# A permutation that leaves the value alone in exact arithmetic must count as a tie, not as less extreme.
TIE = 1e-10


@dataclass(frozen=True)
class Sums:
    """What the permutation moments need to know of one symmetric matrix A (n×n), after its diagonal and its
    off-diagonal entries have each been centred.

    Attributes:
        n: rows.
        diagonal, off_diagonal: the two means that were taken off; T is moved by a constant that `moments` puts back.
        free: free sum of each connected multigraph of at most three edges, by the name `_shape` gives it.
    """

    n: int
    diagonal: float
    off_diagonal: float
    free: dict[str, float]


def sums(matrix: np.ndarray) -> Sums:
    """Sums of a symmetric n×n matrix, n ≥ 2: one product of two n×n matrices and passes over their entries.

    Raises:
        ProbeError: not square, smaller than 2×2, not finite or not symmetric.
    """
    A = np.array(matrix, dtype=np.float64)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or len(A) < 2:
        raise ProbeError(f"permutation moments need a square matrix of at least 2 rows; got shape {A.shape}.")
    if not np.isfinite(A).all() or abs(A - A.T).max() > 1e-9 * max(abs(A).max(), 1e-300):
        raise ProbeError("permutation moments need a finite symmetric matrix; sample permutations instead.")
    n = len(A)
    diagonal = float(np.trace(A)) / n
    off_diagonal = float(A.sum() - np.trace(A)) / (n * (n - 1))
    A -= off_diagonal
    A[np.diag_indices(n)] += off_diagonal - diagonal
    a, r = np.diag(A).copy(), A.sum(axis=1)
    squares = A * A
    q, Aa, Ar = squares.sum(axis=1), A @ a, A @ r
    free = {
        "loop": a.sum(),
        "edge": r.sum(),
        "loop loop": a @ a,
        "loop edge": a @ r,
        "double": q.sum(),
        "path": r @ r,
        "loop loop loop": (a**3).sum(),
        "loop loop edge": a**2 @ r,
        "loop double": a @ q,
        "loop at path's end": a @ Ar,
        "loop at path's middle": a @ r**2,
        "loop edge loop": a @ Aa,
        "triple": np.vdot(squares, A),
        "double edge": q @ r,
        "triangle": np.vdot(A @ A, A),
        "long path": r @ Ar,
        "star": (r**3).sum(),
    }
    return Sums(n, diagonal, off_diagonal, {name: float(value) for name, value in free.items()})


@dataclass(frozen=True)
class Moments:
    """Mean, standard deviation and skewness of a value over all n! permutations."""

    mean: float
    sd: float
    skewness: float

    def p_at_least(self, value: Any) -> np.ndarray | float:
        """Probability that a permutation gives at least `value`: Pearson's type III distribution (a shifted gamma) with
        these three moments. An approximation of the permutation p: at a skewness of 1.5 the 5 % and 1 % points are met
        within Monte Carlo error, at 4 (a few outlier stimuli rule the value) 5 % is 3.5 %; sample there.

        Source: Josse, Pagès and Husson 2008, doi 10.1016/j.csda.2008.06.012.
        """
        from scipy.stats import pearson3

        if self.sd == 0:  # a value that is more by rounding alone is a tie
            return np.where(np.asarray(value) > self.mean + TIE * max(1.0, abs(self.mean)), 0.0, 1.0)[()]
        return pearson3.sf((np.asarray(value) - self.mean) / self.sd, self.skewness)[()]

    def quantile(self, level: float) -> float:
        """The value that a permutation stays below with probability `level`, by the same distribution."""
        from scipy.stats import pearson3

        return self.mean + self.sd * float(pearson3.ppf(level, self.skewness)) if self.sd else self.mean


def moments(a: Sums, b: Sums) -> Moments:
    """Moments of T(π) = Σ_ij A_ij B_π(i)π(j) over all permutations π of n ≥ 2 indices; exact up to rounding.

    For U-centred matrices (zero diagonal, zero row sums, as debiased CKA and the unbiased distance covariance have) of
    unit norm the variance is 2/(n(n−3)), whatever the data.
    Source: Mantel 1967, Cancer Research 27:209; Kazi-Aoual, Hitier, Sabatier and Lebreton 1995,
    doi 10.1016/0167-9473(94)00064-W (first three moments for centred matrices).

    Raises:
        ProbeError: the two matrices differ in size.
    """
    if a.n != b.n:
        raise ProbeError(f"the two matrices have {a.n} and {b.n} rows; row i of both must be the same stimulus.")
    n = a.n
    constant = n * a.diagonal * b.diagonal + n * (n - 1) * a.off_diagonal * b.off_diagonal
    second, third = _raw_moment(2, a, b), _raw_moment(3, a, b)
    sd = math.sqrt(max(second, 0.0))
    size = math.sqrt(a.free["double"] * b.free["double"]) + n * abs(a.diagonal * b.diagonal)
    if sd <= 1e-12 * size:  # every permutation gives the same value; what is left is rounding
        return Moments(constant, 0.0, 0.0)
    return Moments(constant, sd, third / sd**3)


def _raw_moment(order: int, a: Sums, b: Sums) -> float:
    """E[T^order] of the centred matrices."""
    total = 0.0
    for graph, count in _patterns(order).items():
        v = 1 + max(itertools.chain(*graph))
        if v > a.n:
            continue
        total += count * _distinct(graph, a) * _distinct(graph, b) / math.perm(a.n, v)
    return total


def _distinct(graph: Graph, s: Sums) -> float:
    """Sum of the product of the entries named by the edges over all assignments of *distinct* indices to vertices."""
    return sum(weight * math.prod(s.free[part] for part in parts) for parts, weight in _inversion(graph).items())


@cache
def _inversion(graph: Graph) -> dict[tuple[str, ...], int]:
    """Möbius inversion: the sum over distinct indices as a combination of products of free sums."""
    vertices = range(1 + max(itertools.chain(*graph)))
    terms: Counter[tuple[str, ...]] = Counter()
    for partition in _partitions(tuple(vertices)):
        block = {vertex: i for i, members in enumerate(partition) for vertex in members}
        merged = [(block[i], block[j]) for i, j in graph]
        weight = math.prod((-1) ** (len(members) - 1) * math.factorial(len(members) - 1) for members in partition)
        terms[tuple(sorted(_shape(part) for part in _components(merged)))] += weight
    return {parts: weight for parts, weight in terms.items() if weight}


@cache
def _patterns(order: int) -> dict[Graph, int]:
    """Every way in which the indices of `order` matrix entries can coincide, with how often it occurs."""
    found: Counter[Graph] = Counter()
    for partition in _partitions(tuple(range(2 * order))):
        block = {slot: i for i, members in enumerate(partition) for slot in members}
        edges = [(block[2 * e], block[2 * e + 1]) for e in range(order)]
        found[_canonical(edges)] += 1
    return dict(found)


def _canonical(edges: list[tuple[int, int]]) -> Graph:
    """The same multigraph for all namings of its vertices: the smallest sorted edge list."""
    vertices = sorted({v for edge in edges for v in edge})
    best = None
    for names in itertools.permutations(range(len(vertices))):
        name = dict(zip(vertices, names, strict=True))
        graph = tuple(sorted(tuple(sorted((name[i], name[j]))) for i, j in edges))
        best = graph if best is None or graph < best else best
    return best


def _partitions(items: tuple[int, ...]) -> list[Partition]:
    """All set partitions."""
    if not items:
        return [()]
    first, rest = items[0], items[1:]
    made = []
    for partition in _partitions(rest):
        made.append(((first,), *partition))
        for i, block in enumerate(partition):
            made.append((*partition[:i], (first, *block), *partition[i + 1 :]))
    return made


def _components(edges: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Edges by connected part."""
    parts: list[list[tuple[int, int]]] = []
    for edge in edges:
        touching = [part for part in parts if any(set(edge) & set(other) for other in part)]
        parts = [part for part in parts if part not in touching]
        parts.append([edge, *itertools.chain(*touching)])
    return parts


def _shape(edges: list[tuple[int, int]]) -> str:
    """Name of a connected multigraph of at most three edges, as in `Sums.free`."""
    loops = [i for i, j in edges if i == j]
    links = Counter(tuple(sorted(edge)) for edge in edges if edge[0] != edge[1])
    degree = Counter(itertools.chain(*links.elements()))
    if not links:
        return " ".join(["loop"] * len(loops))
    if loops and len(links) == 1:
        times = next(iter(links.values()))
        if len(loops) == 2:
            return "loop loop edge" if loops[0] == loops[1] else "loop edge loop"
        return "loop edge" if times == 1 else "loop double"
    if loops:
        return "loop at path's middle" if degree[loops[0]] == 2 else "loop at path's end"
    if len(links) == 1:
        return ("edge", "double", "triple")[next(iter(links.values())) - 1]
    if len(links) == 2:
        return "path" if len(edges) == 2 else "double edge"
    if len(degree) == 3:
        return "triangle"
    return "star" if max(degree.values()) == 3 else "long path"
