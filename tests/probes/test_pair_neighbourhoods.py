"""Neighbourhoods, topology and heat beside definitions written out, closed forms, and data that mislead them.

Tolerance 1e-9 unless said: the two sides are the same number in exact arithmetic, computed in a different order.
"""

import sys

import numpy as np
import pytest
from scipy.spatial.distance import cdist, squareform

from probes import PROBES, ProbeError, compare


def arrays(seed=0, n=60, d1=12, d2=20):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d1)) + 1.0
    return X, np.tanh(X @ rng.standard_normal((d1, d2))) + 0.3 * rng.standard_normal((n, d2))


def hsic_u(K, L):
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    cross = (one @ K @ L @ one + one @ L @ K @ one) / 2
    return (np.trace(K @ L) + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3))


# Neighbours


def masks(Z, k):
    unit = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    C = unit @ unit.T
    hidden = C - 10 * np.eye(len(Z))
    M = np.zeros_like(C)
    np.put_along_axis(M, np.argsort(-hidden, axis=1)[:, :k], 1.0, axis=1)
    return C, M


def test_cycle_knn_equals_the_definition_written_out():
    X, Y = arrays()
    (_, M), (_, N) = masks(X, 3), masks(Y, 3)
    probe = PROBES["cycle-knn"](k=3)
    assert compare(probe, X, Y) == pytest.approx(((N @ M).diagonal() > 0).mean(), abs=1e-12)
    assert compare(probe, Y, X) == pytest.approx(((M @ N).diagonal() > 0).mean(), abs=1e-12)


@pytest.mark.parametrize("k", [2, 10, 59])
def test_cknna_equals_the_definition_written_out(k):
    """The authors' code differs in the order of one product only: by less than .001 here."""
    X, Y = arrays()
    (K, M), (L, N) = masks(X, k), masks(Y, k)
    expected = hsic_u(M * N * K, M * N * L) / np.sqrt(hsic_u(M * K, M * K) * hsic_u(N * L, N * L))
    value = compare(PROBES["cknna"](k=k), X, Y)
    assert value == pytest.approx(expected, abs=1e-9)
    if k == 59:  # every pair counts: debiased CKA of the uncentred cosines
        assert value == pytest.approx(hsic_u(K, L) / np.sqrt(hsic_u(K, K) * hsic_u(L, L)), abs=1e-9)


def test_second_order_cosine_of_silent_stimuli():
    """A row of zeros in both counts 1, in one 0: with two silent rows of 60 in Y, one of them in X, the others being
    identical, 59 rows would count 1, and their neighbourhoods lose what the extra zero row was to them."""
    X = arrays()[0]
    X[3] = 0.0
    Y = X.copy()
    probe = PROBES["second-order-cosine"]()
    assert compare(probe, X, Y) == 1.0
    Y[8] = 0.0
    assert 0.9 < compare(probe, X, Y) <= 59 / 60


def test_duplicated_stimuli_are_neighbours_of_each_other_and_never_of_themselves():
    from probes.neighbour_lists import nearest_by_cosine

    X = np.repeat(arrays(n=8)[0], 3, axis=0)
    lists = nearest_by_cosine(X, 4)[1]
    rows = np.arange(24)
    assert not (lists == rows[:, None]).any()
    assert (np.sort(lists[:, :2] // 3, axis=1) == (rows // 3)[:, None]).all()


# Topology and heat


def spanning_tree(v):
    """Length of the minimal spanning tree of three points."""
    return np.sort(v)[:2].sum()


def test_rtd_of_three_stimuli_is_a_difference_of_spanning_trees():
    """Three points have no loop, so a bar is a cluster that min(v, w) joins before v does: the bars of X → Y add up to
    MST(v) − MST(min(v, w))."""
    pytest.importorskip("ripser")
    for seed in range(5):
        X, Y = arrays(seed, n=3)
        v, w = (squareform(cdist(Z, Z) / np.quantile(cdist(Z, Z), 0.9), checks=False) for Z in (X, Y))
        expected = (spanning_tree(v) + spanning_tree(w)) / 2 - spanning_tree(np.minimum(v, w))
        assert compare(PROBES["rtd"](), X, Y) == pytest.approx(expected, abs=1e-12)


def test_rtd_takes_the_first_stimuli():
    pytest.importorskip("ripser")
    X, Y = arrays()
    probe = PROBES["rtd"](stimuli=25)
    assert compare(probe, X, Y) == pytest.approx(compare(PROBES["rtd"](), X[:25], Y[:25]), abs=1e-9)
    assert compare(probe, X, 3.7 * X) < 1e-10
    X[:25] = 1.0  # the other rows still vary
    assert "first 25 stimuli" in compare(probe, X, Y).reason


def test_rtd_without_ripser_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ripser", None)
    with pytest.raises(ProbeError, match=r"pip install 'credit-lab\[topology\]'"):
        compare(PROBES["rtd"](), *arrays())


def test_heat_traces_of_a_cycle_and_of_a_complete_graph():
    """Points on a circle with two neighbours each: λ_j = 1 − cos(2πj/n). With all others as neighbours: 0 once and
    n/(n − 1) otherwise. 1e-12 of n: the traces are sums of n terms."""
    from probes.heat import TIMES, heat_trace, neighbour_graph
    from probes.neighbour_lists import nearest

    n = 40
    angle = 2 * np.pi * np.arange(n) / n
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    for k, eigenvalues in ((2, 1 - np.cos(angle)), (n - 1, np.append(0.0, np.full(n - 1, n / (n - 1))))):
        lists, _ = nearest(lambda rows: circle[rows] @ circle.T, n, k, "cosine")
        expected = np.exp(-np.outer(TIMES, eigenvalues)).sum(axis=1)
        np.testing.assert_allclose(heat_trace(neighbour_graph(lists)), expected, rtol=0, atol=1e-12 * n)


def test_imd_does_not_know_which_stimulus_is_which():
    X, Y = arrays()
    order = np.random.default_rng(0).permutation(60)
    probe = PROBES["imd"]()
    assert compare(probe, X, Y[order]) == pytest.approx(compare(probe, X, Y), abs=1e-6)
    assert compare(probe, X, X[order]) == pytest.approx(0.0, abs=1e-6)
    assert "npaired" in probe.info.traps
