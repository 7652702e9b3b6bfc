"""Predictive coding against its energy written out: descent of the states, closed forms, limits."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import SLOPE, assert_close, forward, numpy_tree, same_bits
from jax.flatten_util import ravel_pytree

from algorithms import Batch, RuleError
from algorithms.prediction_energy import clamp, descend, energy, first_error, first_state, slopes
from algorithms.predictive_coding import epc, ipc, pc
from lab.networks import conv, mlp

KEY = jax.random.key(0)
FAMILY = {"pc": pc, "ipc": ipc, "epc": epc}
WIDTHS = {"narrower": (7, 4), "wider": (4, 6)}  # the second block: with the cheap coordinates, and without


def task(*widths, act="tanh", scale=0.5, seed=0):
    """A network with random parameters, small enough for steps of 0.1 to be stable, and a batch of six."""
    net = mlp(*widths, act=act)((1, 5, 1), 3)
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(net.init, KEY)
    params = jax.tree.map(lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape)), shapes)
    return net, params, Batch(jnp.asarray(rng.random((6, 1, 5, 1))), jnp.asarray(rng.integers(0, 3, 6)))


def first_prediction(params, batch):
    """`u_1`, which no relaxation changes."""
    return jnp.asarray(forward(numpy_tree(params), batch.x, "tanh")[0][1])


def onehot(batch):
    return np.eye(3)[np.asarray(batch.y)]


def compare(W, states, act, precision):
    """Errors and f'(z) of all blocks, the last error times the precision; states are `h_0 .. h_L`."""
    f, slope = SLOPE[act]
    es, primes = [], []
    for i, block in enumerate(W.values()):
        z, last = states[i] @ block["kernel"] + block["bias"], i == len(W) - 1
        es.append((states[i + 1] - (z if last else f(z))) * (precision if last else 1))
        primes.append(np.ones_like(z) if last else slope(z))
    return es, primes


def energy_by_hand(W, states, act, precision=1.0):
    es, _ = compare(W, states, act, precision)
    return 0.5 * sum((e**2).sum() for e in es[:-1]) + 0.5 * (es[-1] ** 2).sum() / precision


def slopes_by_hand(W, states, act, precision=1.0):
    """dE/dh of every hidden state."""
    es, primes = compare(W, states, act, precision)
    kernels = [block["kernel"] for block in W.values()]
    return [es[i] - (es[i + 1] * primes[i + 1]) @ kernels[i + 1].T for i in range(len(es) - 1)]


def path_by_hand(W, batch, act, steps, rate, momentum=0.0, precision=1.0):
    """All states before the first step and after each."""
    states = [*forward(W, batch.x, act)[0][:-1], onehot(batch)]
    speed, path = [0.0] * (len(states) - 2), [states]
    for _ in range(steps):
        g = slopes_by_hand(W, states, act, precision)
        speed = [momentum * v - rate * d for v, d in zip(speed, g, strict=True)]
        states = [states[0], *(h + v for h, v in zip(states[1:-1], speed, strict=True)), states[-1]]
        path.append(states)
    return path


def learned_by_hand(W, states, act, precision=1.0):
    """Error signals and directions: dE/dz and dE/dW over batch size and precision."""
    es, primes = compare(W, states, act, precision)
    scale = 1 / (len(states[0]) * precision)
    delta = {name: -e * p * scale for name, e, p in zip(W, es, primes, strict=True)}
    local = {name: {"kernel": states[i].T @ delta[name], "bias": delta[name].sum(0)} for i, name in enumerate(delta)}
    return delta, local


def exact(net, params, batch):
    """Directions of backpropagation on the squared error, by autodiff."""

    def loss(params):
        h = batch.x
        for block in net.blocks:
            h = block.act(block.affine(params[block.name], h))
        return 0.5 * ((h - jax.nn.one_hot(batch.y, net.classes)) ** 2).sum() / len(h)

    return jax.jit(jax.grad(loss))(params)


