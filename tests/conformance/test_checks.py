"""Each check fails on the defect that it is there for; the rule without it, which is bp, passes all of them."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from algorithms import RULES
from lab.check import CHECKS
from lab.check_subject import ALLOWANCES, EPOCHS, Allowance, Subject, default_arch, network_of
from lab.checking import Broken
from lab.streams import RULE, stream


def with_zero(pseudo, block, tensor, where=True):
    """A direction that is zero for one tensor."""
    return {**pseudo, block: {**pseudo[block], tensor: jax.numpy.where(where, 0, pseudo[block][tensor])}}


def zero_kernel(rule):
    """The bias beside it learns, and decay moves the kernel."""

    def grads(*args):
        pseudo, state, metrics = rule.grads(*args)
        return with_zero(pseudo, "dense2", "kernel"), state, metrics

    return rule._replace(grads=grads)


def zero_kernel_of_seed_1(rule):
    """The other seed moves all that it says it trains."""

    def init(key, net, params, example):
        del net, params, example
        return {"off": jax.random.key_data(key)}

    def grads(key, net, params, state, batch):
        pseudo, state, metrics = rule.grads(key, net, params, state, batch)
        seed_1 = jax.random.key_data(stream(1, RULE))
        return with_zero(pseudo, "dense2", "kernel", (state["off"] == seed_1).all()), state, metrics

    return rule._replace(grads=grads, init=init)


def nudge_hidden_blocks(rule):
    """Only the readout is said to learn, and the others are moved behind the optimiser's back."""

    def follow(updates, params, state):
        del params
        return jax.tree.map(lambda u: u + 0.001, updates), state

    return rule._replace(follow=follow, trains=lambda net: ("output",))


def host_noise(rule):
    """NumPy draws while the rule is traced: a constant ever after."""

    def grads(*args):
        pseudo, state, metrics = rule.grads(*args)
        return jax.tree.map(lambda g: g + np.random.default_rng().normal(), pseudo), state, metrics

    return rule._replace(grads=grads)


def host_noise_at_the_start(rule):
    """Feedback weights that no seed brings back."""
    return rule._replace(init=lambda *args: {"B": jax.numpy.array(np.random.default_rng().normal())})


def mixed(tree):
    """What it was given; but under `vmap` a thousandth of it is the mean of all seeds."""

    @jax.custom_batching.custom_vmap
    def mix(tree):
        return tree

    @mix.def_vmap
    def mix_together(size, batched, tree):
        del size
        return jax.tree.map(lambda leaf: 0.999 * leaf + 0.001 * leaf.mean(0), tree), batched[0]

    return mix(tree)


def direction_leaks(rule):
    """Into all other seeds."""

    def grads(*args):
        pseudo, state, metrics = rule.grads(*args)
        return mixed(pseudo), state, metrics

    return rule._replace(grads=grads)


def state_leaks(rule):
    """And nothing else would show it: nothing reads that state."""

    def grads(key, net, params, state, batch):
        pseudo, _, metrics = rule.grads(key, net, params, {}, batch)
        return pseudo, {"trace": mixed(0.9 * state["trace"] + metrics["loss"])}, metrics

    return rule._replace(grads=grads, init=lambda *args: {"trace": jax.numpy.zeros(())})


def step_leaks(rule):
    """Behind the optimiser, from one and the same direction."""
    return rule._replace(follow=lambda updates, params, state: (mixed(updates), state))


def residual_without_tolerance(rule):
    """So that no run of it is ever warned of."""

    def grads(*args):
        pseudo, state, metrics = rule.grads(*args)
        return pseudo, state, {**metrics, "residual": metrics["loss"]}

    return rule._replace(grads=grads)


def tolerance_without_residual(rule):
    return rule._replace(info=replace(rule.info, tolerance=0.5))


def runs_away(rule):
    """With one seed of two."""

    def init(key, net, params, example):
        del net, params, example
        return {"away": (jax.random.key_data(key) == jax.random.key_data(stream(1, RULE))).all()}

    def grads(key, net, params, state, batch):
        pseudo, state, metrics = rule.grads(key, net, params, state, batch)
        return pseudo, state, {**metrics, "residual": jax.numpy.where(state["away"], 424.0, 0.0)}

    return tolerance_without_residual(rule)._replace(grads=grads, init=init)


def second_phase_cut_short(rule):
    """All of its way in its one sweep."""

    def grads(*args):
        pseudo, state, metrics = rule.grads(*args)
        return pseudo, state, {**metrics, "residual": 0.0, "nudged_residual": jax.numpy.ones(())}

    return tolerance_without_residual(rule)._replace(grads=grads)


DEFECTS = {
    residual_without_tolerance: ("settles", "a metric 'residual' and no tolerance on its card"),
    tolerance_without_residual: ("settles", "a tolerance and no metric 'residual'"),
    runs_away: ("settles", "phases did not come to rest: residual 4.2e.02 with seed 1, above 0.5"),
    second_phase_cut_short: ("settles", "second phases did not come to rest: nudged_residual 1 with seed 0"),
    zero_kernel: ("trains what it says", "dense2.kernel does not learn: its direction stayed zero, with seed 0"),
    zero_kernel_of_seed_1: (
        "trains what it says",
        "dense2.kernel does not learn: its direction stayed zero, with seed 1",
    ),
    nudge_hidden_blocks: ("trains what it says", "dense1.bias moved, and the rule does not say that it trains it"),
    host_noise: ("is pure", "compiled anew it gave other bits"),
    host_noise_at_the_start: ("is pure", "init gave another state"),
    direction_leaks: ("alone as together", r"a seed's direction.\w+.\w+ differs by .* times what rounding explains"),
    state_leaks: ("alone as together", "a seed's state.trace differs by"),
    step_leaks: ("alone as together", "another step from the same direction"),
}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_found_by_its_check(defect):
    check, said = DEFECTS[defect]
    bp = RULES["bp"]()
    with pytest.raises(Broken, match=said):
        CHECKS[check](Subject(defect(bp), network_of(default_arch(bp))[0]))


def test_the_frozen_network_trains_as_long_as_the_rule_beside_it(monkeypatch):
    trained = []
    monkeypatch.setattr(Subject, "accuracies", property(lambda s: trained.append(s.epochs) or np.ones((3, 2))))
    bp = RULES["bp"]()
    with pytest.raises(Broken, match="no credit is assigned"):
        CHECKS["beats frozen"](Subject(bp, network_of(default_arch(bp))[0], Allowance(patience=7)))
    assert trained == [7 * EPOCHS, 7 * EPOCHS]


def test_rules_that_are_allowed_something_are_those_of_the_lab():
    assert set(ALLOWANCES) <= set(RULES)
    assert all(allowance.why for allowance in ALLOWANCES.values())
    assert {check for allowance in ALLOWANCES.values() for check in allowance.excused} <= set(CHECKS)
