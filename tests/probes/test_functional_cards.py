"""What every functional probe says about itself, and what it says when the network itself is missing."""

import numpy as np
import pytest

from probes import ProbeError, Undefined
from probes.functional import FUNCTIONAL
from probes.subject import Subject, Task

ON_SCORES = {"agreement", "error-consistency", "output-divergence", "calibration-error"}
ON_WEIGHTS = {name for name in FUNCTIONAL if FUNCTIONAL[name]().places}


@pytest.mark.parametrize("name", sorted(FUNCTIONAL))
def test_card_is_complete_and_says_what_kind_it_is(name):
    probe = FUNCTIONAL[name]()
    info = probe.info
    assert info.name == name
    assert info.kind == "functional"
    assert all((info.title, info.formula, info.citation, info.convention, info.traps, info.cost))
    assert info.range[0] < info.range[1]
    assert info.invariances == frozenset()
    if probe.networks == 2:
        assert info.direction in ("similarity", "distance")
        assert info.symmetric is not None
    else:
        assert probe.networks == 1
        assert (info.direction, info.symmetric, info.metric) == (None, None, False)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONAL) - ON_SCORES - ON_WEIGHTS))
def test_a_network_of_which_only_scores_are_known_has_no_value_and_the_reason_is_its_own(name):
    task = Task(np.arange(20) % 2, np.zeros((20, 3)))
    probe = FUNCTIONAL[name]()
    why = Undefined("its activity settles by sampling")
    nets = [Subject(np.eye(2)[task.y], model=why) for _ in range(probe.networks)]
    assert probe.value(task, *nets) is why


@pytest.mark.parametrize("name", sorted(n for n in ON_SCORES if FUNCTIONAL[n]().networks == 2))
def test_symmetric_measures_of_scores_do_not_depend_on_the_order(name):
    rng = np.random.default_rng(0)
    task = Task(np.arange(60) % 3)
    a, b = (Subject(np.eye(3)[task.y] + rng.standard_normal((60, 3))) for _ in range(2))
    probe = FUNCTIONAL[name]()
    assert probe.info.symmetric is True
    forward, backward = probe.value(task, a, b), probe.value(task, b, a)
    assert forward["value"] == pytest.approx(backward["value"], abs=1e-12)


def test_stimuli_and_a_layer_are_asked_for_where_they_are_needed():
    class Model:
        layers, chain = ("dense1",), ("dense1", "output")

    s = Subject(np.eye(2), model=Model())
    with pytest.raises(ProbeError, match=r"pass Task\(y, x\)"):
        FUNCTIONAL["hessian"]().value(Task(np.array([0, 1])), s)
    with pytest.raises(ProbeError, match="'dense9' is none of dense1"):
        FUNCTIONAL["jacobian-volume"]().value(Task(np.array([0, 1]), np.zeros((2, 3))), s.at("dense9"))


def test_maps_are_fitted_on_half_of_every_class():
    y = np.array([0] * 10 + [1] * 6 + [2] * 4)
    assert np.bincount(y[Task(y).fitting]).tolist() == [5, 3, 2]


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("stitching", {"by": "luck"}, "match, task"),
        ("stitching", {"steps": 0}, "steps=0"),
        ("stitching", {"ridge": 0}, "ridge"),
        ("head-swap", {"ridge": ()}, "ridge"),
        ("mode-connectivity", {"points": 2}, "points=2"),
        ("jacobian-volume", {"k": 0}, "k=0"),
        ("hessian", {"tolerance": 0}, "tolerance=0"),
        ("hessian", {"draws": 1}, "draws=1"),
        ("tangent-distance", {"points": 1}, "points=1"),
        ("kernel-velocity", {"points": 1}, "points=1"),
        ("weight-spectrum", {"low": 0}, "low=0"),
    ],
)
def test_settings_are_checked_once_when_the_probe_is_made(name, settings, said):
    with pytest.raises(ProbeError, match=said):
        FUNCTIONAL[name](**settings)
