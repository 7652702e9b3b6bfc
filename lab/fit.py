"""Whether a request can be trained at all: asked of shapes alone, before anything is computed or written."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from algorithms import Batch, RuleError
from lab.device import memory
from lab.errors import LabError, UsageError
from lab.request import Request, told
from lab.training import Examples, Learner, Trainer, on_device


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
        seeds = trainer.seeds(spec.seeds[:1])
        learner = jax.eval_shape(trainer.start, seeds, examples)
        check_memory(learner)
        jax.eval_shape(trainer.advance, learner, seeds, seeds, 0, 0, 1, examples)
        if request.sources:
            check_direction(request, learner, examples)
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
