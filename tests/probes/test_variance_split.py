"""The split of variance against coordinates, against known components, and its refusals."""

import itertools

import numpy as np
import pytest

from probes import ProbeError
from probes.variance import squared_distances, variance_split


def networks(effects, sizes, noise, seed, dimension=40):
    """Points μ + Σ_f u_f[level] + ε: every combination of levels once, component variances effects² per coordinate."""
    rng = np.random.default_rng(seed)
    cells = list(itertools.product(*map(range, sizes.values())))
    labels = {name: [cell[i] for cell in cells] for i, name in enumerate(sizes)}
    points = noise * rng.standard_normal((len(cells), dimension))
    for name, size in sizes.items():
        points += (effects[name] * rng.standard_normal((size, dimension)))[labels[name]]
    return points, labels


def distances(points):
    return ((points[:, None] - points[None]) ** 2).sum(-1)


SIZES = {"rule": 4, "init": 5, "order": 3}


def test_sums_of_squares_are_those_of_an_analysis_of_variance_on_the_coordinates():
    """SS_f = Σ over levels of N_level ‖mean of level − grand mean‖², summed over coordinates; 1e-9 is rounding."""
    points, labels = networks({"rule": 1.0, "init": 0.5, "order": 0.2}, SIZES, 0.7, seed=0)
    parts = variance_split(distances(points), labels, permutations=1)
    centred = points - points.mean(0)
    rest = (centred**2).sum()
    for part, (name, size) in zip(parts, SIZES.items(), strict=False):
        codes = np.array(labels[name])
        means = np.array([centred[codes == level].mean(0) for level in range(size)])
        expected = len(points) / size * (means**2).sum()
        rest -= expected
        assert (part.factor, part.df) == (name, size - 1)
        assert part.squares == pytest.approx(expected, rel=1e-9)
    assert parts[-1].factor == "rest"
    assert parts[-1].df == 60 - 1 - 3 - 4 - 2
    assert parts[-1].squares == pytest.approx(rest, rel=1e-9)
    assert sum(part.share for part in parts) == pytest.approx(1.0, abs=1e-12)


def test_components_are_recovered_without_bias():
    """Mean over 40 draws. A component is dimension · effect²; estimated from k levels in 40 dimensions its relative
    error is √(2/(40 (k−1))), at most .16 per draw and .026 for the mean; four of those are allowed."""
    effects = {"rule": 1.0, "init": 0.5, "order": 0.0}
    found = np.mean(
        [
            [part.variance for part in variance_split(distances(p), labels, permutations=1)]
            for p, labels in (networks(effects, SIZES, 0.7, seed) for seed in range(40))
        ],
        axis=0,
    )
    np.testing.assert_allclose(found, [40.0, 10.0, 0.0, 40 * 0.49], rtol=0.1, atol=0.1)


def test_a_factor_without_effect_is_found_at_its_nominal_rate_and_one_with_effect_always():
    """100 draws, p over 39 permutations: the 99.9 % point of Binomial(100, .05) is 13."""
    idle = busy = 0
    for seed in range(100):
        p, labels = networks({"rule": 0.5, "init": 0.0, "order": 0.3}, SIZES, 0.7, seed, dimension=10)
        rule, init, *_ = variance_split(distances(p), labels, permutations=39, seed=seed)
        busy += rule.p <= 0.05
        idle += init.p <= 0.05
    assert idle <= 13
    assert busy >= 95


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


def test_what_is_no_distance_is_refused():
    with pytest.raises(ProbeError, match="not symmetric"):
        squared_distances([[1, 0.2], [0.4, 1]], "similarity")
    with pytest.raises(ProbeError, match="no value"):
        squared_distances([[1, np.nan], [np.nan, 1]], "similarity")
