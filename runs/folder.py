"""One run on disk: its spec, its manifest, its tables, checkpoints and sources."""

import contextlib
import hashlib
import io
import re
from pathlib import Path, PurePosixPath
from typing import Any, Self

from runs import checkpoint
from runs.errors import RunDamaged, RunError, RunNotFound
from runs.files import explained, parse_json, read_bytes, readable_json, sha256_of, write_atomically
from runs.lock import Lock
from runs.manifest import NAME as MANIFEST
from runs.manifest import diverged_seeds, parse_manifest, sealed
from runs.spec import RunSpec, from_json, run_id

SPEC = "spec.json"


class RunFolder:
    """A run's folder. `Store.open` gives one that may write, until `close` or the end of its `with` block;
    `Store.find` and `Store.list` give ones that only read, and what they read is always as the disk has it now."""

    def __init__(self, path: Path | str, lock: Lock | None = None) -> None:
        self.path = Path(path).absolute()
        self.id = self.path.name
        self._lock = lock

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the run back to other processes. Reading goes on working."""
        if self._lock:
            self._lock.release()

    @property
    def writable(self) -> bool:
        """Whether this process holds the run."""
        return bool(self._lock and self._lock.held)

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def spec(self) -> RunSpec:
        """What was asked. Raises `RunNotFound`, `RunDamaged` or `StoreTooNew`."""
        return from_json(self.read_bytes(SPEC), str(self.path / SPEC))

    @property
    def manifest(self) -> dict[str, Any]:
        """What happened, so far or finally. Raises `RunNotFound`, `RunDamaged` or `StoreTooNew`."""
        return parse_manifest(self.read_bytes(MANIFEST), str(self.path / MANIFEST))

    @property
    def status(self) -> str:
        """ "complete", "diverged" (complete, but some seeds left the finite numbers), "incomplete" or "damaged".

        Looks at the names and sizes of files only; `verify` reads them. Never raises.
        """
        return self._look()[0]

    @property
    def problem(self) -> str | None:
        """Why `status` is "damaged" (a run from a later version counts as that), or None. Never raises."""
        problems = self._look()[1]
        return problems[0] if problems else None

    def _look(self) -> tuple[str, list[str]]:
        try:
            expected = run_id(self.spec)
            manifest = self.manifest
        except RunNotFound as error:  # a run killed at its start has no manifest, and perhaps not even a spec
            return ("damaged", [str(error)]) if (self.path / MANIFEST).exists() else ("incomplete", [])
        except RunError as error:
            return "damaged", [str(error)]
        if expected != self.id:
            return "damaged", [f"{self.path} holds the spec of {expected}: rename it back, or restore {SPEC}."]
        if not manifest["complete"]:
            return "incomplete", []
        if problems := [problem for name in manifest["files"] if (problem := self._misfit(name, manifest))]:
            return "damaged", problems
        return ("diverged" if diverged_seeds(manifest) else "complete"), []

    def _misfit(self, name: str, manifest: dict[str, Any]) -> str | None:
        path, recorded = self.path / name, manifest["files"][name]["bytes"]
        try:
            size = path.stat().st_size
        except OSError as error:
            return f"{path} is missing or out of reach ({error.strerror})."
        return None if size == recorded else f"{path} has {size} bytes; {recorded} were written."

    def verify(self) -> list[str]:
        """Read everything, and say what is not as it was written: one line each. Empty when the run is sound.

        For an incomplete run, what can be checked is its spec, its manifest and its checkpoints.
        """
        status, problems = self._look()
        if problems or not (self.path / SPEC).exists():
            return problems
        if status != "incomplete":
            return [
                problem for name, entry in self.manifest["files"].items() if (problem := self._altered(name, entry))
            ]
        for name in [*self.files(), *(f"resume/{path.name}" for path in self.path.glob("resume/[!.]*.safetensors"))]:
            if name.endswith(".safetensors"):
                try:
                    checkpoint.load(self.path / name)
                except RunError as error:
                    problems.append(str(error))
        return problems

    def _altered(self, name: str, entry: dict[str, Any]) -> str | None:
        try:
            found = sha256_of(self.path / name)
        except RunError as error:
            return str(error)
        return None if found == entry["sha256"] else f"{self.path / name} was changed after it was written (sha256)."

    def require_complete(self) -> Self:
        """This folder, if its run is finished and looks sound.

        Raises `RunNotFound` where it is incomplete, `RunDamaged` or `StoreTooNew` where it cannot be read.
        """
        status, problems = self._look()
        if status == "incomplete":
            raise RunNotFound(
                f"{self.id} is incomplete: it was interrupted, or still runs. Train it again to resume it."
            )
        if status == "damaged":
            _ = self.spec, self.manifest  # these know best what is wrong with themselves
            raise RunDamaged(f"{self.id} is damaged: {problems[0]}")
        return self

    def files(self) -> list[str]:
        """The sorted relative names of what the run is made of: not its manifest, hidden files or resume state."""
        with explained(self.path, "read"):
            paths = [path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file()]
        kept = (p for p in paths if not any(part.startswith(".") for part in p.parts) and p.parts[0] != "resume")
        return sorted(p.as_posix() for p in kept if p.as_posix() != MANIFEST)

    def size(self) -> int:
        """Bytes on disk, all files counted, of a run that may be growing meanwhile."""
        total = 0
        with explained(self.path, "read"):
            for path in self.path.rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    total += path.stat().st_size if path.is_file() else 0
        return total

    # --- what is in it ------------------------------------------------------------------------------------------------

    def _place(self, name: str) -> Path:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise ValueError(f"{name!r} does not name a file inside a run")
        return self.path / relative

    def write_bytes(self, name: str, data: bytes) -> None:
        """Put a file into the run, whole or not at all. Raises `RunError` unless this process holds the run."""
        if not self.writable:
            raise RunError(f"cannot write {name} into {self.id}: it was opened for reading only.")
        write_atomically(self._place(name), data)

    def read_bytes(self, name: str) -> bytes:
        """A file of the run. Raises `RunNotFound`."""
        return read_bytes(self._place(name))

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON; NumPy numbers and arrays are taken, nan and infinity are a ValueError."""
        value = sealed(value) if name == MANIFEST else value
        self.write_bytes(name, readable_json(value).encode("ascii"))

    def read_json(self, name: str) -> Any:
        """Read JSON. Raises `RunNotFound` or `RunDamaged`."""
        return parse_json(self.read_bytes(name), str(self._place(name)))

    def write_table(self, name: str, rows: Any) -> None:
        """Write a tidy table as Parquet: a DataFrame, or what makes one (a list of dicts, a dict of columns).

        The name's `.parquet` may be left out.
        """
        import pandas as pd

        buffer = io.BytesIO()
        pd.DataFrame(rows).to_parquet(buffer, engine="pyarrow", index=False)
        self.write_bytes(_table(name), buffer.getvalue())

    def read_table(self, name: str) -> Any:
        """Read a table as a DataFrame. Raises `RunNotFound` or `RunDamaged`."""
        import pandas as pd
        import pyarrow as pa

        data = self.read_bytes(_table(name))
        try:
            return pd.read_parquet(io.BytesIO(data), engine="pyarrow")
        except (pa.ArrowException, OSError, ValueError) as error:
            path = self._place(_table(name))
            raise RunDamaged(
                f"{path} is damaged: it is not a Parquet table. Restore it, or train the run again."
            ) from error

    def add_source(self, role: str, file_name: str, data: bytes) -> str:
        """Keep a user's file under `source/<role>/`, and return its sha256.

        Raises `RunError` where the spec names no such source: the file was edited since the run was asked for.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        if (role, sha256) not in self.spec.sources:
            raise RunError(f"{file_name} is not the {role} that {self.id} was asked for: it has changed. Start again.")
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", PurePosixPath(file_name).name).lstrip(".") or "source"
        self.write_bytes(f"source/{re.sub(r'[^A-Za-z0-9_-]+', '_', role)}/{safe}", data)
        return sha256


def _table(name: str) -> str:
    return name if name.endswith(".parquet") else f"{name}.parquet"
