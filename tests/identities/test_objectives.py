"""What each rule's direction is compared with: `Rule.objective`, of whose exact gradient every angle is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import assert_close, directions, forward, mean_loss, numpy_tree, small_mlp

from algorithms import RULES
from algorithms.controls import random_labels

KEY = jax.random.key(0)
LOSSES = ("ce", "mse", "bce")

EXACT_READOUT = [
    *("bp", "frozen", "fa", "usf", "brsf", "frsf", "kp", "wm", "pfa", "dkp", "dfa", "sdfa", "drtp"),
    *("dtp", "fwdtp", "ldrl", "zil", "fpc", "local", "greedy", "hsic", "blockwise"),
]
"""Their readout descends the loss, exactly, at the forward pass."""
ESTIMATED = ["untrained", "np", "wp", "fg", "es", "pc", "ipc", "epc", "pepita"]
"""No block does."""
ANOTHER_LABEL_OR_SCORE = ["shuffled", "lazy"]
ELSEWHERE = ["ff", "ffbp", "cwc", "ep", "chl", "softhebb", "oja", "sanger"]
"""Read their networks in a way of their own; their objectives are tested where they are."""
WITHOUT_A_CHOICE = ["zil", "fpc", "local", "greedy", "hsic", "blockwise", "pc", "ipc", "epc", "pepita"]
"""Take no loss."""

DEFAULT = dict.fromkeys(["sdfa", "drtp"], "bce") | dict.fromkeys(["pc", "ipc", "epc", "zil", "fpc"], "mse")
"""The losses of the papers, where that is not cross-entropy."""

CASES = [
    *((name, None) for name in EXACT_READOUT + ESTIMATED),
    *((name, "mse") for name in EXACT_READOUT + ESTIMATED if name not in WITHOUT_A_CHOICE),
]


def ready(name, loss=None):
    """A rule, its state, a network and a batch; and the loss that it should say it has."""
    net, params, batch = small_mlp(4, 6)
    rule = RULES[name](**({} if loss is None else {"loss": loss}))
    return rule, net, params, rule.init(KEY, net, params, batch), batch, loss or DEFAULT.get(name, "ce")


def gradient_of(rule, net, params, state, batch):
    return jax.grad(lambda p: rule.objective(net, p, state, batch))(params)


def test_every_rule_has_an_objective_that_is_tested():
    assert sorted(EXACT_READOUT + ESTIMATED + ANOTHER_LABEL_OR_SCORE + ELSEWHERE) == sorted(RULES)


@pytest.mark.parametrize(("name", "loss"), CASES)
def test_the_reference_is_the_exact_gradient_of_the_loss_that_the_rule_says_it_has(name, loss, x64):
    rule, net, params, state, batch, loss = ready(name, loss)
    assert rule.info.loss == loss

    @jax.jit
    def both(params, state):
        pseudo, _, metrics = rule.grads(KEY, net, params, state, batch)
        return rule.objective(net, params, state, batch), gradient_of(rule, net, params, state, batch), pseudo, metrics

    found, gradient, pseudo, metrics = both(params, state)
    W = numpy_tree(params)
    # Logits of order 1 to 10 and a dozen roundings.
    expected = mean_loss(loss, forward(W, batch.x, "tanh")[1][-1], batch.y)
    assert float(found) == pytest.approx(expected, rel=1e-12)
    assert_close(gradient, directions(W, batch.x, batch.y, "tanh", loss=loss)[1])
    if name in EXACT_READOUT:  # it hears its own error: no angle to the reference, and a norm ratio of 1
        assert_close(pseudo["output"], gradient["output"])
    if name not in ("es", "wp"):  # whose loss is that of their trials
        assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_shuffled_labels_are_compared_with_the_gradient_of_these_labels(loss, x64):
    rule, net, params, state, batch, _ = ready("shuffled", loss)
    W, y = numpy_tree(params), random_labels(batch.x, state["multipliers"], 3)
    assert (np.asarray(y) != np.asarray(batch.y)).any()
    expected = mean_loss(loss, forward(W, batch.x, "tanh")[1][-1], y)
    assert float(rule.objective(net, params, state, batch)) == pytest.approx(expected, rel=1e-12)
    assert_close(gradient_of(rule, net, params, state, batch), directions(W, batch.x, y, "tanh", loss=loss)[1])


@pytest.mark.parametrize("loss", LOSSES)
def test_lazy_training_is_compared_with_the_gradient_of_its_scaled_and_centred_scores(loss, x64):
    rule, net, start, state, batch, _ = ready("lazy", loss)
    later = jax.tree.map(lambda leaf: leaf + 0.01 * jnp.cos(9 * leaf), start)
    W, W_0 = numpy_tree(later), numpy_tree(start)
    (hs, zs), (_, zs_0) = forward(W, batch.x, "tanh"), forward(W_0, batch.x, "tanh")
    scores = 10 * (zs[-1] - zs_0[-1])
    # Scores are ten times a difference of some hundredth of the logits: a factor of a hundred on roundings.
    found = float(rule.objective(net, later, state, batch))
    assert found == pytest.approx(mean_loss(loss, scores, batch.y) / 100, rel=1e-11)
    # d scores / d z = 10, so the readout's error is that of the scores over ten.
    identity = {"only": {"kernel": np.eye(3), "bias": np.zeros(3)}}
    e = directions(identity, scores, batch.y, "linear", loss=loss)[0]["only"] / 10
    expected = {"kernel": hs[-2].T @ e, "bias": e.sum(0)}
    assert_close(gradient_of(rule, net, later, state, batch)["output"], expected, rtol=1e-11)


@pytest.mark.parametrize(("name", "settings"), [("es", {"pairs": 4}), ("wp", {})])
def test_the_loss_of_trials_is_that_of_the_forward_pass_to_second_order_in_their_size(name, settings, x64):
    # Trials come in opposite pairs, so the mean of their losses is L + O(sigma²).
    net, params, batch = small_mlp(4, 6)
    off = []
    for sigma in (1e-3, 2e-3):
        rule = RULES[name](sigma=sigma, loss="bce", **settings)
        found = jax.jit(lambda params, rule=rule: rule.grads(KEY, net, params, {}, batch)[2]["loss"])(params)
        off.append(float(found) - mean_loss("bce", forward(numpy_tree(params), batch.x, "tanh")[1][-1], batch.y))
    assert 0 < abs(off[0]) < 1e-3
    assert off[1] / off[0] == pytest.approx(4, rel=1e-2)  # the next term is smaller by sigma² times a curvature
