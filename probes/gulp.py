"""GULP: how differently two representations predict, uniformly over all regression tasks."""

import math

import numpy as np

from probes.cca import principal
from probes.cka import ROTATION_SCALE_SHIFT
from probes.features import centred
from probes.probe import INVARIANCES, PairProbe, ProbeInfo, Undefined, non_negative, pair_probe

# Below this share of the squared norms, their difference has lost digits and is computed another way.
NEARLY_ALIKE = 0.01


def _squared_gap(a: np.ndarray, b: np.ndarray) -> float:
    """‖aaᵀ − bbᵀ‖²_F for n×k1 and n×k2, accurate also when it is tiny."""
    if a.shape == b.shape and np.array_equal(a, b):
        return 0.0
    total = np.linalg.norm(a.T @ a) ** 2 + np.linalg.norm(b.T @ b) ** 2
    gap = total - 2.0 * np.linalg.norm(a.T @ b) ** 2
    if gap < NEARLY_ALIKE * total:
        r = np.linalg.qr(np.hstack([a, b]), mode="r")  # both in one basis of the few directions they use
        p, q = r[:, : a.shape[1]], r[:, a.shape[1] :]
        gap = np.linalg.norm(p @ p.T - q @ q.T) ** 2
    return float(gap)


def gulp(lam: float = 0.01) -> PairProbe:
    """Squared GULP distance: difference between the ridge predictions that two representations allow.

        d² = tr(Σx^λ Σx Σx^λ Σx) + tr(Σy^λ Σy Σy^λ Σy) − 2 tr(Σx^λ Σxy Σy^λ Σyx),  Σ^λ = (Σ + λI)⁻¹
           = ‖Kx − Ky‖²_F,  Kx = X(XᵀX + λI)⁻¹Xᵀ

    X and Y column-centred with unit Frobenius norm, so that Σx = XᵀX has trace 1 and λ is a share of the total
    variance; Kx takes any target to its ridge prediction from X. X is n×d1, Y is n×d2, any widths. Range 0..∞ (at most
    d1 + d2), exactly 0 for identical arrays. At lam=0 it is r1 + r2 − 2 Σρ² with ranks r and canonical correlations ρ.
    Undefined for a constant representation.
    Source: Boix-Adserà, Lawrence, Stepaniants and Rigollet 2022, arXiv 2210.06545.
    """
    non_negative("lam", lam)
    info = ProbeInfo(
        name="gulp",
        title="squared GULP distance",
        kind="pair",
        formula="‖Kx − Ky‖²_F, Kx = X(XᵀX + λI)⁻¹Xᵀ, X column-centred with unit Frobenius norm",
        citation="Boix-Adserà, Lawrence, Stepaniants, Rigollet 2022, arXiv 2210.06545",
        range=(0.0, math.inf),
        direction="distance",
        symmetric=True,
        metric=False,
        invariances=INVARIANCES if lam == 0 else ROTATION_SCALE_SHIFT,
        convention="the square, whose root is a metric; centred, total variance 1, so lam is relative to it; rank as "
        "in cca",
        traps="lam decides what is seen: near 0 all directions count alike and d ≥ n − 1 units make any two "
        "representations with as many equal, far above 1 it measures what CKA does. Not bounded by 1: grows with the "
        "number of directions above lam. Class means alone bring it down: read the within-class null.",
        cost="n·d²",
        params=(("lam", float(lam)),),
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        u, s, rank = principal(c)
        share = (s[:rank] / np.linalg.norm(s)) ** 2
        return (u[:, :rank] * np.sqrt(share / (share + lam)),)  # a with aaᵀ = Kx

    return pair_probe(
        info,
        prepare=prepare,
        value=lambda a, b: _squared_gap(a[0], b[0]),
        permute=lambda a, order: (a[0][order],),
    )
