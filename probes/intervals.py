"""Intervals over seeds, the unit of the experiment.

Pairs of networks are not samples: all pairs of one seed share that network. An interval computed over pairs covers
far less often than it says, and the more so the more seeds there are. Every interval here leaves out one seed at a
time, recomputes the statistic from the pairs that remain, and takes the spread of those values (the jackknife).
Matrices hold values between networks; entry [i, j] belongs to seed i of the first group and seed j of the second.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from probes.probe import ProbeError, Undefined, one_of

SAME_SEED = ("exclude", "only", "include")


@dataclass(frozen=True)
class Interval:
    """A value with its interval over seeds.

    low, high and se are Undefined, with the reason, when there are too few seeds; the value is then still given.
    n is the number of seeds (of the smaller group if two groups are not paired), level the nominal coverage.
    Student's t knows no range: low and high may be values that the measure cannot have (see `within`).
    """

    value: float | Undefined
    low: float | Undefined
    high: float | Undefined
    se: float | Undefined
    n: int
    level: float
    method: str

    def within(self, bounds: tuple[float, float]) -> "Interval":
        """The same interval cut to the values that the estimated number can have, such as a measure's declared range.

        What is estimated lies in the range, so that no coverage is lost: only ends that were impossible go. The
        standard error stays. An end that is cut off stands on the bound, and says nothing about how sure it is there.
        """
        if isinstance(self.low, Undefined):
            return self
        # A value that rounding, or a user's card, puts beside its range stays in its interval.
        least, most = min(bounds[0], self.value), max(bounds[1], self.value)
        return replace(self, low=max(self.low, least), high=min(self.high, most))


def contrast_range(bounds: tuple[float, float]) -> tuple[float, float]:
    """Smallest and largest possible difference of two values, or of two means of values, in this range."""
    return bounds[0] - bounds[1], bounds[1] - bounds[0]


def _quantile(level: float | int, df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + level / 2))


def _interval(
    value: float | Undefined, se: float | Undefined, n: int, df: float, level: float | int, method: str
) -> Interval:
    if isinstance(value, Undefined):
        se = value
    if isinstance(se, Undefined):
        return Interval(value, se, se, se, n, level, method)
    half = _quantile(level, df) * se
    return Interval(float(value), float(value - half), float(value + half), float(se), n, level, method)


def _too_few(m: int, method: str) -> Undefined | None:
    if m >= 3:
        return None
    return Undefined(f"{method} needs at least 3 seeds to leave one out, and there {'is' if m == 1 else 'are'} {m}")


def _check_level(level: float | int) -> None:
    if not 0 < level < 1:
        raise ProbeError(f"level={level!r} must lie between 0 and 1, such as 0.95.")


def jackknife_se(statistic: Callable[[list], Any], seeds: Sequence) -> float | Undefined:
    """Delete-one standard error √((m−1)/m Σ(θ₋ᵢ − θ̄)²), or why there is none.

    statistic maps a list of kept seeds to a float or Undefined. For a plain mean this is s/√m exactly.
    Source: Efron and Stein 1981, doi 10.1214/aos/1176345462.
    """
    kept = list(seeds)
    m = len(kept)
    short = _too_few(m, "the jackknife")
    if short:
        return short
    theta = [statistic(kept[:i] + kept[i + 1 :]) for i in range(m)]
    for left_out, t in zip(kept, theta, strict=True):
        if isinstance(t, Undefined):
            return Undefined(f"without seed {left_out}: {t.reason}")
    theta = np.array(theta, dtype=np.float64)
    return math.sqrt((m - 1) / m * float(((theta - theta.mean()) ** 2).sum()))


def jackknife(statistic: Callable[[list], Any], seeds: Sequence, level: float | int = 0.95) -> Interval:
    """Delete-one-seed jackknife interval θ̂ ± t_{m−1} · se of any statistic of a list of seeds.

    statistic(kept) recomputes the value from the networks of the kept seeds only.
    """
    _check_level(level)
    seeds = list(seeds)
    if not seeds:
        raise ProbeError("there are no seeds; a value needs at least one.")
    df = len(seeds) - 1
    method = f"delete-one-seed jackknife, t with {df} df"
    return _interval(statistic(seeds), jackknife_se(statistic, seeds), len(seeds), df, level, method)


def similarity_matrix(S: Any, name: str, square: bool) -> np.ndarray:
    """S as a finite float64 matrix; an undefined entry is an error that says which seeds to leave out.

    The diagonal of a square matrix of a group with itself is never read and may hold anything.
    """
    try:
        array = np.asarray(S, dtype=np.float64)
    except (TypeError, ValueError):
        raise ProbeError(
            f"{name} holds entries that are not numbers; leave out seeds whose values are undefined."
        ) from None
    if array.ndim != 2 or 0 in array.shape or (square and array.shape[0] != array.shape[1]):
        want = "seeds × seeds" if square else "seeds of a × seeds of b"
        raise ProbeError(f"{name} has shape {array.shape}; pass a matrix of {want}.")
    return array


def _mean(values: np.ndarray, name: str) -> float | Undefined:
    if not values.size:
        return Undefined(f"{name} has no pair of networks to average over")
    if not np.isfinite(values).all():
        raise ProbeError(f"{name} has undefined entries; leave those seeds out (and count them) before averaging.")
    return float(values.mean())


def mean_within(S: Any) -> float | Undefined:
    """Mean over pairs of different seeds of one group: S is m×m, its diagonal is left out."""
    S = similarity_matrix(S, "the within-group matrix", square=True)
    return _mean(S[~np.eye(len(S), dtype=bool)], "the within-group matrix")


def mean_between(S: Any, same_seed: str = "exclude") -> float | Undefined:
    """Mean over pairs of networks of two groups; S is m_a × m_b, rows and columns in the order of their seeds.

    same_seed: "exclude" leaves out pairs [i, i] (networks of one seed start from the same weights and see the same
    batches, which makes them alike for that reason alone), "only" takes just those, "include" takes all. The first
    two need a square matrix.
    """
    one_of("same_seed", same_seed, SAME_SEED)
    S = similarity_matrix(S, "the between-group matrix", square=same_seed != "include")
    diagonal = np.eye(*S.shape, dtype=bool)
    chosen = {"exclude": ~diagonal, "only": diagonal, "include": np.ones_like(diagonal)}[same_seed]
    return _mean(S[chosen], "the between-group matrix")


def within_interval(S: Any, level: float | int = 0.95) -> Interval:
    """`mean_within` with its jackknife interval over the m seeds."""
    S = similarity_matrix(S, "the within-group matrix", square=True)
    return jackknife(lambda kept: mean_within(S[np.ix_(kept, kept)]), range(len(S)), level)


def between_interval(S: Any, paired: bool = True, same_seed: str | None = None, level: float | int = 0.95) -> Interval:
    """`mean_between` with its interval over seeds.

    paired: the two groups have the same seeds in the same order; leaving out a seed removes its row and its column
    (same_seed defaults to "exclude"). Not paired: the seeds of the two groups are unrelated and all pairs count; the
    variance is the sum of the two jackknife variances, over rows and over columns (`grouped_jackknife`).
    """
    S = similarity_matrix(S, "the between-group matrix", square=paired)
    if paired:
        which = same_seed or "exclude"
        return jackknife(lambda kept: mean_between(S[np.ix_(kept, kept)], which), range(len(S)), level)
    if same_seed not in (None, "include"):
        raise ProbeError(f"same_seed={same_seed!r} has no meaning for groups that are not paired by seed.")
    return grouped_jackknife(lambda a, b: mean_between(S[np.ix_(a, b)], "include"), S.shape, level)


def grouped_jackknife(statistic: Callable[..., Any], sizes: Sequence[int], level: float | int = 0.95) -> Interval:
    """Interval of a statistic of independent groups: variance = sum over groups of the jackknife over its own seeds.

    statistic takes one list of kept seeds for each group. With v_g the jackknife variance over the m_g seeds of group
    g, t has the degrees of freedom of Welch and Satterthwaite, (Σ v_g)² / Σ v_g²/(m_g − 1), never fewer than those of
    the smallest group.
    Source: Satterthwaite 1946, doi 10.2307/3002019.
    """
    _check_level(level)
    whole = [list(range(m)) for m in sizes]
    errors = [
        jackknife_se(lambda kept, g=g: statistic(*whole[:g], kept, *whole[g + 1 :]), seeds)
        for g, seeds in enumerate(whole)
    ]
    m = min(sizes)
    of = f"delete-one-seed jackknife in each of {len(whole)} groups"
    undefined = next((se for se in errors if isinstance(se, Undefined)), None)
    if undefined:
        return _interval(statistic(*whole), undefined, m, m - 1, level, of)
    variances = np.square(errors)
    spread = sum(v * v / (size - 1) for v, size in zip(variances, sizes, strict=True))
    df = max(m - 1.0, variances.sum() ** 2 / spread if spread > 0 else 0.0)
    method = f"{of}, t with {df:.1f} df (Welch-Satterthwaite)"
    return _interval(statistic(*whole), math.hypot(*errors), m, df, level, method)


def contrast(
    S_aa: Any, S_bb: Any, S_ab: Any, direction: str = "similarity", same_seed: str = "exclude"
) -> float | Undefined:
    """How much more two groups differ than seeds do: Δ = ½(mean within a + mean within b) − mean between.

    Positive means that networks of different rules are less alike than networks of one rule; zero that the rule makes
    no more difference than the seed. For a distance the sign is turned round, so that positive means the same.
    """
    one_of("direction", direction, ("similarity", "distance"))
    parts = mean_within(S_aa), mean_within(S_bb), mean_between(S_ab, same_seed)
    for part in parts:
        if isinstance(part, Undefined):
            return part
    delta = (parts[0] + parts[1]) / 2 - parts[2]
    return delta if direction == "similarity" else -delta


def contrast_interval(
    S_aa: Any, S_bb: Any, S_ab: Any, *, direction: str = "similarity", paired: bool = True, level: float | int = 0.95
) -> Interval:
    """`contrast` with its interval over seeds.

    paired: group a and b have the same seeds in the same order; pairs of one seed are left out of the between mean,
    and leaving out a seed removes both of its networks. Not paired: all between pairs count, and the variance is the
    sum of the jackknife variances over the two groups.
    """
    aa = similarity_matrix(S_aa, "S_aa", square=True)
    bb = similarity_matrix(S_bb, "S_bb", square=True)
    ab = similarity_matrix(S_ab, "S_ab", square=False)
    if ab.shape != (len(aa), len(bb)):
        raise ProbeError(f"S_ab has shape {ab.shape}, but the groups have {len(aa)} and {len(bb)} seeds.")
    if paired and len(aa) != len(bb):
        raise ProbeError(
            f"paired groups need the same seeds, but there are {len(aa)} and {len(bb)}; keep the common seeds, or pass "
            "paired=False if they are unrelated."
        )

    def of(a: list, b: list, same_seed: str) -> float | Undefined:
        return contrast(aa[np.ix_(a, a)], bb[np.ix_(b, b)], ab[np.ix_(a, b)], direction, same_seed)

    if paired:
        return jackknife(lambda kept: of(kept, kept, "exclude"), range(len(aa)), level)
    return grouped_jackknife(lambda a, b: of(a, b, "include"), (len(aa), len(bb)), level)
