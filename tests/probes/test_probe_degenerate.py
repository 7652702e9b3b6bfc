"""Data for which a value does not exist, and input that is not data: what is said, word by word where it matters."""

import numpy as np
import pytest

from probes import PROBES, ProbeError, SingleProbe, Undefined, compare, headline
from probes.probe import ProbeInfo

LABELS = np.arange(40) % 4
PAIRS = sorted(n for n in PROBES if PROBES[n]().info.kind == "pair")
# Values of a representation that is all zero, and of one that is the same but not zero.
CONSTANT_IS_FINE = {
    "sparsity": (1.0, 0.0),
    "dead-units": (1.0, 0.0),
    "anisotropy": (None, 1.0),
    "uniformity": (None, 0.0),
    "alignment": (None, 0.0),
}


def run(name, X, labels=LABELS):
    probe = PROBES[name]()
    if probe.info.kind == "pair":
        return compare(probe, X, np.random.default_rng(0).standard_normal((len(X), 5)))
    width, classes = np.shape(X)[-1] if np.ndim(X) else 1, 1 if labels is None else len(np.unique(labels))
    readout = np.random.default_rng(2).standard_normal((width, classes))
    needs = {"labels": labels, "predictions": labels, "readout": readout}
    return probe.value(X, **{name: needs[name] for name in probe.needs})


def good(n=40, d=60):
    return np.random.default_rng(1).standard_normal((n, d))


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e8])
@pytest.mark.parametrize("name", sorted(PROBES))
def test_constant_representation(name, constant):
    """0.1 has no exact mean in binary: rounding must not pass for variance."""
    value = run(name, np.full((40, 7), constant))
    expected = CONSTANT_IS_FINE.get(name, (None, None))[constant != 0]
    if expected is not None:
        assert headline(value) == pytest.approx(expected, abs=1e-14)
    else:
        assert isinstance(value, Undefined)
        assert any(words in value.reason for words in ("same", "no variance", "not all zero"))


@pytest.mark.parametrize("name", sorted(set(PROBES) - set(CONSTANT_IS_FINE) - {"mutual-knn"}))
def test_rows_that_are_all_the_same_have_no_variance_whatever_the_units(name):
    assert isinstance(run(name, np.tile([[0.1, 5.0, -3.3]], (40, 1))), Undefined)


