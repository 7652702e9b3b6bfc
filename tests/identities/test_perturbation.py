"""Node and weight perturbation and forward gradients: what each makes of its draws, and what the draws average to.

The draws themselves are taken from `draw`; everything that follows from them is worked out again, in NumPy.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import SLOPE, assert_close, directions, forward, numpy_tree, same_bits, small_mlp, softmax
from jax.flatten_util import ravel_pytree

from algorithms import RULES, Batch, RuleError
from algorithms.evolution import trials
from algorithms.forward_gradient import HEAD_RATE
from algorithms.perturbation import draw, local_directions
from algorithms.rule import zero_taps
from lab.networks import conv, mlp, resnet, vit

bp, np_, wp, fg = (RULES[name] for name in ("bp", "np", "wp", "fg"))
local_fg = partial(fg, local=True)
F, SLOPE_OF = SLOPE["tanh"]
KEY = jax.random.key(3)


def one_hot(y, classes):
    return np.eye(classes)[np.asarray(y)]


LOSS = {
    "ce": lambda z, y: -np.log(softmax(z)[np.arange(len(z)), np.asarray(y)]),
    "mse": lambda z, y: 0.5 * ((z - one_hot(y, z.shape[1])) ** 2).sum(1),
    "bce": lambda z, y: (np.log1p(np.exp(z)) - one_hot(y, z.shape[1]) * z).sum(1),
}


@pytest.fixture
def small(x64):
    return small_mlp(5, 4, inputs=4, classes=3, n=6)


def taps_of(key, net, params, batch, samples):
    """The noise of each draw: a list of {block: array}."""
    zeros = zero_taps(net, params, batch.x)
    return [numpy_tree(draw(k, zeros)) for k in jax.random.split(key, samples)]


def outer(params, batch, delta):
    """`dW_l = h_{l-1}ᵀ delta_l`, from the noiseless pass."""
    hs, _ = forward(numpy_tree(params), batch.x, "tanh")
    return {
        name: {"kernel": hs[i].T @ delta[name], "bias": delta[name].sum(0)} for i, name in enumerate(numpy_tree(params))
    }


def noisy_scores(params, x, noise):
    """Logits of a pass with noise at every pre-activation; each block is given what the noisy one below puts out."""
    h, blocks = np.asarray(x, np.float64).reshape(len(x), -1), numpy_tree(params)
    for i, (name, block) in enumerate(blocks.items(), 1):
        z = h @ block["kernel"] + block["bias"] + noise[name]
        h = z if i == len(blocks) else F(z)
    return h


def mean_trees(trees):
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def step(rule, net, params, state, batch, key=KEY):
    """`grads` and, where the rule has them, `errors`, compiled as one program: much faster than op by op."""

    @jax.jit
    def both(key, params, state, batch):
        sent = {} if rule.errors is None else rule.errors(key, net, params, state, batch)
        return *rule.grads(key, net, params, state, batch), sent

    return both(key, params, state, batch)


def many(rule, net, params, state, batch, n, seed=0):
    """Directions for n keys, flattened: keys × parameters."""

    @jax.jit
    def all_of(keys):
        return jax.lax.map(lambda key: ravel_pytree(rule.grads(key, net, params, state, batch)[0])[0], keys)

    return np.asarray(all_of(jax.random.split(jax.random.key(seed), n)))


def assert_mean(found, expected):
    """The draws average to `expected`, within the Monte-Carlo error measured on the draws themselves."""
    z = (found.mean(0) - expected) / (found.std(0) / len(found) ** 0.5 + 1e-12 * np.abs(expected).max())
    assert np.abs(z).max() < 4.5  # exceeded by one of 200 normal variables once in 700 times
    # The error is small beside the expected vector, so that a wrong sign or factor could not hide in it.
    assert np.linalg.norm(found.mean(0) - expected) < 0.25 * np.linalg.norm(expected)


def assert_second_moment(found, expected):
    """Mean squared length, within four standard errors measured on the draws, which are under a tenth of it."""
    squares = (found**2).sum(1)
    error = squares.std() / len(found) ** 0.5
    assert error < 0.1 * expected
    assert abs(squares.mean() - expected) < 4 * error


def drawn(net, seed=0):
    """Parameters, half as large as standard normal numbers, and a batch of three 8×8 images."""
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape)), jax.eval_shape(net.init, KEY))
    return params, Batch(jnp.asarray(rng.random((3, 8, 8, 1))), jnp.array([0, 2, 1]))


# --- local products -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arch",
    [mlp(4, 3), conv(2, dense=(4,), kernel=3), resnet(4, blocks=1, norm="group"), vit(4, depth=1, heads=2, patch=4)],
    ids=["mlp", "conv", "resnet", "vit"],
)
def test_with_the_error_of_backpropagation_the_local_products_are_its_gradient(arch, x64):
    net = arch((8, 8, 1), 3)
    params, batch = drawn(net)

    @jax.jit
    def both(params, batch):
        delta = bp().errors(KEY, net, params, {}, batch)
        return local_directions(net, params, batch.x, delta), bp().grads(KEY, net, params, {}, batch)[0]

    found, expected = both(params, batch)
    assert_close(found, expected, rtol=1e-10)  # the same derivative by two orders of summation


# --- node perturbation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_one_step_of_node_perturbation_by_hand(loss, small):
    net, params, batch = small
    samples, sigma = 3, 0.3  # far from linear: the difference itself is tested, not its limit
    silent = LOSS[loss](forward(numpy_tree(params), batch.x, "tanh")[1][-1], batch.y)
    estimates = []
    for xi in taps_of(KEY, net, params, batch, samples):
        scores = noisy_scores(params, batch.x, {name: sigma * noise for name, noise in xi.items()})
        change = (LOSS[loss](scores, batch.y) - silent) / sigma / len(batch.y)
        estimates.append({name: change[:, None] * noise for name, noise in xi.items()})
    delta = mean_trees(estimates)
    rule = np_(samples=samples, sigma=sigma, loss=loss)
    found, _, metrics, sent = step(rule, net, params, {}, batch)
    # Differences of losses lose a digit or two.
    assert_close(sent, delta, rtol=1e-10)
    assert_close(found, outer(params, batch, delta), rtol=1e-10)
    assert float(metrics["loss"]) == pytest.approx(silent.mean(), rel=1e-12)
    assert rule.info.loss == loss
    assert float(rule.objective(net, params, {}, batch)) == pytest.approx(silent.mean(), rel=1e-12)


def second_moment(params, batch, samples):
    """`E ||G||²` of node perturbation, linearised.

    For one sample, with `E ξ_a ξ_b ξ_c² = (1 + 2 [a = c]) [a = b]`, the mean of `(δ·ξ)² ||ξ_l||²` is
    `N_l ||δ||² + 2 ||δ_l||²`; a bias is a weight from a unit that is always 1. Samples are independent.
    """
    hs, _ = forward(numpy_tree(params), batch.x, "tanh")
    delta, g = directions(numpy_tree(params), batch.x, batch.y, "tanh")
    whole = sum((d**2).sum(1) for d in delta.values())
    variance = 0.0
    for h, name in zip(hs, params, strict=False):
        d = delta[name]
        own = (d**2).sum(1)
        spread = d.shape[1] * whole + own
        variance += (spread * ((h**2).sum(1) + 1)).sum() / samples
    return (flat(g) ** 2).sum() + variance


@pytest.mark.parametrize("samples", [1, 4])
def test_node_perturbation_is_unbiased_with_the_second_moment_of_theory(samples, x64):
    net, params, batch = small_mlp(3, inputs=3, classes=2, n=4)
    # The one-sided difference is off by a quadratic form in the noise: it is even, so times ξ it has no mean, and at
    # this sigma it adds 1e-8 to the second moment.
    found = many(np_(samples=samples, sigma=1e-4), net, params, {}, batch, 6000 // samples)
    assert_mean(found, flat(directions(numpy_tree(params), batch.x, batch.y, "tanh")[1]))
    assert_second_moment(found, second_moment(params, batch, samples))


def test_noise_is_drawn_for_every_sample_unit_block_draw_and_step(x64):
    net, params, batch = small_mlp(4, 4, inputs=5, classes=4, n=6)
    one = np_(samples=1).errors(jax.random.key(0), net, params, {}, batch)
    for delta in one.values():  # the same noise for two samples, or for two units, would leave rank 3 or less
        assert np.linalg.matrix_rank(np.asarray(delta)) == 4
    # Delta over noise is the change of the sample's loss: one number per sample in all blocks, whose noise differs.
    ratios = np.asarray(one["dense1"]) / np.asarray(one["dense2"])
    assert np.ptp(ratios, axis=1).min() > 1e-3
    other = np_(samples=1).errors(jax.random.key(1), net, params, {}, batch)
    assert np.abs(np.asarray(one["dense1"] / other["dense1"])).std() > 1e-3
    two = np_(samples=2).errors(jax.random.key(0), net, params, {}, batch)
    joint = np.concatenate([np.asarray(two["dense1"]), np.asarray(two["dense2"])], axis=1)
    assert np.linalg.matrix_rank(joint) == 6


def test_node_perturbation_has_far_less_variance_than_weight_perturbation(x64):
    net, params, batch = small_mlp(10, inputs=12, classes=4, n=20)
    g = flat(directions(numpy_tree(params), batch.x, batch.y, "tanh")[1])
    nodes = many(np_(samples=1, sigma=1e-4), net, params, {}, batch, 2000)
    weights = many(wp(sigma=1e-4), net, params, {}, batch, 2000)
    assert_second_moment(nodes, second_moment(params, batch, 1))
    assert_second_moment(weights, len(g) * (g @ g))
    # Theory for this network and batch: 174 times the gradient's for weights, 5.75 times for nodes.
    assert (nodes**2).sum() < 0.05 * (weights**2).sum()


def test_in_float32_the_default_sigma_is_neither_too_small_nor_too_large():
    net, params, batch = small_mlp(10, inputs=12, classes=4, n=20)
    difference, exact = (flat(step(rule(samples=1), net, params, {}, batch)[0]) for rule in (np_, fg))
    # At sigma = .01 curvature bends the difference by some per cent, rounding by 1e-7 / sigma; at 1e-6 rounding is
    # a tenth, at 1 curvature is all.
    assert np.linalg.norm(difference - exact) < 0.1 * np.linalg.norm(exact)


# --- weight perturbation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_one_step_of_weight_perturbation_by_hand(loss, small):
    net, params, batch = small
    sigma, signs = 0.1, numpy_tree(draw(KEY, params, jax.random.rademacher))
    assert set(np.unique(flat(signs))) == {-1, 1}

    def value(step):
        moved = jax.tree.map(lambda leaf, sign: np.asarray(leaf) + step * sign, numpy_tree(params), signs)
        return LOSS[loss](forward(moved, batch.x, "tanh")[1][-1], batch.y).mean()

    plus, minus = value(sigma), value(-sigma)
    rule = wp(sigma=sigma, loss=loss)
    found, _, metrics, _ = step(rule, net, params, {}, batch)
    expected = jax.tree.map(lambda sign: (plus - minus) / (2 * sigma) * sign, signs)
    assert_close(found, expected, rtol=1e-10)
    assert float(metrics["loss"]) == pytest.approx((plus + minus) / 2, rel=1e-12)
    assert float(metrics["evaluations"]) == 2
    assert rule.info.loss == loss


def test_weight_perturbation_is_unbiased_with_the_second_moment_of_theory(x64):
    net, params, batch = small_mlp(3, inputs=3, classes=2, n=4)
    g = flat(directions(numpy_tree(params), batch.x, batch.y, "tanh")[1])
    found = many(wp(sigma=1e-4), net, params, {}, batch, 6000)
    assert_mean(found, g)
    assert_second_moment(found, len(g) * (g @ g))


@pytest.mark.parametrize(
    "arch", [mlp(4), conv(2, dense=(4,), kernel=3), vit(4, depth=1, heads=2, patch=4)], ids=["mlp", "conv", "vit"]
)
def test_a_plain_first_block_is_taken_apart_without_changing_a_loss(arch, x64):
    net = arch((8, 8, 1), 3)
    assert net.blocks[0].plain
    opaque = replace(net, blocks=(replace(net.blocks[0], plain=False), *net.blocks[1:]))
    rng = np.random.default_rng(0)
    params, eps = (jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), net.init(KEY)) for _ in range(2))
    batch = Batch(jnp.asarray(rng.random((3, 8, 8, 1))), jnp.array([0, 2, 1]))
    at_once, apart = (np.asarray(trials(n, params, batch, 0.1, "ce")(eps)) for n in (opaque, net))
    np.testing.assert_allclose(apart, at_once, rtol=1e-12)
    assert abs(at_once[0] - at_once[1]) > 1e-3


# --- forward gradient -----------------------------------------------------------------------------------------------


def heads_by_hand(params, state, batch):
    """For each hidden block: the error at its z from the loss of its own head, and the gradient of the head."""
    hs, zs = forward(numpy_tree(params), batch.x, "tanh")
    delta, head_gradients = {}, {}
    for (name, head), h, z in zip(numpy_tree(state["heads"]).items(), hs[1:], zs, strict=False):
        scores = h @ head["kernel"].T + head["bias"]
        e = (softmax(scores) - one_hot(batch.y, scores.shape[1])) / len(h)
        delta[name] = (e @ head["kernel"]) * SLOPE_OF(z)
        head_gradients[name] = {"kernel": e.T @ h, "bias": e.sum(0)}
    return delta, head_gradients


def test_forward_gradient_by_weights_by_hand(small):
    net, params, batch = small
    theta, unravel = ravel_pytree(params)

    def value(vector):
        return LOSS["mse"](forward(numpy_tree(unravel(jnp.asarray(vector))), batch.x, "tanh")[1][-1], batch.y).mean()

    draws = [flat(draw(k, params)) for k in jax.random.split(KEY, 3)]
    slopes = [(value(theta + 1e-5 * v) - value(theta - 1e-5 * v)) / 2e-5 for v in draws]
    rule = fg(by="weights", samples=3, loss="mse")
    found, state, metrics, _ = step(rule, net, params, {}, batch)
    # The central difference is good to 1e-10 for its curvature and 1e-11 for rounding, times the size of derivatives.
    assert_close(ravel_pytree(found)[0], sum(s * v for s, v in zip(slopes, draws, strict=True)) / 3, rtol=1e-7)
    assert state == {}
    assert float(metrics["loss"]) == pytest.approx(value(theta), rel=1e-12)
    assert float(rule.objective(net, params, {}, batch)) == pytest.approx(value(theta), rel=1e-12)
    assert rule.info.loss == "mse"


def test_forward_gradient_by_weights_is_unbiased_and_d_plus_two_times_too_long(x64):
    net, params, batch = small_mlp(3, inputs=3, classes=2, n=4)
    g = flat(directions(numpy_tree(params), batch.x, batch.y, "tanh")[1])
    found = many(fg(by="weights", samples=1), net, params, {}, batch, 6000)
    assert_mean(found, g)
    assert_second_moment(found, (len(g) + 2) * (g @ g))


def test_forward_gradient_by_activities_by_hand(small):
    net, params, batch = small
    exact, _ = directions(numpy_tree(params), batch.x, batch.y, "tanh")
    estimates = []
    for xi in taps_of(KEY, net, params, batch, 3):
        slope = sum((exact[name] * noise).sum(1) for name, noise in xi.items())
        estimates.append({name: slope[:, None] * noise for name, noise in xi.items()})
    delta = mean_trees(estimates)
    found, _, _, sent = step(fg(by="activities", samples=3), net, params, {}, batch)
    assert_close(sent, delta)
    assert_close(found, outer(params, batch, delta))


def test_node_perturbation_tends_to_the_forward_gradient_as_sigma_vanishes(small):
    net, params, batch = small
    exact = flat(fg(by="activities", samples=2).grads(KEY, net, params, {}, batch)[0])
    off = [
        np.linalg.norm(flat(np_(samples=2, sigma=s).grads(KEY, net, params, {}, batch)[0]) - exact)
        for s in (1e-4, 2e-4)
    ]
    assert off[0] < 1e-2 * np.linalg.norm(exact)
    # One-sided: the error is of first order in sigma, with corrections of relative order sigma.
    assert off[1] / off[0] == pytest.approx(2, rel=0.01)


def assert_heads_step(before, after, head_gradients):
    """The first step of Adam: every entry moves by the rate, against its gradient."""
    step = jax.tree.map(lambda g: -HEAD_RATE * g / (np.abs(g) + 1e-8), head_gradients)
    assert_close(jax.tree.map(lambda a, b: a - b, after["heads"], before["heads"]), step, rtol=1e-7)


def local_state(rule, net, params, batch):
    """A rule's state in double precision, with biases that are not zero."""
    state = rule.init(jax.random.key(7), net, params, batch)
    heads = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) + 0.1, state["heads"])
    return state | {"heads": heads}


