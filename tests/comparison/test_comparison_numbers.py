"""Every number of a comparison's table, computed again from the definitions with NumPy alone."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lab.comparison import differing_settings, labels_of, order_cautions
from lab.comparison_layers import common_layers, compare_layer
from lab.comparison_table import Group, Measured, Plan, noted, tabulate
from lab.errors import LabError, UsageError
from probes import PROBES, compare
from probes.feature_maps import with_maps
from probes.nulls import within_class_permutation

N, CLASSES, SEEDS = 120, 6, (0, 1, 2, 3)
LABELS = np.arange(N) % CLASSES


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Biased linear CKA by its definition on centred Gram matrices."""
    H = np.eye(N) - 1 / N
    K, L = H @ x @ x.T @ H, H @ y @ y.T @ H
    return float((K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum()))


def group(label, signal, strength: float, seeds=SEEDS, lost: int = 0, stream: int = 0, arch: str = "mlp(20)"):
    """Networks that share a signal (stimuli × 5) as strongly as one likes; each seed has a start of its own."""
    start, trained = {}, {}
    for seed in seeds:
        rng = np.random.default_rng([stream, seed])
        start[seed] = np.random.default_rng([99, seed]).standard_normal((N, 20))  # the same for every rule
        trained[seed] = start[seed] + strength * signal @ rng.standard_normal((signal.shape[1], 20))
    diverged = {100 + i: 7 for i in range(lost)}
    spec = SimpleNamespace(seeds=(*seeds, *diverged), rule=f"{label}()", epochs=1, arch=arch)
    folder = SimpleNamespace(id=f"{label}-run", spec=spec, manifest={"cohorts": [{"diverged": diverged}]})
    return Group(folder, label, 40, {}, {}, {"dense1": trained}, {"dense1": start})


@pytest.fixture(scope="module")
def signals():
    rng = np.random.default_rng(5)
    return rng.standard_normal((N, 5)), rng.standard_normal((N, 5))


def rows_of(groups, measure="linear-cka", permutations=60):
    plan = Plan((measure,), stimuli=N, permutations=permutations)
    return compare_layer(PROBES[measure](), "dense1", groups, LABELS, plan, memory=2**24)


def test_every_mean_is_the_mean_of_the_right_pairs(signals):
    a, b = group("fa", signals[0], 1.0), group("bp", signals[0], 2.0, stream=1)
    (row,), pairs = rows_of([a, b])
    A, B = a.trained["dense1"], b.trained["dense1"]
    other = [cka(A[s], B[t]) for s in SEEDS for t in SEEDS if s != t]
    same = [cka(A[s], B[s]) for s in SEEDS]
    within = {name: [cka(X[s], X[t]) for s in SEEDS for t in SEEDS if s < t] for name, X in (("a", A), ("b", B))}
    own = [cka(A[s], a.start["dense1"][s]) for s in SEEDS]
    # Gram and feature forms of one formula in float64: they differ by rounding only.
    assert row["between"] == pytest.approx(np.mean(other), rel=1e-9)
    assert row["same_start"] == pytest.approx(np.mean(same), rel=1e-9)
    assert row["ceiling_a"] == pytest.approx(np.mean(within["a"]), rel=1e-9)
    assert row["ceiling_b"] == pytest.approx(np.mean(within["b"]), rel=1e-9)
    assert row["untrained_a"] == pytest.approx(np.mean(own), rel=1e-9)
    effect = (np.mean(within["a"]) + np.mean(within["b"])) / 2 - np.mean(other)
    assert row["rule_effect"] == pytest.approx(effect, rel=1e-7)  # a difference of numbers near each other
    assert sorted(p["value"] for p in pairs if p["kind"] == "between") == pytest.approx(sorted(other + same), rel=1e-9)
    assert sum(p["kind"] == "within" for p in pairs) == 2 * len(within["a"])
    assert sum(p["kind"] == "untrained" for p in pairs) == 2 * len(SEEDS)


def test_the_untrained_interval_is_students_t_over_seeds(signals):
    from scipy import stats

    a, b = group("fa", signals[0], 1.0), group("bp", signals[0], 2.0, stream=1)
    (row,), _ = rows_of([a, b])
    own = np.array([cka(a.trained["dense1"][s], a.start["dense1"][s]) for s in SEEDS])
    low, high = stats.t.interval(0.95, len(own) - 1, own.mean(), stats.sem(own))
    assert (row["untrained_a_low"], row["untrained_a_high"]) == pytest.approx((low, high), rel=1e-9)