@pytest.mark.parametrize("kind", ["wide", "one unit", "sparse", "one-hot", "repeated", "huge offset"])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 40])
@pytest.mark.parametrize("name", sorted(set(PROBES) - set(PAIRS)))
def test_a_single_probe_gives_finite_numbers_or_a_reason_for_any_handful_of_stimuli(name, n, kind):
    X = good(n, 60)
    if kind == "one unit":
        X = X[:, :1]
    elif kind == "sparse":
        X = np.maximum(X - 1.5, 0.0) * (np.arange(n) % 3 > 0)[:, None]
    elif kind == "one-hot":
        X = np.eye(n)
    elif kind == "repeated":
        X = X[np.arange(n) // 2]
    elif kind == "huge offset":
        X = X + 1e12
    found = run(name, X, np.arange(n) % 4 if n > 3 else np.arange(n) % 2)
    if isinstance(found, Undefined):
        assert len(found.reason) > 20
    else:
        numbers = list(found.values()) if isinstance(found, dict) else [found]
        assert np.isfinite(numbers).all()
        low, high = PROBES[name]().info.range
        assert low - 1e-9 <= headline(found) <= high + 1e-9


@pytest.mark.parametrize("name", PAIRS)
def test_undefined_stays_undefined_through_permutation_and_matrix(name):
    probe = PROBES[name]()
    p = probe.prepare(np.ones((40, 3)))
    assert probe.permute(p, np.arange(40)[::-1]).undefined == p.undefined
    if probe.matrix is not None:
        assert probe.matrix(p) == p.undefined
    assert isinstance(probe.value(probe.prepare(good()), p), Undefined)
    assert probe.value(p, probe.prepare(good())) == p.undefined


@pytest.mark.parametrize("n", [1, 2, 3])
def test_debiased_cka_needs_four_stimuli(n):
    value = compare(PROBES["debiased-cka"](), good(n), good(n))
    assert isinstance(value, Undefined)
    assert f"n = {n}" in value.reason
    assert isinstance(compare(PROBES["debiased-cka"](), good(4), good(4, 3)), float)


def test_debiased_cka_of_equally_similar_stimuli_is_undefined():
    assert isinstance(compare(PROBES["debiased-cka"](), np.eye(6), good(6)), Undefined)


@pytest.mark.parametrize("n", [1, 2])
def test_rsa_needs_two_pairs(n):
    assert isinstance(compare(PROBES["rsa"](), good(n), good(n)), Undefined)


def test_rsa_of_equidistant_stimuli_is_undefined():
    """One-hot rows: every distance is the same, up to rounding of the centring."""
    for comparator in ("spearman", "pearson"):
        assert isinstance(compare(PROBES["rsa"](comparator=comparator), 0.3 * np.eye(7), good(7)), Undefined)


def test_correlation_rsa_names_the_rows_without_a_pattern():
    X = good()
    X[5] = 0.1
    X[9] = 0.0
    value = compare(PROBES["rsa"](dissimilarity="correlation"), X, good())
    assert isinstance(value, Undefined)
    assert "2 of 40" in value.reason
    assert "row 5" in value.reason


@pytest.mark.parametrize("n", [1, 5, 10])
def test_mutual_knn_needs_more_than_k_stimuli(n):
    value = compare(PROBES["mutual-knn"](k=10), good(n), good(n))
    assert isinstance(value, Undefined)
    assert "at least 11" in value.reason
    assert str(n) in value.reason


def test_mutual_knn_with_every_other_stimulus_as_neighbour_is_one():
    assert compare(PROBES["mutual-knn"](k=10), good(11), good(11, 3)) == 1.0


def test_zero_rows_have_cosine_zero_and_are_noted():
    X = good()
    X[[3, 8]] = 0.0
    p = PROBES["mutual-knn"]().prepare(X)
    assert p.notes[0] == "2 of 40 rows are all zero (no unit responds)"
    assert p.notes[1].startswith("1 of 40 rows repeat an earlier row exactly")
    assert np.isfinite(compare(PROBES["mutual-knn"](), X, good()))


@pytest.mark.parametrize("name", PAIRS)
def test_different_numbers_of_stimuli_are_refused(name):
    with pytest.raises(ProbeError, match="40 and 39 rows"):
        compare(PROBES[name](), good(40), good(39))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", sorted(PROBES))
def test_non_finite_entries_are_counted_and_located(name, bad):
    X = good()
    X[3, 0] = X[3, 1] = X[17, 2] = bad
    with pytest.raises(ProbeError, match=r"3 non-finite entries in 2 of 40 rows \(rows 3, 17\)"):
        run(name, X)


@pytest.mark.parametrize("name", sorted(PROBES))
@pytest.mark.parametrize("shape", [(40,), (40, 3, 3), ()])
def test_wrong_number_of_axes_says_flatten_or_pool(name, shape):
    probe = PROBES[name]()
    with pytest.raises(ProbeError, match="flatten or pool explicitly"):
        probe.prepare(np.zeros(shape)) if name in PAIRS else run(name, np.zeros(shape))


@pytest.mark.parametrize(
    ("X", "said"),
    [
        (np.zeros((0, 3)), "nothing to measure"),
        (np.zeros((3, 0)), "nothing to measure"),
        (np.array([["a", "b"]]), "dtype"),
        (np.array([[1 + 2j, 0]]), "complex"),
        (np.array([[None, 1.0]]), "dtype object"),
        ([[1.0, 2.0], [3.0]], "rectangular"),
    ],
)
def test_input_that_is_not_a_real_matrix_is_refused(X, said):
    with pytest.raises(ProbeError, match=said):
        PROBES["linear-cka"]().prepare(X)


def test_errors_are_one_line():
    for X in (np.full((4, 4), np.nan), np.zeros(3), np.zeros((0, 1))):
        with pytest.raises(ProbeError) as caught:
            PROBES["sparsity"]().value(X)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("order", [[0, 1, 2], [*range(39), 0], np.arange(40) + 1, np.zeros((40, 1), int)])
def test_an_order_that_is_no_permutation_is_refused(order):
    probe = PROBES["linear-cka"]()
    with pytest.raises(ProbeError, match="permutation"):
        probe.permute(probe.prepare(good()), order)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("mutual-knn", {"k": 0}, "k=0"),
        ("mutual-knn", {"k": True}, "k=True"),
        ("rsa", {"dissimilarity": "euclid"}, "sqeuclidean, correlation"),
        ("rsa", {"comparator": "tau"}, "spearman, pearson, kendall"),
        ("minibatch-cka", {"batch": 3}, "batch=3"),
        ("rbf-cka", {"bandwidth": 0}, "bandwidth=0"),
        ("distance-correlation", {"estimator": "squared"}, "biased, unbiased"),
        ("cknna", {"k": 1}, "k=1"),
        ("rtd", {"stimuli": 5000}, "stimuli=5000"),
        ("imd", {"k": 0}, "k=0"),
        ("spectrum-exponent", {"low": 0}, "low=0"),
        ("spectrum-exponent", {"low": 10, "high": 11}, "three ranks"),
        ("sparsity", {"threshold": -1}, "threshold=-1"),
        ("dead-units", {"threshold": np.nan}, "threshold=nan"),
        ("cca", {"power": 0}, "power=0"),
        ("cca", {"power": 3}, "power=3"),
        ("svcca", {"variance": 0}, "variance=0"),
        ("svcca", {"variance": 1.5}, "variance=1.5"),
        ("svcca", {"rank": 0}, "rank=0"),
        ("svcca", {"variance": 0.9, "rank": 20}, "one of them"),
        ("shape", {"alpha": -0.1}, "alpha=-0.1"),
        ("shape", {"alpha": 1.5}, "alpha=1.5"),
        ("gulp", {"lam": -1}, "lam=-1"),
        ("gulp", {"lam": np.inf}, "lam=inf"),
        ("ridge", {"folds": 1}, "folds=1"),
        ("linear-probe", {"folds": 1}, "folds=1"),
        ("linear-probe", {"ridge": 0}, "ridge"),
        ("linear-probe", {"ridge": ()}, "ridge"),
        ("concept-probe", {"ridge": ()}, "ridge"),
        ("knn-probe", {"k": 0}, "k=0"),
        ("twonn", {"discard": 0.0}, "discard=0.0"),
        ("twonn", {"discard": 1.0}, "discard=1.0"),
        ("mle-dimension", {"k": 1}, "k=1"),
        ("few-shot", {"m": 0}, "m=0"),
        ("capacity", {"points": 0}, "points=0"),
        ("glue", {"points": 1}, "points=1"),
        ("capacity", {"samples": 9}, "samples=9"),
        ("glue", {"samples": 1}, "samples=1"),
        ("glue", {"seed": -1}, "seed=-1"),
    ],
)
def test_settings_are_checked_once_when_the_probe_is_made(name, settings, said):
    with pytest.raises(ProbeError, match=said):
        PROBES[name](**settings)


