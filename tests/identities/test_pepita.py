"""PEPITA by hand: its two passes, its three outer products, and feedback alignment as their limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import SLOPE, assert_close, directions, forward, numpy_tree, same_bits, small_mlp, softmax

from algorithms import RULES, Batch, RuleError
from lab.networks import conv, mlp, resnet

pepita = RULES["pepita"]
KEY = jax.random.key(0)
OUTER = ("modulated", "clean", "hebbian")


def with_F(size=1.0, inputs=5, classes=3):
    return {"F": jnp.asarray(size * np.random.default_rng(7).normal(size=(inputs, classes)))}


def error(z, y):
    return softmax(z) - np.eye(z.shape[1])[np.asarray(y)]


def by_hand(params, F, x, y, act, outer):
    """Error signals and directions, averaged over the batch; hs[0] is the input, the last of zs the logits."""
    n, names = len(x), list(params)
    hs, zs = forward(params, x, act)
    e = error(zs[-1], y)
    hs_mod, zs_mod = forward(params, hs[0] + e @ F.T, act)
    e_mod = error(zs_mod[-1], y)
    delta, local = {}, {}
    for i, name in enumerate(names):
        top = i == len(names) - 1
        delta[name] = ((e if outer == "clean" else e_mod) if top else hs[i + 1] - hs_mod[i + 1]) / n
        if outer == "modulated" or (outer == "hebbian" and top):
            kernel = hs_mod[i].T @ delta[name]
        elif outer == "clean":
            kernel = hs[i].T @ delta[name]
        else:
            kernel = (hs[i].T @ hs[i + 1] - hs_mod[i].T @ hs_mod[i + 1]) / n
        local[name] = {"kernel": kernel, "bias": delta[name].sum(0)}
    return delta, local


@pytest.mark.parametrize("outer", OUTER)
@pytest.mark.parametrize("act", ["tanh", "relu"])
def test_both_passes_and_every_outer_product_by_hand(outer, act, x64):
    net, params, batch = small_mlp(4, 3, act=act)
    state = with_F()  # far from small, so that the passes differ in every respect
    delta, local = by_hand(numpy_tree(params), np.asarray(state["F"]), batch.x, batch.y, act, outer)
    found, kept, metrics = pepita(outer=outer).grads(KEY, net, params, state, batch)
    assert_close(found, local)
    assert_close(pepita(outer=outer).errors(KEY, net, params, state, batch), delta)
    assert same_bits(kept, state)
    loss = RULES["bp"]().grads(KEY, net, params, {}, batch)[2]["loss"]  # of the first pass, the network as it is
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-14)


def test_the_first_blocks_difference_is_minus_its_slope_times_the_projected_error(x64):
    # h'_1 = f(z_1 + W_1 F e), so h_1 - h'_1 = -f'(z_1) * (W_1 F e) + O(F²). At F of size 1e-8 the square and the
    # rounding of h, 1e-16 beside 1e-8, are both 1e-8 of it.
    net, params, batch = small_mlp(4, 3)
    W, eps, F = numpy_tree(params), 1e-8, np.asarray(with_F()["F"])
    _, zs = forward(W, batch.x, "tanh")
    projected = error(zs[-1], batch.y) @ F.T @ W["dense1"]["kernel"]
    found = pepita().errors(KEY, net, params, with_F(eps), batch)["dense1"] * len(batch.y) / eps
    assert_close(found, -SLOPE["tanh"][1](zs[0]) * projected, rtol=1e-6)


def test_dropout_silences_the_same_units_in_both_passes(x64):
    """For a small F the hidden signal is that of feedback alignment in the thinned network, mask and all:
    h - h' = -m f'(z) (W_1 F e), with m and e of one mask."""
    net, params, batch = small_mlp(40)
    W, eps, F = numpy_tree(params), 1e-8, np.asarray(with_F()["F"])
    dropped = pepita(dropout=0.25)
    found = dropped.errors(KEY, net, params, with_F(eps), batch)
    _, zs = forward(W, batch.x, "tanh")
    z1, difference = zs[0], np.asarray(found["dense1"]) * len(batch.y) / eps
    mask = np.where(difference == 0, 0, 1 / 0.75)
    assert 0.1 < (mask == 0).mean() < 0.4  # about a quarter; 200 draws or more: within three deviations
    e = error(mask * np.tanh(z1) @ W["output"]["kernel"] + W["output"]["bias"], batch.y)
    assert_close(difference, -mask * SLOPE["tanh"][1](z1) * (e @ F.T @ W["dense1"]["kernel"]), rtol=1e-6)
    # Another step, another mask; and directions are of the same mask as the signals.
    other = dropped.errors(jax.random.key(1), net, params, with_F(eps), batch)["dense1"]
    assert not np.array_equal(other == 0, difference == 0)
    moved = dropped.grads(KEY, net, params, with_F(eps), batch)[0]["dense1"]["bias"]
    assert_close(moved, np.asarray(found["dense1"]).sum(0))


@pytest.mark.parametrize("outer", ["modulated", "clean"])
def test_in_the_limit_it_is_feedback_alignment_through_minus_the_projection_seen_from_the_first_block(outer, x64):
    net, params, batch = small_mlp(4)
    W, eps, F = numpy_tree(params), 1e-8, np.asarray(with_F()["F"])
    B = -W["dense1"]["kernel"].T @ F  # -W_1 F, in the layout of the output's kernel: (units, classes)
    expected, _, _ = RULES["fa"]().grads(KEY, net, params, {"output": {"kernel": jnp.asarray(B)}}, batch)
    by_numpy = directions(W, batch.x, batch.y, "tanh", back={"output": {"kernel": B}})[1]
    found, _, _ = pepita(outer=outer).grads(KEY, net, params, with_F(eps), batch)
    for reference in (expected, by_numpy):
        assert_close(found["output"], reference["output"], rtol=1e-6)
        assert_close(jax.tree.map(lambda leaf: leaf / eps, found["dense1"]), reference["dense1"], rtol=1e-6)


def test_the_hebbian_product_has_one_term_more_even_in_the_limit(x64):
    net, params, batch = small_mlp(4, 3)
    eps, n = 1e-8, len(batch.y)
    hs, zs = forward(numpy_tree(params), batch.x, "tanh")
    shift = error(zs[-1], batch.y) @ np.asarray(with_F()["F"]).T  # (x' - x) / eps
    modulated, hebbian = (
        pepita(outer=outer).grads(KEY, net, params, with_F(eps), batch)[0]["dense1"] for outer in OUTER[::2]
    )
    more = (hebbian["kernel"] - modulated["kernel"]) / eps
    assert_close(more, -shift.T @ hs[1] / n, rtol=1e-6)
    assert_close(hebbian["bias"] / eps, modulated["bias"] / eps, rtol=1e-6)


def test_without_an_error_nothing_in_the_hidden_blocks_learns(x64):
    net, params, batch = small_mlp(4, 3)
    params["output"] = {"kernel": jnp.zeros((3, 3)), "bias": jnp.array([1e3, 0.0, 0.0])}  # sure of class 0
    sure = batch._replace(y=jnp.zeros_like(batch.y))
    for outer in OUTER:
        found = pepita(outer=outer).grads(KEY, net, params, with_F(), sure)[0]
        assert all(bool((leaf == 0).all()) for leaf in jax.tree.leaves(found))


def test_a_convolution_correlates_differences_with_what_it_was_given(x64):
    net = conv(2, dense=(4,), kernel=3, pool=1, act="tanh")((5, 5, 1), 3)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), net.init(KEY))
    batch = Batch(jnp.asarray(rng.random((4, 5, 5, 1))), jnp.array([0, 1, 2, 1]))
    state = with_F(inputs=25)
    e = error(np.asarray(RULES["bp"]().forward(net, params, {}, batch.x).scores), batch.y)
    x_mod = np.asarray(batch.x) + (e @ np.asarray(state["F"]).T).reshape(4, 5, 5, 1)
    W = numpy_tree(params)["conv1"]

    def activity(x):
        h = np.zeros((4, 3, 3, 2)) + W["bias"]
        for i in range(3):
            for j in range(3):
                h += x[:, i : i + 3, j : j + 3] @ W["kernel"][i, j]
        return np.tanh(h)

    difference = activity(np.asarray(batch.x)) - activity(x_mod)
    expected = np.zeros((3, 3, 1, 2))
    for i in range(3):
        for j in range(3):
            expected[i, j] = np.einsum("npqc,npqo->co", x_mod[:, i : i + 3, j : j + 3], difference) / 4
    found = pepita().grads(KEY, net, params, state, batch)[0]["conv1"]
    assert_close(found, {"kernel": expected, "bias": difference.sum((0, 1, 2)) / 4})


def test_F_is_uniform_within_its_share_of_hes_limit():
    net = mlp(3)((20, 20, 1), 10)
    params, example = net.init(KEY), Batch(jnp.zeros((1, 20, 20, 1)), jnp.zeros(1, jnp.int32))
    F = np.asarray(pepita(scale=0.05).init(KEY, net, params, example)["F"])
    limit = 0.05 * np.sqrt(6 / 400)
    assert F.shape == (400, 10)
    assert np.abs(F).max() <= limit
    # Of 4000 draws: mean 0 ± limit / sqrt(3 · 4000), and deciles of 400 ± 19.
    assert abs(F.mean()) < 4 * limit / np.sqrt(12_000)
    assert np.abs(np.histogram(F, 10, (-limit, limit))[0] - 400).max() < 4 * 19
    np.testing.assert_allclose(pepita(scale=0.1).init(KEY, net, params, example)["F"], 2 * F, rtol=1e-6)
    assert not same_bits(pepita(scale=0.05).init(jax.random.key(1), net, params, example)["F"], F)


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (conv(2, dense=(5,), kernel=3)((9, 9, 1), 3), r"conv1.*pooling.*conv\(6,16,pool=1\)"),
        (resnet(4, blocks=1)((8, 8, 1), 3), "mlp"),
        (mlp()((1, 9, 1), 3), "mlp"),
    ],
    ids=["pooling", "composite", "no hidden layer"],
)
def test_networks_it_is_not_defined_for_are_refused_with_what_would_work(net, says):
    batch = Batch(jnp.zeros((2, *net.input_shape)), jnp.zeros(2, jnp.int32))
    with pytest.raises(RuleError, match=says):
        pepita().init(KEY, net, net.init(KEY), batch)


@pytest.mark.parametrize(
    "settings",
    [*({"scale": value} for value in (0, -1.0, float("nan"), "small", True)), {"outer": "inner"}, {"dropout": 1.0}],
    ids=str,
)
def test_settings_that_are_wrong_are_refused(settings):
    with pytest.raises(RuleError, match=rf"pepita: {next(iter(settings))}"):
        pepita(**settings)
