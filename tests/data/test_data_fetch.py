"""Fetching: from a folder, from a server on this machine, and every way in which it must refuse."""

import gzip
import hashlib
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from stand_ins import cifar_batches, idx_bytes, tar_gz

from lab.datasets.fetch import fetch
from lab.datasets.folder import data_folder
from lab.datasets.sources import find, load
from lab.datasets.table import DATASETS
from lab.errors import LabError, NotFound, UsageError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """A function that serves a folder on the loopback interface and points a set's addresses at it."""
    monkeypatch.setenv("no_proxy", "*")
    running = []

    def start(name, folder, handler=Quiet):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        base = f"http://127.0.0.1:{server.server_port}/"
        source = DATASETS[name]
        files = tuple(replace(file, url=base + file.name) for file in source.files)
        monkeypatch.setitem(DATASETS, name, replace(source, files=files))

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


def left_behind(folder):
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_download(fashion, serve, data_home, capsys):
    serve("fashion-mnist", fashion.folder)
    assert fetch("fashion-mnist") == data_home / "fashion-mnist"
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("http://127.0.0.1") == 4
    data = load("fashion-mnist")
    assert (data.train_x.shape, data.test_x.shape, data.classes) == ((40, 28, 28, 1), (20, 28, 28, 1), 10)
    assert (idx_bytes(data.train_x[..., 0])) == fashion.plain["train-images-idx3-ubyte"]
    assert not [name for name in left_behind(data_home) if name.startswith(".")]


def test_fetching_again_changes_nothing(fashion, data_home):
    fetch("fashion-mnist", fashion.folder)
    said = []
    assert fetch("fashion-mnist", "/nowhere", say=said.append) == data_home / "fashion-mnist"
    assert said == ["fashion-mnist is already here (fetched)."]


def test_a_damaged_set_is_refused_and_fetched_again(fashion, data_home):
    fetch("fashion-mnist", fashion.folder)
    victim = data_home / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz"
    victim.write_bytes(victim.read_bytes()[:-9])
    with pytest.raises(LabError, match=r"t10k-labels-idx1-ubyte.gz: truncated"):
        load("fashion-mnist")
    said = []
    fetch("fashion-mnist", fashion.folder, say=said.append)
    assert said[0].endswith("Fetching it again.")
    assert load("fashion-mnist").classes == 10


def test_a_download_with_wrong_contents_is_refused(fashion, serve, data_home):
    serve("fashion-mnist", fashion.folder)
    (fashion.folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"<html>please log in</html>")
    found = hashlib.md5(b"<html>please log in</html>").hexdigest()
    expected = fashion.source.files[2].md5
    with pytest.raises(LabError, match=f"t10k-images-idx3-ubyte.gz .*expected MD5 {expected}, found {found}.*--from"):
        fetch("fashion-mnist", say=lambda line: None)
    assert left_behind(data_home) == []


def test_a_missing_address_is_one_line_with_the_way_out(fashion, serve, data_home):
    serve("fashion-mnist", fashion.folder)
    (fashion.folder / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(LabError, match=r"http://127.*gz could not .*\(404 File not found\).*--from DIR") as caught:
        fetch("fashion-mnist", say=lambda line: None)
    assert "\n" not in caught.value.message
    assert left_behind(data_home) == []


def test_no_server_is_one_line_with_the_way_out(fashion, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    files = tuple(replace(file, url="http://127.0.0.1:1/x.gz") for file in fashion.source.files)
    monkeypatch.setitem(DATASETS, "fashion-mnist", replace(fashion.source, files=files))
    with pytest.raises(LabError, match=r"http://127.0.0.1:1/x.gz could not be downloaded .*--from DIR"):
        fetch("fashion-mnist", say=lambda line: None)


def test_a_connection_cut_short_is_refused(fashion, serve):
    class Cut(Quiet):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")

    serve("fashion-mnist", fashion.folder, Cut)
    with pytest.raises(LabError, match=r"127\.0\.0\.1"):
        fetch("fashion-mnist", say=lambda line: None)


def test_from_a_folder_of_decompressed_files(fashion, data_home):
    for file in fashion.source.files:
        (fashion.folder / file.name).unlink()
        (fashion.folder / file.plain_name).write_bytes(fashion.plain[file.plain_name])
    fetch("fashion-mnist", fashion.folder, say=lambda line: None)
    assert find(fashion.source).state == "fetched"
    assert load("fashion-mnist").train_x.shape == (40, 28, 28, 1)


def test_a_recompressed_file_is_accepted_by_its_contents(fashion):
    path = fashion.folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(fashion.plain["train-images-idx3-ubyte"], compresslevel=1, mtime=5))
    assert hashlib.md5(path.read_bytes()).hexdigest() != fashion.source.files[0].md5
    fetch("fashion-mnist", fashion.folder, say=lambda line: None)
    assert load("fashion-mnist").classes == 10


def test_from_a_folder_with_wrong_contents(fashion, data_home):
    raw = bytearray(fashion.plain["train-labels-idx1-ubyte"])
    raw[-1] ^= 1
    path = fashion.folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(raw)))
    expected, found = fashion.source.files[1].sha256, hashlib.sha256(raw).hexdigest()
    with pytest.raises(LabError, match=f"{path}: wrong contents: expected sha256 {expected} .*found {found}") as caught:
        fetch("fashion-mnist", fashion.folder, say=lambda line: None)
    assert caught.value.exit_code == 1
    assert left_behind(data_home) == []


