"""One process per run: an advisory lock on a file in the run's folder, which the system drops with the process."""

import fcntl
import json
import os
import socket
import weakref
from pathlib import Path

from runs.errors import RunBusy
from runs.files import explained

NAME = ".lock"


class Lock:
    """Holds a folder exclusively from construction to `release`, garbage collection or the end of the process.

    Raises `RunBusy` at once when another holder exists; `RunError` where the disk cannot lock. The folder must exist.
    """

    def __init__(self, folder: Path) -> None:
        with explained(folder, "lock"):
            descriptor = _locked(folder)
        self.release = weakref.finalize(self, os.close, descriptor)
        """Gives the folder back; a second call does nothing."""
        with explained(folder, "lock"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_myself()).encode(), 0)

    @property
    def held(self) -> bool:
        return self.release.alive


def _locked(folder: Path) -> int:
    path = folder / NAME
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, the folder may have been removed; then this lock guards nothing.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise RunBusy(
                f"{folder.name} is in use by {holder}. Wait for it to end, or work elsewhere with --store."
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _myself() -> dict[str, int | str]:
    return {"pid": os.getpid(), "host": socket.gethostname()}


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        if holder == _myself():
            return "this process"
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, LookupError, TypeError):  # it has locked, but not yet said who it is
        return "another process"
