"""Measures of representations, and the statistics of comparing them.

    from probes import PROBES, compare
    probe = PROBES["mutual-knn"](k=10)
    compare(probe, X, Y)          # X, Y: the same stimuli (rows) in two networks

`PROBES` maps each name to the factory that makes the probe; `PROBES[name]().info` is its card. To add a probe, write
a factory that returns a `PairProbe` or a `SingleProbe` and add one row here. Probes that run networks are in
`probes.functional`.
"""

from collections.abc import Callable

from probes.cka import debiased_cka, linear_cka
from probes.decoding import linear_probe
from probes.neighbours import mutual_knn
from probes.probe import PairProbe, Prepared, ProbeError, ProbeInfo, SingleProbe, Undefined, compare, headline
from probes.procrustes import angular_procrustes
from probes.rsa import rsa
from probes.sparsity import dead_units, sparsity
from probes.spectrum import (
    effective_rank,
    eigenvalue_effective_rank,
    participation_ratio,
    spectrum_exponent,
    stable_rank,
)

PROBES: dict[str, Callable[..., PairProbe | SingleProbe]] = {
    "linear-cka": linear_cka,
    "debiased-cka": debiased_cka,
    "angular-procrustes": angular_procrustes,
    "rsa": rsa,
    "mutual-knn": mutual_knn,
    "participation-ratio": participation_ratio,
    "effective-rank": effective_rank,
    "eigenvalue-effective-rank": eigenvalue_effective_rank,
    "stable-rank": stable_rank,
    "spectrum-exponent": spectrum_exponent,
    "sparsity": sparsity,
    "dead-units": dead_units,
    "linear-probe": linear_probe,
}

__all__ = [
    "PROBES",
    "PairProbe",
    "Prepared",
    "ProbeError",
    "ProbeInfo",
    "SingleProbe",
    "Undefined",
    "compare",
    "headline",
]
