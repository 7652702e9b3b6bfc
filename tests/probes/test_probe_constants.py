"""Values on one fixed input, on which independent public codes agree with each other.

Tolerance: 1e-9 where ten digits are known; otherwise half a unit of the last printed digit.
"""

import numpy as np
import pytest

from probes import PROBES, compare


@pytest.fixture(scope="module")
def fixed_input():
    r = np.random.default_rng(0)
    X = r.standard_normal((200, 30))
    W = r.standard_normal((30, 40))
    Y = X @ W / np.sqrt(30) + 0.5 * r.standard_normal((200, 40))
    return X, Y


def test_fixed_input_is_the_one_the_constants_belong_to(fixed_input):
    X, _ = fixed_input
    np.testing.assert_allclose(X[0, :3], [0.12573022, -0.13210486, 0.64042265], atol=5e-9)


PAIRS = [
    ("linear-cka", {}, 0.7032837196, 1e-9),
    ("debiased-cka", {}, 0.6684708100, 1e-9),
    ("angular-procrustes", {}, 0.6170703136, 1e-9),
    ("normalised-procrustes", {}, 0.6073265807, 1e-9),
    ("procrustes", {}, 58.7304057537, 1e-9),
    ("cca", {}, 0.8466864296, 1e-9),
    ("cca", {"power": 2}, 0.7395522398, 1e-9),
    ("svcca", {}, 0.8411092629, 1e-9),
    ("rsa", {}, 0.652636, 5e-7),
    ("rsa", {"comparator": "pearson"}, 0.662734, 5e-7),
    ("rsa", {"dissimilarity": "correlation"}, 0.630877, 5e-7),
    ("rsa", {"dissimilarity": "correlation", "comparator": "pearson"}, 0.647004, 5e-7),
    ("mutual-knn", {"k": 10}, 0.3610, 1e-9),  # a count over 2000: exact
    ("minibatch-cka", {"batch": 50}, 0.6615, 1e-4),  # these two from single precision
    ("minibatch-cka", {"batch": 20}, 0.6587, 1e-4),
    ("rbf-cka", {}, 0.7276032439, 1e-9),
    ("rbf-cka", {"bandwidth": 0.5}, 0.8255562341, 1e-9),
    ("rbf-cka", {"bandwidth": 2}, 0.709, 5e-4),
    ("distance-correlation", {}, 0.8810402557, 1e-9),
    ("distance-correlation", {"estimator": "unbiased"}, 0.6717651589, 1e-9),
    ("rsa", {"comparator": "kendall"}, 0.467608, 5e-7),
    ("rsa", {"comparator": "cosine"}, 0.974580, 5e-7),
    ("rsa", {"comparator": "whitened-cosine"}, 0.7032837196, 1e-9),
    ("rsa", {"dissimilarity": "correlation", "comparator": "kendall"}, 0.449002, 5e-7),
    ("cycle-knn", {}, 0.970, 1e-9),  # a count over 200: exact
    ("rtd", {}, 9.0, 0.05),
    # netrep; with whitening it mixes scales as they come, so it was given both arrays with ‖Xc‖²_F = d.
    ("shape", {"alpha": 0.0}, 0.7477040359, 1e-9),
    ("shape", {"alpha": 0.1}, 0.7242220188, 1e-9),
    ("shape", {"alpha": 0.5}, 0.6482529768, 1e-9),
    ("shape", {"alpha": 0.9}, 0.6170527206, 1e-9),
    ("permutation", {}, 1.2536457777, 1e-9),
    ("pwcca", {}, 0.8559822830, 1e-9),  # sim_metric: weights of the first representation
    # platonic-rep without its 1e-6 below the line, the mean of its two directions
    ("cknna", {"k": 5}, 0.3001364033, 1e-9),
    ("cknna", {"k": 10}, 0.3748569879, 1e-9),
]


@pytest.mark.parametrize(("name", "settings", "expected", "tolerance"), PAIRS)
def test_pair_probe_gives_the_agreed_value(fixed_input, name, settings, expected, tolerance):
    X, Y = fixed_input
    assert compare(PROBES[name](**settings), X, Y) == pytest.approx(expected, abs=tolerance, rel=0)


