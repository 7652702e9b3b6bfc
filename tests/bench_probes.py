"""Speed of measuring: all pairs at once beside one pair at a time, and nulls in closed form beside drawn ones."""

import os
import subprocess
import sys
import time

import numpy as np

M, N, D = 128, 2000, 256
K = 200
PAIRS = M * (M - 1) // 2
MEASURES = ("debiased-cka", "rsa", "mutual-knn")


def representations(m: int = M, n: int = N, d: int = D):
    """Rectified features that share some structure, one at a time."""
    shared = np.random.default_rng(0).standard_normal((n, 20))
    for seed in range(m):
        rng = np.random.default_rng(seed + 1)
        yield np.maximum(shared @ rng.standard_normal((20, d)) + 4 * rng.standard_normal((n, d)), 0).astype(np.float32)


def seconds_of(function, *args) -> float:
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def plain_debiased_cka(X, Y) -> float:
    """As one would write it for a pair: two Gram matrices and Song's estimator."""

    def hsic(K, L):
        n = len(K)
        return ((K * L).sum() + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 * (K.sum(0) @ L.sum(0)) / (n - 2)) / (
            n * (n - 3)
        )

    grams = []
    for Z in (X, Y):
        Z = Z - Z.mean(0)
        grams.append(Z @ Z.T)
        np.fill_diagonal(grams[-1], 0.0)
    A, B = grams
    return hsic(A, B) / np.sqrt(hsic(A, A) * hsic(B, B))


def plain_rsa(X, Y) -> float:
    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr

    return spearmanr(pdist(X, "sqeuclidean"), pdist(Y, "sqeuclidean")).statistic


def plain_mutual_knn(X, Y, k: int = 10) -> float:
    near = []
    for Z in (X, Y):
        Z = Z / np.linalg.norm(Z, axis=1, keepdims=True)
        S = Z @ Z.T
        np.fill_diagonal(S, -np.inf)
        near.append(np.argsort(-S, axis=1)[:, :k])
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(*near, strict=True)]))


def probes(say) -> None:
    """All pairs of 128 representations, 2,000 stimuli × 256 units."""
    from probes import PROBES
    from probes.all_pairs import all_pairs, prepare_all

    X = list(representations())
    plain = dict(zip(MEASURES, (plain_debiased_cka, plain_rsa, plain_mutual_knn), strict=True))
    few = [(X[i].astype(np.float64), X[i + 1].astype(np.float64)) for i in range(3)]
    ours, theirs = {}, {}
    for name in MEASURES:
        probe = PROBES[name]()
        start = time.perf_counter()
        values = all_pairs(probe, prepare_all(probe, X))
        ours[name] = time.perf_counter() - start
        times = []
        for i, pair in enumerate(few):
            begin = time.perf_counter()
            value = plain[name](*pair)
            times.append(time.perf_counter() - begin)
            assert abs(value - values[i, i + 1]) < 1e-9, (name, value, values[i, i + 1])
        theirs[name] = float(np.median(times)) * PAIRS
        say(f"probes: {name}: {PAIRS} pairs in {ours[name]:.1f} s, {theirs[name] / ours[name]:.0f} × faster")
    say(f"probes: the three together: {sum(theirs.values()) / sum(ours.values()):.0f} × faster", "at least 150")
    beside_rsatoolbox(say, X, ours["rsa"])
    say(f"probes: debiased-cka / its matrix products = {ours['debiased-cka'] / matrix_products(X):.2f}", "at most 3")
    nulls(say, X)


def beside_rsatoolbox(say, X, seconds: float) -> None:
    try:
        import rsatoolbox
    except ImportError:
        say("probes: rsatoolbox is not installed; `pip install -e .[oracles]` brings it")
        return

    def theirs():
        rdms = [
            rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(x.astype(np.float64)), method="euclidean") for x in X[:2]
        ]
        rsatoolbox.rdm.compare(*rdms, method="spearman")

    per_pair = np.median([seconds_of(theirs) for _ in range(2)])
    say(f"probes: rsa / rsatoolbox per pair: {per_pair * PAIRS / seconds:.0f} × faster", "at least 100")


def matrix_products(X) -> float:
    """Seconds of the products that all pairs of Gram matrices cannot do without, in float64."""
    Z = [x.astype(np.float64) for x in X]
    block = np.empty((M, 100 * N))
    gram = sum(seconds_of(np.matmul, z, z.T) for z in Z)
    block[:] = 0.5
    return gram + N / 100 * float(np.median([seconds_of(np.matmul, block, block.T) for _ in range(3)]))


def nulls(say, X) -> None:
    """The global null of every pair in closed form, beside 200 permutations of a pair."""
    from itertools import combinations

    from probes import PROBES
    from probes.moments import moments, sums
    from probes.nulls import permutation_test

    probe = PROBES["debiased-cka"]()
    prepared = [probe.prepare(x) for x in X]
    start = time.perf_counter()
    found = [sums(probe.matrix(p)) for p in prepared]
    for a, b in combinations(found, 2):
        moments(a, b)
    closed = time.perf_counter() - start
    drawn = np.median([seconds_of(permutation_test, probe, prepared[i], prepared[i + 1]) for i in range(2)]) * PAIRS
    say(
        f"probes: null of every pair in closed form: {drawn / closed:.0f} × faster than {K} permutations",
        "at least 100",
    )


LARGE = """
import sys, resource
import numpy as np
from probes import PROBES
from probes.all_pairs import all_pairs, bytes_of, prepare_all
from tests.bench_probes import representations
probe = PROBES[sys.argv[1]]()
made = prepare_all(probe, representations(int(sys.argv[4]), 10_000, 256), bytes_of(sys.argv[2]))
values = all_pairs(probe, made, memory=bytes_of(sys.argv[2]))
np.save(sys.argv[3], values)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def many_stimuli(say) -> None:
    """10,000 stimuli × 100 representations within `--memory 3GB`, and the same numbers in little memory."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name in MEASURES:
            ran, values = {}, {}
            for memory, m in (("3GB", 100), ("200MB", 10)):
                out = os.path.join(folder, f"{name}-{memory}.npy")
                start = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", LARGE, name, memory, out, str(m)], capture_output=True, text=True, check=True
                )
                ran[memory] = float(done.stdout), time.perf_counter() - start
                values[memory] = np.load(out)
            gap = abs(values["3GB"][:10, :10] - values["200MB"]).max()
            peak, took = ran["3GB"]
            say(
                f"probes: {name} of 10,000 × 256, 100 networks: peak {peak:.2f} GiB, {took:.0f} s",
                "under 3.7 GiB (4 GB)",
            )
            say(f"probes: the same in 200 MB differs by {gap:.1e} at most", "1e-6")
