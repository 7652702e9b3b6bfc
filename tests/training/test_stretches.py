"""The training loop alone: how a run is cut, who trains beside whom, and which examples a step sees."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from algorithms import RULES
from algorithms.rule import Rule
from lab.networks import mlp
from lab.streams import INIT, RULE, stream
from lab.training import Trainer, cohorts, on_device
from tests.identities.by_hand import same_bits

N, BATCH, PER_EPOCH = 45, 10, 4  # five examples are left over in every epoch
NET = mlp(6, 5)((1, 8, 1), 3)


def examples():
    """Inputs whose last entry is the number of the row."""
    x = np.random.default_rng(0).normal(size=(N, 1, 8, 1)).astype(np.float32)
    x[:, 0, -1, 0] = np.arange(N)
    return on_device(x, np.arange(N) % 3)


def trainer(rule: Rule, width: int, optimizer=None) -> Trainer:
    return Trainer(rule, NET, optimizer or optax.adam(0.003), BATCH, width)


def advance(made: Trainer, seeds, orders=None, stretches=((0, 0, PER_EPOCH),), learner=None):
    """A cohort after some stretches (epoch, begin, end)."""
    keys, orders = made.seeds(seeds), made.seeds(seeds if orders is None else orders)
    learner = made.start.__wrapped__(keys, examples()) if learner is None else learner
    for epoch, begin, end in stretches:
        learner = made.advance(learner, keys, orders, epoch, begin, end, examples())
    return learner


def watched(rule: Rule, steps: int) -> Rule:
    """The same rule, which also notes the rows of every batch it is given."""

    def init(key, net, params, example):
        rows = jnp.full((steps, BATCH), -1, jnp.int32)
        return {"own": rule.init(key, net, params, example), "rows": rows, "at": jnp.zeros((), jnp.int32)}

    def grads(key, net, params, state, batch):
        pseudo, own, metrics = rule.grads(key, net, params, state["own"], batch)
        rows = state["rows"].at[state["at"]].set(batch.x[:, 0, -1, 0].astype(jnp.int32))
        return pseudo, {"own": own, "rows": rows, "at": state["at"] + 1}, metrics

    return rule._replace(init=init, grads=grads, forward=None, objective=None, errors=None)


@pytest.mark.parametrize(("name", "width"), [("fa", 1), ("fa", 3), ("es", 1), ("ff", 3)])
def test_how_a_run_is_cut_changes_no_bit(name, width):
    made, seeds = trainer(RULES[name](), width), range(width)
    whole = advance(made, seeds, stretches=[(0, 0, 4), (1, 0, 4)])
    for cuts in (
        [(0, 0, 1), (0, 1, 2), (0, 2, 3), (0, 3, 4), (1, 0, 1), (1, 1, 4)],
        [(0, 0, 3), (0, 3, 3), (0, 3, 4), (1, 0, 0), (1, 0, 2), (1, 2, 4)],
    ):
        assert same_bits(advance(made, seeds, stretches=cuts), whole)
    # A rest starts a new sum of losses and touches nothing else.
    rested = made.rest(advance(made, seeds, stretches=[(0, 0, 3)]), 3)
    assert (rested.loss_sum == 0).all()
    assert same_bits(advance(made, seeds, stretches=[(0, 3, 4), (1, 0, 4)], learner=rested)[:3], whole[:3])


@pytest.mark.parametrize("name", ["bp", "es"])
def test_a_seed_does_not_depend_on_its_companions_or_its_place(name):
    made = trainer(RULES[name](), 4)
    seats = [((7, 1, 2, 3), 0), ((4, 5, 6, 7), 3), ((9, 7, 8, 10), 1), ((7,), 0)]
    seen = [jax.tree.map(lambda leaf, i=i: leaf[i], advance(made, seeds)) for seeds, i in seats]
    assert all(same_bits(other, seen[0]) for other in seen[1:])
    elsewhere = jax.tree.map(lambda leaf: leaf[1], advance(made, seats[0][0]))
    assert not same_bits(elsewhere.params, seen[0].params)


def test_alone_and_in_a_cohort_a_seed_differs_by_rounding_only():
    # Two programs add up in different orders: 1e-7 per operation and some hundred operations a step, for four steps of
    # plain descent, which does not enlarge them as Adam does where a gradient is nearly zero.
    alone, among = (
        advance(trainer(RULES["fa"](), width, optax.sgd(0.01)), seeds)
        for width, seeds in ((1, (7,)), (4, (7, 1, 2, 3)))
    )
    for a, b in zip(jax.tree.leaves(alone.params), jax.tree.leaves(among.params), strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=0, atol=1e-5 * float(jnp.abs(a).max()))


def test_every_epoch_is_another_permutation_and_the_remainder_is_dropped():
    made = trainer(watched(RULES["bp"](), 3 * PER_EPOCH), 2)
    stretches = [(epoch, 0, PER_EPOCH) for epoch in range(3)]
    rows = np.asarray(advance(made, (0, 1), stretches=stretches).rule_state["rows"])
    epochs = rows.reshape(2 * 3, PER_EPOCH * BATCH)
    for visited in epochs:
        assert len(set(visited)) == PER_EPOCH * BATCH
        assert 0 <= visited.min() <= visited.max() < N
    assert len({visited.tobytes() for visited in epochs}) == 6
    assert len({frozenset(visited) for visited in epochs}) > 1  # the five left over are not always the same


def test_every_rule_sees_the_same_batches_and_the_order_seed_changes_nothing_else():
    def look(name, orders):
        made = trainer(watched(RULES[name](), PER_EPOCH), 2)
        learner = advance(made, (0, 1), orders)
        return made.start.__wrapped__(made.seeds((0, 1)), examples()).params, np.asarray(learner.rule_state["rows"])

    params, rows = look("bp", (0, 1))
    for name in ("fa", "es", "ff"):
        other_params, other_rows = look(name, (0, 1))
        assert same_bits(other_params, params), name
        assert (other_rows == rows).all(), name
    shared_params, shared = look("bp", (1, 1))
    assert same_bits(shared_params, params)
    assert (shared[1] == rows[1]).all()
    assert (shared[0] == rows[1]).all()
    assert (shared[0] != rows[0]).any()


def bomb(seed: int, after: int, where: str) -> Rule:
    """Backpropagation whose loss or direction is no number for one seed from one step on."""
    bp, target = RULES["bp"](), jax.random.key_data(stream(seed, RULE))

    def init(key, net, params, example):
        return {"armed": (jax.random.key_data(key) == target).all(), "step": jnp.zeros((), jnp.int32)}

    def grads(key, net, params, state, batch):
        pseudo, _, metrics = bp.grads(key, net, params, {}, batch)
        broken = jnp.where(state["armed"] & (state["step"] >= after), jnp.nan, 1.0)
        if where == "loss":
            metrics = {"loss": metrics["loss"] * broken}
        else:
            pseudo = jax.tree.map(lambda leaf: leaf * broken, pseudo)
        return pseudo, state | {"step": state["step"] + 1}, metrics

    return bp._replace(init=init, grads=grads)


@pytest.mark.parametrize(("where", "marked"), [("loss", 5), ("direction", 6)])
def test_a_seed_is_marked_from_its_first_step_that_is_not_finite_and_others_are_untouched(where, marked):
    # A direction that is not finite at step 5 shows in the loss of the next step.
    seeds, stretches = (0, 1, 2), [(0, 0, PER_EPOCH), (1, 0, PER_EPOCH)]
    sound = advance(trainer(bomb(99, 5, where), 3), seeds, stretches=stretches)
    hurt = advance(trainer(bomb(1, 5, where), 3), seeds, stretches=stretches)
    assert np.asarray(sound.first_bad).tolist() == [-1, -1, -1]
    assert np.asarray(hurt.first_bad).tolist() == [-1, marked, -1]
    for i in (0, 2):
        mine, other = (jax.tree.map(lambda leaf, i=i: leaf[i], learner.params) for learner in (hurt, sound))
        assert same_bits(mine, other)


def test_parameters_that_break_at_the_last_step_are_noticed_at_the_rest():
    made = trainer(bomb(1, 3, "direction"), 3)
    learner = advance(made, (0, 1, 2))
    assert np.asarray(learner.first_bad).tolist() == [-1, -1, -1]
    assert np.asarray(made.rest(learner, PER_EPOCH).first_bad).tolist() == [-1, 3, -1]


@pytest.mark.parametrize("optimizer", [optax.adamw(0.01, weight_decay=0.5), optax.sgd(0.1, momentum=0.9)])
def test_frozen_blocks_keep_every_bit(optimizer):
    made = trainer(RULES["frozen"](), 2, optimizer)
    before = made.start.__wrapped__(made.seeds((0, 1)), examples())
    after = advance(made, (0, 1))
    assert same_bits([after.params[name] for name in NET.hidden], [before.params[name] for name in NET.hidden])
    assert not same_bits(after.params["output"], before.params["output"])


@pytest.mark.parametrize("name", ["fa", "frsf", "dfa"])
def test_the_optimiser_moves_no_fixed_feedback_weights(name):
    made = trainer(RULES[name](), 2, optax.adamw(0.01, weight_decay=0.5))
    before = made.start.__wrapped__(made.seeds((0, 1)), examples())
    assert same_bits(advance(made, (0, 1)).rule_state, before.rule_state)


def test_weights_come_from_the_init_stream_of_the_seed_alone():
    made = trainer(RULES["bp"](), 2)
    learner = made.start.__wrapped__(made.seeds((3, 4)), examples())
    for i, seed in enumerate((3, 4)):
        assert same_bits(jax.tree.map(lambda leaf, i=i: leaf[i], learner.params), NET.init(stream(seed, INIT)))


def test_cohorts_keep_the_order_and_pad_with_the_last_seed():
    assert cohorts([5, 3, 9, 1, 2], 2) == [[5, 3], [9, 1], [2]]
    assert np.asarray(trainer(RULES["bp"](), 4).seeds([5, 3])).tolist() == [5, 3, 3, 3]
