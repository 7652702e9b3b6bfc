"""Every declared invariance holds, and every one that is not declared fails on an example.

Tolerances: 1e-9 is some 1e6 roundings of float64; 1e-3 is far above that and far below the effects seen.
"""

import numpy as np
import pytest

from probes import PROBES, compare, headline
from probes.probe import INVARIANCES

SETTINGS = {
    **{name: (name, {}) for name in PROBES},
    "spectrum-exponent": ("spectrum-exponent", {"low": 3, "high": 20}),
    "rsa-pearson": ("rsa", {"comparator": "pearson"}),
    "rsa-correlation": ("rsa", {"dissimilarity": "correlation"}),
    "rsa-cosine": ("rsa", {"dissimilarity": "cosine"}),
    "rsa-mahalanobis": ("rsa", {"dissimilarity": "mahalanobis"}),
    "rsa-kendall": ("rsa", {"comparator": "kendall"}),
    "rsa-whitened-cosine": ("rsa", {"dissimilarity": "cosine", "comparator": "whitened-cosine"}),
    "distance-correlation-unbiased": ("distance-correlation", {"estimator": "unbiased"}),
    "mutual-knn-3": ("mutual-knn", {"k": 3}),
    "cycle-knn": ("cycle-knn", {"k": 3}),
    "rtd": ("rtd", {"stimuli": 40}),
    "sparsity-threshold": ("sparsity", {"threshold": 0.1}),
    "dead-units-threshold": ("dead-units", {"threshold": 0.1}),
}
N, D = 300, 30


def representation(seed, d=D):
    """Rectified features of unequal scale, with classes, one dead unit and one that hardly moves."""
    rng = np.random.default_rng(seed)
    y = np.arange(N) % 4
    z = np.random.default_rng(7).standard_normal((N, 6)) @ rng.standard_normal((6, d))
    x = 0.4 * z + 0.6 * rng.standard_normal((4, d))[y] + rng.standard_normal((N, d))
    x *= np.exp(1.2 * rng.standard_normal(d))
    x = np.maximum(x, 0.0)
    x[:, 0] = 0.0
    x[:, 1] = 0.05 * (np.arange(N) % 2)
    return x, y


def transformed(x, which):
    rng = np.random.default_rng(11)
    d = x.shape[1]
    if which == "permutation":
        return x[:, rng.permutation(d)]
    if which == "orthogonal":
        return x @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    if which == "isotropic-scaling":
        return 3.7 * x
    if which == "translation":
        return x + 3.0 * rng.standard_normal(d)
    return x @ (np.linalg.qr(rng.standard_normal((d, d)))[0] * np.logspace(-1, 1, d))


def partner():
    """Another representation, near enough to the first for neighbours to agree well above chance."""
    x = representation(1)[0]
    return x[:, 5:] + 0.5 * np.random.default_rng(3).standard_normal((N, D - 5))


def value_of(probe, x, y):
    if probe.info.kind == "pair":
        return compare(probe, partner(), x)
    return headline(probe.value(x, y) if probe.needs_labels else probe.value(x))


@pytest.mark.parametrize("which", sorted(INVARIANCES))
@pytest.mark.parametrize("case", sorted(SETTINGS))
def test_declared_invariance_holds_and_undeclared_one_fails(case, which):
    name, settings = SETTINGS[case]
    probe = PROBES[name](**settings)
    x, y = representation(1)
    change = abs(value_of(probe, transformed(x, which), y) - value_of(probe, x, y))
    if which in probe.info.invariances:
        assert change <= 1e-9
    else:
        assert change > 1e-3


@pytest.mark.parametrize("case", sorted(c for c, (name, _) in SETTINGS.items() if PROBES[name]().info.kind == "pair"))
def test_symmetric_flag_is_right_and_invariances_hold_for_the_first_argument_too(case):
    name, settings = SETTINGS[case]
    probe = PROBES[name](**settings)
    x, y = representation(1)[0], partner()
    difference = abs(compare(probe, x, y) - compare(probe, y, x))
    assert difference <= 1e-12 if probe.info.symmetric else difference > 1e-3
    for which in probe.info.invariances:
        assert compare(probe, transformed(x, which), y) == pytest.approx(compare(probe, x, y), abs=1e-9)


@pytest.mark.parametrize("name", sorted(PROBES))
def test_card_is_complete_and_says_what_kind_it_is(name):
    probe = PROBES[name]()
    info = probe.info
    assert info.name == name
    assert all((info.title, info.formula, info.citation, info.convention, info.traps, info.cost))
    assert info.range[0] < info.range[1]
    if info.kind == "pair":
        assert info.direction in ("similarity", "distance")
        assert info.symmetric is not None
    else:
        assert info.kind == "single"
        assert info.direction is None
        assert info.symmetric is None
        assert not info.metric


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e150])
@pytest.mark.parametrize("name", sorted(n for n in PROBES if n != "spectrum-exponent"))
def test_extreme_scales_neither_overflow_nor_underflow(name, scale):
    probe = PROBES[name](**SETTINGS[name][1])
    x, y = representation(1)
    assert value_of(probe, scale * x, y) == pytest.approx(value_of(probe, x, y), abs=1e-9)


OFFSET = ["linear-cka", "debiased-cka", "minibatch-cka", "rbf-cka", "distance-correlation", "angular-procrustes", "rsa"]


@pytest.mark.parametrize("name", OFFSET)
def test_an_offset_a_million_times_the_spread_costs_few_digits(name):
    """Rounding the input at offset 1e6 perturbs it by 1e-10 of its spread; 1e-7 leaves room for conditioning."""
    probe = PROBES[name](**({"comparator": "pearson"} if name == "rsa" else {}))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((100, 8)), rng.standard_normal((100, 9))
    assert compare(probe, x + 1e6, y) == pytest.approx(compare(probe, x, y), abs=1e-7)
