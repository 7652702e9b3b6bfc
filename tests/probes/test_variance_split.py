"""The split of variance against coordinates, against known components, and its refusals."""

import itertools

import numpy as np
import pytest

from probes import ProbeError
from probes.variance import squared_distances, variance_split


def networks(effects, sizes, noise, seed, dimension=40):
    """Points Σ u_term[levels] + ε, every combination of levels once. effects: standard deviation per coordinate of each
    term, the name of a factor or a tuple of names."""
    rng = np.random.default_rng(seed)
    cells = list(itertools.product(*map(range, sizes.values())))
    labels = {name: [cell[i] for cell in cells] for i, name in enumerate(sizes)}
    points = noise * rng.standard_normal((len(cells), dimension))
    for term, effect in effects.items():
        names = (term,) if isinstance(term, str) else term
        drawn = effect * rng.standard_normal((*(sizes[name] for name in names), dimension))
        points += drawn[tuple(labels[name] for name in names)]
    return points, labels


def distances(points):
    return ((points[:, None] - points[None]) ** 2).sum(-1)


SIZES = {"rule": 4, "init": 5, "order": 3}


def averaged(points, labels, names):
    """Every network's mean over all that share its levels of these factors."""
    keys = list(zip(*(labels[name] for name in names), strict=True)) if names else [()] * len(points)
    return np.array([points[[other == key for other in keys]].mean(0) for key in keys])


def test_sums_of_squares_are_those_of_an_analysis_of_variance_on_the_coordinates():
    """ȳ_a − ȳ is the effect of a factor, ȳ_ab − ȳ_a − ȳ_b + ȳ that of an interaction; 1e-9 is rounding."""
    points, labels = networks({"rule": 1.0, "init": 0.5, "order": 0.2, ("rule", "init"): 0.6}, SIZES, 0.7, seed=0)
    parts = variance_split(distances(points), labels, permutations=1)
    mean = {names: averaged(points, labels, names) for n in range(3) for names in itertools.combinations(SIZES, n)}
    expected = {}
    for name, size in SIZES.items():
        expected[name] = (size - 1, mean[(name,)] - mean[()])
    for a, b in itertools.combinations(SIZES, 2):
        effect = mean[(a, b)] - mean[(a,)] - mean[(b,)] + mean[()]
        expected[f"{a} x {b}"] = ((SIZES[a] - 1) * (SIZES[b] - 1), effect)
    expected["rest"] = (3 * 4 * 2, points - mean[()] - sum(effect for _, effect in expected.values()))
    assert [part.factor for part in parts] == list(expected)
    for part in parts:
        df, effect = expected[part.factor]
        assert part.df == df
        assert part.squares == pytest.approx((effect**2).sum(), rel=1e-9)
    assert sum(part.share for part in parts) == pytest.approx(1.0, abs=1e-12)
    assert sum(part.df for part in parts) == 59


ROOTS = {"rule": 1.0, "init": 0.5, "order": 0.0}
PAIRS = {("rule", "init"): 1.5, ("rule", "order"): 0.0, ("init", "order"): 0.8}


@pytest.mark.parametrize("effects", [ROOTS, ROOTS | PAIRS, {("rule", "init"): 20**0.5}])
def test_components_are_recovered_without_bias(effects):
    """A component is dimension · effect², whatever the interactions. Mean over 40 draws within four of its standard
    errors (of the draws themselves), which a wrong divisor or a missing term leaves behind by far."""
    drawn = np.array(
        [
            [part.variance for part in variance_split(distances(p), labels, permutations=1)]
            for p, labels in (networks(effects, SIZES, 0.7, seed) for seed in range(40))
        ]
    )
    expected = [40 * effects.get(term, 0.0) ** 2 for term in (*ROOTS, *PAIRS)] + [40 * 0.49]
    error = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - expected) <= 4 * error).all()
    assert (error <= 0.06 * np.max(expected)).all()  # or four of them would hold anything


