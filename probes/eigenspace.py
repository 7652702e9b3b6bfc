"""Eigenspace overlap: how much of the space of functions that a linear read-out can form is common to both."""

import numpy as np

from probes.features import centred, scaled
from probes.probe import PairProbe, ProbeInfo, Undefined, pair_probe


def eigenspace_overlap() -> PairProbe:
    """Overlap of the spaces spanned by the units, as directions in the space of stimuli.

        EOS = ‖U_Xᵀ U_Y‖²_F / max(r_X, r_Y),  U_X an orthonormal basis of the columns of X, r_X its rank

    X is n×d1, Y is n×d2, not centred. The rank counts singular values above σ₁ · max(n, d) · 2⁻⁵². Range 0..1; chance
    is min(r_X, r_Y)/n. Undefined for a constant representation.
    Source: May, Zhang, Dao and Ré 2019, arXiv 1909.01264.
    """
    info = ProbeInfo(
        name="eigenspace-overlap",
        title="eigenspace overlap score",
        kind="pair",
        formula="‖U_Xᵀ U_Y‖²_F / max(rank X, rank Y), U left singular vectors",
        citation="May, Zhang, Dao, Ré 2019, arXiv 1909.01264",
        range=(0.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=frozenset({"permutation", "orthogonal", "isotropic-scaling", "invertible-linear"}),
        convention="columns not centred; divided by the larger rank, where the source, which takes full rank for "
        "granted, divides by the larger width; rank = singular values above σ₁·max(n, d)·2⁻⁵²",
        few_stimuli="random subspaces overlap by construction",
        cost="n·d·min(n, d) to prepare, n·r² for a pair",
        traps="1 for any two representations with at least as many independent units as stimuli. Every direction of "
        "non-zero variance counts the same, down to rounding: a little noise in silent units changes the rank.",
        null_mean=lambda n, d1, d2: min(n, d1, d2) / n,
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        u, s, _ = np.linalg.svd(scaled(x), full_matrices=False)
        return (np.ascontiguousarray(u[:, s > s[0] * max(x.shape) * np.finfo(np.float64).eps]),)

    def value(a: tuple, b: tuple) -> float:
        return min(1.0, float(np.linalg.norm(a[0].T @ b[0])) ** 2 / max(a[0].shape[1], b[0].shape[1]))

    return pair_probe(info, prepare=prepare, value=value, permute=lambda a, order: (a[0][order],))
