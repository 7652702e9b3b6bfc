"""Which of several causes makes networks differ: variance split into rule, initial weights and data order.

Networks are points whose squared distances are known. If every combination of the factors was trained equally often,
the sum of squared distances to the centroid falls apart into one part per factor, one per interaction and a rest, as in
an analysis of variance, without coordinates.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probes.intervals import similarity_matrix
from probes.probe import ProbeError, one_of, positive_integer

REST = "rest"
Term = tuple[str, ...]
"""Names of the factors whose interaction it is; one for a main effect."""


@dataclass(frozen=True)
class Part:
    """The part of the variance among networks that one term takes: a factor, an interaction or the rest.

    Attributes:
        factor: its name; "a x b" for an interaction; "rest" for the interaction of all factors where every
            combination was trained once, for the spread within combinations otherwise.
        df: degrees of freedom.
        squares: sum of squares, in units of squared distance. Below 0 only if no Euclidean space has these distances.
        share: of the total sum of squares. Grows with the number of levels even without an effect: see `variance`.
        variance: estimated variance component; it may come out below 0: then nothing was found.
        p: of a factor's main effect; None for interactions and the rest (see `variance_split`).
        floor: the smallest p that so few levels could give; above .05 no data could be significant.
        within: the factors within whose levels this one's were exchanged for p, which is the largest of theirs.
    """

    factor: str
    df: int
    squares: float
    share: float
    variance: float
    p: float | None = None
    floor: float | None = None
    within: tuple[str, ...] = ()


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


def variance_split(
    d2: Any,
    factors: Mapping[str, Sequence],
    *,
    within: Mapping[str, str] | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> list[Part]:
    """Parts of the variance among networks that factors and their interactions take, then the rest.

        G = −½ H d² H,  H = I − 11ᵀ/N;   Σ_{∅≠T⊆S} SS_T = tr(P_S G),  P_S the projection on centred indicators of the
        combinations of levels of the factors in S

    With k_f levels of f, MS_T = SS_T / Π_{f∈T} (k_f − 1). In the random model (levels are drawn, the effects of the
    terms uncorrelated, with variance σ²_T in all, the rest among them) the expected mean squares are
    E MS_T = Σ_{S⊇T} σ²_S N / Π_{f∈S} k_f, which the estimated components solve:

        σ̂²_T = (Π_{f∈T} k_f / N) Σ_{S⊇T} (−1)^{|S|−|T|} MS_S,   such as (k_a/N) (MS_a − MS_ab − MS_ac + MS_abc)

    where every combination was trained once: the interaction of all is the rest then. Where each was trained more
    often, it is a term of its own, from whose mean square that of the rest is taken. Of factors whose levels are not
    drawn, such as rules, a component describes these levels alone.

    p of a main effect: its levels are exchanged as whole units, in each level of another factor anew; the networks of
    one unit, which share both levels, stay together, being no independent evidence. The statistic is F = (sum of the MS
    with +) / (sum of the MS with −) of the component above; with two factors it orders as SS_T does. All distinct
    exchanges are taken if they are at most `permutations`, otherwise that many random ones. Exchange within b is exact
    if the factor does nothing but for an interaction with b, however large. Which interactions there are is unknown: p
    is the largest over all other factors, hence valid whichever of them interacts, and approximate (by F) if several
    do. Interactions have no p: an exchange that moves one moves a main effect with it, so none is exact.

    Args:
        d2: squared distances N×N (see `squared_distances`).
        factors: name → its level for each of the N networks, such as {"rule": [...], "init": [...], "order": [...]}.
        within: factor → the only factor to exchange it within, where it is known with which level chance is drawn
            anew. An interaction with a third factor then counts as an effect. {"rule": "init"} if the random feedback
            weights of a rule go with the initial weights: fewer units than orders are then needed.

    Source: Gower 1966, doi 10.1093/biomet/53.3-4.325 (G); Anderson 2001, doi 10.1111/j.1442-9993.2001.01070.pp.x;
    Anderson and ter Braak 2003, doi 10.1080/00949650215733 (units of exchange); Cochran 1951, doi 10.2307/3001601 (F).

    Raises:
        ProbeError: a factor has one level, or not every combination of levels occurs equally often (then a part could
            not be told from another's); within names something else than two factors.
    """
    D = similarity_matrix(d2, "the matrix of squared distances", square=True)
    positive_integer("permutations", permutations)
    N = len(D)
    levels = {name: np.unique(np.asarray(list(map(str, of))), return_inverse=True)[1] for name, of in factors.items()}
    sizes = {name: int(codes.max()) + 1 for name, codes in levels.items() if len(codes)}
    _require_balance(levels, sizes, N)
    for name, unit in (within or {}).items():
        if name == unit or not {name, unit} <= set(levels):
            raise ProbeError(f"within={{{name!r}: {unit!r}}} must name two of the factors, {', '.join(levels)}.")
    H = np.eye(N) - 1 / N
    G = -0.5 * H @ D @ H
    total = float(np.trace(G))
    whole = tuple(levels)
    terms = [term for size in range(1, len(whole) + 1) for term in itertools.combinations(whole, size)]
    between = {term: _between(G, levels, term) for term in terms}
    df = {term: math.prod(sizes[name] - 1 for name in term) for term in terms}
    last = whole
    cells = math.prod(sizes.values())
    if len(whole) == 1 or cells < N:
        last = (*whole, REST)
        between[last], df[last] = total, N - cells
    if df[last] < 1:
        raise ProbeError(
            "no network is left to estimate the rest from; train every combination, or leave a factor out."
        )
    squares = _squares(between)
    rng = np.random.default_rng(seed)

    def exchanged(name: str, unit: str | None) -> tuple[float, float]:
        plus, minus = _sides((name,), squares, df)
        deals, splits = _exchanges(levels, name, unit, permutations, rng)
        tie = 1e-12 * total * (abs(plus) + abs(minus))
        hits = drawn = 0
        for codes in deals:
            dealt = {**levels, name: codes}
            # Units stay whole, so that sums over the combinations with theirs do not change.
            moved = {of: _between(G, dealt, of) for of in terms if name in of and unit not in of}
            its_plus, its_minus = _sides((name,), _squares(between | moved), df)
            hits += its_plus * minus >= plus * its_minus - tie  # F at least as large; divisors may be 0
            drawn += 1
        if unit is not None and drawn == splits:
            return hits / splits, 1 / splits
        floor = max(1 / splits, 1 / (drawn + 1))
        return max(floor, (1 + hits) / (drawn + 1)), floor

    def tested(name: str) -> tuple[float, float, tuple[str, ...]]:
        others = tuple(other for other in whole if other != name)
        units = (within[name],) if name in (within or {}) else others
        ps, floors = zip(*(exchanged(name, unit) for unit in units or [None]), strict=True)
        return max(ps), max(floors), units

    parts = []
    for term in df:
        plus, minus = _sides(term, squares, df)
        each = N / math.prod(sizes[name] for name in term) if term != last else 1.0
        name = " x ".join(term) if term != last else REST
        test = tested(*term) if len(term) == 1 else ()
        share = squares[term] / total if total > 0 else 0.0
        parts.append(Part(name, df[term], squares[term], share, (plus - minus) / each, *test))
    return parts


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


def _between(G: np.ndarray, levels: dict[str, np.ndarray], term: Term) -> float:
    """tr(P G) for the projection on centred indicators of combinations of levels, which are equally frequent: the sum
    of G over pairs of networks in one combination, over their number in each."""
    cells = np.ravel_multi_index([levels[name] for name in term], [levels[name].max() + 1 for name in term])
    return float((G * (cells[:, None] == cells)).sum() * (cells.max() + 1) / len(cells))


def _squares(between: dict[Term, float]) -> dict[Term, float]:
    """Every term's own sum of squares: what its combinations explain and no smaller term in it does."""
    own: dict[Term, float] = {}
    for term, squares in between.items():
        own[term] = squares - sum(its for other, its in own.items() if set(other) < set(term))
    return own


def _sides(term: Term, squares: dict[Term, float], df: dict[Term, int]) -> tuple[float, float]:
    """The mean squares that a component adds, summed, and those that it takes away."""
    sides = [0.0, 0.0]
    for other in df:
        if set(term) <= set(other) and (REST not in other or len(other) <= len(term) + 1):
            sides[(len(other) - len(term)) % 2] += squares[other] / df[other]
    return sides[0], sides[1]


def _exchanges(
    levels: dict[str, np.ndarray], name: str, unit: str | None, permutations: int, rng: np.random.Generator
) -> tuple[Iterator[np.ndarray], int]:
    """A factor's levels dealt anew in each level of `unit`, and in how many ways they split the networks.

    All of these, if they are few: the first level of `unit` keeps its own, since names of levels mean nothing. Without
    a `unit` every network is one.
    """
    codes, k = levels[name], int(levels[name].max()) + 1
    if unit is None:
        splits = math.factorial(len(codes)) // (math.factorial(len(codes) // k) ** k * math.factorial(k))
        return (rng.permutation(codes) for _ in range(permutations)), splits
    blocks = int(levels[unit].max()) + 1
    splits = math.factorial(k) ** (blocks - 1)
    if splits <= permutations:
        orders = itertools.product(itertools.permutations(range(k)), repeat=blocks - 1)
        tables = (np.array([range(k), *its]) for its in orders)
    else:
        tables = (np.argsort(rng.random((blocks, k)), axis=1) for _ in range(permutations))
    return (table[levels[unit], codes] for table in tables), splits
