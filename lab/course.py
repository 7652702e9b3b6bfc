"""The course of training: every network of several runs at every stored step that the runs have in common."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lab.capture import (
    Stimuli,
    dataset_of,
    layer_shapes,
    mean_metric,
    metric_of,
    observe,
    rule_of,
    shaped,
    sound_seeds,
    stimuli,
)
from lab.comparison_layers import common_layers, sketch
from lab.comparison_table import Group
from lab.datasets.dataset import Dataset, as_float
from lab.errors import LabError, UsageError
from lab.functional_model import subjects
from probes import PairProbe, Prepared, Undefined, headline
from probes.all_pairs import all_pairs, prepare_all
from probes.feature_maps import positions_of
from probes.probe import FunctionalProbe
from probes.subject import Subject, Task
from runs import RunFolder, list_checkpoints

AGAINST = ("step", "loss", "accuracy")
METRICS = {"loss": "train_loss", "accuracy": "validation_accuracy"}

Node = tuple[int, int, int]
"""One network at one moment: the run's place among the runs, its seed, its step."""


def require_enough(probe: PairProbe, layer: str, made: Prepared) -> Prepared:
    """A representation, where no null stands beside the values it enters.

    Raises:
        UsageError: too few stimuli for a probe that these would mislead.
    """
    n = made.n // made.together
    if probe.info.misleads(n, made.d):
        raise UsageError(
            f"--measure {probe.info.label} without a null would mislead: with n = {n} stimuli and {made.d} units "
            f"of {layer}, {probe.info.few_stimuli}; give --stimuli {2 * made.d}, or compare single steps, beside their "
            "nulls, with `lab compare`"
        )
    return made


def common_steps(folders: list[RunFolder], labels: list[str]) -> list[int]:
    """The steps that every run has stored.

    Raises:
        UsageError: fewer than two, so that nothing is seen to move.
    """
    stored = [list_checkpoints(folder, 0) for folder in folders]
    common = [step for step in stored[0] if all(step in steps for steps in stored)]
    if len(common) < 2:
        told = "; ".join(f"{label}: {', '.join(map(str, steps))}" for label, steps in zip(labels, stored, strict=True))
        raise UsageError(
            f"these runs have fewer than two stored steps in common ({told}); train them with one --batch and "
            "--train-size, and --epochs above 0"
        )
    return common


def left_out(folders: list[RunFolder], labels: list[str], steps: list[int]) -> list[str]:
    """A line for each run with stored steps that are not among these."""
    told = []
    for folder, label in zip(folders, labels, strict=True):
        others = [step for step in list_checkpoints(folder, 0) if step not in steps]
        if others:
            told.append(f"{label}: steps {', '.join(map(str, others))} are left out, which not all runs have stored")
    return told


def moments(folders: list[RunFolder], steps: list[int], against: str) -> list[list[int]]:
    """Which step of each run stands at each point of the course.

    Against the step: the same for all. Against loss or accuracy networks that are equally far belong together: at
    each value that the run with the worst end passes through, the step of every run that comes nearest to it, the
    earlier of two. The last point is then what `capture.matched_steps` gives, if all runs stored the same steps.

    Raises:
        UsageError: by loss, and the runs minimise different losses; by what was not measured.
    """
    if against == "step":
        return [[step] * len(folders) for step in steps]
    if against == "loss" and len(losses := {rule_of(folder).info.loss for folder in folders}) > 1:
        raise UsageError(
            f"--against loss: these rules minimise different losses ({'; '.join(sorted(losses))}); "
            "take --against accuracy"
        )
    worst = min if against == "accuracy" else max
    curves = [[mean_metric(folder, step, METRICS[against]) for step in steps] for folder in folders]
    finite = [curve for curve in curves if np.isfinite(curve[-1])]
    if not finite:
        raise UsageError(f"--against {against}: these runs have none on record at their last step; take --against step")
    levels = worst(finite, key=lambda curve: curve[-1])
    found = []
    for level in levels:
        if not np.isfinite(level):  # before the first step there is no training loss
            continue
        apart = [[abs(value - level) if np.isfinite(value) else np.inf for value in curve] for curve in curves]
        at = [steps[int(np.argmin(distances))] for distances in apart]
        if at not in found:
            found.append(at)
    return found


