"""Intervals and tests over seeds: closed forms, coverage by simulation, exact enumeration by another route."""

import itertools

import numpy as np
import pytest

from probes import ProbeError, Undefined
from probes.intervals import (
    between_interval,
    contrast,
    contrast_interval,
    contrast_range,
    grouped_jackknife,
    jackknife,
    mean_between,
    mean_within,
    within_interval,
)
from probes.seed_tests import paired_swap_test, seed_label_test


def test_jackknife_of_a_mean_is_the_t_interval():
    """The delete-one standard error of a mean is s/√m, algebraically."""
    from scipy.stats import t

    x = np.array([0.3, 1.4, -0.2, 2.2, 0.9, 1.1])
    interval = jackknife(lambda kept: float(x[kept].mean()), range(6))
    se = x.std(ddof=1) / np.sqrt(6)
    assert interval.value == pytest.approx(x.mean())
    assert interval.se == pytest.approx(se)
    assert interval.high == pytest.approx(x.mean() + t.ppf(0.975, 5) * se)
    assert interval.low == pytest.approx(x.mean() - t.ppf(0.975, 5) * se)
    assert interval.n == 6
    narrow = jackknife(lambda kept: float(x[kept].mean()), range(6), level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * t.ppf(0.75, 5) * se)


def test_an_interval_is_cut_to_what_its_value_can_be():
    found = jackknife(lambda kept: float(np.mean(np.array([0.8, 1.0, 1.0])[kept])), range(3))
    assert found.high > 1
    cut = found.within((-1.0, 1.0))
    assert (cut.value, cut.low, cut.high, cut.se, cut.n) == (found.value, found.low, 1.0, found.se, 3)
    assert found.within((0.9, 2.0)).low == 0.9
    assert found.within((-np.inf, np.inf)) == found
    assert found.within((0.0, 0.5)).high == found.value, "a value beside its range stays in its interval"
    none = jackknife(lambda kept: 1.0, range(2))
    assert none.within((0.0, 1.0)) is none
    assert contrast_range((0.0, 1.0)) == (-1.0, 1.0)
    assert contrast_range((0.0, np.inf)) == (-np.inf, np.inf)


def test_cutting_an_interval_to_the_range_loses_no_coverage():
    """Means of Beta(9, 1), which crowd at 1: the cut interval covers .9 in the very draws in which the other does."""
    draws = np.random.default_rng(0).beta(9, 1, (400, 5))
    whole = [jackknife(lambda kept, x=x: float(x[kept].mean()), range(5)) for x in draws]
    cut = [interval.within((0.0, 1.0)) for interval in whole]
    assert [i.low <= 0.9 <= i.high for i in whole] == [i.low <= 0.9 <= i.high for i in cut]
    assert sum(i.high > 1 for i in whole) > 20
    assert max(i.high for i in cut) == 1.0


def test_jackknife_passes_seeds_through_by_name():
    x = {"a": 1.0, "b": 2.0, "c": 6.0}
    assert jackknife(lambda kept: np.mean([x[s] for s in kept]), ["a", "b", "c"]).value == 3.0


def test_means_by_hand():
    S = np.array([[9.0, 1.0, 2.0], [3.0, 9.0, 4.0], [5.0, 6.0, 9.0]])
    assert mean_within(S) == 21 / 6
    assert mean_between(S) == 21 / 6
    assert mean_between(S, "only") == 9.0
    assert mean_between(S, "include") == 48 / 9
    assert mean_between(S[:2], "include") == 28 / 6


def test_too_few_seeds_leave_the_value_and_say_why_there_is_no_interval():
    S = np.array([[1.0, 0.8], [0.8, 1.0]])
    interval = within_interval(S)
    assert interval.value == 0.8
    for part in (interval.low, interval.high, interval.se):
        assert isinstance(part, Undefined)
        assert "at least 3 seeds" in part.reason
    lone = within_interval(np.ones((1, 1)))
    assert isinstance(lone.value, Undefined)
    assert between_interval(np.full((2, 4), 0.5), paired=False).value == 0.5
    assert isinstance(between_interval(np.full((2, 4), 0.5), paired=False).low, Undefined)


