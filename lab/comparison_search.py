"""Comparing runs at the pair of layers that match best: a search, held against the null of the best of all."""

from __future__ import annotations

import itertools

import numpy as np

from lab.comparison_layers import Representations, prepared_at, remarks_on, values_between
from lab.comparison_nulls import Nulls
from lab.comparison_table import Group, Parts, Plan, all_known, network_pairs, noted, pair_up, pairs_within, row_of
from lab.errors import UsageError
from probes import PairProbe, Undefined
from probes.intervals import Interval, grouped_jackknife, jackknife, mean_between
from probes.nulls import NullResult, maximum_null

NO_EFFECT = "no rule effect: the pair of layers was searched for, and the ceilings were not"
NO_NULL = "withheld: no null of the best pair of layers could be drawn"


def search_layers(
    probe: PairProbe, groups: list[Group], asked: tuple[str, ...] | None, labels, plan: Plan, memory: int
):
    """All rows and all pairs of networks of one probe, each two runs at the pair of layers where they are most alike.

    Args:
        asked: blocks among which it is searched; None for all of each run.
    """
    sites = [(group, layer) for group in groups for layer in _candidates(group, asked)]
    rows, pairs = [], []
    with prepared_at(probe, sites, memory) as (shelf, measured):
        values = values_between(probe, shelf, memory)
        at = [[i for i, (owner, _) in enumerate(sites) if owner is group] for group in groups]
        met = [list(itertools.product(*sides)) for sides in itertools.combinations(at, 2)]
        pairings = {(i, j): pair_up(measured[i], measured[j]) for layers in met for i, j in layers}
        runs, places = [m.group.folder.id for m in measured], [m.places for m in measured]
        nulls = Nulls(probe, shelf, runs, places, pairings, labels, plan.permutations, memory)
        for m in measured:
            own = list(m.places.values())
            pairs += pairs_within(probe.info, m.layer, m, values[np.ix_(own, own)])
        for layers in met:
            row, between = _search(probe, measured, layers, values, nulls, labels, plan)
            rows.append(row)
            pairs += between
    return rows, pairs


def _candidates(group: Group, asked: tuple[str, ...] | None) -> list[str]:
    missing = [layer for layer in asked or () if layer not in group.trained]
    if missing:
        raise UsageError(
            f"--layer {missing[0]} is not a hidden block of {group.label}; it has {', '.join(group.trained)}"
        )
    return list(asked or group.trained)


def _search(probe, measured: list[Representations], met: list[tuple[int, int]], values, nulls: Nulls, labels, plan):
    """One line of the table, and the values of all networks at all pairs of layers that were looked at."""
    info = probe.info
    found = {(i, j): _Between.of(measured[i], measured[j], values) for i, j in met}
    pairs = []
    for (i, j), its in found.items():
        name = f"{measured[i].layer} - {measured[j].layer}"
        pairs += network_pairs(info, name, "between", measured[i], measured[j], its.parts.ab)
        if not info.symmetric:
            pairs += network_pairs(info, name, "between", measured[j], measured[i], its.parts.ba)
    known = {ij: its for ij, its in found.items() if np.isfinite(its.mean())}
    most_alike = max if info.direction == "similarity" else min
    chosen = most_alike(known, key=lambda ij: known[ij].mean()) if known else met[0]
    a, b = measured[chosen[0]], measured[chosen[1]]

    def null(kind: str) -> NullResult | None:
        if not info.paired:
            return None
        statistics = np.stack([nulls.statistics(i, j, kind) for i, j in known], axis=1)
        if not np.isfinite(statistics).all():
            return None
        best = info.range[1] if info.direction == "similarity" else info.range[0]
        return maximum_null(statistics[0], statistics[1:], kind=kind, direction=info.direction, best=best)

    row = row_of(info, f"{a.layer} - {b.layer}", a, b, found[chosen].parts, null, plan)
    row |= {"layer_choice": f"best of {len(known)} pairs of layers, null of the maximum"}
    row |= {"layer_a": a.layer, "layer_b": b.layer}
    row |= {name: np.nan for name in row if name.startswith("rule_effect")}
    row["notes"] = [note for note in row["notes"] if "rule effect" not in note] + [NO_EFFECT]
    left = len(found) - len(known)
    row["notes"] += [f"{left} of {len(found)} pairs of layers have no value and were not looked at"] * bool(left)
    if known:
        interval = _interval(list(known.values()), info.direction).within(info.range)
        row["between_low"], row["between_high"] = (
            (np.nan, np.nan) if isinstance(interval.low, Undefined) else (interval.low, interval.high)
        )
        if np.isnan(row["null_global"]):
            row |= {name: np.nan for name in row if name.startswith(("between", "same_start", "a_to_b", "b_to_a"))}
            row["notes"].append(NO_NULL)
    return noted(row, remarks_on(probe, a.sketches, b.sketches, labels)), pairs


class _Between:
    """Values of two runs at one pair of layers, and the mean over networks of different seeds."""

    def __init__(self, parts: Parts, S: np.ndarray, seeds: tuple[list[int], list[int]], paired: bool):
        self.parts, self.S, self.seeds, self.paired = parts, S, seeds, paired

    @classmethod
    def of(cls, a: Representations, b: Representations, values: np.ndarray) -> _Between:
        ra, rb = list(a.places.values()), list(b.places.values())
        parts = Parts(*(values[np.ix_(r, c)] for r, c in ((ra, ra), (rb, rb), (ra, rb), (rb, ra))))
        pairing = pair_up(a, b)
        ia, ib = [a.seeds.index(s) for s in pairing.a], [b.seeds.index(s) for s in pairing.b]
        S = (parts.ab[np.ix_(ia, ib)] + parts.ba[np.ix_(ib, ia)].T) / 2
        return cls(parts, S, (pairing.a, pairing.b), pairing.paired)

    def mean(self, rows: list[int] | None = None, columns: list[int] | None = None) -> float:
        """Over all seeds, or over those in these rows and columns; nan where it does not exist."""
        S = self.S if rows is None else self.S[np.ix_(rows, columns)]
        if not S.size or not all_known(S, self.paired):
            return np.nan
        found = mean_between(S, "exclude" if self.paired else "include")
        return np.nan if isinstance(found, Undefined) else found


def _interval(known: list[_Between], direction: str) -> Interval:
    """Interval over seeds of the best value: without each seed the best pair of layers is searched for anew."""
    first = known[0]
    best = max if direction == "similarity" else min

    def statistic(rows: list[int], columns: list[int]) -> float | Undefined:
        means = [its.mean(rows, columns) for its in known]
        return best(means) if np.isfinite(means).all() else Undefined("too few networks are left")

    if any(its.seeds != first.seeds for its in known):
        why = Undefined("not all pairs of layers have values of the same seeds")
        return Interval(first.mean(), why, why, why, 0, 0.95, "")
    if first.paired:
        return jackknife(lambda kept: statistic(kept, kept), range(len(first.S)))
    return grouped_jackknife(statistic, first.S.shape)
