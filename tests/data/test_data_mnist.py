"""MNIST as packaged, against what is published about it; the split, against what it promises."""

import hashlib
import lzma

import numpy as np
import pytest

from lab.datasets.dataset import as_float, balanced_order, content_hash, make_dataset, split
from lab.datasets.sources import PACKAGE_FOLDER, find
from lab.datasets.table import DATASETS
from lab.errors import UsageError

# The split must never change: stored validation scores would silently stop being comparable. If this hash differs,
# the dealing of rows has changed (or NumPy broke its promise about raw bits); do not update it to make the test pass.
GOLDEN_SPLIT = "2441c6d98a60454b417fbb76e318bcaca8320082829a67a55d751e23ebcca457"


def tiny(rows=30, classes=3, dtype=np.uint8, labels=None):
    """Every image is constant and equal to its row number, so that rows can be told apart."""
    y = np.arange(rows) % classes if labels is None else np.asarray(labels)
    x = np.broadcast_to(np.arange(len(y)).reshape(-1, 1, 1, 1), (len(y), 2, 2, 1)).astype(dtype)
    return make_dataset("tiny", x, y, x[:classes], np.arange(classes), classes)


def rows_of(x):
    return x[:, 0, 0, 0].tolist()


def test_mnist_is_the_published_one(mnist):
    assert mnist.train_x.shape == (60000, 28, 28, 1)
    assert mnist.test_x.shape == (10000, 28, 28, 1)
    assert (mnist.train_x.dtype, mnist.train_y.dtype) == (np.uint8, np.int32)
    assert (mnist.classes, mnist.input_shape) == (10, (28, 28, 1))
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.train_y).tolist() == counts
    assert len(mnist.test_y) == 10000
    pixels = mnist.train_x / 255
    assert pixels.mean() == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std() == pytest.approx(0.3081, abs=5e-5)


def test_packaged_files_decompress_to_the_published_hashes():
    place = find(DATASETS["mnist"])
    for file, path in zip(DATASETS["mnist"].files, place.paths, strict=True):
        raw = lzma.decompress(path.read_bytes())
        assert hashlib.sha256(raw).hexdigest() == file.sha256
        assert file.sha256 in (PACKAGE_FOLDER / "MNIST-ATTRIBUTION.md").read_text()


def test_arrays_are_read_only(mnist):
    with pytest.raises(ValueError, match="read-only"):
        mnist.train_x[0] = 0


def test_content_hash_sees_values_shapes_and_dtypes_but_not_names(mnist):
    a = tiny()
    arrays = dict(train_x=a.train_x, train_y=a.train_y, test_x=a.test_x, test_y=a.test_y)
    assert content_hash(**arrays) == a.sha256 == make_dataset("other", **arrays, classes=3).sha256
    for field, other in (
        ("train_x", a.train_x.astype(np.float32)),
        ("train_x", a.train_x.reshape(-1, 1, 4, 1)),
        ("test_y", a.test_y[::-1]),
    ):
        assert content_hash(**arrays | {field: other}) != a.sha256
    big_endian = {field: array.astype(array.dtype.newbyteorder(">")) for field, array in arrays.items()}
    assert content_hash(**big_endian) == a.sha256


def test_make_dataset_refuses_what_no_reader_may_get_wrong():
    x, y = np.zeros((2, 1, 1, 1), np.uint8), np.zeros(2)
    for bad in ((x[..., 0], y), (x.astype(float), y), (x, y[:1])):
        with pytest.raises(ValueError, match="bad: train is"):
            make_dataset("bad", *bad, x, y, 1)


def test_as_float():
    pixels = np.array([0, 51, 255], np.uint8)
    assert as_float(pixels).dtype == np.float32
    assert as_float(pixels).tolist() == [0, np.float32(0.2), 1]
    floats = np.array([-3.5, 900], np.float32)
    assert as_float(floats) is floats


def test_split_of_mnist_is_the_same_for_ever(mnist):
    parts = split(mnist)
    assert (len(parts.train_y), len(parts.validation_y)) == (55000, 5000)
    digest = hashlib.sha256()
    for array in (parts.train_x, parts.train_y, parts.validation_x, parts.validation_y):
        digest.update(array.tobytes())
    assert digest.hexdigest() == GOLDEN_SPLIT


def test_split_is_stratified(mnist):
    parts = split(mnist, train_size=1000)
    of_class = np.bincount(mnist.train_y)
    for labels in (parts.train_y, parts.validation_y):
        assert np.abs(np.bincount(labels) - of_class * len(labels) / 60000).max() < 1


def test_every_prefix_and_suffix_is_balanced():
    labels = np.repeat([0, 1, 2], [50, 30, 7])
    order = balanced_order(labels)
    assert sorted(order) == list(range(87))
    for end in (order, order[::-1]):
        for n in range(1, 88):
            counts = np.bincount(labels[end[:n]], minlength=3)
            assert np.abs(counts - np.array([50, 30, 7]) * n / 87).max() < 1.5


def test_split_is_disjoint_whole_and_leaves_the_test_half_alone():
    data = tiny(rows=60)
    parts = split(data, validation_size=12)
    assert sorted(rows_of(parts.train_x) + rows_of(parts.validation_x)) == list(range(60))
    assert rows_of(parts.validation_x) != sorted(rows_of(parts.validation_x))
    assert (parts.train_y == np.array(rows_of(parts.train_x)) % 3).all()
    assert (parts.validation_y == np.array(rows_of(parts.validation_x)) % 3).all()


def test_smaller_sizes_are_subsets_whatever_else_is_asked():
    data = tiny(rows=60)
    whole = split(data, validation_size=12)
    small = split(data, validation_size=30, train_size=9)
    assert rows_of(small.train_x) == rows_of(whole.train_x)[:9]
    assert rows_of(split(data, validation_size=6).validation_x) == rows_of(whole.validation_x)[:6]


def test_split_is_independent_of_the_global_random_state():
    data = tiny(rows=60)
    before = rows_of(split(data).train_x)
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    after = rows_of(split(data).train_x)
    np.random.set_state(state)  # noqa: NPY002
    assert before == after


@pytest.mark.parametrize(("rows", "held"), [(3, 0), (30, 5), (60, 10)])
def test_default_validation_is_a_sixth_of_a_small_set(rows, held):
    assert len(split(tiny(rows=rows)).validation_y) == held


@pytest.mark.parametrize(
    ("sizes", "maximum"),
    [
        ({"validation_size": 30}, "at most 29"),
        ({"validation_size": -1}, "at most 29"),
        ({"train_size": 26}, "1 to 25"),
        ({"train_size": 0}, "1 to 25"),
        ({"validation_size": 0, "train_size": 31}, "1 to 30"),
    ],
)
def test_impossible_sizes_are_refused_with_the_maximum(sizes, maximum):
    with pytest.raises(UsageError, match=maximum):
        split(tiny(rows=30), **sizes)
