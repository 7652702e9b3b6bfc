"""Do measures of similarity find the groups that networks belong to, and the order of a network's layers?

After the tests "grounded by design" of Klabunde et al. 2024 (ReSi, arXiv 2408.00531), on networks that the lab trains
(`lab/group_networks.py`): every measure at all pairs of networks, scored by two numbers with a known level of chance.
The same networks before training are the control: no two of those are more alike than others, so groups score at
chance. (Layers do not: an untrained network is a chain too, and its layers drift apart with depth.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from lab.group_networks import EPOCHS, RESI, STIMULI, TRAIN, Shown
from probes import PairProbe, ProbeError, Undefined
from probes.all_pairs import all_pairs
from probes.intervals import Interval, grouped_jackknife

RULE = (
    "auprc: average precision of “same group” among all pairs of different networks, most alike first; chance is the "
    "share of such pairs (a random order gives a little more: .181 for .167). violations: how often a pair inside a "
    "group is less alike than a pair of one of its networks and one outside (mean over groups), or, of three layers of "
    "a network, the nearer two than the farthest two; ties count half, chance is .5. Intervals: 95 %, "
    "delete-one-network jackknife within groups"
)
STATES = ("trained", "untrained")


def similarities(probe: PairProbe, hidden: Sequence[np.ndarray]) -> np.ndarray | Undefined:
    """All pairs, larger is more alike, as a symmetric matrix; of an asymmetric measure the mean of both directions.

    The diagonal, a network with itself, is nan. Undefined, with the first reason, if any pair is.
    """
    try:
        prepared = [probe.prepare(h) for h in hidden]
        values = all_pairs(probe, prepared)
    except ProbeError as error:
        return Undefined(str(error))
    np.fill_diagonal(values, 0.0)
    missing = np.argwhere(np.isnan(values + values.T))
    if len(missing):
        i, j = missing[0]
        found = (probe.value(prepared[i], prepared[j]), probe.value(prepared[j], prepared[i]))
        reason = next(value.reason for value in found if isinstance(value, Undefined))
        return Undefined(f"{len(missing) // 2} of {len(hidden) * (len(hidden) - 1) // 2} pairs: {reason}")
    np.fill_diagonal(values, np.nan)
    return (1 if probe.info.direction == "similarity" else -1) * (values + values.T) / 2


def same_group(group: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Whether the two are of one group, for every pair of different networks, and the indices of these pairs."""
    pairs = np.triu_indices(len(group), 1)
    return group[pairs[0]] == group[pairs[1]], pairs


def chance(group: np.ndarray) -> float:
    """Share of pairs inside groups among all: what precision is, whatever is asked, if groups mean nothing.

    Average precision is this for a measure that says one thing of all pairs. Of a random order without ties it is
    more, [(P−1)/(N−1)·(N−H) + H]/N with P of N pairs inside groups and H the Nth harmonic number: .181 for .167.
    """
    return float(same_group(group)[0].mean())


def auprc(S: np.ndarray, group: np.ndarray) -> float:
    """Average precision of "same group" among all pairs of different networks: one threshold for all groups.

        AP = Σ_k (R_k − R_{k−1}) P_k   over the distinct values, most alike first

    R_k and P_k are recall and precision of the pairs at least as alike as the kth value, so equal values come together.
    """
    same, pairs = same_group(group)
    order = np.argsort(-S[pairs], kind="stable")
    values, found = S[pairs][order], np.cumsum(same[order])
    last = np.searchsorted(-values, -values, side="right") - 1  # of the pairs equally alike
    return float((found[last] / (last + 1))[same[order]].mean())


def violations(S: np.ndarray, group: np.ndarray) -> float:
    """P(a pair inside a group is less alike than a pair of one inside and one outside), mean over groups.

    Every group is asked on its own, so that one whose networks spread more is not held against the others. A tie counts
    half: 1 minus this is the area under the receiver operating characteristic.
    """
    rates = []
    for g in np.unique(group):
        mine = group == g
        inside = S[np.ix_(mine, mine)][np.triu_indices(mine.sum(), 1)]
        rates.append(_below(inside[:, None], S[np.ix_(mine, ~mine)].ravel()))
    return float(np.mean(rates))