def test_null_means_match_pair_by_pair_permutation(signals):
    """The null of a mean over pairs is computed from one mean matrix per rule; here it is done the slow way: seeds 0, 2
    of the first run by id meet seeds 1, 3 of the other."""
    a, b = group("fa", signals[0], 1.0), group("bp", signals[1], 1.0, stream=1)
    (row,), _ = rows_of([a, b], permutations=200)
    rng = np.random.default_rng(123)
    A, B = a.trained["dense1"], b.trained["dense1"]
    orders = [rng.permutation(N) for _ in range(60)]
    slow = [np.mean([cka(B[s], A[t][order]) for s in (0, 2) for t in (1, 3)]) for order in orders]
    # Both are Monte-Carlo means of one null; 5 standard errors of their difference.
    tolerance = 5 * np.std(slow) * np.sqrt(1 / 60 + 1 / 200)
    assert row["null_global"] == pytest.approx(np.mean(slow), abs=tolerance)


def test_nulls_pair_no_networks_of_one_seed():
    """With one start per seed, same-seed pairs share class means that a within-class permutation keeps: they must not
    enter a null that stands beside a value over different seeds."""
    groups = []
    for stream in (1, 2):
        trained = {}
        for seed in SEEDS:
            means = np.random.default_rng([7, seed]).standard_normal((CLASSES, 20))  # shared by the rules, not by seeds
            trained[seed] = 3 * means[LABELS] + np.random.default_rng([stream, seed]).standard_normal((N, 20))
        made = group("ab"[stream - 1], np.zeros((N, 1)), 0.0)
        groups.append(Group(made.folder, made.label, 40, {}, {}, {"dense1": trained}, made.start))
    for measure in ("linear-cka", "angular-procrustes"):
        (row,), _ = rows_of(groups, measure, permutations=40)
        probe = PROBES[measure]()
        A, B = ({s: probe.prepare(x) for s, x in g.trained["dense1"].items()} for g in groups)
        rng = np.random.default_rng(3)
        orders = [within_class_permutation(LABELS, rng) for _ in range(40)]
        slow = {
            same: [
                np.mean([probe.value(A[s], probe.permute(B[t], o)) for s in SEEDS for t in SEEDS if (s == t) == same])
                for o in orders
            ]
            for same in (True, False)
        }
        other, alike = np.mean(slow[False]), np.mean(slow[True])
        # Of different seeds: far closer to the mean over these than to that over same seeds.
        assert abs(row["null_within"] - other) < 0.3 * abs(alike - other), measure


def test_of_two_architectures_no_networks_of_one_seed_are_compared(signals):
    """A start is drawn by seed and shape: that of `mlp(20,act=tanh)` is that of `mlp(20)` up to its scale. Counted as
    strangers, networks of one seed would make two rules without an effect more alike than networks of one rule."""
    a, b = (group(rule, signals[0], 0.0, arch=arch) for rule, arch in (("fa", "mlp(20,act=tanh)"), ("bp", "mlp(20)")))
    (row,), _ = rows_of([a, b])
    A, B = (g.trained["dense1"] for g in (a, b))
    assert row["between"] == pytest.approx(np.mean([cka(A[s], B[t]) for s in SEEDS for t in SEEDS if s != t]), rel=1e-9)
    assert row["rule_effect"] == pytest.approx(0.0, abs=1e-12)
    assert (row["paired"], row["rule_effect_p"]) == (True, 1.0)
    assert np.isnan(row["same_start"])
    assert "one seed does not mean one start" in row["notes"]


def test_a_single_common_seed_is_left_out(signals):
    a, b = group("fa", signals[0], 1.0), group("bp", signals[0], 1.0, seeds=(3, 10, 11, 12), stream=1)
    A, B = (g.trained["dense1"] for g in (a, b))
    strangers = [cka(x, y) for s, x in A.items() if s != 3 for y in B.values()]
    for pair, seeds in (((a, b), (3, 4)), ((b, a), (4, 3))):  # of fa, whichever is named first
        (row,), _ = rows_of(pair)
        assert (row["paired"], row["seeds_a"], row["seeds_b"]) == (False, *seeds)
        assert row["between"] == pytest.approx(np.mean(strangers), rel=1e-9)