def test_where_combinations_are_trained_more_often_their_interaction_is_a_term_of_its_own():
    """Three networks per cell; E MS = σ² + 3σ²_ab + 3k_b σ²_a, and the rest is the spread within cells."""
    sizes, effects = {"rule": 4, "init": 5, "replicate": 3}, {"rule": 1.0, "init": 0.5, ("rule", "init"): 1.5}
    drawn = []
    for seed in range(40):
        points, labels = networks(effects, sizes, 0.7, seed)
        del labels["replicate"]
        parts = variance_split(distances(points), labels, permutations=1)
        drawn.append([part.variance for part in parts])
    assert [(part.factor, part.df) for part in parts] == [("rule", 3), ("init", 4), ("rule x init", 12), ("rest", 40)]
    error = np.std(drawn, axis=0, ddof=1) / np.sqrt(len(drawn))
    assert (np.abs(np.mean(drawn, axis=0) - [40.0, 10.0, 90.0, 40 * 0.49]) <= 4 * error).all()


def test_groups_of_one_factor_are_split_as_in_a_one_way_analysis_of_variance():
    """Ten divisions of six networks into two unnamed groups of three, so p is at least 1/10."""
    points = np.array([0.0, 1.0, 2.0, 100.0, 101.0, 102.0])[:, None]
    factor, rest = variance_split(distances(points), {"rule": "aaabbb"})
    assert (factor.squares, rest.squares) == (pytest.approx(6 * 50**2), pytest.approx(4.0))
    assert (rest.df, factor.floor) == (4, 0.1)
    assert 0.1 <= factor.p <= 0.15


def rates(effects, sizes, draws, **settings):
    """How often each factor has p ≤ .05."""
    found = np.zeros(len(sizes))
    for seed in range(draws):
        points, labels = networks(effects, sizes, 0.7, seed, dimension=10)
        parts = variance_split(distances(points), labels, permutations=39, seed=seed, **settings)
        found += [part.p <= 0.05 for part in parts[: len(sizes)]]
    return found


def test_with_two_factors_one_without_effect_is_found_at_its_nominal_rate_and_one_with_effect_always():
    """100 draws, p over 39 exchanges: the 99.9 % point of Binomial(100, .05) is 13."""
    rule, init = rates({"rule": 0.7, "init": 0.0}, {"rule": 3, "init": 6}, 100)
    assert init <= 13
    assert rule >= 95


@pytest.mark.parametrize("orders", [2, 4])
def test_many_orders_of_a_rule_and_initialisation_are_no_independent_evidence_about_the_rule(orders):
    """Two rules alike but for random numbers of their own in each initialisation. All 32 exchanges are taken, so that
    p ≤ .05 has probability 1/32; 99.9 % point of Binomial(80, 1/32): 9. A real effect is found all the same."""
    sizes, settings = {"rule": 2, "init": 6, "order": orders}, {"within": {"rule": "init"}}
    rule, *_ = rates({("rule", "init"): 20.0, "init": 1.0, "order": 1.0}, sizes, 80, **settings)
    assert rule <= 9
    rule, *_ = rates({"rule": 4.0, ("rule", "init"): 1.0, ("rule", "order"): 0.3}, sizes, 20, **settings)
    assert rule >= 19


@pytest.mark.parametrize("term", [("rule", "init"), ("rule", "order")])
def test_whichever_interaction_there_is_without_main_effects_no_factor_is_found_more_often_than_nominal(term):
    """Nothing is said about what goes with what. 60 draws: 99.9 % point of Binomial(60, .05) is 9."""
    assert (rates({term: 4.0}, {"rule": 3, "init": 4, "order": 4}, 60) <= 9).all()


@pytest.mark.parametrize(("rules", "inits", "floor"), [(2, 2, 1 / 2), (2, 5, 1 / 16), (2, 6, 1 / 32), (3, 3, 1 / 36)])
def test_the_least_p_is_one_over_the_number_of_distinct_exchanges(rules, inits, floor):
    """An overwhelming effect of the rule reaches it exactly: k! exchanges in every initialisation but one, whose own
    names mean nothing. The floor is of the design, not of the networks."""
    sizes = {"rule": rules, "init": inits, "order": 2}
    points, labels = networks({"rule": 1000.0}, sizes, 1.0, seed=0)
    rule, init, order, *others = variance_split(distances(points), labels, within={"rule": "init"})
    assert (rule.floor, rule.p) == (pytest.approx(floor), pytest.approx(floor))
    assert rule.within == ("init",)
    assert order.within == ("rule", "init")
    assert order.floor == pytest.approx(max(2.0 ** -(rules - 1), 2.0 ** -(inits - 1)))
    assert init.p >= init.floor
    assert all(part.p is part.floor is None for part in others)


