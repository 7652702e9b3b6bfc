"""Files that are either the old one or the new one, never half of either; and JSON with one spelling per value."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runs.errors import RunDamaged, RunError, RunNotFound, StoreFull

TEMPORARY = ".part"
"""How the name of a file ends while it is being written. A killed writer leaves one behind; `sweep` removes it."""


def write_atomically(path: Path | str, data: bytes) -> None:
    """Put `data` at `path`, creating its folder. Raises `StoreFull` or `RunError`, and then `path` is as it was."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
    with explained(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_through(temporary, data)
            os.replace(temporary, path)
        except BaseException:  # an interrupt too must not leave the temporary behind
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(path.parent)


def _write_through(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(data)
        while rest:  # the system may take less than it is given
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    # The new name survives a power cut only once the folder is on disk. Some file systems cannot sync a folder; the
    # file itself is whole either way, so that is no reason to fail.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_bytes(path: Path | str) -> bytes:
    """The content of `path`. Raises `RunNotFound` where there is none, `RunError` where it cannot be read."""
    with explained(path, "read"):
        return Path(path).read_bytes()


def sha256_of(path: Path | str) -> str:
    """The sha256 of a file, in hex, read in pieces."""
    with explained(path, "read"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(folder: Path) -> None:
    """Remove what killed writers left half-written below `folder`. Only for a process that holds the folder alone."""
    with explained(folder, "clean"):
        for leftover in folder.rglob(f".*{TEMPORARY}"):
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def explained(path: Path | str, doing: str) -> Iterator[None]:
    """Turn an `OSError` about `path` into a `RunError` that says what to do; `doing` is a verb, such as "write"."""
    try:
        yield
    except OSError as error:
        raise _explanation(error, path, doing) from error


def _explanation(error: OSError, path: Path | str, doing: str) -> RunError:
    start = f"cannot {doing} {path}: "
    match error.errno:
        case errno.ENOSPC:
            return StoreFull(start + "the disk is full. Free some space, or choose another disk with --store.")
        case errno.EDQUOT:
            return StoreFull(
                start + "your disk quota is used up. Free some space, or choose another disk with --store."
            )
        case errno.EROFS:
            return RunError(start + "the disk is read-only. Choose a place you may write to with --store.")
        case errno.EACCES | errno.EPERM:
            return RunError(start + "permission denied. Change the permissions, or choose another place with --store.")
        case errno.ENOENT if doing in ("create", "write"):
            return RunError(start + "no folder can be made there. Choose another place with --store.")
        case errno.ENOENT:
            return RunNotFound(start + "it does not exist. `lab runs` lists the runs that do.")
        case errno.ENOLCK | errno.EOPNOTSUPP | errno.ENOSYS:
            return RunError(start + "this file system has no locks. Choose a local disk with --store.")
        case _:
            return RunError(start + f"{error.strerror or error}. Check the disk, or choose another with --store.")


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, ASCII, shortest floats. ValueError on nan or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=_plain)


def readable_json(value: Any) -> str:
    """JSON for people: indented, keys in the order given. ValueError on nan or infinity, which JSON cannot say."""
    return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False, default=_plain) + "\n"


def parse_json(data: bytes | str, name: str) -> Any:
    """The value of a JSON text; `name` is the file it came from, for the message of `RunDamaged`."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunDamaged(f"{name} is damaged: it is not JSON ({error}). {remedy(name)}") from error


def remedy(name: str) -> str:
    """What to do about a damaged file at path `name`: training a run again would first read it, and stop there too."""
    run = next((folder.name for folder in Path(name).parents if folder.parent.name == "runs"), "RUN")
    return f"Restore it, or remove the run with `lab runs rm {run}` and train it again."


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays as Python ones; they offer `tolist`, and nothing else that reaches JSON does."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")