def test_a_value_of_one_seed_that_does_not_exist_takes_no_other_with_it(signals):
    """Networks of one seed, and a network and itself, enter neither the mean between nor the ceilings."""
    groups = [group(name, signals[0], 1.0) for name in ("fa", "bp")]
    measured = [Measured(g, list(SEEDS), {}, [0.5] * len(SEEDS)) for g in groups]
    values = np.full((8, 8), 0.25)
    values[np.arange(8) % 4 == np.arange(8)[:, None] % 4] = np.nan
    info, plan = PROBES["linear-cka"]().info, Plan(("linear-cka",), stimuli=N)
    (row,), _ = tabulate(info, "dense1", measured, values, plan, lambda *asked: None, lambda i, j: [])
    assert (row["between"], row["ceiling_a"], row["ceiling_b"], row["rule_effect"]) == (0.25, 0.25, 0.25, 0.0)
    assert np.isnan(row["same_start"])
    assert "same start undefined: some pairs of networks have no value" in row["notes"]


def test_a_run_of_one_seed_is_compared_with_all_others_of_the_longer_run(signals):
    alone = group("bp", signals[0], 1.0, seeds=(2,), stream=1)
    many = group("fa", signals[0], 1.0)
    expected = np.mean([cka(x, alone.trained["dense1"][2]) for s, x in many.trained["dense1"].items() if s != 2])
    for pair in ((many, alone), (alone, many)):
        (row,), _ = rows_of(pair)
        assert row["between"] == pytest.approx(expected, rel=1e-9)
        assert "seed 2 of fa is left out: bp has it too" in row["notes"]


def test_accuracies_and_losses_are_those_of_the_seeds_that_are_compared(signals):
    """Seeds 2 and 3 are common; the others of a run were further, and are not what the similarity is of."""
    seeds = {"fa": (0, 1, 2, 3), "bp": (2, 3, 4)}
    groups = [
        replace(
            group(rule, signals[0], 1.0, seeds=its), accuracy={s: s / 10 for s in its}, loss={s: s / 5 for s in its}
        )
        for rule, its in seeds.items()
    ]
    plan = Plan(("linear-cka",), stimuli=N, permutations=1, match="accuracy")
    where, how = (PROBES["linear-cka"](), "dense1"), (LABELS, plan, 2**24)
    (row,), _ = compare_layer(*where, groups, *how)
    assert [row[name] for name in ("accuracy_a", "accuracy_b", "loss_a", "loss_b")] == pytest.approx(
        [0.25] * 2 + [0.5] * 2
    )
    assert "differ by" not in row["notes"]
    further = [replace(groups[0], accuracy=dict.fromkeys(SEEDS, 0.92)), replace(groups[1], accuracy={2: 0.9, 3: 0.9})]
    assert "differ by" not in compare_layer(*where, further, *how)[0][0]["notes"]  # two points, whatever rounding says
    further[0] = replace(groups[0], accuracy=dict.fromkeys(SEEDS, 0.93))
    assert "fa and bp differ by 3.0 points" in compare_layer(*where, further, *how)[0][0]["notes"]


def test_a_note_stays_whole():
    """`lab compare` prints a line per note, and parts a cell where notes were joined."""
    row = noted({"notes": ["few stimuli; use more", "few stimuli; use more"]}, ["seed 1 is left out"])
    assert row["notes"] == "few stimuli, use more; seed 1 is left out"


def test_one_seed_each_says_why_nothing_is_defined(signals):
    groups = [group("fa", signals[0], 1.0, seeds=(0,)), group("bp", signals[0], 1.0, seeds=(0,), stream=1)]
    (row,), _ = rows_of(groups)
    assert np.isnan(row["between"])
    assert np.isfinite(row["same_start"])
    assert "between undefined: it takes networks of two different seeds" in row["notes"]


@pytest.mark.parametrize("measure", ["debiased-cka", "rsa", "mutual-knn", "angular-procrustes"])
def test_a_shared_signal_is_found_and_its_absence_too(signals, measure):
    same = rows_of([group("fa", signals[0], 2.0), group("bp", signals[0], 2.0, stream=1)], measure)[0][0]
    other = rows_of([group("fa", signals[0], 2.0), group("bp", signals[1], 2.0, stream=1)], measure)[0][0]
    assert same["null_global_p"] <= 0.05
    assert same["null_within_p"] <= 0.05
    assert other["rule_effect_low"] > 0  # two signals: networks of two rules are less alike than those of one
    assert other["rule_effect"] > 3 * abs(same["rule_effect"])


def test_diverged_seeds_are_counted_and_left_out(signals):
    (row,), _ = rows_of([group("fa", signals[0], 1.0, lost=2), group("bp", signals[0], 1.0, stream=1)])
    assert (row["seeds_a"], row["diverged_a"], row["diverged_b"]) == (4, 2, 0)
    assert "fa: 2 of 6 seeds diverged" in row["notes"]