@dataclass
class Course:
    """Networks of several runs over training; read from the store once, when the first of them is asked for.

    A context manager: representations wait in a temporary folder, since those of all steps may not fit in memory.

    Attributes:
        layers: hidden blocks of all runs that are measured.
        shapes: for each run, layer -> shape of a representation of one stimulus, positions first.
        functional: whether the networks themselves are needed, and not their representations alone.
    """

    folders: list[RunFolder]
    labels: list[str]
    seen: Stimuli
    dataset: Dataset
    layers: list[str]
    shapes: list[dict[str, tuple[int, ...]]]
    steps: list[int]
    functional: bool
    memory: int
    say: Callable[[str], None]
    _subjects: dict[Node, Subject] = field(default_factory=dict)

    def __enter__(self) -> Course:
        self._folder = tempfile.TemporaryDirectory()
        self._read_already = False
        return self

    def __exit__(self, *error: Any) -> None:
        self._folder.cleanup()

    @cached_property
    def seeds(self) -> list[list[int]]:
        return [sound_seeds(folder) for folder in self.folders]

    @cached_property
    def task(self) -> Task:
        return Task(self.seen.y, np.asarray(as_float(self.seen.x)))

    @cached_property
    def nodes(self) -> list[Node]:
        """Every network at every step: run by run, seed by seed, steps ascending."""
        return [(run, seed, step) for run, seeds in enumerate(self.seeds) for seed in seeds for step in self.steps]

    def positions(self, run: int, layer: str) -> tuple[int, ...]:
        """Shape of the positions at which a layer of a run answers to one stimulus; () for a dense layer."""
        return positions_of((1, *self.shapes[run][layer]))

    def at(self, point: list[int]) -> list[Node]:
        """All networks of all runs, each run at its step."""
        return [(run, seed, step) for run, step in enumerate(point) for seed in self.seeds[run]]

    def network(self, node: Node) -> Subject:
        self._read()
        return self._subjects[node]

    def prepared(self, probe: PairProbe, layer: str, nodes: Iterable[Node]) -> Iterator[tuple[Node, Prepared]]:
        """These representations as a probe wants them, one after another, with a quarter of the memory.

        Raises:
            UsageError: see `require_enough`.
        """
        self._read()
        nodes = list(nodes)
        arrays = (shaped(np.load(self._file(layer, node)), self.shapes[node[0]][layer]) for node in nodes)
        for node, made in zip(nodes, prepare_all(probe, arrays, self.memory // 4), strict=True):
            yield node, require_enough(probe, layer, made)

    def values(
        self,
        probe: PairProbe,
        layer: str,
        nodes: Iterable[Node],
        meet: Callable[[Node, Prepared], None] = lambda node, p: None,
    ) -> tuple[np.ndarray, dict[Node, Prepared]]:
        """Values between all of these networks, and what is known of each but its content.

        Within half of the memory, beside what `prepared` takes; what does not fit waits on disk.

        Args:
            meet: is shown every representation once, while it is there.
        """
        known: dict[Node, Prepared] = {}

        def ready() -> Iterator[Prepared]:
            for node, made in self.prepared(probe, layer, nodes):
                meet(node, made)
                known[node] = sketch(made)
                yield made

        return all_pairs(probe, ready(), memory=self.memory // 2), known

    def functional_values(self, probe: FunctionalProbe, layer: str, nodes: list[Node]) -> np.ndarray:
        """The same of a symmetric measure of networks; nan where it is undefined."""
        found = np.full((len(nodes), len(nodes)), np.nan)
        networks = [self.network(node).at(layer) if probe.by_layer else self.network(node) for node in nodes]
        for i, a in enumerate(networks):
            for j, b in enumerate(networks[: i + 1]):
                value = headline(probe.value(self.task, a, b))
                found[i, j] = found[j, i] = np.nan if isinstance(value, Undefined) else value
        return found

    def groups(self, point: list[int]) -> list[Group]:
        """The runs as a comparison knows them, each at its step, without representations."""
        made = []
        for run, (folder, label, step) in enumerate(zip(self.folders, self.labels, point, strict=True)):
            accuracy, loss = (metric_of(folder, step, METRICS[name]) for name in ("accuracy", "loss"))
            networks = [
                {seed: self.network((run, seed, at)) for seed in self.seeds[run]} if self.functional else {}
                for at in (step, 0)
            ]
            made.append(Group(folder, label, step, accuracy, loss, {}, {}, *networks))
        return made

    def _file(self, layer: str, node: Node) -> Path:
        return Path(self._folder.name) / f"{self.layers.index(layer)}-{'-'.join(map(str, node))}.npy"

    def _read(self) -> None:
        if self._read_already:
            return
        for run, (folder, label) in enumerate(zip(self.folders, self.labels, strict=True)):
            start = None
            for step in self.steps:
                self.say(f"reading {label} at step {step}")
                now = observe(folder, step, self.seen, self.dataset)
                start = start or now
                for layer in self.layers:
                    for seed, array in now.hidden[layer].items():
                        np.save(self._file(layer, (run, seed, step)), array)
                if self.functional:
                    made = subjects(folder, self.dataset, now, start)
                    self._subjects |= {(run, seed, step): network for seed, network in made.items()}
        self._read_already = True


def course_of(
    folders: list[RunFolder],
    labels: list[str],
    n: int,
    layers: tuple[str, ...] | None,
    functional: bool,
    memory: int,
    say: Callable[[str], None],
) -> Course:
    """What can be asked of these runs, before anything is read.

    Args:
        layers: names of hidden blocks, None for all in common, () for none.

    Raises:
        UsageError, LabError: fewer than two steps in common, another data set, no such layer, no sound network.
    """
    if not any(map(sound_seeds, folders)):
        raise LabError("every seed of these runs diverged; train with a smaller learning rate")
    dataset = dataset_of(folders)
    steps = common_steps(folders, labels)
    shapes = [layer_shapes(folder, dataset) for folder in folders]
    if layers != ():
        layers = common_layers(shapes, layers)
    return Course(folders, labels, stimuli(dataset, n), dataset, list(layers), shapes, steps, functional, memory, say)
