"""Reading IDX files, the format of MNIST and its successors: plain, gzip or xz, uint8 only, nothing taken on trust.

The format: two zero bytes, a type code (8 is uint8), the number of axes, a big-endian 32-bit size per axis, the values.
"""

import gzip
import hashlib
import lzma
import math
import zlib
from pathlib import Path

import numpy as np

from lab.errors import LabError, NotFound

UINT8 = 8
OPENERS = {".gz": gzip.open, ".xz": lzma.open}


def read_idx(path: Path, shape: tuple[int, ...] | None = None, sha256: str | None = None) -> np.ndarray:
    """The uint8 array of an IDX file, read-only.

    shape: what the array must be. sha256: what the decompressed file must hash to. Both are optional.
    Raises NotFound when there is no such file; LabError, naming the file and what was expected and found, when it is
    truncated, too long, damaged, not IDX, not uint8, of another shape, or of another hash.
    """
    raw = read_bytes(path, limit=None if shape is None else 4 + 4 * len(shape) + math.prod(shape))
    array = parse_idx(raw, str(path), shape)
    if sha256 is not None and (found := hashlib.sha256(raw).hexdigest()) != sha256:
        raise LabError(f"{path}: wrong contents: expected sha256 {sha256} (decompressed), found {found}.")
    return array


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """The file's bytes, decompressed by its suffix (`.gz`, `.xz`, otherwise as they are); at most `limit` + 1 of them.

    The limit keeps a small hostile archive from filling the memory; one byte more shows that the file is too long.
    Raises NotFound when it is missing; LabError when the compressed data are truncated or damaged.
    """
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as file:
            return file.read(-1 if limit is None else limit + 1)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file.") from None
    except EOFError:
        raise LabError(f"{path}: truncated: expected more {path.suffix[1:]} data, found the end of the file.") from None
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise LabError(f"{path}: expected {path.suffix[1:]} data, found damage ({error}).") from None
    except OSError as error:
        raise LabError(f"{path}: cannot be read ({error.strerror or error}).") from None


def parse_idx(raw: bytes, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The array in the bytes of an IDX file: uint8, as many axes as the header says, a view of `raw`.

    `name` is what the LabError calls the file, when magic number, type, shape (where given) or byte count are wrong.
    """
    if len(raw) < 4 or raw[:2] != b"\0\0":
        raise LabError(f"{name}: expected an IDX file (two zero bytes first), found {raw[:4].hex(' ') or 'nothing'}.")
    if raw[2] != UINT8:
        raise LabError(f"{name}: expected IDX values of type 8 (uint8), found type {raw[2]}.")
    header = 4 + 4 * raw[3]
    if raw[3] == 0 or len(raw) < header:
        raise LabError(f"{name}: truncated: expected {header} bytes of header for {raw[3]} axes, found {len(raw)}.")
    stated = tuple(int(n) for n in np.frombuffer(raw, ">u4", raw[3], 4))
    if shape is not None and stated != tuple(shape):
        raise LabError(f"{name}: expected an array of shape {_times(shape)}, found {_times(stated)}.")
    expected = header + math.prod(stated)
    if len(raw) < expected:
        raise LabError(f"{name}: truncated: expected {expected} bytes for {_times(stated)}, found {len(raw)}.")
    if len(raw) > expected:
        raise LabError(f"{name}: too long: expected {expected} bytes for {_times(stated)}, found more.")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(stated)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in shape)
