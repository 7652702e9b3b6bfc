"""A study: several rules trained alike, compared, drawn, and summed up in a few sentences."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from lab.comparison import Comparison, Plan, compare_runs
from lab.errors import LabError, NotFound, UsageError, did_you_mean
from lab.findings import findings
from lab.request import Wish, check_fit, make_request
from lab.runner import train
from lab.summary import summarise
from runs import RunFolder, Store
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
        text, name = path.read_text(), path.stem
    elif name in known:
        text = known[name].read_text()
    else:
        raise NotFound(f"no study '{name}'.{did_you_mean(name, list(known))} Known: {', '.join(known)}; or give a .toml file")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LabError(f"study {name} is not TOML: {error}") from None
    sizes = table.pop("size", {})
    if size not in sizes:
        raise UsageError(f"study {name} has no size '{size}'; it has {', '.join(sizes) or 'none: add a [size.full] table'}")
    entries = {**table, **sizes[size]}
    entries = {key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()}
    try:
        study = Study(name=name, size=size, **entries)
    except TypeError as error:
        raise LabError(f"study {name}: {str(error).partition('__init__() ')[2] or error}; see `lab study --help`") from None
    if study.reference not in study.rules:
        raise LabError(f"study {name}: its reference '{study.reference}' is not one of its rules")
    return replace(study, **{key: value for key, value in changes.items() if value is not None})


def run_study(study: Study, store: Store, recipes: list[Path], say: Callable[[str], None], bar) -> Path:
    """Train what is missing, compare, draw and conclude; returns the folder with the results.

    Everything along the way is content-addressed, so a study that was stopped goes on where it stopped, and one that
    is finished only reads.

    Args:
        bar: title -> context manager that yields a `runner.Report`.

    Raises:
        Interrupted: on Ctrl-C while training.
    """
    from lab.figures.save import save

    requests = [make_request(wish, recipes) for wish in study.wishes()]
    for request in requests:
        check_fit(request)  # all of them before the first is trained: a study does not fail at its last rule
    folders: list[RunFolder] = []
    for i, request in enumerate(requests, 1):
        title = f"[{i}/{len(requests)}] {request.rule.info.name}"
        with bar(title) as report:
            folders.append(train(request, store, report))
        accuracy = summarise(folders[-1])["test_accuracy"]
        sd = "" if accuracy["sd"] is None else f" ± {100 * accuracy['sd']:.2f}"
        say(f"{title}: test accuracy {100 * accuracy['mean']:.2f}{sd} %")
    plan = Plan(study.measures, study.stimuli, study.permutations)
    by_steps = compare_runs(folders, plan, store, say)
    matched = Plan(study.measures[:1], study.stimuli, study.permutations, match="accuracy")
    by_accuracy = compare_runs(folders, matched, store, say)
    place = store.root / "studies" / f"{study.name}-{study.size}"
    place.mkdir(parents=True, exist_ok=True)
    sidecar = {"study": study.name, "size": study.size, "runs": [folder.id for folder in folders], "comparison": by_steps.id}
    for name, drawn in _draw(study, folders, by_steps, say):
        save(drawn, place / f"{name}.pdf", {**sidecar, "figure": name})
        say(f"drew {place / name}.pdf")
    sentences = findings(study, folders, by_steps, by_accuracy)
    write_atomically(place / "comparison.csv", by_steps.rows.to_csv(index=False).encode())
    write_atomically(place / "comparison-at-equal-accuracy.csv", by_accuracy.rows.to_csv(index=False).encode())
    answer = {"schema": 1, **sidecar, "asked": asdict(study), "summaries": [summarise(f) for f in folders], "findings": sentences}
    write_atomically(place / "study.json", (json.dumps(answer, indent=1) + "\n").encode())
    # Last, so that its presence means that all the rest is there.
    write_atomically(place / "findings.md", (f"# {study.title}\n\n" + "\n\n".join(sentences) + "\n").encode())
    return place


def _draw(study: Study, folders: list[RunFolder], comparison: Comparison, say) -> Iterator[tuple[str, Any]]:
    """The study's figures, one at a time, in the first measure."""
    import pandas as pd

    from lab.figures import layers, learning, similarity, spectrum
    from lab.figures.style import STYLES
    from lab.spectra import spectra

    style = STYLES["neurips"]
    rows, pairs = comparison.rows, comparison.pairs
    first = rows["measure"].iloc[0]
    rows, pairs = rows[rows["measure"] == first], pairs[pairs["measure"] == first]
    for name in study.figures:
        if name == "similarity":
            yield name, similarity.draw(pairs, rows, style, comparison.labels)
        elif name == "layers":
            yield name, layers.draw(pairs, rows, style, comparison.labels)
        elif name == "learning":
            tables = [f.read_table("metrics").assign(rule=x) for f, x in zip(folders, comparison.labels, strict=True)]
            yield name, learning.draw(pd.concat(tables, ignore_index=True), style)
        elif name == "spectrum":
            yield name, spectrum.draw(*spectra(folders, study.stimuli, say), style, study.stimuli)
        else:
            raise LabError(f"study {study.name}: no figure '{name}'; `lab figure` lists them")
