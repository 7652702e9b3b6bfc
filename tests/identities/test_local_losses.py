"""Local losses by hand: what each block descends, what never crosses between blocks, and whose turn it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from by_hand import SLOPE, assert_close, forward, numpy_tree, same_bits, small_mlp, softmax

from algorithms import RULES, Batch, RuleError
from algorithms.local_losses import greedy, local, similarity_loss, spread, unit_rows
from lab.networks import conv, mlp, resnet
from lab.training import Trainer, on_device

KEY = jax.random.key(0)


def random_like(tree, seed=5):
    """The same tree filled with normal numbers, so that no head is zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), tree)


def started(rule, net, params, batch):
    state = rule.init(KEY, net, params, batch)
    return {**state, "heads": random_like(state["heads"])}


def grads_and_errors(rule, net, params, state, batch):
    """Directions, state and metrics, and the error signals, compiled, which here is faster."""

    def both(params, state):
        return rule.grads(KEY, net, params, state, batch), rule.errors(KEY, net, params, state, batch)

    return jax.jit(both)(params, state)


def crossed(head, h, y):
    """Cross-entropy of a linear classifier of h, and its derivatives by h and by the classifier."""
    p = softmax(h @ head["kernel"].T + head["bias"])
    e = (p - np.eye(p.shape[1])[y]) / len(h)
    return -np.log(p[np.arange(len(h)), y]).mean(), e @ head["kernel"], {"kernel": e.T @ h, "bias": e.sum(0)}


def numpy_similarity(u):
    c = u - u.mean(1, keepdims=True)
    s = c / np.linalg.norm(c, axis=1, keepdims=True)
    return s @ s.T, s, np.linalg.norm(c, axis=1, keepdims=True)


def similar(P, h, y, classes):
    """Similarity loss of h Pᵀ, and its derivatives by h and by P: the chain rule, written out."""
    S, s, r = numpy_similarity(h @ P.T)
    difference = S - numpy_similarity(np.eye(classes)[y])[0]
    ds = 2 * (2 * difference / difference.size) @ s  # S = s sᵀ is symmetric: each s_i occurs in a row and in a column
    dc = (ds - s * (s * ds).sum(1, keepdims=True)) / r
    du = dc - dc.mean(1, keepdims=True)
    return (difference**2).mean(), du @ P, du.T @ h


def by_hand(params, heads, batch, weight_pred, weight_sim, act="tanh"):
    """Losses, error signals, directions and the heads' gradients of local losses on a multilayer perceptron."""
    y, names = np.asarray(batch.y), list(params)
    hs, zs = forward(params, batch.x, act)
    total, delta, direction, slopes = 0.0, {}, {}, {}
    for i, name in enumerate(names[:-1]):
        error, slopes[name] = 0, {}
        if "pred" in heads[name]:
            value, back, slope = crossed(heads[name]["pred"], hs[i + 1], y)
            total, error = total + weight_pred * value, error + weight_pred * back
            slopes[name]["pred"] = jax.tree.map(lambda g: weight_pred * g, slope)
        if "sim" in heads[name]:
            value, back, slope = similar(heads[name]["sim"], hs[i + 1], y, zs[-1].shape[1])
            total, error = total + weight_sim * value, error + weight_sim * back
            slopes[name]["sim"] = weight_sim * slope
        delta[name] = error * SLOPE[act][1](zs[i])
    p = softmax(zs[-1])
    delta[names[-1]] = (p - np.eye(p.shape[1])[y]) / len(y)
    for i, name in enumerate(names):
        direction[name] = {"kernel": hs[i].T @ delta[name], "bias": delta[name].sum(0)}
    return total, -np.log(p[np.arange(len(y)), y]).mean(), delta, direction, slopes


