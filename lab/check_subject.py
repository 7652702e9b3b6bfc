"""What a rule's contract is checked on: a network, a task, a cohort of rates and seeds, and what is allowed to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from algorithms import Batch, Rule, RuleError
from lab.callstring import build, parse
from lab.checking import Refused
from lab.errors import UsageError
from lab.examination import Examiner
from lab.networks import ARCHITECTURES, Network
from lab.training import Examples, Learner, Trainer, on_device

SHAPE, CLASSES, BATCH, EPOCHS, EXAMPLES = (1, 10, 1), 4, 20, 20, 1000
IMAGE = (28, 28, 1)  # what networks that are not perceptrons are built for
SEEDS = (0, 1)
RATES = {"adam": (0.003, 0.01, 0.03), "sgd": (0.03, 0.3, 3.0)}


class Allowance(NamedTuple):
    """What is allowed to a rule of the lab that by its nature cannot pass as it comes, and why.

    Attributes:
        why: the reason, printed with the findings.
        patience: how many times the epochs it is given; the frozen network beside it is given as many.
        in_turn: its hidden blocks learn one after another: it is given the epochs for each of them, and a block need
            not have moved before the last.
        excused: checks that do not apply.
    """

    why: str = ""
    patience: int = 1
    in_turn: bool = False
    excused: tuple[str, ...] = ()


NONE = Allowance()
ALLOWANCES = {
    "wp": Allowance("20 times the epochs: one trial a step says one number about a thousand parameters", patience=20),
    "greedy": Allowance("20 epochs for each hidden block: they learn in turn, for 1000 steps each", in_turn=True),
    "shuffled": Allowance(
        "its labels have nothing to do with the true ones, so chance is what it must reach", excused=("learns",)
    ),
}
"""By the name of the rule in `RULES`; all others, and every user's file, have none."""


class Watch(NamedTuple):
    """The state of an optimiser with a learning rate of its own for each member of a cohort.

    Attributes:
        inner: the state of Adam.
        rate: the learning rate.
        directed: for every tensor, whether a direction other than zero has come for it.
        direction: the last one.
    """

    inner: Any
    rate: jax.Array
    directed: Any
    direction: Any


def watching(kind: str) -> optax.GradientTransformation:
    """Adam with a little decay, or plain descent with it, at the rate in its state.

    Decay is there to catch it moving what a rule does not train. It also moves what a rule trains by a direction of
    zero, so that whether directions came is noted beside.
    """
    inner = optax.identity() if kind.startswith("sgd") else optax.scale_by_adam()

    def init(params):
        undirected = jax.tree.map(lambda _: jnp.array(False), params)
        return Watch(inner.init(params), jnp.ones(()), undirected, jax.tree.map(jnp.zeros_like, params))

    def update(direction, state, params):
        step, inner_state = inner.update(direction, state.inner, params)
        decayed = jax.tree.map(lambda u, p: -state.rate * (u + 1e-3 * p), step, params)
        directed = jax.tree.map(lambda before, d: before | (d != 0).any(), state.directed, direction)
        return decayed, Watch(inner_state, state.rate, directed, direction)

    return optax.GradientTransformation(init, update)


def is_watch(node: Any) -> bool:
    return isinstance(node, Watch)


def watch_of(opt_state: Any) -> Watch:
    """The `Watch` in the state of a rule's optimiser, which may be one for some blocks only."""
    return next(filter(is_watch, jax.tree.leaves(opt_state, is_leaf=is_watch)))


