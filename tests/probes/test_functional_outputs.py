"""Agreement, error consistency, divergence and calibration of outputs: enumeration, closed forms, other packages."""

import itertools
import math

import numpy as np
import pytest

from probes import ProbeError, Undefined
from probes.calibration import calibration_error
from probes.outputs import (
    agreement,
    agreement_bounds,
    error_consistency,
    fitted_temperature,
    jensen_shannon,
    log_softmax,
    output_divergence,
)
from probes.subject import Subject, Task


def answering(predictions, classes):
    """A network that gives exactly these answers."""
    return Subject(np.eye(classes)[np.asarray(predictions)])


def draw(n=300, classes=5, seed=0, skill=2.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    shared = rng.standard_normal((n, classes))
    nets = [Subject(skill * np.eye(classes)[y] + shared + rng.standard_normal((n, classes))) for _ in range(2)]
    return Task(y), *nets


@pytest.mark.parametrize("classes", [2, 3])
def test_bounds_of_agreement_are_those_of_all_answers_that_there_are(classes):
    n = 4
    y = np.zeros(n, int)
    seen = {}
    for a in itertools.product(range(classes), repeat=n):
        for b in itertools.product(range(classes), repeat=n):
            a_, b_ = np.array(a), np.array(b)
            seen.setdefault(((a_ == y).sum(), (b_ == y).sum()), set()).add(np.mean(a_ == b_))
    for (right_a, right_b), shares in seen.items():
        low, high = agreement_bounds(right_a, right_b, n, classes)
        assert (low, high) == pytest.approx((min(shares), max(shares)), abs=1e-12)


def test_agreement_by_hand():
    task = Task(np.array([0, 0, 1, 1, 2, 2]))
    a, b = answering([0, 0, 1, 2, 2, 0], 3), answering([0, 1, 1, 2, 2, 1], 3)
    found = agreement().value(task, a, b)
    # 4 of 6 equal; accuracies 4/6 and 3/6: between (4 + 3 - 6)/6 and 1 - 1/6. Shuffled within classes:
    # class 0: 1/2, class 1: 1/2·1/2 + 1/2·1/2, class 2: 1/2·1/2.
    assert found == pytest.approx(
        {
            "value": 4 / 6,
            "lowest": 1 / 6,
            "highest": 5 / 6,
            "normalised": 3 / 4,
            "chance": 5 / 12,
            "kappa": (4 / 6 - 5 / 12) / (7 / 12),
        }
    )


def test_chance_agreement_is_the_mean_over_all_shuffles_within_classes():
    task = Task(np.array([0, 0, 0, 1, 1]))
    a, b = answering([0, 1, 2, 1, 0], 3), answering([0, 0, 2, 0, 1], 3)
    shares = [
        np.mean(a.prediction == b.prediction[[*first, *second]])
        for first in itertools.permutations([0, 1, 2])
        for second in itertools.permutations([3, 4])
    ]
    assert agreement().value(task, a, b)["chance"] == pytest.approx(np.mean(shares), abs=1e-12)


def test_two_networks_without_errors_agree_and_nothing_more_can_be_said():
    task = Task(np.arange(10) % 2)
    a = answering(task.y, 2)
    found = agreement().value(task, a, a)
    assert found["value"] == 1.0
    assert isinstance(found["normalised"], Undefined)
    assert isinstance(found["kappa"], Undefined)
    assert "always right" in error_consistency().value(task, a, a).reason
    wrong = answering(1 - task.y, 2)
    assert "always wrong" in error_consistency().value(task, wrong, wrong).reason
    assert error_consistency().value(task, a, wrong)["value"] == 0.0  # c_obs = c_exp = 0


def test_error_consistency_is_cohens_kappa_of_being_right():
    metrics = pytest.importorskip("sklearn.metrics")
    task, a, b = draw()
    right = [s.prediction == task.y for s in (a, b)]
    found = error_consistency().value(task, a, b)
    assert found["value"] == pytest.approx(metrics.cohen_kappa_score(*right), abs=1e-12)
    assert found["observed"] == pytest.approx(np.mean(right[0] == right[1]))
    assert found["errors_a"] == (~right[0]).sum()


def test_standard_error_of_error_consistency_is_the_published_formula_and_the_spread_over_stimuli():
    """Fleiss, Cohen and Everitt's formula, written out; and the sd of κ over independent draws of 300 stimuli (500
    draws know an sd to 1/√1000 = 3 %; the large-sample formula itself is off by some per cent at this n)."""
    task, a, b = draw()
    found = error_consistency().value(task, a, b)
    right = [(s.prediction == task.y).astype(int) for s in (a, b)]
    p = np.histogram2d(*right, bins=2)[0] / len(task.y)
    rows, columns, kappa, chance = p.sum(1), p.sum(0), found["value"], found["expected"]
    first = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in range(2))
    second = (1 - kappa) ** 2 * sum(p[i, j] * (columns[i] + rows[j]) ** 2 for i, j in ((0, 1), (1, 0)))
    variance = (first + second - (kappa - chance * (1 - kappa)) ** 2) / (len(task.y) * (1 - chance) ** 2)
    assert found["standard_error"] == pytest.approx(math.sqrt(variance), rel=1e-9)
    draws = [error_consistency().value(*draw(seed=seed))["value"] for seed in range(1, 501)]
    assert found["standard_error"] == pytest.approx(np.std(draws), rel=0.15)


