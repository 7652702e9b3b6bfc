"""IDX files and the CIFAR-10 archive: read when right, refused by name when not."""

import gzip
import lzma
import os
import pickle

import numpy as np
import pytest
from stand_ins import cifar_batches, idx_bytes, tar_gz

from lab.datasets.cifar import read_cifar10, unpickle_batch
from lab.datasets.idx import read_idx
from lab.errors import LabError, NotFound

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
RAW = idx_bytes(ARRAY)


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_idx_is_read_plain_or_compressed(tmp_path, suffix, pack):
    path = tmp_path / f"a-ubyte{suffix}"
    path.write_bytes(pack(RAW))
    for shape in (None, (2, 3, 4)):
        assert (read_idx(path, shape) == ARRAY).all()


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "expected an IDX file .* found nothing"),
        (b"\x80\x04\x95\x00", "expected an IDX file .* found 80 04 95 00"),
        (b"\0\0\x0d\x01" + RAW[4:], "type 8 .* found type 13"),
        (b"\0\0\x08\x00", "truncated"),
        (RAW[:10], "truncated: expected 16 bytes of header for 3 axes, found 10"),
        (RAW[:-1], "truncated: expected 40 bytes for 2×3×4, found 39"),
        (RAW + b"x", "too long: expected 40 bytes for 2×3×4, found more"),
    ],
)
def test_damaged_idx_is_refused(tmp_path, raw, complaint):
    path = tmp_path / "bad-ubyte"
    path.write_bytes(raw)
    with pytest.raises(LabError, match=f"bad-ubyte: .*{complaint}") as caught:
        read_idx(path)
    assert caught.value.exit_code == 1


def test_idx_of_another_shape_or_hash_is_refused(tmp_path):
    path = tmp_path / "bad-ubyte.gz"
    path.write_bytes(gzip.compress(RAW))
    with pytest.raises(LabError, match=r"bad-ubyte.gz: expected an array of shape 1×3×4, found 2×3×4"):
        read_idx(path, (1, 3, 4))
    with pytest.raises(LabError, match=r"bad-ubyte.gz: wrong contents: expected sha256 abc .*, found [0-9a-f]{64}"):
        read_idx(path, (2, 3, 4), "abc")


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_damaged_compression_is_refused(tmp_path, suffix, pack):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(pack(RAW)[:-6])
    with pytest.raises(LabError, match=f"bad{suffix}: truncated"):
        read_idx(path, (2, 3, 4))
    path.write_bytes(RAW)
    with pytest.raises(LabError, match=f"bad{suffix}: expected {suffix[1:]} data"):
        read_idx(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(NotFound, match="nowhere: no such file"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(LabError, match="cannot be read"):
        read_idx(tmp_path)


def python2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 wrote it: byte strings without a codec, and NumPy's old module name.

    Written opcode by opcode, since no Python 3 pickler produces it and the published files are in this form.
    """

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    rows, columns = pixels.shape
    array = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + text(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + text(b"|") + b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    raw = pixels.tobytes()
    state = b"(K\x01" + bytes([ord("K"), rows]) + b"M" + columns.to_bytes(2, "little") + b"\x86" + dtype + b"\x89"
    state += b"T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    listed = b"](" + b"".join(bytes([ord("K"), y]) for y in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + state + text(b"labels") + listed + b"u."


def test_a_batch_written_by_python_2_is_read():
    pixels = np.random.default_rng(3).integers(0, 256, (2, 3072), np.uint8)
    x, y = unpickle_batch(python2_batch(pixels, [9, 0]), "data_batch_1")
    assert y.tolist() == [9, 0]
    assert x[1, 2, 3].tolist() == [pixels[1, plane * 1024 + 2 * 32 + 3] for plane in range(3)]


def test_cifar_archive_is_read_in_order(tmp_path):
    batches = cifar_batches()
    shuffled = {name: batches[name] for name in sorted(batches, reverse=True)}
    path = tar_gz(tmp_path / "c.tar.gz", {"readme.html": b"<html>"} | shuffled)
    train_x, train_y, test_x, test_y = read_cifar10(path, 20, 4)
    assert (train_x.shape, test_x.shape, train_x.dtype) == ((20, 32, 32, 3), (4, 32, 32, 3), np.uint8)
    assert train_y.tolist() == [0, 1, 2, 3] * 5
    assert test_y.tolist() == [0, 1, 2, 3]
    second, _ = unpickle_batch(batches["data_batch_2"], "")
    assert (train_x[4:8] == second).all()


class Hostile:
    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("function", [os.system, eval, os.mkdir, np.load])
def test_a_hostile_pickle_is_refused_and_does_nothing(tmp_path, function):
    marker = tmp_path / "owned"
    raw = pickle.dumps({b"data": Hostile(function, f"mkdir {marker}"), b"labels": []}, protocol=2)
    path = tar_gz(tmp_path / "c.tar.gz", cifar_batches() | {"data_batch_3": raw})
    with pytest.raises(LabError, match=r"c\.tar\.gz: cifar-10-batches-py/data_batch_3: refused .* asks for"):
        read_cifar10(path, 20, 4)
    assert not marker.exists()


def test_the_codec_admitted_is_latin1_only():
    import codecs

    raw = pickle.dumps(Hostile(codecs.encode, "x", "rot13"), protocol=2)
    with pytest.raises(LabError, match="codec 'rot13'"):
        unpickle_batch(raw, "b")


@pytest.mark.parametrize(
    ("batch", "complaint"),
    [
        ([1, 2], "expected a dictionary, found list"),
        ({b"labels": []}, "'data' to be uint8 rows of 3072, found NoneType"),
        ({b"data": np.zeros((2, 5), np.uint8), b"labels": [0, 1]}, r"found uint8\(2, 5\)"),
        ({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}, r"found float64\(2, 3072\)"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, "list of integers 0..9"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "as many labels as images, found 1 and 2"),
    ],
)
def test_a_batch_with_other_contents_is_refused(batch, complaint):
    with pytest.raises(LabError, match=f"some_batch: .*{complaint}"):
        unpickle_batch(pickle.dumps(batch, protocol=2), "some_batch")


def test_damaged_cifar_archives_are_refused(tmp_path):
    path = tmp_path / "c.tar.gz"
    with pytest.raises(NotFound, match=r"c\.tar\.gz: no such file"):
        read_cifar10(path, 20, 4)
    tar_gz(path, cifar_batches())
    whole = path.read_bytes()
    with pytest.raises(LabError, match=r"c\.tar\.gz: expected 25 training images, found 20"):
        read_cifar10(path, 25, 4)
    for raw in (whole[: len(whole) // 2], b"", b"<html>not here</html>"):
        path.write_bytes(raw)
        with pytest.raises(LabError, match=r"c\.tar\.gz: expected a whole tar.gz archive"):
            read_cifar10(path, 20, 4)
    tar_gz(path, {name: raw for name, raw in cifar_batches().items() if name != "test_batch"})
    with pytest.raises(LabError, match="expected cifar-10-batches-py/test_batch, found 5 of 6"):
        read_cifar10(path, 20, 4)
