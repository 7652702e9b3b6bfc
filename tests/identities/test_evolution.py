"""Evolution strategies as an estimator of the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from by_hand import assert_close, directions, forward, numpy_tree, same_bits, small_mlp, softmax
from jax.flatten_util import ravel_pytree

from algorithms import RULES, Batch, RuleError
from algorithms.evolution import TABLE, centred_ranks, centring, noise_table, trials
from lab.blocks import PlainBlock
from lab.networks import conv, mlp, vit

es = RULES["es"]


def many_directions(rule, net, params, batch, keys):
    """The direction for each key, flattened: keys × parameters."""

    @jax.jit
    def one(key):
        return ravel_pytree(rule.grads(key, net, params, {}, batch)[0])[0]

    return np.asarray(jax.lax.map(one, keys))


def exact(net, params, batch, act="tanh"):
    return ravel_pytree(directions(numpy_tree(params), batch.x, batch.y, act)[1])[0]


def test_the_mean_direction_is_the_gradient(x64):
    net, params, batch = small_mlp(3, inputs=4, classes=2, n=5)
    g = np.asarray(exact(net, params, batch))
    # sigma = 1e-4 leaves a bias of 1e-8; what remains is the Monte-Carlo error, measured on the draws themselves.
    found = many_directions(
        es(pairs=4, sigma=1e-4, shaping="none", centre=False),
        net,
        params,
        batch,
        jax.random.split(jax.random.key(0), 4000),
    )
    z = (found.mean(0) - g) / (found.std(0) / len(found) ** 0.5)
    assert np.abs(z).max() < 4  # 23 normal variables: exceeded once in 700 times
    # The error is small beside the gradient, so that a wrong factor could not hide in it.
    assert np.linalg.norm(found.mean(0) - g) < 0.1 * np.linalg.norm(g)


@pytest.mark.parametrize("pairs", [4, 32, 256])
def test_the_expected_cosine_with_the_gradient(pairs, x64):
    net, params, batch = small_mlp(10, inputs=12, classes=4, n=5)
    g = np.asarray(exact(net, params, batch))
    found = many_directions(
        es(pairs=pairs, sigma=1e-4, shaping="none", centre=False),
        net,
        params,
        batch,
        jax.random.split(jax.random.key(1), 100),
    )
    cosines = found @ g / np.linalg.norm(found, axis=1) / np.linalg.norm(g)
    expected = np.sqrt(pairs / (pairs + len(g) + 1))
    # Four standard errors of the mean of 100 draws, and 1 % for the square root of a mean standing for the mean of
    # square roots (its relative error is of order 1 / D, D = 174).
    assert abs(cosines.mean() - expected) < 4 * cosines.std() / 10 + 0.01 * expected


def centred_by_hand(net, params, batch, eps):
    """Noise with `e - h̄ E` in the place of e, flattened; h̄ is what the block is given, averaged over the batch."""
    hs, _ = forward(numpy_tree(params), batch.x, "tanh")
    noise = numpy_tree(eps)
    for block, h in zip(net.blocks, hs, strict=False):
        noise[block.name]["bias"] = noise[block.name]["bias"] - h.mean(0) @ noise[block.name]["kernel"]
    return np.asarray(ravel_pytree(noise)[0])


@pytest.mark.parametrize(("shaping", "centre"), [("none", False), ("rank", False), ("rank", True)])
def test_one_step_by_hand(shaping, centre, x64):
    # Every pair goes through the same batch: the losses below are of that batch, and the direction follows from them.
    net, params, batch = small_mlp(3, inputs=4, classes=2, n=5)
    pairs, sigma, key = 5, 0.1, jax.random.key(4)
    theta, unravel = ravel_pytree(params)
    table, offsets = noise_table(key, pairs, theta.size, theta.dtype)
    eps = np.stack([np.asarray(table[o : o + theta.size]) for o in offsets])
    if centre:
        eps = np.stack([centred_by_hand(net, params, batch, unravel(jnp.asarray(e))) for e in eps])

    def loss(vector):
        p = softmax(forward(numpy_tree(unravel(jnp.asarray(vector))), batch.x, "tanh")[1][-1])
        return -np.log(p[np.arange(len(p)), np.asarray(batch.y)]).mean()

    losses = np.array([[loss(theta + sigma * e), loss(theta - sigma * e)] for e in eps])
    u = losses if shaping == "none" else (scipy.stats.rankdata(losses).reshape(losses.shape) - 1) / 9 - 0.5
    expected = ((u[:, 0] - u[:, 1]) @ eps) / (2 * pairs * sigma)
    found, _, metrics = es(pairs=pairs, sigma=sigma, shaping=shaping, centre=centre).grads(key, net, params, {}, batch)
    # Differences of losses lose a digit or two, and the sum over pairs is in another order.
    assert_close(ravel_pytree(found)[0], jnp.asarray(expected), rtol=1e-10)
    assert float(metrics["loss"]) == pytest.approx(losses.mean(), rel=1e-12)
    assert float(metrics["evaluations"]) == 2 * pairs


def test_without_ranks_it_is_the_forward_gradient_of_the_same_draws_to_second_order(x64):
    net, params, batch = small_mlp(3, inputs=4, classes=2, n=5)
    pairs, key = 6, jax.random.key(4)
    g = np.asarray(exact(net, params, batch))
    table, offsets = noise_table(key, pairs, g.size, jnp.float64)
    eps = np.stack([np.asarray(table[o : o + g.size]) for o in offsets])
    forward_gradient = (eps @ g) @ eps / pairs
    off = [
        np.linalg.norm(
            many_directions(es(pairs, sigma, "none", centre=False), net, params, batch, key[None])[0] - forward_gradient
        )
        for sigma in (1e-3, 2e-3)
    ]
    assert off[0] < 1e-4 * np.linalg.norm(forward_gradient)
    assert off[1] / off[0] == pytest.approx(4, rel=1e-3)  # the next term is smaller by sigma² again


def test_the_opposite_trial_is_what_makes_a_pair_worth_anything(x64):
    # One-sided, without a baseline, every draw is weighted by the whole loss: its part along the gradient drowns.
    net, params, batch = small_mlp(10, inputs=12, classes=4, n=5)
    g = np.asarray(exact(net, params, batch))
    pairs, sigma = 256, 1e-4
    table, offsets = noise_table(jax.random.key(1), pairs, g.size, jnp.float64)
    eps = jnp.stack([table[o : o + g.size] for o in offsets])
    unravel = ravel_pytree(params)[1]
    losses = jax.jit(jax.vmap(lambda e: trials(net, params, batch, sigma, "ce")(unravel(e))))(eps)
    one_sided, both = losses[:, 0] @ eps, (losses[:, 0] - losses[:, 1]) @ eps
    cosines = [float(G @ g / jnp.linalg.norm(G) / jnp.linalg.norm(g)) for G in (one_sided, both)]
    assert abs(cosines[0]) < 4 / len(g) ** 0.5  # four standard errors of the cosine of a random direction
    assert cosines[1] == pytest.approx((pairs / (pairs + len(g) + 1)) ** 0.5, abs=0.1)


@pytest.mark.parametrize(
    "arch", [mlp(4), conv(2, dense=(4,), kernel=3), vit(4, depth=1, heads=2, patch=4)], ids=["mlp", "conv", "vit"]
)
def test_centred_noise_moves_the_mean_of_a_pre_activation_by_the_noise_on_its_bias_alone(arch, x64):
    net = arch((8, 8, 1), 3)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params, eps = (jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes) for _ in range(2))
    x = jnp.asarray(rng.random((3, 8, 8, 1)))
    found = centring(net, params, x)(eps)
    h = x
    for block in net.blocks:
        if block.plain:
            moved, e = np.asarray(block.affine(found[block.name], h)), np.asarray(eps[block.name]["bias"])
            mean = moved.mean(tuple(range(moved.ndim - e.ndim)))  # over samples, and the places of a convolution
            np.testing.assert_allclose(mean, e, rtol=1e-10, atol=1e-12)
            np.testing.assert_array_equal(found[block.name]["kernel"], eps[block.name]["kernel"])
        else:
            assert same_bits(found[block.name], eps[block.name])
        h = block.act(block.affine(params[block.name], h))


def test_the_mean_direction_of_centred_noise_is_the_image_of_the_gradient(x64):
    net, params, batch = small_mlp(3, inputs=4, classes=2, n=5)
    g = np.asarray(exact(net, params, batch))
    unravel = ravel_pytree(params)[1]
    T = np.stack([centred_by_hand(net, params, batch, unravel(jnp.asarray(e))) for e in np.eye(len(g))], axis=1)
    expected = T @ T.T @ g
    found = many_directions(
        es(pairs=4, sigma=1e-4, shaping="none"), net, params, batch, jax.random.split(jax.random.key(0), 4000)
    )
    z = (found.mean(0) - expected) / (found.std(0) / len(found) ** 0.5)
    assert np.abs(z).max() < 4  # as above
    assert np.linalg.norm(found.mean(0) - expected) < 0.1 * np.linalg.norm(expected)
    assert np.linalg.norm(expected - g) > 0.3 * np.linalg.norm(g)  # it is not the gradient itself


def test_ranks_keep_the_direction_and_forget_the_scale(x64):
    net, params, batch = small_mlp(10, inputs=12, classes=4, n=5)
    keys = jax.random.split(jax.random.key(2), 10)
    plain, ranked = (
        many_directions(es(pairs=200, sigma=0.01, shaping=s), net, params, batch, keys) for s in ("none", "rank")
    )
    cosines = (plain * ranked).sum(1) / np.linalg.norm(plain, axis=1) / np.linalg.norm(ranked, axis=1)
    # Ranks of normal numbers correlate with them by sqrt(3 / pi) = .977; antithetic differences do no worse.
    assert cosines.min() > 0.95
    assert np.linalg.norm(plain - ranked, axis=1).min() > np.linalg.norm(plain, axis=1).min()


def test_centred_ranks_spread_over_one_and_do_not_launder_what_is_not_finite():
    losses = jnp.array([[3.0, -1.0], [20.0, 0.5]])
    np.testing.assert_allclose(centred_ranks(losses), [[1 / 6, -1 / 2], [1 / 2, -1 / 6]], atol=1e-7)
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert np.isnan(centred_ranks(losses.at[0, 1].set(bad))[0, 1])


@pytest.mark.parametrize("shaping", ["none", "rank"])
def test_a_loss_that_is_not_finite_shows_in_loss_and_direction(shaping):
    net, params, batch = small_mlp(3)
    bad = Batch(batch.x.at[0].set(jnp.nan), batch.y)
    found, _, metrics = es(pairs=3, shaping=shaping).grads(jax.random.key(0), net, params, {}, bad)
    assert not jnp.isfinite(metrics["loss"])
    assert not jnp.isfinite(ravel_pytree(found)[0]).any()


@pytest.mark.parametrize(("pairs", "size"), [(1, 50), (7, 1000), (32, 500), (3, TABLE // 4)])
def test_small_networks_get_windows_that_do_not_overlap(pairs, size):
    table, offsets = noise_table(jax.random.key(0), pairs, size, jnp.float32)
    starts = np.asarray(offsets)
    assert len(starts) == pairs
    assert starts[0] == 0
    assert starts[-1] + size <= len(table)
    assert (np.diff(starts) >= size).all()


def test_large_networks_share_a_table_but_never_a_number_at_the_same_parameter():
    pairs, size = 9, 3 * TABLE // 2
    table, offsets = noise_table(jax.random.key(0), pairs, size, jnp.float32)
    table, starts = np.asarray(table, np.float64), np.asarray(offsets)
    assert starts[-1] + size <= len(table) < pairs * size
    assert len(set(starts)) == pairs
    windows = np.stack([table[s : s + size] for s in starts])
    # Entries of the correlation matrix have a standard error of 1 / sqrt(size); 36 pairs, five errors.
    off_diagonal = np.corrcoef(windows)[~np.eye(pairs, dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / size**0.5
    # A p-value of fixed draws: 1e-3 says that nothing is grossly wrong with mean, width or tails.
    assert min(scipy.stats.kstest(w[:100_000], "norm").pvalue for w in windows) > 1e-3


@pytest.mark.parametrize("centre", [True, False])
def test_forward_passes_are_as_many_as_the_card_says(centre, monkeypatch):
    net, params, batch = small_mlp(4, 3)
    seen, affine = [], PlainBlock.affine
    monkeypatch.setattr(
        PlainBlock, "affine", lambda block, p, h: seen.append((block.name, len(h))) or affine(block, p, h)
    )
    rule = es(pairs=3, centre=centre)
    with jax.disable_jit():  # or what is mapped over pairs would run here once, for its shape
        rule.grads(jax.random.key(0), net, params, {}, batch)
    assert int(rule.info.passes.split()[0]) == seen.count(("dense2", len(batch.y)))


def test_every_step_draws_afresh():
    one, two = (noise_table(jax.random.key(k), 4, 100, jnp.float32)[0] for k in (0, 1))
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 / 400**0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"pairs": 0},
        {"pairs": 2.5},
        {"pairs": True},
        {"sigma": 0.0},
        {"sigma": True},
        {"sigma": float("inf")},
        {"shaping": "best"},
        {"centre": 1},
    ],
    ids=str,
)
def test_hyper_parameters_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(RuleError, match=next(iter(wrong))):
        es(**wrong)
