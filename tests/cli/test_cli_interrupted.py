"""A run that is stopped, politely, rudely or by a full disk, goes on with the same command to the same bits."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest

LONG = (
    *("--data", "tiny", "--arch", "mlp(8)", "--optimizer", "adam(0.001)", "--batch", "50", "--epochs", "150"),
    *("--rule", "bp", "--seeds", "2"),
)
EAGER = "import lab.runner\nlab.runner.SAVE_EVERY = 0.0"
"""Saves after every stretch of training, so that a kill at any time finds something saved."""


def wait_for(child, store: Path, pattern: str, after: float = 0.0) -> None:
    """Until the run's folder holds a file like this, written after a time, while the process lives."""
    deadline = time.monotonic() + 120
    while not any(file.stat().st_mtime > after for file in store.glob(f"runs/*/{pattern}")):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline, "nothing was saved in two minutes"
        time.sleep(0.01)


def numbers(store: Path) -> dict[str, bytes]:
    """The finished run's tables and checkpoints, byte for byte."""
    (run,) = (store / "runs").iterdir()
    files = [run / "metrics.parquet", *run.glob("checkpoints/*.safetensors")]
    return {file.name: file.read_bytes() for file in files}


def test_interrupted_killed_and_resumed_it_ends_with_the_same_bits(process, ask, tmp_path):
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    child = process("train", *LONG, "--store", stopped)
    wait_for(child, stopped, "checkpoints/*-step00000010.safetensors")
    child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=120)
    assert (child.returncode, stdout) == (130, ""), stderr
    (name,) = (path.name for path in (stopped / "runs").iterdir())
    assert stderr == f"Interrupted; {name} is saved. The same command resumes it.\n"
    assert "incomplete" in ask("runs", "--store", stopped).stdout
    assert "is incomplete" in ask("compare", name, name, "--store", stopped, code=4).stderr

    resumed = time.time()
    child = process("train", *LONG, "--store", stopped, first=EAGER)
    wait_for(child, stopped, "resume/*.safetensors", after=resumed)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert "incomplete" in ask("runs", "--store", stopped).stdout

    last = ask("train", *LONG, "--store", stopped).stdout.splitlines()[-1]
    assert last == str(stopped / "runs" / name)
    ask("train", *LONG, "--store", whole)
    assert numbers(stopped) == numbers(whole)
    assert len(numbers(whole)) > 5


def test_the_second_ctrl_c_does_not_wait():
    from lab.runner import stop_on_ctrl_c

    with stop_on_ctrl_c() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_anywhere_names_the_resume(ask, tiny, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("lab.runner._Training.run", interrupt)
    result = ask("train", *tiny, "--store", tmp_path, code=130)
    assert result.stderr == "Interrupted; what was saved stays, and the same command goes on from there.\n"


def test_a_file_too_large_for_the_disk(process, ask, complained, runs, tiny, tmp_path):
    """Every write beyond 1000 bytes fails, as on a disk that has just filled up."""

    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    options = ("train", *tiny, "--rule", "fa", "--seeds", "3", "--store", tmp_path)
    child = process(*options, first=limit)
    stdout, stderr = child.communicate(timeout=120)
    assert (child.returncode, stdout) == (1, ""), stderr
    message = complained(stderr[stderr.index("Error: ") :])  # JAX complains on its own that it cannot cache
    assert message.startswith("cannot write ")
    assert "File too large. Check the disk, or choose another with --store." in message
    assert "Traceback" not in stderr
    assert "incomplete" in ask("runs", "--store", tmp_path).stdout
    assert ask(*options).stdout.splitlines()[-1] == str(tmp_path / "runs" / runs["fa"])


@pytest.mark.parametrize("writes", [0, 1, 3, 6])
def test_a_full_disk(ask, refuse, runs, tiny, home, tmp_path, monkeypatch, writes):
    """The disk fills up after so many writes; with space again, the same command ends with the same bits."""
    really, left = os.write, [writes]

    def write(descriptor: int, data) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(tmp_path)):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(descriptor, data)

    options = ("train", *tiny, "--rule", "fa", "--seeds", "3", "--store", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("runs.files.os.write", write)
        message = refuse(1, *options)
    assert message.startswith(f"cannot write {tmp_path}")
    assert "the disk is full. Free some space, or choose another disk with --store." in message
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]
    ask(*options)
    before = home / "store" / "runs" / runs["fa"]
    for name, data in numbers(tmp_path).items():
        (file,) = before.rglob(name)
        assert file.read_bytes() == data, name


@pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "the disk is read-only"), (errno.EACCES, "permission")])
def test_a_store_that_may_not_be_written(refuse, tiny, tmp_path, monkeypatch, number, words):
    really = Path.mkdir

    def mkdir(path, *args, **more):
        if str(path).startswith(str(tmp_path)):
            raise OSError(number, os.strerror(number), str(path))
        really(path, *args, **more)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    message = refuse(1, "train", *tiny, "--store", tmp_path / "store")
    assert message.startswith(f"cannot create {tmp_path}")
    assert words in message
    assert "with --store" in message


def test_a_store_that_is_a_file(refuse, tiny, tmp_path):
    place = tmp_path / "store"
    place.write_text("not a folder")
    message = refuse(1, "train", *tiny, "--store", place)
    assert f"cannot create {place}" in message
    assert "Not a directory. Check the disk, or choose another with --store." in message
    for command in (["runs"], ["runs", "show", "x"], ["runs", "verify"], ["compare", "bp", "fa"]):
        message = refuse(1, *command, "--store", place)
        assert message == f"{place} is not a folder of runs but something else. Choose another with --store."
