"""A figure on disk: the picture, the table of what it shows, and a note of where it came from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from lab.errors import LabError, UsageError
from lab.figures.drawn import Drawn
from lab.figures.style import drawing
from runs import RunError, package_versions
from runs.files import readable_json, write_atomically

FORMATS = (".pdf", ".png", ".svg")
PACKAGES = ("credit-lab", "matplotlib", "numpy", "pandas", "jax", "scipy")
SCHEMA = 1


def check_path(path: Path | str) -> Path:
    """The path, if a figure can be written there; asked before anything is computed, so that no work is lost.

    Raises:
        UsageError: the extension is none of a figure's.
        LabError: the folder is missing.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"-o {path}: the name of a figure ends in {', '.join(FORMATS)}, which chooses the format")
    if not path.parent.is_dir():
        raise LabError(f"-o {path}: there is no folder {path.parent}; make it first, or write elsewhere")
    return path


def save(drawn: Drawn, path: Path | str, sidecar: dict[str, Any]) -> list[Path]:
    """Write the figure, `<stem>.csv` with the plotted table and `<stem>.json` with its origin; returns the three paths.

    Args:
        drawn: the figure.
        path: its extension chooses the format.
        sidecar: what the caller knows of its origin (name, runs, command, options); caption, style and versions
            are added.

    Raises:
        UsageError, LabError: see `check_path`; or the disk refused, and then that file is as it was.
    """
    path = check_path(path)
    table, note = path.with_suffix(".csv"), path.with_suffix(".json")
    record = {
        "schema": SCHEMA,
        **sidecar,
        "files": {"figure": path.name, "table": table.name},
        "style": drawn.style.name,
        "width_in": drawn.style.width_in,
        "caption": drawn.caption,
        "versions": package_versions(PACKAGES),
    }
    content = {
        path: _rendered(drawn, path.suffix.lower()[1:], record),
        table: drawn.table.to_csv(index=False, lineterminator="\n").encode(),
        note: readable_json(record).encode(),
    }
    for place, data in content.items():
        try:
            write_atomically(place, data)
        except RunError as error:
            why = getattr(error.__cause__, "strerror", None) or str(error)
            raise LabError(f"cannot write {place}: {why}; write elsewhere with -o, or free some space") from error
    return list(content)


def _rendered(drawn: Drawn, kind: str, record: dict[str, Any]) -> bytes:
    """The picture's bytes: the same for the same table, because no date goes in, and its origin does."""
    about = str(record.get("figure", "figure"))
    runs = ", ".join(record.get("runs", []))
    metadata: dict[str, Any] = {"Title": about}
    if kind == "pdf":
        metadata |= {"Subject": drawn.caption, "Keywords": runs, "CreationDate": None}
    elif kind == "svg":
        metadata |= {"Description": drawn.caption, "Keywords": runs or None, "Date": None}
    else:
        metadata |= {"Description": drawn.caption, "Source": runs}
    buffer = io.BytesIO()
    with drawing(drawn.style):  # font types and resolution are read when a figure is written, not when it is drawn
        drawn.figure.savefig(
            buffer, format=kind, metadata={k: v for k, v in metadata.items() if v or k.endswith("Date")}
        )
    return buffer.getvalue()