def test_divergence_is_scipys_jensen_shannon_distance():
    from scipy.spatial.distance import jensenshannon

    task, a, b = draw()
    p, q = (np.exp(log_softmax(s.scores)) for s in (a, b))
    expected = jensenshannon(p, q, base=2, axis=1)
    found = output_divergence().value(task, a, b)
    assert found["value"] == pytest.approx(expected.mean(), rel=1e-9)
    assert found["divergence"] == pytest.approx((expected**2).mean(), rel=1e-9)


def test_divergence_of_certain_and_opposite_answers_is_one_bit_and_of_equal_ones_exactly_zero():
    """1e-13: the rounding of exponents near 345, half of the largest there are."""
    z = 1e6 * np.eye(3)
    assert jensen_shannon(log_softmax(z), log_softmax(np.roll(z, 1, axis=1))) == pytest.approx(np.ones(3), abs=1e-13)
    assert (jensen_shannon(log_softmax(z), log_softmax(z)) == 0).all()
    task, a, _ = draw()
    assert output_divergence().value(task, a, a)["value"] == 0.0


@pytest.mark.parametrize("step", [1e-4, 1e-8])
def test_small_divergences_keep_their_digits(step):
    """To second order JSD = Fisher information/8: Σ p(1−p) δ²/8 for a shift δ of one logit. At p = ½, the next term
    is of relative size δ²; at δ = 1e-8 plain formulas would return 0 or rounding (1e-17 beside 1e-18)."""
    z = np.zeros((1, 2))
    shifted = np.array([[step, 0.0]])
    expected = 0.25 * step**2 / 8 / math.log(2)
    assert jensen_shannon(log_softmax(z), log_softmax(shifted))[0] == pytest.approx(expected, rel=1e-7)


def test_divergence_does_not_depend_on_the_zero_of_the_logits_and_is_a_metric():
    task, a, b = draw()
    c = Subject(np.random.default_rng(9).standard_normal(a.scores.shape))
    probe = output_divergence()
    moved = Subject(a.scores + np.linspace(-50, 50, len(task.y))[:, None])
    assert probe.value(task, moved, b)["value"] == pytest.approx(probe.value(task, a, b)["value"], abs=1e-9)
    ab, bc, ac = (probe.value(task, *pair)["value"] for pair in ((a, b), (b, c), (a, c)))
    assert ac <= ab + bc
    assert ab == probe.value(task, b, a)["value"]


def test_fitted_temperature_is_that_of_a_plain_search_and_undoes_a_change_of_temperature():
    from scipy.optimize import minimize_scalar

    task, a, b = draw()

    def nll(log_t):
        return -log_softmax(a.scores / np.exp(log_t))[np.arange(len(task.y)), task.y].mean()

    best = minimize_scalar(nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9}).x
    # A minimum found by its values is known to the square root of rounding, 1e-8.
    assert fitted_temperature(a.scores, task.y) == pytest.approx(np.exp(best), rel=1e-6)
    hot = Subject(a.scores * 7.0)
    scaled = output_divergence(temperature="fitted").value(task, hot, b)
    plain = output_divergence(temperature="fitted").value(task, a, b)
    assert scaled["value"] == pytest.approx(plain["value"], rel=1e-9)
    assert scaled["temperature_a"] == pytest.approx(7.0 * plain["temperature_a"], rel=1e-9)
    assert output_divergence(temperature="fitted").value(task, a, hot)["value"] < 1e-9
    assert output_divergence().value(task, a, hot)["value"] > 0.1


def test_temperature_is_undefined_where_none_is_best():
    y = np.arange(20) % 2
    assert "right" in fitted_temperature(np.eye(2)[y], y).reason
    assert "infinite" in fitted_temperature(np.eye(2)[1 - y], y).reason
    assert "infinite" in fitted_temperature(np.zeros((20, 2)), y).reason
    probe = output_divergence(temperature="fitted")
    assert isinstance(probe.value(Task(y), answering(y, 2), answering(1 - y, 2)), Undefined)


def test_calibration_by_hand():
    """Four stimuli in two bins: confidences .6, .7 | .8, .9, right answers 1, 0 | 1, 1."""
    p = np.array([[0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9]])
    found = calibration_error(bins=2).value(Task(np.array([0, 1, 1, 1])), Subject(np.log(p)))
    assert found["value"] == pytest.approx((abs(1 - 1.3) + abs(2 - 1.7)) / 4)
    assert found["brier"] == pytest.approx(2 * (0.4**2 + 0.7**2 + 0.2**2 + 0.1**2) / 4)
    assert found["nll"] == pytest.approx(-np.log([0.6, 0.3, 0.8, 0.9]).mean())
    assert (found["accuracy"], found["confidence"]) == (0.75, pytest.approx(0.75))
    noise = math.sqrt(0.24 + 0.21) + math.sqrt(0.16 + 0.09)
    assert found["if_calibrated"] == pytest.approx(math.sqrt(2 / math.pi) * noise / 4)