def test_local_forward_gradient_by_activities_by_hand(small):
    net, params, batch = small
    rule = local_fg(samples=3)
    state = local_state(rule, net, params, batch)
    exact, head_gradients = heads_by_hand(params, state, batch)
    e = directions(numpy_tree(params), batch.x, batch.y, "tanh")[0]["output"]
    estimates = []
    for xi in taps_of(KEY, net, params, batch, 3):
        estimates.append({name: (exact[name] * xi[name]).sum(1)[:, None] * xi[name] for name in exact})
    delta = mean_trees(estimates) | {"output": e}  # the readout's error is exact
    found, after, metrics, sent = step(rule, net, params, state, batch)
    assert_close(sent, delta)
    assert_close(found, outer(params, batch, delta))
    assert_heads_step(state, after, head_gradients)
    assert float(metrics["loss"]) == pytest.approx(
        LOSS["ce"](forward(numpy_tree(params), batch.x, "tanh")[1][-1], batch.y).mean(), rel=1e-12
    )
    assert int(after["optimizer"][0].count) == 1  # Adam's memory is kept


def test_local_forward_gradient_by_weights_by_hand(small):
    net, params, batch = small
    rule = local_fg(by="weights", samples=2)
    state = local_state(rule, net, params, batch)
    delta, head_gradients = heads_by_hand(params, state, batch)
    e = directions(numpy_tree(params), batch.x, batch.y, "tanh")[0]["output"]
    g = outer(params, batch, delta | {"output": e})
    expected = []
    for k in jax.random.split(KEY, 2):
        v = numpy_tree(draw(k, params))
        slope = {name: flat(g[name]) @ flat(v[name]) for name in delta}
        expected.append({name: jax.tree.map(lambda leaf, s=slope[name]: s * leaf, v[name]) for name in delta})
    found, after, *_ = step(rule, net, params, state, batch)
    assert_close(found, mean_trees(expected) | {"output": g["output"]})
    assert_heads_step(state, after, head_gradients)
    assert rule.errors is None