@pytest.mark.parametrize(
    ("settings", "weights"),
    [({"beta": 0.3}, (0.7, 0.3)), ({"kind": "pred"}, (1, 0)), ({"kind": "sim"}, (0, 1))],
    ids=["predsim", "pred", "sim"],
)
def test_local_losses_by_hand(settings, weights, x64):
    net, params, batch = small_mlp(7, 6)
    rule = local(**settings)
    state = started(rule, net, params, batch)
    heads = numpy_tree(state["heads"])
    total, readout, delta, direction, slopes = by_hand(numpy_tree(params), heads, batch, *weights)
    (found, after, metrics), signals = grads_and_errors(rule, net, params, state, batch)
    # 1e-12 is added to squared lengths of order 1, and is divided by the smallest of them, some .01.
    assert_close(found, direction, rtol=1e-9)
    assert_close(signals, delta, rtol=1e-9)
    assert float(metrics["loss"]) == pytest.approx(readout, rel=1e-12)
    assert float(metrics["local_loss"]) == pytest.approx(total, rel=1e-9)
    # Adam's first step has the gradient's sign and the size of the rate, but for 1e-8 beside the gradient's size.
    step = jax.tree.map(lambda w, g: w - 3e-3 * g / (np.abs(g) + 1e-8), heads, slopes)
    assert_close(after["heads"], step, rtol=1e-9)


def test_heads_go_on_as_adam_does(x64):
    net, params, batch = small_mlp(6)
    rule = local(kind="pred", rate=0.02)
    state = started(rule, net, params, batch)
    head, m, v = numpy_tree(state["heads"])["dense1"]["pred"]["bias"], 0.0, 0.0
    grads = jax.jit(lambda state: rule.grads(KEY, net, params, state, batch))
    for t in range(1, 5):
        g = by_hand(numpy_tree(params), numpy_tree(state["heads"]), batch, 1, 0)[-1]["dense1"]["pred"]["bias"]
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        head = head - 0.02 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        state = grads(state)[1]
    assert_close(state["heads"]["dense1"]["pred"]["bias"], head, rtol=1e-10)


def similarity(h):
    U = unit_rows(h)
    return U @ U.T


def test_similarity_by_hand(x64):
    # Off their means: (2, -1, -1)/3, (-1, 2, -1)/3 and (2, -1, -1); the first and the third are parallel.
    S = similarity(jnp.array([[1.0, 0, 0], [0, 1.0, 0], [2.0, -1, -1]]))
    np.testing.assert_allclose(S, [[1, -0.5, 1], [-0.5, 1, -0.5], [1, -0.5, 1]], atol=1e-11)
    # The label's own: classes are the corners of a simplex, with cosine -1 / (classes - 1).
    np.testing.assert_allclose(similarity(jnp.eye(5)), np.where(np.eye(5), 1, -1 / 4), atol=1e-11)


def test_similarity_ignores_a_samples_scale_and_offset(x64):
    h = jnp.asarray(np.random.default_rng(0).normal(size=(4, 9)))
    other = h * jnp.array([[2.0], [0.5], [7.0], [1.0]]) + jnp.array([[1.0], [-3.0], [0.0], [9.0]])
    np.testing.assert_allclose(similarity(other), similarity(h), atol=1e-10)


def test_the_similarity_loss_vanishes_where_samples_are_as_alike_as_their_labels(x64):
    y = jnp.array([0, 2, 1, 1, 2, 0, 0])
    simplex = jnp.eye(3)[y] * 4 - 1
    assert abs(float(similarity_loss(simplex, y, 3))) < 1e-12  # a difference of numbers near 1, in float64
    # One sample that looks like another class: 2 · 2 pairs go from 1 to -1/2, and 2 · 2 (with class 2) back.
    wrong = simplex.at[0].set(simplex[1])
    assert float(similarity_loss(wrong, y, 3)) == pytest.approx(8 * 1.5**2 / 49, rel=1e-9)
    assert float(jnp.abs(jax.grad(similarity_loss)(simplex, y, 3)).max()) < 1e-9


