"""A store gives each request one folder and one holder, and finds it again."""

import errno
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from runs import RunBusy, RunDamaged, RunError, RunNotFound, Store, StoreFull, default_root, run_id

HOLD = """
import sys, time
from runs import Store, from_json
folder = Store(sys.argv[1]).open(from_json(sys.stdin.read()))
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def held_elsewhere(store, spec):
    """Another process holds the run; killed, not asked, at the end."""
    from runs import to_json

    command = [sys.executable, "-c", HOLD, str(store.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdin.write(to_json(spec))
        process.stdin.close()
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def test_a_run_has_one_holder_and_kill_9_frees_it(ask, store):
    with held_elsewhere(store, ask()) as process:
        with pytest.raises(RunBusy, match=f"process {process.pid} on .*Wait.*--store"):
            store.open(ask())
        with pytest.raises(RunBusy, match=str(process.pid)):
            store.remove(store.find(run_id(ask())))
        assert store.find(run_id(ask())).status == "incomplete"
        store.open(ask(epochs=6)).close()
    with store.open(ask()) as folder:
        assert folder.writable


def test_a_run_has_one_holder_within_a_process(ask, store):
    with store.open(ask()) as folder:
        with pytest.raises(RunBusy, match="this process"):
            store.open(ask())
        folder.write_json("a.json", [1])
    with pytest.raises(RunError, match="reading only"):
        folder.write_json("a.json", [2])
    again = store.open(ask())
    assert again.read_json("a.json") == [1]
    del again  # a forgotten holder lets go
    store.open(ask()).close()


def test_a_failed_open_lets_go(ask, store):
    store.open(ask()).close()
    path = store.find(run_id(ask())).path / "spec.json"
    whole = path.read_text()
    path.write_text("{")
    for _ in range(2):
        with pytest.raises(RunDamaged):
            store.open(ask())
    path.write_text(whole)
    store.open(ask()).close()


def test_opening_sweeps_what_killed_writers_left(ask, store):
    with store.open(ask()) as folder:
        pass
    (folder.path / "checkpoints").mkdir()
    leftovers = [folder.path / ".metrics.parquet.77-abcd.part", folder.path / "checkpoints" / ".c.77-abcd.part"]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    (folder.path / "spec.json").unlink()  # killed before even that
    assert store.find(folder.id).status == "incomplete"
    with store.open(ask()) as folder:
        assert not any(leftover.exists() for leftover in leftovers)
        assert folder.spec == ask()


def test_the_same_request_is_the_same_folder(ask, store, train):
    assert store.get(ask()) is None
    assert not store.root.exists()  # looking creates nothing
    run = train(ask())
    assert run.path == store.root.absolute() / "runs" / run_id(ask())
    assert store.get(ask()).status == "complete"
    with store.open(ask()) as folder:
        assert folder.path == run.path
        assert folder.status == "complete"


def test_a_run_is_found_by_what_is_unique(ask, store, train, monkeypatch):
    fa, bp, wide = train(ask()), train(ask(rule="bp")), train(ask(arch="mlp(512)"))
    assert store.find(fa.id).id == fa.id
    assert store.find("bp").id == bp.id
    assert store.find("fa-mnist-mlp-5").id == wide.id
    assert store.find(fa.id[-10:]).id == fa.id
    assert store.find("512").id == wide.id
    assert store.find(fa.path).id == fa.id
    assert Store(store.root / "elsewhere").find(str(fa.path)).id == fa.id
    monkeypatch.chdir(fa.path)
    assert store.find(".").id == fa.id
    assert not store.find("bp").writable
    for text in ("fa", "mnist"):
        with pytest.raises(RunNotFound, match="fits") as caught:
            store.find(text)
        assert fa.id in str(caught.value)
        assert wide.id in str(caught.value)
    with pytest.raises(RunNotFound, match=rf"Did you mean .*{wide.id}.*`lab runs`") as caught:
        store.find("fa-minst-mlp-512")
    assert caught.value.exit_code == 4
    for text in ("", "/", "quite another thing", ".."):
        with pytest.raises(RunNotFound, match="`lab runs`"):
            store.find(text)


def test_an_id_that_begins_another_is_found(store):
    for name in ("fa-1", "fa-1-2"):
        (store.runs / name).mkdir(parents=True)
    assert store.find("fa-1").id == "fa-1"


def test_an_empty_store(store):
    assert store.list() == []
    with pytest.raises(RunNotFound, match="none yet"):
        store.find("fa")


def test_one_rotten_folder_spoils_no_list(ask, store, train):
    sound = train(ask())
    for name, content in {"a-noise": b"\xff\x00", "b-empty": b"", "c-later": b'{"format": 9}'}.items():
        (store.runs / name).mkdir()
        (store.runs / name / "spec.json").write_bytes(content)
    (store.runs / "d-bare").mkdir()
    (store.runs / "e-headless").mkdir()
    (store.runs / "e-headless" / "manifest.json").write_text("{}")
    (store.runs / "f-odd" / "spec.json").mkdir(parents=True)
    (store.runs / "a-file").touch()
    (store.runs / ".hidden").mkdir()
    assert {run.id: run.status for run in store.list()} == {
        "a-noise": "damaged",
        "b-empty": "damaged",
        "c-later": "damaged",
        "d-bare": "incomplete",
        "e-headless": "damaged",
        "f-odd": "damaged",
        sound.id: "complete",
    }
    assert all(bool(run.problem) == (run.status == "damaged") for run in store.list())
    assert all(isinstance(run.verify(), list) and run.size() >= 0 for run in store.list())
    for name in ("a-noise", "d-bare", "f-odd"):
        store.remove(store.find(name))
    assert [run.id for run in store.list()] == ["b-empty", "c-later", "e-headless", sound.id]


def test_a_removed_run_is_gone(ask, store, train, tmp_path):
    run, other = train(ask()), train(ask(rule="bp"))
    store.remove(run)
    assert [left.id for left in store.list()] == [other.id]
    assert [path.name for path in store.runs.iterdir()] == [other.id]
    with pytest.raises(RunNotFound):
        store.remove(run)
    with pytest.raises(RunError, match="not a run of"):
        Store(tmp_path / "other").remove(other)
    with store.open(ask()) as fresh:
        assert fresh.status == "incomplete"
        store.remove(fresh)
        assert not fresh.writable
    assert store.get(ask()) is None


def test_a_removal_killed_halfway_is_completed(ask, store, train):
    run = train(ask())
    run.path.rename(store.runs / f".removed-00-{run.id}")
    assert store.list() == []
    store.open(ask(rule="bp")).close()
    assert [path.name for path in store.runs.iterdir()] == [run_id(ask(rule="bp"))]


def test_tables_are_parquet_that_pandas_opens(ask, store):
    rows = [
        {"seed": 0, "step": 1, "loss": 2.5, "rule": "fa"},
        {"seed": 1, "step": 1, "loss": float("nan"), "rule": "fa"},
    ]
    with store.open(ask()) as folder:
        folder.write_table("metrics", rows)
        folder.write_table("probes/cka.parquet", pd.DataFrame({"value": [0.5]}))
        folder.write_table("none", [])
        pd.testing.assert_frame_equal(pd.read_parquet(folder.path / "metrics.parquet"), pd.DataFrame(rows))
        pd.testing.assert_frame_equal(folder.read_table("metrics.parquet"), pd.DataFrame(rows))
        assert folder.read_table("probes/cka")["value"].tolist() == [0.5]
        assert len(folder.read_table("none")) == 0
        with pytest.raises(RunNotFound):
            folder.read_table("other")
        whole = (folder.path / "metrics.parquet").read_bytes()
        for damaged in (b"", whole[:40], whole[:-9], b"x" * 100):
            folder.write_bytes("metrics.parquet", damaged)
            with pytest.raises(RunDamaged, match=r"metrics\.parquet is damaged"):
                folder.read_table("metrics")


def test_names_stay_inside_the_run(ask, store):
    with store.open(ask()) as folder:
        for name in ("../x", "/tmp/x", "a/../../x", ""):
            with pytest.raises(ValueError, match="inside a run"):
                folder.write_bytes(name, b"")


def test_the_sources_of_a_run_are_kept(ask, store):
    import hashlib

    code = b"def rule(): ...\n"
    sha256 = hashlib.sha256(code).hexdigest()
    with store.open(ask(sources=[("rule", sha256)])) as folder:
        assert folder.add_source("rule", "/home/someone/my rule.py", code) == sha256
        assert folder.read_bytes("source/rule/my_rule.py") == code
        with pytest.raises(RunError, match="has changed"):
            folder.add_source("rule", "my_rule.py", code + b"\n")


def test_a_full_disk_is_said_to_be_full(ask, store, monkeypatch):
    with store.open(ask()) as folder:
        folder.write_json("a.json", 1)

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        for write in (
            lambda: folder.write_json("a.json", 2),
            lambda: folder.write_table("a", [{"x": 1}]),
            lambda: folder.write_bytes("b", b"2"),
        ):
            with pytest.raises(StoreFull, match="--store"):
                write()
        monkeypatch.undo()
        assert folder.read_json("a.json") == 1
        assert folder.files() == ["a.json", "spec.json"]


def test_a_store_that_cannot_be_created_says_so(ask, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot create"):
        Store(tmp_path / "file").open(ask())

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(RunError, match=r"permission denied.*--store"):
        Store(tmp_path / "new").open(ask())


def test_a_disk_without_locks_says_so(ask, store, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(RunError, match="no locks"):
        store.open(ask())


def test_where_runs_are_kept(monkeypatch):
    monkeypatch.delenv("LAB_STORE", raising=False)
    assert default_root() == Path("results")
    monkeypatch.setenv("LAB_STORE", "~/lab")
    assert default_root() == Path.home() / "lab"
    assert default_root("here") == Path("here")


def test_the_room_is_light():
    heavy = {"jax", "pandas", "pyarrow", "lab", "algorithms", "probes", "click"}
    code = f"import sys, runs; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
