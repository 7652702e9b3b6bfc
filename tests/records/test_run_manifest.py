"""A run counts from its last write on, and damage to any file of it is seen."""

import datetime
import json
import shutil
import subprocess

import pytest

from runs import RunDamaged, RunError, RunNotFound, StoreTooNew, finish, git_commit, package_versions, record_cohort
from runs import write_manifest as write
from runs.manifest import parse_manifest


def test_a_finished_run_is_complete_and_sound(ask, train):
    run = train(ask())
    assert run.status == "complete"
    assert run.problem is None
    assert run.verify() == []
    assert run.require_complete() is run
    manifest = run.manifest
    assert manifest["complete"] is True
    assert manifest["id"] == run.id
    assert manifest["data"] == {"name": "mnist", "sha256": "ab" * 32}
    assert sorted(manifest["files"]) == ["checkpoints/cohort0-step00000430.safetensors", "metrics.parquet", "spec.json"]
    for time in (manifest["started"], manifest["finished"]):
        assert datetime.datetime.fromisoformat(time).utcoffset() == datetime.timedelta(0)


def test_diverged_seeds_stay_on_record(ask, train, record):
    run = train(ask(), {1: 17})
    assert run.status == "diverged"
    assert run.manifest["cohorts"][0]["diverged"] == {1: 17}
    assert run.require_complete() is run
    manifest = record(ask(), {1: 17})
    entry = record_cohort(manifest, 0, seeds=[0, 1], status="complete", step=500, diverged={0: 9, 1: 40}, seconds=2)
    assert entry["diverged"] == {0: 9, 1: 17}
    assert manifest["cohorts"][0] is entry
    assert len(manifest["cohorts"]) == 2


def test_what_is_read_is_what_was_written(ask, store, record):
    with store.open(ask()) as folder:
        manifest = record(ask(), {1: 3})
        write(folder, manifest)
        assert folder.manifest == manifest
        folder.write_json("manifest.json", manifest)
        assert folder.manifest == manifest


def test_cohorts_are_recorded_in_order_and_by_known_words(ask, record):
    manifest = record(ask())
    with pytest.raises(ValueError, match="before cohort 2"):
        record_cohort(manifest, 3, seeds=[3], status="running", step=0, seconds=0)
    with pytest.raises(ValueError, match="none of running"):
        record_cohort(manifest, 0, seeds=[0], status="done", step=0, seconds=0)


def test_a_run_cannot_be_finished_before_its_seeds(ask, store, record):
    with store.open(ask()) as folder:
        manifest = record(ask())
        record_cohort(manifest, 1, seeds=[2], status="interrupted", step=12, seconds=0.5)
        with pytest.raises(RunError, match="seeds 2 "):
            finish(folder, manifest)
        write(folder, manifest)
        assert folder.status == "incomplete"
        assert folder.verify() == []
        with pytest.raises(RunNotFound, match="incomplete"):
            folder.require_complete()


def test_finishing_drops_what_resuming_needed(ask, store, record):
    with store.open(ask()) as folder:
        folder.write_bytes("resume/cohort0.safetensors", b"state")
        manifest = finish(folder, record(ask()))
        assert "spec.json" in manifest["files"]
        assert not any(name.startswith("resume") for name in manifest["files"])
        assert not (folder.path / "resume").exists()


def test_a_run_killed_between_commit_and_clean_up_is_complete(ask, store, train):
    run = train(ask())
    (run.path / "resume").mkdir()
    (run.path / "resume" / "cohort0.safetensors").write_bytes(b"state")
    assert run.status == "complete"
    assert run.verify() == []
    store.open(ask()).close()
    assert not (run.path / "resume").exists()


