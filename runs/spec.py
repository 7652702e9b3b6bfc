"""What was asked: everything that decides a run's numbers, and the id that follows from it."""

import dataclasses
import hashlib
import operator
import re
from pathlib import PurePath
from typing import Any

from runs.errors import RunDamaged, StoreTooNew
from runs.files import canonical_json, parse_json, readable_json, remedy

FORMAT = 1
"""The format of `spec.json` that this version writes, and the latest that it reads."""


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """A request: one rule on one architecture and one data set, for all its seeds. Equal requests have equal ids.

    `rule`, `arch` and `optimizer` are canonical call strings, such as `"fa(scale=1.0)"`: the spec compares their text.
    Seed i of `seeds` (initial weights) goes with seed i of `order_seeds` (order of the data). `cohort` is how many
    seeds train together. `sources` holds `(role, sha256)` of each user file that took part. Raises ValueError or
    TypeError on fields that cannot be what they say.
    """

    rule: str
    arch: str
    optimizer: str
    data: str
    data_sha256: str
    train_size: int
    validation_size: int
    epochs: int
    batch: int
    seeds: tuple[int, ...]
    order_seeds: tuple[int, ...]
    cohort: int
    precision: str
    sources: tuple[tuple[str, str], ...] = ()
    format: int = FORMAT

    def __post_init__(self) -> None:
        # One Python type per field, so that a list or a NumPy integer cannot give the same request a second id.
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _settled(field.name, field.type, getattr(self, field.name)))
        if not self.seeds:
            raise ValueError("seeds: a run needs at least one seed")
        if len(self.order_seeds) != len(self.seeds):
            raise ValueError(f"order_seeds: {len(self.order_seeds)} of them for {len(self.seeds)} seeds")
        if len(set(zip(self.seeds, self.order_seeds, strict=True))) < len(self.seeds):
            raise ValueError("seeds: the same seed and order seed twice would train the same network twice")
        for name, least in {"train_size": 1, "validation_size": 0, "epochs": 0, "batch": 1, "cohort": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is below {least}")


def _settled(name: str, kind: Any, value: Any) -> Any:
    if kind is str:
        if not isinstance(value, str):
            raise TypeError(f"{name}: expected text, got {value!r}")
        return value
    if kind is int:
        return _integer(name, value)
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name}: expected several values, got {value!r}")
    if name != "sources":
        return tuple(_integer(name, v) for v in value)
    pairs = tuple(tuple(pair) for pair in value)
    if not all(len(pair) == 2 and all(isinstance(v, str) for v in pair) for pair in pairs):
        raise TypeError(f"sources: expected pairs (role, sha256), got {value!r}")
    return tuple(sorted(pairs))


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None


def canonical(spec: RunSpec) -> str:
    """The one text of a request, from which its id is drawn: sorted keys, no spaces, ASCII."""
    return canonical_json(dataclasses.asdict(spec))


def run_id(spec: RunSpec) -> str:
    """A name for people (rule, data, architecture), then ten hex digits of the sha256 of the canonical text.

    Only `a-z 0-9 _ -`, so it is safe as a folder name, in a shell and in a URL.
    """
    rule = PurePath(spec.rule.partition("(")[0]).name.removesuffix(".py")
    arch, _, arguments = spec.arch.partition("(")
    widths = [a.strip() for a in arguments.rstrip(")").split(",") if a.strip().isdecimal()]
    words = [_safe(word) for word in (rule, spec.data, arch, *widths)]
    prefix = "-".join(word for word in words if word)[:60].rstrip("-_") or "run"
    return f"{prefix}-{hashlib.sha256(canonical(spec).encode('ascii')).hexdigest()[:10]}"


def _safe(word: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")


def to_json(spec: RunSpec) -> str:
    """The text of `spec.json`."""
    return readable_json(dataclasses.asdict(spec))


def from_json(text: str | bytes, name: str = "spec.json") -> RunSpec:
    """The request in `text`. Raises `StoreTooNew` on a later format or unknown fields, `RunDamaged` on anything else
    that is not a spec; `name` is the file to blame."""
    fields = parse_json(text, name)
    if not isinstance(fields, dict):
        raise RunDamaged(f"{name} is damaged: it holds no spec. {remedy(name)}")
    known = {field.name for field in dataclasses.fields(RunSpec)}
    format = fields.get("format", FORMAT)
    if isinstance(format, int) and format > FORMAT:
        raise StoreTooNew(f"{name} has format {format}; this version reads up to {FORMAT}. Upgrade to read this run.")
    if unknown := sorted(fields.keys() - known):
        raise StoreTooNew(
            f"{name} has fields this version does not know ({', '.join(unknown)}). Upgrade to read this run."
        )
    if missing := sorted(known - fields.keys()):
        raise RunDamaged(f"{name} is damaged: {', '.join(missing)} missing. {remedy(name)}")
    try:
        return RunSpec(**fields)
    except (TypeError, ValueError) as error:
        raise RunDamaged(f"{name} is damaged: {error}. {remedy(name)}") from error


def diff(a: RunSpec, b: RunSpec) -> dict[str, tuple[Any, Any]]:
    """The fields in which two requests differ, each with both values. Empty when they are the same request."""
    pairs = {field.name: (getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(RunSpec)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
