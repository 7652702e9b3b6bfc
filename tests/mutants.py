"""The defects that `python -m tests.mutate` plants: one line each, of the kinds that credit assignment is prone to."""

from __future__ import annotations

from typing import NamedTuple

I = "tests/identities/"


class Mutant(NamedTuple):
    """One planted defect.

    Attributes:
        file: where; defect: what it is, in words.
        line: text that stands there exactly once; instead: what is put in its place.
        tests: the test files that have to notice, or single tests of theirs (`file.py::test_name`).
    """

    file: str
    defect: str
    line: str
    instead: str
    tests: tuple[str, ...]


def of(file: str, *tests: str, room: str = "algorithms"):
    """Mutants of one file, which the same tests have to notice."""
    return lambda defect, line, instead: Mutant(f"{room}/{file}.py", defect, line, instead, tests)


backprop = of("backprop", f"{I}test_transport.py", f"{I}test_predictive_coding_exact.py")
transport = of("transport", f"{I}test_transport.py")
feedback = of("feedback", f"{I}test_feedback.py", f"{I}test_sign_symmetry.py", f"{I}test_transport.py")
direct = of("direct_feedback", f"{I}test_direct_feedback.py", f"{I}test_feedback.py", f"{I}test_transport.py")
learned = of("learned_feedback", f"{I}test_learned_feedback.py")
controls = of("controls", f"{I}test_controls.py", f"{I}test_transport.py")
forward = of("forward_forward", f"{I}test_forward_forward.py")
channels = of("channelwise", f"{I}test_channelwise.py")
pepita = of("pepita", f"{I}test_pepita.py")
coding = of("prediction_energy", f"{I}test_predictive_coding.py")
states = of("predictive_coding", f"{I}test_predictive_coding.py")
exact = of("predictive_coding_exact", f"{I}test_predictive_coding_exact.py")
equilibrium = of("equilibrium", f"{I}test_equilibrium.py")
hebbian_contrast = of("contrastive_hebbian", f"{I}test_equilibrium.py")
hebbian = of("hebbian", f"{I}test_hebbian.py")
evolution = of("evolution", f"{I}test_evolution.py")
nodes = of("perturbation", f"{I}test_perturbation.py")
slopes = of("forward_gradient", f"{I}test_perturbation.py")
targets = of("target_propagation", f"{I}test_target_propagation.py")
differences = of("difference_reconstruction", f"{I}test_target_propagation.py")
local = of("local_losses", f"{I}test_local_losses.py")
bottleneck = of("hsic", f"{I}test_hsic.py")
views = of("blockwise", f"{I}test_blockwise.py")
contract = of("rule", f"{I}test_transport.py", f"{I}test_predictive_coding_exact.py")
training = of(
    "training", "tests/training/test_stretches.py::test_the_optimiser_moves_no_fixed_feedback_weights", room="lab"
)
chain = of("rule", f"{I}test_backprop.py")


def reference(file: str, line: str, instead: str):
    """A mutant of what directions are compared with."""
    return of(file, f"{I}test_objectives.py")("a reference for another loss", line, instead)


