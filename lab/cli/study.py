"""`lab study`: a question answered from training to sentences with one command."""

from __future__ import annotations

import shlex
import sys

import click

from lab.cli.options import (
    device_option,
    json_option,
    open_store,
    print_json,
    print_table,
    recipe_files,
    refuse_early_options,
    store_option,
)


@click.group(invoke_without_command=True, short_help="Run a whole study: train, compare, draw, conclude.")
@json_option
@click.pass_context
def study(ctx, as_json) -> None:
    """Studies that come with the lab; without a subcommand, lists them.

    \b
    Examples:
        lab study
        lab study run credit-assignment --size demo
        lab study run ./my-study.toml
    """
    refuse_early_options(ctx)
    if ctx.invoked_subcommand is not None:
        return
    import tomllib

    from lab.study import packaged

    tables = {name: tomllib.loads(file.read_text()) for name, file in packaged().items()}
    if as_json:
        print_json({"studies": [{"name": name, **table} for name, table in tables.items()]})
        return
    print_table(["study", "sizes", "question"], [[n, ", ".join(t["size"]), t["title"]] for n, t in tables.items()])


@study.command()
@click.argument("name")
@click.option("--size", default="full", show_default=True, help="One of the study's sizes.")
@click.option("--epochs", type=int, help="Other than the study says.")
@click.option("--seeds", help="How many (5), or which (0,3,10-14). [default: the study's]")
@click.option("--train-size", type=int, help="Train on fewer examples.")
@device_option
@store_option
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr.")
@json_option
def run(name, size, epochs, seeds, train_size, device, store, quiet, as_json) -> None:
    """Train every rule of study NAME, compare, draw, and say what was found.

    NAME is a study of `lab study`, or the path of a .toml file of your own. What was trained before is not trained
    again; a study that was stopped goes on where it stopped. Results go to studies/ in the store.

    \b
    Examples:
        lab study run credit-assignment --size demo
        lab study run credit-assignment
        lab study run credit-assignment --seeds 10 --epochs 20
    """
    from lab.device import prepare

    prepare(device)
    import json

    from lab.cli.progress import shown
    from lab.runner import Interrupted
    from lab.study import read_study, run_study

    changes = {"epochs": epochs, "seeds": seeds, "train_size": train_size}
    asked = read_study(name, size, changes)
    where = open_store(store)

    def say(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    try:
        command = shlex.join(["lab", *sys.argv[1:]])
        place = run_study(asked, where, recipe_files(where), say, lambda title: shown(title, quiet), command)
    except Interrupted:
        click.echo("Interrupted; all that was trained is saved. The same command goes on from there.", err=True)
        sys.exit(130)
    answer = json.loads((place / "study.json").read_text())
    diverged = {s["rule"]: s["diverged"] for s in answer["summaries"] if s["diverged"]}
    if as_json:
        print_json({key: value for key, value in answer.items() if key != "schema"})
    else:
        for sentence in answer["findings"]:
            click.echo(sentence)
            click.echo("")
        click.echo(str(place))
    if diverged:
        click.echo(f"Some seeds diverged: {diverged}. They stay on record.", err=True)
        sys.exit(3)
