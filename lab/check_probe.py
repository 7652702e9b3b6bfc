"""Does a probe keep what its card promises? One table of checks, for every probe of the lab and for anybody's own.

Nothing here knows what a probe measures: every expectation is read off its card. A declared invariance must hold, one
that is not declared must fail on an example; the order of two arguments must matter exactly if the card says so; a
metric must keep the triangle inequality; a permutation null must find nothing where there is nothing, at its nominal
rate, and something where there is something.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lab.checking import Broken, Finding, finding_of
from lab.probe_examples import N, independent, of_one_world, partner, representation, transformation
from probes import PairProbe, ProbeError, SingleProbe, Undefined, compare, headline
from probes.nulls import permutation_test
from probes.probe import INVARIANCES

HELD = 1e-9  # some 1e6 roundings of float64
SEEN = 1e-3  # far above that, far below what the transformations do to what notices them
PERMUTATIONS = 19  # K = 19 makes P(p ≤ .05) exactly 1/20 without ties
BUDGET = 4.0  # seconds for one rate
TESTS = 2000
LEAST = 180  # with fewer, a sound null may well never reject: .95^180 = 1e-4
SIZES = ((24, 4), (60, 30))
POWER = 0.8


def value_of(probe: PairProbe | SingleProbe, x: np.ndarray, y: np.ndarray, which: str | None = None) -> np.ndarray:
    """Headline values after a transformation of the units: of a pair probe both, with x as either argument.

    The network's answers stay as they are, and its readout goes along with the units.
    """
    readout = np.random.default_rng(5).standard_normal((x.shape[1], int(y.max()) + 1))
    needs = {"labels": y, "predictions": np.argmax(x @ readout, axis=1), "readout": readout}
    if which is not None:
        A, b = transformation(which, x.shape[1])
        x, needs["readout"] = x @ A + b, np.linalg.solve(A, readout)
    if isinstance(probe, PairProbe):
        found = [compare(probe, partner(), x), compare(probe, x, partner())]
    else:
        found = [headline(probe.value(x, **{name: needs[name] for name in probe.needs}))]
    reasons = [v.reason for v in found if isinstance(v, Undefined)]
    if reasons:
        raise Broken(f"no value for the example ({N} stimuli × {x.shape[1]} units, 4 classes): {reasons[0]}")
    if not all(isinstance(v, float) and math.isfinite(v) for v in found):
        raise Broken(f"the value is {found[0]!r}; give a finite float, or Undefined with the reason")
    return np.array(found)


def is_pure(probe: PairProbe | SingleProbe) -> str:
    """The same arrays give the same bits, and are left as they were."""
    x, y = representation(1)
    before = x.copy()
    first, again = value_of(probe, x, y), value_of(probe, x, y)
    if not np.array_equal(first, again):
        raise Broken("the same arrays gave another value the second time: fix the seed of what it draws")
    if not np.array_equal(before, x):
        raise Broken("it changed the array that it was given; work on a copy")
    return "the same bits twice"


def keeps_its_range(probe: PairProbe | SingleProbe) -> str:
    """Values lie in the range on the card; a representation beside itself has the best of it, within rounding."""
    low, high = probe.info.range
    x, y = representation(1)
    values = [*value_of(probe, x, y), *value_of(probe, np.abs(x) ** 1.5, y)]
    if isinstance(probe, PairProbe):
        values += [compare(probe, *independent(60, 8, seed)) for seed in range(3)]
    for value in values:
        if not low - HELD <= value <= high + HELD:
            raise Broken(f"the value {value:.6g} lies outside of its range, {low:g} to {high:g}")
    if not isinstance(probe, PairProbe):
        return f"{min(values):.4g} to {max(values):.4g} within {low:g} to {high:g}"
    own = compare(probe, x, x)
    best = low if probe.info.direction == "distance" else high
    if probe.info.symmetric and abs(own - best) > SEEN:  # a held-out prediction of itself need not be perfect
        raise Broken(f"a representation beside itself gives {own:.6g}, not {best:g}")
    return f"beside itself {own:.4g}, unrelated {float(np.mean(values[-3:])):.4g}"


def holds_its_invariances(probe: PairProbe | SingleProbe) -> str:
    """A transformation that the card declares changes nothing, whichever argument it is applied to."""
    x, y = representation(1)
    value = value_of(probe, x, y)
    for which in sorted(probe.info.invariances):
        change = np.abs(value_of(probe, x, y, which) - value).max()
        if not change <= HELD:
            raise Broken(f"it is declared invariant to {which}, and that changes the value by {change:.2g}")
    return ", ".join(sorted(probe.info.invariances)) or "declares none"


def has_no_others(probe: PairProbe | SingleProbe) -> str:
    """A transformation that the card does not declare changes the value of an example."""
    x, y = representation(1)
    value = value_of(probe, x, y)
    others = sorted(INVARIANCES - probe.info.invariances)
    for which in others:
        if not np.abs(value_of(probe, x, y, which) - value).max() > SEEN:
            raise Broken(f"it is invariant to {which} here, which its card does not declare")
    return f"notices {', '.join(others)}" if others else "declares all"


def order_matters_as_it_says(probe: PairProbe) -> str:
    """value(x, y) = value(y, x) exactly if the card calls it symmetric."""
    one, other = value_of(probe, *representation(1))
    gap = abs(one - other)
    if probe.info.symmetric and gap > HELD:
        raise Broken(f"it is declared symmetric, and the two directions differ by {gap:.2g}")
    if not probe.info.symmetric and gap <= SEEN:
        raise Broken("it is declared asymmetric, and both directions give the same")
    return "symmetric" if probe.info.symmetric else f"{one:.4g} and {other:.4g}"


def is_a_metric(probe: PairProbe) -> str:
    """Exactly 0 for identical arrays, and no detour is shorter, over 60 triples of unequal widths."""
    x = representation(1)[0]
    if compare(probe, x, x) != 0.0:
        raise Broken(f"identical arrays are {compare(probe, x, x):.2g} apart, not 0")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a, b, c = (probe.prepare(rng.standard_normal((20, d)) @ rng.standard_normal((d, d))) for d in (3, 4, 6))
        ab, bc, ac = (probe.value(*pair) for pair in ((a, b), (b, c), (a, c)))
        if max(ab, bc, ac) > ab + bc + ac - max(ab, bc, ac) + HELD:
            raise Broken(f"distances {ab:.4g}, {bc:.4g} and {ac:.4g} break the triangle inequality")
    return "60 triples"


def permutes_what_it_prepared(probe: PairProbe) -> str:
    """`permute` gives what preparing the permuted rows gives, and parts of `matrix` belong to the whole."""
    x, other = representation(1)[0][:60], partner()[:60]
    order = np.random.default_rng(0).permutation(60)
    px, py = probe.prepare(x), probe.prepare(other)
    found, expected = probe.value(px, probe.permute(py, order)), probe.value(px, probe.prepare(other[order]))
    if isinstance(found, Undefined) or isinstance(expected, Undefined):
        raise Broken("permuting the rows of an example makes its value undefined")
    if abs(found - expected) > HELD:
        raise Broken(f"permute gives {found:.9g}, preparing the permuted rows {expected:.9g}")
    if probe.matrix is None:
        return "rows"
    A, B = probe.matrix(px), probe.matrix(py)
    gap = abs(float(np.vdot(A, B)) - probe.value(px, py))
    if gap > HELD:
        raise Broken(f"the inner product of the two matrices differs from the value by {gap:.2g}")
    if not np.allclose(A[5:20, 30:], probe.matrix(px, slice(5, 20), slice(30, None)), rtol=0, atol=1e-12):
        raise Broken("a part of the matrix, by rows and columns, is not that part of the whole")
    if probe.symmetric_matrix != bool(np.allclose(A, A.T, rtol=0, atol=1e-12)):
        raise Broken("symmetric_matrix does not say whether the matrix is symmetric")
    return "rows, and its matrix"


def says_what_it_cannot_do(probe: PairProbe | SingleProbe) -> str:
    """Input that cannot be used raises ProbeError; a value that does not exist is Undefined, never a bare nan."""
    x, y = representation(1)
    with_nan = x.copy()
    with_nan[3, 4] = np.nan

    def asked(z: np.ndarray) -> Any:
        if isinstance(probe, PairProbe):
            return compare(probe, z, partner()[: len(z)])
        needs = {"labels": y[: len(z)], "predictions": y[: len(z)], "readout": np.ones((z.shape[1], 4))}
        return headline(probe.value(z, **{name: needs[name] for name in probe.needs}))

    for what, z in (("nan", with_nan), ("three dimensions", x[:, :, None])):
        try:
            asked(z)
        except ProbeError as error:
            if "\n" in str(error):
                raise Broken(f"the refusal of {what} is more than one line") from None
        else:
            raise Broken(f"an array with {what} is taken without a word; pass it through probes.features.features")
    told = []
    for what, z in (("constant", np.ones_like(x)), ("one stimulus", x[:1]), ("two stimuli", x[:2])):
        try:
            found = asked(z)
        except ProbeError:
            continue
        if isinstance(found, Undefined):
            told.append(what)
        elif not math.isfinite(found):
            raise Broken(f"for a representation that is {what} it gives {found}; return Undefined with the reason")
    return f"undefined for {', '.join(told)}" if told else "a value or a refusal for everything"


class NoValue(Broken):
    """A probe is undefined for data of this size, for a reason."""

    def __init__(self, x: np.ndarray, reason: str):
        super().__init__(f"no value for {x.shape[0]} stimuli × {x.shape[1]} units: {reason}")
        self.reason = reason


def rejections(
    probe: PairProbe, kind: str, draw: Callable[[int], tuple], budget: float = BUDGET
) -> tuple[int, int, bool]:
    """How many of how many tests at .05 called something: each on two fresh representations, as many as time allows.

    The third says whether values are continuous: no two tests saw the same one.

    Raises:
        NoValue: the value of the first two is undefined, as of sizes that the probe is not for.
        Broken: that of later ones is, though they differ in nothing but chance.
    """
    called, seen = 0, []
    start = time.process_time()
    while len(seen) < LEAST or (len(seen) < TESTS and time.process_time() - start < budget):
        x, z, labels = draw(len(seen))
        asked = {"kind": kind, "labels": labels, "permutations": PERMUTATIONS, "seed": len(seen)}
        found = permutation_test(probe, probe.prepare(x), probe.prepare(z), **asked)
        if isinstance(found, Undefined):
            if not seen:
                raise NoValue(x, found.reason)
            raise Broken(f"undefined after {len(seen)} representations of the same size: {found.reason}")
        called += found.p <= 0.05
        seen.append(found.observed)
    return called, len(seen), len(np.unique(np.round(seen, 10))) == len(seen)


def finds_nothing_where_nothing_is(probe: PairProbe) -> str:
    """Independent data, and data that share classes only: at .05 the nulls reject in 5 % of tests, 1.5 % more at most.

    Where time allows fewer than 2,000 tests, the bound is the 99.95 % point of the binomial distribution. That they do
    reject what is there is another check; of continuous values, for which 19 permutations make the 5 % exact, the .01 %
    point is the bound from below.
    """
    from scipy.stats import binom

    told = []
    for name, kind, draw in (
        *((f"n={n}, d={d}", "global", lambda i, n=n, d=d: (*independent(n, d, i), None)) for n, d in SIZES),
        ("classes", "within-class", lambda i: of_one_world(60, 10, i, strength=0.0, classes=3)),
    ):
        try:
            called, done, continuous = rejections(probe, kind, draw)
        except NoValue as none:
            if name == "classes":  # the one size at which every probe has to answer
                raise
            told.append(f"{name} undefined: {none.reason}")
            continue
        rate = called / done
        few, many = binom.ppf([0.0001, 0.9995], done, 0.05) / done
        if rate > max(0.065, many) or (continuous and rate < few):
            raise Broken(f"{name}: the {kind} null rejects {100 * rate:.1f} % of {done} tests at 5 %")
        told.append(f"{name} {100 * rate:.1f} % of {done}")
    return "; ".join(told)


def finds_what_is_there(probe: PairProbe) -> str:
    """A common latent of five dimensions is found in four of five tests at least, over all data and inside classes.

    Five of ten, so that measures to which all dimensions count alike, however weak, see as strong a signal as others.
    """
    told = []
    for kind, classes in (("global", 1), ("within-class", 3)):
        called, done, _ = rejections(
            probe, kind, lambda i, c=classes: of_one_world(60, 10, i, strength=1.5, classes=c), budget=BUDGET / 4
        )
        if called < POWER * done:
            raise Broken(f"the {kind} null finds a strong common signal in {100 * called / done:.0f} % of {done} tests")
        told.append(f"{kind} {100 * called / done:.0f} %")
    return ", ".join(told)


SINGLE_CHECKS: dict[str, Callable[[Any], str]] = {
    "is pure": is_pure,
    "keeps its range": keeps_its_range,
    "invariances": holds_its_invariances,
    "no others": has_no_others,
    "says what it cannot": says_what_it_cannot_do,
}
PAIR_CHECKS: dict[str, Callable[[Any], str]] = {
    **SINGLE_CHECKS,
    "order of the two": order_matters_as_it_says,
    "is a metric": is_a_metric,
    "permutes": permutes_what_it_prepared,
    "null": finds_nothing_where_nothing_is,
    "power": finds_what_is_there,
}


def checks_of(probe: PairProbe | SingleProbe) -> dict[str, Callable[[Any], str]]:
    """The checks that apply to a probe, by name."""
    if isinstance(probe, SingleProbe):
        return SINGLE_CHECKS
    left_out = set() if probe.info.metric else {"is a metric"}
    left_out |= set() if probe.info.paired else {"null", "power"}
    return {name: check for name, check in PAIR_CHECKS.items() if name not in left_out}


def check_probe(probe: PairProbe | SingleProbe, source: Path | None = None) -> Iterator[Finding]:
    """Every check of a probe, in order; one that raises, whatever it raises, is a finding too."""
    for name, check in checks_of(probe).items():
        yield finding_of(name, partial(check, probe), source)
