"""What happened: the record of a run. Its last write, with `"complete": true`, is what makes the run count."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runs.errors import RunDamaged, RunError, StoreTooNew
from runs.files import canonical_json, explained, parse_json, readable_json, remedy, sha256_of
from runs.spec import RunSpec, run_id

if TYPE_CHECKING:
    from runs.folder import RunFolder

SCHEMA = 1
"""The layout of `manifest.json` that this version writes, and the latest that it reads."""

NAME = "manifest.json"
STATUSES = ("running", "complete", "interrupted")


def new_manifest(
    spec: RunSpec,
    *,
    versions: Mapping[str, str | None],
    device: str,
    commit: str | None,
    dirty: bool | None,
    command: str | Sequence[str],
    chosen_by: Mapping[str, Any],
    precision: str,
) -> dict[str, Any]:
    """The record of a run that starts now.

    `versions` is package -> version; `commit` and `dirty` say which source ran (None: not from a checkout); `command`
    is how it was asked for; `chosen_by` is hyper-parameter -> how its value was chosen; `precision` is what the
    device really computed in.
    """
    return {
        "schema": SCHEMA,
        "complete": False,
        "id": run_id(spec),
        "started": now(),
        "finished": None,
        "versions": {"python": platform.python_version(), **versions},
        "device": device,
        "precision": precision,
        "commit": commit,
        "dirty": dirty,
        "command": command if isinstance(command, str) else list(command),
        "chosen_by": dict(chosen_by),
        "data": {"name": spec.data, "sha256": spec.data_sha256},
        "cohorts": [],
        "files": {},
    }


def record_cohort(
    manifest: dict[str, Any],
    index: int,
    *,
    seeds: Iterable[int],
    status: str,
    step: int,
    diverged: Mapping[int, int] | None = None,
    seconds: float,
) -> dict[str, Any]:
    """Set what is known of cohort `index` in `manifest`, and return that entry.

    `status` is one of `STATUSES`; `step` is the last step done; `diverged` maps a seed to its first non-finite step;
    `seconds` is the training time so far. A seed that once diverged stays on record, at its earliest such step.
    """
    if status not in STATUSES:
        raise ValueError(f"status: {status!r} is none of {', '.join(STATUSES)}")
    cohorts = manifest["cohorts"]
    if index > len(cohorts):
        raise ValueError(f"cohort {index} cannot be recorded before cohort {len(cohorts)}")
    marked = dict(cohorts[index]["diverged"]) if index < len(cohorts) else {}
    for seed, first in (diverged or {}).items():
        marked[int(seed)] = min(int(first), marked.get(int(seed), int(first)))
    entry = {
        "seeds": [int(seed) for seed in seeds],
        "status": status,
        "step": int(step),
        "diverged": dict(sorted(marked.items())),
        "seconds": float(seconds),
    }
    cohorts[index : index + 1] = [entry]
    return entry


def write_manifest(folder: "RunFolder", manifest: Mapping[str, Any]) -> None:
    """Write the record as it stands into its run's folder."""
    folder.write_json(NAME, manifest)


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The record with a digest of itself, as it is stored: no other file could vouch for it."""
    body = {key: value for key, value in manifest.items() if key != "digest"}
    return {**body, "digest": _digest(body)}


def finish(folder: "RunFolder", manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Commit a run: record size and sha256 of each of its files, write the manifest last, drop what resuming needed.

    Returns the manifest as written. Raises `RunError` while a seed of the spec has not finished.
    """
    done = [seed for cohort in manifest["cohorts"] if cohort["status"] == "complete" for seed in cohort["seeds"]]
    if left := sorted(set(folder.spec.seeds) - set(done)):
        raise RunError(
            f"{folder.id} is not finished: seeds {', '.join(map(str, left))} have no complete cohort. Resume it first."
        )
    files = {
        name: {"bytes": (folder.path / name).stat().st_size, "sha256": sha256_of(folder.path / name)}
        for name in folder.files()
    }
    manifest = {**manifest, "complete": True, "finished": now(), "files": files}
    write_manifest(folder, manifest)
    drop_resume(folder.path)
    return manifest


def drop_resume(path: Path) -> None:
    """Remove what only an unfinished run needs."""
    if (path / "resume").exists():
        with explained(path / "resume", "remove"):
            shutil.rmtree(path / "resume")


def parse_manifest(text: str | bytes, name: str = NAME) -> dict[str, Any]:
    """The record in `text`, seeds as integers. Raises `StoreTooNew` on a later schema, `RunDamaged` on anything that
    `write_manifest` did not write; `name` is the file to blame."""
    manifest = parse_json(text, name)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("schema"), int):
        raise RunDamaged(f"{name} is damaged: it holds no manifest. {remedy(name)}")
    if manifest["schema"] > SCHEMA:
        raise StoreTooNew(
            f"{name} has schema {manifest['schema']}; this version reads up to {SCHEMA}. Upgrade to read this run."
        )
    if manifest.pop("digest", None) != _digest(manifest):
        raise RunDamaged(f"{name} is damaged: it was changed after it was written. {remedy(name)}")
    if missing := {"id", "complete", "cohorts", "files"} - manifest.keys():
        raise RunDamaged(f"{name} is damaged: {', '.join(sorted(missing))} missing. {remedy(name)}")
    for cohort in manifest["cohorts"]:
        cohort["diverged"] = {int(seed): step for seed, step in cohort["diverged"].items()}  # JSON has only text keys
    return manifest


def diverged_seeds(manifest: Mapping[str, Any]) -> dict[int, int]:
    """Seed -> first non-finite step, over all cohorts."""
    return {seed: step for cohort in manifest["cohorts"] for seed, step in cohort["diverged"].items()}


def _digest(body: Mapping[str, Any]) -> str:
    settled = json.loads(readable_json(body))  # as a reader will see it: text keys, no tuples
    return hashlib.sha256(canonical_json(settled).encode("ascii")).hexdigest()


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def package_versions(names: Iterable[str]) -> dict[str, str | None]:
    """Installed version of each distribution; None where it is not installed."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def git_commit(path: Path | str) -> tuple[str | None, bool | None]:
    """Commit of the checkout whose root is `path`, and whether tracked files differ from it; else `(None, None)`.

    Only a root counts: a package installed somewhere inside another project's checkout must not claim its commit.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(path), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, check=True, timeout=10, text=True).stdout

    try:
        if not Path(git("rev-parse", "--show-toplevel").strip()).samefile(path):
            return None, None
        return git("rev-parse", "HEAD").strip(), bool(git("status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None, None