@pytest.mark.parametrize(("name", "settings"), [("mutual-knn", {"k": 2.5}), ("linear-probe", {"ridge": "a"})])
def test_settings_of_the_wrong_type_are_refused(name, settings):
    """By the probe itself, or by a type checker that the suite may run under."""
    with pytest.raises((ProbeError, TypeError), match=next(iter(settings))):
        PROBES[name](**settings)


def test_spectrum_exponent_without_enough_eigenvalues_is_undefined():
    value = PROBES["spectrum-exponent"](low=10, high=50).value(good(40, 60))
    assert isinstance(value, Undefined)
    assert "39 are above rounding" in value.reason  # n − 1 after centring


def test_functions_of_singular_values_check_their_input():
    from probes import spectrum

    for function in (spectrum.participation_ratio_of, spectrum.entropy_rank_of, spectrum.stable_rank_of):
        assert isinstance(function(np.zeros(3)), Undefined)
        for bad in ([np.nan, 1.0], [-1.0, 2.0], [], [[1.0]]):
            with pytest.raises(ProbeError, match="singular values"):
                function(bad)
        assert function([1e-200, 1e-200]) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("labels", "said"),
    [(None, "labels are needed"), (np.zeros(39), r"shape \(39,\)"), (np.full(40, np.nan), "nan")],
)
def test_bad_labels_are_refused(labels, said):
    with pytest.raises(ProbeError, match=said):
        PROBES["linear-probe"]().value(good(), labels)


def test_linear_probe_needs_two_classes_and_enough_of_each():
    probe = PROBES["linear-probe"](folds=5)
    assert "one class" in probe.value(good(), np.zeros(40)).reason
    rare = np.array([0] * 36 + [1] * 4)
    assert "4 stimuli, fewer than the 5 folds" in probe.value(good(), rare).reason


def test_a_card_with_an_unknown_invariance_is_refused():
    card = PROBES["sparsity"]().info
    fields = {f: getattr(card, f) for f in card.__dataclass_fields__}
    with pytest.raises(ProbeError, match="monotone"):
        ProbeInfo(**{**fields, "invariances": frozenset({"monotone"})})


def test_every_factory_makes_a_probe_without_arguments():
    for name, factory in PROBES.items():
        probe = factory()
        assert probe.info.name == name
        assert isinstance(probe, SingleProbe) == (probe.info.kind == "single")
