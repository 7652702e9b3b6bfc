"""Where runs are kept: one folder each, under `<root>/runs/`."""

import difflib
import os
import secrets
import shutil
from pathlib import Path

from runs.errors import RunDamaged, RunError, RunNotFound
from runs.files import explained, sweep
from runs.folder import SPEC, RunFolder
from runs.lock import Lock
from runs.manifest import NAME as MANIFEST
from runs.manifest import drop_resume
from runs.spec import RunSpec, run_id, to_json

_REMOVED = ".removed-"


def default_root(option: str | Path | None = None) -> Path:
    """Where to keep runs: what the user chose, else `$LAB_STORE`, else `results` in the working folder."""
    return Path(option or os.environ.get("LAB_STORE") or "results").expanduser()


class Store:
    """The runs below one root. Reading creates nothing; a missing root is an empty store."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.runs = self.root / "runs"

    def open(self, spec: RunSpec) -> RunFolder:
        """The run that was asked for, created or reopened, held by this process until closed.

        Raises `RunBusy` where another process holds it, `RunDamaged` where the folder holds another spec.
        """
        path = self.runs / run_id(spec)
        with explained(path, "create"):
            path.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(path, Lock(path))
        try:
            self._settle(folder, spec)
        except BaseException:
            folder.close()
            raise
        return folder

    def _settle(self, folder: RunFolder, spec: RunSpec) -> None:
        """Leave the folder as a reader expects it, whatever a killed process left."""
        sweep(folder.path)
        self._sweep_removed()
        if not (folder.path / SPEC).exists():
            folder.write_bytes(SPEC, to_json(spec).encode("ascii"))
        elif folder.spec != spec:
            raise RunDamaged(
                f"{folder.path / SPEC} holds another spec than its folder's name says. Restore or remove it."
            )
        if folder.status in ("complete", "diverged"):
            drop_resume(folder.path)

    def get(self, spec: RunSpec) -> RunFolder | None:
        """The run of this spec, for reading, or None where it was never begun."""
        path = self.runs / run_id(spec)
        return RunFolder(path) if path.is_dir() else None

    def list(self) -> list[RunFolder]:
        """Every run, for reading, by name: the incomplete and the damaged too, which `RunFolder.status` tells."""
        if not self.runs.is_dir():
            if self.runs.exists() or (self.root.exists() and not self.root.is_dir()):
                raise RunError(f"{self.root} is not a folder of runs but something else. Choose another with --store.")
            return []
        with explained(self.runs, "list"):
            paths = sorted(path for path in self.runs.iterdir() if path.is_dir() and not path.name.startswith("."))
        return [RunFolder(path) for path in paths]

    def find(self, text: str | Path) -> RunFolder:
        """The run that `text` means, for reading: its id, the start of it or any part, or the path of its folder.

        Raises `RunNotFound` where none or several fit.
        """
        text = str(text)
        runs = {run.id: run for run in self.list()}
        if text in runs:
            return runs[text]
        place = Path(text).expanduser()
        if text and any((place / name).is_file() for name in (SPEC, MANIFEST)):
            return RunFolder(place.resolve())
        fits = [name for name in runs if text and name.startswith(text)] or [n for n in runs if text and text in n]
        if len(fits) == 1:
            return runs[fits[0]]
        if fits:
            raise RunNotFound(f"{text!r} fits {len(fits)} runs: {_few(fits)}. Give more of the name.")
        if not runs:
            raise RunNotFound(f"no run {text!r} in {self.runs}: there are none yet. `lab train` makes one.")
        close = difflib.get_close_matches(text, runs, n=3, cutoff=0.4)
        hint = f" Did you mean {_few(close)}?" if close else ""
        raise RunNotFound(f"no run {text!r} in {self.runs}.{hint} `lab runs` lists the runs there are.")

    def remove(self, folder: RunFolder) -> None:
        """Delete a run for good. Raises `RunBusy` where another process holds it; a folder held here is closed."""
        path = folder.path
        if path.parent != self.runs.absolute() or path.name.startswith("."):
            raise RunError(f"{path} is not a run of {self.runs}. Remove it with the --store that it belongs to.")
        if not path.is_dir():
            raise RunNotFound(f"no run {folder.id!r} in {self.runs}. `lab runs` lists the runs there are.")
        lock = None if folder.writable else Lock(path)
        # One rename takes it out of every list at once; deleting file by file would show others a damaged run.
        aside = self.runs / f"{_REMOVED}{secrets.token_hex(4)}-{path.name}"
        try:
            with explained(path, "remove"):
                os.rename(path, aside)
        finally:
            if lock:
                lock.release()
        folder.close()
        self._sweep_removed()

    def _sweep_removed(self) -> None:
        for aside in self.runs.glob(f"{_REMOVED}*"):
            shutil.rmtree(aside, ignore_errors=True)  # out of sight already; a next call takes what is left


def _few(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
