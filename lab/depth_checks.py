"""What a stored run warns of: exploding activity, a gradient that nothing can be compared with, depth without use.

The numbers are taken after the last step of training (`Examiner.norms`) and stored among the metrics; the sentences are
made when they are read, so that they take in what the store holds by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from probes.depth import depth_utility, reference_validity, scale_stability
from runs import RunError, RunFolder, Store, diverged_seeds

ALIKE = ("arch", "data_sha256", "train_size", "validation_size", "epochs", "batch")
"""What a run of `frozen` must share with another run to be its twin; the learning rate is its own."""


def warnings_of(folder: RunFolder, store: Store) -> list[str]:
    """One line for each of the three checks of `probes.depth` that a finished run fails, in its sound seeds.

    A run that was stored before the norms were has neither of the first two.
    """
    table = folder.read_table("metrics")
    table = table[~table["seed"].isin(list(diverged_seeds(folder.manifest)))]
    found = [
        in_seeds("scale stability", _norms(table, "validation_activation_norm"), scale_stability),
        in_seeds("reference validity", _norms(table, "validation_gradient_norm"), reference_validity),
        depth_brings_something(folder, table, store),
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
    from lab.capture import rule_of  # JAX, which a run in good order is read without

    return rule_of(folder).info.credit


def frozen_twin(folder: RunFolder, store: Store) -> tuple[float, str] | None:
    """Accuracy and id of the best run of `frozen` with the same network, data and budget."""
    found = []
    for other in store.list():
        if other.id.startswith("frozen-") and other.id != folder.id and other.status == "complete":
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
