"""Finding a data set by name and loading it: packaged, fetched, installed by the system, or the user's own."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.datasets.cifar import read_cifar10
from lab.datasets.dataset import Dataset, make_dataset
from lab.datasets.folder import data_folder
from lab.datasets.idx import read_idx
from lab.datasets.table import DATASETS, File, Source
from lab.datasets.user_sets import describe, is_safe_name, read_npz, user_path, user_sets
from lab.errors import LabError, NotFound, UsageError, did_you_mean

PACKAGE_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Place:
    """Where a known set was found: `state` is packaged, fetched or system; `paths` are in the order of its files."""

    state: str
    folder: Path
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Listing:
    """One line of `lab data`. state: packaged, fetched, system, added, not fetched, or damaged.

    Counts, shape and classes are None for a damaged set; path is None for one that is not on this machine.
    """

    name: str
    state: str
    train: int | None
    test: int | None
    shape: tuple[int, int, int] | None
    classes: int | None
    path: str | None
    licence: str | None

    def as_json(self) -> dict:
        """Plain values, the shape as a list."""
        return asdict(self) | {"shape": None if self.shape is None else list(self.shape)}


def load(name: str) -> Dataset:
    """The data set of this name, checked against its published checksums where there are any.

    Raises UsageError for a name that is neither known nor the user's own; NotFound for a known set that is not on this
    machine; LabError for a file that is damaged or not the published one. Every call reads the files anew.
    """
    require_known(name)
    if name not in DATASETS:
        return read_npz(name, user_path(name))
    source = DATASETS[name]
    place = find(source)
    if place is None:
        files = ", ".join(file.name for file in source.files)
        raise NotFound(
            f"{name} is not on this machine; run `lab data fetch {name}`, or `lab data fetch {name} --from DIR` "
            f"with {'these files' if len(source.files) > 1 else 'this file'}: {files}."
        )
    return read_known(source, place.paths)


def require_known(name: str) -> None:
    """Refuse a name that is neither a known data set's nor one of the user's own, with UsageError."""
    if name in DATASETS or (is_safe_name(name) and user_path(name).is_file()):
        return
    known = [*DATASETS, *user_sets()]
    raise UsageError(
        f"There is no data set '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}. "
        "Add your own with `lab data add NAME FILE.npz`."
    )


def find(source: Source) -> Place | None:
    """Where all files of a known set are, looking at names only; None unless every one is there."""
    if source.packaged:
        paths = tuple(PACKAGE_FOLDER / f"{source.name}-{file.plain_name}.xz" for file in source.files)
        return Place("packaged", PACKAGE_FOLDER, paths)
    for state, folder in (("fetched", data_folder() / source.name), ("system", source.system_folder)):
        paths = [] if folder is None else [find_file(file, folder) for file in source.files]
        if paths and None not in paths:
            return Place(state, folder, tuple(paths))
    return None


def find_file(file: File, folder: Path) -> Path | None:
    """The file in `folder` as published, else decompressed where that form is usable, else None."""
    names = [file.name] if file.plain_name is None else [file.name, file.plain_name]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_known(source: Source, paths: tuple[Path, ...]) -> Dataset:
    """A known set from its files, given in the order of `source.files`. Raises as `load` does."""
    for file, path in zip(source.files, paths, strict=True):
        check_md5(file, path)
    if source.files[0].shape is None:
        arrays = read_cifar10(paths[0], source.train, source.test)
    else:
        arrays = [read_idx(path, file.shape, file.sha256) for file, path in zip(source.files, paths, strict=True)]
        arrays[0::2] = [images[..., None] for images in arrays[0::2]]
        for path, array in zip(paths[1::2], arrays[1::2], strict=True):
            if array.max() >= source.classes:
                raise LabError(f"{path}: expected labels 0..{source.classes - 1}, found {array.max()}.")
    return make_dataset(source.name, *arrays, classes=source.classes)


def check_md5(file: File, path: Path) -> None:
    """Refuse (LabError) a published file that is not the published bytes, where its contents have no SHA-256 to check.

    Where they have, that is the stronger test and admits a recompressed file, so MD5 is not asked.
    """
    if file.sha256 is None and path.name == file.name:
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != file.md5:
            raise LabError(f"{path}: wrong contents: expected MD5 {file.md5}, found {found}.")


def listing() -> list[Listing]:
    """All known sets in the order of the table, then the user's own by name. Reads no pixels."""
    rows = []
    for source in DATASETS.values():
        place = find(source)
        state, path = ("not fetched", None) if place is None else (place.state, str(place.folder))
        facts = (source.train, source.test, source.shape, source.classes)
        rows.append(Listing(source.name, state, *facts, path, source.licence))
    for name, path in user_sets().items():
        try:
            state, facts = "added", describe(path)
        except LabError:
            state, facts = "damaged", (None, None, None, None)
        rows.append(Listing(name, state, *facts, str(path), None))
    return rows
