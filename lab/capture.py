"""Representations of stored networks on fixed stimuli."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from algorithms import RULES, Rule
from lab.callstring import bind, build, parse
from lab.datasets.dataset import Dataset, as_float, balanced_order
from lab.datasets.sources import load
from lab.errors import LabError, UsageError
from lab.networks import ARCHITECTURES, Network
from lab.normalisation import with_statistics
from lab.training import Trainer, cohorts, kept, on_device
from lab.user_files import load_user_factory
from probes.feature_maps import positions_of
from runs import RunFolder, diverged_seeds, list_checkpoints, load_checkpoint, unflatten_like


@dataclass(frozen=True)
class Stimuli:
    """The inputs on which representations are compared: the first n test images of a fixed, class-balanced order.

    Attributes:
        x, y: inputs as stored, and their labels.
        data_sha256: hash of the data set they come from.
    """

    x: np.ndarray
    y: np.ndarray
    data_sha256: str


def stimuli(dataset: Dataset, n: int) -> Stimuli:
    """The first n of the test set's fixed class-balanced order; the same for every run and every command.

    Raises:
        UsageError: fewer than 10, or more than there are.
    """
    if not 10 <= n <= len(dataset.test_y):
        raise UsageError(f"--stimuli {n}: give 10 to {len(dataset.test_y)}, the size of {dataset.name}'s test set")
    rows = balanced_order(dataset.test_y)[:n]
    return Stimuli(dataset.test_x[rows], dataset.test_y[rows], dataset.sha256)


def rule_of(folder: RunFolder) -> Rule:
    """The rule of a stored run, from its spec and, for a user's rule, the source stored with it."""
    spec = folder.spec
    if spec.sources:
        path = next((folder.path / "source" / "rule").glob("*.py"))
        factory, _ = load_user_factory(path, "rule", folder.id)
        bound = bind(parse(spec.rule, folder.id), factory, folder.id)
        return factory(*bound.args, **bound.kwargs)
    return build(spec.rule, RULES, folder.id)[0]


def reopen(folder: RunFolder, dataset: Dataset) -> tuple[Rule, Network]:
    """The rule and network of a stored run."""
    spec = folder.spec
    if dataset.sha256 != spec.data_sha256:
        raise LabError(f"{folder.id} was trained on another version of {spec.data} (its hash differs); train it again")
    make_net, _ = build(spec.arch, ARCHITECTURES, folder.id)
    return rule_of(folder), make_net(dataset.input_shape, dataset.classes)


def final_step(folder: RunFolder) -> int:
    """The last step of a finished run."""
    return list_checkpoints(folder, 0)[-1]


def sound_seeds(folder: RunFolder) -> list[int]:
    """Seeds that did not diverge: only they have a representation. Those that did are counted, not compared."""
    bad = diverged_seeds(folder.manifest)
    return [seed for seed in folder.spec.seeds if seed not in bad]


@dataclass(frozen=True)
class Observed:
    """Every sound seed of a run at a stored step, shown the stimuli.

    Attributes:
        hidden: layer -> seed -> float32 array (stimuli × units), as the network computes it; feature maps are
            flattened to height·width·channels units.
        scores: seed -> stimuli × classes; the prediction is the argmax.
        stored: seed -> its "params", "rule_state" and "statistics".
        step: which one it is.
        shapes: layer -> shape of what it answers to one stimulus, as of `layer_shapes`.
    """

    hidden: dict[str, dict[int, np.ndarray]]
    scores: dict[int, np.ndarray]
    stored: dict[int, dict[str, Any]]
    step: int
    shapes: dict[str, tuple[int, ...]]


def observe(folder: RunFolder, step: int, seen: Stimuli, dataset: Dataset) -> Observed:
    """What the networks of a run show at a stored step."""
    trainer, net, template, forward = _reading(folder, dataset)
    spec = folder.spec
    sound = set(sound_seeds(folder))
    found = Observed({name: {} for name in net.hidden}, {}, {}, step, {})
    for index, cohort in enumerate(cohorts(spec.seeds, spec.cohort)):
        arrays, _ = load_checkpoint(folder, index, step)
        stored = unflatten_like(template(trainer.seeds(cohort)), arrays)
        parts = [jax.device_get(forward(stored, seen.x[i : i + 500])) for i in range(0, len(seen.x), 500)]
        shown = jax.tree.map(lambda *pieces: np.concatenate(pieces, axis=1), *parts)
        found.shapes.update({layer: h.shape[2:] for layer, h in zip(net.hidden, shown.hidden, strict=True)})
        for place, seed in enumerate(cohort):
            if seed not in sound:
                continue
            found.stored[seed] = jax.tree.map(lambda leaf, i=place: leaf[i], stored)
            found.scores[seed] = shown.scores[place]
            for layer, h in zip(net.hidden, shown.hidden, strict=True):
                found.hidden[layer][seed] = h[place].reshape(len(h[place]), -1)
    return found