def test_two_seeds_give_values_but_no_interval_and_say_why(signals):
    groups = [group("fa", signals[0], 1.0, seeds=(0, 1)), group("bp", signals[0], 1.0, seeds=(0, 1), stream=1)]
    (row,), _ = rows_of(groups)
    assert np.isfinite(row["between"])
    assert np.isnan(row["between_low"])
    assert "at least 3 seeds" in row["notes"]
    assert np.isfinite(row["rule_effect"])
    assert np.isnan([row["rule_effect_low"], row["rule_effect_p"], row["rule_effect_p_floor"]]).all()
    assert "no test of the rule effect: it needs at least 3 seeds per rule, and there are 2" in row["notes"]


def test_two_seeds_against_many_give_no_interval_and_no_test(signals):
    groups = [group("fa", signals[0], 1.0, seeds=(10, 11)), group("bp", signals[0], 1.0, stream=1)]
    (row,), _ = rows_of(groups)
    assert np.isfinite(row["rule_effect"])
    assert np.isnan([row["between_low"], row["rule_effect_low"], row["rule_effect_p"]]).all()


def test_runs_without_a_common_seed_are_not_paired(signals):
    groups = [group("fa", signals[0], 1.0), group("bp", signals[0], 1.0, seeds=(10, 11, 12, 13), stream=1)]
    (row,), _ = rows_of(groups)
    A, B = (g.trained["dense1"] for g in groups)
    assert not row["paired"]
    assert np.isnan(row["same_start"])
    assert row["between"] == pytest.approx(np.mean([cka(x, y) for x in A.values() for y in B.values()]), rel=1e-9)
    assert row["rule_effect_p_floor"] == pytest.approx(2 / 70)  # 2 / C(8, 4)


def test_the_order_in_which_runs_are_named_changes_no_p_of_drawn_labels(signals):
    """Two times nine networks have 48,620 divisions, of which 10,000 are drawn."""
    a = group("fa", signals[0], 0.3, seeds=range(9))
    b = group("bp", signals[0], 0.3, seeds=range(10, 19), stream=1)
    p = [rows_of(pair, permutations=1)[0][0]["rule_effect_p"] for pair in ((a, b), (b, a))]
    assert p[0] == p[1]
    assert 0.01 < p[0] < 0.99


def test_layers_are_those_in_common(signals):
    a, b = group("fa", signals[0], 1.0), group("bp", signals[0], 1.0)
    b.trained["conv1"] = b.trained.pop("dense1")
    with pytest.raises(UsageError, match="no hidden block of the same name"):
        common_layers([a.trained, b.trained], None)
    with pytest.raises(UsageError, match="conv9"):
        common_layers([a.trained, a.trained], ("conv9",))


def test_labels_name_what_differs():
    def run(name, epochs, optimizer, arch="mlp(8, act='relu')", seeds=(0, 1), orders=None, tail="0123456789"):
        spec = SimpleNamespace(**dict.fromkeys(("train_size", "batch", "precision"), "x"), sources=())
        spec.rule, spec.epochs, spec.optimizer, spec.arch = name, epochs, optimizer, arch
        spec.seeds, spec.order_seeds = seeds, orders or seeds
        return SimpleNamespace(spec=spec, id=f"{name}-{tail}")

    adam = "adam(learning_rate=0.01, schedule='cosine', b1=0.9, b2=0.999, eps=1e-08)"
    runs = [run("fa(scale=1.0)", 5, adam), run("bp()", 5, adam), run("bp()", 5, "sgd(0.1)"), run("bp()", 0, adam)]
    assert labels_of(runs) == ["fa", "bp [optimizer=adam(0.01)]", "bp [optimizer=sgd(0.1)]", "untrained"]
    runs = [run("bp()", 5, adam), run("bp()", 5, adam, orders=(3, 3)), run("bp()", 5, adam, seeds=(4, 5))]
    runs += [run("bp()", 5, adam, "mlp(8, act='tanh')", orders=(3, 3)), run("bp()", 5, adam, tail="other")]
    assert labels_of(runs) == [
        "bp [arch=mlp(8), seeds=2, order_seed=seed, 0123456789]",
        "bp [arch=mlp(8), seeds=2, order_seed=3]",
        "bp [arch=mlp(8), seeds=4-5, order_seed=seed]",
        "bp [arch=mlp(8,act=tanh)]",
        "bp [arch=mlp(8), seeds=2, order_seed=seed, bp()-other]",
    ]