def test_a_seed_without_which_nothing_is_defined_is_named():
    interval = jackknife(lambda kept: 1.0 if "b" in kept else Undefined("nothing left"), ["a", "b", "c"])
    assert interval.value == 1.0
    assert interval.low == Undefined("without seed b: nothing left")


def test_diverged_seeds_must_be_left_out_by_the_caller_and_the_diagonal_is_never_read():
    S = np.full((4, 4), 0.5)
    np.fill_diagonal(S, np.nan)
    assert mean_within(S) == 0.5
    assert within_interval(S).se == pytest.approx(0.0, abs=1e-15)
    S[0, 1] = np.nan
    with pytest.raises(ProbeError, match="leave those seeds out"):
        mean_within(S)
    with pytest.raises(ProbeError, match="not numbers"):
        mean_within([[1.0, Undefined("constant")], [0.5, 1.0]])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: mean_within(np.zeros((2, 3))), "seeds × seeds"),
        (lambda: mean_between(np.zeros((2, 3))), "seeds × seeds"),
        (lambda: mean_between(np.zeros((2, 2)), "some"), "exclude, only, include"),
        (lambda: between_interval(np.zeros((3, 3)), paired=False, same_seed="only"), "not paired"),
        (lambda: within_interval(np.zeros((3, 3)), level=95), "level"),
        (lambda: jackknife(lambda kept: 0.0, []), "no seeds"),
        (lambda: contrast_interval(np.zeros((3, 3)), np.zeros((4, 4)), np.zeros((3, 4))), "common seeds"),
        (lambda: contrast_interval(np.zeros((3, 3)), np.zeros((3, 3)), np.zeros((3, 4))), "S_ab has shape"),
        (lambda: contrast(np.zeros((3, 3)), np.zeros((3, 3)), np.zeros((3, 3)), "both"), "similarity, distance"),
        (lambda: paired_swap_test(np.zeros((3, 3)), np.zeros((4, 4)), np.zeros((3, 3))), "same seeds"),
        (lambda: seed_label_test(np.zeros((4, 4)), "aaab"), "at least two networks"),
        (lambda: seed_label_test(np.zeros((4, 4)), "abcd"), "two rules"),
        (lambda: seed_label_test(np.zeros((4, 4)), "aabb", seeds=[0, 1, 0, 1]), "paired_swap_test"),
        (lambda: paired_swap_test(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1))), "one seed"),
    ],
)
def test_bad_requests_say_what_to_do(call, said):
    with pytest.raises(ProbeError, match=said):
        call()


def within_group(rng, m, mu=0.8):
    """S_ij = μ + u_i + u_j + e_ij, symmetric, with node effects as large as the residual."""
    u = rng.standard_normal(m)
    e = np.triu(rng.standard_normal((m, m)), 1)
    return mu + u[:, None] + u[None, :] + e + e.T


@pytest.mark.parametrize(("m", "naive_at_most"), [(5, 0.78), (10, 0.64), (20, 0.5)])
def test_jackknife_over_seeds_covers_and_the_interval_over_pairs_does_not(m, naive_at_most):
    """Nominal 95 %. 500 replications: the standard error of a coverage near .95 is .01, near .6 it is .022. Expected
    from larger simulations of this model: jackknife 96 %, t over pairs 70 % (5 seeds), 56 % (10), 41 % (20)."""
    from scipy.stats import t

    rng = np.random.default_rng(0)
    covered = naive = 0
    upper = np.triu_indices(m, 1)
    for _ in range(500):
        S = within_group(rng, m)
        interval = within_interval(S)
        covered += interval.low <= 0.8 <= interval.high
        pairs = S[upper]
        half = t.ppf(0.975, len(pairs) - 1) * pairs.std(ddof=1) / np.sqrt(len(pairs))
        naive += abs(pairs.mean() - 0.8) <= half
    assert 0.92 <= covered / 500 <= 0.99
    assert naive / 500 <= naive_at_most


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("m", "naive_at_most"), [(5, 0.75), (10, 0.65), (20, 0.5)])
def test_between_interval_covers_and_an_interval_over_pairs_does_not(m, naive_at_most, paired):
    """Rows and columns have their own effects; in the paired design both come from one seed and correlate. Of 400
    intervals at .95 three standard errors are .033, so .92 to .99 holds one that is right or slightly conservative."""
    from scipy.stats import t

    rng = np.random.default_rng(m)
    covered = naive = 0
    for _ in range(400):
        u = rng.standard_normal(m)
        v = 0.7 * u + 0.7 * rng.standard_normal(m) if paired else rng.standard_normal(m)
        S = 0.5 + u[:, None] + v[None, :] + rng.standard_normal((m, m))
        pairs = S[~np.eye(m, dtype=bool)] if paired else S.ravel()
        half = t.ppf(0.975, len(pairs) - 1) * pairs.std(ddof=1) / np.sqrt(len(pairs))
        naive += abs(pairs.mean() - 0.5) <= half
        if paired:
            S[np.eye(m, dtype=bool)] += 10.0  # what two networks of one seed share; must not leak in
        interval = between_interval(S, paired=paired)
        covered += interval.low <= 0.5 <= interval.high
    assert 0.92 <= covered / 400 <= 0.99
    assert naive / 400 <= naive_at_most