def learned(rule, net, params, batch):
    """Direction, error signals and metrics of a rule without memory; compiled, which is faster here."""

    @jax.jit
    def all_three(params, batch):
        pseudo, state, metrics = rule.grads(KEY, net, params, {}, batch)
        assert state == {}
        return pseudo, rule.errors(KEY, net, params, {}, batch), metrics

    return all_three(params, batch)


def direction(rule, net, params, batch):
    return jax.jit(lambda params, batch: rule.grads(KEY, net, params, {}, batch)[0])(params, batch)


def relative(found, expected):
    """Norm of the difference of two trees over that of the second."""
    flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (found, expected)]
    return np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1])


# The energy and its slopes


@pytest.mark.parametrize("widths", [*WIDTHS.values(), (5,)])
def test_slopes_of_the_states_are_the_derivative_of_the_energy(widths, x64):
    net, params, batch = task(*widths)
    rng = np.random.default_rng(1)
    states = [np.asarray(batch.x).reshape(6, -1), *(rng.normal(size=(6, n)) for n in widths), onehot(batch)]
    W = numpy_tree(params)

    def of_states(hs):
        return energy(net, params, (batch.x, *hs), (*hs, states[-1]), 0.3)

    hs = tuple(map(jnp.asarray, states[1:-1]))
    value, derivative = jax.jit(jax.value_and_grad(of_states))(hs)
    assert float(value) == pytest.approx(energy_by_hand(W, states, "tanh", 0.3), rel=1e-12)
    expected = slopes_by_hand(W, states, "tanh", 0.3)
    assert_close(list(derivative), expected)
    u = first_prediction(params, batch)
    found = jax.jit(slopes(net, params, first_error(net, params, u), states[-1], 0.3))((hs[0] - u, *hs[1:]))
    assert_close(list(found), expected)


def test_a_narrower_second_block_moves_the_first_state_in_its_own_coordinates(x64):
    # h_1 = u_1 + c W', and what moves c, sent through W', is what moves h_1.
    net, params, batch = task(*WIDTHS["narrower"])
    W = params["dense2"]["kernel"]
    u = first_prediction(params, batch)
    rng = np.random.default_rng(1)
    c, h = jnp.asarray(rng.normal(size=(6, 4))), jnp.asarray(rng.normal(size=(6, 4)))
    cheap, plain = first_state(net, params, u), first_error(net, params, u)
    assert cheap.start.shape == (6, 4)
    assert_close(cheap.state(c), u + c @ W.T)
    target = clamp(net, batch)
    found = jax.jit(slopes(net, params, cheap, target, 0.3))((c, h))
    expected = jax.jit(slopes(net, params, plain, target, 0.3))((c @ W.T, h))
    assert_close((found[0] @ W.T, found[1]), expected)
    wider, params, batch = task(*WIDTHS["wider"])
    assert first_state(wider, params, jnp.zeros((6, 4))).start.shape == (6, 4)


def test_with_the_output_free_the_forward_pass_is_at_rest(x64):
    # Then no block has an error, so the representation that is compared is the resting point of the free network.
    net, params, batch = task(7, 4)
    hs, _ = forward(numpy_tree(params), batch.x, "tanh")
    first = first_error(net, params, jnp.asarray(hs[1]))
    found = jax.jit(slopes(net, params, first, jnp.asarray(hs[-1]), 1.0))((first.start, jnp.asarray(hs[2])))
    assert max(float(jnp.abs(g).max()) for g in found) < 1e-14  # roundings of numbers about 1
    shown = jax.jit(lambda params, x: pc().forward(net, params, {}, x))(params, batch.x)
    assert_close([*shown.hidden, shown.scores], hs[1:])


# pc