@pytest.mark.parametrize(("samples", "features"), [(9, 4), (4, 9)], ids=["more samples", "more features"])
def test_the_similarity_loss_has_the_derivatives_of_its_definition(samples, features, x64):
    rng = np.random.default_rng(0)
    h, along = jnp.asarray(rng.normal(size=(2, samples, features)))
    y = jnp.arange(samples) % 3

    def defined(h):
        return jnp.mean((similarity(h) - similarity(jnp.eye(3)[y])) ** 2)

    def found(h):
        return similarity_loss(h, y, 3)

    def derivatives(loss):
        """Value, slope, slope along a direction, and how the slope changes along it."""
        slope, turn = jax.jvp(jax.grad(loss), (h,), (along,))
        return loss(h), slope, jax.jvp(loss, (h,), (along,))[1], turn

    # The values are differences of sums of squares of up to 81 numbers below 1.
    assert_close(derivatives(found), derivatives(defined), rtol=1e-11)


def test_feature_maps_are_compared_by_their_spread_over_places(x64):
    maps = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 5, 6)))
    # 1e-12 is added to variances of .04 and more.
    np.testing.assert_allclose(spread(maps), np.asarray(maps).std((1, 2)), rtol=1e-10)
    np.testing.assert_allclose(spread(maps[:, :, 0]), np.asarray(maps)[:, :, 0].std(1), rtol=1e-10)
    # Few channels, a single place, or dense units: compared as they are.
    for as_is in (maps[..., :3], maps[:, :1, :1], maps[:, 0, 0]):
        assert same_bits(spread(as_is), as_is.reshape(3, -1))


@pytest.mark.parametrize("name", ["local", "greedy"])
def test_with_no_hidden_layer_it_is_backpropagation(name):
    net, params, batch = small_mlp()
    rule = RULES[name]()
    state = rule.init(KEY, net, params, batch)
    exact, _, expected = RULES["bp"]().grads(KEY, net, params, {}, batch)
    found, _, metrics = rule.grads(KEY, net, params, state, batch)
    assert same_bits(found, exact)
    assert same_bits(metrics["loss"], expected["loss"])


