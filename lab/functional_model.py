"""The lab's networks as functional probes see them: an ordinary forward pass, cut at any hidden block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from algorithms import Rule
from algorithms.rule import Batch, Params, plain_forward
from lab.callstring import build
from lab.capture import Observed, reopen
from lab.datasets.dataset import Dataset, as_float, split
from lab.examination import DIAGNOSTIC_BATCH, direction_and_gradient
from lab.feedback_weights import feedback_of
from lab.networks import ARCHITECTURES, Network
from lab.normalisation import with_statistics
from lab.request import PRECISIONS
from lab.streams import EXAMINATION, stream
from lab.training import on_device
from probes.probe import Undefined
from probes.subject import NO_CREDIT, Earlier, Subject
from runs import RunFolder


@dataclass(frozen=True)
class ForwardModel:
    """A `probes.subject.Model`: a network that is run by one ordinary forward pass.

    Parameters are those of the network. With batch normalisation each such block holds its running averages under
    "statistics"; they are constants, so no derivative is taken with respect to them.
    """

    net: Network

    @property
    def layers(self) -> tuple[str, ...]:
        return self.net.hidden

    @property
    def chain(self) -> tuple[str, ...] | Undefined:
        composite = [block.name for block in self.net.blocks if not block.plain]
        if composite:
            return Undefined(f"block {composite[0]} is composite, so its units cannot be permuted one by one")
        return tuple(block.name for block in self.net.blocks)

    def _run(self, params: Params, h: Array, first: int, last: int | None) -> Array:
        for block in self.net.blocks[first:last]:
            weights = params[block.name]
            if "statistics" in weights:
                weights = {**weights, "statistics": jax.lax.stop_gradient(weights["statistics"])}
            h = block.act(block.affine(weights, h))
        return h

    def hidden(self, params: Params, x: Array, layer: str) -> Array:
        return self._run(params, x, 0, self.layers.index(layer) + 1)

    def rest(self, params: Params, h: Array, layer: str) -> Array:
        return self._run(params, h, self.layers.index(layer) + 1, None)

    def scores(self, params: Params, x: Array) -> Array:
        return self._run(params, x, 0, None)

    def settled(self, params: Params, x: Array) -> Params:
        bare = {name: {k: v for k, v in block.items() if k != "statistics"} for name, block in params.items()}
        return with_statistics(bare, self.net.statistics(bare, x))


@cache
def forward_model(arch: str, input_shape: tuple[int, ...], classes: int) -> ForwardModel:
    """The one model of an architecture, so that what is compiled for a network serves all of its kind."""
    make_net, _ = build(arch, ARCHITECTURES, "the network")
    return ForwardModel(make_net(input_shape, classes))


def own_forward(rule: Rule) -> Undefined | None:
    """Why a rule's networks are no ordinary forward pass; None where they are."""
    if rule.forward is plain_forward:
        return None
    return Undefined(f"{rule.info.name} reads its networks in a way of its own, not by an ordinary forward pass")


def no_logits(rule: Rule) -> Undefined | None:
    """Why a softmax of a rule's scores is not the network's own probability; None where it is."""
    own = own_forward(rule)
    if own is not None:
        return Undefined(f"{own.reason}, so that its scores are not known to be logits")
    if rule.info.loss != "ce":
        return Undefined(f"{rule.info.name} trains its readout by {rule.info.loss}, so that its scores are no logits")
    return None


@dataclass(frozen=True)
class Credit:
    """What the rule of a run descends at stored parameters, on the batch and with the noise of the run's own record."""

    folder: RunFolder
    dataset: Dataset

    @cached_property
    def _compared(self):
        rule, net = reopen(self.folder, self.dataset)
        spec = self.folder.spec
        parts = split(self.dataset, spec.validation_size, spec.train_size)
        examples = on_device(parts.train_x[:DIAGNOSTIC_BATCH], parts.train_y[:DIAGNOSTIC_BATCH])
        batch = Batch(as_float(examples.x), examples.y)

        def compared(seed, step, stored):
            key = stream(seed, EXAMINATION, step)
            return direction_and_gradient(rule, net, key, stored["params"], stored["rule_state"], batch)[:2]

        return jax.jit(compared)

    def at(self, seen: Observed, seed: int) -> Callable[[], tuple[Params, Params]]:
        """One seed at a stored step: () -> (direction, gradient), computed once and only when asked for."""

        @cache
        def found():
            with jax.default_matmul_precision(PRECISIONS[self.folder.spec.precision]):
                return jax.device_get(self._compared(np.uint32(seed), seen.step, seen.stored[seed]))

        return found


def subjects(
    folder: RunFolder,
    dataset: Dataset,
    now: Observed,
    start: Observed,
    before: Observed | None = None,
    credit: Credit | None = None,
) -> dict[int, Subject]:
    """Every sound seed of a run at a stored step, as functional probes take them.

    Args:
        start: the run at step 0.
        before: at the stored step before, where there is one.
        credit: gives what the rule would change there; None where nothing asks for it.
    """
    rule, net = reopen(folder, dataset)
    model = own_forward(rule) or forward_model(folder.spec.arch, net.input_shape, net.classes)

    def parameters(seen: Observed, seed: int) -> Any:
        return with_statistics(seen.stored[seed]["params"], seen.stored[seed]["statistics"])

    def network(seed: int, scores: Any) -> Subject:
        stored = now.stored[seed]
        return Subject(
            scores,
            no_logits(rule),
            model,
            parameters(now, seed),
            parameters(start, seed),
            feedback=feedback_of(rule, bool(folder.spec.sources), net, stored["params"], stored["rule_state"]),
            credit=NO_CREDIT if credit is None else credit.at(now, seed),
            earlier=None if before is None else Earlier(parameters(before, seed), now.step - before.step),
        )

    return {seed: network(seed, scores) for seed, scores in now.scores.items()}
