"""Maps of points whose distances are known, and paths of known length."""

import numpy as np
import pytest

from probes import PROBES, ProbeError
from probes.shape_space import path, shape_map


def distances(points):
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def test_points_of_a_plane_are_mapped_exactly():
    """Their distances come back to rounding (1e-7 after a thousand steps of majorisation), whatever turned them."""
    points = np.random.default_rng(0).standard_normal((12, 2)) @ np.random.default_rng(1).standard_normal((2, 9))
    found = shape_map(distances(points))
    np.testing.assert_allclose(distances(found.points), distances(points), atol=1e-7)
    assert found.stress < 1e-7
    assert found.negative < 1e-12
    assert found.explained == pytest.approx(1.0, abs=1e-12)


def test_majorisation_lowers_the_stress_of_the_classical_map():
    """Twelve equidistant points fill eleven dimensions: no plane shows them, and classical scaling least of all."""
    D = 1.0 - np.eye(12)
    found = shape_map(D)
    eigenvalues, vectors = np.linalg.eigh(-0.5 * (np.eye(12) - 1 / 12) @ D**2 @ (np.eye(12) - 1 / 12))
    classical = distances(vectors[:, -2:] * np.sqrt(eigenvalues[-2:]))
    apart = distances(found.points)
    assert ((apart - D) ** 2).sum() < ((classical - D) ** 2).sum()
    assert found.stress > 0.2
    assert found.explained == pytest.approx(2 / 11, abs=1e-9)


def test_stress_is_no_higher_than_scikit_learns():
    manifold = pytest.importorskip("sklearn.manifold")
    D = distances(np.random.default_rng(3).standard_normal((15, 6)))
    other = manifold.MDS(
        2,
        metric="precomputed",
        n_init=8,
        init="random",
        random_state=0,
        max_iter=1000,
        eps=1e-10,
        normalized_stress=False,
    ).fit(D)
    found = ((distances(shape_map(D).points) - D) ** 2).sum() / 2
    assert found <= other.stress_ * 1.05  # both reach local minima; ours starts at the classical solution


def test_distances_of_no_points_are_found_out():
    """d(a, c) > d(a, b) + d(b, c): no points in any space have such distances."""
    D = np.array([[0, 1, 5.0], [1, 0, 1], [5, 1, 0]])
    assert shape_map(D).negative > 0.1


def test_one_matrix_gives_one_map():
    D = distances(np.random.default_rng(2).standard_normal((9, 4)))
    np.testing.assert_array_equal(shape_map(D).points, shape_map(D.copy()).points)


def test_a_straight_path_at_constant_speed():
    points = np.outer([0.0, 1.0, 3.0, 6.0], [0.6, 0.8])
    found = path(distances(points), [0, 10, 30, 60])
    assert (found.length, found.displacement) == pytest.approx((6.0, 6.0))
    assert found.tortuosity == pytest.approx(1.0)
    np.testing.assert_allclose(found.velocity, 0.1)
    np.testing.assert_allclose(found.to_end, [6, 5, 3, 0], atol=1e-12)


def test_a_path_in_angular_procrustes_distance_is_never_shorter_than_its_displacement():
    rng = np.random.default_rng(0)
    probe = PROBES["angular-procrustes"]()
    h = rng.standard_normal((40, 6))
    stages = [probe.prepare(h := h + 0.5 * rng.standard_normal((40, 6))) for _ in range(6)]
    found = path([[probe.value(a, b) for b in stages] for a in stages], range(6))
    assert found.tortuosity > 1.0


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), -np.ones((3, 3)), np.full((3, 3), np.nan), np.triu(np.ones((3, 3)))])
def test_what_cannot_be_mapped_is_refused(bad):
    with pytest.raises(ProbeError):
        shape_map(bad)


def test_paths_need_an_increasing_clock():
    with pytest.raises(ProbeError, match="increasing"):
        path(np.zeros((3, 3)), [0, 5, 5])
    assert path(np.zeros((2, 2)), [0, 1]).tortuosity is None


def test_a_map_has_the_dimensions_asked_for_however_few_networks_there_are():
    found = shape_map(np.ones((3, 3)), dimensions=5)
    assert found.points.shape == (3, 5)
    apart = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1)
    np.testing.assert_allclose(apart, 1 - np.eye(3), atol=1e-12)