def disorder(S: np.ndarray) -> float:
    """Of layers l < m < k of one network: how often (l, m), or (m, k), is less alike than (l, k). A tie counts half."""
    l, m, k = np.array(list(combinations(range(len(S)), 3))).T
    return _below(np.concatenate([S[l, m], S[m, k]]), np.concatenate([S[l, k], S[l, k]]))


def _below(one: np.ndarray, other: np.ndarray) -> float:
    return float(((one < other) + 0.5 * (one == other)).mean())


def examine(probe: PairProbe, name: str, shown: Shown) -> list[dict[str, Any]]:
    """The lines of one measure at one test: two scores, or one of layers, after training and before."""
    lines = []
    for state in STATES:
        hidden = shown.hidden[state]
        if shown.test.layers:
            parts = [similarities(probe, list(network)) for network in hidden]
            scores = {"violations": (_layers(parts), 0.5)}
            pairs = len(hidden) * hidden.shape[1] * (hidden.shape[1] - 1) // 2
        else:
            S, group = similarities(probe, list(hidden[:, -1])), shown.group
            scores = {"auprc": (_grouped(auprc, S, group), chance(group))}
            scores["violations"] = _grouped(violations, S, group), 0.5
            pairs = len(hidden) * (len(hidden) - 1) // 2
        for score, (found, by_chance) in scores.items():
            undefined = isinstance(found, Undefined)
            value, low, high = (np.nan,) * 3 if undefined else found
            lines.append(
                {
                    "measure": name,
                    "test": shown.test.name,
                    "score": score,
                    "state": state,
                    "value": value,
                    "low": low,
                    "high": high,
                    "chance": by_chance,
                    "networks": len(hidden),
                    "pairs": pairs,
                    "reason": found.reason if undefined else "",
                }
            )
    return lines


Scored = tuple[float, float, float] | Undefined
"""A score between 0 and 1 and its interval."""


def _grouped(score: Callable[[np.ndarray, np.ndarray], float], S: np.ndarray | Undefined, group: np.ndarray) -> Scored:
    """A score of groups, with its interval over networks, which are left out of one group at a time."""
    if isinstance(S, Undefined):
        return S
    members = [np.flatnonzero(group == g) for g in np.unique(group)]

    def of(*kept: list[int]) -> float:
        rows = np.concatenate([mine[which] for mine, which in zip(members, kept, strict=True)])
        return score(S[np.ix_(rows, rows)], group[rows])

    return _scored(grouped_jackknife(of, [len(mine) for mine in members]))


def _layers(parts: list[np.ndarray | Undefined]) -> Scored:
    """Mean disorder of the layers of several networks, with its interval over these."""
    undefined = next((part for part in parts if isinstance(part, Undefined)), None)
    if undefined is not None:
        return undefined
    rates = np.array([disorder(S) for S in parts])
    return _scored(grouped_jackknife(lambda kept: float(rates[kept].mean()), [len(rates)]))


def _scored(found: Interval) -> Scored:
    found = found.within((0.0, 1.0))
    return found.value, found.low, found.high


def table(
    measures: Iterable[tuple[str, PairProbe]], shown: Sequence[Shown], say: Callable[[str], None] = lambda line: None
):
    """Every measure at every test, as a data frame with a line for each score; `say` is told what is at work."""
    import pandas as pd

    lines = []
    for name, probe in measures:
        say(f"measuring {name}")
        lines += [line for one in shown for line in examine(probe, name, one)]
    return pd.DataFrame(lines)


def networks(say: Callable[[str], None] = lambda line: None) -> list[Shown]:
    """The networks of every test, trained anew; `say` is told which."""
    from lab.datasets.sources import load
    from lab.group_networks import DATA, TESTS, train

    dataset, shown = load(DATA), []
    for test in TESTS:
        say(f"training {test.networks} networks: {test.name}")
        shown.append(train(test, dataset))
    return shown


def described(shown: Iterable[Shown]) -> list[dict[str, Any]]:
    """What is known of each test, for programs."""
    return [
        {
            "test": one.test.name,
            "about": one.test.about,
            "source": RESI,
            "levels": list(one.test.levels),
            "accuracies": list(one.accuracies),
            "networks": len(one.group),
            "seeds": len(one.group) // len(one.test.levels),
            "hidden": list(one.test.arch),
            "training_images": TRAIN,
            "epochs": EPOCHS,
            "stimuli": STIMULI,
        }
        for one in shown
    ]
