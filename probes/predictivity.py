"""Linear predictivity: how much of one representation a linear map of the other foretells, on stimuli held out."""

import math

import numpy as np

from probes.cka import ROTATION_SCALE_SHIFT
from probes.decoding import leave_one_out_ridge
from probes.features import ROUNDING, centred, narrowed
from probes.probe import PairProbe, ProbeInfo, Undefined, pair_probe, positive_integer

# Strengths as shares of the predictor's total variance: from hardly any penalty to one larger than every eigenvalue.
STRENGTHS = tuple(10.0**e for e in range(-7, 1))


def shuffled_folds(n: int, folds: int) -> np.ndarray:
    """Fold 0..folds−1 of each of n rows, the same for every representation: a fixed shuffle, in equal sizes.

    Dealing rows in turn would put whole classes into one fold where the classes take turns as well, and blocks of rows
    would where they are sorted. Raw bits of the generator, because NumPy promises never to change them.
    """
    fold = np.empty(n, dtype=np.intp)
    fold[np.argsort(np.random.PCG64(0).random_raw(n), kind="stable")] = np.arange(n) % folds
    return fold


def _constant_units(x: np.ndarray) -> tuple[str, ...]:
    constant = int((x == x[0]).all(axis=0).sum())
    return (f"{constant} of {x.shape[1]} units do not vary and are left out",) if constant else ()


def ridge(folds: int = 5) -> PairProbe:
    """Share of the variance of the second representation that ridge regression predicts from the first, held out.

        R²(X, Y) = 1 − Σ_f ‖Y_f − Ŷ_f‖²_F / Σ_f ‖Y_f − ȳ_f‖²_F

    Y_f are the rows of fold f, Ŷ_f their prediction from X by a regression fitted to the other folds, ȳ_f the mean of Y
    over these. The penalty is strength·‖X‖²_F·‖W‖² with X centred, all on the training folds; each training set
    chooses one strength of 1e-7, 1e-6, .., 1 for all units by its own leave-one-out error. value(x, y) predicts y from
    x. X is n×d1, Y is n×d2, any widths. Range −∞..1; 0 is what the training mean predicts. Constant units have no
    variance to predict: they are left out and counted in the notes. Undefined for a constant representation, also on
    the training folds only, and for fewer stimuli than folds.
    Source: Yamins, Hong, Cadieu, Solomon, Seibert and DiCarlo 2014, doi 10.1073/pnas.1403112111 (held-out prediction as
    similarity); Hoerl and Kennard 1970, doi 10.1080/00401706.1970.10488634 (ridge regression).
    """
    positive_integer("folds", folds, least=2)
    info = ProbeInfo(
        name="ridge",
        title="linear predictivity (held-out R²)",
        kind="pair",
        formula="1 − Σ‖Y − Ŷ‖²_F / Σ‖Y − ȳ‖²_F over held-out folds, Ŷ by ridge regression of Y on X",
        citation="Yamins, Hong, Cadieu, Solomon, Seibert, DiCarlo 2014, doi 10.1073/pnas.1403112111",
        range=(-math.inf, 1.0),
        direction="similarity",
        symmetric=False,
        metric=False,
        invariances=ROTATION_SCALE_SHIFT,
        convention=f"predicts the second from the first; {folds} folds by a fixed shuffle of the row numbers of the "
        "predictor (permuted rows keep their folds); units weighted by their variance, so constant ones "
        "drop out (others take the median over units, or correlations); one strength for all units, chosen by "
        "leave-one-out inside the training folds; against the mean of the training folds",
        traps="Asymmetric: keep both directions; do not fill a symmetric matrix. A wide network predicts a narrow one "
        "better than the reverse. Predicting the classes is enough for a high value: read the within-class null. "
        "Below 1 even for a representation and itself, by the penalty. Stimuli that come in correlated copies leak "
        "between folds.",
        cost=f"{folds * len(STRENGTHS)}·n·d²",
        params=(("folds", int(folds)),),
    )

    def parts(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
        fold = shuffled_folds(n, folds)
        return [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(folds)]

    def prepare(x: np.ndarray) -> tuple[np.ndarray, ...] | Undefined:
        n = len(x)
        if n < folds:
            return Undefined(f"{folds} folds need at least as many stimuli, and there are {n}")
        c = centred(x)
        if isinstance(c, Undefined):
            return c
        c = narrowed(c)
        c = c / np.linalg.norm(c)
        decompositions = []
        for f, (train, held) in enumerate(parts(n)):
            mean = c[train].mean(axis=0)
            z = c[train] - mean
            norm = np.linalg.norm(z)
            if norm <= ROUNDING:
                return Undefined(f"the representation is the same for all stimuli of the training part of fold {f}")
            z *= math.sqrt(len(train)) / norm  # so that strength·n is the share of ‖z‖²_F = n
            u, s, vt = np.linalg.svd(z, full_matrices=False)
            decompositions += [u, s, (c[held] - mean) @ vt.T * (math.sqrt(len(train)) / norm)]
        return c, np.arange(n), *decompositions

    def value(a: tuple, b: tuple) -> float:
        (_, place, *decompositions), y = a, b[0]
        left = total = 0.0
        for f, (train, held) in enumerate(parts(len(place))):
            u, s, x_held = decompositions[3 * f : 3 * f + 3]
            y_train, y_held = y[place[train]], y[place[held]]
            base = y_train.mean(axis=0)
            y_train = y_train - base
            penalty = leave_one_out_ridge(u, s, y_train, STRENGTHS) * len(train)
            deviation = y_held - base
            left += np.linalg.norm(deviation - x_held @ ((s / (s**2 + penalty))[:, None] * (u.T @ y_train))) ** 2
            total += np.linalg.norm(deviation) ** 2
        return 1.0 - left / total

    def permute(a: tuple, order: np.ndarray) -> tuple:
        # Row i of the original now stands at argsort(order)[i]; the regressions keep their stimuli.
        return a[0][order], np.argsort(order)[a[1]], *a[2:]

    return pair_probe(info, prepare=prepare, value=value, permute=permute, notes=_constant_units)