def test_unpaired_variance_of_an_additive_matrix_is_the_sum_of_two():
    """S_ij = u_i + v_j: the mean is ū + v̄, with variance s²_u/a + s²_v/b exactly."""
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal(5), rng.standard_normal(7)
    interval = between_interval(u[:, None] + v[None, :], paired=False)
    assert interval.se == pytest.approx(np.sqrt(u.var(ddof=1) / 5 + v.var(ddof=1) / 7))
    assert interval.n == 5


def test_degrees_of_freedom_of_several_groups_are_those_of_welch_and_satterthwaite():
    """For a difference of two means, v_g = s²_g/m_g: Welch's test."""
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(0)
    u, v = rng.standard_normal(5), 3 * rng.standard_normal(9)
    interval = grouped_jackknife(lambda a, b: float(u[a].mean() - v[b].mean()), (5, 9))
    welch = ttest_ind(u, v, equal_var=False)
    assert (interval.low, interval.high) == pytest.approx(tuple(welch.confidence_interval()))
    assert interval.method == (
        f"delete-one-seed jackknife in each of 2 groups, t with {welch.df:.1f} df (Welch-Satterthwaite)"
    )
    constant = grouped_jackknife(lambda a, b: 0.5, (5, 9))
    assert (constant.low, constant.high) == (0.5, 0.5)
    assert "t with 4.0 df" in constant.method
    one = grouped_jackknife(lambda kept: float(u[kept].mean()), (5,))
    alone = jackknife(lambda kept: float(u[kept].mean()), range(5))
    assert (one.low, one.high) == pytest.approx((alone.low, alone.high))