def test_local_forward_gradient_is_unbiased_for_the_gradient_of_the_local_losses(x64):
    net, params, batch = small_mlp(3, inputs=3, classes=2, n=4)
    rule = local_fg(samples=1)
    state = local_state(rule, net, params, batch)
    delta, _ = heads_by_hand(params, state, batch)
    local = flat(outer(params, batch, delta | {"output": np.zeros((4, 2))})["dense1"])
    found = many(rule, net, params, state, batch, 6000)
    hidden = len(local)
    assert_mean(found[:, :hidden], local)
    assert found[:, hidden:].std(0).max() < 1e-12  # the readout's direction is exact: no draw moves it
    # Only the block's own units are in the bracket: the second moment has N_l, not the number of all units.
    h, d = forward(numpy_tree(params), batch.x, "tanh")[0][0], delta["dense1"]
    spread = ((3 + 1) * (d**2).sum(1) * ((h**2).sum(1) + 1)).sum()
    assert_second_moment(found[:, :hidden], local @ local + spread)


# --- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [np_(samples=2), wp(), fg(samples=2), fg(by="weights", samples=2), local_fg(samples=2)],
    ids=["np", "wp", "fg", "fg by weights", "fg local"],
)
def test_the_key_decides_the_draw(rule, x64):
    net, params, batch = small_mlp(3, inputs=3, classes=2, n=4)
    state = rule.init(KEY, net, params, batch)
    grads = jax.jit(lambda key: rule.grads(key, net, params, state, batch))
    one, again, other = (grads(jax.random.key(k)) for k in (0, 0, 1))
    assert same_bits(one[0], again[0])
    assert np.corrcoef(flat(one[0]["dense1"]), flat(other[0]["dense1"]))[0, 1] < 0.99
    assert jax.tree.structure(one[1]) == jax.tree.structure(state)
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(one[0]))