@pytest.mark.parametrize(("widths", "act"), [("narrower", "tanh"), ("wider", "relu")])
def test_three_steps_by_hand(widths, act, x64):
    net, params, batch = task(*WIDTHS[widths], act=act)
    rule = pc(steps=3, rate=0.2, momentum=0.4, precision=0.3)
    W = numpy_tree(params)
    path = path_by_hand(W, batch, act, 3, 0.2, 0.4, 0.3)
    delta, local = learned_by_hand(W, path[-1], act, 0.3)
    found, signals, metrics = learned(rule, net, params, batch)
    assert_close(found, local)
    assert_close(signals, delta)
    norms = [np.sqrt(sum((g**2).sum() for g in slopes_by_hand(W, states, act, 0.3))) for states in path]
    scores = forward(W, batch.x, act)[0][-1]
    assert float(metrics["residual"]) == pytest.approx(norms[-1] / norms[0], rel=1e-12)
    assert float(metrics["energy"]) == pytest.approx(energy_by_hand(W, path[-1], act, 0.3) / 6, rel=1e-12)
    assert float(metrics["loss"]) == pytest.approx(0.5 * ((scores - onehot(batch)) ** 2).sum() / 6, rel=1e-12)


def test_one_hidden_block(x64):
    net, params, batch = task(7)
    W = numpy_tree(params)
    states = path_by_hand(W, batch, "tanh", 4, 0.1)[-1]
    found = direction(pc(steps=4, rate=0.1, momentum=0, precision=1.0), net, params, batch)
    assert_close(found, learned_by_hand(W, states, "tanh")[1])


def test_a_sample_relaxes_alike_alone_and_in_a_batch(x64):
    # A step that is averaged over the batch would be six times too small here.
    net, params, batch = task(7, 4)
    rule = pc(steps=4)
    alone = jax.jit(lambda x, y: rule.grads(KEY, net, params, {}, Batch(x, y))[0])
    single = [numpy_tree(alone(batch.x[i : i + 1], batch.y[i : i + 1])) for i in range(len(batch.y))]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *single)
    assert_close(direction(rule, net, params, batch), mean)


def test_plain_descent_never_raises_the_energy(x64):
    # For steps below 2 over the largest curvature.
    net, params, batch = task(6, 5, 4)
    target, u = clamp(net, batch), first_prediction(params, batch)
    hs = forward(numpy_tree(params), batch.x, "tanh")[0]
    first = first_state(net, params, u)
    slope = slopes(net, params, first, target, 1.0)

    @jax.jit
    def one_step(states):
        full = (first.state(states[0]), *states[1:])
        return descend(slope, states, 1, 0.1), energy(net, params, (batch.x, *full), (*full, target))

    states, energies = (first.start, *map(jnp.asarray, hs[2:-1])), []
    for _ in range(40):
        states, value = one_step(states)
        energies.append(float(value))
    assert (np.diff(energies) < 0).all()
    metrics = learned(pc(steps=39, rate=0.1, momentum=0, precision=1.0), net, params, batch)[2]
    assert float(metrics["energy"]) == pytest.approx(energies[-1] / 6, rel=1e-12)


def largest_curvature(params, precision):
    """Of the energy in both hidden states of a chain of three linear blocks; it is the same everywhere."""
    _, W2, W3 = (np.asarray(params[name]["kernel"]) for name in ("dense1", "dense2", "output"))
    above = np.eye(len(W3)) + precision * W3 @ W3.T
    return np.linalg.eigvalsh(np.block([[np.eye(len(W2)) + W2 @ W2.T, -W2], [-W2.T, above]]))[-1]


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_states_settle_exactly_where_the_rate_is_below_the_bound_of_the_largest_curvature(momentum, x64):
    """A step multiplies the part of the slope with curvature c by the roots z of z² - (1 + m - rate c) z + m, which are
    inside the unit circle for `0 < rate c < 2 (1 + m)`, and one of them is -1 at the bound."""
    net, params, batch = task(7, 6, act="linear")
    bound = 2 * (1 + momentum) / largest_curvature(params, 0.3)
    below, above = (
        float(learned(pc(500, share * bound, momentum, 0.3), net, params, batch)[2]["residual"])
        for share in (0.95, 1.05)
    )
    assert below < 1e-3 < pc().info.tolerance
    assert above > 100