def test_cycle_knn_in_the_other_direction_gives_the_other_agreed_value(fixed_input):
    X, Y = fixed_input
    assert compare(PROBES["cycle-knn"](), Y, X) == pytest.approx(0.950, abs=1e-9)


def test_cosine_of_the_procrustes_angle_is_the_normalised_bures_similarity(fixed_input):
    X, Y = fixed_input
    assert np.cos(compare(PROBES["angular-procrustes"](), X, Y)) == pytest.approx(0.8155772122, abs=1e-9)


SINGLES = [
    ("participation-ratio", 25.818111),
    ("effective-rank", 29.337883),
    ("eigenvalue-effective-rank", 27.626286),
    ("stable-rank", 16.537474),
]


@pytest.mark.parametrize(("name", "expected"), SINGLES)
def test_single_probe_gives_the_agreed_value(fixed_input, name, expected):
    X, _ = fixed_input
    assert PROBES[name]().value(X) == pytest.approx(expected, abs=5e-7)


def test_exponent_of_an_exact_power_law_is_recovered():
    """Columns U diag(i^-0.6) with orthonormal, centred U have eigenvalues i^-1.2 exactly; 1e-9 is rounding."""
    rng = np.random.default_rng(3)
    U = rng.standard_normal((400, 60))
    U = np.linalg.qr(U - U.mean(axis=0))[0]
    X = U * np.arange(1, 61.0) ** -0.6
    result = PROBES["spectrum-exponent"]().value(X + 5.0)
    assert result["value"] == pytest.approx(1.2, abs=1e-9)
    assert result["r2"] == pytest.approx(1.0, abs=1e-9)
    assert (result["low"], result["high"]) == (10.0, 50.0)


def test_exponent_is_biased_low_when_stimuli_are_few():
    """Gaussian features of width 500 with λ_i = 1/i. Another code measured .915 and .949 on one draw each at
    n = 200 and 1000; one draw spreads by .02, so the mean of several lies within .04 of it."""
    means = {}
    for n in (200, 1000):
        draws = [np.random.default_rng(seed).standard_normal((n, 500)) for seed in range(4)]
        values = [PROBES["spectrum-exponent"]().value(Z * np.arange(1, 501.0) ** -0.5)["value"] for Z in draws]
        means[n] = np.mean(values)
    assert means[200] < means[1000] < 1.0
    assert means == pytest.approx({200: 0.915, 1000: 0.949}, abs=0.04)


def test_counts_of_silence():
    X = np.array([[0, 1, 0, 2, 3], [0, 0, -1, 2, 4], [0, 5, 0, 2, 0]])
    assert PROBES["sparsity"]().value(X) == pytest.approx(7 / 15)
    assert PROBES["sparsity"](threshold=1).value(X) == pytest.approx(9 / 15)
    assert PROBES["dead-units"]().value(X) == {"value": 0.2, "dead": 1.0, "constant": 2.0, "units": 5.0}
    assert PROBES["dead-units"](threshold=1).value(X)["dead"] == 2.0


def test_ranks_of_a_matrix_with_two_equal_directions_are_two():
    from probes import spectrum

    s = np.array([3.0, 3.0, 0.0])
    assert spectrum.participation_ratio_of(s) == pytest.approx(2)
    assert spectrum.entropy_rank_of(s) == pytest.approx(2)
    assert spectrum.entropy_rank_of(s, power=2) == pytest.approx(2)
    assert spectrum.stable_rank_of(s) == pytest.approx(2)


def test_ranks_by_hand_for_unequal_directions():
    """σ = (2, 1): λ = (4, 1). PR = 25/17, stable rank = 5/4, entropies of (2/3, 1/3) and (4/5, 1/5)."""
    from probes import spectrum

    def exp_entropy(*p):
        return np.prod([q**-q for q in p])

    s = [2.0, 1.0]
    assert spectrum.participation_ratio_of(s) == pytest.approx(25 / 17)
    assert spectrum.stable_rank_of(s) == pytest.approx(5 / 4)
    assert spectrum.entropy_rank_of(s) == pytest.approx(exp_entropy(2 / 3, 1 / 3))
    assert spectrum.entropy_rank_of(s, power=2) == pytest.approx(exp_entropy(4 / 5, 1 / 5))
