"""Where data sets that are not part of the package are kept, and how files get there whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError


def data_folder() -> Path:
    """`$LAB_DATA`; else `credit-lab/data` in the user's cache folder (`$XDG_CACHE_HOME`, else `~/.cache`).

    The folder need not exist yet.
    """
    if chosen := os.environ.get("LAB_DATA"):
        return Path(chosen).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification tells programs to ignore a relative path here.
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "credit-lab" / "data"


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder` (created if need be), removed at the end with whatever is left in it.

    Files are made here and renamed to their place: on the same file system a rename is all or nothing, so no reader
    sees half a file and an interruption leaves the old one. Raises LabError when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    except OSError as error:
        raise LabError(
            f"{folder}: cannot write data sets here ({error.strerror or error}); "
            "set LAB_DATA to a folder that you can write."
        ) from None
    try:
        yield aside
    except OSError as error:
        raise LabError(f"{error.filename or folder}: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
