"""Recipes: settings, optimiser and budget of a rule, with the search on the validation split that they came from.

A recipe file is TOML, one `[[recipe]]` per rule, architecture and data set. `lab tune` writes them; `lab train` uses
them and copies the whole search into the run's manifest, so a reader can see whether two rules were tuned alike and
whether an optimum lay at the edge of its range.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError

PACKAGED = tuple(sorted(Path(__file__).with_name("recipes").glob("*.toml")))
"""The recipes that come with the lab, a file for each data set."""


@dataclass(frozen=True)
class Recipe:
    """The outcome of one search.

    Attributes:
        name: what was searched for: `fa`, or a canonical call string where the user chose settings, `bp(loss='mse')`.
        rule: its call string with the settings that won.
        arch, data: canonical call string and the name of the data set.
        optimizer: the winner; batch, epochs: the budget of the run that the recipe is for.
        trials: (setting beside the default, learning rate, mean validation accuracy) of every trial, diverged counted.
        seeds, trial_epochs, train_size: what every trial was.
        edge: whether the best rate or knob is the lowest or highest tried, so that a better one may lie outside.
        command: what made this search, and confirmed it.
        source: sha256 of a user's rule file; "" for a rule of the lab.
        commit: of the lab's source that made the confirming run, else that searched; "" outside a checkout.
        test_accuracy: of each seed of the confirming run, read once; () if there was none.
        cpu_seconds: of one seed's epoch, compiling left out; None if not measured.
    """

    name: str
    rule: str
    arch: str
    data: str
    optimizer: str
    batch: int
    epochs: int
    trials: tuple[tuple[str, float, float], ...]
    seeds: tuple[int, ...]
    trial_epochs: int
    train_size: int
    edge: bool
    command: str
    source: str = ""
    commit: str = ""
    test_accuracy: tuple[float, ...] = ()
    cpu_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("name", "rule", "arch", "data", "optimizer"):
            if not isinstance(value := getattr(self, name), str):
                raise TypeError(f"{name} must be text, not {value!r}")
        for name in ("batch", "epochs"):
            if not isinstance(value := getattr(self, name), int) or isinstance(value, bool) or value < 1:
                raise TypeError(f"{name} must be a whole number above 0, not {value!r}")

    def record(self) -> dict[str, Any]:
        """For a manifest: the whole search."""
        return {key: value for key, value in asdict(self).items() if key != "test_accuracy"}

    def is_for(self, arch: str, data: str) -> bool:
        """Whether the search was made on this very network (canonical call string) and data set."""
        return (self.arch, self.data) == (arch, data)

    def replaces(self, other: Recipe) -> bool:
        """Whether both searched for the same thing; a user's rule and one of the lab did not, whatever their names."""
        mine, theirs = ((r.name, r.arch, r.data, r.train_size, bool(r.source)) for r in (self, other))
        return mine == theirs


def read_recipes(path: Path) -> list[Recipe]:
    """All recipes of a file; none if there is no such file.

    Raises:
        LabError: not a recipe file.
    """
    if not path.is_file():
        return []
    try:
        table = tomllib.loads(path.read_text())
        return [Recipe(**{key: _frozen(value) for key, value in entry.items()}) for entry in table.get("recipe", [])]
    except (tomllib.TOMLDecodeError, TypeError, UnicodeDecodeError, OSError) as error:
        raise LabError(
            f"{path} is not a recipe file ({error}); mend it, or remove it and run `lab tune` again"
        ) from None


def read_all(paths: Sequence[Path]) -> list[Recipe]:
    """The recipes of all these files, in their order."""
    return [recipe for path in paths for recipe in read_recipes(path)]


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def find_recipe(
    paths: list[Path], *, name: str, rule: str | None, source: str, arch: str, data: str, train_size: int
) -> Recipe | None:
    """The recipe of this rule: for this network, data and number of examples, else for this network and data, else for
    this kind of network on this data, else for this data, else for any; earlier files first.

    A user's rule is known by the hash of its file: neither its name nor an earlier version of it will do.

    Args:
        rule: canonical call string if the user chose settings, which the recipe must then have chosen or been searched
            for (the former first); None if he did not.
        arch: canonical call string.
    """
    recipes = [r for r in read_all(paths) if r.source == source]
    recipes = [r for r in recipes if (r.name == name if rule is None else rule in (r.rule, r.name))]
    recipes.sort(key=lambda r: rule is not None and r.rule != rule)
    for fits in (
        lambda r: r.is_for(arch, data) and r.train_size == train_size,
        lambda r: r.is_for(arch, data),
        lambda r: arch.partition("(")[0] == r.arch.partition("(")[0] and r.data == data,
        lambda r: r.data == data,
        lambda r: True,
    ):
        if found := [recipe for recipe in recipes if fits(recipe)]:
            return found[0]
    return None


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Put a recipe into a file, in place of an older one of the same search; whole or not at all."""
    from runs.files import write_atomically

    kept = [r for r in read_recipes(path) if not recipe.replaces(r)]
    entries = []
    for entry in sorted([*kept, recipe], key=lambda r: (r.data, r.name, r.arch, r.train_size, r.source)):
        # JSON's text, numbers, lists and booleans are TOML's too; TOML has no null.
        lines = [f"{key} = {json.dumps(value)}" for key, value in asdict(entry).items() if value is not None]
        entries.append("\n".join(["[[recipe]]", *lines]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ("\n\n".join(entries) + "\n").encode())
