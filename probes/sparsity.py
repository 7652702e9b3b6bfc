"""How many activations are silent, and how many units never speak."""

from typing import Any

import numpy as np

from probes.features import features
from probes.probe import SingleProbe, non_negative, single_info


def _invariances(threshold: float) -> frozenset[str]:
    # An absolute threshold is a choice of scale; only exact zeros survive rescaling.
    return frozenset({"permutation"} | ({"isotropic-scaling"} if threshold == 0 else set()))


def sparsity(threshold: float | int = 0.0) -> SingleProbe:
    """Share of activations that are silent.

        sparsity = #{(i, j): |x_ij| ≤ threshold} / (n d)

    X is n×d. Range 0..1; larger is sparser. Always defined.
    Source: population and lifetime sparseness as a plain count, cf. Willmore and Tolhurst 2001,
    doi 10.1080/net.12.3.255.270.
    """
    threshold = non_negative("threshold", threshold)
    info = single_info(
        name="sparsity",
        title="share of silent activations",
        formula=f"share of entries with |x| ≤ {threshold:g}",
        citation="cf. Willmore, Tolhurst 2001, doi 10.1080/net.12.3.255.270",
        range=(0.0, 1.0),
        invariances=_invariances(threshold),
        convention=f"absolute threshold {threshold:g} on activations, not centred",
        cost="n·d",
        traps="Exact zeros need a rectifying nonlinearity: tanh and linear units give 0 whatever they do. Dead units "
        "count as sparse: read dead-units beside it.",
        params=(("threshold", threshold),),
    )

    def value(X: Any) -> float:
        return float(np.mean(np.abs(features(X)) <= threshold))

    return SingleProbe(info, value)


def dead_units(threshold: float | int = 0.0) -> SingleProbe:
    """Share of units that are silent for every stimulus.

        dead = #{j: |x_ij| ≤ threshold for all i} / d

    X is n×d. Returns value (the share), dead (how many), constant (how many units have one value for all stimuli, dead
    ones included) and units (d). Range 0..1. Always defined.
    Source: Lu, Shin, Su and Karniadakis 2019, arXiv 1903.06733 (dying ReLU).
    """
    threshold = non_negative("threshold", threshold)
    info = single_info(
        name="dead-units",
        title="share of dead units",
        formula=f"share of units with |x| ≤ {threshold:g} for every stimulus",
        citation="Lu, Shin, Su, Karniadakis 2019, arXiv 1903.06733",
        range=(0.0, 1.0),
        invariances=_invariances(threshold),
        convention=f"absolute threshold {threshold:g}; silent on these stimuli, not on all possible ones",
        cost="n·d",
        traps="Falls as stimuli are added. A saturated unit is constant but not dead: see `constant`.",
        params=(("threshold", threshold),),
    )

    def value(X: Any) -> dict[str, float]:
        x = features(X)
        dead = int((np.abs(x) <= threshold).all(axis=0).sum())
        constant = int((x == x[0]).all(axis=0).sum())
        d = x.shape[1]
        return {"value": dead / d, "dead": float(dead), "constant": float(constant), "units": float(d)}

    return SingleProbe(info, value)