def test_ipc_lengthens_the_slope_only_where_its_states_run_away(x64):
    """Plain descent multiplies it by |1 - rate c| <= 1 up to the bound, so that it ends below the rule's tolerance."""
    net, params, batch = task(7, 6, act="linear")
    bound = 2 / largest_curvature(params, 1.0)
    for steps in (2, 8, 60):
        assert float(learned(ipc(steps, 0.999 * bound), net, params, batch)[2]["residual"]) < ipc().info.tolerance
    assert float(learned(ipc(300, 1.05 * bound), net, params, batch)[2]["residual"]) > ipc().info.tolerance


def test_with_too_few_steps_the_blocks_below_learn_nothing():
    net, params, batch = task(7, 6, 5)
    for steps, silent in ((1, ("dense1", "dense2")), (2, ("dense1",))):
        found = direction(pc(steps=steps), net, params, batch)
        for name in found:
            assert bool((found[name]["kernel"] == 0).all()) == (name in silent), (steps, name)


def test_small_steps_leave_a_block_with_a_power_of_the_rate(x64):
    # To first order states do not move, and the error of T small steps, k blocks below the output, is C(T, k) rate^k
    # of the backpropagated one; what is left is T rate = 5e-3 times a curvature.
    net, params, batch = task(7, 6, 5)
    found, full = direction(pc(steps=5, rate=1e-3, momentum=0), net, params, batch), exact(net, params, batch)
    for name, share in (("dense3", 5e-3), ("dense2", 10e-6), ("dense1", 10e-9)):
        assert relative(jax.tree.map(lambda g, share=share: g / share, found[name]), full[name]) < 2e-2


@dataclass
class Linear:
    """Three linear blocks, and the closed form of their energy at rest."""

    net: object
    params: dict
    batch: Batch
    precision: float

    def covariance(self, params):
        """Of the output, when every block's error has variance 1 and the last one's 1 / precision."""
        W2, W3 = params["dense2"]["kernel"], params["output"]["kernel"]
        return jnp.eye(3) / self.precision + W3.T @ W3 + W3.T @ W2.T @ W2 @ W3

    def error(self, params):
        h = self.batch.x.reshape(6, -1)
        for block in params.values():
            h = h @ block["kernel"] + block["bias"]
        return h - onehot(self.batch)

    def lowest(self, params):
        e = self.error(params)
        return 0.5 * jnp.sum(e * jnp.linalg.solve(self.covariance(params), e.T).T)


@pytest.mark.parametrize(("name", "precision"), [("pc", 1.0), ("epc", 0.1)])
def test_a_linear_network_at_rest_is_known_in_closed_form(name, precision, x64):
    linear = Linear(*task(7, 4, act="linear"), precision)
    net, params, batch = linear.net, linear.params, linear.batch
    rule = FAMILY[name](steps=600, rate=0.1, precision=precision)
    found, _, metrics = learned(rule, net, params, batch)
    assert float(metrics["residual"]) < 1e-12
    assert float(metrics["energy"]) == pytest.approx(float(linear.lowest(params)) / 6, rel=1e-12)
    slope = jax.tree.map(lambda g: g / (6 * precision), jax.grad(linear.lowest)(params))
    assert_close(found, slope, rtol=1e-11)
    # The first block learns by backpropagation of S^-1 e in the place of e. The others also see moved states.
    sent = np.linalg.solve(np.asarray(linear.covariance(params)), np.asarray(linear.error(params)).T).T / (
        6 * precision
    )
    back = sent @ np.asarray(params["output"]["kernel"]).T @ np.asarray(params["dense2"]["kernel"]).T
    expected = {"kernel": np.asarray(batch.x).reshape(6, -1).T @ back, "bias": back.sum(0)}
    assert_close(found["dense1"], expected, rtol=1e-11)
    assert relative(found, exact(net, params, batch)) > 0.05


def test_it_tends_to_backpropagation_as_the_output_precision_goes_to_zero(x64):
    net, params, batch = task(7, 4)
    full = exact(net, params, batch)
    off = [
        relative(direction(pc(steps=1500, rate=0.1, precision=p), net, params, batch), full) for p in (0.1, 0.01, 1e-3)
    ]
    # The error is a power series in the precision without a constant.
    assert 0.05 < off[0] < 0.5
    assert off[0] / off[1] == pytest.approx(10, rel=0.3)
    assert off[1] / off[2] == pytest.approx(10, rel=0.05)