def test_from_a_folder_that_lacks_something(fashion, tmp_path):
    (fashion.folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(NotFound, match=r"has no train-labels-idx1-ubyte.gz \(or train-labels-idx1-ubyte\)"):
        fetch("fashion-mnist", fashion.folder, say=lambda line: None)
    with pytest.raises(NotFound, match="no such folder"):
        fetch("fashion-mnist", tmp_path / "nowhere")
    with pytest.raises(NotFound, match="takes the folder it is in"):
        fetch("fashion-mnist", fashion.folder / "train-images-idx3-ubyte.gz")


def test_kmnist_is_checked_by_md5_and_plain_files_only_by_shape(kmnist):
    said = []
    fetch("kmnist", kmnist.folder, say=said.append)
    assert not [line for line in said if "warning" in line]
    stored = data_folder() / "kmnist" / "train-labels-idx1-ubyte.gz"
    stored.write_bytes(gzip.compress(idx_bytes(np.zeros(40, np.uint8))))
    with pytest.raises(LabError, match=r"train-labels-idx1-ubyte.gz: wrong contents: expected MD5"):
        load("kmnist")

    for file in kmnist.source.files:
        (kmnist.folder / file.name).unlink()
        (kmnist.folder / file.plain_name).write_bytes(kmnist.plain[file.plain_name])
    fetch("kmnist", kmnist.folder, say=said.append)
    assert len([line for line in said if "warning" in line and "only its shape" in line]) == 4
    # The damaged .gz is gone, or it would be found before the plain file.
    assert load("kmnist").classes == 10


def test_labels_beyond_the_classes_are_refused(kmnist):
    for file in kmnist.source.files:
        (kmnist.folder / file.name).unlink()
        (kmnist.folder / file.plain_name).write_bytes(kmnist.plain[file.plain_name])
    (kmnist.folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(20, 10, np.uint8)))
    with pytest.raises(LabError, match=r"t10k-labels-idx1-ubyte: expected labels 0..9, found 10"):
        fetch("kmnist", kmnist.folder, say=lambda line: None)


def test_cifar10_from_a_folder(tmp_path, monkeypatch):
    (tmp_path / "downloads").mkdir()
    path = tar_gz(tmp_path / "downloads" / "cifar-10-python.tar.gz", cifar_batches())
    source = replace(DATASETS["cifar10"], train=20, test=4)
    monkeypatch.setitem(DATASETS, "cifar10", source)
    with pytest.raises(LabError, match=r"cifar-10-python.tar.gz: wrong contents: expected MD5 c58f30108f718f92721af"):
        fetch("cifar10", path.parent)
    file = replace(source.files[0], md5=hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setitem(DATASETS, "cifar10", replace(source, files=(file,)))
    fetch("cifar10", path.parent, say=lambda line: None)
    data = load("cifar10")
    assert (data.train_x.shape, data.train_y.dtype, data.input_shape) == ((20, 32, 32, 3), np.int32, (32, 32, 3))


def test_a_set_installed_by_the_operating_system_is_found(fashion, monkeypatch):
    monkeypatch.setitem(DATASETS, "fashion-mnist", replace(fashion.source, system_folder=fashion.folder))
    assert find(DATASETS["fashion-mnist"]).state == "system"
    assert load("fashion-mnist").train_x.shape == (40, 28, 28, 1)
    said = []
    assert fetch("fashion-mnist", say=said.append) == fashion.folder
    assert said == ["fashion-mnist is already here (system)."]


def test_packaged_mnist_needs_no_fetching():
    said = []
    fetch("mnist", say=said.append)
    assert said == ["mnist is already here (packaged)."]


def test_what_is_not_here_says_how_to_get_it():
    with pytest.raises(NotFound) as caught:
        load("fashion-mnist")
    assert caught.value.exit_code == 4
    assert caught.value.message == (
        "fashion-mnist is not on this machine; run `lab data fetch fashion-mnist`, or `lab data fetch fashion-mnist "
        "--from DIR` with these files: train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
        "t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz."
    )


@pytest.mark.parametrize("act", [load, fetch])
def test_an_unknown_name_is_answered_with_the_nearest_and_the_list(act):
    with pytest.raises(UsageError, match=r"'fashon-mnist'.*Did you mean 'fashion-mnist'\?.*mnist, .*cifar10") as caught:
        act("fashon-mnist")
    assert caught.value.exit_code == 2


def test_a_folder_that_cannot_be_written_is_named(fashion, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(LabError, match=r"file/data: cannot write .* set LAB_DATA"):
        fetch("fashion-mnist", fashion.folder)


def test_where_the_data_folder_is(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_DATA", "~/sets")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder() == tmp_path / "sets"
    monkeypatch.delenv("LAB_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_folder() == tmp_path / "xdg" / "credit-lab" / "data"
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert data_folder() == tmp_path / ".cache" / "credit-lab" / "data"
