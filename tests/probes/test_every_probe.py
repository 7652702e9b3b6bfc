"""Every probe, in every setting that changes what it promises, keeps what its card says: the checks that
`lab check probe` runs, but for the null and the power, which take seconds each and are slow tests here."""

import numpy as np
import pytest

from lab.check_probe import PAIR_CHECKS, SINGLE_CHECKS, checks_of, value_of
from lab.probe_examples import representation
from probes import PROBES, PairProbe, compare
from probes.probe import INVARIANCES, NEEDS

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
    "shape-whitened": ("shape", {"alpha": 0.0}),
    "shape-raw": ("shape", {"alpha": 1.0}),
    "cca-squares": ("cca", {"power": 2}),
    "svcca-rank": ("svcca", {"rank": 5}),
    "gulp-unregularised": ("gulp", {"lam": 0.0}),
    "capacity": ("capacity", {"samples": 20}),
    "glue": ("glue", {"samples": 20, "points": 20}),
    "cycle-knn": ("cycle-knn", {"k": 3}),
    "rtd": ("rtd", {"stimuli": 40}),
    "sparsity-threshold": ("sparsity", {"threshold": 0.1}),
    "dead-units-threshold": ("dead-units", {"threshold": 0.1}),
}
RATES = ("null", "power")


def probe_of(case):
    name, settings = SETTINGS[case]
    return PROBES[name](**settings)


CASES = [
    pytest.param(case, check, marks=pytest.mark.slow if check in RATES else ())
    for case in sorted(SETTINGS)
    for check in checks_of(probe_of(case))
]


@pytest.mark.parametrize(("case", "check"), CASES)
def test_keeps_what_its_card_promises(case, check):
    print(PAIR_CHECKS[check](probe_of(case)))


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
        assert set(probe.needs) <= set(NEEDS)
        assert info.direction is None
        assert info.symmetric is None
        assert not info.metric


def test_every_check_and_every_invariance_is_put_to_some_probe():
    asked = {check for case in SETTINGS for check in checks_of(probe_of(case))}
    assert asked == {*PAIR_CHECKS, *SINGLE_CHECKS}
    assert {which for name in PROBES for which in PROBES[name]().info.invariances} == INVARIANCES


SCALE_FREE = [n for n in PROBES if "isotropic-scaling" in PROBES[n]().info.invariances]


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e150])
@pytest.mark.parametrize("name", sorted(SCALE_FREE))
def test_extreme_scales_neither_overflow_nor_underflow(name, scale):
    probe = probe_of(name)
    x, y = representation(1)
    np.testing.assert_allclose(value_of(probe, scale * x, y), value_of(probe, x, y), rtol=1e-9, atol=1e-9)


OFFSET = sorted(
    {n for n in PROBES if "translation" in PROBES[n]().info.invariances and isinstance(PROBES[n](), PairProbe)}
    - {"rtd", "soft-matching", "svcca"}  # seconds each; a hard threshold
)


@pytest.mark.parametrize("name", OFFSET)
def test_an_offset_a_million_times_the_spread_costs_few_digits(name):
    """Rounding the input at offset 1e6 perturbs it by 1e-10 of its spread; 1e-7 leaves room for conditioning."""
    probe = PROBES[name](**({"comparator": "pearson"} if name == "rsa" else {}))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((100, 8)), rng.standard_normal((100, 9))
    assert compare(probe, x + 1e6, y) == pytest.approx(compare(probe, x, y), abs=1e-7)
