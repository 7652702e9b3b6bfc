"""Arrays with positions: what each of the three choices means, and that positions of one image are no stimuli."""

import numpy as np
import pytest

from probes import PROBES, ProbeError, compare
from probes.cautions import cautions
from probes.feature_maps import as_rows, positions_of, with_maps
from probes.nulls import null_test, permutation_test

N, H, W, C = 24, 3, 4, 5


def maps(seed: int, channels: int = C) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((N, H, W, channels))


def by_hand(x: np.ndarray, how: str) -> np.ndarray:
    """Rows from loops over images and positions, as the three questions are worded."""
    if how == "flatten":
        return np.array([np.concatenate([x[i, r, s] for r in range(H) for s in range(W)]) for i in range(len(x))])
    if how == "pool":
        return np.array([sum(x[i, r, s] for r in range(H) for s in range(W)) / (H * W) for i in range(len(x))])
    return np.array([x[i, r, s] for i in range(len(x)) for r in range(H) for s in range(W)])


@pytest.mark.parametrize("how", ["flatten", "pool", "positions"])
def test_each_choice_is_what_it_says(how):
    x, y = maps(0), maps(1, 7)
    for name in ("debiased-cka", "mutual-knn", "angular-procrustes", "rsa"):
        probe = PROBES[name]()
        expected = compare(probe, by_hand(x, how), by_hand(y, how))
        # The same rows; means over positions are added in another order.
        assert compare(with_maps(probe, how), x, y) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("how", ["flatten", "pool", "positions"])
def test_a_permutation_moves_whole_images(how):
    x, order = maps(0), np.random.default_rng(2).permutation(N)
    probe = with_maps(PROBES["debiased-cka"](), how)
    moved, anew = probe.permute(probe.prepare(x), order), probe.prepare(x[order])
    assert (moved.n, moved.positions) == (anew.n, anew.positions)
    other = probe.prepare(maps(3))
    # Only sums over rows in another order.
    assert probe.value(other, moved) == pytest.approx(probe.value(other, anew), rel=1e-9, abs=1e-12)


def test_the_choice_is_part_of_the_name():
    assert with_maps(PROBES["debiased-cka"](), "pool").info.label == "debiased-cka(maps=pool)"
    assert with_maps(PROBES["mutual-knn"](k=3), "flatten").info.label == "mutual-knn(k=3, maps=flatten)"
    assert with_maps(PROBES["nc1"](), "positions").info.label == "nc1(maps=positions)"
    with pytest.raises(ProbeError, match="maps='average' is not known; choose one of flatten, pool, positions"):
        with_maps(PROBES["rsa"](), "average")


def test_positions_move_together_in_a_null_or_chance_looks_like_similarity():
    """Two unrelated networks, in each of which the positions of an image are alike. Moving single positions takes that
    for a likeness of the networks nearly always; moving images errs at most as often as p says: of 60 pairs at most 8
    are below .05 with probability .99 (binomial)."""
    probe = PROBES["linear-cka"]()
    whole = with_maps(probe, "positions")
    below = {"images": 0, "rows": 0}
    for repeat in range(60):
        rng = np.random.default_rng(repeat)
        x, y = (rng.standard_normal((12, 1, 1, 6)) + 0.2 * rng.standard_normal((12, 3, 3, 6)) for _ in "ab")
        asked = {"permutations": 39, "seed": repeat}
        images = permutation_test(whole, whole.prepare(x), whole.prepare(y), **asked)
        rows = permutation_test(probe, *(probe.prepare(as_rows(z, "positions")) for z in (x, y)), **asked)
        assert images.observed == pytest.approx(rows.observed, rel=1e-12)
        below["images"] += images.p <= 0.05
        below["rows"] += rows.p <= 0.05
    assert below["images"] <= 8
    assert below["rows"] >= 55


