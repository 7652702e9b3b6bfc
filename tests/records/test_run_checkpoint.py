"""Arrays come back from disk bit for bit and in their structure, or not at all."""

import json
import subprocess
import sys
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runs import (
    RunDamaged,
    RunNotFound,
    checkpoint_name,
    flatten,
    list_checkpoints,
    load,
    load_checkpoint,
    resume_name,
    save,
    unflatten_like,
)

ODD_NAN = np.array([0x7FC00001, 0xFFC12345], np.uint32).view(np.float32)


class Moments(NamedTuple):
    mu: Any
    nu: Any


class Nothing(NamedTuple):
    pass


class State(NamedTuple):
    inner: Any
    count: Any


def a_tree() -> dict:
    return {
        "params": {"blocks": [{"W": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": ODD_NAN}]},
        "opt": (State(Moments({"W": np.float64([-0.0, 5e-324])}, ()), np.int32(7)), Nothing(), None),
        "key": np.array([2**32 - 1, 3], np.uint32),
        "mask": np.array([True, False]),
        "half": np.array([1.5, -2], ml_dtypes.bfloat16),
        "none": np.zeros((0, 4), np.float16),
        "scalar": np.array(3.0, np.float32),
        "wave": np.array([1 + 2j], np.complex64),
        5: np.int8([1]),
        "a/b~c": np.uint64([2**64 - 1]),
    }


def assert_same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].shape == b[name].shape, name
        assert a[name].tobytes() == b[name].tobytes(), name


def test_names_say_where_a_leaf_is():
    assert list(flatten(a_tree())) == [
        "params/blocks/0/W",
        "params/blocks/0/b",
        "opt/0/inner/mu/W",
        "opt/0/count",
        "key",
        "mask",
        "half",
        "none",
        "scalar",
        "wave",
        "5",
        "a~1b~0c",
    ]


def test_a_tree_comes_back_bit_for_bit(tmp_path):
    tree = a_tree()
    save(tmp_path / "a.safetensors", flatten(tree), {"step": "7", "π": "≈ 3"})
    arrays, metadata = load(tmp_path / "a.safetensors")
    assert metadata == {"step": "7", "π": "≈ 3"}
    assert_same_bits(arrays, flatten(tree))
    back = unflatten_like(tree, arrays)
    assert_same_bits(flatten(back), flatten(tree))
    assert isinstance(back["opt"][0].inner, Moments)
    assert back["opt"][0].inner.nu == ()
    assert back["opt"][1:] == (Nothing(), None)
    assert isinstance(back["params"]["blocks"], list)
    assert list(back) == list(tree)
    back["key"][0] = 1  # what was loaded may be changed


LEAVES = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.uint32, np.int32, np.bool_, np.int64]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
TREES = st.recursive(
    LEAVES | st.none(),
    lambda inner: st.one_of(
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.builds(Moments, inner, inner),
    ),
    max_leaves=6,
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(tree=TREES)
def test_any_tree_comes_back(tree, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    save(path, flatten(tree))
    arrays, _ = load(path)
    assert_same_bits(arrays, flatten(tree))
    assert_same_bits(flatten(unflatten_like(tree, arrays)), flatten(tree))


def test_a_checkpoint_is_a_safetensors_file_that_others_can_open(tmp_path):
    save(tmp_path / "a.safetensors", {"W": np.eye(2)})
    assert np.array_equal(safetensors.numpy.load_file(tmp_path / "a.safetensors")["W"], np.eye(2))


SAVING = """
import sys, numpy as np
from runs import save
save(sys.argv[1], {n: np.ones(2) for n in "abcdef"}, {f"key{i}": "text" for i in range(12)})
"""


def test_equal_content_gives_equal_files_in_any_process(tmp_path):
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path in paths:
        subprocess.run([sys.executable, "-c", SAVING, str(path)], check=True)
    assert len({path.read_bytes() for path in paths}) == 1


def test_every_flipped_byte_and_every_cut_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    save(path, {"W": np.arange(4, dtype=np.float32), "n": np.array(3, np.int32)}, {"step": "1"})
    whole = path.read_bytes()
    for at in range(len(whole)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x01]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(RunDamaged, match=r"a\.safetensors is damaged"):
                load(path)
    retyped, renamed = whole.replace(b'"F32"', b'"I32"'), whole.replace(b'"W":{', b'"V":{')
    for damaged in (whole + b"\0", retyped, renamed):
        assert damaged != whole
        path.write_bytes(damaged)
        with pytest.raises(RunDamaged):
            load(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    safetensors.numpy.save_file({"W": np.ones(2)}, tmp_path / "a")
    with pytest.raises(RunDamaged, match="not one of ours"):
        load(tmp_path / "a")
    entry = {"lab": json.dumps({"sha256": "0", "metadata": {"x": float("nan")}})}
    safetensors.numpy.save_file({"W": np.ones(2)}, tmp_path / "a", metadata=entry)
    with pytest.raises(RunDamaged, match="not one of ours"):
        load(tmp_path / "a")


def test_what_cannot_be_kept_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match=r"W: .*complex128"):
        save(tmp_path / "a", {"W": np.zeros(2, np.complex128)})
    with pytest.raises(TypeError, match=r"a/f: .*function"):
        flatten({"a": {"f": flatten}})
    with pytest.raises(ValueError, match="read alike"):
        flatten({0: np.ones(1), "0": np.ones(1)})
    with pytest.raises(TypeError, match="text to text"):
        save(tmp_path / "a", {}, {"step": 3})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("b/0/x"), "b/0/x is not stored"),
        (lambda a: a.update({"b/0/x": np.ones(2, np.float32)}), r"b/0/x is stored with shape \(2,\).*needs \(3,\)"),
        (lambda a: a.update({"b/0/x": np.ones(3)}), "b/0/x is stored as float64.*needs float32"),
        (lambda a: a.update({"c": np.ones(3)}), "c is stored, but"),
    ],
)
def test_a_mismatch_names_the_first_leaf(change, words):
    template = {"a": np.int32(1), "b": [{"x": np.zeros(3, np.float32)}], "z": np.zeros(1)}
    arrays = flatten(template)
    change(arrays)
    with pytest.raises(RunDamaged, match=words):
        unflatten_like(template, arrays)


