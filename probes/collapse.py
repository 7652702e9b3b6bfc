"""Neural collapse: do the classes shrink to points, at the corners of a simplex, where the readout looks?

All four are zero at collapse. Every class counts the same, however many stimuli it has: the global mean is the mean of
the class means. With classes of equal size that is the usual convention.
"""

from typing import Any, NamedTuple

import numpy as np

from probes.features import ROUNDING, TIE_DECIMALS, centred, class_labels, features, scaled
from probes.probe import ProbeError, SingleProbe, Undefined, single_info

INVARIANCES = frozenset({"permutation", "orthogonal", "isotropic-scaling", "translation"})
CITATION = "Papyan, Han, Donoho 2020, arXiv 2008.08186"
STATED_FOR = (
    "Stated for the last hidden layer on the training stimuli, late in training and with classes of equal size: say "
    "which layer, which stimuli, and whether before or after the nonlinearity."
)


class Classes(NamedTuple):
    """Centred features (n×d), class of each row (0..C−1), class means (C×d) and class means about their own mean."""

    x: np.ndarray
    y: np.ndarray
    means: np.ndarray
    about: np.ndarray


def classes(X: Any, labels: Any, least: int = 2) -> Classes | Undefined:
    """The classes of X, up to one factor; Undefined for a constant X, fewer than `least` classes, or equal means."""
    x = features(X)
    y = class_labels(labels, len(x))
    C = int(y.max()) + 1
    c = centred(x)
    if isinstance(c, Undefined):
        return c
    if least > C:
        return Undefined(f"this needs at least {least} classes, and there {'is only one' if C == 1 else f'are {C}'}")
    means = np.stack([c[y == j].mean(axis=0) for j in range(C)])
    about = means - means.mean(axis=0)
    if np.linalg.norm(about) <= ROUNDING * np.linalg.norm(c):
        return Undefined("all class means are the same, so the classes have no geometry")
    return Classes(c, y, means, about)


def nc1() -> SingleProbe:
    """Variability collapse: variance inside classes relative to that between them.

        NC1 = tr(Σ_W Σ_B⁺) / C,  Σ_W = mean_c mean_{i∈c} (x_i−μ_c)(x_i−μ_c)ᵀ,  Σ_B = mean_c (μ_c−μ)(μ_c−μ)ᵀ

    X is n×d, labels has n entries of C classes. Returns value, rank (of Σ_B, at most C − 1) and ratio
    (tr Σ_W / tr Σ_B). At least 0. Undefined for a constant representation, for one class, for equal class means, and
    where every class has one stimulus.
    Source: Papyan, Han and Donoho 2020, arXiv 2008.08186.
    """
    info = single_info(
        name="nc1",
        title="neural collapse 1: variability inside classes",
        formula="tr(Σ_W Σ_B⁺) / C",
        citation=CITATION,
        range=(0.0, np.inf),
        invariances=INVARIANCES,
        convention="divided by the number of classes C, as in the paper (its notebook leaves that out); pseudo-inverse "
        "truncated at rank C − 1; every class counts the same",
        cost="n·d·C",
        traps="Directions in which the class means hardly differ dominate; ratio does not have that problem. Labels "
        "without meaning give about n/d for isotropic features with d far above n, which passes for collapse. "
        + STATED_FOR,
    )

    def value(X: Any, labels: Any) -> dict[str, float] | Undefined:
        found = classes(X, labels)
        if isinstance(found, Undefined):
            return found
        x, y, means, about = found
        if np.bincount(y).max() == 1:
            return Undefined("every class has one stimulus, so nothing is known of the spread inside classes")
        C = len(means)
        _, s, vt = np.linalg.svd(about, full_matrices=False)
        rank = min(C - 1, int((s > s[0] * max(about.shape) * np.finfo(np.float64).eps).sum()))
        inside = x - means[y]
        weight = 1.0 / (C * np.bincount(y))[y]
        along = weight @ (inside @ vt[:rank].T) ** 2
        between = np.linalg.norm(about) ** 2 / C
        return {
            "value": float((along / s[:rank] ** 2).sum()),  # Σ_B has eigenvalues s²/C, which takes care of the C
            "rank": float(rank),
            "ratio": float(weight @ (inside**2).sum(axis=1) / between),
        }

    return SingleProbe(info, value, needs=("labels",))


