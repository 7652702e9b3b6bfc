"""Options that several commands share, and the two ways they answer: JSON for programs, a table for people."""

from __future__ import annotations

import json
from typing import Any

import click
from click.core import ParameterSource

from lab.errors import UsageError

SCHEMA = 1
"""Version of every JSON answer; keys are only ever added within one."""

store_option = click.option("--store", metavar="DIR", help="Where runs are kept. [default: $LAB_STORE, else ./results]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
device_option = click.option(
    "--device", type=click.Choice(["cpu", "gpu", "tpu"]), help="Where to compute. [default: the best JAX finds]"
)
layer_option = click.option(
    "--layer", "layers", multiple=True, help="A hidden block; may be repeated. [default: all in common]"
)
stimuli_option = click.option("--stimuli", type=int, default=1000, show_default=True, help="Test inputs to compare on.")
memory_option = click.option(
    "--memory",
    default="2GiB",
    show_default=True,
    help="For all pairs of one measure at one layer; more is kept on disk.",
)
csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print the whole table as CSV.")


def refuse_two_formats(as_json: bool, as_csv: bool) -> None:
    """An answer has one format."""
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other; give one")


def open_store(option: str | None):
    """The store that `--store`, `$LAB_STORE` or the working folder names."""
    from runs import Store, default_root

    return Store(default_root(option))


def recipe_files(store: Any) -> list:
    """Recipe files in the order they are believed: the store's own, then those that come with the lab."""
    from lab.recipes import PACKAGED

    return [store.root / "recipes.toml", *PACKAGED]


def print_json(answer: dict[str, Any]) -> None:
    """One object on stdout, nothing else."""
    click.echo(json.dumps({"schema": SCHEMA, **answer}, allow_nan=False))


def print_table(columns: list[str], rows: list[list[str]], right: set[str] = frozenset()) -> None:
    """An aligned table on stdout, without colour or borders, so that it can be piped."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, columns, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def find_runs(store: Any, texts: tuple[str, ...] | list[str]) -> list:
    """Finished runs by id, by an unambiguous part of it, or by the name of their rule where only one run has it.

    Raises:
        runs.RunNotFound: none or several fit, or the run is incomplete.
    """
    from lab.summary import rule_name
    from runs import RunError, RunNotFound

    by_rule: dict[str, list] = {}
    for folder in store.list():
        if folder.status not in ("complete", "diverged"):
            continue  # named by its id, it says what is wrong with it
        try:
            by_rule.setdefault(rule_name(folder.spec.rule), []).append(folder)
        except RunError:
            continue
    found = []
    for text in texts:
        fits = by_rule.get(text, [])
        if len(fits) > 1:
            names = ", ".join(folder.id for folder in fits)
            raise RunNotFound(f"{len(fits)} runs have the rule '{text}': {names}; name one (`lab runs` describes them)")
        found.append((fits[0] if fits else store.find(text)).require_complete())
    return found


def refuse_early_options(ctx: click.Context) -> None:
    """Refuse options of a group that stand before a subcommand: it has its own, and would not see these.

    Raises:
        UsageError: naming the first one, which could be the store that something is deleted from.
    """
    name = ctx.invoked_subcommand
    if name is None:
        return
    known = {option for parameter in ctx.command.get_command(ctx, name).params for option in parameter.opts}
    for parameter in ctx.command.params:
        if ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            option = parameter.opts[0]
            advice = (
                f"give it after, as in {ctx.command_path} {name} ... {option}" if option in known else "leave it out"
            )
            raise UsageError(f"{option} before {name} would be ignored; {advice}")
