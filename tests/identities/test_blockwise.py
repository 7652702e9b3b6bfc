"""Blockwise self-supervision by hand: the views, the two losses, and what labels and blocks never hear of."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import assert_close, forward, numpy_tree, same_bits, small_mlp, softmax

from algorithms import RULES, Batch, RuleError
from algorithms.blockwise import REDUNDANCY, TEMPERATURE, barlow, blockwise, info_nce, project, resampling, view
from lab.networks import conv

KEY = jax.random.key(0)
module = importlib.import_module("algorithms.blockwise")  # the package has a rule of this name


def two(n=7, d=4, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, d)) * 3 + 1
    return z, z + rng.normal(size=(n, d))


def numpy_barlow(z, twin):
    standard = lambda u: (u - u.mean(0)) / u.std(0)  # noqa: E731
    C, total = standard(z).T @ standard(twin) / len(z), 0.0
    for i in range(len(C)):
        for j in range(len(C)):
            total += (1 - C[i, j]) ** 2 if i == j else REDUNDANCY * C[i, j] ** 2
    return total


def numpy_contrastive(z, twin):
    both, n, total = np.concatenate([z, twin]), len(z), 0.0
    cosine = lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b))  # noqa: E731
    for i in range(2 * n):
        others = [np.exp(cosine(both[i], both[k]) / TEMPERATURE) for k in range(2 * n) if k != i]
        total -= np.log(np.exp(cosine(both[i], both[(i + n) % (2 * n)]) / TEMPERATURE) / sum(others))
    return total / (2 * n)


@pytest.mark.parametrize(("loss", "by_numpy"), [(barlow, numpy_barlow), (info_nce, numpy_contrastive)])
def test_the_losses_by_hand(loss, by_numpy, x64):
    z, twin = two()
    # 1e-12 is added to squares of order 1 and more.
    assert float(loss(jnp.asarray(z), jnp.asarray(twin))) == pytest.approx(by_numpy(z, twin), rel=1e-10)
    swapped = float(loss(jnp.asarray(twin), jnp.asarray(z)))
    assert swapped == pytest.approx(by_numpy(z, twin), rel=1e-10)


def test_barlow_vanishes_where_the_cross_correlation_is_the_identity(x64):
    # Columns of a Hadamard matrix have mean 0 and are orthogonal: each unit is correlated with itself alone.
    z = jnp.array([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]]) * jnp.array([2.0, 1.0, 9.0]) + 5.0
    assert float(barlow(z, 3 * z - 1)) < 1e-20
    slope = jax.grad(barlow)(z, z)
    assert float(jnp.abs(slope).max()) < 1e-9
    # Two units that are one: C = 1 in four places, 0 in the others.
    assert float(barlow(z[:, [0, 0]], z[:, [0, 0]])) == pytest.approx(2 * REDUNDANCY, rel=1e-9)
    # Views that contradict each other.
    assert float(barlow(z, -z)) == pytest.approx(3 * 4, rel=1e-9)


def test_the_contrastive_loss_of_perfect_and_of_collapsed_answers(x64):
    z = jnp.eye(5)  # twins at cosine 1, the other 8 views at cosine 0
    assert float(info_nce(z, z)) == pytest.approx(np.log(1 + 8 * np.exp(-1 / TEMPERATURE)), rel=1e-9)
    same = jnp.ones((5, 3))  # no view closer than another: the twin is one of nine
    assert float(info_nce(same, same)) == pytest.approx(np.log(9), rel=1e-12)


@pytest.mark.parametrize("loss", [barlow, info_nce])
def test_answers_that_are_all_alike_have_finite_derivatives(loss):
    for z in (jnp.zeros((4, 3)), jnp.ones((4, 3))):
        value, slope = jax.value_and_grad(loss)(z, z)
        assert jnp.isfinite(value)
        assert jnp.isfinite(slope).all()


def test_resampling_shifts_zooms_and_leaves_zero_outside():
    line = jnp.arange(1.0, 7.0)
    still, shifted, half, zoomed = resampling(jnp.array([1.0, 1, 1, 0.5]), jnp.array([0.0, 2, 0.5, 0]), 6) @ line
    np.testing.assert_array_equal(still, line)
    np.testing.assert_array_equal(shifted, [3, 4, 5, 6, 0, 0])
    np.testing.assert_allclose(half, [1.5, 2.5, 3.5, 4.5, 5.5, 3.0], rtol=1e-6)  # the last lies half outside
    np.testing.assert_allclose(zoomed, [2.25, 2.75, 3.25, 3.75, 4.25, 4.75], rtol=1e-6)  # about the middle, 3.5


def test_views_are_distorted_within_their_limits():
    n, size = 300, 28
    x = jnp.zeros((n, size, size, 1)).at[:, 14, 14].set(1.0)
    drawn = jax.jit(view)
    seen = np.asarray(drawn(KEY, x, 1.0))[..., 0]
    places = np.argwhere(seen > 0)
    assert np.abs(places[:, 1:] - 14).max() <= 3  # 1.96 pixels, rounded up by interpolation, and zoomed from the middle
    assert np.abs(places[:, 1:] - 14).max(0).min() >= 2  # up and down, left and right
    mass = seen.sum((1, 2))  # zooming changes it, so places are taken relative to it
    middle = [(seen.sum(axis) @ np.arange(size))[mass > 0] / mass[mass > 0] for axis in (2, 1)]
    assert abs(np.corrcoef(*middle)[0, 1]) < 5 / n**0.5  # height and width each on their own
    half = np.argwhere(np.asarray(drawn(KEY, x, 0.5))[..., 0] > 0)
    assert np.abs(half[:, 1:] - 14).max() <= 2
    assert jax.eval_shape(drawn, KEY, jnp.ones((2, 6, 9, 3)), 1.0).shape == (2, 6, 9, 3)
    assert not same_bits(seen, np.asarray(drawn(jax.random.key(1), x, 1.0))[..., 0])
    # A square of 5.6 pixels is gone from an image that is one all over, unless it lies across the border.
    ones = np.asarray(drawn(KEY, jnp.ones((n, size, size, 2)), 1.0))
    assert same_bits(ones[..., 0], ones[..., 1])
    inner = (ones[:, 8:20, 8:20, 0] == 0).sum((1, 2))
    assert set(np.unique(inner)) <= {i * j for i in range(7) for j in range(7)}
    assert 25 <= inner.max() <= 36
    # The weakest of views is the image itself.
    noise = jax.random.uniform(KEY, (3, 8, 8, 1))
    np.testing.assert_allclose(drawn(KEY, noise, 1e-9), noise, atol=1e-6)


def test_views_are_zoomed_by_up_to_a_fifth_height_and_width_each_on_their_own(monkeypatch):
    # A bright square of 12 pixels in the middle, of which nothing is erased and nothing leaves the image. Height over
    # its new height is the zoom, uniform between .8 and 1.2; interpolation blurs its edges, which is worth up to 1 %.
    monkeypatch.setattr(module, "ERASE", 0.0)
    n, x = 1000, jnp.zeros((28, 28)).at[8:20, 8:20].set(1.0)
    x = jnp.broadcast_to(x[:, :, None], (n, 28, 28, 1))
    for strength, widest in ((1.0, 0.2), (0.5, 0.1)):
        seen = np.asarray(view(KEY, x, strength))[..., 0]
        sizes = seen[:, :, 14].sum(1), seen[:, 14].sum(1)  # row and column 14 lie within the square, however it moves
        middles = [seen.sum(axis) @ np.arange(28) / seen.sum((1, 2)) for axis in (2, 1)]
        for zoom in (12 / size for size in sizes):
            assert abs(zoom - 1).max() < widest + 0.012
            # Of a uniform variable: the standard error of the mean, and of a standard deviation, 1.4 % of it; five.
            assert zoom.mean() == pytest.approx(1, abs=5 * widest / 3**0.5 / n**0.5 + 0.01)
            assert zoom.std() == pytest.approx(widest / 3**0.5, rel=0.07)
        different = np.corrcoef([*sizes, *middles])[~np.eye(4, dtype=bool)]
        assert np.abs(different).max() < 5 / n**0.5
        # Of the area, 1 / (s s') with E 1/s = ln(high / low) / (high - low) and E 1/s² = 1 / (high low).
        area, low, high = seen.sum((1, 2)) / 144, 1 - widest, 1 + widest
        mean = (np.log(high / low) / (high - low)) ** 2
        sigma = np.sqrt((high * low) ** -2 - mean**2)
        assert area.mean() == pytest.approx(mean, abs=5 * sigma / n**0.5 + 0.01)
        assert area.std() == pytest.approx(sigma, rel=0.1)  # a standard error of 2 %, five


def test_views_of_vectors_leave_entries_out():
    x = jnp.arange(1.0, 20001).reshape(20, 1, 1000, 1)
    seen = view(KEY, x, 1.5)
    gone = seen == 0
    assert same_bits(jnp.where(gone, x, seen), x)
    # 20,000 draws at .3: a standard error of .0032, five allowed.
    assert float(gone.mean()) == pytest.approx(0.3, abs=0.016)


def with_views(monkeypatch, distort):
    """Views that a test can predict: the first and the second of every pair are distorted in a fixed way."""
    calls = []

    def fixed(key, x, strength):
        calls.append(strength)
        return distort(x, len(calls) % 2)

    monkeypatch.setattr(module, "view", fixed)


@pytest.mark.parametrize("objective", ["barlow", "contrastive"])
def test_directions_are_the_derivatives_of_each_blocks_own_loss(objective, x64, monkeypatch):
    # By central differences of a NumPy loss in every weight: their error is of the order of the step squared, 1e-10.
    with_views(monkeypatch, lambda x, first: x + 0.3 * first * jnp.cos(7 * x))
    net, params, batch = small_mlp(5, 4)
    rule = blockwise(objective=objective, width=3)
    state = rule.init(KEY, net, params, batch)
    weights, heads = (jax.tree.map(np.array, tree) for tree in (params, state["heads"]))  # copies, to be varied
    x, y = np.asarray(batch.x), np.asarray(batch.y)
    by_numpy = {"barlow": numpy_barlow, "contrastive": numpy_contrastive}[objective]

    def own_loss(i, name, weights, heads):
        """Of block i, with what it is given held at what the blocks below give now."""
        z = []
        for seen in (x + 0.3 * np.cos(7 * x), x):
            given = forward(numpy_tree(params), seen, "tanh")[0][i]
            h = np.tanh(given @ weights["kernel"] + weights["bias"])
            z.append(np.maximum(h @ heads["V1"], 0) @ heads["V2"])
        return by_numpy(*z)

    def slope(loss, tree):
        found = jax.tree.map(np.zeros_like, tree)
        for leaf, out in zip(jax.tree.leaves(tree), jax.tree.leaves(found), strict=True):
            for place in np.ndindex(leaf.shape):
                middle = leaf[place]
                leaf[place] = middle + 1e-5
                above = loss()
                leaf[place] = middle - 1e-5
                out[place], leaf[place] = (above - loss()) / 2e-5, middle
        return found

    hs, zs = forward(weights, x, "tanh")
    e = (softmax(zs[-1]) - np.eye(3)[y]) / len(y)
    expected = {"output": {"kernel": hs[-2].T @ e, "bias": e.sum(0)}}
    total, slopes = 0.0, {}
    for i, name in enumerate(net.hidden):
        loss = lambda i=i, name=name: own_loss(i, name, weights[name], heads[name])  # noqa: E731
        total += loss()
        expected[name], slopes[name] = slope(loss, weights[name]), slope(loss, heads[name])
    found, after, metrics = jax.jit(lambda params: rule.grads(KEY, net, params, state, batch))(params)
    assert_close(found, {name: expected[name] for name in found}, rtol=1e-6)
    assert float(metrics["local_loss"]) == pytest.approx(total, rel=1e-9)
    p = softmax(zs[-1])
    assert float(metrics["loss"]) == pytest.approx(-np.log(p[np.arange(len(y)), y]).mean(), rel=1e-12)
    # Adam's first step is the rate times the gradient's sign, wherever there is a gradient (a unit may be silent).
    moved = jax.tree.map(lambda a, b: np.asarray(a) - b, after["heads"], numpy_tree(state["heads"]))
    for step, g in zip(jax.tree.leaves(moved), jax.tree.leaves(slopes), strict=True):
        clear = np.abs(g) > 1e-4
        np.testing.assert_allclose(step[clear], -1e-3 * np.sign(g[clear]), rtol=2e-4)
        assert clear.any()


def test_error_signals_of_both_views_make_the_direction(x64, monkeypatch):
    with_views(monkeypatch, lambda x, first: x + 0.3 * first * jnp.cos(7 * x))
    net, params, batch = small_mlp(5, 4)
    rule = blockwise()
    state = rule.init(KEY, net, params, batch)
    both = jax.jit(lambda p: (rule.grads(KEY, net, p, state, batch)[0], rule.errors(KEY, net, p, state, batch)))
    found, signals = both(params)
    views = jnp.concatenate([batch.x + 0.3 * jnp.cos(7 * batch.x), batch.x]).reshape(12, -1)
    assert signals["dense1"].shape == (12, 5)
    assert signals["output"].shape == (6, 3)
    assert_close(found["dense1"]["kernel"], views.T @ signals["dense1"], rtol=1e-11)
    assert_close(found["output"]["bias"], signals["output"].sum(0))


def test_neither_labels_nor_the_blocks_above_reach_a_hidden_block_and_the_readout_sees_images_as_they_are():
    net, params, batch = small_mlp(6, 5)
    rule = blockwise(objective="contrastive", width=4)
    state = rule.init(KEY, net, params, batch)
    step = jax.jit(lambda params, y: rule.grads(KEY, net, params, state, batch._replace(y=y))[:2])
    (before, state_before), names = step(params, batch.y), [block.name for block in net.blocks]
    bp = jax.jit(lambda params: RULES["bp"]().grads(KEY, net, params, {}, batch)[0])
    assert_close(before["output"], bp(params)["output"], rtol=1e-6)  # some ten roundings of 6e-8, in two programs
    after, state_after = step(params, (batch.y + 1) % 3)
    assert [name for name in names if not same_bits(after[name], before[name])] == ["output"]
    assert same_bits(state_after, state_before)
    for i, changed in enumerate(names):
        after, _ = step({**params, changed: jax.tree.map(lambda leaf: 3 * leaf + 1, params[changed])}, batch.y)
        assert all(same_bits(after[name], before[name]) for name in names[:i])
        assert not same_bits(after[changed], before[changed])


def test_the_two_views_differ_and_are_drawn_anew_with_every_key(monkeypatch):
    seen = []

    def watched(key, x, strength):
        seen.append(np.asarray(view(key, x, strength)))
        if len(seen) % 2 == 0:
            raise StopIteration  # both views have been made
        return x

    monkeypatch.setattr(module, "view", watched)
    net, params, batch = small_mlp(4, inputs=30)
    rule = blockwise()
    state = rule.init(KEY, net, params, batch)
    for key in (KEY, jax.random.key(1)):
        with pytest.raises(StopIteration):
            rule.grads(key, net, params, state, batch)
    assert not any(same_bits(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_projections_begin_at_the_scale_of_rectifiers():
    net, params, batch = small_mlp(50)
    head = blockwise(width=100).init(KEY, net, params, batch)["heads"]["dense1"]
    # 5,000 and 10,000 entries: standard errors of 1 % and .7 %, five allowed.
    assert float(head["V1"].std()) == pytest.approx((2 / 50) ** 0.5, rel=0.05)
    assert float(head["V2"].std()) == pytest.approx((2 / 100) ** 0.5, rel=0.035)


def test_feature_maps_are_averaged_over_places():
    h, head = jax.random.normal(KEY, (3, 4, 5, 6)), {"V1": jnp.eye(6), "V2": 2 * jnp.eye(6)}
    expected = 2 * np.maximum(np.asarray(h).mean((1, 2)), 0)
    np.testing.assert_allclose(project(head, h), expected, rtol=1e-5, atol=1e-6)


def test_convolutions_are_taken_and_a_network_without_hidden_layers_is_refused():
    net = conv(3, dense=(6,), kernel=3)((8, 8, 1), 3)
    params, batch = net.init(KEY), Batch(jnp.zeros((6, 8, 8, 1)), jnp.arange(6) % 3)
    rule = blockwise(width=5)
    state = rule.init(KEY, net, params, batch)
    heads = state["heads"]
    assert heads["conv1"]["V1"].shape == (3, 5)
    assert not same_bits(heads["conv1"]["V2"], heads["dense1"]["V2"])
    found = jax.eval_shape(lambda params: rule.grads(KEY, net, params, state, batch)[0], params)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, params)
    linear, params, batch = small_mlp()
    with pytest.raises(RuleError, match=r"mlp\(256,128\)"):
        rule.init(KEY, linear, params, batch)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"objective": "vicreg"}, "barlow, contrastive"),
        ({"strength": 0}, "strength"),
        ({"strength": 5.0}, "strength"),
        ({"width": 0}, "width"),
        ({"rate": -1.0}, "rate"),
    ],
)
def test_settings_that_are_none_are_refused(settings, says):
    with pytest.raises(RuleError, match=says):
        blockwise(**settings)
