"""Networks as functional probes see them: what they answer and, where it can be had, the function itself."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from probes.decoding import stratified_folds
from probes.features import features
from probes.probe import FunctionalProbe, ProbeError, ProbeInfo, Undefined

SCORES_ONLY = Undefined("only the scores of this network are known")
NO_FEEDBACK = Undefined("the feedback weights of this network are not known")
NO_CREDIT = Undefined("what a rule would change in this network is not known")


class Model(Hashable, Protocol):
    """An architecture as pure functions of parameters, which JAX can differentiate, in the precision of its input.

    Networks of one architecture share one model (equal, with equal hashes), so that what is compiled for one serves
    all. Parameters are nested dicts of arrays; a rule's own weights that its forward pass needs lie among them.

    Attributes:
        layers: names of the hidden layers, first to last.
        chain: names of all blocks of a chain of plain blocks (`h = f(W h + b)` with f acting unit by unit, pooling
            aside), first to last with the output, each {"kernel": (..., units in, units out), "bias": (units out)} in
            the parameters; Undefined with the reason for any other network.
    """

    layers: tuple[str, ...]
    chain: tuple[str, ...] | Undefined

    def hidden(self, params: Any, x: Any, layer: str) -> Any:
        """Activations of a hidden layer, n × units or n × height × width × channels."""

    def rest(self, params: Any, h: Any, layer: str) -> Any:
        """Scores (n × classes) from activations of that layer: `rest(params, hidden(params, x, l), l)` = scores."""

    def scores(self, params: Any, x: Any) -> Any:
        """Scores, n × classes, whose argmax is the prediction."""

    def settled(self, params: Any, x: Any) -> Any:
        """The parameters, with statistics of batch normalisation (if there are any) taken anew on x."""


@dataclass(frozen=True, eq=False)
class Task:
    """What the networks are asked: labels y (column of the right score) of n stimuli, and the stimuli x themselves."""

    y: np.ndarray
    x: np.ndarray | None = None

    def __post_init__(self) -> None:
        y = np.asarray(self.y)
        if y.ndim != 1 or y.size == 0 or y.dtype.kind not in "iu" or y.min() < 0:
            raise ProbeError("labels must be whole numbers from 0, one per stimulus: the column of the right score.")
        if self.x is not None and len(self.x) != len(y):
            raise ProbeError(f"there are {len(self.x)} stimuli and {len(y)} labels; pass one label per stimulus.")
        object.__setattr__(self, "y", y.astype(np.intp))

    @cached_property
    def fitting(self) -> np.ndarray:
        """Which stimuli maps are fitted on: every other one of each class. Values are taken on the others."""
        return stratified_folds(self.y, 2) == 0


class Earlier(NamedTuple):
    """A network's parameters at an earlier moment of its training, and how many steps ago that was."""

    params: Any
    steps: int


@dataclass(frozen=True, eq=False)
class Subject:
    """One network on the stimuli of a task.

    Attributes:
        scores: n × classes; the prediction is the argmax.
        no_logits: why a softmax of the scores is not the network's own probability (goodness, energies, a readout
            trained by squared error); None where it is.
        model: the architecture, or why there is no differentiable forward pass.
        params, initial: its parameters now and before training; None where they are not known.
        layer: what is read: a hidden layer by probes with `by_layer`, one of their `places` by probes that have some.
        feedback: name of a block or weight → (W, B), forward weights and the feedback weights that stand for them in
            one shape, or why that block has none; Undefined where the network has none at all.
        credit: () → (direction, gradient), shaped like the parameters: what the rule descends, and the exact gradient
            of its loss, at these parameters on one batch.
        earlier: the same network some steps before.
    """

    scores: np.ndarray
    no_logits: Undefined | None = None
    model: Model | Undefined = SCORES_ONLY
    params: Any = None
    initial: Any = None
    layer: str | None = None
    feedback: dict[str, tuple[Any, Any] | Undefined] | Undefined = NO_FEEDBACK
    credit: Callable[[], tuple[Any, Any]] | Undefined = NO_CREDIT
    earlier: Earlier | None = None

    def __post_init__(self) -> None:
        scores = features(self.scores, "the array of scores")
        if scores.shape[1] < 2:
            raise ProbeError("scores have one column, but a prediction is the argmax over classes; pass one per class.")
        object.__setattr__(self, "scores", scores)

    @property
    def prediction(self) -> np.ndarray:
        """Index of the largest score; the first of equal ones."""
        return self.scores.argmax(axis=1)

    def at(self, layer: str) -> "Subject":
        """The same network, read at this hidden layer, block or weight."""
        return replace(self, layer=layer)