@pytest.mark.parametrize(
    "name", ["metrics.parquet", "checkpoints/cohort0-step00000430.safetensors", "spec.json", "manifest.json"]
)
def test_damage_is_seen(ask, train, name):
    run = train(ask())
    path = run.path / name
    whole = path.read_bytes()
    middle = len(whole) // 2

    path.write_bytes(whole[:middle])
    assert run.status == "damaged"
    assert run.problem
    assert any(name in line for line in run.verify())
    with pytest.raises(RunDamaged, match="damaged"):
        run.require_complete()

    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0x01]) + whole[middle + 1 :])
    assert len(run.verify()) == 1
    assert name in run.verify()[0]

    path.unlink()
    if name == "manifest.json":
        assert run.status == "incomplete"  # nothing says that it had been finished
    else:
        assert run.status == "damaged"
        assert any(name in line for line in run.verify())

    path.write_bytes(whole)
    assert run.status == "complete"
    assert run.verify() == []


def test_every_flipped_byte_of_a_manifest_is_seen_unless_it_is_blank(ask, train):
    whole = (train(ask()).path / "manifest.json").read_bytes()
    manifest = parse_manifest(whole)
    for at in range(len(whole)):
        try:
            assert parse_manifest(whole[:at] + bytes([whole[at] ^ 0x01]) + whole[at + 1 :]) == manifest
            assert whole[at : at + 1].isspace()
        except (RunDamaged, StoreTooNew):
            pass


def test_an_edited_spec_is_seen_before_the_run_is_finished(ask, store):
    with store.open(ask()) as folder:
        pass
    path = folder.path / "spec.json"
    path.write_text(path.read_text().replace('"epochs": 5', '"epochs": 6'))
    with pytest.raises(RunDamaged, match="another spec"):
        store.open(ask())


def test_a_renamed_run_says_what_it_is(ask, store, train):
    run = train(ask())
    moved = run.path.rename(run.path.with_name("mine"))
    assert store.find("mine").status == "damaged"
    assert "rename it back" in store.find("mine").problem
    assert run.id in store.find(moved).verify()[0]


def test_a_damaged_checkpoint_of_an_incomplete_run_is_seen(ask, store):
    with store.open(ask()) as folder:
        folder.write_bytes("resume/cohort0.safetensors", b"nonsense")
        assert folder.status == "incomplete"
        assert "resume/cohort0.safetensors is damaged" in folder.verify()[0]


@pytest.mark.parametrize(("name", "key"), [("manifest.json", "schema"), ("spec.json", "format")])
def test_a_run_of_a_later_version_asks_for_an_upgrade(ask, store, train, name, key):
    run = train(ask())
    path = run.path / name
    path.write_text(json.dumps({**json.loads(path.read_text()), key: 2}))
    with pytest.raises(StoreTooNew, match="Upgrade"):
        run.require_complete()
    assert "Upgrade" in run.problem
    assert [other.id for other in store.list()] == [run.id]
    if name == "spec.json":
        with pytest.raises(StoreTooNew):
            store.open(ask())
        assert not store.get(ask()).writable


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "1"}', '{"schema": 1}', '{"schema": 1, "digest": 3}'])
def test_what_is_no_manifest_is_damage(text):
    with pytest.raises(RunDamaged, match=r"manifest\.json is damaged"):
        parse_manifest(text)


def test_versions_of_packages():
    versions = package_versions(["numpy", "no-such-package-here"])
    assert versions["numpy"][0].isdigit()
    assert versions["no-such-package-here"] is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a hook: must not lead elsewhere
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "A")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.org")
    home = tmp_path / "home"
    (home / "inner").mkdir(parents=True)

    def git(*arguments):
        command = ["git", "--git-dir", str(home / ".git"), "--work-tree", str(home), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=home)

    assert git_commit(home) == (None, None)
    git("init")
    assert git_commit(home) == (None, None)
    (home / "a").write_text("1")
    git("add", "a")
    git("-c", "commit.gpgsign=false", "commit", "-m", "one")
    commit, dirty = git_commit(home)
    assert len(commit) == 40
    assert dirty is False
    (home / "untracked").touch()
    assert git_commit(home) == (commit, False)
    (home / "a").write_text("2")
    assert git_commit(home) == (commit, True)
    assert git_commit(home / "inner") == (None, None)  # somebody else's checkout around us
    assert git_commit(home / "missing") == (None, None)
