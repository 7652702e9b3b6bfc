"""A study: several rules trained alike, compared, drawn, and summed up in a few sentences."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from lab.capture import stimuli
from lab.comparison import Plan, compare_runs
from lab.errors import LabError, NotFound, UsageError, did_you_mean
from lab.figures.stored import FIGURES, draw
from lab.findings import findings
from lab.fit import check_fit
from lab.measures import pair_probe_of
from lab.request import Request, Wish, make_request
from lab.runner import train
from lab.summary import rule_name, summarise
from runs import RunFolder, Store, run_id
from runs.files import write_atomically


@dataclass(frozen=True)
class Study:
    """What a study asks, as its TOML file says it, at one of its sizes.

    Attributes:
        reference: the rule every other is compared with in the sentences and figures.
        rules, measures, figures: call strings of rules and pair probes, names of figures.
        train_size: None for all.
    """

    name: str
    size: str
    title: str
    reference: str
    rules: tuple[str, ...]
    arch: str
    data: str
    measures: tuple[str, ...]
    figures: tuple[str, ...]
    epochs: int
    seeds: str
    stimuli: int
    permutations: int
    train_size: int | None = None

    def wishes(self) -> list[Wish]:
        """One run per rule."""
        shared = {k: getattr(self, k) for k in ("arch", "data", "epochs", "seeds", "train_size")}
        return [Wish(rule=rule, **shared) for rule in self.rules]


def packaged() -> dict[str, Any]:
    """Studies that come with the lab: name -> its TOML file."""
    files = resources.files("lab.studies").iterdir()
    return {file.name.removesuffix(".toml"): file for file in files if file.name.endswith(".toml")}


def read_study(name: str, size: str, changes: dict[str, Any]) -> Study:
    """A packaged study by name, or a user's by the path of its TOML file, with `changes` made to it.

    Raises:
        NotFound, UsageError, LabError: no such study or size, or a file that is not one.
    """
    known = packaged()
    if name.endswith(".toml"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise NotFound(f"there is no file {path}; `lab study` lists the studies that come with the lab")
        text, name = path.read_text(errors="replace"), path.stem
    elif name in known:
        text = known[name].read_text()
    else:
        raise NotFound(
            f"no study '{name}'.{did_you_mean(name, list(known))} Known: {', '.join(known)}; or give a .toml file"
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LabError(f"study {name} is not TOML: {error}; mend the file") from None
    sizes = table.pop("size", {})
    sizes = {key: value for key, value in sizes.items() if isinstance(value, dict)} if isinstance(sizes, dict) else {}
    if size not in sizes:
        raise UsageError(
            f"study {name} has no size '{size}'; it has {', '.join(sizes) or 'none: add a [size.full] table'}"
        )
    entries = {**table, **sizes[size]}
    entries = {key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()}
    if isinstance(entries.get("seeds"), int):
        entries["seeds"] = str(entries["seeds"])  # 5 and "5" are the same wish
    try:
        study = Study(name=name, size=size, **entries)
    except TypeError as error:
        why = str(error).partition("__init__() ")[2] or str(error)
        raise LabError(f"study {name}: {why}; `lab study --json` shows a whole one") from None
    changes = {key: value for key, value in changes.items() if value is not None}
    if changes:  # results at another size must not replace those of the size that the study names
        words = [size, *(f"{key}-{value}" for key, value in changes.items())]
        changes["size"] = re.sub(r"[^A-Za-z0-9-]+", "_", "-".join(words))
    study = replace(study, **changes)
    check_study(study)
    return study


KINDS = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "int | None": (int | None, "a whole number"),
    "tuple[str, ...]": (tuple, 'a list of words, as in ["bp", "fa"]'),
}
"""Annotation of a study's entry -> the type it must have, and that type in words."""


def check_study(study: Study) -> None:
    """Refuse what would only fail after hours of training.

    Raises:
        LabError, UsageError: the first entry that is not what it must be.
    """
    for entry in fields(study):
        value, (kind, words) = getattr(study, entry.name), KINDS[entry.type]
        sound = isinstance(value, kind) and not isinstance(value, bool)
        if not sound or (kind is tuple and not all(isinstance(word, str) for word in value)):
            raise LabError(f"study {study.name}: {entry.name} must be {words}, not {value!r}; mend the file")
    if study.reference not in study.rules:
        raise LabError(f"study {study.name}: its reference '{study.reference}' is not one of its rules; mend the file")
    if len(study.rules) < 2 or len(set(study.rules)) < len(study.rules) or not study.measures:
        raise LabError(f"study {study.name}: it needs two rules or more, none of them twice, and a measure")
    if study.permutations < 1:
        raise LabError(f"study {study.name}: permutations must be at least 1, not {study.permutations}; mend the file")
    for name in study.figures:
        if name not in FIGURES:
            hint = did_you_mean(name, list(FIGURES))
            raise LabError(f"study {study.name}: no figure '{name}'.{hint} `lab figure list` shows all")
    for measure in study.measures:
        pair_probe_of(measure)


