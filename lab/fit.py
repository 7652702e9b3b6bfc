"""Whether a request can be trained at all: asked of shapes alone, before anything is computed or written."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from algorithms import Batch, RuleError
from algorithms.rule import Activations
from lab.device import memory
from lab.errors import LabError, UsageError
from lab.examination import DIAGNOSTIC_BATCH, READOUT_FIT, Examiner
from lab.request import Request
from lab.training import Examples, Learner, Trainer, on_device
from lab.user_files import told


def check_fit(request: Request) -> None:
    """Refuse a network that the rule is not defined for, or that this machine cannot hold, before anything is written.

    Raises:
        UsageError, LabError: with the rule's own words on what would work.
    """
    spec = request.spec
    rows = slice(spec.batch)
    examples = on_device(request.split.train_x[rows], request.split.train_y[rows])
    trainer = Trainer(request.rule, request.net, request.optimizer, spec.batch, spec.cohort)
    try:
        if request.sources:
            check_trains(request)
        seeds = trainer.seeds(spec.seeds[:1])
        learner = jax.eval_shape(trainer.start, seeds, examples)
        check_memory(learner)
        jax.eval_shape(trainer.advance, learner, seeds, seeds, 0, 0, 1, examples)
        if request.sources:
            check_direction(request, learner, examples)
            check_examined(request, trainer, learner, examples)
    except RuleError as error:
        raise UsageError(f"--rule {request.rule.info.name} with --arch {spec.arch}: {error}") from None
    except LabError:
        raise
    except Exception as error:
        # A user's rule that does not trace is the user's to mend: one line, no traceback through JAX.
        if request.sources:
            raise LabError(f"--rule {request.sources['rule'][0]} does not run: {told(error)}; mend the file") from None
        if isinstance(error, TypeError | ValueError | OverflowError):
            raise UsageError(
                f"--rule {spec.rule} with --optimizer {spec.optimizer} and --arch {spec.arch} cannot be computed "
                f"({told(error)}); give other settings"
            ) from None
        raise


def check_memory(learner: Any) -> None:
    """Refuse a cohort whose weights and optimiser alone are more than this machine's memory.

    Raises:
        LabError: with both sizes.
    """
    needed, there = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(learner)), memory()
    if needed > there:
        raise LabError(
            f"not enough memory: the weights, the rule and the optimiser need {needed / 1e9:.3g} GB, and there are "
            f"{there / 1e9:.3g} GB; use a smaller network or --cohort"
        )


def check_direction(request: Request, learner: Learner, examples: Examples) -> None:
    """Refuse a user's rule whose direction is not shaped like the parameters: added to them, it would be broadcast.

    Raises:
        LabError: naming the first block that differs.
    """

    def grads(learner, batch):
        params, state = jax.tree.map(lambda leaf: leaf[0], (learner.params, learner.rule_state))
        return request.rule.grads(jax.random.key(0), request.net, params, state, batch)[0]

    batch = Batch(jnp.zeros(examples.x.shape), examples.y)
    found = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(grads, learner, batch))
    wanted = jax.tree.map(lambda leaf: leaf.shape[1:], learner.params)
    if found != wanted:
        name = next((name for name in wanted if found.get(name) != wanted[name]), "none")
        raise LabError(
            f"--rule {request.sources['rule'][0]}: grads() must return a direction shaped like the parameters; block "
            f"{name} has {wanted[name]}, it returned {found.get(name)}; mend the file"
        )


@contextmanager
def running(request: Request, function: str) -> Iterator[None]:
    """Within, whatever is raised is the fault of this function of a user's rule, and told in one line."""
    try:
        yield
    except (LabError, RuleError):
        raise
    except Exception as error:
        raise LabError(
            f"--rule {request.sources['rule'][0]}: {function}() does not run: {told(error)}; mend the file"
        ) from None


def must(request: Request, function: str, sound: bool, what: str) -> None:
    """Refuse what a function of a user's rule returned unless it is sound.

    Raises:
        LabError: naming the function; `what` says what it must return.
    """
    if not sound:
        raise LabError(f"--rule {request.sources['rule'][0]}: {function}() must return {what}; mend the file")


def check_trains(request: Request) -> None:
    """Refuse a user's rule that names no block to train, or one that the network does not have.

    Raises:
        LabError: with the blocks there are.
    """
    names = [block.name for block in request.net.blocks]
    with running(request, "trains"):
        found = request.rule.trains(request.net)
        # A name twice would pass for two blocks.
        sound = isinstance(found, Collection) and len(set(found) & set(names)) == len(found) > 0
    must(request, "trains", sound, f"some of the blocks {', '.join(names)}, each once, not {found!r}")


def check_examined(request: Request, trainer: Trainer, learner: Learner, examples: Examples) -> None:
    """Refuse a user's rule that would fail at the first evaluation, when its run is on disk already.

    Raises:
        LabError: naming the function at fault.
    """
    rule, net, data = request.rule, request.net, request.split

    def of(n: int) -> Examples:
        """Shapes of n examples: nothing is computed, so these are as many as will be examined."""
        return Examples(*(jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype) for a in examples))

    fit, held_out = of(min(READOUT_FIT, len(data.train_y))), of(len(data.validation_y))
    n = min(DIAGNOSTIC_BATCH, len(data.train_y))
    batch = Batch(jax.ShapeDtypeStruct((n, *fit.x.shape[1:]), jnp.float32), of(n).y)
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), learner)
    with running(request, "forward"):
        seen = jax.eval_shape(lambda p, s, x: rule.forward(net, p, s, x), one.params, one.rule_state, batch.x)
        sound = isinstance(seen, Activations) and seen.scores.shape == (n, net.classes)
        sound = sound and [h.shape[:1] for h in seen.hidden] == [(n,)] * len(net.hidden)
    what = (
        f"Activations of {n} inputs: an array for each of {', '.join(net.hidden)}, and scores of {net.classes} classes"
    )
    must(request, "forward", sound, what)
    with running(request, "objective"):
        jax.eval_shape(jax.grad(lambda p, s, b: rule.objective(net, p, s, b)), one.params, one.rule_state, batch)
    if rule.errors is not None:
        with running(request, "errors"):
            key = jax.random.key(0)
            found = jax.eval_shape(lambda p, s, b: rule.errors(key, net, p, s, b), one.params, one.rule_state, batch)
            names = {block.name for block in net.blocks}
            sound = isinstance(found, dict) and found.keys() <= names
            sound = sound and all(delta.shape[:1] == (n,) for delta in found.values())
        must(request, "errors", sound, "a dict from names of blocks to arrays with a row per input")
    # The whole of it, as it will run, for what shows only in a cohort or only where the parts meet.
    examiner = Examiner(trainer, examples)
    jax.eval_shape(examiner._scores, learner, fit, held_out)
    jax.eval_shape(examiner._norms, learner, held_out)
    _, _, metrics = jax.eval_shape(examiner._directions, learner, trainer.seeds(request.spec.seeds[:1]), 0, fit)
    counted = metrics.get("evaluations")
    must(request, "grads", counted is None or counted.ndim == 1, '"evaluations" among its metrics as one number')