def test_the_last_block_learns_as_by_backpropagation(x64):
    net, params, batch = small_mlp(6, 5)
    rule, bp = local(), RULES["bp"]()
    exact, _, expected = jax.jit(lambda params: bp.grads(KEY, net, params, {}, batch))(params)
    (found, _, metrics), _ = grads_and_errors(rule, net, params, rule.init(KEY, net, params, batch), batch)
    assert_close(found["output"], exact["output"])
    assert float(metrics["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-12)


def test_no_gradient_crosses_between_blocks():
    net, params, batch = small_mlp(6, 5, 4)
    rule = local()
    state = started(rule, net, params, batch)
    direction = jax.jit(lambda params, heads: rule.grads(KEY, net, params, {**state, "heads": heads}, batch)[0])
    before, names = direction(params, state["heads"]), [block.name for block in net.blocks]
    for i, changed in enumerate(names):
        other = {**params, changed: jax.tree.map(lambda leaf: 3 * leaf + 1, params[changed])}
        after = direction(other, state["heads"])
        assert all(same_bits(after[name], before[name]) for name in names[:i])
        assert not same_bits(after[changed], before[changed])
        if changed in state["heads"]:
            heads = {**state["heads"], changed: random_like(state["heads"][changed], seed=8)}
            after = direction(params, heads)
            assert [name for name in names if not same_bits(after[name], before[name])] == [changed]


@pytest.mark.parametrize(
    "arch",
    [conv(4, dense=(5,), kernel=3), pytest.param(resnet(4, blocks=1), marks=pytest.mark.slow)],
    ids=["conv", "resnet"],
)
def test_blocks_of_any_kind_learn_from_their_own_loss(arch):
    net = arch((8, 8, 1), 3)
    params, rng = net.init(KEY), np.random.default_rng(0)
    batch = Batch(jnp.asarray(rng.random((6, 8, 8, 1)), jnp.float32), jnp.arange(6) % 3)
    rule = local()
    state = rule.init(KEY, net, params, batch)
    direction = jax.jit(lambda params: rule.grads(KEY, net, params, state, batch)[0])
    found = direction(params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert all(jnp.any(found[block.name]["kernel"] != 0) for block in net.blocks if block.plain)
    above = {name: jax.tree.map(lambda leaf: leaf + 1, tree) for name, tree in params.items()}
    first = net.blocks[0].name
    assert same_bits(direction({**above, first: params[first]})[first], found[first])


def convolved(x, W):
    """A convolution without padding, pooled by two, of tanh units."""
    windows = np.lib.stride_tricks.sliding_window_view(x, W["kernel"].shape[:2], axis=(1, 2))
    h = np.tanh(np.einsum("nrcixy,xyio->nrco", windows, W["kernel"]) + W["bias"])
    return (h[:, ::2, ::2] + h[:, 1::2, ::2] + h[:, ::2, 1::2] + h[:, 1::2, 1::2]) / 4


def test_a_convolution_learns_from_the_similarity_of_its_channels_spread_over_places(x64):
    # By central differences of a NumPy loss: their error is of the order of the step squared, 1e-10.
    net = conv(4, dense=(5,), kernel=3, act="tanh")((8, 8, 1), 3)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, KEY)
    params = jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape)), shapes)
    batch = Batch(jnp.asarray(rng.random((6, 8, 8, 1))), jnp.arange(6) % 3)
    rule = local(beta=0.6)
    state = started(rule, net, params, batch)
    W, heads = (jax.tree.map(np.array, tree) for tree in (params, state["heads"]))  # copies, to be varied
    x, y = np.asarray(batch.x), np.asarray(batch.y)

    def own_loss(name, h):
        features = h @ heads[name]["sim"].T
        features = features.std((1, 2)) if h.ndim == 4 else features
        unlike = ((numpy_similarity(features)[0] - numpy_similarity(np.eye(3)[y])[0]) ** 2).mean()
        return 0.4 * crossed(heads[name]["pred"], h.reshape(6, -1), y)[0] + 0.6 * unlike

    found, _, metrics = jax.jit(lambda params: rule.grads(KEY, net, params, state, batch))(params)
    for part, leaf in W["conv1"].items():
        slope = np.zeros_like(leaf)
        for place in np.ndindex(leaf.shape):
            middle, around = leaf[place], []
            for leaf[place] in (middle + 1e-5, middle - 1e-5):
                around.append(own_loss("conv1", convolved(x, W["conv1"])))
            slope[place], leaf[place] = (around[0] - around[1]) / 2e-5, middle
        assert_close(found["conv1"][part], slope, rtol=1e-6)
    maps = convolved(x, W["conv1"])
    dense = np.tanh(maps.reshape(6, -1) @ W["dense1"]["kernel"] + W["dense1"]["bias"])
    # 1e-12 is added to variances over places of some .01.
    assert float(metrics["local_loss"]) == pytest.approx(own_loss("conv1", maps) + own_loss("dense1", dense), rel=1e-9)


def test_heads_are_as_wide_as_said_and_classifiers_begin_at_zero():
    net, params, batch = small_mlp(80, 80)
    heads = local(width=50).init(KEY, net, params, batch)["heads"]
    assert heads["dense1"]["sim"].shape == heads["dense2"]["sim"].shape == (50, 80)
    assert heads["dense1"]["pred"]["kernel"].shape == (3, 80)
    assert not any(jnp.any(head["pred"]["kernel"]) for head in heads.values())
    # Variance 1 / units: what is projected keeps its scale. 4,000 entries: a standard error of 1.1 %, five allowed.
    assert float(heads["dense1"]["sim"].std()) == pytest.approx(80**-0.5, rel=0.056)
    assert not same_bits(heads["dense1"]["sim"], heads["dense2"]["sim"])
    assert local(width=90).init(KEY, net, params, batch)["heads"]["dense1"]["sim"].shape == (80, 80)


def test_a_silent_layer_has_finite_directions():
    net, params, batch = small_mlp(6, act="relu")
    params["dense1"] = {**params["dense1"], "bias": params["dense1"]["bias"] - 100}
    rule = local()
    found = rule.grads(KEY, net, params, started(rule, net, params, batch), batch)[0]
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


# Greedy


