"""The lab's networks as functional probes see them: an ordinary forward pass, cut at any hidden block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
from jaxtyping import Array

from algorithms import Rule
from algorithms.rule import Params, plain_forward
from lab.callstring import build
from lab.capture import Observed, reopen
from lab.datasets.dataset import Dataset
from lab.networks import ARCHITECTURES, Network
from lab.normalisation import with_statistics
from probes.probe import Undefined
from probes.subject import Subject
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


def subjects(folder: RunFolder, dataset: Dataset, now: Observed, start: Observed) -> dict[int, Subject]:
    """Every sound seed of a run at a stored step, with its parameters at step 0, as functional probes take them."""
    rule, net = reopen(folder, dataset)
    model = own_forward(rule) or forward_model(folder.spec.arch, net.input_shape, net.classes)

    def parameters(seen: Observed, seed: int) -> Any:
        return with_statistics(seen.stored[seed]["params"], seen.stored[seed]["statistics"])

    return {
        seed: Subject(scores, no_logits(rule), model, parameters(now, seed), parameters(start, seed))
        for seed, scores in now.scores.items()
    }
