"""Weights and what a rule does with them, as probes of one network: a value for each weight array or block.

They run no network: whatever a rule's forward pass is, its weights can be measured.
"""

import numpy as np

from probes.probe import FunctionalProbe, ProbeError, ProbeInfo, Undefined, positive_integer
from probes.subject import Subject, weight_probe
from probes.weights import (
    Parts,
    direction_alignment,
    length,
    matrices,
    subspace_overlap_of,
    tree_length,
    weight_feedback_alignment,
    weight_spectrum_of,
)

UNKNOWN = Undefined("the parameters of this network are not known")
BEFORE = Undefined("the parameters before training are not known")


def _card(**card) -> ProbeInfo:
    return ProbeInfo(kind="functional", direction=None, symmetric=None, metric=False, invariances=frozenset(), **card)


def _angle(found: Parts | Undefined) -> Parts | Undefined:
    """An alignment with its angle as the headline."""
    if isinstance(found, Undefined):
        return found
    return {"value": found["angle"], **{name: part for name, part in found.items() if name != "angle"}}


def _weights(s: Subject) -> tuple[str, ...] | Undefined:
    return UNKNOWN if s.params is None else tuple(matrices(s.params))


def _before(s: Subject) -> tuple[str, ...] | Undefined:
    return BEFORE if s.initial is None else _weights(s)


def weight_spectrum(low: int = 10, high: int = 50) -> FunctionalProbe:
    """Spectrum of each weight matrix W (inputs × units): stable rank, norms, exponent.

        value = ‖W‖²_F/‖W‖²₂;  σ_i² ∝ i^−exponent for ranks i = low..high (from 1, both included)

    Returns value (stable rank, 1..min(shape)), spectral (σ₁), frobenius, exponent and r2 of its fit. A convolution's
    kernel is (height · width · channels in) × channels out. Undefined for a matrix of zeros; the exponent alone where
    fewer than `high` singular values are above rounding.
    Source: Rudelson and Vershynin 2007, arXiv math/0503442 (stable rank); Martin and Mahoney 2018, arXiv 1810.01075
    (power laws in the spectra of trained weights).
    """
    low, high = positive_integer("low", low), positive_integer("high", high)
    if high < low + 2:
        raise ProbeError(f"low={low}, high={high}: a line needs at least three ranks; raise high to {low + 2} or more.")
    info = _card(
        name="weight-spectrum",
        title="spectrum of the weights",
        formula="‖W‖²_F/‖W‖²₂, beside σ₁, ‖W‖_F and the exponent of σ_i² ∝ i^−a",
        citation="Rudelson, Vershynin 2007, arXiv math/0503442; Martin, Mahoney 2018, arXiv 1810.01075",
        range=(1.0, np.inf),
        convention=f"W is inputs × units, uncentred, without biases; exponent of the ranks {low} to {high} by least "
        "squares in log-log. A density ρ(λ) ∝ λ^−α of eigenvalues, as in the second source, has α = 1 + 1/a",
        cost="inputs·units·min(inputs, units) for each matrix",
        traps="Norms are no property of the function: rectifiers can be rescaled against each other. Random weights "
        "have a spectrum too: read it beside the untrained network's. A fitted exponent is no evidence of a power law.",
        params=(("low", low), ("high", high)),
    )
    return weight_probe(info, lambda s: weight_spectrum_of(matrices(s.params)[s.layer], low, high), _weights)


def distance_from_initialisation() -> FunctionalProbe:
    """How far training took each weight matrix from its start: ‖W − W₀‖_F/‖W₀‖_F, and ‖W − W₀‖_F.

    Returns value (relative, 0..∞) and absolute. Undefined where the parameters before training are not known; the
    relative distance alone for weights that start at zero.
    Source: Chizat, Oyallon and Bach 2019, arXiv 1812.07956 (lazy training: a relative change that vanishes).
    """
    info = _card(
        name="distance-from-initialisation",
        title="distance of the weights from their start",
        formula="‖W − W₀‖_F/‖W₀‖_F, beside ‖W − W₀‖_F",
        citation="Chizat, Oyallon, Bach 2019, arXiv 1812.07956",
        range=(0.0, np.inf),
        convention="each weight matrix by itself, without biases; relative to the norm of the initial weights",
        cost="parameters",
        traps="Grows with steps and learning rate whatever is learned: compare at matched accuracy. Relative distances "
        "compare networks of one architecture and one distribution of initial weights. A random walk goes far too.",
    )

    def value(s: Subject) -> Parts:
        now, before = (matrices(tree)[s.layer] for tree in (s.params, s.initial))
        if now.shape != before.shape:
            raise ProbeError(f"the weights of {s.layer} had another shape before training; pass the same network's.")
        start, moved = length(before), length(now - before)
        zero = Undefined("the initial weights are all zero, so there is no relative distance from them")
        return {"value": moved / start if start else zero, "absolute": moved}

    return weight_probe(info, value, _before)


