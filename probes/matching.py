"""Matching of single units: are the axes of two representations the same, not only the spaces they span?"""

import math

import numpy as np

from probes.features import centred
from probes.probe import PairProbe, ProbeInfo, Undefined, pair_probe
from probes.procrustes import angle_of

INVARIANCES = frozenset({"permutation", "isotropic-scaling", "translation"})

# Copying units until both sides have equally many turns a transport into an assignment, which is faster than a linear
# programme up to about this many times the wider representation.
MOST_COPIES = 4

AXES_TRAP = (
    "Far apart for representations that differ by a rotation alone, which any linear read-out would undo. With many "
    "units, chance alone offers good partners: read the null. "
)


def permutation() -> PairProbe:
    """Angle between two representations after the best one-to-one matching of their units.

        θ = arccos max_P ⟨X, YP⟩,  X, Y column-centred with unit Frobenius norm, padded with zero units without limit

    P runs over permutations of the padded units, so a unit may stay alone: it does when every free partner has a
    negative inner product with it. X is n×d1, Y is n×d2, any widths. Range 0..π/2, exactly 0 for identical arrays. A
    metric up to the order of the units, scale and shift. Undefined for a constant representation.
    Source: Williams, Kunz, Kornblith and Linderman 2021, arXiv 2110.14739; matching of units: Li, Yosinski, Clune,
    Lipson and Hopcroft 2015, arXiv 1511.07543.
    """
    info = ProbeInfo(
        name="permutation",
        title="angle after the best matching of units",
        kind="pair",
        formula="arccos max_P ⟨X, YP⟩, X and Y column-centred with unit Frobenius norm, P a matching of units",
        citation="Williams, Kunz, Kornblith, Linderman 2021, arXiv 2110.14739; "
        "Li, Yosinski, Clune, Lipson, Hopcroft 2015, arXiv 1511.07543",
        range=(0.0, math.pi / 2),
        direction="distance",
        symmetric=True,
        metric=True,
        invariances=INVARIANCES,
        convention="padded with as many zero units as needed, also at equal widths: no unit is forced on a partner "
        "with a negative inner product, and dead units change nothing (other codes pad the narrower one only, which "
        "breaks the triangle inequality across widths); inner products, not correlations, so units of large variance "
        "decide; a unit and its negative are different",
        traps=AXES_TRAP + "One-to-one: two copies of a unit cannot share a partner.",
        cost="n·d² + d³",
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        c = centred(x)
        return c if isinstance(c, Undefined) else (c / np.linalg.norm(c),)

    def value(a: tuple, b: tuple) -> float:
        from scipy.optimize import linear_sum_assignment

        (x,), (y,) = a, b
        if x.shape == y.shape and np.array_equal(x, y):
            return 0.0
        gain = np.maximum(x.T @ y, 0.0)
        i, j = linear_sum_assignment(gain, maximize=True)
        met = gain[i, j] > 0
        i, j = i[met], j[met]
        # The squared chord as a sum of squares, which stays accurate when it is tiny: partners, then those left alone.
        chord2 = np.linalg.norm(x[:, i] - y[:, j]) ** 2
        chord2 += np.linalg.norm(np.delete(x, i, axis=1)) ** 2 + np.linalg.norm(np.delete(y, j, axis=1)) ** 2
        return angle_of(math.sqrt(chord2))

    return pair_probe(info, prepare=prepare, value=value, permute=lambda a, order: (a[0][order],))


def transport(gain: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | Undefined:
    """The coupling T ≥ 0 of d1 and d2 units with uniform margins that maximises Σ T_ij gain_ij: i, j and T_ij > 0.

    Exact. With units copied to a common number d, a vertex of the polytope of couplings is a permutation (Birkhoff),
    which an assignment finds. Where that number is large, a simplex method finds a vertex of the margins d2 and d1,
    whose entries are whole numbers.
    """
    from scipy.optimize import linear_sum_assignment, linprog
    from scipy.sparse import eye_array, kron, vstack

    d1, d2 = gain.shape
    copies = math.lcm(d1, d2)
    if copies <= MOST_COPIES * max(d1, d2):
        k1, k2 = copies // d1, copies // d2
        i, j = linear_sum_assignment(gain.repeat(k1, axis=0).repeat(k2, axis=1), maximize=True)
        return i // k1, j // k2, np.full(copies, 1.0 / copies)
    margins = vstack([kron(eye_array(d1), np.ones((1, d2))), kron(np.ones((1, d1)), eye_array(d2))])
    found = linprog(
        -gain.ravel(),
        A_eq=margins.tocsc(),
        b_eq=np.concatenate([np.full(d1, d2), np.full(d2, d1)]),
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if not found.success:
        return Undefined(f"the best transport between {d1} and {d2} units was not found ({found.message})")
    T = np.rint(found.x).reshape(d1, d2)
    i, j = np.nonzero(T)
    return i, j, T[i, j] / (d1 * d2)


def soft_matching() -> PairProbe:
    """Soft-matching distance: how far the units of one representation must be moved to become those of the other.

        d = √ min_T Σ_ij T_ij ‖x_i − y_j‖²,   T ≥ 0 with Σ_j T_ij = 1/d1 and Σ_i T_ij = 1/d2

    x_i and y_j are the columns of Xc and Yc, each array scaled so that the mean of ‖x_i‖² is 1. At equal widths T is a
    one-to-one matching. X is n×d1, Y is n×d2, any widths. Range 0..2, exactly 0 for identical arrays. A metric (the
    2-Wasserstein distance between sets of units) up to the order of the units, copying all of them, scale and shift.
    Undefined for a constant representation.
    Source: Khosla and Williams 2023, arXiv 2311.09466.
    """
    info = ProbeInfo(
        name="soft-matching",
        title="soft-matching distance",
        kind="pair",
        formula="√ min_T Σ_ij T_ij ‖x_i − y_j‖², T ≥ 0 with row sums 1/d1 and column sums 1/d2",
        citation="Khosla, Williams 2023, arXiv 2311.09466",
        range=(0.0, 2.0),
        direction="distance",
        symmetric=True,
        metric=True,
        invariances=INVARIANCES,
        convention="the distance, not the correlation score (which gives every unit unit norm and is larger for more "
        "alike); columns centred, the array scaled as a whole to a mean ‖x_i‖² of 1; every unit has equal mass, dead "
        "ones included; solved exactly",
        traps=AXES_TRAP + "All units must be matched, dead and noisy ones too: leave out dead units if their number "
        "differs between networks. A width with few common divisors with the other's costs a linear programme.",
        cost="n·d² + d³",
    )

    def prepare(x: np.ndarray) -> tuple[np.ndarray] | Undefined:
        c = centred(x)
        return c if isinstance(c, Undefined) else (c * (math.sqrt(c.shape[1]) / np.linalg.norm(c)),)

    def value(a: tuple, b: tuple) -> float | Undefined:
        (x,), (y,) = a, b
        if x.shape == y.shape and np.array_equal(x, y):
            return 0.0
        # The margins fix what the squared norms add up to, so only inner products choose.
        coupling = transport(x.T @ y)
        if isinstance(coupling, Undefined):
            return coupling
        i, j, mass = coupling
        gap = x[:, i] - y[:, j]
        return min(2.0, math.sqrt(np.einsum("ni,ni,i->", gap, gap, mass)))

    return pair_probe(info, prepare=prepare, value=value, permute=lambda a, order: (a[0][order],))
