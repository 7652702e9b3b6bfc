"""Do single units answer to single classes?"""

from typing import Any

import numpy as np

from probes.features import centred, class_labels, features, scaled
from probes.probe import SingleProbe, Undefined, single_info


def selectivity() -> SingleProbe:
    """Class selectivity index of a unit, averaged over units.

        SI = (m_max − m_rest) / (m_max + m_rest),  m_max its largest class mean, m_rest the mean of the other ones

    X is n×d, labels has n entries. A unit that goes below zero is first shifted up by its smallest activation, so that
    every index lies in 0..1. Returns value, silent (units left out because they are zero for every stimulus then) and
    shifted (units that went below zero). 0 when a unit answers to all classes alike, 1 when to one alone. Undefined for
    a constant representation and for one class.
    Source: Morcos, Barrett, Rabinowitz and Botvinick 2018, arXiv 1803.06959.
    """
    info = single_info(
        name="selectivity",
        title="class selectivity of units",
        formula="mean over units of (m_max − m_rest)/(m_max + m_rest), m class means",
        citation="Morcos, Barrett, Rabinowitz, Botvinick 2018, arXiv 1803.06959",
        range=(0.0, 1.0),
        invariances=frozenset({"permutation", "isotropic-scaling"}),
        convention="m_rest averages the means of the other classes, every class counts the same; a unit with negative "
        "activations is shifted to minimum 0 (the source has none, after a ReLU); silent units are left out, not "
        "counted as unselective",
        cost="n·d",
        traps="With few stimuli per class a noisy unit looks selective: read the untrained network beside it. A unit "
        "shared by two classes is never near 1. Across nonlinearities the shift makes values compare badly.",
    )

    def value(X: Any, labels: Any) -> dict[str, float] | Undefined:
        x = features(X)
        y = class_labels(labels, len(x))
        C = int(y.max()) + 1
        constant = centred(x)
        if isinstance(constant, Undefined):
            return constant
        if C < 2:
            return Undefined("there is only one class, so no unit can prefer it to another")
        x = scaled(x)
        lowest = np.minimum(x.min(axis=0), 0.0)
        x = x - lowest
        active = x.any(axis=0)
        x = x[:, active] / x[:, active].max(axis=0)  # leaves the index alone, and keeps tiny units from underflow
        means = np.stack([x[y == c].mean(axis=0) for c in range(C)])
        best = means.max(axis=0)
        rest = np.maximum(means.sum(axis=0) - best, 0.0) / (C - 1)
        return {
            "value": float(np.mean((best - rest) / (best + rest))),
            "silent": float((~active).sum()),
            "shifted": float((lowest < 0).sum()),
        }

    return SingleProbe(info, value, needs=("labels",))
