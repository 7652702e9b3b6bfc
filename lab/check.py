"""Does a learning rule keep its contract? One table of checks, for every rule of the lab and for anybody's own.

The task is small enough that a rule is checked within a minute: an exclusive or, which no linear readout of the inputs
solves and random features do not solve well enough, so a rule that assigns credit shows it here. Rules whose hidden
blocks never hear of the labels get four noisy templates instead.
All learning rates and seeds of a check train at once, as one cohort.

Networks for images are given noise, and everything is checked on them but learning. What some rules of the lab are
allowed stands in `ALLOWANCES`, so that the command and the tests ask the same of them.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from algorithms import RULES, Batch, Rule, RuleError
from lab.callstring import build, parse
from lab.errors import LabError, UsageError
from lab.examination import Examiner
from lab.networks import ARCHITECTURES, Network
from lab.request import told
from lab.streams import NOISE, ORDER, stream
from lab.training import Examples, Learner, Trainer, on_device

SHAPE, CLASSES, BATCH, EPOCHS, EXAMPLES = (1, 10, 1), 4, 20, 20, 1000
IMAGE = (28, 28, 1)  # what networks that are not perceptrons are built for
SEEDS = (0, 1)
RATES = {"adam": (0.003, 0.01, 0.03), "sgd": (0.03, 0.3, 3.0)}
LEARNED = 0.8  # chance is .25, random features reach .6; clusters 3.3 deviations from their borders allow .995
MARGIN = 0.05  # in accuracy, over the best of the frozen networks; random features reach .6 to .75
STEPS = 3  # of training that are written out and compared


class Broken(Exception):
    """A check failed; the message says what was seen and what should have been."""


class Refused(LabError):
    """The rule is not defined for the network. That breaks no contract, so there is nothing to check."""


class Finding(NamedTuple):
    """One check's outcome."""

    check: str
    passed: bool
    seen: str


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
    """

    inner: Any
    rate: jax.Array
    directed: Any


def watching(kind: str) -> optax.GradientTransformation:
    """Adam with a little decay, or plain descent with it, at the rate in its state.

    Decay is there to catch it moving what a rule does not train. It also moves what a rule trains by a direction of
    zero, so that whether directions came is noted beside.
    """
    inner = optax.identity() if kind.startswith("sgd") else optax.scale_by_adam()

    def init(params):
        return Watch(inner.init(params), jnp.ones(()), jax.tree.map(lambda _: jnp.array(False), params))

    def update(direction, state, params):
        step, inner_state = inner.update(direction, state.inner, params)
        decayed = jax.tree.map(lambda u, p: -state.rate * (u + 1e-3 * p), step, params)
        directed = jax.tree.map(lambda before, d: before | (d != 0).any(), state.directed, direction)
        return decayed, Watch(inner_state, state.rate, directed)

    return optax.GradientTransformation(init, update)


def is_watch(node: Any) -> bool:
    return isinstance(node, Watch)


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


def form(tree: Any) -> Any:
    """Shapes and types of a tree's leaves."""
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), tree)


