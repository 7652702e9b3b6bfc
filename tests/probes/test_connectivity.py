"""Barriers on the line between two networks, and the matching of units before it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lab_models import drawn, task_of, trained

from lab.functional_model import ForwardModel
from lab.networks import conv, mlp, resnet
from probes import Undefined
from probes.connectivity import mode_connectivity, permuted, weight_matching
from probes.subject import Subject, subject


@pytest.fixture(scope="module")
def task():
    return task_of()


@pytest.fixture(scope="module")
def model():
    return ForwardModel(mlp(8, 6)((8, 8, 1), 4))


@pytest.fixture(scope="module")
def nets(task, model):
    return [trained(task, model, seed) for seed in (0, 1)]


def shuffled(chain, widths, seed=3):
    rng = np.random.default_rng(seed)
    return {name: rng.permutation(width) for name, width in zip(chain, widths, strict=False)}


@pytest.mark.parametrize(
    ("build", "widths"), [(mlp(8, 6), (8, 6)), (conv(4, 5, kernel=3, dense=(6,), pool=1), (4, 5, 6))]
)
def test_a_permuted_copy_is_the_same_function_and_is_recovered_exactly(task, build, widths):
    """Two convolutions, pooling aside, and the flattening behind them: units are channels."""
    model = ForwardModel(build((8, 8, 1), 4))
    a = drawn(task, model, 0)
    order = shuffled(model.chain, widths)
    copy = permuted(model.chain, a.params, order)
    # Sums in another order: rounding of float64 and no more.
    np.testing.assert_allclose(subject(task, model, copy).scores, a.scores, rtol=0, atol=1e-12)
    found = weight_matching(model.chain, a.params, copy)
    for name in model.chain[:-1]:
        assert np.array_equal(order[name][found[name]], np.arange(len(order[name])))
    back = permuted(model.chain, copy, found)
    assert jax.tree.all(jax.tree.map(lambda u, v: np.array_equal(u, v), back, a.params))


def test_a_permuted_copy_has_a_barrier_until_its_units_are_aligned(task, model, nets):
    a = nets[0]
    copy = subject(task, model, permuted(model.chain, a.params, shuffled(model.chain, (8, 6))))
    found = mode_connectivity(points=5).value(task, a, copy)
    assert found["value"] > 0.1
    assert found["aligned"] == pytest.approx(0.0, abs=1e-12)
    assert found["aligned_accuracy"] == 0.0


def test_alignment_raises_the_weights_inner_product_and_never_lowers_it(model, nets):
    a, b = (s.params for s in nets)

    def inner(p, q):
        return sum(np.vdot(u, v) for u, v in zip(jax.tree.leaves(p), jax.tree.leaves(q), strict=True))

    order = weight_matching(model.chain, a, b)
    assert inner(a, permuted(model.chain, b, order)) > inner(a, b)
    assert all(np.array_equal(np.sort(o), np.arange(len(o))) for o in order.values())


def test_barrier_is_that_of_the_definition_and_the_same_in_both_directions(task, model, nets):
    """The loss at t = 0, 1/4, .., 1 in NumPy float64."""
    a, b = nets
    y = task.y

    def loss_and_accuracy(t):
        p = jax.tree.map(lambda u, v: (1 - t) * np.asarray(u, float) + t * np.asarray(v, float), a.params, b.params)
        h = task.x.reshape(64, -1)
        for name in ("dense1", "dense2"):
            h = np.maximum(h @ p[name]["kernel"] + p[name]["bias"], 0)
        z = h @ p["output"]["kernel"] + p["output"]["bias"]
        return np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(64), y]), np.mean(z.argmax(1) == y)

    times = np.linspace(0, 1, 5)
    loss, accuracy = np.array([loss_and_accuracy(t) for t in times]).T
    found = mode_connectivity(points=5).value(task, a, b)
    assert found["value"] == pytest.approx(max(loss - (1 - times) * loss[0] - times * loss[-1]), rel=1e-9)
    lost = (1 - times) * accuracy[0] + times * accuracy[-1] - accuracy
    assert found["accuracy"] == pytest.approx(max(lost), abs=1e-12)
    back = mode_connectivity(points=5).value(task, b, a)
    assert back["value"] == pytest.approx(found["value"], rel=1e-9)
    assert mode_connectivity(points=5).value(task, a, a)["value"] == pytest.approx(0.0, abs=1e-12)


def test_composite_blocks_are_no_chain():
    assert "is composite" in ForwardModel(resnet(4, blocks=1, groups=2)((8, 8, 1), 4)).chain.reason


def test_networks_of_other_shape_or_without_logits_have_no_barrier(task, model, nets):
    wide = ForwardModel(mlp(9, 6)((8, 8, 1), 4))
    assert "different parameters" in mode_connectivity().value(task, nets[0], drawn(task, wide, 0)).reason
    squared = Subject(nets[0].scores, Undefined("trained by squared error"), model, nets[0].params)
    assert mode_connectivity().value(task, squared, nets[0]).reason == "trained by squared error"


def test_statistics_of_a_normalisation_are_taken_anew_on_the_way(task):
    """A network that divides by a statistic of the batch, which `settled` renews: interpolating it would be wrong.

    It is no chain of plain blocks, so it has a line but no alignment."""

    class Normalised:
        layers, chain = (), Undefined("normalised")

        def scores(self, params, x):
            return x.reshape(len(x), -1) @ params["W"] / params["scale"]

        def settled(self, params, x):
            return {**params, "scale": jnp.std(x.reshape(len(x), -1) @ params["W"])}

    model, rng = Normalised(), np.random.default_rng(0)
    W = rng.standard_normal((64, 4))
    a, b = ({"W": c * W, "scale": np.array(99.0)} for c in (1.0, 10.0))  # scale: stale, of no batch at all
    a, b = (subject(task, model, p) for p in (a, b))
    # One direction of W: renewed, all points of the line are the same function.
    found = mode_connectivity(points=3).value(task, a, b)
    assert found["value"] == pytest.approx(0.0, abs=1e-12)
    assert found["aligned"].reason == found["aligned_accuracy"].reason == "normalised"