def test_few_random_exchanges_have_a_floor_of_their_own():
    points, labels = networks({"rule": 1000.0}, {"rule": 4, "init": 6}, 1.0, seed=0)
    rule, *_ = variance_split(distances(points), labels, permutations=99)
    assert (rule.p, rule.floor) == (0.01, 0.01)


def test_identical_networks_differ_by_nothing():
    _, labels = networks({}, SIZES, 0.0, seed=0)
    for part in variance_split(np.zeros((60, 60)), labels, permutations=19):
        assert (part.share, part.variance) == (0.0, 0.0)
        assert part.p in (1.0, None)


def test_an_overwhelming_factor_does_not_hide_another():
    """The rule takes all but a part in 10⁸, of which initialisations take nearly all."""
    points, labels = networks({"rule": 1e4, "init": 1.0}, {"rule": 2, "init": 5}, 0.05, seed=0)
    _, init, _ = variance_split(distances(points), labels, permutations=199)
    assert init.share < 1e-6
    assert init.p == init.floor == 1 / 120


def test_a_metric_of_no_euclidean_space_keeps_the_sign_of_its_parts_and_shares_sum_to_one():
    """Four networks, d = 1 but 2 between networks of one rule: tr G = Σ d²/4 = 3, SS_rule = 3 − 2·(4/2) = −1."""
    d2 = np.array([[0, 4, 1, 1], [4, 0, 1, 1], [1, 1, 0, 4], [1, 1, 4, 0]], dtype=float)
    rule, init, rest = variance_split(d2, {"rule": [0, 0, 1, 1], "init": [0, 1, 0, 1]})
    assert rule.squares == pytest.approx(-1.0)
    assert [init.squares, rest.squares] == pytest.approx([2.0, 2.0])
    swapped = [part.squares for part in variance_split(d2, {"init": [0, 1, 0, 1], "order": [0, 1, 1, 0]})]
    assert swapped == pytest.approx([2.0, 2.0, -1.0])
    assert rule.share + init.share + rest.share == pytest.approx(1.0)


def test_similarities_become_the_distances_between_unit_matrices():
    from probes import PROBES

    rng = np.random.default_rng(0)
    probe = PROBES["linear-cka"]()
    prepared = [probe.prepare(rng.standard_normal((30, 5))) for _ in range(4)]
    S = [[probe.value(a, b) for b in prepared] for a in prepared]
    matrices = [probe.matrix(p).ravel() for p in prepared]
    np.testing.assert_allclose(squared_distances(S, "similarity"), distances(np.array(matrices)), atol=1e-12)
    np.testing.assert_allclose(squared_distances([[9, 2], [2, 9]], "distance"), [[0, 4], [4, 0]])


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ({}, "no factor"),
        ({"rule": [0] * 6}, "one level"),
        ({"rule": [0, 0, 1, 1]}, "4 levels for 6 networks"),
        ({"rule": [0, 0, 0, 0, 1, 1]}, "not every combination"),
        ({"rule": [0, 0, 0, 1, 1, 1], "init": [0, 1, 2, 0, 1, 3]}, "not every combination"),
        ({"rule": [0, 1, 2, 3, 4, 5]}, "no network is left"),
    ],
)
def test_designs_that_cannot_be_split_are_refused(factors, said):
    with pytest.raises(ProbeError, match=said):
        variance_split(np.ones((6, 6)) - np.eye(6), factors)


@pytest.mark.parametrize("within", [{"rule": "order"}, {"rule": "rule"}, {"order": "rule"}])
def test_a_factor_is_exchanged_within_another_of_the_design(within):
    with pytest.raises(ProbeError, match="must name two of the factors, rule, init"):
        variance_split(np.ones((4, 4)) - np.eye(4), {"rule": [0, 0, 1, 1], "init": [0, 1, 0, 1]}, within=within)


def test_what_is_no_distance_is_refused():
    with pytest.raises(ProbeError, match="not symmetric"):
        squared_distances([[1, 0.2], [0.4, 1]], "similarity")
    with pytest.raises(ProbeError, match="no value"):
        squared_distances([[1, np.nan], [np.nan, 1]], "similarity")