def nc2() -> SingleProbe:
    """Convergence to a simplex: how far the angles between class means are from the widest possible ones.

        NC2 = mean_{c≠c'} |cos(μ_c−μ, μ_c'−μ) + 1/(C−1)|

    X is n×d, labels has n entries of C classes. Returns value, equinorm (deviation of ‖μ_c−μ‖ over classes divided by
    their mean) and equiangularity (deviation of the cosines). Collapse to a simplex needs all of them 0. Range
    0..1 + 1/(C−1). Undefined for a constant representation, for fewer than 3 classes (two are always opposite), for
    equal class means, and when the mean of a class is the global mean.
    Source: Papyan, Han and Donoho 2020, arXiv 2008.08186.
    """
    info = single_info(
        name="nc2",
        title="neural collapse 2: class means at the corners of a simplex",
        formula="mean_{c≠c'} |cos(μ_c−μ, μ_c'−μ) + 1/(C−1)|",
        citation=CITATION,
        range=(0.0, 1.5),
        invariances=INVARIANCES,
        convention="value is the mean distance from maximal angles; equal lengths (equinorm) and equal angles "
        "(equiangularity) are separate numbers, as in the paper; deviations divide by their count",
        cost="n·d",
        traps="Needs d ≥ C − 1: fewer units cannot hold the simplex. Random class means in many dimensions come "
        "close to it without any learning: read the untrained network beside it. " + STATED_FOR,
    )

    def value(X: Any, labels: Any) -> dict[str, float] | Undefined:
        found = classes(X, labels, least=3)
        if isinstance(found, Undefined):
            return found
        C = len(found.means)
        length = np.linalg.norm(found.about, axis=1)
        if length.min() <= ROUNDING * np.linalg.norm(found.x):
            return Undefined(f"the mean of class {int(length.argmin())} (in sorted order) is the mean of all classes")
        unit = found.about / length[:, None]
        cosine = (unit @ unit.T)[~np.eye(C, dtype=bool)]
        return {
            "value": float(np.abs(cosine + 1.0 / (C - 1)).mean()),
            "equinorm": float(length.std() / length.mean()),
            "equiangularity": float(cosine.std()),
        }

    return SingleProbe(info, value, needs=("labels",))


def nc3() -> SingleProbe:
    """Self-duality: distance between the readout and the class means, both scaled to length 1.

        NC3 = ‖ W / ‖W‖_F − M / ‖M‖_F ‖²_F,  M = [μ_c − μ] (d×C)

    X is n×d, labels has n entries of C classes, readout W is d×C, columns in sorted order of the classes; None for a
    network without a linear readout. Range 0..4; 2 when they are orthogonal. Undefined without a readout, for one that
    is all zero, for a constant representation, for one class, and for equal class means. ProbeError when the readout
    has another shape.
    Source: Papyan, Han and Donoho 2020, arXiv 2008.08186.
    """
    info = single_info(
        name="nc3",
        title="neural collapse 3: readout equals class means",
        formula="‖W/‖W‖_F − M/‖M‖_F‖²_F, M = [μ_c − μ]",
        citation=CITATION,
        range=(0.0, 4.0),
        invariances=INVARIANCES,
        convention="squared distance; the readout is not centred over classes, and its bias is not used",
        cost="n·d",
        traps="A vector added to all columns of W changes no prediction but this number. Only for the layer that the "
        "readout reads. " + STATED_FOR,
    )

    def value(X: Any, labels: Any, readout: Any) -> float | Undefined:
        found = classes(X, labels)
        if isinstance(found, Undefined):
            return found
        if readout is None:
            return Undefined("the network has no linear readout of this layer to compare the class means with")
        W, M = features(readout, "the readout"), found.about.T
        if W.shape != M.shape:
            raise ProbeError(
                f"the readout has shape {W.shape}, but {M.shape[0]} units and {M.shape[1]} classes need {M.shape}; "
                "pass one row per unit and one column per class that occurs in labels."
            )
        if not W.any():
            return Undefined("the readout is all zero, so it has no direction")
        W, M = scaled(W), scaled(M)
        return float(np.linalg.norm(W / np.linalg.norm(W) - M / np.linalg.norm(M)) ** 2)

    return SingleProbe(info, value, needs=("labels", "readout"))


def nc4() -> SingleProbe:
    """Nearest class centre: share of stimuli on which the network and the nearest class mean disagree.

        NC4 = share of i with prediction_i ≠ argmin_c ‖x_i − μ_c‖

    X is n×d, labels and predictions have n entries. Returns value, centre_accuracy (of the nearest class mean) and
    network_accuracy (of the predictions). Range 0..1. Undefined for a constant representation, for one class, and for
    equal class means. ProbeError when no prediction is a class of labels.
    Source: Papyan, Han and Donoho 2020, arXiv 2008.08186.
    """
    info = single_info(
        name="nc4",
        title="neural collapse 4: disagreement with the nearest class centre",
        formula="share of stimuli with prediction ≠ argmin_c ‖x − μ_c‖",
        citation=CITATION,
        range=(0.0, 1.0),
        invariances=INVARIANCES,
        convention="class means of these same stimuli by their labels; the first class in sorted order wins a tie; a "
        "predicted class that no label names counts as disagreement",
        cost="n·d·C",
        traps="Both can agree and be wrong: read the two accuracies. With few stimuli per class each one pulls its own "
        "class mean nearer. " + STATED_FOR,
    )

    def value(X: Any, labels: Any, predictions: Any) -> dict[str, float] | Undefined:
        found = classes(X, labels)
        n = len(features(X))
        class_labels(predictions, n, "predictions")
        codes = class_labels(np.concatenate([np.asarray(labels), np.asarray(predictions)]), 2 * n)
        truth, predicted = codes[:n], codes[n:]
        if not np.isin(predicted, truth).any():
            raise ProbeError("no prediction is a class of labels; name the classes alike in both.")
        if isinstance(found, Undefined):
            return found
        x, y, means, _ = found
        code = np.empty(len(means), dtype=np.intp)
        code[y] = truth
        score = np.round((means**2).sum(axis=1) - 2.0 * (x @ means.T), TIE_DECIMALS)
        centre = code[np.argmin(score, axis=1)]
        return {
            "value": float((centre != predicted).mean()),
            "centre_accuracy": float((centre == truth).mean()),
            "network_accuracy": float((predicted == truth).mean()),
        }

    return SingleProbe(info, value, needs=("labels", "predictions"))
