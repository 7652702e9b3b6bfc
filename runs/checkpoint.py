"""Arrays on disk: trees of arrays to flat names and back, safetensors files that notice any altered byte.

Every byte of a checkpoint follows from its content, so two runs that agree leave identical files.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from runs.errors import RunDamaged, RunNotFound
from runs.files import canonical_json, parse_json, read_bytes, write_atomically

# Name in a safetensors header -> NumPy name. bfloat16 is NumPy's only where ml_dtypes has registered it.
_DTYPES = {
    **{"BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32"},
    **{"U64": "uint64", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64"},
    **{"C64": "complex64", "BF16": "bfloat16"},
}

# The library writes several metadata entries in an order that changes between processes; one entry has one order.
_ENTRY = "lab"


def save(path: Path | str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays and text metadata to a safetensors file, atomically.

    Raises TypeError on a dtype that safetensors cannot hold (complex128, objects), `StoreFull` or `RunError` from
    the disk.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES.values():
            raise TypeError(f"{name or 'the array'}: a checkpoint cannot hold dtype {array.dtype}")
    metadata = dict(metadata or {})
    if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise TypeError("metadata must map text to text")
    entry = canonical_json({"sha256": _digest(arrays, metadata), "metadata": metadata})
    write_atomically(path, safetensors.numpy.save(arrays, metadata={_ENTRY: entry}))


def load(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays (writable, sorted by name) and metadata of a file that `save` wrote.

    Raises `RunNotFound` where there is none, `RunDamaged` where anything in it is not as written.
    """
    path = Path(path)
    data = read_bytes(path)
    again = "Restore it, or remove it and train on from an earlier one."
    try:
        flat = safetensors.deserialize(data)
        length = int.from_bytes(data[:8], "little")
        entry = parse_json(parse_json(data[8 : 8 + length], str(path))["__metadata__"][_ENTRY], str(path))
        arrays = {name: _array(view) for name, view in sorted(flat, key=lambda item: item[0])}
        metadata = entry["metadata"]
        sound = entry["sha256"] == _digest(arrays, metadata)
    except (safetensors.SafetensorError, LookupError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, safetensors.SafetensorError) else "its header is not one of ours"
        raise RunDamaged(f"{path} is damaged: {reason}. {again}") from error
    if not sound:
        raise RunDamaged(f"{path} is damaged: its content is not what was written. {again}")
    return arrays, metadata


def _array(view: dict[str, Any]) -> np.ndarray:
    name = _DTYPES[view["dtype"]]
    if name == "bfloat16":
        import ml_dtypes  # noqa: F401  (registers the name with NumPy)
    return np.frombuffer(view["data"], dtype=np.dtype(name)).reshape(view["shape"])


def _digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    outline = [[name, array.dtype.name, array.shape] for name, array in sorted(arrays.items())]
    digest = hashlib.sha256(canonical_json([outline, metadata]).encode("ascii"))
    for _, array in sorted(arrays.items()):
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


# --- trees ------------------------------------------------------------------------------------------------------------


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of nested dicts, tuples, lists and NamedTuples, each under its path, such as `"layers/0/W"`.

    NamedTuples give their field names; None and empty containers give nothing; a lone array has the path "". A slash
    inside a key becomes `~1` and a tilde `~0`, so that paths stay distinct. Raises ValueError on two keys that read
    alike (0 and "0"), TypeError on a leaf that is no array or number.
    """
    flat: dict[str, np.ndarray] = {}
    for path, leaf in _leaves(tree, ""):
        if path in flat:
            raise ValueError(f"{path}: two keys of the tree read alike")
        array = np.asarray(leaf)
        if array.dtype == object:
            raise TypeError(f"{path or 'the tree'}: expected an array, got {type(leaf).__name__}")
        flat[path] = array
    return flat


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = _children(tree)
    if children is None:
        yield path, tree
        return
    for key, child in children:
        yield from _leaves(child, _join(path, key))


def _children(tree: Any) -> list[tuple[Any, Any]] | None:
    """The named parts of a container, or None where `tree` is a leaf."""
    if tree is None:
        return []
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, tuple | list):
        return list(zip(getattr(tree, "_fields", range(len(tree))), tree, strict=True))
    return None


def _join(path: str, key: Any) -> str:
    part = str(key).replace("~", "~0").replace("/", "~1")
    return f"{path}/{part}" if path else part


def unflatten_like(template: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The tree shaped like `template` whose leaves are `arrays`, as `flatten` named them; inverse to it, bit for bit.

    Leaves of the template need only `shape` and `dtype`. Raises `RunDamaged` naming the first leaf that is missing,
    has another shape or dtype, or that the template does not know.
    """
    known: set[str] = set()
    tree = _rebuild(template, "", arrays, known)
    if extra := sorted(arrays.keys() - known):
        raise RunDamaged(f"{extra[0]} is stored, but this run has no such array. Was it written by another version?")
    return tree


def _rebuild(template: Any, path: str, arrays: Mapping[str, np.ndarray], known: set[str]) -> Any:
    children = _children(template)
    if children is None:
        known.add(path)
        return _matching(template, path, arrays)
    if template is None:
        return None
    parts = [_rebuild(child, _join(path, key), arrays, known) for key, child in children]
    if isinstance(template, Mapping):
        return type(template)(zip(template, parts, strict=True))
    return type(template)(*parts) if hasattr(template, "_fields") else type(template)(parts)


def _matching(leaf: Any, path: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    name = path or "the array"
    if path not in arrays:
        raise RunDamaged(f"{name} is not stored, but this run needs it. Was it written by another version?")
    array = arrays[path]
    wanted = leaf if hasattr(leaf, "shape") and hasattr(leaf, "dtype") else np.asarray(leaf)
    if tuple(array.shape) != tuple(wanted.shape):
        raise RunDamaged(f"{name} is stored with shape {tuple(array.shape)}, but this run needs {tuple(wanted.shape)}.")
    if array.dtype != wanted.dtype:
        raise RunDamaged(f"{name} is stored as {array.dtype}, but this run needs {wanted.dtype}.")
    return array


# --- names inside a run's folder --------------------------------------------------------------------------------------


def checkpoint_name(cohort: int, step: int) -> str:
    """Where a run keeps the state of a cohort after `step` steps (0: as initialised)."""
    return f"checkpoints/cohort{cohort}-step{step:08d}.safetensors"


def resume_name(cohort: int) -> str:
    """Where a run keeps what a cohort needs to go on; gone once the run is finished."""
    return f"resume/cohort{cohort}.safetensors"


def list_checkpoints(folder: Any, cohort: int) -> list[int]:
    """The steps, ascending, of which `folder` (a `RunFolder` or its path) holds a checkpoint of `cohort`."""
    place = Path(getattr(folder, "path", folder)) / "checkpoints"
    named = (re.fullmatch(rf"cohort{cohort}-step(\d+)\.safetensors", file.name) for file in place.glob("cohort*"))
    return sorted(int(match[1]) for match in named if match)


def load_checkpoint(folder: Any, cohort: int, step: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """`load` of one checkpoint of a run. Raises `RunNotFound` naming the steps that there are."""
    steps = list_checkpoints(folder, cohort)
    if step not in steps:
        there = f"it has steps {', '.join(map(str, steps))}" if steps else "it has none for that cohort"
        raise RunNotFound(
            f"no checkpoint of cohort {cohort} at step {step} in {getattr(folder, 'path', folder)}: {there}."
        )
    return load(Path(getattr(folder, "path", folder)) / checkpoint_name(cohort, step))
