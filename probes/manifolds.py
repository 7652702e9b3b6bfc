"""How many classes a linear read-out could tell apart, from the convex hulls of their stimuli.

Both capacities are one over the mean squared length of the projection of a Gaussian vector onto a cone, which a
non-negative least-squares fit gives exactly. The vectors are drawn with one number per stimulus and carried into the
space that the stimuli span, so that a rotation of the units rotates them too and the value stays the same.
"""

import itertools
import math
from typing import Any

import numpy as np

from probes.features import ROUNDING, centred, class_labels, features, scaled
from probes.probe import SingleProbe, Undefined, positive_integer, single_info

POINTS_TRAP = "A hull grows with every stimulus, so the value falls as points are added: compare at equal points."


def _members(y: np.ndarray, points: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of each class, at most `points` of them drawn: the same rows for every network with these labels."""
    rows = [np.flatnonzero(y == c) for c in range(int(y.max()) + 1)]
    return [r if len(r) <= points else np.sort(rng.choice(r, points, replace=False)) for r in rows]


def _coordinates(z: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of z in the basis of its r singular vectors (m×r), and what carries m Gaussian numbers to r (m×r)."""
    u, s, _ = np.linalg.svd(z, full_matrices=False)
    keep = s > max(floor, s[0] * max(z.shape) * np.finfo(np.float64).eps)
    return u[:, keep] * s[keep], u[:, keep]


def _weights(cone: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Non-negative weights of the rows of cone whose sum is the point of their cone nearest to t."""
    from scipy.optimize import nnls  # here, so that the table of probes loads without SciPy

    return nnls(cone.T, t, maxiter=30 * len(cone))[0]


def _inverse_mean(a: np.ndarray) -> tuple[float, float]:
    """1 / mean of a, and its standard error over the draws."""
    mean = float(a.mean())
    return 1.0 / mean, float(a.std(ddof=1)) / math.sqrt(len(a)) / mean**2


def _lengths(v: np.ndarray) -> np.ndarray:
    return np.linalg.norm(v, axis=-1, keepdims=True)


def _unit(v: np.ndarray) -> np.ndarray:
    """Rows of v over their lengths; a row of zeros stays one."""
    length = _lengths(v)
    return np.divide(v, length, out=np.zeros_like(v), where=length > 0)


def _cosines(a: np.ndarray, b: np.ndarray) -> float:
    """Mean |cos| between row c of a and row c' ≠ c of b, over any leading axes; a row of zeros has cosine 0."""
    cosine = np.abs(_unit(a) @ np.swapaxes(_unit(b), -1, -2))
    return float(cosine[..., ~np.eye(cosine.shape[-1], dtype=bool)].mean())


def _checked(X: Any, labels: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray] | Undefined:
    """X, its centred form and the classes; Undefined for a constant X, for one class and for a class of one point."""
    x = features(X)
    y = class_labels(labels, len(x))
    c = centred(x)
    if isinstance(c, Undefined):
        return c
    if y.max() == 0:
        return Undefined("there is only one class, so there is nothing to tell apart")
    sizes = np.bincount(y)
    if sizes.min() < 2:
        return Undefined(f"class {int(sizes.argmin())} (in sorted order) has one stimulus, so it has no extent")
    return scaled(x), c, y


def capacity(points: int = 50, samples: int = 200, seed: int = 0) -> SingleProbe:
    """Mean-field capacity of class manifolds: classes per unit that a line can still separate, were they uncorrelated.

        1/α = mean_c E_t ‖proj_cone{(s, 1): s ∈ S_c} t‖²,  S_c = {(x_i − μ_c)/‖μ_c − μ‖ : i ∈ c},  t ~ N(0, I)
        anchor s̃(t) = where the projection crosses the hull of S_c; if it is 0, the point of S_c that would come first
        R_c² = E‖s̃ − E s̃‖²,  D_c = E (t·δ)², δ the direction of s̃ − E s̃

    X is n×d, labels has n entries of C classes, at most `points` stimuli of each are used, μ is their mean. Returns
    value (α), standard_error (of the draws of t), radius and dimension (means of R_c and D_c over classes),
    centre_correlation (mean |cos| between the μ_c − μ) and points (in the smallest class). Above 0; 2 for classes
    without extent. Undefined for a constant representation, one class, a class of one stimulus, and a class whose mean
    is that of all stimuli.
    Source: Chung, Lee and Sompolinsky 2018, doi 10.1103/PhysRevX.8.031003; Cohen, Chung, Lee and Sompolinsky 2020,
    doi 10.1038/s41467-020-14578-5.
    """
    positive_integer("points", points, least=2)
    positive_integer("samples", samples, least=10)
    positive_integer("seed", seed, least=0)
    info = single_info(
        name="capacity",
        title="mean-field manifold capacity",
        formula="1 / mean_c E_t ‖proj_cone{((x−μ_c)/‖μ_c−μ‖, 1)} t‖²",
        citation="Chung, Lee, Sompolinsky 2018, doi 10.1103/PhysRevX.8.031003; "
        "Cohen, Chung, Lee, Sompolinsky 2020, doi 10.1038/s41467-020-14578-5",
        range=(0.0, math.inf),
        invariances=frozenset({"permutation", "orthogonal", "isotropic-scaling", "translation"}),
        convention=f"margin 0; the mean of all stimuli is subtracted, each class is measured in lengths of its centre, "
        "which counts as orthogonal to it; low-rank correlations of the centres are reported, not removed (the 2020 "
        f"paper removes them first); capacities average as inverses; {samples} draws of t, seed {seed}",
        cost=f"{samples}·C·points³",
        traps="Says what these classes would have if their centres and axes were uncorrelated: read centre_correlation "
        "beside it, and glue, which takes correlations in. " + POINTS_TRAP,
        params=(("points", int(points)), ("samples", int(samples)), ("seed", int(seed))),
    )

    def value(X: Any, labels: Any) -> dict[str, float] | Undefined:
        checked = _checked(X, labels)
        if isinstance(checked, Undefined):
            return checked
        _, x, y = checked
        rng = np.random.default_rng(seed)
        members = _members(y, points, rng)
        centres = np.stack([x[rows].mean(axis=0) for rows in members])
        about = centres - x[np.concatenate(members)].mean(axis=0)
        norm = _lengths(about)[:, 0]
        if norm.min() <= ROUNDING * np.linalg.norm(x):
            return Undefined(f"the mean of class {int(norm.argmin())} (in sorted order) is the mean of all stimuli")
        squares, radius, dimension = [], [], []
        for c, rows in enumerate(members):
            s, carry = _coordinates((x[rows] - centres[c]) / norm[c], ROUNDING * np.linalg.norm(x) / norm[c])
            cone = np.hstack([s, np.ones((len(s), 1))])
            draws = rng.standard_normal((samples, len(s) + 1))
            draws = np.hstack([draws[:, :-1] @ carry, draws[:, -1:]])
            squared, anchors = np.empty(samples), np.empty((samples, s.shape[1]))
            for i, t in enumerate(draws):
                weight = _weights(cone, t)
                projection = weight @ cone
                squared[i] = projection @ projection
                anchors[i] = projection[:-1] / projection[-1] if weight.any() else s[np.argmax(cone @ t)]
            axes = anchors - anchors.mean(axis=0)
            squares.append(squared)
            radius.append(math.sqrt((axes**2).sum() / (samples - 1)))
            dimension.append(((_unit(axes) * draws[:, :-1]).sum(axis=1) ** 2).mean())
        alpha, error = _inverse_mean(np.mean(squares, axis=0))
        return {
            "value": alpha,
            "standard_error": error,
            "radius": float(np.mean(radius)),
            "dimension": float(np.mean(dimension)),
            "centre_correlation": _cosines(about, about),
            "points": float(min(map(len, members))),
        }

    return SingleProbe(info, value, needs=("labels",))


def glue(points: int = 50, samples: int = 200, seed: int = 0) -> SingleProbe:
    """Capacity of correlated class manifolds, for random dichotomies of the classes (GLUE).

        1/α = (1/C) E_{y,t} ‖proj_cone{y_c x_i : i ∈ c} t‖²,  y_c = ±1 at random,  t ~ N(0, I)
        anchor s_c(y, t) = the part of the projection that class c gives, as a point of its hull; if it gives none, the
        point nearest the separating plane.  S (C×d) holds the anchors, S₀ = E S, S₁ = S − S₀, T = S₁t, G = SSᵀ of each:
        D = E[Tᵀ G₁⁺ T] / C,  R² = E[Tᵀ(G₀+G₁)⁺T] / E[TᵀG₁⁺T − Tᵀ(G₀+G₁)⁺T]

    X is n×d, labels has n entries of C classes, at most `points` stimuli of each are used. Returns value (α),
    standard_error (of the draws of y and t), dimension (D), radius (R), centre_alignment, axis_alignment and
    centre_axis_alignment (mean |cos| between rows of S₀, of S₁, and of S₀ and S₁, of different classes), floor
    (C/rank X, what α is when no dichotomy can be separated) and points (in the smallest class). Above 0; 2 for classes
    without extent and C ≤ rank. Undefined for a constant representation, one class and a class of one stimulus.
    Source: Chou et al. 2024, doi 10.1101/2024.02.26.582157.
    """
    positive_integer("points", points, least=2)
    positive_integer("samples", samples, least=10)
    positive_integer("seed", seed, least=0)
    info = single_info(
        name="glue",
        title="capacity of correlated manifolds (GLUE)",
        formula="C / E_{y,t} ‖proj_cone{y_c x_i} t‖²",
        citation="Chou et al. 2024, doi 10.1101/2024.02.26.582157",
        range=(0.0, math.inf),
        invariances=frozenset({"permutation", "orthogonal", "isotropic-scaling"}),
        convention="every dichotomy is as likely (one class against the rest is another choice); planes through the "
        "origin of the activations, nothing is subtracted; radius from a ratio of means; alignments without sign; "
        f"{samples} draws, seed {seed}",
        cost=f"{samples}·(C·points)²·rank",
        traps="Never below floor = C/rank: near it the classes are too many for the units, and the value says that "
        "alone. " + POINTS_TRAP,
        params=(("points", int(points)), ("samples", int(samples)), ("seed", int(seed))),
    )

    def value(X: Any, labels: Any) -> dict[str, float] | Undefined:
        checked = _checked(X, labels)
        if isinstance(checked, Undefined):
            return checked
        x, _, y = checked
        rng = np.random.default_rng(seed)
        members = _members(y, points, rng)
        C = len(members)
        bounds = np.cumsum([0, *map(len, members)])
        hulls = [slice(*ends) for ends in itertools.pairwise(bounds)]
        s, carry = _coordinates(x[np.concatenate(members)], 0.0)
        draws = rng.standard_normal((samples, len(s))) @ carry
        sides = rng.choice([-1.0, 1.0], (samples, C))
        squared, anchors = np.empty(samples), np.empty((samples, C, s.shape[1]))
        for i, (t, side) in enumerate(zip(draws, sides, strict=True)):
            cone = s * np.repeat(side, np.diff(bounds))[:, None]
            weight = _weights(cone, t)
            projection = weight @ cone
            squared[i] = projection @ projection
            # What is left of t is normal to the plane; nothing is left when no plane separates.
            normal = t - projection
            normal = normal if np.linalg.norm(normal) > 1e-9 * np.linalg.norm(t) else t
            for c, hull in enumerate(hulls):
                total = weight[hull].sum()
                first = s[hull][np.argmax(cone[hull] @ normal)]
                anchors[i, c] = weight[hull] @ s[hull] / total if total > 0 else first
        alpha, error = _inverse_mean(squared / C)
        return {
            "value": alpha,
            "standard_error": error,
            **_anchor_geometry(anchors, draws),
            "floor": C / s.shape[1],
            "points": float(min(map(len, members))),
        }

    return SingleProbe(info, value, needs=("labels",))


def _anchor_geometry(anchors: np.ndarray, draws: np.ndarray) -> dict[str, float]:
    """Radius, dimension and alignments of anchors (samples×C×r) for the vectors that they belong to (samples×r)."""
    C = anchors.shape[1]
    centres = anchors.mean(axis=0)
    axes = anchors - centres
    axes[_lengths(axes)[..., 0] <= 1e-9 * np.abs(anchors).max()] = 0.0  # a class of one point has no axes but rounding
    centre_gram = centres @ centres.T
    whole, apart = np.empty(len(draws)), np.empty(len(draws))
    for i, (S1, t) in enumerate(zip(axes, draws, strict=True)):
        T, gram = S1 @ t, S1 @ S1.T
        whole[i] = T @ np.linalg.pinv(gram, rcond=1e-12, hermitian=True) @ T
        apart[i] = T @ np.linalg.pinv(gram + centre_gram, rcond=1e-12, hermitian=True) @ T
    spread = float((whole - apart).mean())
    return {
        "dimension": float(whole.mean()) / C,
        "radius": math.sqrt(apart.mean() / spread) if spread > 0 else 0.0,
        "centre_alignment": _cosines(centres, centres),
        "axis_alignment": _cosines(axes, axes),
        "centre_axis_alignment": _cosines(centres, axes),
    }
