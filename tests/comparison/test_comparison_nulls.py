"""Nulls of a comparison do not depend on memory, say what to do where there is too little, and work at many rows."""

import numpy as np
import pytest

import lab.comparison_nulls
from lab.comparison_layers import values_between
from lab.comparison_nulls import Nulls
from lab.errors import UsageError
from probes import PROBES
from probes.all_pairs import Shelf
from probes.feature_maps import with_maps

N, SEEDS, GROUPS = 80, (0, 1, 2), 3
LABELS = np.arange(N) % 4
WHOLE = 2**28


def arrays(positions=()):
    """Three runs that share a signal."""
    signal = np.random.default_rng(9).standard_normal((N, *positions, 3))
    for g in range(GROUPS):
        for seed in SEEDS:
            rng = np.random.default_rng([g, seed])
            yield signal @ rng.standard_normal((3, 5)) + rng.standard_normal((N, *positions, 5))


def nulls(probe, memory, permutations=40, positions=()):
    shelf = Shelf((probe.prepare(x) for x in arrays(positions)), WHOLE)
    groups = [(list(SEEDS), {seed: 3 * g + seed for seed in SEEDS}) for g in range(GROUPS)]
    return Nulls(probe, shelf, groups, LABELS, permutations, memory)


def results(made, observed=0.3):
    found = [
        made.result(i, j, kind, observed) for i, j in ((0, 1), (0, 2), (1, 2)) for kind in ("global", "within-class")
    ]
    return [(r.mean, r.sd, r.p, r.permutations) for r in found]


def test_a_pair_of_groups_at_a_time_gives_what_all_at_once_give():
    probe = PROBES["debiased-cka"]()
    four = 8 * N**2 * 8  # mean matrices of two groups, and as much again
    little = nulls(probe, four)
    np.testing.assert_allclose(results(little), results(nulls(probe, WHOLE)), rtol=1e-12)
    assert len(little._means) <= 4


def test_less_than_that_is_refused_with_what_to_do():
    with pytest.raises(UsageError, match=r"take 0\.00041 GB; give --memory more, or compare on fewer --stimuli"):
        results(nulls(PROBES["debiased-cka"](), 8 * N**2 * 7))


def test_many_rows_are_permuted_without_matrices(monkeypatch):
    """The same null from other pairs of networks: means of 200 draws, within 5 standard errors."""
    probe = PROBES["debiased-cka"]()
    by_matrix = results(nulls(probe, WHOLE, 200))
    monkeypatch.setattr(lab.comparison_nulls, "ROWS", N - 1)
    small = results(nulls(probe, 1000, 200))  # no n×n matrix fits
    for (mean, sd, _, _), (other, spread, _, draws) in zip(by_matrix, small, strict=True):
        assert draws == 200
        assert other == pytest.approx(mean, abs=5 * spread / np.sqrt(200) + 5 * sd / np.sqrt(200))
        assert 0.5 * sd < spread < 3 * sd  # three pairs of networks are not all nine


def test_positions_move_together_with_and_without_matrices(monkeypatch):
    probe = with_maps(PROBES["debiased-cka"](), "positions")
    by_matrix = results(nulls(probe, WHOLE, 100, positions=(3,)))
    assert {draws for *_, draws in by_matrix} == {100}, "there is no closed form for whole images"
    monkeypatch.setattr(lab.comparison_nulls, "ROWS", N)
    one_by_one = results(nulls(probe, 1000, 100, positions=(3,)))
    for (mean, sd, _, _), (other, spread, _, _) in zip(by_matrix, one_by_one, strict=True):
        assert other == pytest.approx(mean, abs=5 * (sd + spread) / 10)


def test_a_value_that_knows_no_stimuli_has_no_null():
    assert nulls(PROBES["imd"](), WHOLE, permutations=2).result(0, 1, "global", 0.5) is None


def test_values_at_many_rows_are_the_same(monkeypatch):
    probe = PROBES["debiased-cka"]()
    shelf = Shelf((probe.prepare(x) for x in arrays()), WHOLE)
    blocks = values_between(probe, shelf, WHOLE)
    monkeypatch.setattr("lab.comparison_layers.ROWS", 10)
    np.testing.assert_allclose(values_between(probe, shelf, WHOLE), blocks, rtol=1e-10)
