"""The search for a rule's learning rate and at most one knob: the same number of trials for every rule.

Six learning rates over two and a half decades, then two more trials: two other values of the rule's knob at the best
rate, or, for a rule without one, the rates between the best and its neighbours. A best rate or knob at the end of
its range widens the range by one step at a time, at most twice; what then still lies at the edge is reported. All
trials are ranked by the mean validation accuracy over seeds that are not those reported; the test set is not read.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from algorithms import RuleInfo
from lab.callstring import parse
from lab.errors import UsageError
from lab.examination import Examiner
from lab.request import PRECISIONS, Request, make_rule
from lab.runner import Progress, Report
from lab.tables import source_digest
from lab.training import Trainer, cohorts, on_device
from runs import git_commit, package_versions, run_id
from runs.files import write_atomically

WIDENINGS = 2


@dataclass(frozen=True)
class Trial:
    """One setting tried.

    Attributes:
        knob: the setting besides the rate, such as "scale=0.5"; "" for the rule's defaults.
        rate: learning rate.
        accuracy: mean validation accuracy over the seeds; a diverged seed counts with what it predicts right.
    """

    knob: str
    rate: float
    accuracy: float


class Knob(NamedTuple):
    """A setting that is searched for beside the rate: its name, its default, and the values to try beside that."""

    name: str
    default: float
    values: tuple[float, ...]


class Search(NamedTuple):
    """All trials in the order they were made, and whether the best lies at the edge of the rates or knobs tried."""

    trials: list[Trial]
    edge: bool


def search(attempt: Callable[[str, float], float], rates: Sequence[float], knob: Knob | None) -> Search:
    """Try the rates, then the knob or two finer rates, and further out while the best lies at an end.

    Args:
        attempt: (knob setting, rate) -> mean validation accuracy; may raise UsageError for a knob beyond its range.
        rates: ascending.
    """
    trials: list[Trial] = []

    def make(setting: str, rate: float) -> None:
        trials.append(Trial(setting, rate, attempt(setting, rate)))

    for rate in rates:
        make("", rate)
    for _ in range(WIDENINGS):
        tried = [t.rate for t in trials]
        further = beyond(tried, best(trials).rate)
        if further is None:
            break
        plain = float(f"{further:.1g}")
        make("", float(f"{further:.2g}") if plain in tried else plain)
    top = best(trials).rate
    if knob is None:
        for factor in (1 / math.sqrt(3), math.sqrt(3)):
            make("", float(f"{top * factor:.2g}"))
        return Search(trials, beyond([t.rate for t in trials], best(trials).rate) is not None)
    edge = beyond([t.rate for t in trials], top) is not None
    knobs = {"": knob.default}

    def turn(value: float) -> None:
        setting = f"{knob.name}={value!r}"
        make(setting, top)
        knobs[setting] = value

    for value in knob.values:
        turn(value)
    for number in range(WIDENINGS + 1):
        further = beyond(list(knobs.values()), knobs[best(trials).knob])
        if further is None:
            break
        if number == WIDENINGS:
            return Search(trials, True)
        try:
            turn(round(further) if isinstance(knob.default, int) else float(f"{further:.2g}"))
        except UsageError:
            return Search(trials, True)  # not so far; what lies between the best and the bound is untried
    return Search(trials, edge)


def beyond(tried: Sequence[float], top: float) -> float | None:
    """One step further out from `top`, as far as its neighbour is on the other side; None if it is not an end."""
    low, *_, high = values = sorted(set(tried))
    if low < top < high:
        return None
    return top * top / (values[1] if top == low else values[-2])


def best(trials: Sequence[Trial]) -> Trial:
    """The trial of the highest accuracy; of equals, the first made."""
    return max(trials, key=lambda trial: trial.accuracy)


def knob_of(asked: str, call: str, info: RuleInfo) -> Knob | None:
    """The knob a rule declares, unless the user's call string sets it already or leaves it no meaning.

    Args:
        asked: the rule as the user wrote it; call: its canonical call string, which has every default.
    """
    said = parse(asked, "--rule")
    if info.knob is None or said.args or info.knob[0] in said.kwargs:
        return None
    name, values = info.knob
    try:
        for value in values:
            make_rule(with_setting(asked, call, f"{name}={value!r}"))
    except UsageError:
        return None  # as local's beta beside kind=pred, which has no use for one
    return Knob(name, parse(call, "--rule").kwargs[name], values)


def with_setting(asked: str, call: str, setting: str) -> str:
    """The rule as the user named it, a path perhaps, with all settings of `call` and one of them changed."""
    settings = parse(call, "--rule").kwargs | parse(f"f({setting})", "--rule").kwargs
    return f"{parse(asked, '--rule').name}({', '.join(f'{name}={value!r}' for name, value in settings.items())})"


def trial(request: Request, folder: Path, report: Report) -> dict[str, Any]:
    """Validation accuracy after the last step for every seed, and what an epoch cost; remembered in `folder`.

    What other code, other versions or another device have found is not believed: the trial is made again.

    Returns:
        {"validation_accuracy": [per seed], "cpu_seconds": CPU-seconds of an epoch of one seed, compiling left out}.
    """
    path = folder / f"{run_id(request.spec)}.json"
    made_by = {
        "source": source_digest(),
        "versions": package_versions(("credit-lab", "numpy", "jax", "optax", "flax")),
        "device": jax.devices()[0].device_kind,
    }
    try:
        known = json.loads(path.read_text())
        if known["made_by"] == made_by:
            return known["result"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or damaged
    with jax.default_matmul_precision(PRECISIONS[request.spec.precision]):
        result = _trained(request, report)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"spec": vars(request.spec), "made_by": made_by, "commit": code_commit(), "result": result}
    write_atomically(path, (json.dumps(record, default=list) + "\n").encode())
    return result


ROOT = Path(__file__).resolve().parents[1]


def code_commit() -> str:
    """The lab's own commit, marked where files differ from it; "" outside a checkout."""
    return commit_text(*git_commit(ROOT))


def commit_text(commit: str | None, dirty: bool | None) -> str:
    return f"{commit or ''}{' with changes' if dirty else ''}"


def _trained(request: Request, report: Report) -> dict[str, Any]:
    spec = request.spec
    trainer = Trainer(request.rule, request.net, request.optimizer, spec.batch, spec.cohort)
    data = on_device(request.split.train_x, request.split.train_y)
    held_out = on_device(request.split.validation_x, request.split.validation_y)
    steps = spec.train_size // spec.batch
    examiner = Examiner(trainer, data)
    found: list[float] = []
    seconds: list[float] = []
    pairs = list(zip(spec.seeds, spec.order_seeds, strict=True))
    for cohort in cohorts(pairs, spec.cohort):
        seeds, orders = (trainer.seeds(list(column)) for column in zip(*cohort, strict=True))
        learner = trainer.start(seeds, data)
        for epoch in range(spec.epochs):
            begun = time.process_time()
            learner = jax.block_until_ready(trainer.advance(learner, seeds, orders, epoch, 0, steps, data))
            if epoch:  # the first compiles
                seconds.append((time.process_time() - begun) / len(cohort))
            done = (len(found) * spec.epochs + (epoch + 1) * len(cohort)) * steps
            report(Progress(done, len(spec.seeds) * spec.epochs * steps, None, None))
        right = np.asarray(examiner.accuracy(learner, held_out))
        found += [float(value) for value in right[: len(cohort)]]
    return {"validation_accuracy": found, "cpu_seconds": float(np.median(seconds)) if seconds else None}