def subspace_overlap(k: int = 10) -> FunctionalProbe:
    """How much of the leading singular subspaces of each weight matrix W (inputs × units) training left in place.

        value = ‖UᵀU₀‖²_F/k;  units = ‖VᵀV₀‖²_F/k,  U, V the k leading singular vectors, 0: at the start

    Returns value (of the inputs, 0..1), units, and what independent random matrices give: chance (k/inputs) and
    chance_units (k/units). The mean of the squared cosines of the principal angles: 1 where the subspaces coincide, 0
    where they are orthogonal. Undefined where W or W₀ has a rank below k, or where W₀ is not known.
    Source: Björck and Golub 1973, doi 10.1090/S0025-5718-1973-0348991-3 (principal angles); Gur-Ari, Roberts and Dyer
    2018, arXiv 1812.04754 (a leading subspace over training, there of the Hessian).
    """
    positive_integer("k", k)
    info = _card(
        name="subspace-overlap",
        title="overlap of the weights' leading subspace with that at the start",
        formula="‖UᵀU₀‖²_F/k, U and U₀ the k leading left singular vectors of W and W₀",
        citation="Björck, Golub 1973, doi 10.1090/S0025-5718-1973-0348991-3; Gur-Ari, Roberts, Dyer 2018, "
        "arXiv 1812.04754",
        range=(0.0, 1.0),
        convention=f"k = {k}; W is inputs × units, uncentred, without biases; the value is of the inputs that a layer "
        "reads most, units of the patterns that it answers with; all k directions count the same",
        cost="inputs·units·min(inputs, units) for each matrix",
        traps="Where k is not small beside the layer, chance is high: read it. Neighbouring singular values of random "
        "weights are close, so that a small change turns their leading directions: a low value is no large change.",
        params=(("k", int(k)),),
    )

    def value(s: Subject) -> Parts | Undefined:
        return subspace_overlap_of(*(matrices(tree)[s.layer] for tree in (s.params, s.initial)), k)

    return weight_probe(info, value, _before)


def weight_feedback_angle() -> FunctionalProbe:
    """Angle between forward weights and the feedback weights that stand for them, in degrees.

        arccos ⟨W, B⟩/(‖W‖‖B‖);  z = √N ⟨W, B⟩/(‖W‖‖B‖), N entries

    Feedback that comes layer by layer stands for W (what it is multiplied by is Bᵀ, in the shape of Wᵀ); feedback that
    comes directly from the output to block l stands for the product of all weights above, W_{l+1} ⋯ W_L. Returns value
    (0..180), cosine, norm_ratio (‖W‖/‖B‖) and z: random B has a cosine of N(0, 1/N), so z is N(0, 1) by chance.
    Undefined for networks without feedback weights, and where W or B is zero.
    Source: Lillicrap, Cownden, Tweed and Akerman 2016, doi 10.1038/ncomms13276; direct feedback: Refinetti, d'Ascoli,
    Ohana and Goldt 2021, arXiv 2011.12428.
    """
    info = _card(
        name="weight-feedback-angle",
        title="angle between forward and feedback weights",
        formula="arccos ⟨W, B⟩/(‖W‖‖B‖), z = √N·cosine; for direct feedback W is W_{l+1} ⋯ W_L",
        citation="Lillicrap, Cownden, Tweed, Akerman 2016, doi 10.1038/ncomms13276; Refinetti, d'Ascoli, Ohana, Goldt "
        "2021, arXiv 2011.12428",
        range=(0.0, 180.0),
        convention="degrees, all entries of a matrix as one vector; z in standard deviations of chance, 1/√N",
        cost="parameters",
        traps="With many entries an angle of 89° is many z: read both. Feedback made from the signs of the weights "
        "starts at 37° (Gaussian weights, cosine √(2/π)), not at 90°. The product for direct feedback leaves out the "
        "slopes between the layers. A small angle is neither needed for learning nor enough.",
    )

    def value(s: Subject) -> Parts | Undefined:
        pair = s.feedback[s.layer]
        return pair if isinstance(pair, Undefined) else _angle(weight_feedback_alignment(*pair))

    def places(s: Subject) -> tuple[str, ...] | Undefined:
        return s.feedback if isinstance(s.feedback, Undefined) else tuple(s.feedback)

    return weight_probe(info, value, places)


def gradient_alignment() -> FunctionalProbe:
    """Angle between the direction a rule descends and the exact gradient, block by block, in degrees.

        arccos ⟨d, g⟩/(‖d‖‖g‖);  norm_ratio = ‖d‖/‖g‖

    Both at the same parameters on the same batch, before any optimiser, biases included. Returns value (0..180),
    cosine, norm_ratio and reference_norm (‖g‖). Undefined where the rule leaves the block as it is, and where the
    gradient is zero.
    Source: Lillicrap, Cownden, Tweed and Akerman 2016, doi 10.1038/ncomms13276; Nøkland 2016, arXiv 1609.01596.
    """
    info = _card(
        name="gradient-alignment",
        title="angle between the rule's direction and the gradient",
        formula="arccos ⟨d, g⟩/(‖d‖‖g‖), beside ‖d‖/‖g‖ and ‖g‖",
        citation="Lillicrap, Cownden, Tweed, Akerman 2016, doi 10.1038/ncomms13276; Nøkland 2016, arXiv 1609.01596",
        range=(0.0, 180.0),
        convention="degrees, of each block's weight direction with its biases (some codes take the error signals "
        "instead, or the mean of the samples' cosines); never of all blocks at once, which is that of the largest",
        cost="one direction and one gradient of the batch",
        traps="No z: direction and gradient share the block's inputs, so independent errors agree far better than by "
        "1/√N. Means nothing where the gradient is at the floor: read reference_norm. Below 90° is needed for descent, "
        "not enough for learning.",
    )

    def value(s: Subject) -> Parts | Undefined:
        direction, gradient = ({s.layer: tree[s.layer]} for tree in s.credit())
        for what, tree in (("the rule leaves this block as it is", direction), ("the gradient is zero", gradient)):
            if not tree_length(tree):
                return Undefined(what)
        found = _angle(direction_alignment(direction, gradient)[s.layer])
        return {**{k: v for k, v in found.items() if k != "z"}, "reference_norm": tree_length(gradient)}

    def places(s: Subject) -> tuple[str, ...] | Undefined:
        return s.credit if isinstance(s.credit, Undefined) else tuple(s.credit()[1])

    return weight_probe(info, value, places)