def _reading(folder: RunFolder, dataset: Dataset):
    """The trainer and network of a run, what its checkpoints hold by seeds, and what its networks answer."""
    rule, net = reopen(folder, dataset)
    spec = folder.spec
    # Only shapes are asked of it, and the optimiser's memory is not stored.
    trainer = Trainer(rule, net, optax.identity(), spec.batch, spec.cohort)
    examples = on_device(dataset.train_x[: spec.batch], dataset.train_y[: spec.batch])

    def template(seeds):
        return kept(jax.eval_shape(trainer.start, seeds, examples))

    def read(stored, x):
        params = with_statistics(stored["params"], stored["statistics"])
        return rule.forward(net, params, stored["rule_state"], as_float(x))

    return trainer, net, template, trainer.over_cohort(read, 1)


def layer_shapes(folder: RunFolder, dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Shape of what each hidden block answers to one stimulus: (units,), or positions first, as (height, width, units).

    `Observed.shapes` has the same of a run that is read anyway.
    """
    trainer, net, template, forward = _reading(folder, dataset)
    seeds = trainer.seeds(cohorts(folder.spec.seeds, folder.spec.cohort)[0])
    shown = jax.eval_shape(forward, template(seeds), jax.ShapeDtypeStruct((1, *net.input_shape), dataset.test_x.dtype))
    return {layer: h.shape[2:] for layer, h in zip(net.hidden, shown.hidden, strict=True)}


def shaped(h: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A flattened representation with its positions, if it has any."""
    return h.reshape(len(h), *shape) if positions_of((1, *shape)) else h


def capture(folder: RunFolder, step: int, seen: Stimuli, dataset: Dataset) -> dict[str, dict[int, np.ndarray]]:
    """Hidden representations alone: `observe(...).hidden`."""
    return observe(folder, step, seen, dataset).hidden


MATCHES = ("steps", "accuracy", "loss")


def matched_steps(folders: list[RunFolder], match: str) -> list[int]:
    """Which stored step of each run is compared.

    "steps": the last of each. "accuracy": the stored step whose mean validation accuracy comes nearest to the lowest
    final one among the trained runs, so that a well trained network is not compared with a badly trained one. "loss":
    likewise, with the mean training loss since the previous stored step and the highest final one.

    Raises:
        UsageError: by loss, and the runs minimise different losses.
    """
    if match == "steps":
        return [final_step(folder) for folder in folders]
    if match == "loss" and len(losses := {rule_of(folder).info.loss for folder in folders}) > 1:
        raise UsageError(
            f"--match loss: these rules minimise different losses ({'; '.join(sorted(losses))}); match by accuracy"
        )
    metric, worst = ("validation_accuracy", min) if match == "accuracy" else ("train_loss", max)
    trained = [folder for folder in folders if folder.spec.epochs and sound_seeds(folder)] or folders
    target = worst(mean_metric(folder, final_step(folder), metric) for folder in trained)

    def distance(folder: RunFolder, step: int) -> float:
        apart = abs(mean_metric(folder, step, metric) - target)
        return apart if np.isfinite(apart) else np.inf  # before the first step there is no training loss

    return [min(list_checkpoints(folder, 0), key=lambda step: distance(folder, step)) for folder in folders]


def mean_accuracy(folder: RunFolder, step: int) -> float:
    """Mean validation accuracy at a step over the seeds that did not diverge."""
    return mean_metric(folder, step, "validation_accuracy")


def mean_metric(folder: RunFolder, step: int, metric: str) -> float:
    """Mean of a metric of the whole network over the seeds that did not diverge; nan where it was not taken."""
    return mean_of(metric_of(folder, step, metric), sound_seeds(folder))


def metric_of(folder: RunFolder, step: int, metric: str) -> dict[int, float]:
    """Seed -> a metric of the whole network at a step, where it was taken."""
    table = folder.read_table("metrics")
    rows = table[(table["metric"] == metric) & (table["step"] == step) & (table["layer"] == "")].dropna(subset="value")
    return dict(zip(rows["seed"].astype(int), rows["value"].astype(float), strict=True))


def mean_of(found: Mapping[int, float], seeds: Sequence[int]) -> float:
    """Mean over these seeds; nan where none has a value."""
    known = [found[seed] for seed in seeds if seed in found]
    return float(np.mean(known)) if known else np.nan


def dataset_of(folders: list[RunFolder]) -> Dataset:
    """The one data set that all runs were trained on.

    Raises:
        UsageError: they were trained on different ones.
    """
    names = {folder.spec.data_sha256: folder.spec.data for folder in folders}
    if len(names) > 1:
        raise UsageError(
            f"these runs were trained on different data ({', '.join(names.values())}); compare runs on one"
        )
    return load(next(iter(names.values())))
