"""What a stored run warns of: exploding activity, a gradient that nothing can be compared with, depth without use,
phases that did not come to rest.

The numbers are stored among the metrics, norms after the last step of training (`Examiner.norms`), distances from rest
at every step that is measured; the sentences are made when they are read, so that they take in what the store holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.settling import METRICS, limits
from probes.depth import depth_utility, reference_validity, scale_stability
from runs import RunError, RunFolder, Store, diverged_seeds

if TYPE_CHECKING:
    from algorithms.rule import RuleInfo

ALIKE = ("arch", "data_sha256", "train_size", "validation_size", "epochs", "batch")
"""What a run of `frozen` must share with another run to be its twin; the learning rate is its own."""


def warnings_of(folder: RunFolder, store: Store) -> list[str]:
    """One line for each check that a finished run fails in its sound seeds: three of `probes.depth`, and `unsettled`.

    A run that was stored before the norms were has neither of the first two.
    """
    table = folder.read_table("metrics")
    table = table[~table["seed"].isin(list(diverged_seeds(folder.manifest)))]
    found = [
        in_seeds("scale stability", _norms(table, "validation_activation_norm"), scale_stability),
        in_seeds("reference validity", _norms(table, "validation_gradient_norm"), reference_validity),
        depth_brings_something(folder, table, store),
        *unsettled(folder, table),
    ]
    return [line for line in found if line is not None]


def _norms(table: Any, metric: str) -> dict[int, dict[str, float]]:
    """Seed -> layer, first to last -> a norm after the last step."""
    rows = table[(table["metric"] == metric) & table["value"].notna()]
    return {seed: dict(zip(own["layer"], own["value"], strict=True)) for seed, own in rows.groupby("seed")}


def in_seeds(
    check: str, norms: dict[int, dict[str, float]], verdict: Callable[[dict[str, float]], str | None]
) -> str | None:
    """What a check says of the first seed that fails it, and how many do."""
    told = {seed: said for seed, own in norms.items() if (said := verdict(own)) is not None}
    if not told:
        return None
    seed = next(iter(told))
    return f"{check}: {told[seed]} (seed {seed}; {len(told)} of {len(norms)} seeds)"


def depth_brings_something(folder: RunFolder, table: Any, store: Store) -> str | None:
    """Validation accuracy beside that of the run's `frozen` twin or, where the store has none, of its own first step.

    The latter is the best linear readout of an untrained hidden block (`ridge_readout`), at no cost.
    """
    accuracy = _last_accuracy(table)
    if accuracy is None or not folder.spec.epochs:
        return None
    twin = frozen_twin(folder, store)
    if twin is not None:
        frozen, beside = twin[0], f"the same network with frozen hidden blocks ({twin[1]})"
    else:
        start = table[(table["metric"] == "validation_readout_accuracy") & (table["step"] == 0)]
        if start.empty:
            return None  # it has no hidden block
        readouts = start.groupby("layer")["value"].mean()
        frozen, beside = float(readouts.max()), f"a linear readout of its own untrained {readouts.idxmax()}"
    said = depth_utility(accuracy, frozen, beside)
    return None if said is None or not assigns_credit(folder) else f"depth utility: {said}"


def assigns_credit(folder: RunFolder) -> bool:
    """Whether labels are meant to shape the hidden blocks of a run."""
    return _info_of(folder).credit


def unsettled(folder: RunFolder, table: Any) -> list[str]:
    """What was furthest from rest, for each of a rule's metrics that was too far at any stored step.

    All steps count, not only the last: each was a step of training, with a direction of its own.
    """
    if not table["metric"].isin(METRICS).any():
        return []
    told = []
    for limit in limits(_info_of(folder)):
        rows = table[table["metric"] == limit.metric]
        rows = rows.assign(value=rows["value"].fillna(np.inf))  # what is not finite is stored as undefined
        over = rows[rows["value"].map(limit.exceeded)]
        if len(over):
            worst = over.loc[over["value"].idxmax()]
            told.append(
                f"settling: the {limit.phases} did not come to rest: {limit.metric} {worst['value']:.2g} at step "
                f"{worst['step']:.0f}, above {limit.most:g}; directions are those of an unfinished relaxation, so give "
                "the rule more steps or, where the states run away, smaller ones "
                f"(seed {worst['seed']:.0f}; {over['seed'].nunique()} of {rows['seed'].nunique()} seeds, "
                f"{over['step'].nunique()} of {rows['step'].nunique()} stored steps)"
            )
    return told


def _info_of(folder: RunFolder) -> RuleInfo:
    from lab.capture import rule_of  # JAX, which most runs in good order are read without

    return rule_of(folder).info


def frozen_twin(folder: RunFolder, store: Store) -> tuple[float, str] | None:
    """Accuracy and id of the best run of `frozen` with the same network, data and budget."""
    found = []
    for other in store.list():
        ours = other.id.startswith("frozen-") and not other.spec.sources  # a user's file may be called so
        if ours and other.id != folder.id and other.status == "complete":
            try:
                if all(getattr(other.spec, field) == getattr(folder.spec, field) for field in ALIKE):
                    found.append((_last_accuracy(other.read_table("metrics")), other.id))
            except RunError:
                continue  # damaged: `lab runs` says so
    return max((one for one in found if one[0] is not None), default=None)


def _last_accuracy(table: Any) -> float | None:
    """Mean validation accuracy after the last step."""
    rows = table[(table["metric"] == "validation_accuracy") & (table["step"] == table["step"].max())]
    mean = float(np.mean(rows["value"])) if len(rows) else np.nan
    return mean if np.isfinite(mean) else None
