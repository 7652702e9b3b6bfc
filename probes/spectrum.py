"""How many directions a representation uses: four ranks and the exponent of its spectrum.

"Effective rank" means different numbers in different papers, so each definition has its own name here. The functions
that end in `_of` take a vector of singular values, of any matrix (centred or not), and are what the rest rest on.
"""

from typing import Any

import numpy as np

from probes.features import centred, features, narrowed
from probes.probe import ProbeError, SingleProbe, Undefined, positive_integer, single_info

INVARIANCES = frozenset({"permutation", "orthogonal", "isotropic-scaling", "translation"})


def singular_values(X: Any) -> np.ndarray | Undefined:
    """Singular values of the column-centred X, largest first, up to one positive factor; Undefined if constant."""
    c = centred(features(X))
    return c if isinstance(c, Undefined) else np.linalg.svd(c, compute_uv=False)


def _unit(singular_values: Any) -> np.ndarray | Undefined:
    s = np.asarray(singular_values, dtype=np.float64)
    if s.ndim != 1 or s.size == 0 or not np.isfinite(s).all() or (s < 0).any():
        raise ProbeError("singular values must be a non-empty vector of finite numbers of at least 0; pass svd output.")
    largest = s.max()
    return s / largest if largest > 0 else Undefined("all singular values are zero")


def participation_ratio_of(singular_values: Any) -> float | Undefined:
    """(Σσ²)² / Σσ⁴: the number of equal eigenvalues with the same first two moments. Between 1 and len(σ)."""
    s = _unit(singular_values)
    return s if isinstance(s, Undefined) else float((s**2).sum() ** 2 / (s**4).sum())


def entropy_rank_of(singular_values: Any, power: int = 1) -> float | Undefined:
    """exp H(p), p = σ^power / Σσ^power; power 1 is Roy and Vetterli's, power 2 takes eigenvalues σ² instead."""
    s = _unit(singular_values)
    if isinstance(s, Undefined):
        return s
    p = s**power
    p = p[p > 0] / p.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def stable_rank_of(singular_values: Any) -> float | Undefined:
    """Σσ² / σ₁²: squared Frobenius norm over squared spectral norm. Between 1 and len(σ)."""
    s = _unit(singular_values)
    return s if isinstance(s, Undefined) else float((s**2).sum())


def exponent_of(singular_values: Any, low: int, high: int) -> dict[str, float] | Undefined:
    """Minus the least-squares slope of log σ_i² on log i for ranks i = low..high (from 1, both included)."""
    s = _unit(singular_values)
    if isinstance(s, Undefined):
        return s
    s = np.sort(s)[::-1]
    usable = int((s > len(s) * np.finfo(np.float64).eps).sum())
    if usable < high:
        return Undefined(f"the fit needs eigenvalues {low} to {high}, and only {usable} are above rounding")
    i = np.log(np.arange(low, high + 1))
    y = 2.0 * np.log(s[low - 1 : high])
    i_c, y_c = i - i.mean(), y - y.mean()
    slope = float(i_c @ y_c / (i_c @ i_c))
    total = float(y_c @ y_c)
    r2 = 1.0 - float(((y_c - slope * i_c) ** 2).sum()) / total if total > 0 else 0.0
    return {"value": -slope, "low": float(low), "high": float(high), "r2": r2}


FEW = "the value is biased low: the spectrum is that of the sample"


def _single(of, **card) -> SingleProbe:
    def value(X: Any) -> float | dict[str, float] | Undefined:
        s = singular_values(X)
        return s if isinstance(s, Undefined) else of(s)

    return SingleProbe(single_info(invariances=INVARIANCES, few_stimuli=FEW, **card), value)


