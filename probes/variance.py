"""Which of several causes makes networks differ: variance split into rule, initial weights and data order.

Networks are points whose squared distances are known. If every combination of the factors was trained equally often,
the sum of squared distances to the centroid falls apart into one part per factor and a rest, as in an analysis of
variance, without coordinates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probes.intervals import similarity_matrix
from probes.probe import ProbeError, one_of, positive_integer

REST = "rest"


@dataclass(frozen=True)
class Part:
    """One factor's part of the variance among networks.

    Attributes:
        factor: its name; "rest" for what no main effect explains: interactions and noise.
        df: degrees of freedom.
        squares: sum of squares, in units of squared distance.
        share: of the total sum of squares. Grows with the number of levels even without an effect: see `variance`.
        variance: estimated variance component, (mean square − mean square of the rest) / networks per level. Unbiased,
            so it may come out below 0: then nothing was found.
        p: share of permutations of that factor's labels (within the combinations of the other factors) with as large a
            sum of squares; None for the rest.
    """

    factor: str
    df: int
    squares: float
    share: float
    variance: float
    p: float | None


def squared_distances(values: Any, direction: str) -> np.ndarray:
    """Squared distances from a symmetric matrix of values between networks: d² of a distance, 2 − 2s of a similarity
    that is 1 for identical networks (for inner products of unit norm, such as CKA, the squared Euclidean distance)."""
    one_of("direction", direction, ("similarity", "distance"))
    V = similarity_matrix(values, "the matrix of values", square=True).copy()
    np.fill_diagonal(V, 1.0 if direction == "similarity" else 0.0)
    if not np.isfinite(V).all():
        raise ProbeError("some pairs of networks have no value; leave those networks out (and count them) first.")
    if abs(V - V.T).max() > 1e-9 * max(1.0, abs(V).max()):
        raise ProbeError("the values are not symmetric, so they are no distances; average both directions first.")
    return 2 - 2 * V if direction == "similarity" else V**2


def variance_split(d2: Any, factors: Mapping[str, Sequence], *, permutations: int = 999, seed: int = 0) -> list[Part]:
    """Parts of the variance among networks that each factor's main effect takes, then the rest.

        G = −½ H d² H,  H = I − 11ᵀ/N;   SS_f = tr(P_f G),  P_f the projection on centred indicators of f's levels

    d2: squared distances N×N (see `squared_distances`). factors: name → its level for each of the N networks, such as
    {"rule": [...], "init": [...], "order": [...]}.
    Source: Gower 1966, doi 10.1093/biomet/53.3-4.325 (G); Anderson 2001, doi 10.1111/j.1442-9993.2001.01070.pp.x.

    Raises:
        ProbeError: a factor has one level, or not every combination of levels occurs equally often (then a part could
            not be told from another's).
    """
    D = similarity_matrix(d2, "the matrix of squared distances", square=True)
    positive_integer("permutations", permutations)
    N = len(D)
    levels = {name: np.unique(np.asarray(list(map(str, of))), return_inverse=True)[1] for name, of in factors.items()}
    sizes = {name: int(codes.max()) + 1 for name, codes in levels.items() if len(codes)}
    _require_balance(levels, sizes, N)
    H = np.eye(N) - 1 / N
    G = -0.5 * H @ D @ H
    total = float(np.trace(G))
    parts, explained, used = [], 0.0, 0
    rng = np.random.default_rng(seed)
    for name, codes in levels.items():
        squares = _between(G, codes)
        others = np.zeros(N, dtype=int)
        for other, its in levels.items():
            others = others * sizes[other] + its if other != name else others
        drawn = [_between(G, _shuffled(codes, others, rng)) for _ in range(permutations)]
        p = (1 + sum(value >= squares - 1e-12 * abs(total) for value in drawn)) / (permutations + 1)
        parts.append((name, sizes[name] - 1, squares, p))
        explained += squares
        used += sizes[name] - 1
    df = N - 1 - used
    rest = max(total - explained, 0.0)
    if df < 1:
        raise ProbeError(
            "no network is left to estimate the rest from; train every combination, or leave a factor out."
        )
    share = 1 / total if total > 0 else 0.0
    return [
        *(Part(f, k, ss, ss * share, (ss / k - rest / df) / (N / (k + 1)), p) for f, k, ss, p in parts),
        Part(REST, df, rest, rest * share, rest / df, None),
    ]


def _require_balance(levels: dict[str, np.ndarray], sizes: dict[str, int], N: int) -> None:
    for name, codes in levels.items():
        if len(codes) != N:
            raise ProbeError(f"factor {name} names {len(codes)} levels for {N} networks; give one per network.")
        if sizes[name] < 2:
            raise ProbeError(f"factor {name} has one level, so nothing can differ by it; leave it out.")
    if not levels:
        raise ProbeError("there is no factor; give at least one, such as the rule of each network.")
    counts = np.unique(np.stack(list(levels.values())), axis=1, return_counts=True)[1]
    if len(counts) != np.prod(list(sizes.values())) or len(set(counts)) > 1:
        raise ProbeError(
            f"not every combination of {', '.join(levels)} occurs equally often, so their parts cannot be told apart; "
            "train the missing ones, or leave the odd ones out."
        )


def _between(G: np.ndarray, codes: np.ndarray) -> float:
    """tr(P G) for the projection on centred indicators: Σ over levels of the mean of G's block times its size."""
    indicator = np.eye(codes.max() + 1)[codes]
    return float(((indicator.T @ G * indicator.T).sum(axis=1) / indicator.sum(axis=0)).sum())


def _shuffled(codes: np.ndarray, strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The labels dealt anew inside each stratum, whose networks differ in nothing but this factor."""
    order = np.empty(len(codes), dtype=np.intp)
    order[np.argsort(strata, kind="stable")] = np.lexsort((rng.random(len(codes)), strata))
    return codes[order]