def test_nll_and_brier_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    task, a, _ = draw()
    p = np.exp(log_softmax(a.scores))
    found = calibration_error().value(task, a)
    assert found["nll"] == pytest.approx(metrics.log_loss(task.y, p), rel=1e-9)
    per_class = [metrics.brier_score_loss(task.y == c, p[:, c]) for c in range(5)]
    assert found["brier"] == pytest.approx(sum(per_class), rel=1e-9)


def test_a_calibrated_network_shows_the_error_that_its_size_predicts():
    """Labels drawn from the network's own probabilities: the mean over 200 draws has a standard error near 2 %, and
    the normal approximation in bins of 27 stimuli is good to a few per cent."""
    rng = np.random.default_rng(0)
    z = 1.5 * rng.standard_normal((400, 4))
    p = np.exp(log_softmax(z))
    labels = [(p.cumsum(axis=1) < rng.random((400, 1))).sum(axis=1) for _ in range(200)]
    draws = [calibration_error().value(Task(y), Subject(z)) for y in labels]
    assert np.mean([d["value"] for d in draws]) == pytest.approx(draws[0]["if_calibrated"], rel=0.08)


def test_equally_confident_stimuli_may_come_in_any_order():
    y = np.array([0, 1] * 15)
    scores = np.tile([[1.0, 0.0]], (30, 1))
    order = np.argsort(y, kind="stable")
    probe = calibration_error(bins=5)
    first, second = probe.value(Task(y), Subject(scores)), probe.value(Task(y[order]), Subject(scores[order]))
    assert first["value"] == pytest.approx(second["value"], abs=1e-15)
    assert first["value"] == pytest.approx(np.e / (1 + np.e) - 0.5)


def test_scores_that_are_no_logits_have_no_probabilities_but_do_have_answers():
    task, a, b = draw()
    goodness = Subject(a.scores, no_logits=Undefined("scores are goodness"))
    for probe, nets in ((output_divergence(), (b, goodness)), (calibration_error(), (goodness,))):
        assert probe.value(task, *nets).reason == "scores are goodness"
    assert agreement().value(task, goodness, b)["value"] == agreement().value(task, a, b)["value"]


def test_rows_that_repeat_change_no_share_and_equal_scores_go_to_the_first_class():
    task, a, b = draw(n=40)
    twice = [Subject(np.tile(s.scores, (2, 1))) for s in (a, b)]
    doubled = Task(np.tile(task.y, 2))
    for name in ("value", "normalised", "kappa", "chance"):
        assert agreement().value(doubled, *twice)[name] == pytest.approx(agreement().value(task, a, b)[name])
    assert Subject(np.zeros((3, 4))).prediction.tolist() == [0, 0, 0]


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e150])
def test_extreme_scores_give_finite_numbers(scale):
    task, a, b = draw(n=60)
    big = [Subject(s.scores * scale) for s in (a, b)]
    assert agreement().value(task, *big)["value"] == agreement().value(task, a, b)["value"]
    assert 0.0 <= output_divergence().value(task, *big)["value"] <= 1.0
    assert all(np.isfinite(v) for v in calibration_error().value(task, big[0]).values())
    warm = output_divergence(temperature="fitted")
    assert warm.value(task, *big)["value"] == pytest.approx(warm.value(task, a, b)["value"], abs=1e-9)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Task(np.array([0.0, 1.0])), "whole numbers"),
        (lambda: Task(np.array([-1, 0])), "whole numbers"),
        (lambda: Task(np.array([], int)), "whole numbers"),
        (lambda: Task(np.array([0, 1]), np.zeros((3, 2))), "3 stimuli and 2 labels"),
        (lambda: Subject(np.zeros((3, 1))), "one column"),
        (lambda: Subject(np.full((3, 2), np.nan)), "non-finite"),
        (lambda: agreement().value(Task(np.array([0, 1])), answering([0, 1], 2)), "takes 2 networks, not 1"),
        (lambda: calibration_error().value(Task(np.array([0])), answering([0, 1], 2)), "scores of 2 stimuli"),
        (lambda: calibration_error().value(Task(np.array([0, 2])), answering([0, 1], 2)), "a label 2"),
        (lambda: agreement().value(Task(np.array([0])), answering([0], 2), answering([0], 3)), "2 and 3 classes"),
        (lambda: calibration_error(bins=0), "bins=0"),
        (lambda: output_divergence(temperature="hot"), "none, fitted"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(make, said):
    with pytest.raises(ProbeError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_too_few_stimuli_for_the_bins():
    assert "fewer than the 15 bins" in calibration_error().value(Task(np.array([0, 1])), answering([0, 1], 2)).reason
