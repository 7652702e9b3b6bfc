"""What is measured at every evaluation, held against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import same_bits

import lab.examination as examination
from lab.examination import READOUT_RIDGE, accuracy, angle_and_ratio, in_chunks, ridge_readout, singular_values


def vectors(n=50, seed=0):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n)
    v = rng.normal(size=n)
    return u, v - u * (u @ v) / (u @ u)


def tree(vector):
    vector = jnp.asarray(vector, jnp.float32)
    return {"kernel": vector[:-8].reshape(6, -1), "bias": vector[-8:]}


def test_equal_directions_are_at_exactly_no_angle():
    for seed in range(5):
        u, _ = vectors(seed=seed)
        found = angle_and_ratio(tree(u), tree(u))
        assert float(found["angle"]) == 0
        assert float(found["norm_ratio"]) == 1


@pytest.mark.parametrize("degrees", [1e-3, 0.05, 1.0, 30.0, 90.0, 135.0, 179.0])
def test_angles_large_and_small(degrees):
    u, v = vectors()
    radians = np.deg2rad(degrees)
    other = 3 * (np.cos(radians) * u / np.linalg.norm(u) + np.sin(radians) * v / np.linalg.norm(v))
    found = angle_and_ratio(tree(other), tree(u))
    # Entries of unit vectors are rounded by up to 1e-8 each, seven of which make an angle of some 1e-6 degrees.
    assert float(found["angle"]) == pytest.approx(degrees, rel=1e-6, abs=1e-6 + 2e-6)
    assert float(found["norm_ratio"]) == pytest.approx(3 / np.linalg.norm(u), rel=1e-6)
    assert float(found["reference_norm"]) == pytest.approx(np.linalg.norm(u), rel=1e-6)


def test_opposite_directions_are_at_180_degrees_and_a_vanished_one_at_none():
    u, _ = vectors()
    assert float(angle_and_ratio(tree(-2 * u), tree(u))["angle"]) == pytest.approx(180, abs=1e-4)
    assert not np.isfinite(float(angle_and_ratio(tree(0 * u), tree(u))["angle"]))


def ridge_by_numpy(fit, labels, classes, held_out):
    """The minimiser of |Y - F W|² + λ |W|², as the least squares of the rows [F; sqrt(λ) I]."""
    mean, target = fit.mean(0), np.eye(classes)[labels]
    F = fit - mean
    ridge = READOUT_RIDGE * len(F) * F.var(0).mean()
    rows = np.concatenate([F, np.sqrt(ridge) * np.eye(F.shape[1])])
    aims = np.concatenate([target - target.mean(0), np.zeros((F.shape[1], classes))])
    return (held_out - mean) @ np.linalg.lstsq(rows, aims, rcond=None)[0] + target.mean(0)


@pytest.mark.parametrize(("rows", "features"), [(60, 10), (20, 45), (30, 30)], ids=["primal", "dual", "square"])
def test_ridge_readout_in_both_forms(rows, features, x64):
    rng = np.random.default_rng(0)
    fit, held_out = 3 + rng.normal(size=(rows, features)), 3 + rng.normal(size=(7, features))
    labels = rng.integers(0, 4, rows)
    found = ridge_readout(jnp.asarray(fit), jnp.asarray(labels), 4)(jnp.asarray(held_out))
    # The condition number is at most 1e3 times that of the data, of order 1e3; of 1e-16 some 1e-10 remains.
    np.testing.assert_allclose(found, ridge_by_numpy(fit, labels, 4, held_out), rtol=1e-9, atol=1e-9)


def test_wide_layers_are_fitted_on_fewer_rows(x64, monkeypatch):
    monkeypatch.setattr(examination, "READOUT_FIT_WIDE", 25)
    rng = np.random.default_rng(0)
    fit, labels, held_out = rng.normal(size=(40, 30)), rng.integers(0, 3, 40), rng.normal(size=(7, 30))
    found = ridge_readout(jnp.asarray(fit), jnp.asarray(labels), 3)(jnp.asarray(held_out))
    np.testing.assert_allclose(found, ridge_by_numpy(fit[:25], labels[:25], 3, held_out), rtol=1e-9, atol=1e-9)


def test_features_that_do_not_vary_predict_the_most_frequent_class():
    readout = ridge_readout(jnp.ones((10, 4)), jnp.array([0, 1, 1, 1, 1, 1, 2, 2, 0, 1]), 3)
    np.testing.assert_allclose(readout(jnp.ones((2, 4))), np.tile([0.2, 0.6, 0.2], (2, 1)), atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 7, 8, 100])
def test_chunks_leave_no_trace(size):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 256, (7, 2, 3, 1), dtype=np.uint8))
    found = in_chunks(lambda x: (x * 2, x.sum((1, 2, 3))), x, size)
    # Halves of 255 are rounded alike in a chunk and in the whole; a sum of six numbers up to 1 may be in another order.
    assert same_bits(found[0], (x / jnp.float32(255)) * 2)
    np.testing.assert_allclose(found[1], np.asarray(x, np.float64).sum((1, 2, 3)) / 255, rtol=1e-6)


def test_scores_that_are_not_finite_are_wrong_answers():
    y = jnp.array([0, 1, 1, 0])
    scores = jnp.array([[2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [3.0, 0.0]])
    assert float(accuracy(scores, y)) == 0.75
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert float(accuracy(scores.at[0, 0].set(bad), y)) == 0.5


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (12, 12)])
def test_singular_values_beside_numpys(shape):
    delta = np.random.default_rng(0).normal(size=shape)
    expected = np.linalg.svd(delta, compute_uv=False)
    # Through the Gram matrix, eigenvalues carry an error of 1e-15 times the largest: 1e-15 s_max² / (2 s) in s.
    np.testing.assert_allclose(singular_values(delta), expected, atol=1e-14 * expected[0] ** 2 / expected[-1])


def test_a_signal_of_low_rank_and_one_that_is_not_finite():
    rng = np.random.default_rng(0)
    low = np.outer(rng.normal(size=9), rng.normal(size=5))
    found = singular_values(low)
    assert found[0] == pytest.approx(np.linalg.norm(low), rel=1e-12)
    assert found[1:].max() < 1e-7 * found[0]  # half the digits
    low[3, 2] = np.nan
    assert (singular_values(low) == 0).all()


def test_in_single_precision_the_readout_scores_differ_in_the_last_digits_only():
    rng = np.random.default_rng(0)
    fit, labels, held_out = rng.normal(size=(300, 20)), rng.integers(0, 4, 300), rng.normal(size=(50, 20))
    found = ridge_readout(*(jax.numpy.asarray(a) for a in (fit.astype(np.float32), labels)), 4)
    # A condition number of order 10 on roundings of 6e-8, summed over 300 rows.
    np.testing.assert_allclose(
        found(jnp.asarray(held_out, jnp.float32)), ridge_by_numpy(fit, labels, 4, held_out), atol=1e-5
    )