def test_it_does_not_as_the_target_is_moved_towards_the_prediction(x64):
    # The other way to make errors small. All states then stay where the network is linear, and what arrives is, sample
    # by sample, S^-1 e where backpropagation has e; S = 1 + Σ J J', J the slopes of the output by every state.
    net, params, batch = task(7, 4, scale=1.0)
    W, full = numpy_tree(params), exact(net, params, batch)
    hs = forward(W, batch.x, "tanh")[0]
    slope1, slope2, W2, W3 = 1 - hs[1] ** 2, 1 - hs[2] ** 2, W["dense2"]["kernel"], W["output"]["kernel"]
    J2 = np.einsum("im,nm,mo->noi", W2, slope2, W3)  # by h_1; by h_2 it is W3'
    S = np.eye(3) + W3.T @ W3 + J2 @ J2.transpose(0, 2, 1)
    sent = np.linalg.solve(S, (hs[3] - onehot(batch))[:, :, None])[:, :, 0] / 6
    delta = [(sent @ W3.T * slope2) @ W2.T * slope1, sent @ W3.T * slope2, sent]
    limit = {name: {"kernel": h.T @ d, "bias": d.sum(0)} for name, h, d in zip(W, hs, delta, strict=False)}

    @jax.jit
    def nudged(target):
        first = first_state(net, params, jnp.asarray(hs[1]))
        slope = slopes(net, params, first, target, 1.0)
        c, h2 = descend(slope, (first.start, jnp.asarray(hs[2])), 3000, 0.05, 0.7)
        rest = (first.state(c), h2)
        return jax.grad(lambda p: energy(net, p, (batch.x, *rest), (*rest, target)))(params)

    off = {name: [] for name in W}
    for beta in (1.0, 0.1, 0.01, 0.001):
        found = jax.tree.map(lambda g, beta=beta: g / (6 * beta), nudged(hs[3] + beta * (onehot(batch) - hs[3])))
        for name in W:
            off[name].append(relative(found[name], limit[name]))
            # The least eigenvalue of S - 1 is that of W3' W3 at the least, so that no error arrives longer than
            # e / (1 + mu); half of what a block then lacks is allowed for errors of several samples that add up.
            mu = np.linalg.eigvalsh(W3.T @ W3).min()
            assert relative(found[name], full[name]) > 0.5 * mu / (1 + mu), (name, beta)
    for name, (_, _, one, tenth) in off.items():
        assert one / tenth == pytest.approx(10, rel=0.1), name  # the limit, up to a power series in beta
        assert relative(limit[name], full[name]) > 0.3, name


def test_a_perfect_prediction_leaves_nothing_to_learn_and_a_residual_of_zero():
    # Not 0 / 0. Single precision: e is the difference of two numbers about 1, computed by two programs.
    net, params, batch = task(7, 4)
    params["output"] = {"kernel": jnp.zeros((4, 3)), "bias": jnp.array([0.0, 1.0, 0.0])}
    batch = Batch(batch.x, jnp.ones_like(batch.y))
    found, _, metrics = learned(pc(steps=2), net, params, batch)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves((found, metrics))) < 1e-4


# epc


def errors_by_autodiff(net, params, batch, steps, rate, precision, momentum=0.0):
    """States after descending the energy as a function of the errors, by autodiff."""
    target = jax.nn.one_hot(batch.y, net.classes)

    def states(es):
        hs = [batch.x]
        for block, e in zip(net.blocks, (*es, 0.0), strict=True):
            hs.append(block.act(block.affine(params[block.name], hs[-1])) + e)
        return hs[1:-1], hs[-1]

    def of_errors(es):
        return 0.5 * sum((e**2).sum() for e in es) + 0.5 * precision * ((target - states(es)[1]) ** 2).sum()

    es = [jnp.zeros_like(h) for h in states([0.0] * (len(net.blocks) - 1))[0]]
    speed, slope = [jnp.zeros_like(e) for e in es], jax.jit(jax.grad(of_errors))
    for _ in range(steps):
        speed = [momentum * v - rate * g for v, g in zip(speed, slope(es), strict=True)]
        es = [e + v for e, v in zip(es, speed, strict=True)]
    return states(es)[0]


