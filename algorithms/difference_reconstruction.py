"""Learning backprop targets: target propagation whose feedback is taught to be the transposed Jacobian.

Target propagation (`target_propagation.py`) sends targets down through feedback maps `g_l`:
`t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l)`. Are they inverses of the blocks, targets differ from what gradient descent
would ask for. Ernoult et al. (2022) asked what else they could learn, by means that are as local, and found a loss
whose minimum is the transpose of the block's Jacobian, `J_gᵀ = J_f`; then the displacements `t_l - h_l` are
backpropagation's.

Two noises are sent through a block and its feedback map. What comes up from a disturbance xi of the block's input goes
back down through g_l and should resemble xi; a disturbance eta of the block's output, sent down alone, should come to
little. For small noise of variance s² the mean of this *local difference reconstruction loss* is

    E ||J_g eta||² - 2 E xi · J_g J_f xi  =  s² (||J_g||² - 2 <J_gᵀ, J_f>)  =  s² ||J_gᵀ - J_f||² + const

so nothing but responses to noise tells the feedback weights about the forward weights. The weight mirror
(`learned_feedback.py`) finds the transpose from noise, too, but by correlation and decay, not down a loss.

What is known to matter: how many steps the feedback makes for each of the forward weights, and its own learning rate:
it follows a target that moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import optax
from jaxtyping import Array

from algorithms.feedback import second_draw
from algorithms.rule import LOSSES, Batch, Block, Net, Params, Rule, RuleInfo, forward_pass, objective_of
from algorithms.settings import choice, number, require_plain, whole
from algorithms.target_propagation import feedback_first, learn, noise_like, towards_targets, transposed
from algorithms.transport import with_feedback


def ldrl(noise: float = 0.1, iterations: int = 1, feedback_rate: float = 3e-3, loss: str = "ce") -> Rule:
    """Target propagation whose feedback learns, block by block, to be the transpose of the forward Jacobian.

    t_L = h_L - dC/dh_L;  t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l);  dW_l = d/dW_l ||h_l - t_l||² / 2
    g_l(h) = B_lᵀ (f'(z_l) ⊙ h) descends
        ||g_l(h_l + eta) - g_l(h_l)||² - 2 xi · (g_l(f_l(h_{l-1} + xi)) - g_l(h_l)),   xi, eta ~ N(0, noise²)

    With B_l = W_l the rule is backpropagation, exactly. Since g_l is linear, a step of the targets would cancel from
    the direction; it is 1.

    Args:
        noise: standard deviation of both perturbations.
        iterations: steps of the feedback weights per batch, before its targets are computed.
        feedback_rate: learning rate of the feedback weights (Adam, not annealed).
        loss: "ce", "mse" or "bce".

    State: `{"feedback": {block: {"kernel": B_l}}, "optimizer": Adam's}`, for every block but the first; B_l has the
    form of W_l.
    Reference: Ernoult et al. (2022), arXiv:2201.13415.
    """
    noise = number("ldrl", "noise", noise)
    whole("ldrl", "iterations", iterations)
    optimizer = optax.adam(number("ldrl", "feedback_rate", feedback_rate))
    choice("ldrl", "loss", loss, LOSSES)

    def init(key, net, params, example):
        del example
        require_plain("ldrl", net, "its feedback is taught block by block, and weights inside have no target")
        feedback = second_draw(key, net, params)
        return {"feedback": feedback, "optimizer": optimizer.init(feedback)}

    def back(block: Block, params: Params, feedback: Params, h: Array) -> Callable[[Array], Array]:
        return transposed(block, with_feedback(params[block.name], feedback[block.name]), h)

    def teach(key, net: Net, params: Params, state, batch: Batch):
        hs = forward_pass(net, params, batch.x)

        def difference_reconstruction(feedback, key):
            total = 0.0
            for i, block in enumerate(net.blocks[1:], 1):
                xi, eta = noise_like(hs[i - 1], key, 2 * i, noise), noise_like(hs[i], key, 2 * i + 1, noise)
                response = block.act(block.affine(params[block.name], hs[i - 1] + xi)) - hs[i]
                g = back(block, params, feedback, hs[i - 1])
                total += (g(eta) ** 2).sum() - 2 * (xi * g(response)).sum()
            return total / len(batch.y)

        return learn(key, difference_reconstruction, optimizer, state, iterations)

    def feedback_of(net: Net, params: Params, state, hs):
        def difference(i, h, d):
            del h  # g is linear: the difference of its values is its value at the difference
            return back(net.blocks[i], params, state["feedback"], hs[i - 1])(d)

        return difference

    grads, errors = feedback_first(teach, *towards_targets(loss, 1.0, feedback_of))
    passes = (
        f"{3 + 6 * iterations} (one forward, one through the feedback, one for the weights, six per step of the "
        "feedback; all but the first and the weights' skip the first block)"
    )
    info = replace(LDRL, loss=loss, passes=passes)
    return Rule(info=info, grads=grads, errors=errors, init=init, objective=objective_of(loss))


LDRL = RuleInfo(
    name="ldrl",
    title="target propagation whose feedback learns to be the transposed Jacobian (L-DRL)",
    equation="t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l);  dW_l = d/dW_l |h_l - t_l|^2 / 2;  g_l(h) = B_l^T (f'(z_l) * h) "
    "descends |g_l(h_l + eta) - g_l(h_l)|^2 - 2 xi . (g_l(f_l(h_{l-1} + xi)) - g_l(h_l))",
    citation="Ernoult, Normandin, Moudgil, Spinney, Belilovsky, Rish, Richards & Bengio (2022), Towards scaling "
    "difference target propagation by learning backprop targets, arXiv:2201.13415",
    transports="targets, layer by layer, through linear maps with weights of their own, which learn from noise",
    requires="plain blocks, dense or convolutions: feedback is taught block by block",
    deviations=(
        "feedback passes through f'(z_l) of the forward pass, as it passes through the places of the maxima in the "
        "paper's pooling; the paper's programs apply f to h_l itself, which comes to the same for relu but would leave "
        "the transpose out of reach for tanh",
        "feedback is therefore linear, has no bias (it would cancel), and no step of the targets is left to choose",
        "one step of the feedback per batch by Adam at one rate, where the paper takes 20 to 55 by momentum, with "
        "noise and rate set for each layer; after an epoch of MNIST, directions in mlp(256,128,act=tanh) are about "
        "10 degrees from the gradient",
    ),
    passes="",
    nonlinearity="tanh",
    random=True,
    plastic=True,
    knob=("feedback_rate", (1e-3, 1e-2)),
)
