"""Pair probes beside packages that are not this project's code.

Tolerance 1e-12 unless said: both sides evaluate one formula in float64, and the two have been seen to differ by 1e-14.
"""

import itertools
import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from probes import PROBES, compare


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 12))
    return X, np.tanh(X @ rng.standard_normal((12, 20))) + 0.3 * rng.standard_normal((90, 20))


@pytest.fixture(scope="module")
def quantised():
    """Small integers, some rows twice: many pairs of stimuli are equally far apart."""
    rng = np.random.default_rng(1)
    X, Y = rng.integers(0, 3, (60, 4)), rng.integers(0, 2, (60, 5))
    X[7], Y[9] = X[3], Y[3]
    return X, Y


def package(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a package says while it is imported is its own affair
        return pytest.importorskip(name)


@pytest.fixture(scope="module")
def rsatoolbox():
    return package("rsatoolbox")


@pytest.fixture(scope="module")
def dcor():
    return package("dcor")


@pytest.fixture(scope="module")
def ripser():
    return package("ripser")


@pytest.fixture(scope="module")
def neighbors():
    return package("sklearn.neighbors")


def rdm(rsatoolbox, Z, dissimilarity):
    noise = {"noise": np.linalg.inv(np.cov(Z.T))} if dissimilarity == "mahalanobis" else {}
    method = dissimilarity.removeprefix("sq")
    return rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(Z.astype(float)), method=method, **noise)


METHODS = {"spearman": "spearman", "pearson": "corr", "kendall": "tau-a", "cosine": "cosine"}
METHODS["whitened-cosine"] = "cosine_cov"


# With other dissimilarities of integers rsatoolbox, which does not round, lets rounding errors break the ties.
DATA = [*itertools.product(["sqeuclidean", "correlation", "mahalanobis"], ["pair"]), ("sqeuclidean", "quantised")]


@pytest.mark.parametrize(("dissimilarity", "data"), DATA)
@pytest.mark.parametrize("comparator", METHODS)
def test_rsa_equals_rsatoolbox_also_with_ties(request, rsatoolbox, dissimilarity, comparator, data):
    X, Y = request.getfixturevalue(data)
    a, b = (rdm(rsatoolbox, Z, dissimilarity) for Z in (X, Y))
    expected = rsatoolbox.rdm.compare(a, b, method=METHODS[comparator]).item()
    value = compare(PROBES["rsa"](dissimilarity=dissimilarity, comparator=comparator), X, Y)
    assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dissimilarity", ["sqeuclidean", "correlation", "cosine", "mahalanobis"])
def test_rsa_equals_scipy(pair, dissimilarity):
    from scipy.spatial.distance import cosine
    from scipy.stats import kendalltau, pearsonr, spearmanr

    a, b = (pdist(Z, dissimilarity) for Z in pair)
    a, b = (a**2, b**2) if dissimilarity == "mahalanobis" else (a, b)
    for comparator, scipys in (("spearman", spearmanr), ("pearson", pearsonr), ("kendall", kendalltau)):
        probe = PROBES["rsa"](dissimilarity=dissimilarity, comparator=comparator)
        assert compare(probe, *pair) == pytest.approx(scipys(a, b).statistic, abs=1e-12)
    probe = PROBES["rsa"](dissimilarity=dissimilarity, comparator="cosine")
    assert compare(probe, *pair) == pytest.approx(1 - cosine(a, b), abs=1e-12)


