"""Anybody's arrays from files: read whole, refused in one line, and compared only where they show the same stimuli."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from lab.errors import LabError, NotFound, UsageError
from probes import ProbeError
from probes.feature_maps import as_rows
from probes.features import features


def read_array(path: str) -> np.ndarray:
    """One array from a .npy file; pickled objects are never loaded.

    Raises:
        NotFound, LabError: no such file, or not a .npy file of numbers.
    """
    array = _load(path)
    if not isinstance(array, np.ndarray):
        array.close()
        raise LabError(f"{path} holds several arrays (.npz); save the one to measure with numpy.save")
    return array


def read_features(path: str, maps: str = "") -> np.ndarray:
    """A representation, stimuli × units: a .npy file, or `features` in a .npz file.

    Args:
        maps: how positions become rows (`probes.feature_maps`); then stimuli × positions × units pass as they are.

    Raises:
        NotFound, LabError: as `read_array`, or a .npz file without features.
        ProbeError: not finite numbers in two dimensions; it names the file.
    """
    found = _load(path)
    if not isinstance(found, np.ndarray):
        found = _member(path, found, "features", "save them with numpy.savez(path, features=..., ids=...)")
    if found.ndim < 3:
        return features(found, path)
    if not maps:
        raise ProbeError(
            f"{path} has shape {found.shape}, but a measure takes stimuli × units; say in its name how positions "
            "become rows, as in 'linear-cka(maps=pool)': pool, flatten and positions ask different questions"
        )
    return features(as_rows(found, "flatten"), path).reshape(found.shape)


def read_ids(path: str) -> np.ndarray | None:
    """Which stimulus each row shows, where the file says so: `ids` in a .npz file. None for any other file.

    Raises:
        NotFound, LabError: as `read_features`; ids that are not one per row, or that name a stimulus twice.
    """
    if not zipfile.is_zipfile(path):
        return None
    cure = "save them with numpy.savez(path, features=..., ids=...), or use a .npy file"
    ids, shown = _member(path, _load(path), "ids", cure), _member(path, _load(path), "features", cure)
    if ids.ndim != 1 or not len(ids) or shown.shape[:1] != ids.shape:
        raise LabError(
            f"{path}: ids have shape {ids.shape} and features {shown.shape}; give one id per row of features"
        )
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise LabError(f"{path}: id {values[counts > 1][0]} stands for {counts.max()} rows; give each stimulus one row")
    return ids


def require_same_stimuli(paths: Sequence[str]) -> None:
    """Files that name their stimuli must name the same ones in the same order.

    Raises:
        UsageError: only some of them name their stimuli, or two differ; the first difference is said.
    """
    ids = {path: read_ids(path) for path in dict.fromkeys(paths)}
    named = {path: its for path, its in ids.items() if its is not None}
    if not named:
        return
    if len(named) < len(ids):
        without = next(path for path, its in ids.items() if its is None)
        raise UsageError(
            f"{next(iter(named))} names its stimuli and {without} does not; save both with ids, or neither"
        )
    first, *others = named.items()
    for path, its in others:
        if len(its) != len(first[1]):
            raise UsageError(f"{first[0]} has {len(first[1])} stimuli and {path} {len(its)}; compare the same ones")
        differ = np.flatnonzero(its != first[1])
        if len(differ):
            i = int(differ[0])
            cure = "sort both by id" if set(its.tolist()) == set(first[1].tolist()) else "keep those that both have"
            raise UsageError(f"row {i} is stimulus {first[1][i]} in {first[0]} and {its[i]} in {path}; {cure}")


def _load(path: str) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}; give the path of an array saved with numpy.save") from None
    except (ValueError, OSError, EOFError) as error:
        raise LabError(f"{path} is not a .npy file of numbers ({_reason(error)}); save it with numpy.save") from None


def _member(path: str, archive: Any, name: str, cure: str) -> np.ndarray:
    with archive:
        if name not in archive.files:
            raise LabError(f"{path} holds no '{name}' but {', '.join(archive.files) or 'nothing'}; {cure}")
        try:
            return archive[name]
        except (ValueError, OSError, EOFError) as error:
            raise LabError(f"{path}: '{name}' cannot be read ({_reason(error)}); {cure}") from None


def _reason(error: Exception) -> str:
    said = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
    # NumPy advises to unpickle it: never a stranger's file, and useless for text.
    return "it holds Python objects, or text" if "pickle" in said else said