def test_leaves_of_one_draw_are_independent():
    noise = draw(KEY, {"a": jnp.zeros((100, 50)), "b": jnp.zeros((100, 50))})
    assert abs(np.corrcoef(noise["a"].ravel(), noise["b"].ravel())[0, 1]) < 5 / 5000**0.5


def test_networks_where_samples_see_one_another_are_refused_by_rules_that_credit_each_alone():
    net = resnet(4, 8, blocks=1, norm="batch")((8, 8, 1), 3)
    params, batch = {}, Batch(jnp.zeros((2, 8, 8, 1)), jnp.array([0, 1]))
    for rule in (np_(), fg(), local_fg()):
        with pytest.raises(RuleError, match=r"batch normalisation.*norm=group"):
            rule.init(KEY, net, params, batch)
    assert fg(by="weights").init(KEY, net, params, batch) == {}
    assert wp().init(KEY, net, params, batch) == {}


def test_local_losses_need_a_hidden_block():
    net, params, batch = small_mlp(inputs=4, classes=3)
    with pytest.raises(RuleError, match=r"fg\(local=True\) needs at least one hidden layer"):
        local_fg().init(KEY, net, params, batch)
    assert fg().init(KEY, net, params, batch) == {}


def test_heads_of_local_losses_begin_at_variance_one_over_units():
    net, params, batch = small_mlp(300, 200, classes=20)
    heads = local_fg().init(KEY, net, params, batch)["heads"]
    for name, units in (("dense1", 300), ("dense2", 200)):
        W = np.asarray(heads[name]["kernel"], np.float64)
        # Six and four thousand entries: standard errors of .9 % and 1.1 %; five of them.
        assert W.shape == (20, units)
        assert W.std() == pytest.approx(units**-0.5, rel=5 / (2 * W.size) ** 0.5)
        assert not heads[name]["bias"].any()
    first, second = (heads[name]["kernel"].T.ravel()[:4000] for name in ("dense1", "dense2"))
    pair = np.corrcoef(first, second)[0, 1]
    assert abs(pair) < 5 / 4000**0.5


def test_only_a_rule_with_heads_says_that_it_learns_beside_the_network():
    assert local_fg().info.plastic
    assert not fg().info.plastic


@pytest.mark.parametrize(
    ("factory", "wrong"),
    [
        (np_, {"samples": 0}),
        (np_, {"samples": 1.5}),
        (np_, {"sigma": 0.0}),
        (np_, {"sigma": -1.0}),
        (np_, {"loss": "l1"}),
        (wp, {"sigma": 0.0}),
        (wp, {"sigma": float("nan")}),
        (wp, {"loss": "l1"}),
        (fg, {"by": "nodes"}),
        (fg, {"local": 1}),
        (fg, {"samples": 0}),
        (fg, {"loss": "l1"}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_settings_out_of_range_are_refused_by_name(factory, wrong):
    with pytest.raises(RuleError, match=next(iter(wrong))):
        factory(**wrong)
