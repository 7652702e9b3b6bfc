"""How well a new concept could be learnt from a few examples, from the geometry of two clouds."""

from typing import Any

import numpy as np

from probes.collapse import classes
from probes.features import ROUNDING, narrowed
from probes.probe import SingleProbe, Undefined, positive_integer, single_info


def pair_geometry(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Second moments of all ordered pairs of classes, C×C, row a the class of the test stimulus, column b the other.

    distance ‖μ_a−μ_b‖², own (μ_a−μ_b)ᵀΣ_a(μ_a−μ_b), other (μ_a−μ_b)ᵀΣ_b(μ_a−μ_b), product tr(Σ_aΣ_b); and variance
    tr Σ_a (C). Σ_a divides by the size of the class.
    """
    C = int(y.max()) + 1
    means = np.stack([x[y == a].mean(axis=0) for a in range(C)])
    # Rows whose products with each other are all that is needed of a class: never more than it has units.
    clouds = [x[y == a] - means[a] for a in range(C)]
    clouds = [z / np.sqrt(len(z)) for z in clouds]
    clouds = [z if len(z) <= z.shape[1] else narrowed(z.T).T for z in clouds]
    distance, own, product = np.empty((C, C)), np.empty((C, C)), np.empty((C, C))
    for a in range(C):
        apart = means - means[a]
        distance[a] = (apart**2).sum(axis=1)
        own[a] = ((apart @ clouds[a].T) ** 2).sum(axis=1)
        for b in range(a, C):
            product[a, b] = product[b, a] = np.linalg.norm(clouds[a] @ clouds[b].T) ** 2
    return {
        "distance": distance,
        "own": own,
        "other": own.T,
        "product": product,
        "variance": np.array([np.linalg.norm(z) ** 2 for z in clouds]),
    }


def few_shot(m: int = 5) -> SingleProbe:
    """Error of a prototype learner that sees m examples of each of two classes, predicted from their geometry.

        SNR_ab = ½ (‖Δ‖² + (R_b²/R_a² − 1)/m) /
                 √( ΔᵀΣ_aΔ + ΔᵀΣ_bΔ/m + [tr Σ_a² + tr Σ_aΣ_b]/m + [tr Σ_a² + tr Σ_b²]/(2m²) ),   error = ½ erfc(SNR/√2)
        Δ = (μ_a − μ_b)/R_a,  R_a² = tr cov_a,  Σ_a, Σ_b covariances divided by R_a²;  tr Σ_a² = 1/D_a

    The learner takes the means of its examples for prototypes and the nearer one for its answer; a is the class of the
    test stimulus. X is n×d, labels has n entries. Returns value (the error, mean over all ordered pairs), snr, signal
    (‖Δ‖²), bias (R_b²/R_a² − 1) and overlap (ΔᵀΣ_aΔ), means over pairs, and dimension (D, mean over classes). Range
    0..1, chance ½. Undefined for a constant representation, one class, equal class means, a class of one stimulus, and
    a class that does not vary.
    Source: Sorscher, Ganguli and Sompolinsky 2022, PNAS 119 e2200800119.
    """
    positive_integer("m", m)
    info = single_info(
        name="few-shot",
        title="few-shot error of prototypes",
        formula="mean over pairs of ½ erfc(SNR(m)/√2), SNR from signal, bias, dimension and overlaps",
        citation="Sorscher, Ganguli, Sompolinsky 2022, PNAS 119 e2200800119",
        range=(0.0, 1.0),
        invariances=frozenset({"permutation", "orthogonal", "isotropic-scaling", "translation"}),
        convention=f"m = {m}; mean and variance of the decision are exact for Gaussian clouds, terms in 1/m² included "
        "(shorter forms leave them out), and its shape is taken for Gaussian; moments divide by the size of the class",
        cost="n²·d",
        traps="Meant for classes that the network was not trained on: on its own classes it says how well they are "
        "separated. Few stimuli per class inflate the distances between means, and the error comes out too low. A mean "
        "over pairs hides the confusable ones. Poor where the dimension is near 1.",
        params=(("m", int(m)),),
    )

    def value(X: Any, labels: Any) -> dict[str, float] | Undefined:
        from scipy.special import ndtr  # here, so that the table of probes loads without SciPy

        found = classes(X, labels)
        if isinstance(found, Undefined):
            return found
        sizes = np.bincount(found.y)
        if sizes.min() < 2:
            return Undefined(f"class {int(sizes.argmin())} (in sorted order) has one stimulus, so it has no extent")
        g = pair_geometry(narrowed(found.x), found.y)
        variance = g["variance"][:, None]
        if variance.min() <= (ROUNDING * np.linalg.norm(found.x)) ** 2:
            return Undefined(f"class {int(variance.argmin())} (in sorted order) does not vary, so it has no extent")
        C = len(sizes)
        pairs = ~np.eye(C, dtype=bool)
        signal, bias = g["distance"] / variance, variance.T / variance - 1.0
        square = np.diag(g["product"])
        first = g["other"] + square[:, None] + g["product"]
        second = (square[:, None] + square) / 2.0
        noise = (g["own"] + first / m + second / m**2) / variance**2
        snr = 0.5 * (signal + bias / m) / np.sqrt(noise)
        return {
            "value": float(ndtr(-snr)[pairs].mean()),
            "snr": float(snr[pairs].mean()),
            "signal": float(signal[pairs].mean()),
            "bias": float(bias[pairs].mean()),
            "dimension": float((variance[:, 0] ** 2 / square).mean()),
            "overlap": float((g["own"] / variance**2)[pairs].mean()),
        }

    return SingleProbe(info, value, needs=("labels",))
