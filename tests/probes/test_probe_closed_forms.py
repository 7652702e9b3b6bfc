"""What unrelated and label-only representations must score, from closed forms."""

import numpy as np
import pytest

from probes import PROBES, compare
from probes.nulls import permutation_test


def gaussians(n, d, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, d))


SIZES = [(1000, 256, 0.204), (1000, 128, 0.1135), (1024, 512, 0.333), (200, 256, 0.561), (10000, 256, 0.025)]


@pytest.mark.parametrize(("n", "d", "expected"), SIZES)
def test_biased_cka_of_independent_gaussians_is_d_over_n_plus_d_and_debiased_is_zero(n, d, expected):
    """±.005: the spread of one draw is below .003 at the smallest of these sizes."""
    biased, debiased = PROBES["linear-cka"](), PROBES["debiased-cka"]()
    draws = [gaussians(n, d, seed) for seed in range(1 if n == 10000 else 5)]
    mean_biased = np.mean([compare(biased, X, Y) for X, Y in draws])
    assert mean_biased == pytest.approx(expected, abs=0.005)
    assert biased.info.null_mean(n, d, d) == pytest.approx(d / (n + d), abs=1e-12)
    assert mean_biased == pytest.approx(biased.info.null_mean(n, d, d), abs=0.005)
    assert np.mean([compare(debiased, X, Y) for X, Y in draws]) == pytest.approx(0.0, abs=0.005)
    assert debiased.info.null_mean(n, d, d) == 0.0


def test_biased_cka_null_covers_unequal_widths():
    rng = np.random.default_rng(5)
    values = [
        compare(PROBES["linear-cka"](), rng.standard_normal((300, 50)), rng.standard_normal((300, 400)))
        for _ in range(5)
    ]
    assert np.mean(values) == pytest.approx(PROBES["linear-cka"]().info.null_mean(300, 50, 400), abs=0.005)


def test_mutual_knn_of_independent_gaussians_is_k_over_n_minus_1():
    """±.001: the mean of 5 draws of 10 000 neighbour slots at rate .01 has spread .0005."""
    probe = PROBES["mutual-knn"](k=10)
    mean = np.mean([compare(probe, *gaussians(1000, 64, seed)) for seed in range(5)])
    assert mean == pytest.approx(10 / 999, abs=0.001)
    assert probe.info.null_mean(1000, 64, 64) == pytest.approx(10 / 999)


@pytest.mark.parametrize(("n", "d", "expected"), [(1000, 256, 203.8), (200, 256, 112.3)])
def test_participation_ratio_of_isotropic_gaussian_is_nd_over_n_plus_d(n, d, expected):
    """±1 %: the formula is leading order (n for n − 1 alone is .3 % at n = 200), and one draw spreads by .5 %."""
    mean = np.mean([PROBES["participation-ratio"]().value(gaussians(n, d, seed)[0]) for seed in range(5)])
    assert mean == pytest.approx(expected, rel=0.01)


def test_permutation_mean_is_the_exact_one():
    """The mean over *all* permutations is known: (Σ off-diagonal M_x)(Σ off-diagonal M_y)/(n(n−1)) + the diagonal
    analogue. 5 standard errors of the Monte Carlo mean are allowed."""
    rng = np.random.default_rng(2)
    X, Y = np.abs(rng.standard_normal((60, 20))), np.exp(rng.standard_normal((60, 5)))
    for name in ("linear-cka", "debiased-cka", "rsa", "mutual-knn"):
        probe = PROBES[name]()
        px, py = probe.prepare(X), probe.prepare(Y)
        A, B = probe.matrix(px), probe.matrix(py)
        n = len(A)
        exact = np.trace(A) * np.trace(B) / n + (A.sum() - np.trace(A)) * (B.sum() - np.trace(B)) / (n * (n - 1))
        if name != "linear-cka":  # its `null_mean` is for Gaussians; these three hold for any data
            assert exact == pytest.approx(probe.info.null_mean(n, 20, 5), abs=1e-12)
        null = permutation_test(probe, px, py, permutations=400, seed=1)
        assert null.mean == pytest.approx(exact, abs=5 * null.sd / 20)


@pytest.fixture(scope="module")
def label_only():
    """Two representations that share classes (independent class means of variance 1) and nothing else."""
    rng = np.random.default_rng(0)
    n, C, d = 1000, 10, 256
    y = np.arange(n) % C

    def represent(shared=0.0):
        latent = shared * (np.random.default_rng(99).standard_normal((n, 32)) @ rng.standard_normal((32, d)))
        return rng.standard_normal((C, d))[y] + latent + rng.standard_normal((n, d))

    return y, represent


def test_sharing_only_labels_scores_high_passes_the_global_null_and_fails_the_within_class_null(label_only):
    """CKA .86 ± .03 although nothing but the labels is shared; K = 199 lets p reach .005."""
    y, represent = label_only
    probe = PROBES["linear-cka"]()
    px, py = probe.prepare(represent()), probe.prepare(represent())
    assert probe.value(px, py) == pytest.approx(0.86, abs=0.03)
    world = permutation_test(probe, px, py, permutations=199)
    assert world.mean == pytest.approx(0.03, abs=0.03)
    assert world.p <= 0.01
    assert world.calibrated > 0.8
    inside = permutation_test(probe, px, py, kind="within-class", labels=y, permutations=199)
    assert inside.mean == pytest.approx(0.861, abs=0.03)
    assert inside.p > 0.05
    assert inside.calibrated == 0.0


def test_sharing_only_labels_gives_mutual_knn_of_k_over_class_size(label_only):
    _, represent = label_only
    probe = PROBES["mutual-knn"](k=10)
    assert compare(probe, represent(), represent()) == pytest.approx(10 / 99, abs=0.03)


@pytest.mark.parametrize("name", ["linear-cka", "debiased-cka", "rsa", "mutual-knn"])
def test_shared_structure_inside_classes_is_detected(label_only, name):
    """The positive control: a common 32-dimensional latent of strength .3 must reach p ≤ .01."""
    y, represent = label_only
    probe = PROBES[name]()
    px, py = probe.prepare(represent(0.3)), probe.prepare(represent(0.3))
    inside = permutation_test(probe, px, py, kind="within-class", labels=y, permutations=199)
    assert inside.p <= 0.01
    assert inside.calibrated > 0.1
