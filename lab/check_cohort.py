"""Does a seed learn in a cohort what it learns alone? The compiled loop beside single steps of single networks.

What Adam makes of a direction cannot be compared: it divides by the direction's own size, so that an entry which is
nothing but rounding moves as far as any other, and either way. Compared are the directions themselves, the rule's own
state, and the step that is taken from one and the same direction. Every step begins where the cohort is, so that no gap
grows from step to step.

Two programs round differently, and what becomes of that depends on the rule: one divides a difference of two losses by
a small number, another takes a winner, a unit of a third stands at its kink. So the rule says itself what rounding
explains. Its step is computed again with weights and inputs *shaken* by up to 64 of their last digits, more than a sum
loses: by its order, a sum of n numbers moves by about √n / 5 last digits, and n is at most 16,000 here. That repeats
every rounding, and moves every intermediate value by more than rounding does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from algorithms import Batch
from lab.check_subject import BATCH, EXAMPLES, SEEDS, Subject, by_name, watch_of
from lab.checking import Broken
from lab.streams import NOISE, ORDER, stream

STEPS = 3  # of training that are compared
SHAKES = 2  # of every step, twelve in all: a single one of a single number may come out as next to nothing
SHAKEN = 2.0**-17
AMPLE = 4.0  # with twelve shakes, a normal number in 1e5 is larger than four times the largest of as broad others
FLOOR = 1e-5  # of a block's direction or a tensor of the state: what a sum loses that nothing shaken enters
SAME_STEP = 1e-5  # of weights and step: ten operations on every entry and no sum lose a millionth


class Compared(NamedTuple):
    """One step of one seed: tensors by name, as the cohort has them, alone, and alone but shaken."""

    together: dict[str, np.ndarray]
    alone: dict[str, np.ndarray]
    shaken: list[dict[str, np.ndarray]]


def runs_alike_alone_and_together(s: Subject) -> str:
    """The compiled loop over a cohort does what single steps of single networks do, written out."""
    size, gap, explained = (defaultdict(float) for _ in range(3))  # by tensor, the largest of all steps
    for step in compared_steps(s):
        for name, alone in step.alone.items():
            size[name] = max(size[name], distance(alone))
            gap[name] = max(gap[name], distance(step.together[name], alone))
            explained[name] = max(explained[name], *(distance(shaken[name], alone) for shaken in step.shaken))
    excess: dict[str, float] = {}
    for name in gap:
        if not np.isfinite(gap[name]):
            raise Broken(f"{name} is not finite")
        # A bias before a normalisation has no direction but rounding, so it is measured beside its whole block.
        beside = [n for n in size if block_of(n) == block_of(name)] if name.startswith("direction") else [name]
        allowed = AMPLE * explained[name] + FLOOR * max(size[n] for n in beside)
        excess[name] = gap[name] / max(allowed, np.finfo(float).tiny)
    if not excess:
        return "nothing learns, as it says"
    worst = max(excess, key=excess.__getitem__)
    if excess[worst] > 1:
        raise Broken(
            f"a seed's {worst} differs by {gap[worst] / size[worst]:.1g} of its size between the cohort and alone, "
            f"{excess[worst]:.2g} times what rounding explains"
        )
    return f"within {excess[worst]:.1g} of what rounding explains"


def block_of(name: str) -> str:
    """`direction.dense1` of `direction.dense1.kernel`."""
    return ".".join(name.split(".")[:2])


def distance(a: np.ndarray, b: np.ndarray | float = 0.0) -> float:
    """Euclidean; infinite where anything is not a number, so that `max` keeps it."""
    found = float(np.linalg.norm(np.subtract(a, b, dtype=np.float64)))
    return found if np.isfinite(found) else np.inf


def compared_steps(s: Subject) -> Iterator[Compared]:
    """The first steps of two seeds, at the two smaller rates: at the largest some rules explode on noise.

    Raises:
        Broken: the cohort's step is not what the optimiser makes of the cohort's direction.
    """
    learner, rng = s.started, np.random.default_rng(0)
    for t in range(STEPS):
        after = s.trainer.advance(learner, s.seeds, s.seeds, 0, t, t + 1, s.examples)
        for i in (0, 2 * len(SEEDS) - 1):
            yield compared_step(s, i, t, s.member(learner, i), s.member(after, i), rng)
        learner = after


def compared_step(s: Subject, i: int, t: int, before: Any, after: Any, rng: np.random.Generator) -> Compared:
    trained = s.rule.trains(s.net)
    rows = jax.random.permutation(stream(s.seeds[i], ORDER, 0), EXAMPLES)[BATCH * t : BATCH * (t + 1)]
    batch = Batch(s.examples.x[rows], s.examples.y[rows])
    key, noted = stream(s.seeds[i], NOISE, t), watch_of(after.opt_state).direction

    def computed(params: Any, x: Any) -> tuple[Any, Any]:
        pseudo, state, _ = s.grads(key, params, before.rule_state, Batch(x, batch.y))
        return pseudo, state

    def named(pseudo: Any, state: Any) -> dict[str, np.ndarray]:
        return by_name({"direction": {name: pseudo[name] for name in trained}, "state": state})

    pseudo, state = computed(before.params, batch.x)
    taken = {name: noted[name] if name in trained else pseudo[name] for name in pseudo}
    updates, _ = s.trainer.partial_optimizer.update(taken, before.opt_state, before.params)

    def followed(state: Any) -> tuple[Any, Any]:
        return (updates, state) if s.rule.follow is None else s.rule.follow(updates, before.params, state)

    moved, state_after = followed(state)
    same_step(by_name(after.params), by_name(optax.apply_updates(before.params, moved)), by_name(moved))
    others = []
    for _ in range(SHAKES):
        other, other_state = computed(shaken(before.params, rng), shaken(batch.x, rng))
        others.append(named(other, followed(other_state)[1]))
    return Compared(named(noted, after.rule_state), named(pseudo, state_after), others)


def same_step(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], moved: dict[str, np.ndarray]) -> None:
    """The cohort's weights after a step are what the optimiser makes of the cohort's own direction."""
    for name, b in expected.items():
        if distance(found[name], b) > SAME_STEP * (distance(b) + distance(moved[name])):
            raise Broken(f"{name} of a seed in a cohort takes another step from the same direction than alone")


def shaken(tree: Any, rng: np.random.Generator) -> Any:
    """Every number times one plus or minus a little."""
    return jax.tree.map(lambda leaf: leaf * (1 + SHAKEN * rng.uniform(-1, 1, leaf.shape)).astype(leaf.dtype), tree)