def by_name(tree: Any) -> dict[str, np.ndarray]:
    """Leaves by their path, as in `dense1.kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def exclusive_or(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four classes: whether inputs 6 and 7 have one sign, and the sign of input 8; the other seven are noise.

    The first four are noise so that a rule may write a label code over them.
    """
    rng = np.random.default_rng(seed)
    y, sign, x = np.arange(n) % CLASSES, rng.choice([-1, 1], n), rng.normal(size=(n, 10))
    same, third = np.where(y % 2, sign, -sign), np.where(y // 2, 1, -1)
    x[:, 5:8] = np.stack([sign, same, third], axis=1) + 0.3 * x[:, 5:8]
    return x.reshape(n, *SHAPE).astype(np.float32), y


def templates(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One of four templates with noise: what a linear readout can tell apart."""
    rng = np.random.default_rng(seed)
    y, shapes = np.arange(n) % CLASSES, np.random.default_rng(99).normal(size=(CLASSES, 10))
    return (shapes[y] + 0.5 * rng.normal(size=(n, 10))).reshape(n, *SHAPE).astype(np.float32), y


def noise(n: int, seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images of noise, with labels in turn: enough to ask how a rule runs, not whether it learns."""
    return np.random.default_rng(seed).random((n, *shape), np.float32), np.arange(n) % CLASSES


@cache
def network_of(arch: str) -> tuple[Network, str]:
    """The network of a call string of `--arch`, and its canonical call string.

    Perceptrons are built for the ten numbers of the task, all others for images.

    Raises:
        UsageError: no such network, or none with a hidden layer.
    """
    shape = SHAPE if parse(arch, "--arch").name == "mlp" else IMAGE
    build_net, call = build(arch, ARCHITECTURES, "--arch", "`lab train --help` shows examples.")
    net = build_net(shape, CLASSES)
    if not net.hidden:
        raise UsageError(f"--arch {call} has no hidden layer, so there is no credit to check; give it one")
    return net, call


def default_arch(rule: Rule) -> str:
    """The small perceptron that a rule is checked on, with the nonlinearity that it needs."""
    return f"mlp(16,16,act={rule.info.nonlinearity})"


@dataclass(frozen=True)
class Subject:
    """A rule on a network, with what its checks share."""

    rule: Rule
    net: Network
    allowance: Allowance = NONE

    @cached_property
    def excuses(self) -> dict[str, str]:
        """Checks that do not apply, and why."""
        found = dict.fromkeys(self.allowance.excused, self.allowance.why)
        if self.net.input_shape != SHAPE:
            found |= dict.fromkeys(("learns", "beats frozen"), "asked of perceptrons alone; these images are noise")
        return found

    @cached_property
    def epochs(self) -> int:
        return EPOCHS * self.allowance.patience * (len(self.net.hidden) if self.allowance.in_turn else 1)

    @cached_property
    def rates(self) -> tuple[float, ...]:
        return RATES["sgd" if self.rule.info.optimizer.startswith("sgd") else "adam"]

    @cached_property
    def trainer(self) -> Trainer:
        optimizer = watching(self.rule.info.optimizer)
        return Trainer(self.rule, self.net, optimizer, BATCH, len(self.rates) * len(SEEDS))

    @cached_property
    def seeds(self) -> jax.Array:
        return self.trainer.seeds([seed for _ in self.rates for seed in SEEDS])

    @cached_property
    def task(self) -> Callable[[int, int], tuple[np.ndarray, np.ndarray]]:
        if self.net.input_shape != SHAPE:
            return partial(noise, shape=self.net.input_shape)
        return exclusive_or if self.rule.info.credit else templates

    @cached_property
    def examples(self) -> Examples:
        return on_device(*self.task(EXAMPLES, 0))

    @cached_property
    def started(self) -> Learner:
        """The cohort before its first step, each member at its rate; not compiled, which here is faster.

        Raises:
            Refused: by the rule's `init`.
        """
        try:
            learner = self.trainer.start.__wrapped__(self.seeds, self.examples)
        except RuleError as refusal:
            raise Refused(str(refusal)) from None
        rates = jnp.repeat(jnp.array(self.rates), len(SEEDS))
        own = jax.tree.map(
            lambda node: node._replace(rate=rates) if is_watch(node) else node, learner.opt_state, is_leaf=is_watch
        )
        return learner._replace(opt_state=own)

    def compiled(self):
        """`(key, params, state, batch) -> ...`, the rule's `grads`; its Python code runs anew for every one made."""
        return jax.jit(lambda key, params, state, batch: self.rule.grads(key, self.net, params, state, batch))

    @cached_property
    def grads(self):
        """One `compiled`, for all checks."""
        return self.compiled()

    @cached_property
    def batch(self) -> Batch:
        return Batch(self.examples.x[:BATCH], self.examples.y[:BATCH])

    def member(self, tree: Any, i: int = 0) -> Any:
        """One member of a cohort."""
        return jax.tree.map(lambda leaf: leaf[i], tree)

    @cached_property
    def trained(self) -> Learner:
        """The cohort after its last step."""
        learner = self.started
        for epoch in range(self.epochs):
            steps = EXAMPLES // BATCH
            learner = self.trainer.advance(learner, self.seeds, self.seeds, epoch, 0, steps, self.examples)
        return learner

    @cached_property
    def accuracies(self) -> np.ndarray:
        """Accuracy on new examples after the last step, (rates × seeds)."""
        right = Examiner(self.trainer, self.examples).accuracy(self.trained, on_device(*self.task(EXAMPLES, 1)))
        return np.asarray(right).reshape(len(self.rates), len(SEEDS))