MUTANTS = (
    backprop("one loss for all its twins", "mean_loss(loss, forward_pass", 'mean_loss("ce", forward_pass'),
    backprop("nothing is heard of the error signals", "batch.x, taps)[-1]", "batch.x)[-1]"),
    transport("the way back through the forward weights", "back(x, B).reshape", "back(x, W).reshape"),
    transport("weights learn from the sign of their input", "jax.vjp(lambda W: op(x, W), W)[1]", "jax.vjp(lambda W: op(jnp.sign(x), W), W)[1]"),
    transport("B takes part in the derivative", "dx, dW, jnp.zeros_like(B)", "dx, dW, dW"),
    transport("the first block gets feedback weights too", "if block is not first or not block.plain", "if block.plain"),
    contract("taps count twice", "z = z + taps[block.name]", "z = z + 2 * taps[block.name]"),
    contract("squared error without its half", "return 0.5 * jnp.sum((scores", "return 1.0 * jnp.sum((scores"),
    training("the optimiser moves feedback weights too", "rule_state=rule_state,", "rule_state=optax.apply_updates(rule_state, self.optimizer.update(rule_state, self.optimizer.init(rule_state), rule_state)[0]),"),
    feedback("feedback weights redrawn", "lambda key, params, B: B))", "lambda key, params, B: jax.tree.map(lambda b: b * jax.random.normal(key, b.shape), B)))"),
    feedback("feedback weights without their scale", "lambda B: scale * B, second_draw", "lambda B: B, second_draw"),
    feedback("signs with the wrong sign", "jnp.where(W < 0, -1, 1)", "jnp.where(W < 0, 1, -1)"),
    feedback("signs taken of the magnitudes", "lambda s, W: s * signs(W)", "lambda s, W: s * jnp.ones_like(W)"),
    feedback("magnitudes that are signed", "lambda s, R: s * abs(R)", "lambda s, R: s * R"),
    feedback("feedback in the place of zeros has variance 1 / fan-out", "math.sqrt(B.size / B.shape[-1])", "math.sqrt(B.shape[-1])"),
    feedback("magnitudes are squared", "lambda s, W: s * signs(W)", "lambda s, W: s**2 * signs(W)"),
    direct("the chain is not cut between blocks", "link=jax.lax.stop_gradient)\n    shortcut =", ")\n    shortcut ="),
    direct("the error in the place of its sign", "lambda e, target: jnp.sign(e)", "lambda e, target: e"),
    direct("the target with the wrong sign", "lambda e, target: -target", "lambda e, target: target"),
    direct("signals of the batch, not per sample", "return signal(n * error, target) / n", "return signal(error, target)"),
    direct("matrices not scaled by the classes", "/ math.sqrt(net.classes)\n", "/ net.classes\n"),
    learned("feedback weights that do not decay", "B + (u - decay * B)", "B + u"),
    learned("feedback weights step against the forward ones", "B + (u - decay * B)", "B - (u + decay * B)"),
    learned("forward weights that do not decay", "lambda u, W: u - decay * W", "lambda u, W: u"),
    learned("the mirror's step has the wrong sign", "B + (rate * M - decay * B)", "B - (rate * M + decay * B)"),
    learned("the mirror forgets how many samples it saw", "(len(x) * count(", "(1 * count("),
    learned("the product's learning half sees Q transposed away", "u @ Q.T - decay * R", "0 * u @ Q.T - decay * R"),
    learned("direct feedback climbs", "B - (rate * G + decay * B)", "B + (rate * G - decay * B)"),
    controls("frozen blocks get the error", "hs = forward_pass(net, params, batch.x, taps, link=jax.lax.stop_gradient)", "hs = forward_pass(net, params, batch.x, taps)"),
    controls("the true labels in the place of random ones", "return Batch(batch.x, random_labels(", "return Batch(batch.x, batch.y + 0 * random_labels("),
    controls("lazy loss not divided by alpha squared", "return value / alpha**2, {", "return value / alpha, {"),
    controls("lazy scores not centred", "alpha * (logits - forward_pass", "alpha * (logits - 0 * forward_pass"),
    forward("layers are not cut apart", "return goodness_rule(FF, jax.lax.stop_gradient,", "return goodness_rule(FF, identity,"),
    forward("false labels may be the true ones", "jnp.where(own, -jnp.inf, z)", "jnp.where(own, z, z)"),
    forward("length is passed on", "return h / jnp.sqrt(jnp.mean(", "return h / jnp.sqrt(0 * jnp.mean("),
    forward("goodness rises on false labels", "jax.nn.softplus(level - true) + jax.nn.softplus(false - level)", "jax.nn.softplus(level - false) + jax.nn.softplus(true - level)"),
    forward("the pair is swapped", "-alpha * (true - false)", "-alpha * (false - true)"),
    channels("blocks are not cut apart", "link=lambda h: normalise(jax.lax.stop_gradient(h))", "link=normalise"),
    channels("the goodness of larger groups counts more", "member / member.sum(0)", "member"),
    channels("the label's own group, though classes share groups", "groups_of(classes, g.shape[1])[y]", "jnp.minimum(y, g.shape[1] - 1)"),
    pepita("the first pass in the outer product", 'products(net, params, [*differences, e_mod], hs_mod)', 'products(net, params, [*differences, e_mod], hs)'),
    pepita("the error is taken away from the input", "modulated = batch.x + (e", "modulated = batch.x - (e"),
    pepita("differences with the wrong sign", "[h - h_mod for h, h_mod", "[h_mod - h for h, h_mod"),
    pepita("the second pass drops no units", "hs_mod = masked_pass(net, params, modulated, masks)", "hs_mod = masked_pass(net, params, modulated, [1.0] * len(masks))"),
    coding("the states climb", "s - rate * g, s, slope(s)", "s + rate * g, s, slope(s)"),
    coding("a state does not feel the error above", "found.append(e - pull(e_above)[0])", "found.append(e)"),
    coding("precision on every error", "(precision if i == len(above) else 1.0)", "(precision if i else 1.0)"),
    coding("the second block hears half of what the first state moves by", "z + c @ gram", "z + 0.5 * c @ gram"),
    states("the states move without momentum", "steps, rate, momentum)\n        hs = (first.state(c), *rest)", "steps, rate)\n        hs = (first.state(c), *rest)"),
    states("weights learn without the precision that states moved with", "hs = (first.state(c), *rest)\n        value = energy(net, params, (batch.x, *hs), (*hs, target), precision, taps)", "hs = (first.state(c), *rest)\n        value = energy(net, params, (batch.x, *hs), (*hs, target), 1.0, taps)"),
    states("incremental weights learn one step late", "s - rate * g, states, slope(states)), states", "s - rate * g, states, slope(states)), jax.tree.map(lambda s, g: s - rate * g, states, slope(states))"),
    states("incremental states climb", "s - rate * g, states, slope(states)), states", "s + rate * g, states, slope(states)), states"),
    states("the output pulls on errors at full precision", "pull(precision * (target - u))", "pull(target - u)"),
    exact("Z-IL's front moves against the error", "u + pull(targets[0] - above)", "u - pull(targets[0] - above)"),
    exact("one step of the errors too few", "len(us) if steps is None else steps", "len(us) - 2 if steps is None else steps"),
    equilibrium("the pull pushes", "strengths, coefficients = np.array([beta, -beta]), np.array([0.5, -0.5]) / beta", "strengths, coefficients = np.array([beta, -beta]), np.array([-0.5, 0.5]) / beta"),
    equilibrium("no way down", "z + feedback * (s[i + 1] @ above.T)", "z + 0 * feedback * (s[i + 1] @ above.T)"),
    equilibrium("the contrast is not divided by the pull", "np.array([1.0, -1.0]) / beta", "np.array([1.0, -1.0])"),
    equilibrium("layers not weighed by the weak feedback", "scale = feedback ** (i + 1 - len(net.blocks)) / n", "scale = 1 / n"),
    hebbian_contrast("clamped activity is unlearned", "np.array([1.0, -1.0]))", "np.array([-1.0, 1.0]))"),
    hebbian_contrast("the way down at full strength", "CLAMPED, gamma,", "CLAMPED, 1.0,"),
    hebbian_contrast("the lengths of the phases change places", "gamma, free_steps, clamped_steps", "gamma, clamped_steps, free_steps"),
    hebbian("no decay of what has won", "layer.x.T @ y - W * jnp.sum(y * (layer.z - p[\"bias\"]), axis=0)", "layer.x.T @ y"),
    hebbian("Sanger inhibits upwards", "principal(SANGER, jnp.triu)", "principal(SANGER, jnp.tril)"),
    hebbian("Oja climbs", '{"kernel": -grown / len(y), "bias": mean}', '{"kernel": grown / len(y), "bias": mean}'),
    evolution("both trials on one side", "jnp.stack([at(sigma), at(-sigma)])", "jnp.stack([at(sigma), at(sigma)])"),
    evolution("not divided by the number of pairs", "(2 * pairs * sigma)", "(2 * sigma)"),
    evolution("one perturbation for all pairs", "offsets = jnp.arange(pairs) * (", "offsets = 0 * jnp.arange(pairs) * ("),
    evolution("the pass that centres is not counted", "{2 * pairs + centre}", "{2 * pairs}"),
    nodes("one number for the whole batch", "per_sample(change / (sigma * len(batch.y)), noise)", "per_sample(0 * change + change.mean() / (sigma * len(batch.y)), noise)"),
    nodes("the same noise for every block", "keys = jax.random.split(key, len(leaves))", "keys = [key] * len(leaves)"),
    nodes("the slope of a two-sided step as of a one-sided", "slope = (plus - minus) / (2 * sigma)", "slope = (plus - minus) / sigma"),
    slopes("the slope along one draw credits another", "slope = slopes(v)", "slope = slopes(draw(jax.random.fold_in(k, 1), moved))"),
    slopes("summed over the batch, not averaged", "per_sample(d / len(batch.y), v[name])", "per_sample(d, v[name])"),
    slopes("blocks are not cut apart", "forward_pass(net, params, batch.x, taps, link=jax.lax.stop_gradient)", "forward_pass(net, params, batch.x, taps)"),
    slopes("heads begin too large", "/ math.sqrt(units)", "/ math.sqrt(net.classes)"),
    targets("targets beyond the loss", "top = -step * pull(jnp.ones_like(values))[0]", "top = step * pull(jnp.ones_like(values))[0]"),
    targets("targets without the difference", "return inverse(below, weights, h + d) - inverse(below, weights, h)", "return inverse(below, weights, h + d)"),
    targets("derivatives flow into targets", "ds = jax.lax.stop_gradient(displacements(", "ds = list(displacements("),
    targets("inverses learn the wrong pair", "above = block.act(block.affine(params[block.name], h))\n", "above = block.act(block.affine(params[block.name], hs[i - 1]))\n"),
    differences("feedback climbs what it should descend", "- 2 * (xi * g(response)).sum()", "+ 2 * (xi * g(response)).sum()"),
    differences("a response without its nonlinearity", "block.act(block.affine(params[block.name], hs[i - 1] + xi)) - hs[i]", "block.affine(params[block.name], hs[i - 1] + xi) - hs[i]"),
    differences("one step of the feedback, however many are asked for", "optimizer, state, iterations)", "optimizer, state, 1)"),
    local("blocks are not cut apart", "*hidden, scores = forward_pass(net, params, batch.x, taps, link=jax.lax.stop_gradient)\n        total = jnp.zeros((), scores.dtype)\n        for block, h in zip(net.blocks, hidden, strict=False):\n            head = state", "*hidden, scores = forward_pass(net, params, batch.x, taps)\n        total = jnp.zeros((), scores.dtype)\n        for block, h in zip(net.blocks, hidden, strict=False):\n            head = state"),
    local("similarity without centring", "c = h - h.mean(1, keepdims=True)", "c = h"),
    local("similarity pulled with half its force", "4 * (pulled - V @ shared)", "4 * pulled - 2 * V @ shared"),
    local("the two losses change their weights", '"predsim": (1 - beta, beta)', '"predsim": (beta, 1 - beta)'),
    local("feature maps are compared place by place", 'spread(h @ head["sim"].T)', '(h @ head["sim"].T).reshape(len(h), -1)'),
    local("heads that do not learn", '"heads": optax.apply_updates(state["heads"], updates)', '"heads": state["heads"]'),
    bottleneck("blocks are not cut apart", "forward_pass(net, params, batch.x, taps, link=jax.lax.stop_gradient)", "forward_pass(net, params, batch.x, taps)"),
    bottleneck("the input is kept and the label forgotten", "between(K, x) - beta * between(K, y)", "beta * between(K, y) - between(K, x)"),
    bottleneck("wider layers have narrower kernels", "(2 * sigma**2 * flat.shape[1])", "(2 * sigma**2)"),
    views("blocks are not cut apart", "forward_pass(net, params, views, taps, link=jax.lax.stop_gradient)", "forward_pass(net, params, views, taps)"),
    views("one distortion for both views", "for k in jax.random.split(key)]", "for k in (key, key)]"),
    views("nothing is zoomed", "1 + ZOOM * strength * u[0]", "1 + 0 * u[0]"),
    views("height and width are zoomed alike", "ZOOM * strength * u[2]", "ZOOM * strength * u[0]"),
    views("the readout teaches the top block", "jax.lax.stop_gradient(forward_pass(net, params, batch.x)[-2])", "forward_pass(net, params, batch.x)[-2]"),
    chain("every chain is cut", "link(h) if i else h)", "link(jax.lax.stop_gradient(h)) if i else h)"),
    reference("rule", "return mean_loss(loss, plain_forward(", 'return mean_loss("ce", plain_forward('),
    reference("backprop", "objective=objective_of(loss)", 'objective=objective_of("ce")'),
    reference("feedback", "Rule(info=info, grads=grads, errors=errors, init=init, objective=objective_of(loss)", 'Rule(info=info, grads=grads, errors=errors, init=init, objective=objective_of("ce")'),
    reference("direct_feedback", "init=init, objective=objective_of(loss)", 'init=init, objective=objective_of("ce")'),
    reference("learned_feedback", "info=replace(WM, loss=loss), grads=grads, errors=errors, init=init, objective=objective_of(loss)", 'info=replace(WM, loss=loss), grads=grads, errors=errors, init=init, objective=objective_of("ce")'),
    reference("predictive_coding", 'init=needs_hidden("pc"), objective=objective_of("mse")', 'init=needs_hidden("pc"), objective=objective_of("ce")'),
    reference("evolution", "objective=objective_of(loss)", 'objective=objective_of("ce")'),
    reference("perturbation", "info=replace(WP, loss=loss), grads=grads, objective=objective_of(loss)", 'info=replace(WP, loss=loss), grads=grads, objective=objective_of("ce")'),
)  # fmt: skip
