"""The best of several pairs of layers: found by the value, judged by the null of the best, and never without it."""

from types import SimpleNamespace

import numpy as np
import pytest

from lab.comparison_search import search_layers
from lab.comparison_table import Group, Plan
from lab.errors import UsageError
from probes import PROBES, compare
from probes.nulls import null_test, orders

N, SEEDS = 60, (0, 1, 2, 3)
LABELS = np.arange(N) % 4


def group(label: str, layers: dict, seeds=SEEDS) -> Group:
    """A run whose networks answer layers[name](rng), a network's own draw, at each layer."""
    drawn = [(seed, np.random.default_rng([len(label), ord(label[0]), seed])) for seed in seeds]
    trained = {name: {seed: make(rng) for seed, rng in drawn} for name, make in layers.items()}
    spec = SimpleNamespace(seeds=seeds, rule=f"{label}()", epochs=1, arch="mlp(9)")
    folder = SimpleNamespace(id=f"{label}-run", spec=spec, manifest={"cohorts": [{"diverged": {}}]})
    return Group(folder, label, 40, {}, {}, trained, trained)


def noise(rng):
    return rng.standard_normal((N, 6))


def seen(signal, strength=1.0):
    return lambda rng: strength * signal @ rng.standard_normal((signal.shape[1], 6)) + noise(rng)


def searched(groups, measure="linear-cka", permutations=50, asked=None):
    plan = Plan((measure,), stimuli=N, permutations=permutations, search=True)
    return search_layers(PROBES[measure](), groups, asked, LABELS, plan, memory=2**26)


@pytest.fixture(scope="module")
def two():
    """a sees the signal in its second layer, b in its first."""
    signal = np.random.default_rng(0).standard_normal((N, 2))
    return [
        group("a", {"low": noise, "high": seen(signal)}),
        group("b", {"low": seen(signal), "mid": noise, "high": noise}),
    ]


@pytest.mark.parametrize(("measure", "sign"), [("linear-cka", 1), ("angular-procrustes", -1)])
def test_the_best_pair_is_that_of_all_pairs_and_its_name_says_how_it_was_found(two, measure, sign):
    (row,), pairs = searched(two, measure)
    a, b = (g.trained for g in two)
    probe = PROBES[measure]()
    means = {
        (i, j): np.mean([compare(probe, a[i][s], b[j][t]) for s in SEEDS for t in SEEDS if s != t])
        for i in a
        for j in b
    }
    best = max(means, key=lambda pair: sign * means[pair])
    assert best == ("high", "low") == (row["layer_a"], row["layer_b"])
    assert row["between"] == pytest.approx(means[best], rel=1e-9)
    assert row["layer"] == "high - low"
    assert row["layer_choice"] == "best of 6 pairs of layers, null of the maximum"
    between = {p["layer"] for p in pairs if p["kind"] == "between"}
    assert between == {f"{i} - {j}" for i, j in means}
    assert row["null_global_p"] <= 0.05


def test_p_is_that_of_the_best_under_one_shared_order(two):
    """The null by its definition: one order of the stimuli for all pairs of layers, the best of them, K times."""
    (row,), _ = searched(two, permutations=30)
    a, b = (g.trained for g in two)
    probe = PROBES["linear-cka"]()
    prepared = [{name: {s: probe.prepare(x) for s, x in by.items()} for name, by in g.items()} for g in (a, b)]
    for kind, column in (("global", "null_global"), ("within-class", "null_within")):
        best = []
        for order in [np.arange(N), *orders(N, kind, LABELS, 30, seed=0)]:
            means = []
            for i in a:
                for j in b:
                    # Seeds are dealt into two halves: 0 and 2 of one run meet 1 and 3 of the other.
                    met = [(s, t) for s in SEEDS for t in SEEDS if s % 2 == 0 and t % 2]
                    values = [probe.value(prepared[0][i][s], probe.permute(prepared[1][j][t], order)) for s, t in met]
                    means.append(np.mean(values))
            best.append(max(means))
        as_it_is, *drawn = best
        assert row[column] == pytest.approx(np.mean(drawn), rel=1e-9)
        assert row[f"{column}_p"] == (1 + sum(value >= as_it_is for value in drawn)) / 31
        assert row[f"{column}_draws"] == 30


