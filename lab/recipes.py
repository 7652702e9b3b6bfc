"""Recipes: an optimiser per rule, with the search on the validation split that it came from.

A recipe file is TOML, one `[[recipe]]` per rule, architecture and data set. `lab tune` writes them; `lab train` uses
them and copies the whole search into the run's manifest, so a reader can see whether two rules were tuned alike and
whether an optimum lay at the edge of its grid.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError

PACKAGED = Path(__file__).with_name("recipes.toml")
"""The recipes that come with the lab."""

GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""The learning rates every rule is offered: the same six, so that no rule is tuned harder than another."""


@dataclass(frozen=True)
class Recipe:
    """The outcome of one search.

    Attributes:
        rule, arch, data: canonical call strings and the name of the data set.
        optimizer: the winner.
        grid: learning rates tried; validation_accuracy: mean over the seeds for each of them, diverged ones counted.
        edge: whether the winner is the smallest or largest of the grid, so that a better one may lie outside.
        command: what made this search.
        epochs, batch, train_size: the budget of every trial.
        source: sha256 of a user's rule file; "" for a rule of the lab.
    """

    rule: str
    arch: str
    data: str
    optimizer: str
    grid: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    seeds: tuple[int, ...]
    epochs: int
    edge: bool
    command: str
    batch: int
    train_size: int
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("rule", "arch", "data", "optimizer"):
            if not isinstance(value := getattr(self, name), str):
                raise TypeError(f"{name} must be text, not {value!r}")

    def record(self, arch: str, data: str) -> dict[str, Any]:
        """For a manifest: the search, and whether it was made for exactly this network and data."""
        exact = self.arch == arch and self.data == data
        return {"how": "recipe" if exact else "recipe for another network or data set", **asdict(self)}


def read_recipes(path: Path) -> list[Recipe]:
    """All recipes of a file; none if there is no such file.

    Raises:
        LabError: not a recipe file.
    """
    if not path.is_file():
        return []
    try:
        table = tomllib.loads(path.read_text())
        return [
            Recipe(**{key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()})
            for entry in table.get("recipe", [])
        ]
    except (tomllib.TOMLDecodeError, TypeError, UnicodeDecodeError, OSError) as error:
        raise LabError(
            f"{path} is not a recipe file ({error}); mend it, or remove it and run `lab tune` again"
        ) from None


def find_recipe(paths: list[Path], *, rule: str, source: str, arch: str, data: str) -> Recipe | None:
    """The recipe of this rule: for this network and data, else for this data, else for any; earlier files first.

    A user's rule is known by the hash of its file: neither its name nor an earlier version of it will do.
    """
    recipes = [r for path in paths for r in read_recipes(path) if (r.rule, r.source) == (rule, source)]
    for fits in (
        lambda r: r.arch == arch and r.data == data,
        lambda r: r.arch.partition("(")[0] == arch.partition("(")[0] and r.data == data,
        lambda r: True,
    ):
        if found := [recipe for recipe in recipes if fits(recipe)]:
            return found[0]
    return None


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Put a recipe into a file, in place of an older one for the same rule, network and data; whole or not at all."""
    from runs.files import write_atomically

    same = (recipe.rule, recipe.arch, recipe.data)
    kept = [r for r in read_recipes(path) if (r.rule, r.arch, r.data) != same]
    entries = []
    for entry in sorted([*kept, recipe], key=lambda r: (r.data, r.arch, r.rule)):
        # JSON's text, numbers, lists and booleans are TOML's too.
        lines = [f"{key} = {json.dumps(value)}" for key, value in asdict(entry).items()]
        entries.append("\n".join(["[[recipe]]", *lines]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ("\n\n".join(entries) + "\n").encode())
