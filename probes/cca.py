"""Canonical correlations: what two representations share up to any invertible linear map, and three averages of it."""

import math

import numpy as np

from probes.cka import ROTATION_SCALE_SHIFT
from probes.features import centred, narrowed
from probes.probe import INVARIANCES, PairProbe, ProbeError, ProbeInfo, Undefined, pair_probe, positive_integer

# Directions with less than this share of the largest singular value are left out. Activations are mostly computed in
# float32, whose rounding has about this size, and CCA would count that noise as much as any signal.
RANK = 1e-6

FULL_TRAP = (
    "With d ≥ n − 1 units the directions of one representation span all stimuli, and the value is 1 for any data: "
    "use several times more stimuli than units. "
)


def principal(c: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Left singular vectors (n×k) and singular values (k) of centred c, and how many of these are no rounding."""
    u, s, _ = np.linalg.svd(narrowed(c), full_matrices=False)
    return u, s, int((s > RANK * s[0]).sum())


def _mean_correlation(a: np.ndarray, b: np.ndarray, power: int = 1) -> float:
    """Mean of ρ or ρ² over the smaller rank, from orthonormal bases a and b: ρ are the singular values of aᵀb."""
    cross = a.T @ b
    total = np.linalg.svd(cross, compute_uv=False).sum() if power == 1 else np.linalg.norm(cross) ** 2
    return min(1.0, float(total) / min(cross.shape))


def cca(power: int = 1) -> PairProbe:
    """Mean canonical correlation, or with `power=2` the mean of their squares.

        CCA = (1/r) Σ_i ρ_i^power,  ρ = singular values of QxᵀQy,  r = min(rank Xc, rank Yc)

    Qx (n×r1) and Qy (n×r2) are orthonormal bases of the column spaces of Xc and Yc; directions whose singular value is
    below 1e-6 of the largest one do not count. X is n×d1, Y is n×d2. Range 0..1; 1 by construction when either has
    n − 1 dimensions. Undefined for a constant representation.
    Source: Hotelling 1936, doi 10.1093/biomet/28.3-4.321; mean of squares: Kornblith, Norouzi, Lee and Hinton 2019,
    arXiv 1905.00414.
    """
    if positive_integer("power", power) > 2:
        raise ProbeError(f"power={power!r} is not known; choose 1 (mean of correlations) or 2 (mean of their squares).")

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        u, _, rank = principal(c)
        return (u[:, :rank].copy(),)

    info = ProbeInfo(
        name="cca",
        title="mean canonical correlation" if power == 1 else "mean squared canonical correlation",
        kind="pair",
        formula=f"(1/r) Σ_i ρ_i{'²' if power == 2 else ''}, ρ singular values of QxᵀQy, r = min(rank Xc, rank Yc)",
        citation="Hotelling 1936, doi 10.1093/biomet/28.3-4.321; "
        "Kornblith, Norouzi, Lee, Hinton 2019, arXiv 1905.00414",
        range=(0.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=INVARIANCES,
        convention="divided by the smaller of the two ranks (others divide by √(r1·r2) or by the rank of one); rank "
        "counts singular values of Xc above 1e-6 of the largest",
        traps=FULL_TRAP + "Directions of tiny variance count as much as the largest ones. Unrelated representations "
        "have a mean ρ² of max(d1, d2)/(n − 1). Class means alone give as many correlations near 1 as there are "
        "classes: read the within-class null.",
        few_stimuli="noise directions correlate by construction",
        cost="n·d²",
        # Over permutations of rows the mean of ‖QxᵀQy‖² is r1·r2/(n − 1) exactly; the mean of ρ has no such form.
        null_mean=(lambda n, d1, d2: min(max(d1, d2), n - 1) / max(n - 1, 1)) if power == 2 else None,
        params=(("power", int(power)),),
    )
    return pair_probe(
        info,
        prepare=prepare,
        value=lambda a, b: _mean_correlation(a[0], b[0], power),
        permute=lambda a, order: (a[0][order],),
    )


def _share(variance: float) -> float:
    number = isinstance(variance, int | float | np.integer | np.floating) and not isinstance(variance, bool)
    if not number or not 0 < variance <= 1:
        raise ProbeError(f"variance={variance!r} must be a share of the variance, above 0 and at most 1.")
    return float(variance)


def svcca(variance: float | None = None, rank: int | None = None) -> PairProbe:
    """Mean canonical correlation of the leading principal components.

        SVCCA = (1/k) Σ_i ρ_i of CCA between the first k1 and k2 principal components, k = min(k1, k2)

    With `variance`, k1 is the least number of components of Xc whose variances σ² add up to that share (0.99 when
    nothing is given); with `rank`, k1 = k2 = rank. X is n×d1, Y is n×d2. The number kept is the width of
    `prepared.arrays[0]`. Range 0..1. Undefined for a constant representation, and for one with fewer than `rank`
    directions.
    Source: Raghu, Gilmer, Yosinski and Sohl-Dickstein 2017, arXiv 1706.05806.
    """
    if variance is not None and rank is not None:
        raise ProbeError(f"variance={variance!r} and rank={rank!r} are two ways to truncate; give one of them.")
    if rank is None:
        share = _share(0.99 if variance is None else variance)
        kept, params = f"the fewest with {share:g} of the variance", (("variance", share),)
    else:
        positive_integer("rank", rank)
        kept, params = f"the first {rank}", (("rank", int(rank)),)

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        u, s, available = principal(c)
        if rank is None:
            reached = np.cumsum(s**2) / (s**2).sum()
            # The slack lets a share of 1, or one that is met exactly, be reached in spite of rounding.
            k = min(available, 1 + int((reached < share - 1e-12).sum()))
        elif rank > available:
            return Undefined(f"rank = {rank} components are asked for, and there are only {available}")
        else:
            k = rank
        return (u[:, :k].copy(),)

    info = ProbeInfo(
        name="svcca",
        title="mean canonical correlation of principal components",
        kind="pair",
        formula="(1/k) Σ_i ρ_i between the first k1 and k2 principal components, k = min(k1, k2)",
        citation="Raghu, Gilmer, Yosinski, Sohl-Dickstein 2017, arXiv 1706.05806",
        range=(0.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=ROTATION_SCALE_SHIFT,
        convention=f"components kept: {kept}; variance is σ² (some codes add up σ, which keeps more); divided by the "
        "smaller number of components; the width of `prepared.arrays[0]` is the number kept",
        traps="A share of variance keeps different numbers of components in different networks, and the value falls "
        "with their number, so groups can differ by truncation alone: compare at a fixed rank. " + FULL_TRAP,
        few_stimuli="noise directions correlate by construction",
        cost="n·d²",
        params=params,
    )
    return pair_probe(
        info,
        prepare=prepare,
        value=lambda a, b: _mean_correlation(a[0], b[0]),
        permute=lambda a, order: (a[0][order],),
    )


def pwcca() -> PairProbe:
    """Projection-weighted canonical correlation: weights say how much of the first representation a direction carries.

        PWCCA(X, Y) = Σ_i α_i ρ_i / Σ_i α_i,   α_i = Σ_j |⟨h_i, x_j⟩|,   i = 1..min(rank Xc, rank Yc)

    h_i = Qx u_i are the canonical directions of X among the stimuli (unit vectors of length n; u_i, ρ_i from the
    singular value decomposition of QxᵀQy), x_j the centred columns of X. Asymmetric: only the first representation
    weighs. X is n×d1, Y is n×d2. Range 0..1, 1 by construction when either has n − 1 dimensions. Undefined for a
    constant representation.
    Source: Morcos, Raghu and Bengio 2018, arXiv 1806.05759.
    """
    info = ProbeInfo(
        name="pwcca",
        title="projection-weighted canonical correlation",
        kind="pair",
        formula="Σ_i α_i ρ_i / Σ_i α_i, α_i = Σ_j |⟨h_i, x_j⟩|, h_i canonical directions, x_j columns of the first",
        citation="Morcos, Raghu, Bengio 2018, arXiv 1806.05759",
        range=(0.0, 1.0),
        direction="similarity",
        symmetric=False,
        metric=False,
        # Any linear map of the second representation changes nothing either, but the absolute values look at the
        # first one's units one by one.
        invariances=frozenset({"permutation", "isotropic-scaling", "translation"}),
        convention="weights from the first representation (some codes take the narrower one), its first min(r1, r2) "
        "canonical directions, unit-norm directions, rank as in cca",
        traps=FULL_TRAP + "Public codes disagree in the second decimal. Where several ρ are equal and below 1 the "
        "directions among them, and so the weights, are not unique. Keep both orders; do not fill a symmetric matrix.",
        few_stimuli="noise directions correlate by construction",
        cost="n·d²",
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | Undefined:
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        u, _, rank = principal(c)
        q = u[:, :rank].copy()
        return q, c.T @ q / math.sqrt(c.size)

    def value(a: tuple, b: tuple) -> float:
        u, rho, _ = np.linalg.svd(a[0].T @ b[0], full_matrices=False)
        weight = np.abs(a[1] @ u).sum(axis=0)
        return min(1.0, float(weight @ rho / weight.sum()))

    return pair_probe(info, prepare=prepare, value=value, permute=lambda a, order: (a[0][order], a[1]))
