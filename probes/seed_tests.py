"""Exact tests over seeds: would the difference between two rules survive if the rule labels were dealt anew?

The statistic is the contrast Δ of `probes.intervals`: half the two within-rule means minus the between-rule mean, the
form of an energy statistic. It does not change when the two rules swap names, so every relabelling has a mirror image
with the same Δ, and the smallest p that can be reached is twice one over the number of relabellings.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probes.intervals import similarity_matrix
from probes.probe import ProbeError, one_of, positive_integer

EXACT_SPLITS = 20_000
EXACT_SWAPS = 2**12
TIE = 1e-12


@dataclass(frozen=True)
class SeedTest:
    """Result of a test over seeds.

    value: the contrast Δ, positive if the rules differ more than seeds do. p: share of relabellings with Δ at least
    as large. floor: the smallest p these seeds could give; a floor above .05 means that no data could be significant.
    arrangements: how many relabellings were looked at. exact: whether those were all.
    """

    value: float
    p: float
    floor: float
    arrangements: int
    exact: bool
    method: str


def _signed(direction: str) -> float:
    one_of("direction", direction, ("similarity", "distance"))
    return 1.0 if direction == "similarity" else -1.0


def _finish(observed: float, null: np.ndarray, largest: float, exact: bool, floor: float, method: str) -> SeedTest:
    # `largest` of the values between networks, whatever their unit: their differences are rounded as they are.
    slack = TIE * largest
    extreme = int((null >= observed - slack).sum())
    p = extreme / len(null) if exact else (1 + extreme) / (len(null) + 1)
    return SeedTest(observed, p, floor, len(null), exact, method)


def seed_label_test(
    S_all: Any,
    groups: Sequence,
    *,
    direction: str = "similarity",
    seeds: Sequence | None = None,
    samples: int = 10_000,
    seed: int = 0,
) -> SeedTest:
    """Permutation test of Δ over the rule labels of all networks of two rules.

    S_all is M×M over all networks (diagonal ignored, symmetric), groups holds the rule of each. All
    C(M, m) divisions into groups of the given sizes are taken if there are at most 20000, otherwise `samples` random
    ones. Smallest p for m against m seeds: 2/C(2m, m) = .10 (3), .029 (4), .0079 (5).

    Assumes that networks are exchangeable if the rule has no effect: they must be *independent*, each with a seed of
    its own. Networks of two rules that share a seed start from the same weights; for those use `paired_swap_test`.
    `seeds` (one per network) makes this check: a seed that occurs twice is an error.
    """
    sign = _signed(direction)
    S = sign * similarity_matrix(S_all, "S_all", square=True)
    M = len(S)
    groups = list(groups)
    names = sorted(set(groups), key=groups.index)
    if len(groups) != M or len(names) != 2:
        raise ProbeError(f"groups must name one of two rules for each of the {M} networks; got {groups}.")
    if seeds is not None and len(set(seeds)) < M:
        raise ProbeError("some networks share a seed, so their labels are not exchangeable; use paired_swap_test.")
    S[np.eye(M, dtype=bool)] = 0.0
    if not np.isfinite(S).all():
        raise ProbeError("S_all has undefined entries; leave those networks out (and count them) first.")
    labels = np.array([g == names[0] for g in groups])
    m = int(labels.sum())
    if m < 2 or M - m < 2:
        raise ProbeError(f"each rule needs at least two networks, got {m} and {M - m}; train more seeds.")

    def contrasts(a: np.ndarray) -> np.ndarray:
        b = 1.0 - a
        aS, bS = a @ S, b @ S
        within_a = (aS * a).sum(axis=1) / (m * (m - 1))
        within_b = (bS * b).sum(axis=1) / ((M - m) * (M - m - 1))
        between = ((aS * b).sum(axis=1) + (bS * a).sum(axis=1)) / (2 * m * (M - m))
        return (within_a + within_b) / 2 - between

    observed = float(contrasts(labels[None].astype(float))[0])
    splits = math.comb(M, m)
    exact = splits <= EXACT_SPLITS
    if exact:
        chosen = np.array(list(itertools.combinations(range(M), m)))
    else:
        positive_integer("samples", samples)
        rng = np.random.default_rng(seed)
        chosen = np.argsort(rng.random((samples, M)), axis=1)[:, :m]
    assignment = np.zeros((len(chosen), M))
    np.put_along_axis(assignment, chosen, 1.0, axis=1)
    mirrored = 2 if 2 * m == M else 1
    floor = mirrored / splits if exact else 1 / (samples + 1)
    method = f"{'all' if exact else 'random'} divisions of {M} networks into {m} and {M - m}"
    return _finish(observed, contrasts(assignment), float(np.abs(S).max()), exact, floor, method)


def paired_swap_test(
    S_aa: Any,
    S_bb: Any,
    S_ab: Any,
    *,
    direction: str = "similarity",
    samples: int = 10_000,
    seed: int = 0,
) -> SeedTest:
    """Swap test of Δ for rules paired by seed: within each seed, the two networks may exchange their rules.

    S_aa, S_bb, S_ab are m×m, all in the same order of seeds; pairs of one seed are never read, since networks that
    share a seed are alike for that reason. If the rule has no effect, swapping the two networks of any seed changes
    nothing in distribution, whatever they share. With Q_ij = ½(aa_ij + bb_ij) − ½(ab_ij + ab_ji), a swap pattern
    ε ∈ {−1, 1}^m turns the contrast into

        Δ(ε) = Σ_{i≠j} ε_i ε_j Q_ij / (m(m−1)),   Δ = Δ(1)

    ε and −ε give the same Δ, so there are 2^(m−1) patterns and the smallest p is 1/2^(m−1): .25 (3 seeds), .125 (4),
    .0625 (5), .031 (6), .0020 (10). At least 6 seeds are needed to reach .05. All patterns are taken up to 13 seeds,
    otherwise `samples` random ones.
    """
    sign = _signed(direction)
    aa, bb, ab = (
        similarity_matrix(S, name, square=True) for S, name in ((S_aa, "S_aa"), (S_bb, "S_bb"), (S_ab, "S_ab"))
    )
    m = len(aa)
    if bb.shape != aa.shape or ab.shape != aa.shape:
        raise ProbeError(f"paired rules need the same seeds; got {aa.shape}, {bb.shape}, {ab.shape}.")
    if m < 2:
        raise ProbeError("one seed has no pair of different seeds; train more seeds.")
    Q = sign * ((aa + aa.T + bb + bb.T) / 4 - (ab + ab.T) / 2)
    apart = ~np.eye(m, dtype=bool)
    Q[~apart] = 0.0
    if not np.isfinite(Q).all():
        raise ProbeError("some pairs are undefined; leave those seeds out (and count them) first.")
    patterns = 2 ** (m - 1)
    exact = patterns <= EXACT_SWAPS
    if exact:
        bits = np.arange(patterns)[:, None] >> np.arange(m) & 1  # the last seed is never swapped
    else:
        positive_integer("samples", samples)
        bits = np.random.default_rng(seed).integers(0, 2, size=(samples, m))
    e = 1.0 - 2.0 * bits
    null = ((e @ Q) * e).sum(axis=1) / (m * (m - 1))
    observed = float(Q.sum() / (m * (m - 1)))
    floor = 1 / patterns if exact else 1 / (samples + 1)
    method = f"{'all' if exact else 'random'} swaps of rule labels within {m} seeds"
    largest = max(float(np.abs(values[apart]).max()) for values in (aa, bb, ab))
    return _finish(observed, null, largest, exact, floor, method)
