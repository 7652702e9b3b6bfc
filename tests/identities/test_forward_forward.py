"""Forward-forward by hand: its local losses, its negatives, its neutral label and its prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import SLOPE, assert_close, numpy_tree, same_bits, small_mlp, softmax

import algorithms.forward_forward as module
from algorithms import RULES, Batch, RuleError
from algorithms.forward_forward import goodness, normalise, overlay
from lab.networks import conv, mlp

ff = RULES["ff"]
KEY = jax.random.key(0)


def rms(h):
    return np.maximum(np.sqrt((h**2).mean(1, keepdims=True)), 1e-300)  # a silent layer stays silent


def with_label(x, label):
    flat = np.array(x, np.float64).reshape(len(x), -1)
    flat[:, : label.shape[1]] = label
    return flat


def hidden(params, x, label, act):
    """Inputs and affine outputs of every block but the last, as they run in forward-forward."""
    u, inputs, zs, hs = with_label(x, label), [], [], []
    for block in list(params.values())[:-1]:
        inputs.append(u / rms(u))
        zs.append(inputs[-1] @ block["kernel"] + block["bias"])
        u = SLOPE[act][0](zs[-1])
        hs.append(u)
    return inputs, zs, hs


def by_hand(params, x, y, act, threshold):
    """Loss, error signals and directions with two classes, where the wrong label is 1 - y."""
    y, n = np.asarray(y), len(x)
    names, losses, delta, local = list(params), [], {}, {}
    for sign, label in ((1, np.eye(2)[y]), (-1, np.eye(2)[1 - y])):
        for name, u, z, h in zip(names, *hidden(params, x, label, act), strict=False):
            excess = (h**2).sum(1) - threshold * h.shape[1]
            losses.append(np.log1p(np.exp(-sign * excess)).mean())
            # d softplus(-s e) / d e = -s / (1 + exp(s e)); d g / d z = 2 h f'(z)
            d = (-sign / (1 + np.exp(sign * excess)) / n)[:, None] * 2 * h * SLOPE[act][1](z)
            delta[name] = np.concatenate([delta[name], d]) if name in delta else d  # positive pass first
            before = local.get(name, {"kernel": 0, "bias": 0})
            local[name] = {"kernel": before["kernel"] + u.T @ d, "bias": before["bias"] + d.sum(0)}
    top = hidden(params, x, np.full((n, 2), 0.5), act)[2][-1]
    u = top / rms(top)
    e = (softmax(u @ params["output"]["kernel"] + params["output"]["bias"]) - np.eye(2)[y]) / n
    delta["output"], local["output"] = e, {"kernel": u.T @ e, "bias": e.sum(0)}
    return sum(losses), delta, local


@pytest.mark.parametrize("widths", [(2,), (4, 3)])
@pytest.mark.parametrize("act", ["tanh", "relu"])
@pytest.mark.parametrize("threshold", [1.0, 0.3])
def test_local_gradients_by_hand(widths, act, threshold, x64):
    net, params, batch = small_mlp(*widths, act=act, classes=2)
    loss, delta, local = by_hand(numpy_tree(params), batch.x, batch.y, act, threshold)
    rule = ff(threshold=threshold)
    found, state, metrics = rule.grads(KEY, net, params, {}, batch)
    # The length normalisation adds 1e-8 to the root mean square (of order 1); its effect is of that size.
    assert_close(found, local, rtol=1e-6)
    assert_close(rule.errors(KEY, net, params, {}, batch), delta, rtol=1e-6)
    assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-6)
    assert state == {}


def test_no_gradient_crosses_from_a_block_to_the_ones_below():
    net, params, batch = small_mlp(6, 5, 4)
    direction = jax.jit(lambda params: ff().grads(KEY, net, params, {}, batch)[0])
    before = direction(params)
    for changed, untouched in (("dense2", ["dense1"]), ("dense3", ["dense1", "dense2"]), ("output", net.hidden)):
        other = {**params, changed: jax.tree.map(lambda leaf: 3 * leaf + 1, params[changed])}
        after = direction(other)
        assert all(same_bits(after[name], before[name]) for name in untouched)
        assert not same_bits(after[changed], before[changed])


@pytest.mark.parametrize("c", [0.01, 3.0, 100.0])
def test_the_next_layer_does_not_see_the_length_of_the_last(c, x64):
    net, params, batch = small_mlp(6, 5, act="relu")  # relu(c z) = c relu(z)
    louder = {**params, "dense1": jax.tree.map(lambda leaf: c * leaf, params["dense1"])}
    plain, loud = (ff().forward(net, p, {}, batch.x).hidden for p in (params, louder))
    assert_close(loud[0], c * plain[0])
    # 1e-8 is added to a root mean square of order c.
    assert_close(loud[1], plain[1], rtol=1e-7 / min(c, 1))


def test_normalised_activities_have_unit_mean_square_and_silent_ones_stay_finite(x64):
    rng = np.random.default_rng(0)
    h = jnp.asarray(rng.normal(size=(7, 4, 3)))
    for scale in (1e-2, 1.0, 1e3):
        np.testing.assert_allclose((normalise(scale * h) ** 2).mean((1, 2)), 1, rtol=1e-5)
    assert (normalise(jnp.zeros((2, 3))) == 0).all()
    np.testing.assert_allclose(goodness(h), (np.asarray(h) ** 2).sum((1, 2)), rtol=1e-12)


def test_the_label_overwrites_the_first_pixels_and_nothing_else():
    x = jnp.arange(24.0).reshape(2, 3, 4, 1)
    found = np.asarray(overlay(x, jnp.array([[7.0, 8.0, 9.0], [4.0, 5.0, 6.0]]))).reshape(2, -1)
    np.testing.assert_array_equal(found[:, :3], [[7, 8, 9], [4, 5, 6]])
    np.testing.assert_array_equal(found[:, 3:], np.arange(24).reshape(2, -1)[:, 3:])


def test_negatives_carry_every_label_but_the_true_one(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "overlay", lambda x, label: (seen.append(np.asarray(label)), overlay(x, label))[1])
    classes, n = 5, 40
    net = mlp(3)((1, 6, 1), classes)
    params, y = net.init(KEY), jnp.arange(n) % classes
    batch = Batch(jnp.ones((n, 1, 6, 1)), y)
    counts = np.zeros((classes, classes), int)
    for seed in range(30):
        seen.clear()
        ff().grads(jax.random.key(seed), net, params, {}, batch)  # only parameters are traced, so labels can be read
        pairs = next(label for label in seen if len(label) == 2 * n)
        assert same_bits(pairs[:n], np.eye(classes, dtype=np.float32)[y])
        assert set(np.unique(pairs)) == {0, 1}
        assert (pairs.sum(1) == 1).all()
        np.add.at(counts, (np.asarray(y), pairs[n:].argmax(1)), 1)
    assert (np.diag(counts) == 0).all()
    others = counts[~np.eye(classes, dtype=bool)]  # 240 draws of each label over four others: 60 ± 6.7
    assert np.abs(others - 60).max() < 4 * (240 * 3 / 16) ** 0.5


def test_what_the_label_pixels_hold_when_a_network_is_read_changes_nothing():
    # `forward` is given no label, and writes the neutral one over whatever stands in the label pixels.
    net, params, batch = small_mlp(6, 5)
    forward = jax.jit(lambda x: ff().forward(net, params, {}, x))
    other = overlay(batch.x, jax.nn.one_hot(batch.y, 3))
    assert not same_bits(other, batch.x)
    assert same_bits(forward(other), forward(batch.x))
    assert not same_bits(forward(batch.x[..., ::-1, :]), forward(batch.x))


def test_prediction_is_the_label_with_the_largest_goodness_over_all_hidden_layers(x64):
    net, params, batch = small_mlp(6, 5, n=30, inputs=20, seed=3)
    W = numpy_tree(params)
    tried = [hidden(W, batch.x, np.eye(3)[np.full(30, label)], "tanh")[2] for label in range(3)]
    expected = np.stack([sum((h**2).sum(1) for h in hs) for hs in tried], axis=1)
    found = ff().forward(net, params, {}, batch.x)
    assert_close(found.scores, jnp.asarray(expected), rtol=1e-6)  # the 1e-8 of the length normalisation
    np.testing.assert_array_equal(found.scores.argmax(1), expected.argmax(1))
    # Neither layer alone would have decided the same, so the sum is what is read.
    for layer in (0, 1):
        alone = np.stack([(hs[layer] ** 2).sum(1) for hs in tried], axis=1)
        assert (alone.argmax(1) != expected.argmax(1)).any()
    neutral = hidden(W, batch.x, np.full((30, 3), 1 / 3), "tanh")[2]
    for h, by_numpy in zip(found.hidden, neutral, strict=True):
        assert_close(h, jnp.asarray(by_numpy), rtol=1e-6)


def test_the_reference_loss_is_the_readouts_under_the_neutral_label(x64):
    net, params, batch = small_mlp(6, 5)
    W = numpy_tree(params)
    top = hidden(W, batch.x, np.full((6, 3), 1 / 3), "tanh")[2][-1]
    p = softmax(top / rms(top) @ W["output"]["kernel"] + W["output"]["bias"])
    expected = -np.log(p[np.arange(6), np.asarray(batch.y)]).mean()
    assert float(ff().objective(net, params, {}, batch)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (conv(2, dense=(5,), kernel=3)((9, 9, 1), 3), "mlp"),
        (mlp()((1, 9, 1), 3), "mlp"),
        (mlp(4)((1, 2, 1), 3), "another rule"),
    ],
    ids=["conv", "no hidden layer", "fewer pixels than classes"],
)
def test_networks_it_is_not_defined_for_are_refused_with_what_would_work(net, says):
    batch = Batch(jnp.zeros((2, *net.input_shape)), jnp.zeros(2, jnp.int32))
    with pytest.raises(RuleError, match=says):
        ff().init(KEY, net, net.init(KEY), batch)


@pytest.mark.parametrize("threshold", [0, -1.0, float("nan"), "high", True])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(RuleError, match="threshold"):
        ff(threshold=threshold)