def test_an_interval_over_five_groups_of_five_covers_and_is_no_wider_than_it_must_be():
    """Mean over pairs of networks of different groups. 400 intervals at .95: three standard errors are .033. With the
    four degrees of freedom of one group 98.8 % would be covered."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(5), 5)
    apart = group[:, None] != group
    covered = 0
    for _ in range(400):
        S = within_group(rng, 25)

        def between_groups(*kept, S=S):
            rows = np.concatenate([5 * g + np.array(mine) for g, mine in enumerate(kept)])
            chosen = np.ix_(rows, rows)
            return float(S[chosen][apart[chosen]].mean())

        interval = grouped_jackknife(between_groups, [5] * 5)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.92 <= covered / 400 <= 0.98


def test_pairs_of_one_seed_alone_give_the_plain_t_interval():
    S = np.diag([0.1, 0.5, 0.6, 0.9])
    interval = between_interval(S, same_seed="only")
    assert interval.value == pytest.approx(0.525)
    assert interval.se == pytest.approx(np.std([0.1, 0.5, 0.6, 0.9], ddof=1) / 2)


def test_contrast_by_hand_and_its_sign_for_distances():
    aa, bb, ab = np.full((4, 4), 0.9), np.full((4, 4), 0.7), np.full((4, 4), 0.6)
    np.fill_diagonal(ab, 1.0)  # same initial weights; left out
    assert contrast(aa, bb, ab) == pytest.approx(0.2)
    assert contrast(1 - aa, 1 - bb, 1 - ab, "distance") == pytest.approx(0.2)
    paired = contrast_interval(aa, bb, ab)
    assert (paired.value, paired.se) == (pytest.approx(0.2), pytest.approx(0.0, abs=1e-12))
    loose = contrast_interval(aa[:3, :3], bb, ab[:3], paired=False)
    assert loose.value == pytest.approx(0.8 - ab[:3].mean())


def three_blocks(rng, m, effect=0.0, shared=1.0, noise=1.0):
    """Two rules, paired by seed: s(p, q) = −‖f_p − f_q‖² of feature vectors, whose seed part both rules share."""
    common = shared * rng.standard_normal((m, 3))
    F = np.concatenate([common, common]) + noise * rng.standard_normal((2 * m, 3))
    F[m:, 0] += effect
    S = -((F[:, None] - F[None]) ** 2).sum(axis=-1)
    return S[:m, :m], S[m:, m:], S[:m, m:], S


def test_contrast_interval_covers_zero_when_the_rule_has_no_effect():
    """Off-diagonal pairs of two rules with the same distribution have the same mean, so Δ = 0 although seeds pair
    the rules. The statistic is a U-statistic that is degenerate at Δ = 0, hence conservative without an upper bound:
    coverage ≥ .92. Where it is not degenerate is the next test."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        aa, bb, ab, _ = three_blocks(rng, 6)
        interval = contrast_interval(aa, bb, ab)
        covered += interval.low <= 0.0 <= interval.high
    assert covered / 300 >= 0.92


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("m", [5, 10, 20])
def test_contrast_interval_covers_an_effect_and_no_more(m, paired):
    """Far from zero the statistic is not degenerate. E‖f_p − f_q‖² of two rules exceeds that of one by effect²
    (features have unit variances around means that far apart). 300 intervals at .95: three standard errors are .038."""
    rng = np.random.default_rng(m)
    covered = 0
    for _ in range(300):
        aa, bb, ab, _ = three_blocks(rng, m, effect=10.0, shared=1.0 if paired else 0.0)
        interval = contrast_interval(aa, bb, ab, paired=paired)
        covered += interval.low <= 100.0 <= interval.high
    assert 0.912 <= covered / 300 <= 0.988


@pytest.mark.parametrize("m", [3, 4, 5])
def test_swap_test_equals_swapping_networks_one_by_one(m):
    rng = np.random.default_rng(m)
    aa, bb, ab, S = three_blocks(rng, m, effect=1.0)
    values = []
    for swap in itertools.product([0, 1], repeat=m):
        a = [i + m * s for i, s in enumerate(swap)]
        b = [i + m * (1 - s) for i, s in enumerate(swap)]
        values.append(contrast(S[np.ix_(a, a)], S[np.ix_(b, b)], S[np.ix_(a, b)]))
    result = paired_swap_test(aa, bb, ab)
    assert result.value == pytest.approx(contrast(aa, bb, ab))
    assert result.p == pytest.approx(np.mean(np.array(values) >= values[0] - 1e-9))
    assert result.floor == 1 / 2 ** (m - 1)
    assert result.arrangements == 2 ** (m - 1)
    assert result.exact


@pytest.mark.parametrize(("m", "floor"), [(3, 1 / 4), (5, 1 / 16), (6, 1 / 32), (10, 1 / 512)])
def test_swap_test_reaches_its_floor_when_rules_are_far_apart(m, floor):
    aa, bb, ab, _ = three_blocks(np.random.default_rng(0), m, effect=100.0)
    result = paired_swap_test(aa, bb, ab)
    assert result.p == result.floor == floor
    assert paired_swap_test(-aa, -bb, -ab, direction="distance").p == floor


@pytest.mark.parametrize("unit", [1e-150, 1e-13, 1e9])
def test_tests_over_seeds_do_not_depend_on_the_unit_of_a_distance(unit):
    """Two rules far apart reach the floor; where all distances are one number every arrangement is a tie."""
    aa, bb, ab, S = three_blocks(np.random.default_rng(0), 6, effect=100.0)
    asked, groups = {"direction": "distance"}, [0] * 6 + [1] * 6
    assert paired_swap_test(*(-unit * part for part in (aa, bb, ab)), **asked).p == 1 / 32
    assert seed_label_test(-unit * S, groups, **asked).p == 2 / 924
    same = np.full((12, 12), unit / 3)
    assert paired_swap_test(*[same[:6, :6]] * 3, **asked).p == 1.0
    assert seed_label_test(same, groups, **asked).p == 1.0