def by_name(tree: Any) -> dict[str, np.ndarray]:
    """Leaves by their path, as in `dense1.kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def same_bits(a: Any, b: Any) -> bool:
    """Two trees hold the same numbers, bit for bit."""
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.asarray(u).tobytes() == np.asarray(v).tobytes()
        for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def keeps_form(s: Subject) -> str:
    """Directions are shaped and typed like the parameters; the state keeps its form; metrics are finite scalars."""
    learner = s.member(s.started)
    pseudo, state, metrics = s.grads(jax.random.key(0), learner.params, learner.rule_state, s.batch)
    if form(pseudo) != form(learner.params):
        raise Broken(f"the direction has {form(pseudo)}, the parameters have {form(learner.params)}")
    if form(state) != form(learner.rule_state):
        raise Broken(f"the state went in as {form(learner.rule_state)} and came out as {form(state)}")
    for name, value in metrics.items():
        if jnp.shape(value) != () or not jnp.isfinite(value):
            raise Broken(f"metric {name} is {value}, not a finite scalar")
    if "loss" not in metrics:
        raise Broken("the metrics have no 'loss'")
    return f"{len(jax.tree.leaves(pseudo))} tensors, metrics {', '.join(sorted(metrics))}"


def is_pure(s: Subject) -> str:
    """The same inputs give the same bits; another key gives others exactly if the rule says it draws at every step."""
    # A rule's Python code runs only while it is traced. What it reads beside its arguments, such as a number that NumPy
    # draws, is a constant of the compiled function from then on, and shows only beside a function compiled anew.
    learner = s.member(s.started)
    calls = ((s.grads, 0), (s.grads, 0), (s.compiled(), 0), (s.grads, 1))
    first, again, anew, other = (g(jax.random.key(k), learner.params, learner.rule_state, s.batch) for g, k in calls)
    if not same_bits(first, again):
        raise Broken("the same inputs gave other bits the second time: something outside of them is read")
    if not same_bits(first, anew):
        raise Broken("compiled anew it gave other bits: its Python code reads something beside its arguments")
    if not same_bits(s.started.rule_state, s.trainer.start.__wrapped__(s.seeds, s.examples).rule_state):
        raise Broken("init gave another state the second time: it reads something beside its arguments")
    if same_bits(first, other) == s.rule.info.random:
        said, did = ("draws", "does not") if s.rule.info.random else ("does not draw", "does")
        raise Broken(f"the rule says that it {said} at every step (RuleInfo.random), and it {did}")
    return "draws at every step" if s.rule.info.random else "draws nothing while training"


def starts_like_bp(s: Subject) -> str:
    """The same seed gives bitwise the same initial weights as backpropagation."""
    bp = Trainer(RULES["bp"](), s.net, optax.identity(), BATCH, s.trainer.width)
    if not same_bits(s.started.params, bp.start.__wrapped__(s.seeds, s.examples).params):
        raise Broken("the initial weights differ from those of bp with the same seed")
    return "bitwise"


def trains_what_it_says(s: Subject) -> str:
    """Within ten steps every tensor it trains has moved in every member of the cohort, because directions came for it.

    No other tensor has moved, and a run that is cut or resumed compiles nothing more.
    """
    learner = s.started
    for begin, end in ((0, 1), (1, 7), (7, 10)):
        learner = s.trainer.advance(learner, s.seeds, s.seeds, 0, begin, end, s.examples)
        learner = jax.device_put(jax.device_get(learner))  # as a resumed run brings it from the disk
    if s.trainer.advance._cache_size() > 1:
        raise Broken("the training loop was compiled again for the second call: the state changes its form")
    wrong = wrongly_moved(s, learner)
    if wrong and s.allowance.in_turn:
        wrong = wrongly_moved(s, s.trained)
    if wrong:
        raise Broken(wrong)
    if (learner.first_bad >= 0).all():
        raise Broken("the loss was not finite within ten steps at any learning rate")
    learned = not same_bits(learner.rule_state, s.started.rule_state)
    if learned != s.rule.info.plastic:
        raise Broken(f"its own state {'changed' if learned else 'did not change'}, against RuleInfo.plastic")
    return f"{', '.join(s.rule.trains(s.net)) or 'nothing'}" + ("; its own state" if learned else "")


def wrongly_moved(s: Subject, learner: Learner) -> str:
    """The first tensor that has moved and should not have, or the other way round; "" if there is none."""
    trained, before = s.rule.trains(s.net), by_name(s.started.params)
    watch = next(filter(is_watch, jax.tree.leaves(learner.opt_state, is_leaf=is_watch)))
    directed = by_name(watch.directed)
    for name, tensor in by_name(learner.params).items():
        moved = (tensor != before[name]).reshape(len(s.seeds), -1).any(1)
        if name.partition(".")[0] not in trained:
            if moved.any():
                return f"{name} moved, and the rule does not say that it trains it"
        elif not (learned := moved & directed[name]).all():
            i = int(learned.argmin())
            why = "its direction stayed zero" if moved[i] else "it stood still"
            return f"{name} does not learn: {why}, with seed {s.seeds[i]} at rate {watch.rate[i]:g}"
    return ""


def runs_alike_alone_and_together(s: Subject) -> str:
    """The compiled loop over a cohort does what single steps of single networks do, written out."""
    # Rounding differs between programs, and Adam's first steps divide a gradient by its own size: an entry that is zero
    # but for rounding may go either way by the learning rate. Entries that were ever so small beside the largest of
    # their tensor are left out, and the others are compared in the mean.
    together = s.trainer.advance(s.started, s.seeds, s.seeds, 0, 0, STEPS, s.examples)
    worst = 0.0
    for i in (0, len(s.seeds) - 1):
        params, state, opt_state, *_ = s.member(s.started, i)
        order = jax.random.permutation(stream(s.seeds[i], ORDER, 0), EXAMPLES)
        rate = s.rates[i // len(SEEDS)]
        clear = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
        for t in range(STEPS):
            rows = order[BATCH * t : BATCH * (t + 1)]
            batch = Batch(s.examples.x[rows], s.examples.y[rows])
            pseudo, state, _ = s.grads(stream(s.seeds[i], NOISE, t), params, state, batch)
            clear = jax.tree.map(lambda c, g: c & (abs(g) > 1e-5 * abs(g).max()), clear, pseudo)
            updates, opt_state = s.trainer.partial_optimizer.update(pseudo, opt_state, params)
            if s.rule.follow is not None:
                updates, state = s.rule.follow(updates, params, state)
            params = optax.apply_updates(params, updates)
        found = s.member(together.params, i)
        for a, b, c in zip(*map(jax.tree.leaves, (found, params, clear)), strict=True):
            gap = jnp.where(c, jnp.abs(a - b), 0).sum() / jnp.maximum(c.sum(), 1)
            worst = max(worst, float(gap) / (rate * STEPS))
    if not worst < 1e-3:
        raise Broken(f"after {STEPS} steps the two differ by {worst:.1g} of the learning rate per step")
    return f"within {worst:.0e} of the learning rate per step"


def learns(s: Subject) -> str:
    """At one of three learning rates every seed predicts new examples of the task."""
    if not s.rule.trains(s.net):
        return "nothing learns, as it says"
    worst = s.accuracies.min(1)
    if worst.max() < LEARNED:
        raise Broken(f"accuracy {shown(s)}; {LEARNED} was to be reached by every seed at one rate")
    return f"accuracy {shown(s)}"


def beats_frozen(s: Subject) -> str:
    """Labels reach the hidden blocks: better than the best network whose hidden blocks never learn."""
    if not s.rule.info.credit:
        return "assigns no credit to hidden blocks, as it says"
    bound = frozen_accuracy(s.net, s.allowance)
    worst = s.accuracies.min(1).max()
    if worst < bound + MARGIN:
        raise Broken(f"accuracy {worst:.3f} beside {bound:.3f} with frozen hidden blocks: no credit is assigned")
    return f"{worst:.3f} beside {bound:.3f}"


@cache
def frozen_accuracy(net: Network, allowance: Allowance) -> float:
    """The best that a readout of random features of this network reaches on the task, over rates and seeds.

    Args:
        allowance: that of the rule held against it, so that both train equally long.
    """
    frozen = RULES["frozen"]()
    twin = frozen._replace(info=RULES["bp"]().info)  # so that it gets the task of rules that assign credit
    return float(Subject(twin, net, allowance).accuracies.max())


def shown(s: Subject) -> str:
    """`0.98 0.97 at rate 0.003, ...`."""
    return ", ".join(
        f"{' '.join(f'{a:.2f}' for a in row)} at rate {rate:g}" for rate, row in zip(s.rates, s.accuracies, strict=True)
    )


CHECKS: dict[str, Callable[[Subject], str]] = {
    "keeps form": keeps_form,
    "is pure": is_pure,
    "starts like bp": starts_like_bp,
    "trains what it says": trains_what_it_says,
    "alone as together": runs_alike_alone_and_together,
    "learns": learns,
    "beats frozen": beats_frozen,
}
"""Every check by its name; each returns what it saw or raises `Broken`."""


def check_rule(subject: Subject, source: Path | None = None) -> Iterator[Finding]:
    """Every check of a rule, in order; one that raises, whatever it raises, is a finding too.

    What the rule prints goes to stderr: stdout is the answer's, which a program may be reading.

    Args:
        source: the user's file, where what its code raises is to be mended.

    Raises:
        Refused: there is nothing to check.
    """
    for name, check in CHECKS.items():
        if name in subject.excuses:
            yield Finding(name, True, f"does not apply: {subject.excuses[name]}")
            continue
        with redirect_stdout(sys.stderr):
            finding = finding_of(name, partial(check, subject), source)
        yield finding


def finding_of(name: str, check: Callable[[], str], source: Path | None) -> Finding:
    """What one check saw, or what stopped it, in one line."""
    try:
        seen = check()
        jax.effects_barrier()  # what compiled code prints comes late, and what it raises
        return Finding(name, True, seen)
    except Refused:
        raise
    except (Broken, RuleError) as error:
        return Finding(name, False, str(error))
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if source is not None and frame.filename == str(source.resolve())]
        place = f"{source}, line {lines[-1]}: " if lines else ""
        return Finding(name, False, f"{place}{told(error)}")
