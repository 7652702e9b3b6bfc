"""The contract of a probe: what it is called, what it promises, and how it is computed.

A probe is a pure function from arrays to a value. A *pair* probe compares two representations of the same
stimuli; a *single* probe describes one; a *functional* probe measures what one network does, or two do, with the
stimuli. Each is made by a factory that checks its settings once. Arithmetic is float64. A value that does not exist
is an `Undefined` with its reason, never a bare nan; input that cannot be used raises `ProbeError`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

INVARIANCES = frozenset({"permutation", "orthogonal", "isotropic-scaling", "translation", "invertible-linear"})
NEEDS = ("labels", "predictions", "readout")


class ProbeError(ValueError):
    """The input cannot be used. The message says what is wrong, why it matters and what to do."""


@dataclass(frozen=True)
class Undefined:
    """A value that does not exist for these data, with the reason in words."""

    reason: str

    def __str__(self) -> str:
        return f"undefined: {self.reason}"


@dataclass(frozen=True)
class ProbeInfo:
    """What a probe measures and what it promises. Every promise here is executed by a test.

    Attributes:
        name: short name, the key in `PROBES`.
        title: name in words.
        kind: "pair" (two representations of the same stimuli), "single" (one) or "functional" (networks themselves).
        formula: the definition as plain text; X is (n stimuli) × (d units), Xc has its columns centred.
        citation: authors, year, arXiv number or DOI.
        range: smallest and largest possible value.
        direction: "similarity" (larger is more alike), "distance" (smaller is), None for probes of one network.
        symmetric: whether value(X, Y) = value(Y, X); None for probes of one network.
        metric: whether the value is a metric on representations up to its invariances (triangle inequality).
        invariances: transformations of the units that leave the value unchanged. "permutation" and "orthogonal"
            act on the units, "translation" adds one vector to every row, "invertible-linear" is X → XA. A readout
            goes along: X → XA takes W to A⁻¹W. Empty for functional probes, which look at no units.
        convention: the choices that other codes make differently.
        traps: known ways of being misled by this number.
        cost: arithmetic for one pair (or one representation) in big-O of n stimuli and d units.
        paired: whether row i of both arrays must be the same stimulus; an unpaired value has no permutation null.
        few_stimuli: what happens to the value with fewer than 2d stimuli, "" if nothing does.
        null_mean: (n, d1, d2) → expected value for independent representations, None when no closed form is known.
        params: the settings it was made with.
        maps: how arrays with positions become rows, one of `probes.feature_maps.MAPS`; "" where none are taken.
    """

    name: str
    title: str
    kind: str
    formula: str
    citation: str
    range: tuple[float, float]
    direction: str | None
    symmetric: bool | None
    metric: bool
    invariances: frozenset[str]
    convention: str
    traps: str
    cost: str
    paired: bool = True
    few_stimuli: str = ""
    null_mean: Callable[[int, int, int], float] | None = None
    params: tuple[tuple[str, Any], ...] = ()
    maps: str = ""

    def __post_init__(self) -> None:
        unknown = self.invariances - INVARIANCES
        if unknown:
            raise ProbeError(f"{self.name}: unknown invariances {sorted(unknown)}; known are {sorted(INVARIANCES)}.")

    def misleads(self, n: int, d: int) -> bool:
        """Whether `few_stimuli` is what happens at n stimuli and d units, of the wider representation of two.

        One stimulus has no value that could mislead.
        """
        return bool(self.few_stimuli) and 1 < n < 2 * d

    @property
    def label(self) -> str:
        """Name with settings, e.g. `mutual-knn(k=10)`: two values compare only if their labels are equal."""
        settings = [*self.params, *[("maps", self.maps)] * bool(self.maps)]
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in settings)})" if settings else self.name


@dataclass(frozen=True, eq=False)
class Prepared:
    """One representation after the work that does not depend on its partner.

    Attributes:
        probe: label of the probe that prepared it.
        n, d: rows (stimuli, or their positions) and units of what was measured.
        arrays: what the probe needs later; empty when `undefined` is set.
        undefined: why no value exists for this representation, or None.
        notes: remarks on rows (all-zero, duplicates) or units that a reader of the value should see.
        positions: shape of the positions whose rows belong to one stimulus; () where a row is a stimulus.
    """

    probe: str
    n: int
    d: int
    arrays: tuple[np.ndarray, ...]
    undefined: Undefined | None = None
    notes: tuple[str, ...] = ()
    positions: tuple[int, ...] = ()

    @property
    def together(self) -> int:
        """Rows of one stimulus, which a permutation must move as one."""
        return math.prod(self.positions)


class PairProbe(NamedTuple):
    """A comparison of two representations of the same n stimuli.

    prepare: X (n×d) → Prepared. Validates, centres, normalises: once per representation.
    value:   (Prepared, Prepared) → float or Undefined.
    permute: (Prepared, order) → what `prepare(X[order])` gives, up to rounding, without its checks.
    matrix:  (Prepared, rows, columns) → that part of M (n×n, float64) with value(x, y) = Σ_ij M_x[i,j] M_y[i,j], where
             permuting the stimuli permutes the rows and columns of M; rows and columns are slices, all by default.
             Undefined when the representation is; the field itself is None when the probe is no such inner product.
             All pairs of many networks, and their nulls, follow from it as matrix products. Nothing is to be changed
             in place, so that its arrays may live on any device.
    symmetric_matrix: whether M is symmetric.
    """

    info: ProbeInfo
    prepare: Callable[[Any], Prepared]
    value: Callable[[Prepared, Prepared], float | Undefined]
    permute: Callable[[Prepared, Any], Prepared]
    matrix: Callable[..., np.ndarray | Undefined] | None = None
    symmetric_matrix: bool = True


class SingleProbe(NamedTuple):
    """A description of one representation.

    value: (X, **needs) → float, or a dict of floats whose headline is "value", or Undefined. X is n×d.
    needs: names out of `NEEDS`, in the order in which value takes them after X. `labels` holds the class of each
           stimulus (n), or a number for each where the probe says so; `predictions` the class that the network
           answers for each (n), named as in labels; `readout` the weights (d×C) of a linear layer that scores the
           classes from X, columns in sorted order of the classes, or None if the network has no such layer.
    """

    info: ProbeInfo
    value: Callable[..., float | dict[str, float] | Undefined]
    needs: tuple[str, ...] = ()


def single_info(**card: Any) -> ProbeInfo:
    """The card of a single probe, without the fields that only mean something for pairs."""
    return ProbeInfo(kind="single", direction=None, symmetric=None, metric=False, **card)


class FunctionalProbe(NamedTuple):
    """A measure of what networks do: of one network, or of two on the same stimuli.

    value: (task, network) or (task, network, network) → float, or a dict whose headline is "value", or Undefined; a
           part of a dict may be Undefined by itself. Task and network are those of `probes.subject`.
    networks: how many it takes, 1 or 2.
    by_layer: whether it reads the hidden layer that each network names.
    places: for a probe of weights or directions, network → names of the weights or blocks that it can be read at
            (`network.at(name)`), or why there are none; None for all others.
    """

    info: ProbeInfo
    value: Callable[..., float | dict[str, float | Undefined] | Undefined]
    networks: int
    by_layer: bool = False
    places: Callable[[Any], tuple[str, ...] | Undefined] | None = None


def compare(probe: PairProbe, X: Any, Y: Any) -> float | Undefined:
    """Value of a pair probe on two arrays (n×d1, n×d2) whose rows are the same stimuli in the same order."""
    return probe.value(probe.prepare(X), probe.prepare(Y))


def headline(result: float | dict[str, Any] | Undefined) -> float | Undefined:
    """The one number of a result: "value" of a dict, the result itself otherwise."""
    return result["value"] if isinstance(result, dict) else result


def pair_probe(
    info: ProbeInfo,
    *,
    prepare: Callable[[np.ndarray], tuple[np.ndarray, ...] | Undefined],
    value: Callable[[tuple[np.ndarray, ...], tuple[np.ndarray, ...]], float | Undefined],
    permute: Callable[[tuple[np.ndarray, ...], np.ndarray], tuple[np.ndarray, ...] | Undefined],
    matrix: Callable[[tuple[np.ndarray, ...], slice, slice], np.ndarray] | None = None,
    symmetric_matrix: bool = True,
    notes: Callable[[np.ndarray], tuple[str, ...]] = lambda x: (),
) -> PairProbe:
    """Wraps the mathematics of a pair probe, written on plain arrays, with the checks that all of them need.

    `notes` adds remarks on a representation that matter to this probe to those on its rows.
    """
    from probes.features import features, row_notes

    def checked_prepare(X: Any) -> Prepared:
        x = features(X)
        arrays, said = prepare(x), row_notes(x) + notes(x)
        if isinstance(arrays, Undefined):
            return Prepared(info.label, *x.shape, (), arrays, said)
        for array in arrays:
            array.setflags(write=False)  # shared by every pair that this representation enters
        return Prepared(info.label, *x.shape, arrays, None, said)

    def own(p: Prepared) -> Prepared:
        if p.probe != info.label:
            raise ProbeError(
                f"{info.label} was given a representation prepared by {p.probe}; prepare it with the same probe."
            )
        return p

    def checked_value(px: Prepared, py: Prepared) -> float | Undefined:
        own(px), own(py)
        if px.n != py.n:
            raise ProbeError(
                f"the two representations have {px.n} and {py.n} rows, but row i of both must be the same stimulus; "
                "compute both on the same stimuli."
            )
        for p in (px, py):
            if p.undefined is not None:
                return p.undefined
        result = value(px.arrays, py.arrays)
        return result if isinstance(result, Undefined) else float(result)

    def checked_permute(p: Prepared, order: Any) -> Prepared:
        own(p)
        order = np.asarray(order)
        if order.shape != (p.n,) or not np.array_equal(np.sort(order), np.arange(p.n)):
            raise ProbeError(f"order must hold each of 0..{p.n - 1} once; pass a permutation of the {p.n} rows.")
        if p.undefined is not None:
            return p
        arrays = permute(p.arrays, order)
        if isinstance(arrays, Undefined):
            return Prepared(p.probe, p.n, p.d, (), arrays, p.notes)
        return Prepared(p.probe, p.n, p.d, arrays, None, p.notes)

    def checked_matrix(p: Prepared, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray | Undefined:
        return own(p).undefined or matrix(p.arrays, rows, columns)

    whole = None if matrix is None else checked_matrix
    return PairProbe(info, checked_prepare, checked_value, checked_permute, whole, symmetric_matrix)


def positive_integer(name: str, value: Any, least: int = 1) -> int:
    """A setting that must be a whole number of at least `least`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least:
        raise ProbeError(f"{name}={value!r} must be a whole number of at least {least}.")
    return int(value)


def fraction(name: str, value: Any) -> float:
    """A setting that must lie strictly between zero and one."""
    number = isinstance(value, float | np.floating)
    if not number or not 0 < value < 1:
        raise ProbeError(f"{name}={value!r} must be a number between 0 and 1, both excluded.")
    return float(value)


def non_negative(name: str, value: Any) -> float:
    """A setting that must be a finite number of at least zero."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise ProbeError(f"{name}={value!r} must be a finite number of at least 0.")
    return float(value)


def one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    """A setting that must be one of the listed words."""
    if value not in known:
        raise ProbeError(f"{name}={value!r} is not known; choose one of {', '.join(known)}.")
    return value
