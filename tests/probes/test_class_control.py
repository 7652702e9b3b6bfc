"""The README's control: equal raw CKA, with and without anything shared beyond the class means."""

import pytest

from tests.class_control import CASES, results


def test_raw_cka_is_high_and_equal_and_only_the_within_class_null_tells_the_two_apart():
    """Bounds: above .95 raw; calibrated below .05 where nothing is shared inside classes; p ≤ .01 where it is (K = 200
    permutations reach .005)."""
    only_classes, more = (results(*case) for case in CASES.values())
    assert only_classes["cka"] == pytest.approx(more["cka"], abs=0.001)
    assert only_classes["cka"] > 0.95
    for found in (only_classes, more):
        assert found["p_global"] <= 0.01
    assert only_classes["calibrated"] < 0.05
    assert only_classes["p_within"] > 0.05
    assert more["calibrated"] > 0.3
    assert more["p_within"] <= 0.01