def test_kendall_of_twenty_thousand_tied_pairs_equals_scipys_rescaled():
    """scipy gives τ_b = S / √((N₀ − T_x)(N₀ − T_y)); τ_a = S / N₀, with N₀ pairs of entries and T tied ones."""
    from scipy.stats import kendalltau

    from probes.comparators import doubled_ranks, kendall_tau_a

    rng = np.random.default_rng(0)
    x = rng.integers(0, 300, 20_000)
    y = x // 3 + rng.integers(0, 150, 20_000)
    every = 20_000 * 19_999 / 2
    tied = [(c * (c - 1) / 2).sum() for c in (np.unique(v, return_counts=True)[1] for v in (x, y))]
    expected = kendalltau(x, y).statistic * np.sqrt((every - tied[0]) * (every - tied[1])) / every
    assert kendall_tau_a(doubled_ranks(x), doubled_ranks(y)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("width", [12, 200])
def test_linear_cka_equals_dcors_correlation_of_squared_distances(dcor, pair, width):
    """With exponent 2, dcor's biased and unbiased estimators are those of CKA: double- and U-centring do not see the
    row norms by which −½D differs from K."""
    X, Y = pair
    X = X @ np.random.default_rng(2).standard_normal((12, width))
    for name, theirs in (
        ("linear-cka", dcor.distance_correlation_sqr),
        ("debiased-cka", dcor.u_distance_correlation_sqr),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that exponent 2 tells no dependence is CKA's known limit
            expected = float(theirs(X, Y, exponent=2))
        assert compare(PROBES[name](), X, Y) == pytest.approx(expected, abs=1e-12)


def test_linear_cka_equals_rsatoolboxs_whitened_cosine(rsatoolbox, pair):
    a, b = (rdm(rsatoolbox, Z, "sqeuclidean") for Z in pair)
    expected = rsatoolbox.rdm.compare(a, b, method="cosine_cov").item()
    assert compare(PROBES["linear-cka"](), *pair) == pytest.approx(expected, abs=1e-12)


def test_minibatch_cka_equals_dcors_u_products_summed_over_batches(dcor, pair):
    batches = [[cdist(Z[s : s + 20], Z[s : s + 20], "sqeuclidean") for Z in pair] for s in (0, 20, 40, 60)]
    batches = [[dcor.u_centered(D) for D in batch] for batch in batches]
    xy, xx, yy = (sum(dcor.u_product(b[i], b[j]) for b in batches) for i, j in ((0, 1), (0, 0), (1, 1)))
    found = compare(PROBES["minibatch-cka"](batch=20), *pair)
    assert found == pytest.approx(float(xy / np.sqrt(xx * yy)), abs=1e-12)


@pytest.mark.parametrize("width", [12, 200])
def test_distance_correlation_equals_dcor(dcor, pair, width):
    X, Y = pair
    X = X @ np.random.default_rng(2).standard_normal((12, width))
    X[5] = X[4]
    biased, unbiased = (PROBES["distance-correlation"](estimator=e) for e in ("biased", "unbiased"))
    assert compare(biased, X, Y) == pytest.approx(float(dcor.distance_correlation(X, Y)), abs=1e-12)
    assert compare(unbiased, X, Y) == pytest.approx(float(dcor.u_distance_correlation_sqr(X, Y)), abs=1e-12)


@pytest.mark.parametrize("bandwidth", [0.4, 1.0, 3.0])
def test_rbf_cka_equals_the_definition_with_sklearns_kernel(pair, bandwidth):
    rbf_kernel = package("sklearn.metrics.pairwise").rbf_kernel
    H = np.eye(90) - 1 / 90
    sigmas = [bandwidth * np.median(pdist(Z)) for Z in pair]
    K, L = (H @ rbf_kernel(Z, gamma=0.5 / sigma**2) @ H for Z, sigma in zip(pair, sigmas, strict=True))
    expected = (K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum())
    assert compare(PROBES["rbf-cka"](bandwidth=bandwidth), *pair) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("columns", [3, 12])
def test_eigenspace_overlap_is_the_mean_squared_cosine_of_scipys_subspace_angles(pair, columns):
    from scipy.linalg import subspace_angles

    X, Y = pair[0][:, :columns], pair[1]
    expected = (np.cos(subspace_angles(X, Y)) ** 2).sum() / 20
    assert compare(PROBES["eigenspace-overlap"](), X, Y) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("settings", "components"), [({"variance": 0.9}, 0.9), ({"rank": 4}, 4)])
def test_svcca_equals_scipys_angles_between_sklearns_components(pair, settings, components):
    from scipy.linalg import subspace_angles

    PCA = package("sklearn.decomposition").PCA
    A, B = (PCA(components, svd_solver="full").fit_transform(Z) for Z in pair)
    expected = np.cos(subspace_angles(A, B)).mean()
    assert compare(PROBES["svcca"](**settings), *pair) == pytest.approx(expected, abs=1e-12)


def test_common_neighbours_are_those_of_sklearn(neighbors, pair):
    """Counts; CKNNA, beside them, is debiased CKA of the cosines in sklearn's graphs, both orders of 1ᵀKL1 taken."""
    k, n = 7, 90
    found = (neighbors.NearestNeighbors(n_neighbors=k, metric="cosine").fit(Z) for Z in pair)
    M, N = (f.kneighbors_graph().toarray() for f in found)
    assert compare(PROBES["mutual-knn"](k=k), *pair) == pytest.approx((M * N).sum() / (n * k), abs=1e-12)
    assert compare(PROBES["cycle-knn"](k=k), *pair) == pytest.approx(((N @ M).diagonal() > 0).mean(), abs=1e-12)
    K, L = (1 - cdist(Z, Z, "cosine") for Z in pair)

    def hsic(A, B):
        cross = (A.sum(axis=0) @ B.sum(axis=1) + B.sum(axis=0) @ A.sum(axis=1)) / (n - 2)
        return (A * B.T).sum() + A.sum() * B.sum() / ((n - 1) * (n - 2)) - cross

    expected = hsic(M * N * K, M * N * L) / np.sqrt(hsic(M * K, M * K) * hsic(N * L, N * L))
    assert compare(PROBES["cknna"](k=k), *pair) == pytest.approx(expected, abs=1e-12)


def test_neighbourhood_measures_equal_their_definitions_on_sklearns_neighbours(neighbors, pair):
    k = 7

    def lists(Z):  # without a query, sklearn leaves each point out of its own neighbours
        return neighbors.NearestNeighbors(n_neighbors=k, metric="cosine").fit(Z).kneighbors(return_distance=False)

    cos = [1 - cdist(Z, Z, "cosine") for Z in pair]
    jaccard, ranks, second = [], [], []
    for i, (a, b) in enumerate(zip(*map(lists, pair), strict=True)):
        a, b = a.tolist(), b.tolist()
        common, union = sorted({*a} & {*b}), sorted({*a} | {*b})
        jaccard.append(len(common) / len(union))
        places = [(a.index(j) + 1, b.index(j) + 1) for j in common]
        score = sum(2 / ((1 + abs(r - s)) * (r + s)) for r, s in places)
        ranks.append(score / sum(1 / m for m in range(1, len(common) + 1)) if common else 0.0)
        s, t = (C[i, union] for C in cos)
        second.append(s @ t / np.sqrt((s @ s) * (t @ t)))
    for name, expected in (("jaccard", jaccard), ("rank-similarity", ranks), ("second-order-cosine", second)):
        assert compare(PROBES[name](k=k), *pair) == pytest.approx(np.mean(expected), abs=1e-12)


def test_rtd_equals_the_form_with_one_block_of_zeros(ripser, pair):
    """The authors' code takes 2n points, [[0, v], [v, min(v, w)]]: the same bars of dimension 1. In ripser's single
    precision, hence 1e-5 of a sum of some hundred lengths."""
    a, b = (cdist(Z, Z) / np.quantile(cdist(Z, Z), 0.9) for Z in pair)

    def lengths(v, w):
        m = np.block([[np.zeros_like(v), v], [v, np.minimum(v, w)]])
        bars = ripser.ripser(m, maxdim=1, distance_matrix=True)["dgms"][1]
        return (bars[:, 1] - bars[:, 0]).sum()

    expected = (lengths(a, b) + lengths(b, a)) / 2
    assert expected > 1
    assert compare(PROBES["rtd"](), *pair) == pytest.approx(expected, rel=1e-5)


def test_imd_equals_the_definition_with_sklearns_graph_and_numpys_eigenvalues(neighbors, pair):
    """1e-6: values are millionths, so this is 1e-12 of a heat trace."""
    times = np.logspace(-1, 1, 256)

    def trace(Z):
        A = neighbors.kneighbors_graph(Z, 5).toarray()
        A = np.maximum(A, A.T)
        d = A.sum(axis=1)
        eigenvalues = np.linalg.eigvalsh(np.eye(len(Z)) - A / np.sqrt(np.outer(d, d)))
        return np.exp(-np.outer(times, eigenvalues)).mean(axis=1)

    expected = 1e6 * (np.exp(-2 * (times + 1 / times)) * np.abs(trace(pair[0]) - trace(pair[1]))).max()
    assert compare(PROBES["imd"](), *pair) == pytest.approx(expected, abs=1e-6)