def test_greedy_with_one_hidden_layer_is_backpropagation():
    net, params, batch = small_mlp(6)
    rule = greedy(steps=1)
    state = rule.init(KEY, net, params, batch)
    exact = RULES["bp"]().grads(KEY, net, params, {}, batch)[0]
    for _ in range(2):
        found, state, _ = rule.grads(KEY, net, params, state, batch)
        assert same_bits(found, exact)
    assert same_bits(rule.follow(found, params, state)[0], found)


def test_greedy_by_hand(x64):
    net, params, batch = small_mlp(7, 6, 5)
    rule = greedy(steps=2)
    state = started(rule, net, params, batch)
    weights = numpy_tree(params)
    hs, zs = forward(weights, batch.x, "tanh")
    both = jax.jit(
        lambda state: (rule.grads(KEY, net, params, state, batch), rule.errors(KEY, net, params, state, batch))
    )
    for t in range(6):
        turn = min(t // 2, 2)
        name = f"dense{turn + 1}"
        heads = numpy_tree(state["heads"])
        _, _, delta, direction, _ = by_hand(weights, {n: {} for n in net.hidden}, batch, 0, 0)
        if turn == 2:  # the readout is the last hidden block's classifier
            error = delta["output"] @ weights["output"]["kernel"].T
        else:
            error = crossed(heads[name], hs[turn + 1], np.asarray(batch.y))[1]
        local_delta = error * SLOPE["tanh"][1](zs[turn])
        expected = {n: jax.tree.map(np.zeros_like, tree) for n, tree in direction.items()}
        expected[name] = {"kernel": hs[turn].T @ local_delta, "bias": local_delta.sum(0)}
        expected["output"] = direction["output"]
        (found, state, _), signals = both(state)
        assert_close({n: signals[n] for n in (name, "output")}, {name: local_delta, "output": delta["output"]})
        assert_close(found, expected)
        assert int(state["step"]) == t + 1
        assert [n for n in net.hidden if state["turn"][n]] == [name]


@pytest.mark.parametrize("optimizer", [optax.adamw(0.01, weight_decay=0.1), optax.sgd(0.1, momentum=0.9)])
def test_greedy_leaves_blocks_bit_identical_when_it_is_not_their_turn(optimizer):
    net = mlp(6, 5, 4)((1, 5, 1), 3)
    rng = np.random.default_rng(0)
    examples = on_device(rng.random((80, 1, 5, 1)).astype(np.float32), rng.integers(0, 3, 80))
    trainer = Trainer(greedy(steps=3), net, optimizer, 8, 1)
    seeds = trainer.seeds([0])
    learner = trainer.start.__wrapped__(seeds, examples)
    state = learner.rule_state  # a classifier that is still zero sends nothing back: none is
    learner = learner._replace(rule_state={**state, "heads": random_like(state["heads"])})
    for t in range(10):
        before, learner = learner.params, trainer.advance(learner, seeds, seeds, 0, t, t + 1, examples)
        moved = [name for name in before if not same_bits(before[name], learner.params[name])]
        assert sorted(moved) == [f"dense{min(t // 3, 2) + 1}", "output"]


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("local", {"kind": "both"}, "predsim, pred, sim"),
        ("local", {"beta": 1.5}, "beta"),
        ("local", {"beta": -0.1}, "beta"),
        ("local", {"width": 0}, "width"),
        ("local", {"rate": 0}, "rate"),
        ("local", {"kind": "pred", "beta": 0.5}, "kind=pred has no beta"),
        ("local", {"kind": "pred", "width": 5}, "kind=pred has no width"),
        ("local", {"kind": "sim", "beta": 0.5}, "kind=sim has no beta"),
        ("greedy", {"steps": 0}, "steps"),
        ("greedy", {"steps": 1.5}, "steps"),
        ("greedy", {"rate": -1.0}, "rate"),
    ],
)
def test_settings_that_are_none_are_refused(name, settings, says):
    with pytest.raises(RuleError, match=says):
        RULES[name](**settings)


def test_only_settings_that_count_are_taken():
    local(kind="sim", width=5)
    local(beta=0)
    local(beta=1)