def subject(task: Task, model: Model, params: Any, **more: Any) -> Subject:
    """A network from its architecture and parameters; its scores are computed in float64. `more`: other fields."""
    import jax

    from probes.forward import doubled, scores

    with jax.enable_x64(True):
        found = np.asarray(scores(model, doubled(params), doubled(_stimuli(task, "a network"))))
    return Subject(found, model=model, params=params, **more)


def functional_probe(
    info: ProbeInfo,
    value: Callable[..., float | dict[str, float | Undefined] | Undefined],
    networks: int,
    needs: str,
    logits: bool = False,
) -> FunctionalProbe:
    """Wraps the mathematics of a functional probe with the checks that all of them need.

    Args:
        value: (task, *subjects) → result. Where a model is needed it runs in float64, and stimuli and parameters are
            JAX arrays of that type.
        needs: what of a network is used: "scores", the "model", or the model cut at a "layer".
        logits: whether scores that are no logits make the value undefined.
    """

    def checked(task: Task, *subjects: Subject) -> float | dict[str, float | Undefined] | Undefined:
        if len(subjects) != networks:
            raise ProbeError(f"{info.name} takes {networks} network{'s' * (networks - 1)}, not {len(subjects)}.")
        for s in subjects:
            _same_task(task, s, subjects[0])
        for s in subjects:
            if logits and s.no_logits is not None:
                return s.no_logits
        if needs == "scores":
            return value(task, *subjects)
        for s in subjects:
            if isinstance(s.model, Undefined):
                return s.model
            if needs == "layer" and s.layer not in s.model.layers:
                raise ProbeError(
                    f"{info.name} reads a hidden layer, and {s.layer!r} is none of {', '.join(s.model.layers)}; "
                    "choose one with `network.at(layer)`."
                )
        return in_double(info.name, value, task, *subjects)

    return FunctionalProbe(info, checked, networks, needs == "layer")


def weight_probe(
    info: ProbeInfo,
    value: Callable[[Subject], float | dict[str, float | Undefined] | Undefined],
    places: Callable[[Subject], tuple[str, ...] | Undefined],
) -> FunctionalProbe:
    """Wraps the mathematics of a probe of one network's weights or directions, which runs no network.

    Args:
        value: network → result at `network.layer`, which is one of its places.
        places: see `FunctionalProbe`.
    """

    def checked(task: Task, s: Subject) -> float | dict[str, float | Undefined] | Undefined:
        _same_task(task, s, s)
        there = places(s)
        if isinstance(there, Undefined):
            return there
        if s.layer not in there:
            raise ProbeError(
                f"{info.name} reads weights, and {s.layer!r} is none of {', '.join(there)}; choose one with "
                "`network.at(name)`."
            )
        return value(s)

    return FunctionalProbe(info, checked, 1, places=places)


def _same_task(task: Task, s: Subject, first: Subject) -> None:
    n, classes = s.scores.shape
    if n != len(task.y):
        raise ProbeError(f"a network has scores of {n} stimuli, and the task has {len(task.y)}; use the same stimuli.")
    if classes != first.scores.shape[1]:
        raise ProbeError(f"the networks score {first.scores.shape[1]} and {classes} classes; use one task for both.")
    if task.y.max() >= classes:
        raise ProbeError(f"there is a label {task.y.max()}, but only {classes} columns of scores, counted from 0.")


def _stimuli(task: Task, name: str) -> np.ndarray:
    if task.x is None:
        raise ProbeError(f"{name} has to run on the stimuli, and the task holds labels alone; pass Task(y, x).")
    return task.x


def in_double(name: str, value: Callable, task: Task, *subjects: Subject) -> Any:
    """`value(task, *subjects)` with stimuli and parameters as JAX arrays in float64."""
    import jax

    from probes.forward import doubled

    x = _stimuli(task, name)

    def ready(s: Subject) -> Subject:
        before = None if s.earlier is None else s.earlier._replace(params=doubled(s.earlier.params))
        return replace(s, params=doubled(s.params), initial=doubled(s.initial), earlier=before)

    with jax.enable_x64(True):
        return value(replace(task, x=doubled(x)), *map(ready, subjects))
