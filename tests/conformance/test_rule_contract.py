"""What the training loop relies on, for every rule on every kind of network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from made import CLASSES, COMBINATIONS, NETS, REFUSED, SHAPE, clusters, made, one_of, same_bits, started

from algorithms import RULES, RuleError
from lab.examination import accuracy, in_chunks
from lab.streams import INIT, NOISE, ORDER, RULE, stream

DRAWS_EVERY_STEP = {"es", "ff"}
EVERY = [
    # What a rule does to tanh units differs from what it does to relu units in one factor, which the identities check.
    pytest.param(name, arch, marks=pytest.mark.slow if arch == "tanh" else ())
    for name, arch in COMBINATIONS
]
every = pytest.mark.parametrize(("name", "arch"), EVERY)


def start_of(name, arch):
    learner = one_of(started(name, arch), 0)
    return learner.params, learner.rule_state


@every
def test_directions_look_like_parameters_and_the_state_keeps_its_form(name, arch):
    m, (params, state) = made(name, arch), start_of(name, arch)
    pseudo, after, metrics = m.grads(jax.random.key(0), params, state, m.batch)
    form = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
    assert form(pseudo) == form(params)
    assert form(after) == form(state)
    assert all(value.shape == () for value in metrics.values())
    assert jnp.isfinite(metrics["loss"])


@every
def test_same_inputs_give_the_same_bits_and_only_some_rules_draw_at_every_step(name, arch):
    m, (params, state) = made(name, arch), start_of(name, arch)
    first, again, other = (m.grads(jax.random.key(k), params, state, m.batch) for k in (0, 0, 1))
    assert same_bits(first, again)
    assert same_bits(first, other) == (name not in DRAWS_EVERY_STEP)


@every
def test_ten_steps_move_what_the_rule_trains_and_nothing_else_without_recompiling(name, arch):
    m, before = made(name, arch), started(name, arch)
    learner = before
    for epoch, begin, end in ((0, 0, 1), (0, 1, 10), (1, 0, 3)):
        learner = m.trainer.advance(learner, m.seeds, m.seeds, epoch, begin, end, m.examples)
    # A resumed run brings its learner from the disk.
    learner = jax.device_put(jax.device_get(learner))
    m.trainer.advance(learner, m.seeds, m.seeds, 1, 3, 4, m.examples)
    assert m.trainer.advance._cache_size() == 1
    for block in m.net.blocks:
        moved = jax.tree.map(lambda a, b: (np.asarray(a) != np.asarray(b)).any(), before.params, learner.params)
        trained = block.name in m.rule.trains(m.net)
        assert all(change == trained for change in jax.tree.leaves(moved[block.name])), block.name
    assert same_bits(learner.rule_state, before.rule_state)  # none of these rules learns its feedback
    assert (learner.first_bad == -1).all()


@every
def test_the_device_loop_over_a_cohort_is_the_loop_written_out(name, arch):
    # Rounding differs between programs, and Adam's first steps divide a gradient by its own size: an entry that is
    # zero but for rounding may go either way by the learning rate. Plain descent would hide a wrong optimiser, so the
    # entries are compared in the mean: 1e-4 of the learning rate per step.
    m, steps = made(name, arch), 3
    together = m.trainer.advance(started(name, arch), m.seeds, m.seeds, 0, 0, steps, m.examples)
    for i, seed in enumerate(m.seeds):
        params, state, opt_state, total, *_ = one_of(started(name, arch), i)
        order = jax.random.permutation(stream(seed, ORDER, 0), len(m.examples.y))
        for t in range(steps):
            rows = order[16 * t : 16 * (t + 1)]
            batch = m.batch._replace(x=m.examples.x[rows], y=m.examples.y[rows])
            pseudo, state, metrics = m.grads(stream(seed, NOISE, t), params, state, batch)
            updates, opt_state = m.trainer.partial_optimizer.update(pseudo, opt_state, params)
            params, total = optax.apply_updates(params, updates), total + metrics["loss"]
        assert float(together.loss_sum[i]) == pytest.approx(float(total), rel=1e-4)
        for a, b in zip(jax.tree.leaves(one_of(together.params, i)), jax.tree.leaves(params), strict=True):
            assert float(jnp.abs(a - b).mean()) < 0.01 * 1e-4 * steps


@pytest.mark.parametrize(
    "names", [("bp", "dfa"), pytest.param(tuple(RULES), marks=pytest.mark.slow)], ids=["two", "all"]
)
def test_every_rule_starts_from_the_same_bits(names):
    # Compiled, since the rules' own draws make each start another program.
    starts = {name: m.trainer.start(m.seeds, m.examples) for name in names for m in [made(name, "relu")]}
    for name, learner in starts.items():
        assert same_bits(learner.params, starts["bp"].params), name
    one, two = (one_of(starts["bp"].params, i) for i in (0, 1))
    assert not same_bits(one, two)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_learns_easy_clusters(name):
    # Chance is .25, and the clusters lie far apart; .9 leaves room for a slow learner, .5 for twelve random features.
    m, learner, losses = made(name, "relu"), started(name, "relu"), []
    for epoch in range(30):
        learner = m.trainer.advance(learner, m.seeds, m.seeds, epoch, 0, 10, m.examples)
        losses.append(np.asarray(learner.loss_sum))
        learner = learner._replace(loss_sum=jnp.zeros(2))
    assert (losses[-1] < 0.7 * losses[0]).all()
    x, y = clusters(200, seed=1)
    for i in range(2):
        own = one_of(learner, i)
        shown = in_chunks(lambda x, own=own: m.rule.forward(m.net, own.params, own.rule_state, x), jnp.asarray(x))
        assert float(accuracy(shown.scores, jnp.asarray(y))) > (0.5 if name == "frozen" else 0.9)


@pytest.mark.parametrize(("name", "arch"), sorted(REFUSED))
def test_networks_a_rule_is_not_defined_for_are_refused_with_what_would_work(name, arch):
    m = made(name, arch)
    with pytest.raises(RuleError, match=r"mlp\(500,500\)"):
        jax.eval_shape(m.trainer.start, m.seeds, m.examples)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_says_what_it_is(name):
    info = RULES[name]().info
    said = {k: v for k, v in dataclasses.asdict(info).items() if k != "deviations"}
    assert all(isinstance(text, str) and text.strip() for text in said.values())
    assert all(isinstance(text, str) and text.strip() for text in info.deviations)
    assert info.name == name


def test_streams_are_told_apart_by_seed_name_and_step():
    keys = [stream(seed, name, step) for seed in (0, 1) for name in (INIT, ORDER, RULE, NOISE) for step in (None, 0, 1)]
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == len(keys)


def test_the_table_of_networks_covers_both_kinds_of_blocks():
    kinds = {block.kind for arch in NETS.values() for block in arch(SHAPE, CLASSES).blocks}
    assert kinds == {"dense", "conv"}
