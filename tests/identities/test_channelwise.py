"""Channel-wise competition by hand: groups, goodness, the local cross-entropies, and what a prediction is read from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import SLOPE, assert_close, numpy_tree, same_bits, small_mlp, softmax

from algorithms import RULES, Batch, RuleError
from algorithms.channelwise import competition, group_goodness, groups_of, of_each_class
from lab.networks import conv, mlp, resnet

cwc = RULES["cwc"]
KEY = jax.random.key(0)


def rms(h):
    return np.maximum(np.sqrt((h**2).reshape(len(h), -1).mean(1)), 1e-300).reshape(-1, *[1] * (h.ndim - 1))


def cross_entropy(g, y):
    return -np.log(softmax(g)[np.arange(len(y)), y])


# Four units for three classes: groups of sizes 2, 1, 1. Two units for three classes: the first two classes share one.
FOUR = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) / [2, 1, 1]
THREE, TWO = np.eye(3), np.eye(2)
SHARED = np.array([0, 0, 1])


def by_hand(params, x, y, act, members, targets):
    """Loss, error signals, directions and each block's goodness.

    members: per hidden block, the share of each unit (row) in each group's mean (column). targets: group of each label.
    """
    n, names, y = len(x), list(params), np.asarray(y)
    u, total, delta, local, goodness = np.asarray(x, np.float64).reshape(n, -1), 0.0, {}, {}, []
    for i, name in enumerate(names):
        z = u @ params[name]["kernel"] + params[name]["bias"]
        if i == len(names) - 1:
            delta[name] = (softmax(z) - np.eye(z.shape[1])[y]) / n
        else:
            h = SLOPE[act][0](z)
            g = h**2 @ members[i]
            goodness.append(g)
            total += cross_entropy(g, targets[i][y]).mean()
            d = (softmax(g) - np.eye(g.shape[1])[targets[i][y]]) / n
            delta[name] = d @ members[i].T * 2 * h * SLOPE[act][1](z)
        local[name] = {"kernel": u.T @ delta[name], "bias": delta[name].sum(0)}
        u = h / rms(h)
    return total, delta, local, goodness, z


@pytest.mark.parametrize("act", ["tanh", "relu"])
@pytest.mark.parametrize(
    ("second", "members", "targets"),
    [(3, [FOUR, THREE], [np.arange(3)] * 2), (2, [FOUR, TWO], [np.arange(3), SHARED])],
    ids=["a group for every class", "a shared group"],
)
def test_local_gradients_by_hand(act, second, members, targets, x64):
    net, params, batch = small_mlp(4, second, act=act)
    loss, delta, local, _, logits = by_hand(numpy_tree(params), batch.x, batch.y, act, members, targets)
    found, state, metrics = cwc().grads(KEY, net, params, {}, batch)
    # The normalisation adds 1e-16 to a mean square of order 1: less than a rounding.
    assert_close(found, local)
    assert_close(cwc().errors(KEY, net, params, {}, batch), delta)
    assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-12)
    assert state == {}
    readout = cross_entropy(logits, np.asarray(batch.y)).mean()
    assert float(metrics["readout_loss"]) == pytest.approx(readout, rel=1e-12)
    assert float(cwc().objective(net, params, {}, batch)) == pytest.approx(readout, rel=1e-12)


def test_each_evaluation_reads_what_it_says(x64):
    net, params, batch = small_mlp(4, 2)
    *_, goodness, logits = by_hand(numpy_tree(params), batch.x, batch.y, "tanh", [FOUR, TWO], [np.arange(3), SHARED])
    last = goodness[1][:, SHARED]
    for evaluation, expected in (("goodness", goodness[0] + last), ("last", last), ("readout", logits)):
        found = cwc(evaluation=evaluation).forward(net, params, {}, batch.x)
        assert_close(found.scores, jnp.asarray(expected))
        assert [h.shape for h in found.hidden] == [(6, 4), (6, 2)]
        assert_close(found.hidden[0] ** 2 @ FOUR, jnp.asarray(goodness[0]))  # before it is normalised


def test_no_gradient_crosses_from_a_block_to_the_ones_below(x64):
    net, params, batch = small_mlp(4, 3)
    before = cwc().grads(KEY, net, params, {}, batch)[0]
    for changed, untouched in (("dense2", ["dense1"]), ("output", ["dense1", "dense2"])):
        other = {**params, changed: jax.tree.map(lambda leaf: 3 * leaf + 1, params[changed])}
        after = cwc().grads(KEY, net, other, {}, batch)[0]
        assert all(same_bits(after[name], before[name]) for name in untouched)
        assert not same_bits(after[changed], before[changed])


@pytest.mark.parametrize("c", [0.01, 100.0])
def test_the_next_layer_does_not_see_the_length_of_the_last(c, x64):
    net, params, batch = small_mlp(4, 3, act="relu")  # relu(c z) = c relu(z)
    louder = {**params, "dense1": jax.tree.map(lambda leaf: c * leaf, params["dense1"])}
    plain, loud = (cwc(evaluation="last").forward(net, p, {}, batch.x) for p in (params, louder))
    assert_close(loud.hidden[0], c * plain.hidden[0])
    assert_close(loud.scores, plain.scores, rtol=1e-9)  # 1e-16 is added to mean squares, some of them 1e-3 c²


def test_a_silent_layer_learns_nothing_and_breaks_nothing(x64):
    net, params, batch = small_mlp(4, 3, act="relu")
    params["dense1"]["bias"] = jnp.full(4, -100.0)
    found = cwc().grads(KEY, net, params, {}, batch)[0]
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found))
    assert all(bool((leaf == 0).all()) for leaf in jax.tree.leaves(found["dense1"]))


@pytest.mark.parametrize(("members", "groups"), [(20, 10), (16, 10), (128, 10), (10, 10), (10, 6), (3, 2), (7, 1)])
def test_groups_are_neighbours_of_sizes_that_differ_by_at_most_one(members, groups):
    found = np.asarray(groups_of(members, groups))
    sizes = np.bincount(found, minlength=groups)
    assert (np.diff(found) >= 0).all()
    assert len(sizes) == groups
    assert sizes.max() - sizes.min() <= 1
    assert sizes.min() >= 1


def test_goodness_is_the_mean_square_over_a_groups_channels_and_all_places(x64):
    h = np.random.default_rng(0).normal(size=(3, 2, 4, 6))  # images, rows, columns, channels
    found = group_goodness(jnp.asarray(h), 3)
    for group in range(3):
        of_group = h[..., 2 * group : 2 * group + 2].reshape(3, -1)
        np.testing.assert_allclose(found[:, group], (of_group**2).mean(1), rtol=1e-12)
    within, across = [1, 0, 3, 2, 5, 4], [4, 5, 0, 1, 2, 3]
    np.testing.assert_allclose(group_goodness(jnp.asarray(h[..., within]), 3), found, rtol=1e-12)
    np.testing.assert_allclose(group_goodness(jnp.asarray(h[..., across]), 3), found[:, [2, 0, 1]], rtol=1e-12)
    assert group_goodness(jnp.asarray(h), 9).shape == (3, 6)  # no more groups than channels


def test_classes_that_share_a_group_share_its_goodness_and_its_loss(x64):
    g = np.random.default_rng(0).normal(size=(6, 2))
    y = np.arange(6) % 3
    np.testing.assert_array_equal(of_each_class(jnp.asarray(g), 3), g[:, SHARED])
    found = competition(jnp.asarray(g), jnp.asarray(y), 3)
    np.testing.assert_allclose(found, cross_entropy(g, SHARED[y]), rtol=1e-12)


def test_a_convolution_descends_the_competition_of_its_pooled_channels(x64):
    net = conv(4, dense=(5,), kernel=3, pool=2, act="tanh")((8, 8, 1), 3)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), net.init(KEY))
    batch = Batch(jnp.asarray(rng.random((4, 8, 8, 1))), jnp.array([0, 1, 2, 1]))
    x, y = np.asarray(batch.x), np.asarray(batch.y)

    def loss(W):
        """Cross-entropy over the groups of the convolution alone: everything its weights are to descend."""
        z = np.zeros((4, 6, 6, 4)) + W["bias"]
        for i in range(3):
            for j in range(3):
                z += x[:, i : i + 6, j : j + 6] @ W["kernel"][i, j]
        h = np.tanh(z).reshape(4, 3, 2, 3, 2, 4).mean((2, 4))
        return cross_entropy((h**2).mean((1, 2)) @ FOUR, y).mean()

    W, eps = numpy_tree(params)["conv1"], 1e-5
    found = cwc().grads(KEY, net, params, {}, batch)[0]["conv1"]
    for seed in range(3):
        step = {name: np.random.default_rng(seed).normal(size=leaf.shape) for name, leaf in W.items()}
        up, down = ({name: W[name] + sign * eps * step[name] for name in W} for sign in (1, -1))
        slope = (loss(up) - loss(down)) / (2 * eps)
        dot = sum(float((np.asarray(found[name]) * step[name]).sum()) for name in W)
        assert dot == pytest.approx(slope, rel=1e-6, abs=1e-8)  # eps² of truncation, 1e-16 / eps of rounding


def test_a_network_without_a_hidden_layer_is_refused_with_what_would_work():
    net = mlp()((1, 9, 1), 3)
    with pytest.raises(RuleError, match=r"cwc needs at least one hidden layer.*mlp"):
        cwc().init(KEY, net, net.init(KEY), Batch(jnp.zeros((2, 1, 9, 1)), jnp.zeros(2, jnp.int32)))


def test_a_network_that_normalises_by_the_batch_is_refused_with_what_would_work():
    net = resnet(4, blocks=1, norm="batch")((8, 8, 1), 3)
    with pytest.raises(RuleError, match=r"cwc is not defined for batch normalisation.*residual1.*use norm=group"):
        cwc().init(KEY, net, {}, Batch(jnp.zeros((2, 8, 8, 1)), jnp.zeros(2, jnp.int32)))


def test_an_unknown_evaluation_is_refused():
    with pytest.raises(RuleError, match="cwc: evaluation must be one of goodness, last, readout"):
        cwc(evaluation="first")
