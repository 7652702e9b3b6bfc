"""A request has one text, one id, and survives the disk."""

import dataclasses
import json
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runs import RunDamaged, RunSpec, StoreTooNew, canonical, diff, from_json, run_id, to_json
from runs.files import canonical_json, readable_json

SIZES = st.integers(min_value=1, max_value=2**70)
SPECS = st.integers(min_value=1, max_value=4).flatmap(
    lambda n: st.builds(
        RunSpec,
        **dict.fromkeys(("rule", "arch", "optimizer", "data", "data_sha256", "precision"), st.text()),
        **dict.fromkeys(("train_size", "validation_size", "epochs", "batch", "cohort"), SIZES),
        seeds=st.lists(st.integers(), min_size=n, max_size=n, unique=True),
        order_seeds=st.lists(st.integers(), min_size=n, max_size=n),
        sources=st.lists(st.tuples(st.text(), st.text()), max_size=2),
    )
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(derandomize=True, deadline=None)
@given(SPECS)
def test_a_spec_survives_json(spec):
    assert from_json(to_json(spec)) == from_json(canonical(spec)) == spec
    assert canonical(from_json(to_json(spec))) == canonical(spec)


@settings(derandomize=True, deadline=None)
@given(SPECS)
def test_an_id_is_a_safe_folder_name(spec):
    name = run_id(spec)
    assert set(name) <= set(string.ascii_lowercase + string.digits + "_-")
    assert name[0].isalnum()
    assert len(name) <= 71


@settings(derandomize=True, deadline=None)
@given(VALUES)
def test_canonical_json_has_one_spelling(value):
    text = canonical_json(value)
    assert text.isascii()
    assert canonical_json(json.loads(text)) == text
    assert canonical_json(json.loads(readable_json(value))) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("-inf")], np.float32("nan")])
def test_what_json_cannot_say_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


def test_golden_id(ask):
    # This id must never change. It is how a store tells that a request has been computed already: were it to drift,
    # every run kept so far would be lost to its own request and trained again, in silence. A new field needs a new
    # `format`, and a way to give requests that do not use it the id they always had.
    assert canonical(ask()) == (
        '{"arch":"mlp(256, 128, act=\'relu\')","batch":128,"cohort":2,"data":"mnist","data_sha256":"' + "ab" * 32 + '",'
        '"epochs":5,"format":1,"optimizer":"adam(lr=0.001)","order_seeds":[0,1,2],"precision":"float32",'
        '"rule":"fa(scale=1.0)","seeds":[0,1,2],"sources":[],"train_size":60000,"validation_size":0}'
    )
    assert run_id(ask()) == "fa-mnist-mlp-256-128-edb73ce190"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(RunSpec) if field.name != "format"])
def test_every_field_is_part_of_the_id(ask, field):
    old = getattr(ask(), field)
    if field == "sources":
        new = (("rule", "cd" * 32),)
    elif isinstance(old, tuple):
        new = (*old[:-1], 9)
    else:
        new = old + ("x" if isinstance(old, str) else 1)
    assert run_id(ask(**{field: new})) != run_id(ask())
    assert diff(ask(), ask(**{field: new})) == {field: (old, new)}


def test_the_same_request_in_other_types_has_the_same_id(ask):
    other = ask(seeds=[np.int64(0), 1, 2], order_seeds=np.arange(3), epochs=np.int32(5), sources=[])
    assert other == ask()
    assert run_id(other) == run_id(ask())
    assert diff(other, ask()) == {}
    a, b = ("rule", "a"), ("probe", "b")
    assert ask(sources=[a, b]) == ask(sources=[b, a])


@pytest.mark.parametrize(
    ("rule", "arch", "start"),
    [
        ("./my_rule.py", "mlp(10)", "my_rule-mnist-mlp-10-"),
        ("../a b/Ünsafe$.py(x=1)", "conv(8, 16, 32)", "nsafe-mnist-conv-8-16-32-"),
        ("bp", "transformer", "bp-mnist-transformer-"),
        ("../..", "///", "mnist-"),
    ],
)
def test_the_readable_part_of_an_id(ask, rule, arch, start):
    assert run_id(ask(rule=rule, arch=arch)).startswith(start)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": (), "order_seeds": ()}, "at least one"),
        ({"order_seeds": (0,)}, "1 of them for 3"),
        ({"seeds": (0, 0, 1), "order_seeds": (5, 5, 5)}, "twice"),
        ({"epochs": -1}, "below"),
        ({"batch": 0}, "below"),
        ({"epochs": 1.5}, "integer"),
        ({"epochs": True}, "integer"),
        ({"rule": 3}, "text"),
        ({"seeds": "012"}, "several"),
        ({"seeds": 3}, "several"),
        ({"sources": [("rule",)]}, "pairs"),
    ],
)
def test_impossible_requests_are_refused(ask, changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        ask(**changes)


def test_one_initialisation_may_see_several_orders(ask):
    assert ask(seeds=(7, 7, 7), order_seeds=(0, 1, 2)).seeds == (7, 7, 7)


@pytest.mark.parametrize("changes", [{"format": 2}, {"format": 2, "rule": None}, {"temperature": 1.0}])
def test_a_later_spec_asks_for_an_upgrade(ask, changes):
    text = json.dumps({**dataclasses.asdict(ask()), **changes})
    with pytest.raises(StoreTooNew, match="Upgrade"):
        from_json(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", "\x00", "[" * 100_000, b"\xff\xfe{"])
def test_what_is_no_spec_is_damage(text):
    with pytest.raises(RunDamaged, match=r"here\.json is damaged"):
        from_json(text, "here.json")


@pytest.mark.parametrize("changes", [{"epochs": "5"}, {"seeds": [0]}, {"format": "one"}, {"sources": [1]}])
def test_a_spec_with_wrong_values_is_damage(ask, changes):
    with pytest.raises(RunDamaged):
        from_json(json.dumps({**dataclasses.asdict(ask()), **changes}))
