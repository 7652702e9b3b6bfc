"""Tables that follow from stored runs: kept in the store under a key of all they follow from, never computed twice."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from lab.measures import Probe, require_once
from runs import RunFolder, package_versions
from runs.files import write_atomically


class Asked(NamedTuple):
    """What a command asks of stored runs.

    Attributes:
        probes, sources: what is measured, and the user's files that they are from; None for a probe of the lab.
        plan: the plan, its measures by their labels.
        about, key: as `request` gives them.
    """

    probes: list[Probe]
    sources: list[bytes | None]
    plan: Any
    about: dict[str, Any]
    key: str


def asked(folders: list[RunFolder], plan: Any, probe_of: Callable[[str], tuple[Probe, bytes | None]]) -> Asked:
    """The probes that a plan names, and the key of what they are to say of these runs.

    Args:
        plan: a dataclass with call strings as `measures`.
        probe_of: call string -> probe and the user's source.

    Raises:
        UsageError: a measure that cannot be asked here, or twice.
        runs.RunError: a run is incomplete or damaged.
    """
    for folder in folders:
        folder.require_complete()
    made = [probe_of(text) for text in plan.measures]
    probes, sources = [probe for probe, _ in made], [source for _, source in made]
    require_once(probes)
    plan = replace(plan, measures=tuple(probe.info.label for probe in probes))
    return Asked(probes, sources, plan, *request(folders, plan, sources))


def request(folders: list[RunFolder], plan: Any, own: Iterable[bytes | None]) -> tuple[dict[str, Any], str]:
    """All that the tables follow from, and its key: the runs' content, the plan, this code, the user's own probes.

    Args:
        plan: a dataclass whose fields JSON can hold.
        own: sources of the probes; None for those of the lab.
    """
    about = {
        "schema": 1,
        "runs": [folder.id for folder in folders],
        "manifests": [hashlib.sha256(folder.read_bytes("manifest.json")).hexdigest() for folder in folders],
        "plan": asdict(plan),
        "own_probes": [hashlib.sha256(source).hexdigest() for source in own if source is not None],
        "source": source_digest(),
        "versions": package_versions(("credit-lab", "numpy", "scipy", "jax", "ripser")),
    }
    return about, hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:10]


def source_digest() -> str:
    """Hash of the code that the tables follow from: those made before a change are not taken for new ones.

    All but the command line and the drawing, since a list of what matters would be forgotten some day.
    """
    root = Path(__file__).resolve().parent
    rooms = (root.parent / "probes", root.parent / "algorithms", root, root / "datasets")
    files = [file for room in rooms for file in sorted(room.glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def read_tables(place: Path, file: str, names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Tables made earlier and what is said about them; None where not all of it can be read, so that it is made again.

    Args:
        file: the JSON file that is written last.
    """
    import pandas as pd
    import pyarrow as pa

    try:
        about = json.loads((place / file).read_text())
        return {name: pd.read_parquet(place / f"{name}.parquet") for name in names}, about
    except (OSError, ValueError, pa.ArrowException):
        return None


def write_tables(place: Path, file: str, tables: dict[str, Any], about: dict[str, Any]) -> None:
    """Write data frames and, last, the JSON file that says they are whole."""
    place.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        buffer = io.BytesIO()
        table.to_parquet(buffer, engine="pyarrow", index=False)
        write_atomically(place / f"{name}.parquet", buffer.getvalue())
    write_atomically(place / file, (json.dumps(about, indent=1) + "\n").encode())


def once(path: Path, of: dict[str, Any], make: Callable[[], Any]) -> Any:
    """What `make` returns; made at most once, though the program be stopped before the whole it is part of is stored.

    It is kept at `path` under its own hash and beside a description of what it is, so that neither half a file nor the
    part of another whole is taken for it. Always in the form JSON gives back, so that what was kept and what is new are
    the same.
    """
    try:
        digest, text = path.read_text().split("\n", 1)
        if digest == hashlib.sha256(text.encode()).hexdigest() and (kept := json.loads(text))["of"] == of:
            return kept["made"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    text = json.dumps({"of": of, "made": make()}, default=lambda number: number.tolist())
    write_atomically(path, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}".encode())
    return json.loads(text)["made"]