def check_distinct(study: Study, requests: list[Request]) -> None:
    """Refuse two spellings of one rule, which are one run: it cannot be compared with itself.

    Raises:
        LabError: naming both.
    """
    seen: dict[str, str] = {}
    for rule, request in zip(study.rules, requests, strict=True):
        name = run_id(request.spec)
        if name in seen:
            raise LabError(f"study {study.name}: rules '{seen[name]}' and '{rule}' are the same; leave one of them out")
        seen[name] = rule


def run_study(study: Study, store: Store, recipes: list[Path], say: Callable[[str], None], bar, command: str) -> Path:
    """Train what is missing, compare, draw and conclude; returns the folder with the results.

    Everything along the way is content-addressed, so a study that was stopped goes on where it stopped, and one that
    is finished only reads.

    Args:
        bar: title -> context manager that yields a `runner.Report`.
        command: what was typed, for the figures' sidecars.

    Raises:
        UsageError, LabError: what was asked cannot be trained or compared; nothing has been trained then.
        Interrupted: on Ctrl-C while training.
    """
    import pandas as pd

    from lab.figures.save import save
    from lab.figures.style import STYLES

    requests = [make_request(wish, recipes) for wish in study.wishes()]
    check_distinct(study, requests)
    for request in requests:
        check_fit(request)  # all of them before the first is trained: a study does not fail at its last rule
    stimuli(requests[0].dataset, study.stimuli)
    folders: list[RunFolder] = []
    for i, request in enumerate(requests, 1):
        title = f"[{i}/{len(requests)}] {request.rule.info.name}"
        with bar(title) as report:
            folders.append(train(request, store, report))
        accuracy = summarise(folders[-1])["test_accuracy"]
        sd = "" if accuracy["sd"] is None else f" ± {100 * accuracy['sd']:.2f}"
        say(f"{title}: test accuracy {100 * accuracy['mean']:.2f}{sd} %")
    shared = {"stimuli": study.stimuli, "permutations": study.permutations}
    by_steps = [compare_runs(folders, Plan((measure,), **shared), store, say) for measure in study.measures]
    # The control that hardly learns would pull everyone down to the accuracy of networks that hardly learned.
    learned = [folder for folder in folders if rule_name(folder.spec.rule) != "frozen"]
    by_accuracy = compare_runs(learned, Plan(study.measures[:1], **shared, match="accuracy"), store, say)
    place = store.root / "studies" / f"{study.name}-{study.size}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "findings.md").unlink(missing_ok=True)  # an earlier one must not vouch for files half replaced
    sidecar = {"study": study.name, "size": study.size, "runs": [folder.id for folder in folders], "command": command}
    for name in study.figures:
        asked = {"measure": study.measures[0], "match": "steps", **shared}
        drawn, origin = draw(name, folders, asked, store, STYLES["neurips"], say)
        save(drawn, place / f"{name}.pdf", {**sidecar, "figure": name, **origin})
        say(f"drew {place / name}.pdf")
    rows = pd.concat([comparison.rows for comparison in by_steps], ignore_index=True)
    labels = dict(zip(study.rules, by_steps[0].labels, strict=True))
    sentences = findings(
        labels[study.reference], dict(zip(labels.values(), folders, strict=True)), rows, by_accuracy.rows
    )
    write_atomically(place / "comparison.csv", rows.to_csv(index=False).encode())
    write_atomically(place / "comparison-at-equal-accuracy.csv", by_accuracy.rows.to_csv(index=False).encode())
    answer = {
        "schema": 1,
        **sidecar,
        "asked": asdict(study),
        "summaries": [summarise(f) for f in folders],
        "findings": sentences,
    }
    write_atomically(place / "study.json", (json.dumps(answer, indent=1) + "\n").encode())
    # Last, so that its presence means that all the rest is there.
    write_atomically(place / "findings.md", (f"# {study.title}\n\n" + "\n\n".join(sentences) + "\n").encode())
    return place
