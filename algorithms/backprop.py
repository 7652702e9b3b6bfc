"""The reference and its lower bound: exact gradients for all blocks, or for the last one only."""

from __future__ import annotations

import jax

from algorithms.rule import Rule, RuleInfo, cross_entropy, directions, forward_pass


def bp() -> Rule:
    """Backpropagation: the exact gradient of the cross-entropy.

    delta_L = e;  delta_l = (W_{l+1}ᵀ delta_{l+1}) ⊙ f'(z_l);  dW_l = delta_l h_{l-1}ᵀ

    Reference: Rumelhart, Hinton & Williams (1986), doi:10.1038/323533a0.
    """

    def surrogate(key, net, params, state, batch, taps):
        del key, state
        loss = cross_entropy(forward_pass(net, params, batch.x, taps)[-1], batch.y)
        return loss, {"loss": loss}

    grads, errors = directions(surrogate)
    return Rule(info=BP, grads=grads, errors=errors)


BP = RuleInfo(
    name="bp",
    title="backpropagation: the exact gradient",
    equation="delta_L = e;  delta_l = (W_{l+1}^T delta_{l+1}) * f'(z_l);  dW_l = delta_l h_{l-1}^T",
    citation="Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating errors, "
    "doi:10.1038/323533a0",
    transports="the error, through the transpose of every forward weight",
    requires="any network",
    deviations=(),
    passes="3 (one forward, one backward)",
)


def frozen() -> Rule:
    """Only the readout learns; hidden blocks stay as they were drawn.

    dW_L = e h_{L-1}ᵀ;  dW_l = 0 for l < L

    The control that says whether the hidden blocks of another rule learned anything of use: a rule that does not
    beat `frozen` has not been shown to assign credit.
    """

    def surrogate(key, net, params, state, batch, taps):
        del key, state
        hs = forward_pass(net, params, batch.x, taps, link=jax.lax.stop_gradient)
        loss = cross_entropy(hs[-1], batch.y)
        return loss, {"loss": loss}

    grads, errors = directions(surrogate)
    return Rule(info=FROZEN, grads=grads, errors=errors, trains=lambda net: (net.blocks[-1].name,))


FROZEN = RuleInfo(
    name="frozen",
    title="control: only the readout learns",
    equation="dW_L = e h_{L-1}^T;  dW_l = 0 for l < L",
    citation="the random-features control; e.g. Rahimi & Recht (2007), Random features for large-scale kernel machines",
    transports="nothing beyond the readout",
    requires="any network",
    deviations=(),
    passes="1 forward, and a backward pass through the readout alone",
)
