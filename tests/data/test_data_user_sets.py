"""The user's own sets: what is accepted, in which form it comes back, and every refusal."""

import numpy as np
import pytest
from stand_ins import npz

from lab.datasets.sources import load
from lab.datasets.user_sets import add, describe, read_npz, user_path
from lab.errors import LabError, NotFound, UsageError


def test_add_and_load(tmp_path, data_home):
    path = npz(tmp_path / "own.npz")
    added = add("own.set-1", path)
    data = load("own.set-1")
    assert (data.name, data.classes, data.input_shape) == ("own.set-1", 3, (4, 5, 3))
    assert data.sha256 == added.sha256
    assert (data.train_x == np.load(path)["x_train"]).all()
    assert (data.train_x.dtype, data.train_y.dtype, data.test_y.tolist()) == (np.uint8, np.int32, [0, 1, 2, 0, 1, 2])
    assert [p.name for p in data_home.iterdir()] == ["own.set-1.npz"]
    assert describe(user_path("own.set-1")) == (12, 6, (4, 5, 3), 3)


@pytest.mark.parametrize(("shape", "stored"), [((7,), (1, 7, 1)), ((4, 5), (4, 5, 1)), ((4, 5, 3), (4, 5, 3))])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16, np.bool_])
def test_admitted_shapes_and_dtypes(tmp_path, shape, stored, dtype):
    x = np.random.default_rng(0).integers(0, 2, (12, *shape)).astype(dtype)
    path = npz(tmp_path / "own.npz", x_train=x, x_test=x[:6])
    data = read_npz("own", path)
    assert data.input_shape == stored == describe(path)[2]
    assert data.train_x.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    assert (data.train_x.reshape(x.shape) == x).all()


def test_the_other_key_order_and_extra_keys_are_accepted(tmp_path):
    arrays = dict(np.load(npz(tmp_path / "own.npz")))
    swapped = {"_".join(reversed(key.split("_"))): array for key, array in arrays.items()}
    np.savez_compressed(tmp_path / "swapped.npz", **swapped, notes=np.array("by me"))
    assert read_npz("a", tmp_path / "swapped.npz").sha256 == read_npz("b", tmp_path / "own.npz").sha256


X = np.zeros((12, 4, 5, 3), np.float32)
NAN = X.copy()
NAN[7, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"y_test": None}, r"expected the arrays x_train, y_train, x_test and y_test, found x_test, x_train, y_train"),
        ({"y_train": np.array(list("abc" * 4))}, r"expected y_train to be integers of shape \(N,\), found <U1"),
        ({"y_train": np.arange(12) % 3 + 1}, r"classes in y_train to be 0..2, found 1, 2, 3.*numpy.unique"),
        ({"y_train": np.arange(12) % 3 * 5}, r"0..2, found 0, 5, 10"),
        ({"y_train": np.arange(12) % 3 - 1}, r"0..2, found -1, 0, 1"),
        ({"y_train": np.arange(12) % 3 * 1.0}, r"y_train to be integers .* found float64"),
        ({"y_train": np.eye(12, dtype=int)}, r"y_train to be integers of shape \(N,\), found int64\(12, 12\)"),
        ({"y_train": np.zeros(12, int)}, r"at least 2 classes in y_train"),
        ({"y_train": np.arange(11) % 3}, r"as many labels in y_train as images, found 11 and 12"),
        ({"y_test": np.arange(6)}, r"labels 0..2 in y_test, .*found 0..5"),
        (
            {"x_train": NAN, "x_test": X[:6]},
            r"finite float32 values in x_train, found .* in 1 of 12 rows, first in row 7",
        ),
        (
            {"x_train": X, "x_test": X[:6].astype(float) + 1e300},
            r"finite float32 values in x_test, found .* in 6 of 6 rows",
        ),
        ({"x_train": X.astype(object)}, r"x_train to be an array of numbers, found one of Python objects"),
        ({"y_train": np.array([0, 1, None] * 4)}, r"y_train to be an array of integers, found one of Python objects"),
        ({"x_train": X.astype(np.int64)}, r"x_train to be uint8 \(pixels 0..255\) or floats, found int64"),
        ({"x_train": X[..., None]}, r"x_train to be N×H×W×C, N×H×W or N×D, found 5 axes"),
        ({"x_train": X[:, 0, 0, 0]}, r"found 1 axes"),
        ({"x_train": X}, r"x_train and x_test alike, found float32 4×5×3 and uint8 4×5×3"),
        ({"x_test": np.zeros((6, 4, 4, 3), np.uint8)}, r"alike, found uint8 4×5×3 and uint8 4×4×3"),
        ({"x_test": np.zeros((0, 4, 5, 3), np.uint8)}, r"x_test is empty"),
    ],
)
def test_unfit_contents_are_refused(tmp_path, data_home, changes, complaint):
    path = npz(tmp_path / "unfit.npz", **changes)
    with pytest.raises(LabError, match=rf"unfit\.npz: .*{complaint}") as caught:
        add("own", path)
    assert caught.value.exit_code == 1
    assert not data_home.exists()


