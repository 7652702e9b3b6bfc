"""The networks of a blindness case as functional probes see them: a known hidden layer and a linear readout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np

from lab.blindness_cases import Case
from probes.functional import FUNCTIONAL
from probes.probe import Undefined, headline
from probes.subject import Subject, Task


@dataclass(frozen=True)
class Table:
    """A `probes.subject.Model` whose stimulus is its row in a table of hidden activations."""

    layers: ClassVar = ("hidden",)
    chain: ClassVar = Undefined("its hidden layer is a table, not a block")

    def hidden(self, params: Any, x: Any, layer: str) -> Any:
        return params["h"][x[:, 0].astype(int)]

    def rest(self, params: Any, h: Any, layer: str) -> Any:
        return h @ params["W"]

    def scores(self, params: Any, x: Any) -> Any:
        return self.rest(params, self.hidden(params, x, "hidden"), "hidden")

    def settled(self, params: Any, x: Any) -> Any:
        return params


def network(h: np.ndarray, W: np.ndarray) -> Subject:
    """A network that is known by its hidden layer and its readout."""
    return Subject(h @ W, model=Table(), params={"h": h, "W": W}, layer="hidden")


def same_answers(case: Case):
    """Agreement of the two, of the first with itself, and with stimuli of the second permuted."""
    task, probe = Task(case.y), FUNCTIONAL["agreement"]()
    a, b = network(case.a, case.readout_a), network(case.b, case.readout_b)

    def against(other: Subject) -> Any:
        return headline(probe.value(task, a, other))

    return against(b), against(a), lambda order: against(replace(b, scores=b.scores[order]))


@cache
def _swapped(case: Case, order: tuple[int, ...] | None) -> Any:
    """All parts of head-swap: the first's readout on the second's layer, or, without an order, on its own."""
    task = Task(case.y, np.arange(len(case.y), dtype=float)[:, None])
    front = case.a if order is None else case.b[np.array(order)]
    a = network(case.a, case.readout_a)
    return FUNCTIONAL["head-swap"]().value(task, network(front, case.readout_b), a)


STEPS = 10  # of a map trained by task loss, from the direct match


def stitch(by: str, back: bool = False) -> Callable[[Case], tuple[Any, Any, Callable[[np.ndarray], Any]]]:
    """Accuracy, relative to its own, of the first's readout behind the second's layer and an affine map; or back.

    The map is fitted to the first's layer (by="match") or trained on the labels (by="task"). Back: the second's readout
    behind the first's layer. The control "identity", a network before itself, is the upper anchor of every case.
    """
    probe = FUNCTIONAL["stitching"](by=by, steps=STEPS, controls=False)

    def place(case: Case):
        task = Task(case.y, np.arange(len(case.y), dtype=float)[:, None])
        ends = (case.b, case.readout_b), (case.a, case.readout_a)
        (front, head), host = ends[back], network(*ends[not back])

        def before(h: np.ndarray, W: np.ndarray) -> Any:
            return headline(probe.value(task, network(h, W), host))

        return before(front, head), before(*ends[not back]), lambda order: before(front[order], head)

    return place


def head_on(part: str) -> Callable[[Case], tuple[Any, Any, Callable[[np.ndarray], Any]]]:
    """Accuracy, relative to its own, of the first's readout on the second's layer, by the map that joins them."""

    def place(case: Case):
        def of(order: np.ndarray | None) -> Any:
            found = _swapped(case, None if order is None else tuple(order.tolist()))
            return found if isinstance(found, Undefined) else found[part]

        return of(np.arange(len(case.y))), of(None), of

    return place
