"""Rules × initialisations × data orders: which design is complete, and where the variance goes."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from lab.errors import LabError, UsageError
from lab.measures import make_probe
from lab.variance import FACTORS, design, gives_squares, require_squares, split
from probes import PROBES
from probes.all_pairs import all_pairs
from runs import RunSpec

N = 80
SPEC = {
    "rule": "bp(loss=ce)",
    "arch": "mlp(8, act=relu)",
    "optimizer": "adam(0.001)",
    "data": "tiny",
    "data_sha256": "ab" * 32,
    "train_size": 500,
    "validation_size": 100,
    "epochs": 1,
    "batch": 50,
    "cohort": 1,
    "precision": "float32",
}


def run(rule="bp(loss=ce)", order=0, seeds=(0, 1, 2), diverged=(), orders=None, **more):
    spec = RunSpec(**{**SPEC, "rule": rule, "seeds": seeds, "order_seeds": orders or [order] * len(seeds), **more})
    manifest = {"cohorts": [{"diverged": dict.fromkeys(diverged, 3)}]}
    return SimpleNamespace(id=f"{rule}-{order}-{seeds}", spec=spec, manifest=manifest, path=None)


def factorial(**more):
    return [run(rule, order, **more) for rule in ("bp(loss=ce)", "fa(scale=1.0)") for order in (0, 1)]


def test_a_complete_design():
    members, notes = design(factorial())
    assert notes == []
    cells = [member[1:] for member in members]
    assert sorted(cells) == sorted(itertools.product(("bp", "fa"), (0, 1, 2), (0, 1)))
    assert [members[0].run, members[-1].run] == [0, 3]


def test_runs_of_one_rule_and_order_may_share_its_initialisations():
    parts = [run(rule, order, seeds) for rule in ("bp()", "fa()") for order in (0, 1) for seeds in ((0, 1), (2,))]
    assert len(design(parts)[0]) == 12


def test_a_missing_combination_is_named_with_the_command_that_trains_it():
    with pytest.raises(UsageError) as refused:
        design(factorial()[:3])
    told = str(refused.value)
    assert "3 of 12 combinations are missing, such as fa with initialisation 0 and data order 1" in told
    command = told.split(": ")[-1]
    assert command == (
        "lab train --rule 'fa(scale=1.0)' --arch 'mlp(8, act=relu)' --data tiny --optimizer 'adam(0.001)' --epochs 1 "
        "--batch 50 --train-size 500 --seeds 0,1,2 --order-seed 1"
    )
    assert "\n" not in told


def test_runs_whose_order_goes_with_the_seed_lack_the_rest_of_the_design():
    coupled = [run(rule, orders=(0, 1, 2)) for rule in ("bp()", "fa()")]
    with pytest.raises(UsageError, match=r"12 of 18 combinations .* bp with initialisation 1 and data order 0: .*"
                       r"--seeds 1,2 --order-seed 0"):  # fmt: skip
        design(coupled)


def test_one_missing_network_is_asked_for_as_a_seed_and_not_as_a_number_of_seeds():
    with pytest.raises(UsageError, match=r"--seeds 2-2 --order-seed 1$"):
        design([*factorial()[:3], run("fa(scale=1.0)", 1, (0, 1))])


def test_one_network_twice_is_refused():
    with pytest.raises(UsageError, match=r"bp with initialisation 2 and data order 0 is in .* and in .*; name one"):
        design([*factorial(), run("bp(loss=ce)", 0, (2, 3))])


def test_an_initialisation_that_diverged_anywhere_is_left_out_everywhere():
    runs = [*factorial()[:3], run("fa(scale=1.0)", 1, diverged=(1,))]
    members, notes = design(runs)
    assert {member.init for member in members} == {0, 2}
    assert len(members) == 8
    assert notes == ["initialisation 1 left out everywhere: a network with it diverged"]
    with pytest.raises(LabError, match="every initialisation diverged"):
        design([run(diverged=(0, 1, 2))])


def test_settings_of_one_rule_are_levels_of_their_own():
    members, _ = design([run(order=order, epochs=epochs) for order in (0, 1) for epochs in (1, 2)])
    assert {member.rule for member in members} == {"bp [epochs=1]", "bp [epochs=2]"}


PAIRS = [f"{a} x {b}" for a, b in itertools.combinations(FACTORS, 2)]


def networks(rule, init, order, noise=0.1, seed=0):
    """2 × 4 × 3 representations: a random array per level of each factor, as large as is said, and noise."""
    rng = np.random.default_rng(seed)
    sizes = {"rule": (2, rule), "initialisation": (4, init), "data order": (3, order)}
    of = {name: size * rng.standard_normal((levels, N, 12)) for name, (levels, size) in sizes.items()}
    cells = list(itertools.product(range(2), range(4), range(3)))
    arrays = [sum(of[name][level] for name, level in zip(FACTORS, cell, strict=True)) for cell in cells]
    arrays = [x + noise * rng.standard_normal(x.shape) for x in arrays]
    return arrays, dict(zip(FACTORS, zip(*cells, strict=True), strict=True))


@pytest.mark.parametrize("measure", ["debiased-cka", "angular-procrustes", "mutual-knn"])
@pytest.mark.parametrize("factor", FACTORS)
def test_variance_is_found_in_the_one_factor_that_has_any(measure, factor):
    sizes = {name: 1.0 if name == factor else 0.0 for name in FACTORS}
    arrays, factors = networks(*sizes.values(), noise=0.02)
    probe = PROBES[measure]()
    lines = split(all_pairs(probe, map(probe.prepare, arrays)), probe, factors, 299)
    found = {line["factor"]: line for line in lines}
    assert list(found) == [*FACTORS, *PAIRS, "rest"]
    assert found[factor]["share"] > 0.9
    # Distinct exchanges: 2!³ of rules and 3!³ of orders in four initialisations; 4! of these in two rules.
    floors = {"rule": 1 / 8, "initialisation": 1 / 24, "data order": 1 / 216}
    assert {name: found[name]["floor"] for name in FACTORS} == pytest.approx(floors)
    assert found[factor]["p"] == pytest.approx(floors[factor])
    assert [found[name]["within"] for name in FACTORS] == ["initialisation", "rule and data order", "initialisation"]
    for other in {*FACTORS, *PAIRS} - {factor}:
        assert found[other]["share"] < 0.05
        assert abs(found[other]["variance"]) < 0.02 * found[factor]["variance"]
    assert sum(line["share"] for line in lines) == pytest.approx(1.0)
    assert [line["df"] for line in lines] == [1, 3, 2, 3, 2, 6, 6]
    assert all(np.isnan(found[name]["p"]) for name in (*PAIRS, "rest"))


def test_squares_of_linear_cka_are_those_of_an_analysis_of_variance_of_gram_matrices():
    """2 − 2 CKA is the squared distance of Gram matrices of unit norm, whose entries are coordinates."""
    arrays, factors = networks(0.5, 0.5, 0.5, noise=1.0)
    probe = PROBES["linear-cka"]()
    lines = split(all_pairs(probe, map(probe.prepare, arrays)), probe, factors, 9)
    H = np.eye(N) - 1 / N
    grams = np.array([(H @ x @ x.T @ H).ravel() for x in arrays])
    points = grams / np.linalg.norm(grams, axis=1, keepdims=True)
    points -= points.mean(axis=0)
    total = (points**2).sum()
    for line, (name, levels) in zip(lines, factors.items(), strict=False):
        means = [points[np.array(levels) == level].mean(axis=0) for level in set(levels)]
        squares = len(points) / len(means) * sum((m**2).sum() for m in means)
        # Differences of products of unit vectors: rounding only.
        assert line["factor"] == name
        assert line["squares"] == pytest.approx(squares, rel=1e-9)
        assert line["share"] == pytest.approx(squares / total, rel=1e-9)


def test_without_any_effect_shares_are_those_of_chance():
    """The expected share of k levels of exchangeable points is (k − 1)/(N − 1); mean over 40 draws."""
    probe = PROBES["linear-cka"]()
    drawn = []
    for seed in range(40):
        arrays, factors = networks(0.0, 0.0, 0.0, noise=1.0, seed=seed)
        lines = split(all_pairs(probe, map(probe.prepare, arrays)), probe, factors, 1)
        drawn.append([line["share"] for line in lines])
    expected = [line["by_chance"] for line in lines]
    assert expected == pytest.approx([1 / 23, 3 / 23, 2 / 23, 3 / 23, 2 / 23, 6 / 23, 6 / 23])
    # Gram matrices of noise have thousands of dimensions, so that shares vary by less than a hundredth of themselves.
    np.testing.assert_allclose(np.mean(drawn, axis=0), expected, rtol=0.02)


def test_networks_without_a_value_are_counted():
    probe = PROBES["linear-cka"]()
    arrays, factors = networks(1.0, 0.0, 0.0)
    arrays[3] = np.ones((N, 12))
    (line,) = split(all_pairs(probe, map(probe.prepare, arrays)), probe, factors, 9)
    assert line["undefined"] == "1 networks have no value"


def test_only_squared_distances_are_split():
    for name in ("linear-cka", "debiased-cka", "rbf-cka", "mutual-knn", "shape", "permutation"):
        assert gives_squares(PROBES[name]()), name
    for name in ("ridge", "gulp", "agreement", "rtd"):
        with pytest.raises(UsageError, match=r"gives no squared distances .* these do: linear-cka, debiased-cka"):
            require_squares(make_probe(name, "--measure")[0])
