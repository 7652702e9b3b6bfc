"""Bringing a known data set into the data folder: from its official address, or from files the user already has."""

import contextlib
import hashlib
import http.client
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from lab.datasets.folder import data_folder, staging
from lab.datasets.idx import read_idx
from lab.datasets.sources import check_md5, find, find_file, read_known
from lab.datasets.table import DATASETS, File, Source
from lab.errors import LabError, NotFound, UsageError, did_you_mean

TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 20
Say = Callable[[str], None]


def fetch(name: str, from_dir: Path | str | None = None, say: Say | None = None) -> Path:
    """Put the files of the known set `name` into the data folder, all of them or none, and return where the set is.

    from_dir: a folder that holds the official files (IDX files may be decompressed); without it they are downloaded.
    say: receives a line per file; by default they go to standard error.
    A set that is here already and whole is left alone; one that is damaged is fetched again.

    Raises UsageError for an unknown name; NotFound when `from_dir` or a file in it is missing; LabError, naming file or
    address, for a failed download and for contents that are not the published ones.
    """
    say = say or (lambda line: print(line, file=sys.stderr))
    if name not in DATASETS:
        raise UsageError(
            f"'{name}' is not a data set that can be fetched.{did_you_mean(name, list(DATASETS))} "
            f"These can: {', '.join(DATASETS)}. Add your own with `lab data add NAME FILE.npz`."
        )
    source = DATASETS[name]
    if (place := find(source)) is not None:
        try:
            read_known(source, place.paths)
        except LabError as error:
            if source.packaged:
                raise LabError(f"{error.message} Install the package again.") from None
            say(f"{error.message} Fetching it again.")
        else:
            say(f"{name} is already here ({place.state}).")
            return place.folder
    target = data_folder() / name
    with staging(data_folder()) as aside:
        paths = tuple(_bring(file, source, from_dir, aside, say) for file in source.files)
        read_known(source, paths)
        target.mkdir(exist_ok=True)
        for path, file in zip(paths, source.files, strict=True):
            # One form of each file: a plain copy left from before would otherwise be shadowed, or shadow this one.
            for stale in {file.name, file.plain_name or file.name} - {path.name}:
                (target / stale).unlink(missing_ok=True)
            os.replace(path, target / path.name)
    return target


def _bring(file: File, source: Source, from_dir: Path | str | None, aside: Path, say: Say) -> Path:
    """Copy or download one file into `aside`, checked; its path there."""
    if from_dir is None:
        _download(file, source, aside / file.name, say)
        return aside / file.name
    folder = Path(from_dir).expanduser()
    if not folder.is_dir():
        problem = "is a file; --from takes the folder it is in" if folder.exists() else "no such folder"
        raise NotFound(f"{folder}: {problem}.")
    if (path := find_file(file, folder)) is None:
        plain = f" (or {file.plain_name})" if file.plain_name else ""
        raise NotFound(f"{folder} has no {file.name}{plain}, which {source.name} needs.")
    # Checked where it lies, so that a complaint names the user's file.
    check_md5(file, path)
    if file.shape is not None:
        read_idx(path, file.shape, file.sha256)
    if file.sha256 is None and path.name != file.name:
        say(f"warning: {path}: no checksum is published for the decompressed file; only its shape was checked.")
    shutil.copyfile(path, aside / path.name)
    say(f"{path}: checked and copied.")
    return aside / path.name


def _download(file: File, source: Source, target: Path, say: Say) -> None:
    request = urllib.request.Request(file.url, headers={"User-Agent": "credit-lab"})
    digest, received = hashlib.md5(usedforsecurity=False), 0
    by_hand = f"get it by hand and run `lab data fetch {source.name} --from DIR`"
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
        with contextlib.closing(response):
            size = int(response.headers.get("Content-Length") or 0)
            say(f"{file.url}" + (f" ({size / 1e6:.1f} MB)" if size else ""))
            with target.open("wb") as out:
                while chunk := response.read(CHUNK):
                    out.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
                    if size and received // (10 * CHUNK) != (received - len(chunk)) // (10 * CHUNK):
                        say(f"  {received / 1e6:.0f} of {size / 1e6:.0f} MB")
    # OSError covers URLError, HTTPError, time-outs and connections cut.
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is also the response, whose connection is still open
            reason = f"{error.code} {error.reason}"
        else:
            reason = getattr(error, "reason", None) or error
        raise LabError(f"{file.url} could not be downloaded ({reason}); {by_hand}.") from None
    if received < size:
        raise LabError(f"{file.url} was cut off: expected {size} bytes, found {received}; try again, or {by_hand}.")
    if (found := digest.hexdigest()) != file.md5:
        raise LabError(f"{file.url} gave wrong contents: expected MD5 {file.md5}, found {found}; {by_hand}.")
