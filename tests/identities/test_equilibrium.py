"""Equilibrium propagation and contrastive Hebbian learning against exact gradients, energies and NumPy."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import SLOPE, assert_close, numpy_tree

from algorithms import RULES, Batch, RuleError
from algorithms import equilibrium as eq
from algorithms.contrastive_hebbian import CLAMPED
from lab.networks import conv, mlp

KEY = jax.random.key(0)
F = {**{name: f for name, (f, _) in SLOPE.items()}, "hard_sigmoid": lambda z: np.clip(z, 0, 1)}
LONG = {"free_steps": 100, "nudged_steps": 100}
"""Sweeps after which the small networks here are at rest to the last bit: a sweep contracts by a factor below .6."""


def settling(act="tanh", n=7, inputs=6, widths=(9, 8), classes=5, scale=0.35):
    """A network whose coupling is weak enough for one equilibrium, with biases that are not zero, and a batch."""
    net = mlp(*widths, act=act)((1, inputs, 1), classes)
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape) / np.sqrt(leaf.shape[0])),
        net.init(KEY),
    )
    return net, params, Batch(jnp.asarray(rng.random((n, 1, inputs, 1))), jnp.asarray(np.arange(n) % classes))


def learn(rule, net, params, batch):
    """Direction, state and metrics; one compilation is quicker than a hundred small ones."""
    return jax.jit(lambda p: rule.grads(KEY, net, p, {}, batch))(params)


def gradient(rule, net, params, batch):
    """The exact gradient of the rule's objective, by autodiff through every sweep of the free phase."""
    return jax.jit(jax.grad(lambda p: rule.objective(net, p, {}, batch)))(params)


def vector(tree):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def distance(found, exact):
    """Relative, over all parameters at once."""
    return np.linalg.norm(vector(found) - vector(exact)) / np.linalg.norm(vector(exact))


def by_damping(params, x, y, act, gamma, pull=0.0, clamped=False, steps=600):
    """The equilibrium by another road: all layers at once, half a step at a time, from zero, in NumPy.

    The output unit feels its drive and the pull, `z - s + pull (y - s)`, or is held at y.
    """
    (W1, b1), (W2, b2), (W3, b3) = ((block["kernel"], block["bias"]) for block in params.values())
    f, x = F[act], np.asarray(x, np.float64).reshape(len(x), -1)
    s, u, o = (np.zeros((len(x), len(b))) for b in (b1, b2, b3))
    for _ in range(steps):
        s, u, o = (
            (s + f(x @ W1 + b1 + gamma * u @ W2.T)) / 2,
            (u + f(s @ W2 + b2 + gamma * o @ W3.T)) / 2,
            y if clamped else o + (u @ W3 + b3 - o + pull * (y - o)) / 2,
        )
    return x, s, u, o


def products(states, gamma):
    """Mean over the batch of `gamma^{l-L} s_l s_{l-1}ᵀ` and of `gamma^{l-L} s_l`, for each block."""
    n, L = len(states[0]), len(states) - 1
    return {
        name: {"kernel": gamma ** (i - L) * below.T @ s / n, "bias": gamma ** (i - L) * s.mean(0)}
        for i, (name, below, s) in enumerate(
            zip(("dense1", "dense2", "output"), states, states[1:], strict=False), start=1
        )
    }


@pytest.mark.parametrize(("act", "gamma"), [("tanh", 1.0), ("hard_sigmoid", 0.5)])
def test_the_direction_by_hand(act, gamma, x64):
    net, params, batch = settling(act)
    W, y = numpy_tree(params), np.eye(5)[np.asarray(batch.y)]
    at = lambda pull: products(by_damping(W, batch.x, y, act, gamma, pull), gamma)  # noqa: E731
    for variant, (first, second, apart) in {"onesided": (0.2, 0.0, 0.2), "centred": (0.2, -0.2, 0.4)}.items():
        expected = jax.tree.map(lambda a, b: -(a - b) / apart, at(first), at(second))  # noqa: B023
        rule = RULES["ep"](variant=variant, beta=0.2, feedback=gamma, **LONG)
        assert_close(learn(rule, net, params, batch)[0], expected, rtol=1e-10)  # differences of states / .4


