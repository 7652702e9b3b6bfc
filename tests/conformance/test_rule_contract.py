"""What every rule's card says, and the streams of random numbers that pair the rules."""

import dataclasses
import inspect
import re

import jax
import numpy as np
import pytest

from algorithms import RULES
from algorithms.rule import LOSSES
from lab.networks import NONLINEARITIES
from lab.streams import INIT, NOISE, ORDER, RULE, stream


@pytest.mark.parametrize("name", RULES)
def test_every_rule_says_what_it_is(name):
    info = RULES[name]().info
    said = {k: v for k, v in dataclasses.asdict(info).items() if isinstance(v, str)}
    assert all(text.strip() for text in said.values())
    assert all(isinstance(text, str) and text.strip() for text in info.deviations)
    assert info.name == name
    assert info.loss in LOSSES
    assert info.nonlinearity in NONLINEARITIES
    assert re.match(r"\d|L\+\d", info.passes)


@pytest.mark.parametrize("name", RULES)
def test_a_knob_is_a_setting_with_two_other_values(name):
    factory = RULES[name]
    knob = factory().info.knob
    if knob is not None:
        default = inspect.signature(factory).parameters[knob[0]].default
        assert len({default, *knob[1]}) == 3
        for value in knob[1]:
            factory(**{knob[0]: value})


@pytest.mark.parametrize("name", RULES)
def test_every_setting_is_documented(name):
    for setting in inspect.signature(RULES[name]).parameters:
        described = (RULES[name].__doc__ or "").partition("Args:")[2].partition("\n\n")[0]
        assert re.search(rf"\b{setting}\b[^:\n]*:", described), setting


def test_streams_are_told_apart_by_seed_name_and_step():
    keys = [stream(seed, name, step) for seed in (0, 1) for name in (INIT, ORDER, RULE, NOISE) for step in (None, 0, 1)]
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == len(keys)
