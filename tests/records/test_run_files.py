"""Whatever interrupts a write, the file is the old one or the new one, and the error says what to do."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runs import RunDamaged, RunError, RunNotFound, StoreFull
from runs.files import TEMPORARY, parse_json, read_bytes, sha256_of, sweep, write_atomically

FULL = [(errno.ENOSPC, StoreFull, "disk is full"), (errno.EDQUOT, StoreFull, "quota")]
BARRED = [
    (errno.EROFS, RunError, "read-only"),
    (errno.EACCES, RunError, "permission"),
    (errno.EPERM, RunError, "permission"),
    (errno.EIO, RunError, "Check the disk"),
]


def fail_with(code: int):
    def call(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
@pytest.mark.parametrize(("code", "kind", "words"), FULL + BARRED)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, code, kind, words):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail_with(code))
        with pytest.raises(kind, match=words) as caught:
            write_atomically(path, b"new")
    assert type(caught.value) is kind
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_an_interrupt_cleans_up_too(tmp_path, monkeypatch):
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", b"new")
    assert list(tmp_path.iterdir()) == []


def test_short_writes_are_continued(tmp_path, monkeypatch):
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:3]))
    write_atomically(tmp_path / "deep" / "a", b"0123456789")
    assert (tmp_path / "deep" / "a").read_bytes() == b"0123456789"


def test_an_empty_file_is_a_file(tmp_path):
    write_atomically(tmp_path / "a", b"")
    assert read_bytes(tmp_path / "a") == b""
    assert sha256_of(tmp_path / "a").startswith("e3b0c442")


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch):
    sync, calls = os.fsync, []

    def only_files(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.EINVAL, "folders cannot be synced here")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write_atomically(tmp_path / "a", b"new")
    assert len(calls) == 2
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(RunNotFound, match="does not exist"):
        read_bytes(tmp_path / "none")
    with pytest.raises(RunNotFound, match="does not exist"):
        sha256_of(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("/x/runs/y/results/runs/fa-0123/spec.json", "fa-0123"),
        ("/x/results/runs/fa-0123/checkpoints/cohort0.safetensors", "fa-0123"),
        ("spec.json", "RUN"),
    ],
)
def test_damage_is_mended_by_removing_the_run_it_is_in(name, run):
    with pytest.raises(RunDamaged, match=f"remove the run with `lab runs rm {run}` and train it again"):
        parse_json("{", name)


# Writes whole pages of one letter for ever, saying when the first is there.
WRITER = """
import sys
from runs.files import write_atomically
letter = 0
while True:
    letter = (letter + 1) % 26
    write_atomically(sys.argv[1], bytes([97 + letter]) * 300_000)
    print("written", flush=True)
"""


def test_a_reader_never_sees_half_a_file_even_when_the_writer_is_killed(tmp_path):
    path = tmp_path / "a"
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            writer.stdout.readline()
            for _ in range(100):
                check_whole(path)
            writer.send_signal(signal.SIGKILL)
        check_whole(path)
    sweep(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def check_whole(path: Path) -> None:
    data = path.read_bytes()
    assert len(data) == 300_000
    assert len(set(data)) == 1


# Dies by its own hand in the middle of the second write, after half of the new content is on disk.
HALFWAY = """
import os, signal, sys
from runs import files
files.write_atomically(sys.argv[1], b"old" * 1000)
whole = os.write
def die(descriptor, data):
    whole(descriptor, data[:len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
os.write = die
files.write_atomically(sys.argv[1], b"new" * 1000)
"""


def test_a_writer_killed_halfway_leaves_the_old_file_and_a_leftover_that_is_swept(tmp_path):
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "a"
    done = subprocess.run([sys.executable, "-c", HALFWAY, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old" * 1000
    left = [file for file in path.parent.iterdir() if file != path]
    assert len(left) == 1
    assert left[0].name.startswith(".a.")
    assert left[0].name.endswith(TEMPORARY)
    sweep(tmp_path)
    assert list(path.parent.iterdir()) == [path]
