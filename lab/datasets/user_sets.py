"""The user's own data sets: one `.npz` each, checked when it is added and again whenever it is loaded."""

import os
import re
import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np

from lab.datasets.dataset import Dataset, make_dataset
from lab.datasets.folder import data_folder, staging
from lab.datasets.table import DATASETS
from lab.errors import LabError, NotFound, UsageError

KEYS = (("x_train", "y_train", "x_test", "y_test"), ("train_x", "train_y", "test_x", "test_y"))
NEEDED = "x_train, y_train, x_test and y_test"
# What a damaged file can raise: MemoryError when its header states an absurd shape, KeyError for an unknown version.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)


def is_safe_name(name: str) -> bool:
    """Letters, digits, `.`, `_` and `-`, at most 64, starting with a letter or digit: fit to be a file's name."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) is not None


def user_path(name: str) -> Path:
    """Where the user's set of this name is kept, present or not."""
    return data_folder() / f"{name}.npz"


def user_sets() -> dict[str, Path]:
    """The user's sets by name, sorted; a file that shadows a known set or has an unsafe name is not among them."""
    found = {path.stem: path for path in sorted(data_folder().glob("*.npz")) if path.is_file()}
    return {name: path for name, path in found.items() if is_safe_name(name) and name not in DATASETS}


def add(name: str, npz_path: Path | str, force: bool = False) -> Dataset:
    """Check the user's `.npz` (see `read_npz`), copy it into the data folder under `name`, and return what it holds.

    Adding the same arrays again changes nothing. Other arrays under a name in use are refused without `force`.
    Raises UsageError for an unfit or taken name, NotFound without the file, LabError for unfit contents.
    """
    if not is_safe_name(name):
        raise UsageError(f"'{name}' cannot name a data set: use letters, digits, '.', '_' and '-' (at most 64).")
    if name.lower() in DATASETS:
        raise UsageError(f"'{name}' is a data set that the lab knows already; choose another name.")
    dataset, target = read_npz(name, Path(npz_path)), user_path(name)
    if target.exists():
        if _stored_hash(name, target) == dataset.sha256:
            return dataset
        if not force:
            raise UsageError(
                f"{target} exists and holds other data than {npz_path}; "
                "choose another name, or replace it with --force."
            )
    with staging(data_folder()) as aside:
        shutil.copyfile(npz_path, aside / target.name)
        os.replace(aside / target.name, target)
    return dataset


def _stored_hash(name: str, path: Path) -> str | None:
    try:
        return read_npz(name, path).sha256
    except LabError:
        return None  # damaged, so certainly other contents


