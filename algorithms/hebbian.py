"""Hebbian learning: what fires together wires together, and nothing tells a hidden layer what is right.

A Hebbian synapse strengthens with the product of what it is given, x, and what its unit answers, y. Left alone it
grows without end, so every workable rule adds a decay that holds the length of the unit's weight vector near 1, and
some form of competition that keeps units from all learning the same thing. The rules here differ in that competition:

- `softhebb`: units compete in a softmax, `y = softmax(t u)`, and each moves towards the inputs it wins. The layer
  learns prototypes, a mixture model of its input.
- `oja`: linear units inhibit one another through their weights and learn the principal subspace of their input.
- `sanger`: each unit hears only the inhibition of those before it, and unit i learns the i-th principal component.

No label reaches a hidden layer. The last block is a linear readout with its own local gradient, trained beside the
hidden blocks from their detached activity: the accuracy says how useful the unsupervised features are to a linear
reader, and `frozen`, the same readout on features that never learn, is the control it must be read beside. What is
known to matter: inputs of equal length for `softhebb`, centred ones for `oja` and `sanger` (here the bias learns to
centre them); decaying rates; a learning rate that suits prototypes and readout alike, since both share one optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from algorithms.forward_forward import normalise
from algorithms.rule import Activations, Block, Net, Params, Rule, RuleInfo, mean_loss, stateless
from algorithms.settings import number, require_dense


class Layer(NamedTuple):
    """One hidden layer on a batch: what its synapses were given, `z = W x + b`, and what it passes on."""

    x: Float[Array, "batch units_in"]
    z: Float[Array, "batch units"]
    h: Float[Array, "batch units"]


def hebbian(
    info: RuleInfo,
    respond: Callable[[Block, Params, Array], Layer],
    learn: Callable[[Params, Layer], Params],
    check: Callable[[Net], None],
) -> Rule:
    """A rule whose hidden layers learn by `learn(params, layer)` from a pass through `respond`; its readout by "ce"."""

    def layers(net: Net, params: Params, x: Array) -> list[Layer]:
        passed, h = [], x
        for block in net.blocks[:-1]:
            passed.append(respond(block, params[block.name], h.reshape(len(h), -1)))
            h = passed[-1].h
        return passed

    def grads(key, net, params, state, batch):
        del key
        passed, top = layers(net, params, batch.x), net.blocks[-1]

        def readout(p):
            return mean_loss("ce", top.affine(p, passed[-1].h), batch.y)

        loss, exact = jax.value_and_grad(readout)(params[top.name])
        pseudo = {
            block.name: learn(params[block.name], layer) for block, layer in zip(net.blocks[:-1], passed, strict=True)
        }
        return {**pseudo, top.name: exact}, state, {"loss": loss}

    def forward(net, params, state, x):
        del state
        hidden, top = tuple(layer.h for layer in layers(net, params, x)), net.blocks[-1]
        return Activations(hidden, top.affine(params[top.name], hidden[-1]))

    def objective(net, params, state, batch):
        return mean_loss("ce", forward(net, params, state, batch.x).scores, batch.y)

    return Rule(info=info, grads=grads, init=stateless(check), forward=forward, objective=objective)


def softhebb(temperature: float = 2.0, power: float = 0.5) -> Rule:
    """SoftHebb: units compete in a softmax and move towards what they win.

    Δw_k ∝ r_k y_k (x - u_k w_k);    u = W x;    y = softmax(t (u + b));    r_k = abs(|w_k| - 1)^power
    Δb ∝ E[y] - softmax(t b), so that t b becomes the log of how often each unit wins

    At a fixed point with power = 0 every w_k that wins has length 1 and points along the mean of the inputs that it
    wins. Layers scale their input to a root mean square of 1 and pass on the triangle `h = f(z - mean_k z)`, z = u + b,
    f being the network's own nonlinearity; the softmax is what synapses learn from, never what is passed on.

    Args:
        temperature: t, the inverse temperature of the competition; the larger, the fewer winners. With
            inputs of length sqrt(units in), 2 on MNIST is what 56 is with inputs of length 1.
        power: exponent of the rate's dependence on the weight's length; 0 for one rate for all units. Adam divides such
            a factor away; under SGD it matters.

    State: none.
    References: Moraitis et al. (2022), arXiv:2107.05747; Journé et al. (2023), arXiv:2209.11883.
    """
    temperature = number("softhebb", "temperature", temperature)
    power = number("softhebb", "power", power, closed=True)

    def check(net):
        require_dense("softhebb", net, "units compete for one input vector, not for patches")

    def respond(block, p, h):
        x = normalise(h)
        u = block.affine(p, x)
        return Layer(x, u, block.act(u - u.mean(1, keepdims=True)))

    def learn(p, layer):
        W = p["kernel"]
        y = jax.nn.softmax(temperature * layer.z)
        rate = jnp.abs(jnp.sqrt(jnp.sum(W**2, axis=0)) - 1) ** power
        grown = layer.x.T @ y - W * jnp.sum(y * (layer.z - p["bias"]), axis=0)
        return {"kernel": -rate * grown / len(y), "bias": jax.nn.softmax(temperature * p["bias"]) - y.mean(0)}

    return hebbian(SOFTHEBB, respond, learn, check)


SOFTHEBB = RuleInfo(
    name="softhebb",
    title="SoftHebb: soft winners move towards their inputs; labels reach the readout only",
    equation="dW_k = -r_k y_k (x - u_k w_k);  u = W x, rms(x) = 1;  y = softmax(t (u + b));  "
    "r_k = abs(|w_k| - 1)^power;  db = softmax(t b) - y;  h = f(u + b - mean (u + b))",
    citation="Journe, Garcia Rodriguez, Guo & Moraitis (2023), Hebbian deep learning without feedback, "
    "arXiv:2209.11883",
    transports="nothing: each layer learns from its own input and output",
    requires="dense blocks",
    deviations=(
        "hidden weights start from the common initialiser (lengths near 1.4 for relu), not at the paper's large radius",
        "hidden layers and readout learn at once, not first the ones and then the other",
        "the run's optimiser instead of the paper's rate, which divides each step by its largest entry; under Adam a "
        "unit's own rate, so power, does next to nothing",
        "the triangle has no exponent (the paper's per-layer p), and f is the network's own",
        "dense layers only, and all units learn towards the input: no anti-Hebbian losers, which the paper has for "
        "convolutions",
        "each layer's input is scaled to a root mean square of 1 per sample instead of batch-normalised",
        "the bias follows E[y] - softmax(t b), with the fixed point of the paper's rule for it, the log prior",
    ),
    passes="3 (one forward, one Hebbian product of the same cost as a backward pass)",
    representation="the triangle activity f(z - mean z) that the next layer and the readout are given",
    credit=False,
    knob=("temperature", (1.0, 4.0)),
)


def oja() -> Rule:
    """Oja's subspace rule: linear units learn the principal subspace of their input.

    ΔW ∝ y xᵀ - (y yᵀ) W;    y = z - E[z];    Δb ∝ -E[z]

    E is the mean over the batch. At the fixed point the weight vectors are an orthonormal basis of the span of the
    leading eigenvectors of the input's covariance, and b centres z.

    State: none.
    Reference: Oja (1989), doi:10.1142/S0129065789000475; one unit: Oja (1982), doi:10.1007/BF00275687.
    """
    return principal(OJA, lambda C: C)


def sanger() -> Rule:
    """Sanger's generalised Hebbian algorithm: unit i learns the i-th principal component of its input.

    ΔW ∝ y xᵀ - LT[y yᵀ] W;    y = z - E[z];    Δb ∝ -E[z];    LT keeps the lower triangle

    E is the mean over the batch. At the fixed point w_i is the i-th eigenvector of the input's covariance, of length
    1, and b centres z.

    State: none.
    Reference: Sanger (1989), doi:10.1016/0893-6080(89)90044-0.
    """
    return principal(SANGER, jnp.triu)  # columns are units here, so LT[y yᵀ] is the upper triangle


def principal(info: RuleInfo, inhibition: Callable[[Array], Array]) -> Rule:
    """Principal component rules: who inhibits whom is the part of `y yᵀ` (row inhibits column) that is kept."""

    def check(net):
        require_dense(info.name, net, "it finds principal components of one input vector")

    def respond(block, p, h):
        z = block.affine(p, h)
        return Layer(h, z, block.act(z))

    def learn(p, layer):
        W = p["kernel"]
        mean = layer.z.mean(0)
        y = layer.z - mean  # with y centred, x need not be
        grown = layer.x.T @ y - W @ inhibition(y.T @ y)
        return {"kernel": -grown / len(y), "bias": mean}

    return hebbian(info, respond, learn, check)


COMMON_DEVIATIONS = (
    "a linear readout learns from the hidden activity at the same time",
    "all layers learn at once, with the run's optimiser, from the common initialiser",
    "layers behind the first see f(z) of the layer below; the rule itself is that of linear units",
    "inputs are centred by the batch mean and, in the forward pass, by a bias that learns to",
)

OJA = RuleInfo(
    name="oja",
    title="Oja's subspace rule: linear units learn the principal subspace; labels reach the readout only",
    equation="dW = -(y x^T - (y y^T) W);  y = z - E[z];  db = E[z]",
    citation="Oja (1989), Neural networks, principal components, and subspaces, doi:10.1142/S0129065789000475",
    transports="inhibition between units of one layer",
    requires="dense blocks; units beyond the number of inputs find no component of their own",
    deviations=COMMON_DEVIATIONS,
    passes="3 (one forward, one Hebbian product of the same cost as a backward pass)",
    nonlinearity="tanh",
    credit=False,
)

SANGER = RuleInfo(
    name="sanger",
    title="Sanger's rule (GHA): unit i learns the i-th principal component; labels reach the readout only",
    equation="dW = -(y x^T - LT[y y^T] W);  y = z - E[z];  db = E[z]",
    citation="Sanger (1989), Optimal unsupervised learning in a single-layer linear feedforward neural network, "
    "doi:10.1016/0893-6080(89)90044-0",
    transports="inhibition, from each unit to those behind it in one layer",
    requires="dense blocks; units beyond the number of inputs find no component of their own",
    deviations=COMMON_DEVIATIONS,
    passes="3 (one forward, one Hebbian product of the same cost as a backward pass)",
    nonlinearity="tanh",
    credit=False,
)
