"""Reading CIFAR-10 as its authors publish it: a tar.gz of Python pickles, opened without trusting them.

A pickle is a program: unpickling one can call any function. These need three harmless names of NumPy, so the unpickler
here knows those three and refuses the rest. Nothing is extracted to disk.
"""

import io
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np

from lab.errors import LabError, NotFound

FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = ("test_batch",)
SHAPE = (32, 32, 3)


def _empty_array(subtype: object, shape: tuple[int, ...], typecode: bytes | str) -> np.ndarray:
    """What NumPy's `_reconstruct` does: an array that the pickle then fills. Its real name is private and has moved."""
    return np.ndarray.__new__(np.ndarray, shape, typecode)


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into old pickle protocols; with any other codec it would be a way in."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return text.encode("latin1")


ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return ADMITTED[module, name]


def unpickle_batch(raw: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `N×32×32×3` and labels int64 `(N,)` in 0..9 of one batch, whose file is called `name`.

    Raises LabError, naming the file, for a pickle that wants anything but arrays, bytes, strings, numbers, lists and
    dictionaries, and for contents of the wrong type, shape or range.
    """
    try:
        batch = _ArraysOnly(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:  # a damaged or hostile pickle can raise nearly anything
        raise LabError(f"{name}: refused to unpickle: {error or type(error).__name__}.") from None
    if not isinstance(batch, dict):
        raise LabError(f"{name}: expected a dictionary, found {type(batch).__name__}.")
    pixels, labels = (batch.get(key.encode(), batch.get(key)) for key in ("data", "labels"))
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[1:] == (3072,)):
        found = f"{pixels.dtype}{pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise LabError(f"{name}: expected 'data' to be uint8 rows of 3072, found {found}.")
    if not (isinstance(labels, list) and all(type(y) is int and 0 <= y <= 9 for y in labels)):
        raise LabError(f"{name}: expected 'labels' to be a list of integers 0..9.")
    if len(labels) != len(pixels):
        raise LabError(f"{name}: expected as many labels as images, found {len(labels)} and {len(pixels)}.")
    # A row holds the red plane, then green, then blue; the lab keeps channels last.
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(labels, np.int64)


def read_cifar10(path: Path, train: int, test: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """train images, train labels, test images, test labels of the archive at `path`, which must hold so many of each.

    Images uint8 `N×32×32×3`, labels int64 in 0..9. Raises NotFound without the file; LabError when the archive is
    truncated or damaged, lacks a batch, or holds another number of examples.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            wanted = {f"{FOLDER}/{name}": name for name in TRAIN + TEST}
            batches = {
                wanted[member.name]: unpickle_batch(archive.extractfile(member).read(), f"{path}: {member.name}")
                for member in archive
                if member.name in wanted and member.isreg()
            }
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file.") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise LabError(f"{path}: expected a whole tar.gz archive, found damage ({error}).") from None
    if missing := [name for name in TRAIN + TEST if name not in batches]:
        raise LabError(f"{path}: expected {FOLDER}/{missing[0]}, found {len(batches)} of 6 batches.")
    arrays = []
    for half, names, count in (("training", TRAIN, train), ("test", TEST, test)):
        x = np.concatenate([batches[name][0] for name in names])
        if len(x) != count:
            raise LabError(f"{path}: expected {count} {half} images, found {len(x)}.")
        arrays += [x, np.concatenate([batches[name][1] for name in names])]
    return tuple(arrays)
