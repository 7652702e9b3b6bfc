"""Does a learning rule keep its contract? One table of checks, for every rule of the lab and for anybody's own.

The task is small enough that a rule is checked within a minute: an exclusive or, which no linear readout of the inputs
solves and random features do not solve well enough, so a rule that assigns credit shows it here. Rules whose hidden
blocks never hear of the labels get four noisy templates instead.
All learning rates and seeds of a check train at once, as one cohort.

Networks for images are given noise, and everything is checked on them but learning. What some rules of the lab are
allowed stands in `lab/check_subject.py`, so that the command and the tests ask the same of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from algorithms import RULES
from lab.check_cohort import runs_alike_alone_and_together
from lab.check_subject import BATCH, SEEDS, Allowance, Subject, by_name, watch_of
from lab.checking import Broken, Finding, finding_of
from lab.networks import Network
from lab.settling import limits
from lab.training import Learner, Trainer

LEARNED = 0.8  # chance is .25, random features reach .6; clusters 3.3 deviations from their borders allow .995
MARGIN = 0.05  # in accuracy, over the best of the frozen networks; random features reach .6 to .75


def form(tree: Any) -> Any:
    """Shapes and types of a tree's leaves."""
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), tree)


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


def settles(s: Subject) -> str:
    """Before training, phases that are to come to rest do so within the tolerance of the rule's card, in every seed."""
    info = s.rule.info
    found: dict[str, float] = {}
    for i in range(len(SEEDS)):
        learner = s.member(s.started, i)
        metrics = s.grads(jax.random.key(0), learner.params, learner.rule_state, s.batch)[2]
        if ("residual" in metrics) != (info.tolerance is not None):
            has, lacks = (
                ("a tolerance", "metric 'residual'")
                if info.tolerance is not None
                else ("a metric 'residual'", "tolerance on its card (RuleInfo.tolerance)")
            )
            raise Broken(f"it has {has} and no {lacks}, so that nobody is told where a phase does not come to rest")
        for limit in limits(info):
            if limit.metric not in metrics:
                continue
            value = float(metrics[limit.metric])
            if limit.exceeded(value):
                raise Broken(
                    f"the {limit.phases} did not come to rest: {limit.metric} {value:.2g} with seed {SEEDS[i]}, above "
                    f"{limit.most:g}; give the rule more steps or, where the states run away, smaller ones"
                )
            found[limit.metric] = max(value, found.get(limit.metric, 0.0))
    return ", ".join(f"{metric} {value:.2g}" for metric, value in found.items()) or "it has no phase that settles"


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
    watch = watch_of(learner.opt_state)
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
    "settles": settles,
    "starts like bp": starts_like_bp,
    "trains what it says": trains_what_it_says,
    "alone as together": runs_alike_alone_and_together,
    "learns": learns,
    "beats frozen": beats_frozen,
}
"""Every check by its name; each returns what it saw or raises `Broken`."""


def check_rule(subject: Subject, source: Path | None = None) -> Iterator[Finding]:
    """Every check of a rule, in order; one that raises, whatever it raises, is a finding too.

    Args:
        source: the user's file, where what its code raises is to be mended.

    Raises:
        Refused: there is nothing to check.
    """
    for name, check in CHECKS.items():
        if name in subject.excuses:
            yield Finding(name, True, f"does not apply: {subject.excuses[name]}")
            continue
        yield finding_of(name, partial(settled, check, subject), source)


def settled(check: Callable[[Subject], str], subject: Subject) -> str:
    """A check and all that belongs to it: what compiled code prints comes late, and what it raises."""
    seen = check(subject)
    jax.effects_barrier()
    return seen