def test_runs_whose_networks_share_a_data_order_beside_others_that_do_not_are_told():
    """Where orders matter, networks of one order are more alike than those of two, under one rule too."""

    def run(orders, epochs=1):
        return SimpleNamespace(spec=SimpleNamespace(seeds=(0, 1, 2), order_seeds=orders, epochs=epochs))

    own, seven, eight, untrained = run((0, 1, 2)), run((7, 7, 7)), run((8, 8, 8)), run((0, 1, 2), epochs=0)
    for alike in ([own, own], [seven, seven], [seven, untrained]):
        assert order_cautions(alike, ["bp", "fa"]) == []
    for other in ([own, seven], [seven, eight]):
        (said,) = order_cautions(other, ["bp", "fa"])
        assert "the data orders differ (bp: " in said


def test_all_settings_besides_the_rule_in_which_runs_differ_are_told_at_once():
    def spec(name="bp()", arch="mlp(8, act='relu')", **more):
        same = {"train_size": 100, "batch": 50, "precision": "float32", "epochs": 2, "sources": (), "seeds": (0,)}
        return SimpleNamespace(rule=name, arch=arch, **{**same, "order_seeds": (0,), "optimizer": "sgd(0.1)", **more})

    tanh = "mlp(8, act='tanh')"
    assert differing_settings([spec(), spec("fa()", optimizer="sgd(1)", seeds=(1,))], ["bp", "fa"], True) == ""
    runs, names = [spec(), spec(arch=tanh, epochs=1), spec("fa()")], ["bp [epochs=2]", "bp [epochs=1]", "fa"]
    net = "arch (bp, fa mlp(8); bp mlp(8,act=tanh))"
    assert differing_settings(runs, names, True) == f"{net} and epochs (bp, fa 2; bp 1)"
    assert differing_settings(runs, names, False) == net
    assert differing_settings([spec(), spec(epochs=0, batch=9)], ["bp", "untrained"], True) == ""
    three = differing_settings([spec(), spec(train_size=9, batch=9, epochs=9)], ["bp", "bp"], True)
    assert three == "train size (bp 100; bp 9), batch (bp 50; bp 9) and epochs (bp 2; bp 9)"


def with_maps_of(groups, shape):
    return [replace(g, shapes={"dense1": shape}) for g in groups]


@pytest.mark.parametrize("how", ["flatten", "pool", "positions"])
def test_feature_maps_of_networks(signals, how):
    """Networks of 20 units are taken for ones of 2×2 positions of 5."""
    groups = with_maps_of([group("fa", signals[0], 1.0), group("bp", signals[0], 2.0, stream=1)], (2, 2, 5))
    plan = Plan(("linear-cka",), stimuli=N, permutations=20)
    probe = with_maps(PROBES["linear-cka"](), how)
    (row,), pairs = compare_layer(probe, "dense1", groups, LABELS, plan, memory=2**26)
    rows = {"flatten": lambda x: x, "pool": lambda x: x.reshape(N, 4, 5).mean(axis=1), "positions": None}[how]
    rows = rows or (lambda x: x.reshape(N * 4, 5))
    A, B = ({s: rows(x) for s, x in g.trained["dense1"].items()} for g in groups)
    other = [compare(PROBES["linear-cka"](), A[s], B[t]) for s in SEEDS for t in SEEDS if s != t]
    assert row["between"] == pytest.approx(np.mean(other), rel=1e-9)
    assert (row["measure"], row["n"]) == (f"linear-cka(maps={how})", N)
    assert {pair["measure"] for pair in pairs} == {f"linear-cka(maps={how})"}
    assert row["null_global_draws"] == (20 if how == "positions" else 0)
    assert ("4 positions of each of 120 stimuli" in row["notes"]) == (how == "positions")


def test_positions_of_other_sizes_are_refused(signals):
    a, b = group("fa", signals[0], 1.0), group("bp", signals[0], 2.0, stream=1)
    groups = [*with_maps_of([a], (2, 2, 5)), *with_maps_of([b], (5, 1, 4))]
    probe, plan = with_maps(PROBES["linear-cka"](), "positions"), Plan(("linear-cka",), N, 20)
    with pytest.raises(UsageError, match="fa at dense1 has 2×2 positions and bp at dense1 5×1"):
        compare_layer(probe, "dense1", groups, LABELS, plan, memory=2**26)


def test_a_network_that_is_not_finite_is_named(signals):
    a, b = group("fa", signals[0], 1.0), group("bp", signals[0], 2.0, stream=1)
    b.trained["dense1"][2][5, 3] = np.nan
    with pytest.raises(
        LabError, match="bp, seed 2, dense1: the representation has 1 non-finite entries in 1 of 120 rows"
    ):
        rows_of([a, b])