def test_an_undivided_set_is_refused_with_the_way_to_divide_it(tmp_path):
    np.savez(tmp_path / "whole.npz", X=X, y=np.zeros(12))
    with pytest.raises(LabError, match=r"whole\.npz: .*found X, y\. .*numpy\.savez\(FILE, x_train=x\[1000:\]"):
        add("own", tmp_path / "whole.npz")


def test_what_is_not_an_npz_is_refused(tmp_path):
    with pytest.raises(NotFound, match=r"nowhere\.npz: no such file"):
        add("own", tmp_path / "nowhere.npz")
    whole = npz(tmp_path / "own.npz").read_bytes()
    np.save(tmp_path / "array.npy", X)
    for raw in (b"", b"text", whole[: len(whole) // 2], (tmp_path / "array.npy").read_bytes()):
        (tmp_path / "own.npz").write_bytes(raw)
        with pytest.raises(LabError, match=r"own\.npz: expected an \.npz file, as numpy\.savez writes them"):
            add("own", tmp_path / "own.npz")


def test_flipped_bytes_are_noticed(tmp_path):
    path = npz(tmp_path / "own.npz")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 8] ^= 255  # inside the pixels of x_train
    path.write_bytes(raw)
    with pytest.raises(LabError, match=r"own\.npz: .*CRC"):
        read_npz("own", path)


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a/b", "../x", "a b", "é", "x" * 65, "a\n"])
def test_unsafe_names_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="cannot name a data set"):
        add(name, npz(tmp_path / "own.npz"))
    with pytest.raises(UsageError, match="There is no data set"):
        load(name)


@pytest.mark.parametrize("name", ["mnist", "MNIST", "cifar10"])
def test_known_names_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="knows already"):
        add(name, npz(tmp_path / "own.npz"))


def test_replacing_needs_force(tmp_path):
    first = npz(tmp_path / "first.npz")
    other = npz(tmp_path / "other.npz", y_test=np.zeros(6, int))
    stored = add("own", first)
    np.savez_compressed(tmp_path / "same.npz", **np.load(first))
    assert add("own", tmp_path / "same.npz").sha256 == stored.sha256
    with pytest.raises(UsageError, match=r"own\.npz exists and holds other data than .*other\.npz.*--force"):
        add("own", other)
    assert load("own").sha256 == stored.sha256
    assert add("own", other, force=True).sha256 == load("own").sha256 != stored.sha256


def test_a_damaged_set_of_ones_own_is_refused_and_replaced_by_force(tmp_path):
    path = npz(tmp_path / "own.npz")
    add("own", path)
    user_path("own").write_bytes(b"gone")
    with pytest.raises(LabError, match=r"own\.npz: expected an \.npz file"):
        load("own")
    with pytest.raises(UsageError, match="--force"):
        add("own", path)
    assert add("own", path, force=True).sha256 == load("own").sha256


def test_a_near_miss_of_ones_own_name_is_suggested(tmp_path):
    add("shapes", npz(tmp_path / "own.npz"))
    with pytest.raises(UsageError, match=r"Did you mean 'shapes'\?"):
        load("shape")
