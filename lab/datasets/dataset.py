"""What a data set is once it is in memory, and how its training half is divided for model selection.

Every set has one form: images `N×H×W×C`, labels `0..classes-1`. Vectors of length D are images of one row, `N×1×D×1`.
Pixels stay uint8 (a quarter of the memory, and what the files hold); `as_float` is the one place that scales them.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from lab.errors import UsageError

SPLIT_SEED = 20260101
"""Seeds the order in which `split` deals the training rows. It belongs to the data, not to any run: changing it makes
every stored validation score incomparable with new ones, so it never changes."""

DEFAULT_VALIDATION = 5000


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory. Arrays are read-only and C-contiguous.

    train_x, test_x: uint8 in 0..255, or finite float32 in the set's own units; `N×H×W×C`, the same dtype and `H×W×C`.
    train_y, test_y: int32 `(N,)` in `0..classes-1`; every class occurs in train_y.
    sha256: hex digest of the four arrays, their dtypes and shapes (see `content_hash`); the name is not part of it.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int
    sha256: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of one example."""
        return tuple(self.train_x.shape[1:])


@dataclass(frozen=True, eq=False)
class Split:
    """The training half of a data set, divided. Shapes and dtypes as in `Dataset`; the test half has no part in it."""

    train_x: np.ndarray
    train_y: np.ndarray
    validation_x: np.ndarray
    validation_y: np.ndarray


def make_dataset(
    name: str, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, classes: int
) -> Dataset:
    """A `Dataset` from arrays already in the canonical form, hashed and made read-only. Labels become int32.

    The caller has checked the contents; what is checked here (ValueError) is what no reader may get wrong.
    """
    arrays = {
        "train_x": np.ascontiguousarray(train_x),
        "train_y": np.ascontiguousarray(train_y, np.int32),
        "test_x": np.ascontiguousarray(test_x),
        "test_y": np.ascontiguousarray(test_y, np.int32),
    }
    for half in ("train", "test"):
        x, y = arrays[f"{half}_x"], arrays[f"{half}_y"]
        if x.ndim != 4 or x.dtype not in (np.uint8, np.float32) or y.shape != x.shape[:1]:
            raise ValueError(f"{name}: {half} is {x.dtype}{x.shape} with labels {y.shape}")
    for array in arrays.values():
        array.flags.writeable = False
    return Dataset(name=name, **arrays, classes=classes, sha256=content_hash(**arrays))


def content_hash(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> str:
    """SHA-256 over the arrays in this order, each preceded by one line `name dtype shape`, little-endian, C order.

    The same numbers give the same hash whatever file or compression they came from.
    """
    digest = hashlib.sha256()
    for field, array in (("train_x", train_x), ("train_y", train_y), ("test_x", test_x), ("test_y", test_y)):
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        shape = "x".join(str(n) for n in array.shape)
        digest.update(f"{field} {array.dtype.str} {shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def as_float(x):
    """uint8 pixels as float32 in [0, 1]; float32 is returned as it is. Takes a NumPy or a JAX array of any shape."""
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x


def split(dataset: Dataset, validation_size: int | None = None, train_size: int | None = None) -> Split:
    """Divide the training rows into train and validation, the same way for every seed, rule and machine.

    validation_size: rows held out, 0 for none; by default 5000, or a sixth of the training rows where that is fewer.
    train_size: rows to train on, at least 1; by default all that remain.

    Rows are dealt in one fixed order (`balanced_order`): training takes them from its start, validation from its end.
    Hence the two are disjoint, both keep the class proportions to within a row per class, a smaller `train_size` is a
    subset of a larger one, and the rows of `train_size=1000` are the same whatever is held out.

    Raises UsageError when a size is out of range; the message gives the maximum.
    """
    rows = len(dataset.train_y)
    held = min(DEFAULT_VALIDATION, rows // 6) if validation_size is None else validation_size
    if not 0 <= held <= rows - 1:
        raise UsageError(
            f"{dataset.name}: a validation set of {held} is impossible; at most {rows - 1} of its {rows} "
            "training rows can be held out (0 holds out none)."
        )
    kept = rows - held if train_size is None else train_size
    if not 1 <= kept <= rows - held:
        raise UsageError(
            f"{dataset.name}: a training set of {kept} is impossible; with {held} of its {rows} training rows held "
            f"out for validation, the size is 1 to {rows - held}."
        )
    order = balanced_order(dataset.train_y)
    train, validation = order[:kept], order[rows - held :][::-1]
    return Split(
        train_x=dataset.train_x[train],
        train_y=dataset.train_y[train],
        validation_x=dataset.train_x[validation],
        validation_y=dataset.train_y[validation],
    )


def balanced_order(labels: np.ndarray) -> np.ndarray:
    """A fixed permutation of `range(len(labels))`, int64, whose every prefix and suffix has the classes in proportion.

    Within a class the rows are shuffled; the row of rank r among n stands at position (r + 1/2)/n of the whole. A
    prefix cuts all classes at the same position, so a class of n rows contributes n·t rounded to the nearest row.
    """
    # Raw bits of the bit generator: NumPy promises never to change them, while `Generator.permutation` may change.
    chance = np.random.PCG64(SPLIT_SEED).random_raw(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(chance[members], kind="stable")]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    # Classes of one size tie at every position; chance decides, or class 0 would always come first.
    return np.lexsort((chance, position))