@pytest.mark.parametrize("widths", [*WIDTHS.values(), (5,), (6, 5, 4)])
def test_errors_descend_the_energy_through_the_whole_chain(widths, x64):
    net, params, batch = task(*widths)
    hs = errors_by_autodiff(net, params, batch, 3, 0.2, 0.3, 0.4)
    states = [np.asarray(batch.x).reshape(6, -1), *map(np.asarray, hs), onehot(batch)]
    delta, local = learned_by_hand(numpy_tree(params), states, "tanh", 0.3)
    rule = epc(steps=3, rate=0.2, momentum=0.4, precision=0.3)
    found, signals, _ = learned(rule, net, params, batch)
    assert_close(found, local)
    assert_close(signals, delta)


def test_one_step_of_the_errors_reaches_the_first_block_at_full_strength(x64):
    # From errors of zero one step is the rate times backpropagation, and the input does not move.
    net, params, batch = task(6, 5, 4)
    found = direction(epc(steps=1, rate=0.25, precision=0.1), net, params, batch)
    assert_close(found["dense1"], jax.tree.map(lambda g: 0.25 * g, exact(net, params, batch)["dense1"]))


def test_errors_and_states_come_to_rest_at_one_point(x64):
    net, params, batch = task(6, 5, 4)
    states, _, metrics = learned(pc(steps=2500, rate=0.1, precision=1.0), net, params, batch)
    assert float(metrics["residual"]) < 1e-12
    errors, _, metrics = learned(epc(steps=2500, rate=0.1, precision=1.0), net, params, batch)
    assert float(metrics["residual"]) < 1e-12
    assert_close(errors, states, rtol=1e-10)


# ipc


@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
def test_incremental_weights_learn_at_every_step(widths, x64):
    net, params, batch = task(*widths)
    W = numpy_tree(params)
    path = path_by_hand(W, batch, "tanh", 3, 0.2)
    each = [learned_by_hand(W, states, "tanh") for states in path[:-1]]
    delta, local = jax.tree.map(lambda *leaves: sum(leaves) / 3, *each)
    rule = ipc(steps=3, rate=0.2)
    found, signals, metrics = learned(rule, net, params, batch)
    assert_close(found, local)
    assert_close(signals, delta)
    energies = [energy_by_hand(W, states, "tanh") / 6 for states in path[:-1]]
    assert float(metrics["energy"]) == pytest.approx(np.mean(energies), rel=1e-12)
    first, last = (
        np.sqrt(sum((g**2).sum() for g in slopes_by_hand(W, states, "tanh"))) for states in (path[0], path[2])
    )
    assert float(metrics["residual"]) == pytest.approx(last / first, rel=1e-12)


def moving_together(W, batch, steps, rate, learning_rate):
    """The algorithm of the paper: at every step states and weights go down the energy from where they both are."""
    states, energies = [*forward(W, batch.x, "tanh")[0][:-1], onehot(batch)], []
    for _ in range(steps):
        energies.append(energy_by_hand(W, states, "tanh"))
        g, (_, local) = slopes_by_hand(W, states, "tanh"), learned_by_hand(W, states, "tanh")
        states = [states[0], *(h - rate * d for h, d in zip(states[1:-1], g, strict=True)), states[-1]]
        W = jax.tree.map(lambda w, d: w - learning_rate * d, W, local)
    return W, energies


def test_with_weights_and_states_moving_at_once_the_energy_falls_and_the_direction_is_the_same_to_first_order(x64):
    net, params, batch = task(7, 4)
    W = numpy_tree(params)
    found = direction(ipc(steps=6, rate=0.1), net, params, batch)
    off = []
    for learning_rate in (0.02, 0.01):
        after, energies = moving_together(W, batch, 6, 0.1, learning_rate)
        assert (np.diff(energies) < 0).all()
        step = jax.tree.map(lambda w, v, eta=learning_rate: (w - v) / (6 * eta), W, after)
        off.append(relative(step, found))
    assert off[1] < 0.1
    assert off[0] / off[1] == pytest.approx(2, rel=0.05)  # what is left is linear in the learning rate