def test_contrastive_hebbian_by_hand(x64):
    net, params, batch = settling()
    W, y = numpy_tree(params), np.eye(5)[np.asarray(batch.y)]
    free, held = (by_damping(W, batch.x, y, "tanh", 0.3, clamped=clamped) for clamped in (False, True))
    expected = jax.tree.map(lambda a, b: a - b, products(free, 0.3), products(held, 0.3))
    rule = RULES["chl"](gamma=0.3, free_steps=100, clamped_steps=100)
    assert_close(learn(rule, net, params, batch)[0], expected, rtol=1e-10)
    read = rule.forward(net, params, {}, batch.x)
    assert_close((*read.hidden, read.scores), free[1:], rtol=1e-10)


def test_each_phase_of_contrastive_hebbian_learning_has_a_length_of_its_own(x64):
    net, params, batch = settling()
    one_free, one_clamped = (RULES["chl"](free_steps=free, clamped_steps=60 // free) for free in (1, 60))
    # One sweep upwards from zero hears nothing from above: it is an ordinary forward pass.
    plain = RULES["bp"]().forward(net, params, {}, batch.x)
    assert_close(one_free.forward(net, params, {}, batch.x), plain)
    assert distance(one_clamped.forward(net, params, {}, batch.x).scores, plain.scores) > 1e-3
    residuals = [learn(rule, net, params, batch)[2]["nudged_residual"] for rule in (one_free, one_clamped)]
    assert residuals == [pytest.approx(0, abs=1e-12), pytest.approx(1, rel=1e-12)]  # the only step is the whole way


@cache
def slopes_of(act, feedback):
    """`nudged -> distance` to the gradient by autodiff through the free phase; one program for all nudges."""
    net, params, batch = settling(act)
    rule = RULES["ep"](feedback=feedback, **LONG)
    exact = gradient(rule, net, params, batch)
    free = eq.settle_freely(net, params, batch.x, feedback, 100)
    run = jax.jit(lambda nudged: eq.contrast(net, params, batch, free, eq.Nudges(*nudged), feedback, 100)[0])
    return lambda nudged: distance(run(tuple(nudged)), exact)


def slope(x, y):
    return np.polyfit(np.log(x), np.log(y), 1)[0]


@pytest.mark.parametrize(("act", "feedback"), [("tanh", 1.0), ("sigmoid", 0.5)])
def test_the_error_falls_as_beta_one_sided_and_as_its_square_centred(act, feedback, x64):
    # Error = a beta (1 + O(beta)) and a beta² (1 + O(beta²)): with beta from .03 down the exponents show within .05.
    betas = np.array([0.03, 0.01, 0.003])
    for variant, order in (("onesided", 1), ("centred", 2)):
        errors = [slopes_of(act, feedback)(eq.nudges(variant, beta, 2)) for beta in betas]
        assert slope(betas, errors) == pytest.approx(order, abs=0.05)
        assert errors[-1] < 0.01


@pytest.mark.parametrize(("act", "feedback"), [("tanh", 1.0), ("sigmoid", 0.5)])
def test_the_error_falls_exponentially_in_the_number_of_points_on_the_circle(act, feedback, x64):
    # N points cancel every power of beta up to the N-th: the exponent is N, up to O(beta) in the ratio of two errors.
    error = lambda beta, points: slopes_of(act, feedback)(eq.nudges("holomorphic", beta, points))  # noqa: E731
    betas = np.array([0.1, 0.05])
    for points in (3, 4, 6):
        assert slope(betas, [error(beta, points) for beta in betas]) == pytest.approx(points, abs=0.25)
    at_one_beta = np.array([error(0.1, points) for points in (2, 4, 6, 8, 12)])
    assert (at_one_beta[1:] < 0.2 * at_one_beta[:-1]).all()
    assert at_one_beta[-1] < 1e-6


def test_hard_sigmoid_too_has_the_exact_gradient_for_a_weak_pull(x64):
    # Piecewise linear: exact but for beta² as long as no unit crosses a kink.
    net, params, batch = settling("hard_sigmoid")
    rule = RULES["ep"](beta=1e-4, feedback=0.5, **LONG)
    exact = gradient(rule, net, params, batch)
    assert all(leaf.any() for leaf in jax.tree.leaves(exact))
    assert distance(learn(rule, net, params, batch)[0], exact) < 1e-7


def test_two_points_on_the_circle_are_the_centred_variant(x64):
    net, params, batch = settling()
    settings = {"beta": 0.2, "free_steps": 5, "nudged_steps": 3}
    centred = learn(RULES["ep"](**settings), net, params, batch)[0]
    circle = learn(RULES["ep"](variant="holomorphic", points=2, **settings), net, params, batch)[0]
    assert_close(circle, centred)


@pytest.mark.parametrize("points", [3, 4])
def test_half_the_circle_stands_for_all_of_it(points, x64):
    net, params, batch = settling()
    strengths = 0.2 * np.exp(2j * np.pi * np.arange(points) / points)
    whole = eq.Nudges(strengths / (1 + strengths), 1 / (points * strengths))

    @jax.jit
    def both(params):
        free = eq.settle_freely(net, params, batch.x, 0.5, 20)
        half = eq.nudges("holomorphic", 0.2, points)
        return [eq.contrast(net, params, batch, free, nudged, 0.5, 9)[:2] for nudged in (half, whole)]

    found, expected = both(params)
    assert_close(found, expected)


def energy(states, params, x, gamma, beta, y):
    """The energy of the module's docstring for tanh units: G(s) = s artanh(s) + log(1 - s²)/2."""
    G = lambda s: s * jnp.arctanh(s) + 0.5 * jnp.log(1 - s**2)  # noqa: E731
    own = [G(states[0]), G(states[1]), 0.5 * states[2] ** 2]
    below = [x.reshape(len(x), -1), *states[:-1]]
    total = gamma**2 * beta * 0.5 * jnp.sum((states[2] - y) ** 2)
    for i, (block, s, h) in enumerate(zip(params.values(), states, below, strict=True)):
        total += gamma**i * (own[i].sum() - jnp.sum(s * (h @ block["kernel"] + block["bias"])))
    return total


@cache
def descent():
    """`(gamma, beta) -> energy at the start and after each pair of sweeps, its slope at the end`."""
    net, params, batch = settling(scale=0.4)
    y = jax.nn.one_hot(batch.y, 5)
    drive = net.blocks[0].affine(params["dense1"], batch.x)
    rng = np.random.default_rng(0)
    start = tuple(jnp.asarray(rng.uniform(-0.9, 0.9, (7, width))) for width in (9, 8, 5))

    @jax.jit
    def run(gamma, beta):
        def step(s, _):
            for order in ((2, 1, 0), (0, 1, 2)):
                s = eq.sweep(net, params, drive, s, order, gamma, beta / (1 + beta), y)
            return s, energy(s, params, batch.x, gamma, beta, y)

        s, seen = jax.lax.scan(step, start, length=75)
        return (
            energy(start, params, batch.x, gamma, beta, y),
            seen,
            jax.grad(energy)(s, params, batch.x, gamma, beta, y),
        )

    return run


@pytest.mark.parametrize(("gamma", "beta"), [(1.0, 0.0), (0.5, 0.0), (0.5, 0.7), (1.0, -0.3)])
def test_no_sweep_raises_the_energy_and_it_is_flat_at_rest(gamma, beta, x64):
    before, after, flat = descent()(gamma, beta)
    falls = -np.diff(np.array([before, *after]))
    assert (falls > -1e-11).all()  # rounding of sums of some hundred terms of order 1
    assert (falls[:2] > 1e-3).all()
    assert max(float(jnp.abs(g).max()) for g in flat) < 1e-6


def test_weak_feedback_turns_contrastive_hebbian_learning_into_backpropagation_linearly(x64):
    net, params, batch = settling()
    bp = RULES["bp"](loss="mse")
    exact, deltas = learn(bp, net, params, batch)[0], bp.errors(KEY, net, params, {}, batch)
    gammas = np.array([0.03, 0.01, 0.003, 0.001])

    @jax.jit
    def direction(gamma):
        free = eq.settle_freely(net, params, batch.x, gamma, 20)
        return eq.contrast(net, params, batch, free, CLAMPED, gamma, 20)[0]

    errors = [distance(direction(gamma), exact) for gamma in gammas]
    # Error = a gamma (1 + O(gamma)).
    assert slope(gammas, errors) == pytest.approx(1, abs=0.05)
    assert errors[-1] < 2e-3
    found = RULES["chl"](gamma=0.001).errors(KEY, net, params, {}, batch)
    for block, delta in deltas.items():
        assert distance(found[block], delta) < 5e-3


@pytest.mark.parametrize("rule", [RULES["ep"](), RULES["ep"](variant="holomorphic"), RULES["chl"]()])
def test_the_bias_learns_the_sum_of_the_error_signals(rule, x64):
    net, params, batch = settling()
    functions = (rule.grads, rule.errors)
    (pseudo, *_), signals = jax.jit(lambda p: [f(KEY, net, p, {}, batch) for f in functions])(params)
    for block in params:
        assert signals[block].shape == (7, len(params[block]["bias"]))
        assert_close(signals[block].sum(0), pseudo[block]["bias"])


def test_the_free_phase_is_what_is_read_and_its_loss_what_is_reported(x64):
    net, params, batch = settling()
    rule = RULES["ep"](feedback=0.5, free_steps=100)
    W, y = numpy_tree(params), np.eye(5)[np.asarray(batch.y)]
    *_, o = states = by_damping(W, batch.x, y, "tanh", 0.5)
    read = rule.forward(net, params, {}, batch.x)
    assert_close((*read.hidden, read.scores), states[1:], rtol=1e-10)
    metrics = learn(rule, net, params, batch)[2]
    assert float(metrics["loss"]) == pytest.approx(0.5 * ((o - y) ** 2).sum(1).mean(), rel=1e-10)
    assert float(rule.objective(net, params, {}, batch)) == pytest.approx(float(metrics["loss"]), rel=1e-12)


def test_the_first_sweep_is_a_forward_pass(x64):
    net, params, batch = settling()
    once = RULES["ep"](free_steps=1).forward(net, params, {}, batch.x)
    plain = RULES["bp"]().forward(net, params, {}, batch.x)
    assert_close(once, plain)


def test_the_residual_is_the_last_step_of_the_free_phase(x64):
    net, params, batch = settling(scale=1.5)
    seen = []
    for steps in (3, 9):
        (*a, last), (*b, final) = (
            (*read.hidden, read.scores)
            for read in (
                RULES["ep"](free_steps=k, feedback=1.0).forward(net, params, {}, batch.x) for k in (steps - 1, steps)
            )
        )
        change = sum(np.abs(u - v).sum() for u, v in zip((*a, last), (*b, final), strict=True))
        rule = RULES["ep"](free_steps=steps, feedback=1.0)
        seen.append(float(learn(rule, net, params, batch)[2]["residual"]))
        assert seen[-1] == pytest.approx(change / (7 * (9 + 8 + 5)), rel=1e-9)
    assert 0 < seen[1] < 0.3 * seen[0]


def test_the_nudged_residual_is_the_last_step_of_the_second_phases_over_their_whole_way(x64):
    net, params, batch = settling()
    found = [
        float(learn(RULES["ep"](nudged_steps=steps, free_steps=40), net, params, batch)[2]["nudged_residual"])
        for steps in (1, 3, 12)
    ]
    assert found[0] == pytest.approx(1, rel=1e-12)  # the only step is the whole way
    assert 0 < found[2] < 1e-2 * found[1] < 1e-2


def test_a_free_phase_that_has_not_settled_does_not_drown_a_weak_pull(x64):
    # Its drift over beta would be a million times the gradient; it cancels, since both phases drift alike.
    net, params, batch = settling(scale=1.5)
    exact = gradient(RULES["ep"](feedback=1.0, free_steps=100), net, params, batch)
    for variant in ("onesided", "centred"):
        rule = RULES["ep"](variant=variant, beta=1e-6, feedback=1.0, free_steps=2, nudged_steps=20)
        pseudo, _, metrics = learn(rule, net, params, batch)
        assert float(metrics["residual"]) > 0.01
        assert distance(pseudo, exact) < 1


def test_the_pull_reaches_the_first_layer_within_one_sweep(x64):
    net, params, batch = settling()
    pseudo = learn(RULES["ep"](nudged_steps=1), net, params, batch)[0]
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(pseudo))


@pytest.mark.parametrize("variant", ["onesided", "centred", "holomorphic"])
def test_directions_stay_real_and_in_single_precision(variant):
    net, params, batch = settling()
    assert params["dense1"]["kernel"].dtype == jnp.float32
    rule = RULES["ep"](variant=variant)
    pseudo, state, metrics = jax.eval_shape(lambda p: rule.grads(KEY, net, p, {}, batch), params)
    assert jax.tree.map(lambda leaf: leaf.dtype, pseudo) == jax.tree.map(lambda leaf: leaf.dtype, params)
    assert all(value.dtype == jnp.float32 for value in metrics.values())
    assert state == {}


@pytest.mark.slow
def test_in_single_precision_the_direction_is_still_the_gradient():
    # Rounding of 6e-8 in states of order 1, over 2 beta, beside signals of order .01 to .1.
    net, params, batch = settling()
    rule = RULES["ep"](beta=0.05, feedback=0.5, free_steps=30, nudged_steps=30)
    exact = gradient(rule, net, params, batch)
    assert distance(learn(rule, net, params, batch)[0], exact) < 0.01


BATCH = Batch(jnp.zeros((2, 12, 12, 1)), jnp.zeros(2, jnp.int32))


@pytest.mark.parametrize("name", ["ep", "chl"])
@pytest.mark.parametrize("act", ["relu", "gelu", "leaky_relu", "linear"])
def test_unbounded_units_are_refused(name, act):
    net = mlp(4, 3, act=act)((12, 12, 1), 3)
    with pytest.raises(RuleError, match=rf"bounded.*{act}.*hard_sigmoid"):
        RULES[name]().init(KEY, net, None, BATCH)


@pytest.mark.parametrize("name", ["ep", "chl"])
def test_other_networks_than_dense_chains_are_refused(name):
    with pytest.raises(RuleError, match=r"conv1.*mlp"):
        RULES[name]().init(KEY, conv(2, act="tanh")((12, 12, 1), 3), None, BATCH)
    with pytest.raises(RuleError, match="hidden layer"):
        RULES[name]().init(KEY, mlp()((12, 12, 1), 3), None, BATCH)


def test_complex_pulls_need_units_that_are_smooth():
    rule = RULES["ep"](variant="holomorphic")
    with pytest.raises(RuleError, match=r"hard_sigmoid.*tanh.*centred"):
        rule.init(KEY, mlp(4, act="hard_sigmoid")((12, 12, 1), 3), None, BATCH)
    for act in ("tanh", "sigmoid"):
        assert rule.init(KEY, mlp(4, act=act)((12, 12, 1), 3), None, BATCH) == {}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ep", {"variant": "symmetric"}, "variant"),
        ("ep", {"beta": 0}, "beta"),
        ("ep", {"beta": 1.0}, "below 1"),
        ("ep", {"beta": 1.5, "variant": "holomorphic"}, "below 1"),
        ("ep", {"points": 1}, "points"),
        ("ep", {"feedback": 0.0}, "feedback"),
        ("ep", {"feedback": 1.1}, "feedback"),
        ("ep", {"free_steps": 0}, "free_steps"),
        ("ep", {"nudged_steps": 2.5}, "nudged_steps"),
        ("chl", {"gamma": 0}, "gamma"),
        ("chl", {"gamma": 2}, "gamma"),
        ("chl", {"free_steps": 0}, "free_steps"),
        ("chl", {"clamped_steps": True}, "clamped_steps"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, settings, message):
    with pytest.raises(RuleError, match=message):
        RULES[name](**settings)


def test_a_strong_pull_is_allowed_where_nothing_pushes():
    RULES["ep"](variant="onesided", beta=3.0)
