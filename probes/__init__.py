"""Measures of representations, and the statistics of comparing them.

    from probes import PROBES, compare
    probe = PROBES["mutual-knn"](k=10)
    compare(probe, X, Y)          # X, Y: the same stimuli (rows) in two networks

`PROBES` maps each name to the factory that makes the probe; `PROBES[name]().info` is its card. To add a probe, write
a factory that returns a `PairProbe` or a `SingleProbe` and add one row here. Probes that run networks are in
`probes.functional`.
"""

from collections.abc import Callable

from probes.cca import cca, pwcca, svcca
from probes.cka import debiased_cka, linear_cka, minibatch_cka
from probes.collapse import nc1, nc2, nc3, nc4
from probes.decoding import concept_probe, knn_probe, linear_probe
from probes.dimension import mle_dimension, twonn
from probes.eigenspace import eigenspace_overlap
from probes.few_shot import few_shot
from probes.gulp import gulp
from probes.heat import imd
from probes.kernels import distance_correlation, rbf_cka
from probes.manifolds import capacity, glue
from probes.matching import permutation, soft_matching
from probes.neighbour_cosines import cknna, second_order_cosine
from probes.neighbours import cycle_knn, jaccard, mutual_knn, rank_similarity
from probes.predictivity import ridge
from probes.probe import PairProbe, Prepared, ProbeError, ProbeInfo, SingleProbe, Undefined, compare, headline
from probes.procrustes import angular_procrustes, normalised_procrustes, procrustes, shape
from probes.rsa import rsa
from probes.selectivity import selectivity
from probes.sparsity import dead_units, sparsity
from probes.spectrum import (
    debiased_participation_ratio,
    effective_rank,
    eigenvalue_effective_rank,
    participation_ratio,
    spectrum_exponent,
    stable_rank,
)
from probes.spread import alignment, anisotropy, uniformity
from probes.topology import rtd

PROBES: dict[str, Callable[..., PairProbe | SingleProbe]] = {
    "linear-cka": linear_cka,
    "debiased-cka": debiased_cka,
    "minibatch-cka": minibatch_cka,
    "rbf-cka": rbf_cka,
    "distance-correlation": distance_correlation,
    "eigenspace-overlap": eigenspace_overlap,
    "angular-procrustes": angular_procrustes,
    "normalised-procrustes": normalised_procrustes,
    "procrustes": procrustes,
    "shape": shape,
    "cca": cca,
    "svcca": svcca,
    "pwcca": pwcca,
    "permutation": permutation,
    "soft-matching": soft_matching,
    "gulp": gulp,
    "ridge": ridge,
    "rsa": rsa,
    "mutual-knn": mutual_knn,
    "cycle-knn": cycle_knn,
    "cknna": cknna,
    "jaccard": jaccard,
    "rank-similarity": rank_similarity,
    "second-order-cosine": second_order_cosine,
    "rtd": rtd,
    "imd": imd,
    "participation-ratio": participation_ratio,
    "debiased-participation-ratio": debiased_participation_ratio,
    "effective-rank": effective_rank,
    "eigenvalue-effective-rank": eigenvalue_effective_rank,
    "stable-rank": stable_rank,
    "spectrum-exponent": spectrum_exponent,
    "twonn": twonn,
    "mle-dimension": mle_dimension,
    "nc1": nc1,
    "nc2": nc2,
    "nc3": nc3,
    "nc4": nc4,
    "capacity": capacity,
    "glue": glue,
    "few-shot": few_shot,
    "anisotropy": anisotropy,
    "uniformity": uniformity,
    "alignment": alignment,
    "selectivity": selectivity,
    "sparsity": sparsity,
    "dead-units": dead_units,
    "linear-probe": linear_probe,
    "knn-probe": knn_probe,
    "concept-probe": concept_probe,
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