def test_searching_does_not_make_chance_significant():
    """Unrelated runs of three layers. The smallest p of nine pairs of layers is below .05 in up to 1 - .95^9 = 37 % of
    cases; the p of the best pair in 5 %: of 40, at most 6 with probability .99 (binomial)."""
    probe, searching, naming = PROBES["linear-cka"](), 0, 0
    for repeat in range(40):
        rng = np.random.default_rng(repeat)
        names = dict.fromkeys(("x", "y", "z"), lambda _, rng=rng: rng.standard_normal((N, 6)))
        groups = [group("a", names, seeds=(0,)), group("b", names, seeds=(1,))]
        (row,), _ = searched(groups, permutations=39)
        searching += row["null_global_p"] <= 0.05
        a, b = ([probe.prepare(by[seed]) for by in g.trained.values()] for g, seed in zip(groups, (0, 1), strict=True))
        naming += min(null_test(probe, x, y).p for x in a for y in b) <= 0.05
    assert searching <= 6
    assert naming >= 8


def test_the_interval_searches_anew_without_each_seed(two):
    """The jackknife of the maximum, by its formula."""
    from scipy import stats

    (row,), _ = searched(two)
    a, b = (g.trained for g in two)
    probe = PROBES["linear-cka"]()
    S = {(i, j): np.array([[compare(probe, a[i][s], b[j][t]) for t in SEEDS] for s in SEEDS]) for i in a for j in b}

    def best(kept):
        off = ~np.eye(len(kept), dtype=bool)
        return max(M[np.ix_(kept, kept)][off].mean() for M in S.values())

    without = np.array([best([s for s in SEEDS if s != left]) for left in SEEDS])
    se = np.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum())
    half = stats.t.ppf(0.975, 3) * se
    assert row["between_high"] - row["between"] == pytest.approx(half, rel=1e-9)


def test_there_is_no_rule_effect_at_a_searched_pair(two):
    (row,), _ = searched(two)
    assert np.isnan([row["rule_effect"], row["rule_effect_low"], row["rule_effect_p"]]).all()
    assert "no rule effect: the pair of layers was searched for" in row["notes"]


def test_without_a_null_the_best_value_is_withheld():
    """Two runs of one and the same seed have no networks that may be compared, hence neither value nor null."""
    layers = {"low": noise, "high": noise}
    same = [group("a", layers, seeds=(0,)), group("b", layers, seeds=(0,))]
    (row,), _ = searched(same)
    assert np.isnan(row["between"])
    halves = [group("a", layers, seeds=(0, 1)), group("b", layers, seeds=(0, 1))]
    (row,), _ = searched(halves)
    assert np.isfinite(row["between"])
    assert np.isfinite(row["null_global_p"])
    assert np.isnan(row["between_low"])
    assert "at least 3 seeds" in row["notes"]


def test_layers_among_which_to_search(two):
    (row,), _ = searched(two, asked=("high",))
    assert (row["layer_a"], row["layer_b"]) == ("high", "high")
    assert row["layer_choice"].startswith("best of 1 ")
    with pytest.raises(UsageError, match="--layer mid is not a hidden block of a; it has low, high"):
        searched(two, asked=("mid",))


def test_a_layer_without_a_value_is_not_looked_at(two):
    flat = group("c", {"flat": lambda rng: np.ones((N, 4)), "high": noise})
    (row,), _ = searched([two[0], flat])
    assert row["layer_b"] == "high"
    assert row["layer_choice"].startswith("best of 2 ")
    assert "2 of 4 pairs of layers have no value" in row["notes"]