def test_a_template_needs_only_shapes():
    class Outline:
        shape, dtype = (2,), np.dtype(np.float32)

    assert unflatten_like([Outline(), Nothing()], {"0": np.ones(2, np.float32)})[0].tolist() == [1, 1]


def test_a_lone_array_is_a_tree(tmp_path):
    save(tmp_path / "a", flatten(np.float32(2)))
    assert unflatten_like(np.float32(0), load(tmp_path / "a")[0]) == 2


def test_checkpoints_are_listed_by_step(tmp_path):
    assert checkpoint_name(0, 430) == "checkpoints/cohort0-step00000430.safetensors"
    assert resume_name(3) == "resume/cohort3.safetensors"
    assert list_checkpoints(tmp_path, 1) == []
    for cohort, step in [(1, 1000), (1, 0), (1, 30), (11, 5), (0, 7), (1, 123456789)]:
        save(tmp_path / checkpoint_name(cohort, step), {"step": np.array(step)})
    (tmp_path / "checkpoints" / ".cohort1-step00000001.safetensors.9-ab.part").touch()
    assert list_checkpoints(tmp_path, 1) == [0, 30, 1000, 123456789]
    assert load_checkpoint(tmp_path, 1, 30)[0]["step"] == 30
    with pytest.raises(RunNotFound, match="it has steps 0, 30, 1000"):
        load_checkpoint(tmp_path, 1, 31)
    with pytest.raises(RunNotFound, match="none for that cohort"):
        load_checkpoint(tmp_path, 2, 31)