def test_the_incremental_rule_lowers_the_energy_by_its_states_and_by_every_block_of_weights(x64):
    net, params, batch = task(6, 5, 4)

    # The metric is the mean over the path, so the energy at step t is t times it less t - 1 times that of a path
    # shorter by one. Descent with steps below 2 over the largest curvature lowers it.
    def met(steps):
        return jax.jit(lambda params: ipc(steps, rate=0.1).grads(KEY, net, params, {}, batch)[2]["energy"])(params)

    sums = np.array([0.0, *(steps * float(met(steps)) for steps in (1, 2, 3, 4))])
    assert (np.diff(sums, 2) < 0).all()
    # Small steps of the states leave them near the forward pass, where the energy is the squared error and what a block
    # hears is a positive multiple of its gradient, times a power of the rate: each block alone lowers the energy.
    rule = ipc(steps=6, rate=0.02)
    learn = jax.jit(lambda params: rule.grads(KEY, net, params, {}, batch))
    pseudo, _, before = learn(params)
    for name, own in pseudo.items():
        length = ravel_pytree(own)[0]
        moved = jax.tree.map(lambda W, d, length=length: W - 1e-3 * d / jnp.linalg.norm(length), params[name], own)
        assert float(learn({**params, name: moved})[2]["energy"]) < float(before["energy"]), name
    energies = []
    for _ in range(20):
        pseudo, _, metrics = learn(params)
        energies.append(float(metrics["energy"]))
        params = jax.tree.map(lambda W, d: W - 0.05 * d, params, pseudo)
    assert (np.diff(energies) < 0).all()


def test_the_first_incremental_step_is_that_of_the_readout_alone(x64):
    net, params, batch = task(7, 4)
    found = direction(ipc(steps=1), net, params, batch)
    assert_close(found["output"], exact(net, params, batch)["output"])
    assert all((leaf == 0).all() for name in ("dense1", "dense2") for leaf in jax.tree.leaves(found[name]))


# Other networks, and refusals


@dataclass(frozen=True)
class Shortcut:
    """A composite block: `h + tanh(h W) V`."""

    name: str
    kind: str = "shortcut"
    plain: bool = False
    act_name: str = "tanh"
    batch_norm: bool = False

    def affine(self, params, h):
        h = h.reshape(len(h), -1)
        return h + jnp.tanh(h @ params["inner"]["kernel"]) @ params["outer"]["kernel"]

    def act(self, z):
        return z


@dataclass(frozen=True)
class Chain:
    blocks: tuple
    input_shape: tuple
    classes: int

    def init(self, key):
        raise NotImplementedError


def composite():
    """Two shortcuts around a dense block."""
    dense, _, output = mlp(5, 5, act="tanh")((1, 5, 1), 3).blocks
    net = Chain((Shortcut("shortcut1"), dense, Shortcut("shortcut2"), output), (1, 5, 1), 3)
    rng = np.random.default_rng(5)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape) / 3)  # noqa: E731
    short = lambda: {"inner": {"kernel": draw(5, 4)}, "outer": {"kernel": draw(4, 5)}}  # noqa: E731
    params = {
        "shortcut1": short(),
        "dense1": {"kernel": draw(5, 5), "bias": draw(5)},
        "shortcut2": short(),
        "output": {"kernel": draw(5, 3), "bias": draw(3)},
    }
    return net, params, Batch(jnp.asarray(rng.random((4, 1, 5, 1))), jnp.asarray([0, 1, 2, 1]))


def convolutional(*channels):
    net = conv(*channels, dense=(5,), kernel=3, act="tanh")((10, 10, 1), 4)
    rng = np.random.default_rng(6)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 4), net.init(KEY))
    return net, params, Batch(jnp.asarray(rng.random((3, 10, 10, 1))), jnp.asarray([3, 1, 0]))