def participation_ratio() -> SingleProbe:
    """Participation ratio of the covariance eigenvalues.

        PR = (Σλ)² / Σλ²,  λ = squared singular values of the column-centred X

    X is n×d. Range 1..min(n−1, d). Undefined for a constant representation.
    Source: Gao, Trautmann, Yu, Santhanam, Ryu, Shenoy and Ganguli 2017, doi 10.1101/214262.
    """
    return _single(
        participation_ratio_of,
        name="participation-ratio",
        title="participation ratio",
        formula="(Σλ)² / Σλ², λ eigenvalues of the covariance",
        citation="Gao, Trautmann, Yu, Santhanam, Ryu, Shenoy, Ganguli 2017, doi 10.1101/214262",
        range=(1.0, np.inf),
        convention="eigenvalues of the covariance (squared singular values of the centred array), no correction for n",
        cost="n·d·min(n, d)",
        traps="Low when stimuli are few: isotropic features of width d give n·d/(n+d), not d. Dominated by the "
        "largest eigenvalues.",
    )


def debiased_participation_ratio() -> SingleProbe:
    """Participation ratio of the covariance that the stimuli are a sample of: does not fall when stimuli are few.

        T / Q,  T unbiased for (tr Σ)², Q unbiased for tr Σ², both averages over distinct stimuli:
        T = mean ‖x_i−x_j‖² ‖x_k−x_l‖² / 4,  Q = mean ((x_i−x_j)·(x_k−x_l))² / 4  over distinct i, j, k, l

    X is n×d: the stimuli are a sample, the units are all there are. At least 0, about tr(Σ)²/tr(Σ²) ≤ d. Undefined for
    a constant representation, for n < 4, and when Q is not above 0.
    Source: Chun, Canatar, Chung and Lee 2026, arXiv 2509.26560 (γ_row).
    """
    info = single_info(
        name="debiased-participation-ratio",
        title="participation ratio (debiased)",
        formula="unbiased (tr Σ)² / unbiased tr Σ², averages over distinct stimuli",
        citation="Chun, Canatar, Chung, Lee 2026, arXiv 2509.26560 (γ_row)",
        range=(0.0, np.inf),
        invariances=INVARIANCES,
        convention="corrects for few stimuli only: all units are observed, so the correction for sampled units, "
        "γ_both, does not apply (on full layers it can exceed d a hundredfold); numerator and denominator are "
        "unbiased, the ratio is not quite",
        cost="n·d·min(n, d)",
        traps="Assumes independent stimuli: repeated or correlated ones bias it down. Noisy, and can exceed d, when "
        "n is far below the dimension.",
    )

    def value(X: Any) -> float | Undefined:
        x = features(X)
        n = len(x)
        if n < 4:
            return Undefined(f"averages over four distinct stimuli need n ≥ 4, and there are n = {n}")
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        c = narrowed(c)
        k = np.einsum("ij,ij->i", c, c)
        # Sums over distinct indices come down to three sums, because the rows of c add up to zero.
        S, S2, F = k.sum(), k @ k, np.linalg.norm(c.T @ c) ** 2
        squared_trace = (n**2 - 3 * n + 1) * S**2 - n * (n - 1) * S2 + 2 * F
        trace_of_square = (n - 1) * (n - 2) * F - n * (n - 1) * S2 + S**2
        if trace_of_square <= 1e-12 * n**2 * F:
            return Undefined("the unbiased estimate of tr Σ² is not above 0; there are too few stimuli")
        return float(squared_trace / trace_of_square)

    return SingleProbe(info, value)


def effective_rank() -> SingleProbe:
    """Effective rank: exponential of the entropy of the normalised singular values.

        erank = exp(−Σ p_i log p_i),  p = σ / Σσ

    X is n×d, column-centred. Range 1..min(n−1, d). Undefined for a constant representation.
    Source: Roy and Vetterli 2007, "The effective rank", EUSIPCO.
    """
    return _single(
        entropy_rank_of,
        name="effective-rank",
        title="effective rank",
        formula="exp H(σ/Σσ), σ singular values of Xc",
        citation="Roy, Vetterli 2007, The effective rank: a measure of effective dimensionality, EUSIPCO",
        range=(1.0, np.inf),
        convention="entropy of singular values, as in the source; with eigenvalues see eigenvalue-effective-rank",
        cost="n·d·min(n, d)",
        traps="Three definitions go by this name (this one, the one with eigenvalues, and the stable rank); they "
        "differ by tens of per cent. Low when stimuli are few.",
    )


