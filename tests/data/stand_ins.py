"""Small stand-ins for published data sets: the same structure, a few examples, checksums computed on the spot."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from lab.datasets.table import DATASETS

SHAPES = ((40, 28, 28), (40,), (20, 28, 28), (20,))


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def npz(path, **changes):
    """A valid user set of 12 + 6 images 4×5×3 in 3 classes, with some arrays replaced (or, by None, left out)."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (12, 4, 5, 3), np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": rng.integers(0, 256, (6, 4, 5, 3), np.uint8),
        "y_test": np.arange(6) % 3,
    } | changes
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    return path


def small_idx_set(monkeypatch, folder, name: str, hashed: bool = True):
    """Write four small `.gz` files into `folder` and make the table's entry for `name` expect exactly them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, files, plain = np.random.default_rng(1), [], {}
    for file, shape in zip(DATASETS[name].files, SHAPES, strict=True):
        array = rng.integers(0, 256 if len(shape) == 3 else 10, shape, np.uint8)
        raw = plain[file.plain_name] = idx_bytes(array)
        packed = gzip.compress(raw, mtime=0)
        (folder / file.name).write_bytes(packed)
        sha256 = hashlib.sha256(raw).hexdigest() if hashed else None
        files.append(replace(file, md5=hashlib.md5(packed).hexdigest(), sha256=sha256, shape=shape))
    source = replace(DATASETS[name], files=tuple(files), train=40, test=20)
    monkeypatch.setitem(DATASETS, name, source)
    return SimpleNamespace(name=name, source=source, folder=folder, plain=plain)


def tar_gz(path, members: dict[str, bytes]):
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return path


def cifar_batches(rows: int = 4) -> dict[str, bytes]:
    """Six batches of `rows` images in the authors' layout; labels 0..rows-1."""
    rng = np.random.default_rng(2)
    batches = {}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        pixels = rng.integers(0, 256, (rows, 3072), np.uint8)
        batch = {b"batch_label": b"x", b"labels": list(range(rows)), b"data": pixels, b"filenames": [b"a.png"] * rows}
        batches[name] = pickle.dumps(batch, protocol=2)
    return batches