def test_swap_test_keeps_its_level_although_networks_of_one_seed_are_alike():
    """m = 5, no rule effect: p ≤ 1/16 and p ≤ 1/8 happen at most that often. Bands: 99.9 % of Binomial(600, p)."""
    from scipy.stats import binom

    rng = np.random.default_rng(0)
    p = np.array([paired_swap_test(*three_blocks(rng, 5, shared=3.0)[:3]).p for _ in range(600)])
    for level in (1 / 16, 1 / 8, 1 / 2):
        low, high = binom.ppf([0.0005, 0.9995], 600, level)
        assert low <= (p <= level + 1e-12).sum() <= high


def test_random_swaps_agree_with_all_swaps():
    """20 000 samples: the standard error of p is below .0036."""
    aa, bb, ab, _ = three_blocks(np.random.default_rng(3), 14, effect=0.6)
    sampled = paired_swap_test(aa, bb, ab, samples=20_000)
    assert not sampled.exact
    assert sampled.floor == 1 / 20_001
    m = 14
    Q = (aa + bb) / 2 - (ab + ab.T) / 2
    np.fill_diagonal(Q, 0)
    e = 1.0 - 2.0 * ((np.arange(2**13)[:, None] >> np.arange(m)) & 1)
    full = ((e @ Q) * e).sum(axis=1)
    assert sampled.p == pytest.approx((full >= Q.sum() - 1e-9).mean(), abs=0.015)


@pytest.mark.parametrize(("m", "floor"), [(3, 2 / 20), (4, 2 / 70), (5, 2 / 252)])
def test_label_test_equals_enumeration_and_has_the_stated_floor(m, floor):
    rng = np.random.default_rng(m)
    *_, S = three_blocks(rng, m, shared=0.0, effect=0.5)
    values = []
    for chosen in itertools.combinations(range(2 * m), m):
        a, b = list(chosen), [i for i in range(2 * m) if i not in chosen]
        values.append(contrast(S[np.ix_(a, a)], S[np.ix_(b, b)], S[np.ix_(a, b)], same_seed="include"))
    result = seed_label_test(S, ["bp"] * m + ["fa"] * m, seeds=range(2 * m))
    assert result.value == pytest.approx(values[0])
    assert result.p == pytest.approx(np.mean(np.array(values) >= values[0] - 1e-9))
    assert result.floor == pytest.approx(floor)
    *_, far = three_blocks(rng, m, shared=0.0, effect=100.0)
    assert seed_label_test(far, ["bp"] * m + ["fa"] * m).p == pytest.approx(floor)
    assert seed_label_test(-far, ["bp"] * m + ["fa"] * m, direction="distance").p == pytest.approx(floor)


def test_label_test_on_unequal_groups_and_by_sampling():
    rng = np.random.default_rng(0)
    *_, S = three_blocks(rng, 4, shared=0.0, effect=100.0)
    unequal = seed_label_test(S[1:, 1:], "aaabbbb")
    assert unequal.floor == unequal.p == pytest.approx(1 / 35)
    *_, S = three_blocks(rng, 9, shared=0.0, effect=100.0)
    sampled = seed_label_test(S, "a" * 9 + "b" * 9, samples=999)
    assert not sampled.exact
    assert sampled.p <= 3 / 1000  # each of two divisions out of 48620 is hit with probability .04 in 999 draws


def test_label_test_keeps_its_level_for_independent_networks():
    """4 against 4 networks: p ≤ 6/70 happens with probability 6/70 exactly; 99.9 % band of Binomial(400, 6/70)."""
    from scipy.stats import binom

    rng = np.random.default_rng(0)
    p = np.array([seed_label_test(three_blocks(rng, 4, shared=0.0)[3], "aaaabbbb").p for _ in range(400)])
    low, high = binom.ppf([0.0005, 0.9995], 400, 6 / 70)
    assert low <= (p <= 6 / 70 + 1e-12).sum() <= high
