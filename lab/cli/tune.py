"""`lab tune`: choose a rule's learning rate and knob on the validation split, by the same search for every rule."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from lab.cli.options import device_option, json_option, open_store, print_json, print_table, store_option

CONFIRMING = "5"
"""The seeds of the run that --confirm trains, as `--seeds` of `lab train` names them."""


@click.command(short_help="Choose a rule's learning rate and knob on the validation split.")
@click.option("--rule", default="bp", show_default=True, help="A rule of `lab rules`, or your own: ./my_rule.py.")
@click.option("--arch", help="The network to tune for. [default: mlp(256,128) with the nonlinearity the rule needs]")
@click.option("--data", "data", default="mnist", show_default=True, help="The data set to tune for.")
@click.option("--trial-epochs", type=int, default=5, show_default=True, help="Epochs of every trial.")
@click.option("--epochs", type=int, default=20, show_default=True, help="Epochs of the run that the recipe is for.")
@click.option("--batch", type=int, default=128, show_default=True, help="Examples per step.")
@click.option(
    "--seeds", default="1000-1000", show_default=True, help="Seeds of every trial, from-to; not those you will report."
)
@click.option("--train-size", type=int, help="Train on fewer examples.")
@click.option(
    "--grid", help="Learning rates to try. [default: 0.0001 to 0.03 for Adam, 0.01 to 3 for SGD, or a rule's own]"
)
@click.option(
    "--confirm", is_flag=True, help="Then train seeds 0 to 4 with it, and keep their test accuracy in the recipe."
)
@click.option(
    "--save", type=click.Path(path_type=Path), help="Recipe file to write. [default: recipes.toml in the store]"
)
@device_option
@store_option
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@json_option
def tune(grid, trial_epochs, epochs, confirm, device, store, save, quiet, as_json, **said) -> None:
    """Search for a rule's learning rate, and at most one setting of its own, on the validation split.

    Eight trials for every rule: six learning rates, then two values of the rule's own knob at the best rate (for rules
    without a knob, two rates beside the best). A best rate at the end of the range widens it. The result is a recipe:
    `lab train` uses it from then on, and writes the whole search into the manifest of each run. A search that was
    interrupted goes on where it stopped; the test set is not read.

    \b
    Examples:
        lab tune --rule fa
        lab tune --rule fa --confirm
        lab tune --rule ./my_rule.py --arch 'conv(6,16)' --trial-epochs 3
        lab tune --rule fa --grid 0.0003,0.001,0.003
    """
    from lab.device import prepare

    prepare(device)
    from dataclasses import asdict

    from lab.callstring import has_brackets
    from lab.cli.progress import shown
    from lab.errors import UsageError
    from lab.fit import check_fit
    from lab.optimizers import rates_of, with_rate
    from lab.recipes import Recipe, write_recipe
    from lab.request import Wish, make_request, make_rule, read_seeds
    from lab.runner import Interrupted
    from lab.runner import train as train_run
    from lab.summary import last_values, rule_name
    from lab.tuning import best, code_commit, commit_text, knob_of, search, trial, with_setting

    where = open_store(store)
    asked = said.pop("rule")
    rule, call, _ = make_rule(asked)
    if trial_epochs < 1 or epochs < 1:
        raise UsageError("--trial-epochs and --epochs must be at least 1; a search needs training")
    if not rule.trains(make_request(Wish(rule=asked, **said), []).net):
        raise UsageError(f"--rule {asked} trains nothing, so there is nothing to choose for it")
    if save is not None:
        require_writable(save)
    rates = rates_of(rule.info) if grid is None else read_grid(grid)
    costs: dict[tuple[str, float], float | None] = {}

    def request_for(setting: str, rate: float, **more):
        optimizer = with_rate(rule.info.optimizer, rate)
        return make_request(Wish(rule=with_setting(asked, call, setting), optimizer=optimizer, **(said | more)), [])

    def attempt(setting: str, rate: float) -> float:
        request = request_for(setting, rate, epochs=trial_epochs)
        check_fit(request)
        with shown(f"{request.rule.info.name} {setting} at {rate:g}".replace("  ", " "), quiet) as report:
            result = trial(request, where.root / "tuning", report)
        costs[setting, rate] = result["cpu_seconds"]
        found = result["validation_accuracy"]
        return round(sum(found) / len(found), 5)

    if confirm and (shared := set(read_seeds(said["seeds"])) & set(read_seeds(CONFIRMING))):
        raise UsageError(
            f"--seeds {said['seeds']} has seed {min(shared)}, which --confirm reports: a search must not see what is "
            "reported; take others, as in --seeds 1000-1004"
        )
    accuracies, commit = (), code_commit()
    try:
        trials, edge = search(attempt, rates, knob_of(asked, call, rule.info))
        won = best(trials)
        request = request_for(won.knob, won.rate, epochs=epochs)
        if confirm:
            confirming = request_for(won.knob, won.rate, epochs=epochs, seeds=CONFIRMING)
            with shown(f"{request.rule.info.name}, confirming", quiet) as report:
                folder = train_run(confirming, where, report)
            accuracies = tuple(round(value, 4) for value in last_values(folder, "test_accuracy").values())
            commit = commit_text(folder.manifest["commit"], folder.manifest["dirty"])
    except (Interrupted, KeyboardInterrupt):
        click.echo("Interrupted; what was tried is saved. The same command resumes it.", err=True)
        sys.exit(130)
    tried = request_for(won.knob, won.rate, epochs=trial_epochs).spec
    recipe = Recipe(
        name=call if has_brackets(asked) else rule_name(call),
        rule=request.spec.rule,
        arch=request.spec.arch,
        data=request.spec.data,
        optimizer=request.spec.optimizer,
        batch=request.spec.batch,
        epochs=epochs,
        trials=tuple((t.knob, t.rate, t.accuracy) for t in trials),
        seeds=tried.seeds,
        trial_epochs=trial_epochs,
        train_size=tried.train_size,
        edge=edge,
        command=command_given(),
        source=dict(tried.sources).get("rule", ""),
        commit=commit,
        test_accuracy=accuracies,
        cpu_seconds=None if costs[won.knob, won.rate] is None else round(costs[won.knob, won.rate], 3),
    )
    if commit != code_commit():
        click.echo(
            f"The confirming run was stored by commit {commit or 'unknown'} and is not made again; `lab runs rm "
            f"{folder.id}` before, for one of this code.",
            err=True,
        )
    path = save or where.root / "recipes.toml"
    write_recipe(path, recipe)
    if as_json:
        print_json({"recipe": asdict(recipe), "file": str(path)})
        return
    rows = [[f"{t.rate:g}", t.knob, f"{100 * t.accuracy:.2f} %", "best" if t == won else ""] for t in trials]
    print_table(["learning rate", "setting", "validation accuracy", ""], rows, right={"learning rate"})
    if recipe.edge:
        click.echo("The best lies at the edge of the rates or settings tried; a better one may lie outside.", err=True)
    click.echo(f"wrote {path}")


def require_writable(path: Path) -> None:
    """Refuse a recipe file that cannot be written before hours are spent on what it is to hold."""
    import tempfile

    from lab.errors import UsageError
    from lab.recipes import read_recipes

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(f"--save {path} cannot be written ({error.strerror}); give another file") from None
    if path.is_dir():
        raise UsageError(f"--save {path} cannot be written (it is a folder); give a file, as in {path}/recipes.toml")
    read_recipes(path)


ELSEWHERE = ("store", "save", "device", "quiet", "as_json")
"""Options that say where and how a search runs and what is printed, not what is searched."""


def command_given() -> str:
    """This command as it was given, without the options that change nothing in the recipe."""
    from click.core import ParameterSource

    context = click.get_current_context()
    words = ["lab", "tune"]
    for option in context.command.params:
        value = context.params[option.name]
        if option.name not in ELSEWHERE and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            words += [option.opts[0]] if value is True else [option.opts[0], str(value)]
    return shlex.join(words)


def read_grid(text: str) -> tuple[float, ...]:
    """Learning rates from `0.0003,0.001`, smallest first.

    Raises:
        UsageError: not numbers above 0, or fewer than two.
    """
    import math

    from lab.errors import UsageError

    try:
        rates = tuple(sorted({float(word) for word in text.split(",")}))
    except ValueError:
        rates = ()
    if len(rates) < 2 or not all(math.isfinite(rate) and rate > 0 for rate in rates):
        raise UsageError(f"--grid '{text}': give two learning rates or more, as in 0.0003,0.001,0.003")
    return rates
