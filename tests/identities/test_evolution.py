"""Evolution strategies as an estimator of the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from by_hand import assert_close, directions, forward, numpy_tree, small_mlp, softmax
from jax.flatten_util import ravel_pytree

from algorithms import RULES, Batch, RuleError
from algorithms.evolution import TABLE, centred_ranks, noise_table

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
        es(pairs=4, sigma=1e-4, shaping="none"), net, params, batch, jax.random.split(jax.random.key(0), 4000)
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
        es(pairs=pairs, sigma=1e-4, shaping="none"), net, params, batch, jax.random.split(jax.random.key(1), 100)
    )
    cosines = found @ g / np.linalg.norm(found, axis=1) / np.linalg.norm(g)
    expected = np.sqrt(pairs / (pairs + len(g) + 1))
    # Four standard errors of the mean of 100 draws, and 1 % for the square root of a mean standing for the mean of
    # square roots (its relative error is of order 1 / D, D = 174).
    assert abs(cosines.mean() - expected) < 4 * cosines.std() / 10 + 0.01 * expected


@pytest.mark.parametrize("shaping", ["none", "rank"])
def test_one_step_by_hand(shaping, x64):
    # Every pair goes through the same batch: the losses below are of that batch, and the direction follows from them.
    net, params, batch = small_mlp(3, inputs=4, classes=2, n=5)
    pairs, sigma, key = 5, 0.1, jax.random.key(4)
    theta, unravel = ravel_pytree(params)
    table, offsets = noise_table(key, pairs, theta.size, theta.dtype)
    eps = np.stack([np.asarray(table[o : o + theta.size]) for o in offsets])

    def loss(vector):
        p = softmax(forward(numpy_tree(unravel(jnp.asarray(vector))), batch.x, "tanh")[1][-1])
        return -np.log(p[np.arange(len(p)), np.asarray(batch.y)]).mean()

    losses = np.array([[loss(theta + sigma * e), loss(theta - sigma * e)] for e in eps])
    u = losses if shaping == "none" else (scipy.stats.rankdata(losses).reshape(losses.shape) - 1) / 9 - 0.5
    expected = ((u[:, 0] - u[:, 1]) @ eps) / (2 * pairs * sigma)
    found, _, metrics = es(pairs=pairs, sigma=sigma, shaping=shaping).grads(key, net, params, {}, batch)
    # Differences of losses lose a digit or two, and the sum over pairs is in another order.
    assert_close(ravel_pytree(found)[0], jnp.asarray(expected), rtol=1e-10)
    assert float(metrics["loss"]) == pytest.approx(losses.mean(), rel=1e-12)
    assert float(metrics["evaluations"]) == 2 * pairs


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
    ],
    ids=str,
)
def test_hyper_parameters_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(RuleError, match=next(iter(wrong))):
        es(**wrong)
