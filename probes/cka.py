"""Centred kernel alignment with the linear kernel: biased, debiased, and debiased in batches.

All compare the n×n matrices of inner products between stimuli, K = XXᵀ and L = YYᵀ. The biased form adds up all
entries of the centred matrices; the debiased form leaves out the diagonal, which carries the part that two
unrelated representations share for lack of stimuli; the batched form keeps only pairs of stimuli of one batch.
"""

import math

import numpy as np

from probes.features import centred, narrowed
from probes.probe import PairProbe, ProbeInfo, Undefined, pair_probe, positive_integer

ROTATION_SCALE_SHIFT = frozenset({"permutation", "orthogonal", "isotropic-scaling", "translation"})

CLASS_TRAP = (
    "Two representations that share class means and nothing else score near 1 and pass the global permutation null: "
    "read the within-class null. A few outlier stimuli move it freely."
)


def gaussian_null(n: int, d1: int, d2: int) -> float:
    """Expected biased CKA of independent isotropic Gaussian features, to leading order."""
    return math.sqrt(d1 * d2) / math.sqrt((n + d1) * (n + d2))


def linear_cka() -> PairProbe:
    """Linear CKA, biased: similarity of centred Gram matrices.

        CKA = ‖XcᵀYc‖²_F / (‖XcᵀXc‖_F ‖YcᵀYc‖_F) = ⟨HKH, HLH⟩ / (‖HKH‖ ‖HLH‖),  H = I − 11ᵀ/n

    X is n×d1, Y is n×d2, any widths. Range 0..1, 1 for identical representations. Undefined for a constant one.
    Source: Kornblith, Norouzi, Lee and Hinton 2019, arXiv 1905.00414.
    """
    info = ProbeInfo(
        name="linear-cka",
        title="linear CKA (biased)",
        kind="pair",
        formula="‖XcᵀYc‖²_F / (‖XcᵀXc‖_F ‖YcᵀYc‖_F)",
        citation="Kornblith, Norouzi, Lee, Hinton 2019, arXiv 1905.00414",
        range=(0.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=ROTATION_SCALE_SHIFT,
        convention="linear kernel, biased HSIC, columns centred; arccos of it is a metric, it itself is not",
        cost="min(n·d², n²·d)",
        traps="Unrelated representations score about d/(n+d): with fewer stimuli than units it is high by "
        "construction. Quadratic in variance, so the largest principal components decide it. " + CLASS_TRAP,
        few_stimuli="unrelated representations score high by construction, as debiased-cka does not",
        null_mean=gaussian_null,
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        c = centred(x)
        return c if isinstance(c, Undefined) else (aligned(c),)

    def value(a: tuple, b: tuple) -> float:
        return min(1.0, float(np.linalg.norm(a[0].T @ b[0])) ** 2)

    return pair_probe(
        info,
        prepare=prepare,
        value=value,
        permute=lambda a, order: (a[0][order],),
        matrix=lambda a, rows, columns: a[0][rows] @ a[0][columns].T,
    )


def aligned(c: np.ndarray) -> np.ndarray:
    """Centred features such that ‖xᵀy‖² is linear CKA, in at most n columns."""
    c = narrowed(c)
    return c / math.sqrt(np.linalg.norm(c.T @ c))


def _hsic_u(x: np.ndarray, k: np.ndarray, y: np.ndarray, l: np.ndarray) -> float:
    """n(n−3) times the unbiased HSIC of linear kernels, from column-centred features and their squared row norms.

    Song's estimator is tr(K̃L̃) + ΣK̃ ΣL̃/((n−1)(n−2)) − 2·1ᵀK̃L̃1/(n−2) with K̃ = XXᵀ without its diagonal. Centred
    columns make K̃1 = −k with k_i = ‖x_i‖², which leaves three sums and no n×n matrix.
    """
    n = len(k)
    kl = k @ l
    return float(np.linalg.norm(x.T @ y) ** 2 - kl + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * kl / (n - 2))


def _debiased(x: np.ndarray, k: np.ndarray, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
    """K° of column-centred features x with squared row norms k: U-centred, its inner products are n(n−3) HSIC_u."""
    xp, n = x.__array_namespace__(), len(k)
    u = x[rows] @ x[columns].T + (k[rows, None] + (k[None, columns] - k.sum() / (n - 1))) / (n - 2)
    i = xp.arange(n)
    return xp.where(i[rows, None] == i[None, columns], 0.0, u)


def debiased_cka() -> PairProbe:
    """Linear CKA with the unbiased HSIC estimator: near 0 for unrelated representations at any width.

        CKA_u = HSIC_u(K, L) / √(HSIC_u(K, K) HSIC_u(L, L)),  HSIC_u = ⟨K°, L°⟩ / (n(n−3)),
        K°_ij = K_ij − Σ_k K̃_ik/(n−2) − Σ_k K̃_kj/(n−2) + Σ K̃/((n−1)(n−2)) for i ≠ j,  K°_ii = 0,  K̃ = K − diag

    X is n×d1, Y is n×d2. Range −1..1. Undefined for a constant representation and for n < 4.
    Source: Song, Smola, Gretton, Bedo and Borgwardt 2012, JMLR 13 (estimator); Murphy,
    Zylberberg and Fyshe 2024, arXiv 2405.01012 (in CKA).
    """
    info = ProbeInfo(
        name="debiased-cka",
        title="linear CKA (debiased)",
        kind="pair",
        formula="HSIC_u(K,L) / √(HSIC_u(K,K) HSIC_u(L,L)), K = XXᵀ, HSIC_u without the diagonal",
        citation="Song, Smola, Gretton, Bedo, Borgwardt 2012, JMLR 13; "
        "Murphy, Zylberberg, Fyshe 2024, arXiv 2405.01012",
        range=(-1.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=ROTATION_SCALE_SHIFT,
        convention="linear kernel, Song's unbiased HSIC in numerator and denominator; the ratio keeps a bias of O(1/n)",
        cost="min(n·d², n²·d)",
        traps="Can be slightly negative: that means unrelated, not opposed. Resampling stimuli with replacement "
        "brings the diagonal back in. " + CLASS_TRAP,
        null_mean=lambda n, d1, d2: 0.0,
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | Undefined:
        if len(x) < 4:
            return Undefined(f"the unbiased estimator divides by n − 3, and here n = {len(x)}")
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        c = narrowed(c)
        k = np.einsum("ij,ij->i", c, c)
        norm = _hsic_u(c, k, c, k)
        if norm <= 1e-12 * np.linalg.norm(c.T @ c) ** 2:
            return Undefined("all pairs of stimuli are equally similar, so nothing is left without the diagonal")
        return c / norm**0.25, k / math.sqrt(norm)

    def value(a: tuple, b: tuple) -> float:
        return min(1.0, max(-1.0, _hsic_u(*a, *b)))

    return pair_probe(
        info,
        prepare=prepare,
        value=value,
        permute=lambda a, order: (a[0][order], a[1][order]),
        matrix=lambda a, rows, columns: _debiased(*a, rows, columns),
    )


def minibatch_cka(batch: int = 50) -> PairProbe:
    """Debiased linear CKA from batches: the unbiased HSICs are averaged over batches, then divided.

        CKA_mb = Σ_b HSIC_u(K_b, L_b) / √( Σ_b HSIC_u(K_b, K_b) · Σ_b HSIC_u(L_b, L_b) )

    Batch b holds rows b·batch to (b+1)·batch − 1 of both; rows left over at the end are not used. X is n×d1, Y is
    n×d2. Range −1..1. Undefined for a constant representation and for n < batch.
    Source: Nguyen, Raghu and Kornblith 2021, arXiv 2010.15327.
    """
    positive_integer("batch", batch, least=4)
    info = ProbeInfo(
        name="minibatch-cka",
        title="linear CKA (debiased, in batches)",
        kind="pair",
        formula="Σ_b HSIC_u(K_b,L_b) / √(Σ_b HSIC_u(K_b,K_b) Σ_b HSIC_u(L_b,L_b)), K_b = X_b X_bᵀ of batch b",
        citation="Nguyen, Raghu, Kornblith 2021, arXiv 2010.15327",
        range=(-1.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=ROTATION_SCALE_SHIFT,
        convention=f"batches of {batch} consecutive rows, the same for all networks, incomplete last one dropped; the "
        "ratio of mean HSICs, not the mean of ratios; centred within the batch",
        cost="n·batch·d to prepare, n·batch for a pair",
        traps="Depends on the order of the rows: batches sorted by class see nothing between classes. For data that "
        "do not fit into memory; otherwise debiased-cka uses all pairs of stimuli. " + CLASS_TRAP,
        null_mean=lambda n, d1, d2: 0.0,
        params=(("batch", int(batch)),),
    )

    def in_batches(c: np.ndarray) -> tuple[np.ndarray, np.ndarray] | Undefined:
        u = np.empty((len(c) // batch, batch, batch))
        size = 0.0
        for i in range(len(u)):
            x = c[i * batch : (i + 1) * batch]
            x = x - x.mean(axis=0)
            u[i] = _debiased(x, np.einsum("ij,ij->i", x, x))
            size += np.linalg.norm(x @ x.T) ** 2
        norm = np.vdot(u, u)
        if norm <= 1e-12 * size:
            return Undefined(f"in every batch of {batch} rows all pairs of stimuli are equally similar")
        return c, u / math.sqrt(norm)

    def prepare(x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | Undefined:
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        if len(x) < batch:
            return Undefined(f"a batch takes {batch} stimuli, and there are only {len(x)}; make batches smaller")
        return in_batches(narrowed(c))

    # No matrix: Σ_b is an inner product of block-diagonal matrices, but permuting their rows and columns is not what
    # permuting the stimuli gives, because the batches then hold other pairs. Nulls made from it would be wrong.
    return pair_probe(
        info,
        prepare=prepare,
        value=lambda a, b: min(1.0, max(-1.0, float(np.vdot(a[1], b[1])))),
        permute=lambda a, order: in_batches(a[0][order]),
    )