def test_labels_of_a_null_and_of_a_measure_stay_one_per_image():
    x, y, labels = maps(0), maps(1), np.arange(N) % 3
    probe = with_maps(PROBES["debiased-cka"](), "positions")
    px, py = probe.prepare(x), probe.prepare(y)
    found = permutation_test(probe, px, py, kind="within-class", labels=labels, permutations=19)
    assert found.permutations == 19
    with pytest.raises(ProbeError, match=f"there are {N} stimuli"):
        permutation_test(probe, px, py, kind="within-class", labels=np.repeat(labels, H * W), permutations=19)
    nc1 = with_maps(PROBES["nc1"](), "positions")
    expected = PROBES["nc1"]().value(by_hand(x, "positions"), np.repeat(labels, H * W))
    assert nc1.value(x, labels) == nc1.value(x, labels=labels) == expected
    with pytest.raises(ProbeError, match=f"labels have shape .*, but there are {N} stimuli"):
        nc1.value(x, labels[:-1])


def test_the_closed_form_is_of_single_rows_and_so_not_taken_for_positions():
    x, y = maps(0), maps(1)
    flat, whole = (with_maps(PROBES["debiased-cka"](), how) for how in ("flatten", "positions"))
    assert null_test(flat, flat.prepare(x), flat.prepare(y)) is not None
    assert null_test(whole, whole.prepare(x), whole.prepare(y)) is None


def test_other_positions_are_refused_in_one_line():
    probe = with_maps(PROBES["debiased-cka"](), "positions")
    square, flat = probe.prepare(maps(0).reshape(N, 2, 6, C)), probe.prepare(maps(0))
    with pytest.raises(ProbeError, match=r"one array has 2×6 positions and the other 3×4.*maps=pool"):
        probe.value(square, flat)


def test_what_is_fitted_on_some_rows_and_judged_on_others_takes_no_positions():
    for name in ("ridge", "linear-probe", "knn-probe", "concept-probe"):
        with pytest.raises(ProbeError, match="both would show the same images; use maps=pool"):
            with_maps(PROBES[name](), "positions")
        with_maps(PROBES[name](), "pool")


def test_what_takes_rows_in_their_order_takes_no_positions():
    for name in ("minibatch-cka", "rtd"):
        with pytest.raises(ProbeError, match="positions of an image or two; use maps=pool"):
            with_maps(PROBES[name](), "positions")


def test_without_positions_nothing_changes():
    x, y = maps(0)[:, 0, 0], maps(1)[:, 0, 0]
    for how in ("flatten", "pool", "positions"):
        probe = with_maps(PROBES["linear-cka"](), how)
        assert compare(probe, x, y) == compare(PROBES["linear-cka"](), x, y)
        assert compare(probe, x, y[:, None, None, :]) == compare(PROBES["linear-cka"](), x, y)
    assert positions_of((N, 1, 1, C)) == positions_of((N, C)) == ()
    assert positions_of((N, 7, C)) == (7,)  # tokens


def test_integers_and_half_precision_are_pooled_in_full_precision():
    x = np.full((2, 50, 50, 1), 60000, np.uint16)
    np.testing.assert_array_equal(as_rows(x, "pool"), [[60000.0], [60000.0]])
    assert np.isfinite(as_rows(np.full((2, 50, 50, 1), 6e4, np.float16), "pool")).all()


def test_a_reader_is_told_that_positions_are_no_stimuli():
    probe, labels = with_maps(PROBES["debiased-cka"](), "positions"), np.repeat(np.arange(N), H * W)
    p = probe.prepare(maps(0))
    said = " ".join(cautions(probe, p.n, C, C, labels, (p, p)))
    assert f"{H * W} positions of each of {N} stimuli are rows here" in said
    assert f"{N} of {N} classes have one stimulus" in said


def test_alike_positions_do_not_stand_for_more_stimuli():
    """20 images of 64 positions alike inside an image, 256 units: many rows, and far fewer stimuli than units."""
    rng = np.random.default_rng(0)
    probe = with_maps(PROBES["linear-cka"](), "positions")
    px, py = (probe.prepare(rng.normal(size=(20, 1, 1, 256)) + 0.1 * rng.normal(size=(20, 8, 8, 256))) for _ in "ab")
    assert probe.value(px, py) > 0.8
    assert any("n = 20 stimuli" in line for line in cautions(probe, px.n, px.d, py.d, None, [px, py]))
