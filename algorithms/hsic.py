"""The HSIC bottleneck: every block keeps what tells the classes apart and forgets the rest of its input.

Two sets of measurements on the same samples are independent exactly when no function of the one correlates with any
function of the other. The Hilbert-Schmidt independence criterion sums up all such correlations and needs nothing but
the two n×n matrices of kernel values between the n samples of a batch:

    HSIC(K, L) = tr(K H L H) / (n - 1)²,    H = I - 11ᵀ/n,    K_ij = exp(-|h_i - h_j|² / (2 sigma² d))

with d the number of units, so that one sigma serves layers of all widths. It plays the part of the mutual information
in the information bottleneck: a block lowers its dependence on the input x and raises that on the label y. Each block
does this from its own activity; the gradient is stopped between blocks, and the readout, which turns the classes that
have come apart into logits, descends its own cross-entropy.

The criterion scales with the spread of the kernels, so what is descended here is its normalised form, `nHSIC(K, L) =
HSIC(K, L) / √(HSIC(K, K) HSIC(L, L))`, 0 for independent and 1 for proportional kernels. With linear kernels this is
linear CKA, a measure by which this lab compares representations: a network trained so has been optimised for what it
will be measured by, and its CKA with the labels should be read with that in mind. What is known to matter: the batch,
which is all that a block ever compares a sample with, and the normalisation. Kernels do not see a shift of all samples
alike, so a unit that is active for a whole batch is told nothing about its bias: what is left there is rounding, which
Adam scales up to full steps.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from algorithms.rule import Batch, Net, Rule, RuleInfo, directions, forward_pass, mean_loss, stateless
from algorithms.settings import choice, number, require_hidden

EPSILON = 1e-6
"""Added in quadrature to the norm of a centred kernel: one of a batch in which all samples are alike has none."""

Kernel = Float[Array, "batch batch"]


def gaussian(h: Float[Array, "batch ..."], sigma: float) -> Kernel:
    """`exp(-|h_i - h_j|² / (2 sigma² d))` of all pairs; d is the number of units."""
    flat = h.reshape(len(h), -1)
    length = jnp.sum(flat**2, axis=1)
    distance = jnp.maximum(length[:, None] + length[None, :] - 2 * flat @ flat.T, 0)
    return jnp.exp(-distance / (2 * sigma**2 * flat.shape[1]))


def centred(K: Kernel) -> Kernel:
    """`H K H` of a symmetric kernel: every row and column sums to 0."""
    mean = K.mean(0)
    return K - mean[:, None] - mean[None, :] + mean.mean()


def dependence(K: Kernel, L: Kernel) -> Float[Array, ""]:
    """The biased estimate of HSIC, `tr(K H L H) / (n - 1)²`."""
    return jnp.sum(centred(K) * L) / (len(K) - 1) ** 2


def normalised_dependence(K: Kernel, L: Kernel) -> Float[Array, ""]:
    """`HSIC(K, L) / √(HSIC(K, K) HSIC(L, L))`, the cosine of the centred kernels: 0 to 1; 0 where one is constant."""
    K, L = centred(K), centred(L)
    return jnp.sum(K * L) * jax.lax.rsqrt((jnp.sum(K**2) + EPSILON**2) * (jnp.sum(L**2) + EPSILON**2))


MEASURES = {"nhsic": normalised_dependence, "hsic": dependence}


def hsic(beta: float = 100.0, sigma: float = 1.0, measure: str = "nhsic") -> Rule:
    """The HSIC bottleneck: forget the input, keep the label, block by block.

    loss_l = HSIC(h_l, x) - beta HSIC(h_l, y);  dW_l = ∂ loss_l / ∂ W_l with h_{l-1} held

    Args:
        beta: how much more the label counts than the input.
        sigma: width of the Gaussian kernels of x, of y (one-hot) and of every h_l, in root mean square units.
        measure: "nhsic" for the normalised criterion, "hsic" for the criterion as it is.

    Reference: Ma, Lewis & Kleijn (2020), The HSIC bottleneck: deep learning without back-propagation, arXiv:1908.01580.
    """
    beta = number("hsic", "beta", beta)
    sigma = number("hsic", "sigma", sigma)
    between = MEASURES[choice("hsic", "measure", measure, MEASURES)]

    def surrogate(key, net: Net, params, state, batch: Batch, taps):
        del key, state
        *hidden, scores = forward_pass(net, params, batch.x, taps, link=jax.lax.stop_gradient)
        x = gaussian(batch.x, sigma)
        y = gaussian(jax.nn.one_hot(batch.y, net.classes, dtype=scores.dtype), sigma)
        kernels = [gaussian(h, sigma) for h in hidden]
        total = sum(between(K, x) - beta * between(K, y) for K in kernels)
        readout = mean_loss("ce", scores, batch.y)
        return total + readout, {"loss": readout, "local_loss": total}

    grads, errors = directions(surrogate)
    return Rule(info=HSIC, grads=grads, errors=errors, init=stateless(partial(require_hidden, "hsic")))


HSIC = RuleInfo(
    name="hsic",
    title="HSIC bottleneck: forget the input, keep the label, block by block",
    equation="loss_l = HSIC(h_l, x) - beta HSIC(h_l, y);  HSIC(K, L) = tr(K H L H) / (n-1)^2, normalised by "
    "sqrt(HSIC(K, K) HSIC(L, L));  dW_l = d loss_l / d W_l",
    citation="Ma, Lewis & Kleijn (2020), The HSIC bottleneck: deep learning without back-propagation, arXiv:1908.01580",
    transports="similarities of the batch's samples in x and y to every block; no error between blocks",
    requires="at least one hidden layer",
    deviations=(
        "normalised as a cosine of centred kernels; the authors' code normalises by the kernels' regularised inverses, "
        "at the cost of two n×n inversions per block",
        "kernels of one width, 1, where the authors' code has 5 (an almost linear kernel) or an ensemble of networks "
        "of several widths",
        "blocks step together from one forward pass, and in the authors' code after one another within a batch",
        "batch norm only where the network has it; the paper's networks all have it",
        "the readout learns at the same time as the blocks and not after them",
    ),
    passes="3 (one forward, one backward through each block), and 2 products of n×n matrices per block",
    knob=("sigma", (0.5, 2.0)),
)
