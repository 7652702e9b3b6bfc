"""`lab tune`: choose a rule's learning rate on the validation split, by the same grid for every rule."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from lab.cli.options import device_option, json_option, open_store, print_json, print_table, store_option


@click.command(short_help="Choose a rule's learning rate on the validation split.")
@click.option("--rule", default="bp", show_default=True, help="A rule of `lab rules`, or your own: ./my_rule.py.")
@click.option("--arch", default="mlp(256,128)", show_default=True, help="The network to tune for.")
@click.option("--data", "data", default="mnist", show_default=True, help="The data set to tune for.")
@click.option("--epochs", type=int, default=10, show_default=True, help="Epochs of every trial.")
@click.option(
    "--seeds", default="1000,1001", show_default=True, help="Seeds of every trial; not those you will report."
)
@click.option("--train-size", type=int, help="Train on fewer examples.")
@click.option("--grid", help="Learning rates to try. [default: 0.0001,0.0003,0.001,0.003,0.01,0.03]")
@click.option(
    "--save", type=click.Path(path_type=Path), help="Recipe file to write. [default: recipes.toml in the store]"
)
@device_option
@store_option
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@json_option
def tune(grid, device, store, save, quiet, as_json, **said) -> None:
    """Train the rule at six learning rates of Adam (0.0001 to 0.03) and keep the best on the validation split.

    Every rule is offered the same grid and the same budget. The result is a recipe: `lab train` uses it from then
    on, and writes the whole search into the manifest of each run. A search that was interrupted goes on where it
    stopped; the test set is not read.

    \b
    Examples:
        lab tune --rule fa
        lab tune --rule ./my_rule.py --arch 'conv(6,16)' --epochs 3
        lab tune --rule fa --grid 0.0003,0.001,0.003
    """
    from lab.device import prepare

    prepare(device)
    from lab.callstring import build
    from lab.cli.progress import shown
    from lab.fit import check_fit
    from lab.optimizers import OPTIMIZERS
    from lab.recipes import GRID, Recipe, write_recipe
    from lab.request import Wish, make_request
    from lab.runner import Interrupted
    from lab.runner import train as train_run
    from lab.summary import last_values, spread
    from runs import Store

    where = open_store(store)
    # Trials have a store of their own: they never read the test set, so they must not be taken for results.
    trial_store = Store(where.root / "tuning")
    trials = []
    rates = GRID if grid is None else read_grid(grid)
    for rate in rates:
        request = make_request(Wish(**said, optimizer=f"adam({rate})"), [])
        check_fit(request)
        try:
            with shown(f"{request.rule.info.name} at {rate:g}", quiet) as report:
                folder = train_run(request, trial_store, report, read_test=False)
        except Interrupted:
            click.echo("Interrupted; what was tried is saved. The same command resumes it.", err=True)
            sys.exit(130)
        trials.append(spread(list(last_values(folder, "validation_accuracy").values())))
    means = [round(trial["mean"] or 0.0, 5) for trial in trials]
    best = max(range(len(rates)), key=means.__getitem__)
    recipe = Recipe(
        rule=request.spec.rule,
        arch=request.spec.arch,
        data=request.spec.data,
        optimizer=build(f"adam({rates[best]})", OPTIMIZERS, "--optimizer")[1],
        grid=rates,
        validation_accuracy=tuple(means),
        seeds=request.spec.seeds,
        epochs=request.spec.epochs,
        batch=request.spec.batch,
        train_size=request.spec.train_size,
        source=dict(request.spec.sources).get("rule", ""),
        edge=best in (0, len(rates) - 1),
        command=shlex.join(["lab", *sys.argv[1:]]),
    )
    path = save or where.root / "recipes.toml"
    write_recipe(path, recipe)
    if as_json:
        print_json({"recipe": vars(recipe), "file": str(path)})
        return
    rows = [
        [f"{rate:g}", f"{100 * mean:.2f} %", "best" if i == best else ""]
        for i, (rate, mean) in enumerate(zip(rates, means, strict=True))
    ]
    print_table(["learning rate", "validation accuracy", ""], rows, right={"learning rate", "validation accuracy"})
    if recipe.edge:
        click.echo("The best lies at the edge of the grid; a better one may lie outside it.", err=True)
    click.echo(f"wrote {path}")


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