NETWORKS = {
    "composite": composite,
    "conv": lambda: convolutional(2, 3),
    "conv, then a narrower dense": lambda: convolutional(2),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pc", "composite"),
        ("ipc", "composite"),
        ("epc", "composite"),
        ("pc", "conv, then a narrower dense"),
        pytest.param("pc", "conv", marks=pytest.mark.slow),
    ],
)
def test_any_block_is_a_prediction_of_its_output_from_its_input(name, kind, x64):
    net, params, batch = NETWORKS[kind]()
    target = jax.nn.one_hot(batch.y, net.classes)

    def whole(params, hs, precision):
        es = [
            up - block.act(block.affine(params[block.name], h))
            for block, h, up in zip(net.blocks, (batch.x, *hs), (*hs, target), strict=True)
        ]
        return 0.5 * sum((e**2).sum() for e in es[:-1]) + 0.5 * precision * (es[-1] ** 2).sum()

    precision = 1.0 if name == "ipc" else 0.3
    hs = list(jax.jit(lambda params, x: pc().forward(net, params, {}, x).hidden)(params, batch.x))
    path = [hs]
    slope = jax.jit(jax.grad(whole, 1))
    for _ in range(2):
        hs = [h - 0.2 * g for h, g in zip(hs, slope(params, hs, precision), strict=True)]
        path.append(hs)
    if name == "ipc":
        rule, used = ipc(steps=3, rate=0.2), path
    elif name == "pc":
        rule, used = pc(steps=2, rate=0.2, momentum=0, precision=0.3), path[-1:]
    else:
        rule, used = (
            epc(steps=2, rate=0.2, momentum=0, precision=0.3),
            [errors_by_autodiff(net, params, batch, 2, 0.2, 0.3)],
        )
    by_params = jax.jit(jax.grad(whole))
    each = [by_params(params, list(hs), precision) for hs in used]
    expected = jax.tree.map(lambda *g: sum(g) / (len(g) * len(batch.y) * precision), *each)
    # After two steps no error has come to the lowest of four blocks: what it has is rounding, small beside the others.
    assert_close(*(ravel_pytree(tree)[0] for tree in (direction(rule, net, params, batch), expected)))


@pytest.mark.parametrize("name", FAMILY)
def test_nothing_is_remembered_from_batch_to_batch(name):
    # Momentum, too, starts from rest.
    net, params, batch = task(7, 4)
    rule = FAMILY[name](steps=2)
    step = jax.jit(lambda state, key: rule.grads(key, net, params, state, batch))
    first, state, _ = step(rule.init(KEY, net, params, batch), KEY)
    again, _, _ = step(state, jax.random.key(9))
    assert same_bits(first, again)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [(name, "steps", value) for name in FAMILY for value in (0, -1, 2.0, True, "many")]
    + [(name, "rate", value) for name in FAMILY for value in (0, -0.1, float("nan"), float("inf"), "fast")]
    + [(name, "precision", value) for name in ("pc", "epc") for value in (0, -1.0, float("nan"))]
    + [(name, "momentum", value) for name in ("pc", "epc") for value in (-0.1, 1.0, 1.5, float("nan"))],
)
def test_a_setting_out_of_reach_is_refused(name, setting, value):
    with pytest.raises(RuleError, match=f"{name}: {setting}"):
        FAMILY[name](**{setting: value})


@pytest.mark.parametrize("name", FAMILY)
def test_a_network_without_a_state_to_move_is_refused(name):
    net = mlp()((1, 5, 1), 3)
    params, batch = net.init(KEY), Batch(jnp.zeros((2, 1, 5, 1)), jnp.zeros(2, jnp.int32))
    with pytest.raises(RuleError, match=r"hidden layer; use --arch 'mlp\(256,128\)'"):
        FAMILY[name]().init(KEY, net, params, batch)


def test_passes_are_counted_for_the_steps_asked_for():
    # Forward; per step forward and backward to the states; backward to the weights of every block on its own.
    assert pc(steps=7).info.passes.startswith("16 ")
    assert epc(steps=7).info.passes.startswith("16 ")
    assert ipc(steps=7).info.passes.startswith("22 ")