def eigenvalue_effective_rank() -> SingleProbe:
    """Effective rank with eigenvalues in place of singular values.

        exp(−Σ p_i log p_i),  p = λ / Σλ,  λ = σ²

    X is n×d, column-centred. Range 1..min(n−1, d), never above `effective-rank`. Undefined for a constant one.
    Source: after Roy and Vetterli 2007, EUSIPCO.
    """
    return _single(
        lambda s: entropy_rank_of(s, power=2),
        name="eigenvalue-effective-rank",
        title="effective rank of the covariance",
        formula="exp H(λ/Σλ), λ eigenvalues of the covariance",
        citation="after Roy, Vetterli 2007, The effective rank: a measure of effective dimensionality, EUSIPCO",
        range=(1.0, np.inf),
        convention="entropy of eigenvalues; the form with singular values is effective-rank",
        cost="n·d·min(n, d)",
        traps="Often called effective rank as well; not comparable with effective-rank. Low when stimuli are few.",
    )


def stable_rank() -> SingleProbe:
    """Stable rank: total variance over the largest eigenvalue.

        ‖Xc‖²_F / ‖Xc‖²₂ = Σλ / λ₁

    X is n×d. Range 1..min(n−1, d). Undefined for a constant representation.
    Source: Rudelson and Vershynin 2007, arXiv math/0503442.
    """
    return _single(
        stable_rank_of,
        name="stable-rank",
        title="stable rank",
        formula="‖Xc‖²_F / ‖Xc‖²₂",
        citation="Rudelson, Vershynin 2007, arXiv math/0503442",
        range=(1.0, np.inf),
        convention="of the column-centred array; on raw arrays the mean would be the first direction",
        cost="n·d·min(n, d)",
        traps="Set by one eigenvalue; called effective rank in some papers. Low when stimuli are few.",
    )


def spectrum_exponent(low: int = 10, high: int = 50) -> SingleProbe:
    """Exponent α of a power law λ_i ∝ i^−α fitted to a stated range of ranks.

        α = −slope of log λ_i on log i,  i = low..high (from 1, both included), ordinary least squares

    X is n×d. Returns value (α), low, high and r2 of the fit. Undefined for a constant representation, and when fewer
    than `high` eigenvalues are above rounding.
    Source: Stringer, Pachitariu, Steinmetz, Carandini and Harris 2019, doi 10.1038/s41586-019-1346-5.
    """
    positive_integer("low", low)
    positive_integer("high", high)
    if high < low + 2:
        raise ProbeError(f"low={low}, high={high}: a line needs at least three ranks; raise high to {low + 2} or more.")
    return _single(
        lambda s: exponent_of(s, low, high),
        name="spectrum-exponent",
        title="exponent of the spectrum",
        formula=f"−slope of log λ_i on log i for i = {low}..{high}",
        citation="Stringer, Pachitariu, Steinmetz, Carandini, Harris 2019, doi 10.1038/s41586-019-1346-5",
        range=(0.0, np.inf),
        convention=f"ranks {low} to {high}, plain (not cross-validated) eigenvalues, least squares in log-log",
        cost="n·d·min(n, d)",
        traps="Biased low when stimuli are few: at 500 units a true 1.0 reads .89 with 200 stimuli, .97 with 1000. "
        "The eigenvalues are not independent, so r2 is no evidence for a power law and the fit has no standard error: "
        "take the spread over seeds.",
        params=(("low", int(low)), ("high", int(high))),
    )
