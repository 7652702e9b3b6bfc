"""Figures of runs whose seeds all diverged: one line, not a traceback; the curve of a layer that is constant."""

import numpy as np
import pytest

from lab.spectra import covariance_eigenvalues


@pytest.fixture(scope="module")
def lost(ask, answer, tiny, tmp_path_factory):
    """A store with two runs of which no seed is left, and their ids."""
    store = tmp_path_factory.mktemp("lost")
    options = (*tiny, "--seeds", "2", "--optimizer", "sgd(1e30)", "--store", store)
    return store, [answer("train", *options, "--rule", rule, code=3)["run"] for rule in ("bp", "fa")]


@pytest.mark.parametrize("options", [["spectrum"], ["spectrum", "--layer", "dense1"], ["similarity"], ["layers"]])
def test_there_is_nothing_to_draw(refuse, lost, tmp_path, options):
    (store, ids), (name, *more) = lost, options
    quick = [] if name == "spectrum" else ["--permutations", "10"]
    asked = (name, *ids, *more, *quick, "--stimuli", "50", "--store", store, "-o", tmp_path / "x.pdf")
    message = refuse(1, "figure", *asked)
    assert "there is nothing to draw: every seed of these runs diverged" in message
    assert not list(tmp_path.iterdir())


def test_shares_of_the_variance():
    h = np.random.default_rng(0).normal(size=(40, 6)) * [1e200, 1, 1, 1, 1, 1]  # squares of which overflow
    shares = covariance_eigenvalues(h)
    assert shares.shape == (6,)
    assert shares.sum() == pytest.approx(1)
    values = np.linalg.eigvalsh(np.cov(h[:, 1:].T))[::-1]
    assert covariance_eigenvalues(h[:, 1:]) == pytest.approx(values / values.sum())
    assert np.isnan(covariance_eigenvalues(np.full((40, 6), 0.1))).all(), "rounding of a mean is no variance"