def read_npz(name: str, path: Path) -> Dataset:
    """The data set in an `.npz` file, under `name`.

    It needs x_train, y_train, x_test, y_test (or train_x, train_y, test_x, test_y; other keys are ignored):
    images `N×H×W×C`, `N×H×W` (one channel) or vectors `N×D` (kept as `N×1×D×1`), either uint8, or finite floats, which
    become float32 and are otherwise left as they are; bool becomes 0. and 1. Labels: integers `(N,)`, 0..C-1 with
    every class in y_train, C at least 2.

    Raises NotFound without the file; LabError, naming the file, the key, what was expected and found, otherwise.
    """
    path = Path(path)
    keys, _ = _headers(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            x_train, y_train, x_test, y_test = (file[key] for key in keys)
    except UNREADABLE as error:
        raise LabError(f"{path}: cannot be read ({error}).") from None
    x_train, x_test = _images(path, keys[0], x_train), _images(path, keys[2], x_test)
    for key, x, y in ((keys[1], x_train, y_train), (keys[3], x_test, y_test)):
        if len(x) != len(y):
            raise LabError(f"{path}: expected as many labels in {key} as images, found {len(y)} and {len(x)}.")
    if x_train.shape[1:] != x_test.shape[1:] or x_train.dtype != x_test.dtype:
        shapes = [f"{x.dtype} {'×'.join(map(str, x.shape[1:]))}" for x in (x_train, x_test)]
        raise LabError(f"{path}: expected {keys[0]} and {keys[2]} alike, found {shapes[0]} and {shapes[1]}.")
    classes = _count_classes(path, keys, y_train, y_test)
    return make_dataset(name, x_train, y_train, x_test, y_test, classes)


def describe(path: Path) -> tuple[int, int, tuple[int, int, int], int]:
    """train count, test count, `(H, W, C)` and classes of the user's set at `path`, without reading its images.

    Raises NotFound or LabError as `read_npz` does, as far as headers and training labels can tell.
    """
    keys, headers = _headers(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            classes = int(file[keys[1]].max()) + 1
    except UNREADABLE as error:
        raise LabError(f"{path}: cannot be read ({error}).") from None
    return headers[keys[0]][0][0], headers[keys[2]][0][0], _canonical(headers[keys[0]][0])[1:], classes


def _headers(path: Path) -> tuple[tuple[str, ...], dict[str, tuple[tuple[int, ...], np.dtype]]]:
    """The four keys, in the file's own naming, and shape and dtype of each, with dtypes and ranks already judged.

    Only headers are read: an array of objects is a pickle, and is refused before anything could unpickle it.
    """
    headers, fmt = {}, np.lib.format
    try:
        with zipfile.ZipFile(path) as archive:
            present = [name.removesuffix(".npy") for name in archive.namelist()]
            keys = next((keys for keys in KEYS if set(keys) <= set(present)), None)
            if keys is None:
                raise LabError(_keys_message(path, present))
            for key in keys:
                with archive.open(f"{key}.npy") as member:
                    read = {(1, 0): fmt.read_array_header_1_0, (2, 0): fmt.read_array_header_2_0}
                    shape, _, dtype = read[fmt.read_magic(member)](member)
                headers[key] = (shape, dtype)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file.") from None
    except UNREADABLE as error:
        raise LabError(f"{path}: expected an .npz file, as numpy.savez writes them ({error}).") from None
    for key, (shape, dtype) in headers.items():
        labels = "y" in key.split("_")
        if dtype.hasobject:
            kind = "integers" if labels else "numbers"
            raise LabError(f"{path}: expected {key} to be an array of {kind}, found one of Python objects.")
        if labels and (dtype.kind not in "iu" or len(shape) != 1):
            raise LabError(
                f"{path}: expected {key} to be integers of shape (N,), found {dtype}{shape}. Names become integers "
                "with numpy.unique(labels, return_inverse=True)."
            )
        if not labels and dtype.kind != "f" and dtype not in (np.uint8, np.bool_):
            raise LabError(f"{path}: expected {key} to be uint8 (pixels 0..255) or floats, found {dtype}.")
        if not labels and len(shape) not in (2, 3, 4):
            raise LabError(f"{path}: expected {key} to be N×H×W×C, N×H×W or N×D, found {len(shape)} axes {shape}.")
        if 0 in shape:
            raise LabError(f"{path}: {key} is empty: its shape is {shape}.")
    return keys, headers


def _keys_message(path: Path, present: list[str]) -> str:
    found = ", ".join(sorted(present)) or "nothing"
    message = f"{path}: expected the arrays {NEEDED}, found {found}."
    if {"x", "y"} <= {key.lower() for key in present}:
        message += (
            " Which rows are the test set is yours to say: shuffle, then for instance "
            "numpy.savez(FILE, x_train=x[1000:], y_train=y[1000:], x_test=x[:1000], y_test=y[:1000])."
        )
    return message


def _canonical(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """`N×H×W×C` for any admitted shape: vectors are one row of D, images without channels have one."""
    if len(shape) == 2:
        return shape[0], 1, shape[1], 1
    return (*shape, 1)[:4]


def _images(path: Path, key: str, x: np.ndarray) -> np.ndarray:
    x = x.reshape(_canonical(x.shape))
    if x.dtype == np.uint8:
        return x
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is reported below
        x = x.astype(np.float32)
    bad = ~np.isfinite(x).all(axis=(1, 2, 3))
    if bad.any():
        raise LabError(
            f"{path}: expected finite float32 values in {key}, found nan or infinity in {bad.sum()} of {len(x)} rows, "
            f"first in row {bad.argmax()}."
        )
    return x


def _count_classes(path: Path, keys: tuple[str, ...], y_train: np.ndarray, y_test: np.ndarray) -> int:
    """The number of classes, having checked that they are 0..C-1."""
    found = np.unique(y_train)
    classes = len(found)
    if found[0] != 0 or found[-1] != classes - 1:
        some = ", ".join(map(str, found[:12])) + (", …" if classes > 12 else "")
        raise LabError(
            f"{path}: expected the {classes} classes in {keys[1]} to be 0..{classes - 1}, found {some}. "
            "Renumber with numpy.unique(y_train, return_inverse=True) and use the same numbers for y_test."
        )
    if classes < 2:
        raise LabError(f"{path}: expected at least 2 classes in {keys[1]}, found 1.")
    if y_test.min() < 0 or y_test.max() >= classes:
        raise LabError(
            f"{path}: expected labels 0..{classes - 1} in {keys[3]}, the classes of {keys[1]}; "
            f"found {y_test.min()}..{y_test.max()}."
        )
    return classes
