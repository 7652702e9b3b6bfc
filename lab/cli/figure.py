"""`lab figure`: draw a figure from stored runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lab.cli.options import find_runs, json_option, open_store, print_json, print_table, store_option
from lab.errors import UsageError, did_you_mean

FIGURES = ("similarity", "layers", "learning", "spectrum")
STYLE_NAMES = ("neurips", "icml", "nature", "slides")
TAKES = {
    "similarity": {"measure", "stimuli", "match", "permutations", "layer"},
    "layers": {"measure", "stimuli", "match", "permutations", "layer"},
    "learning": {"layer"},
    "spectrum": {"stimuli", "layer"},
}
"""Figure -> the options that change it; another one, given, would be ignored, so it is refused."""


@click.command(short_help="Draw a figure from stored runs.")
@click.argument("name", required=False)
@click.argument("run_texts", nargs=-1, metavar="[RUN]...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write: .pdf, .png or .svg. [default: NAME.pdf]"
)
@click.option(
    "--style", type=click.Choice(STYLE_NAMES), default="neurips", show_default=True, help="Width and type of a venue."
)
@click.option("--measure", default="debiased-cka", show_default=True, help="A pair probe of `lab probes`.")
@click.option(
    "--stimuli", type=int, default=1000, show_default=True, help="Test inputs on which networks are compared."
)
@click.option(
    "--match",
    type=click.Choice(["steps", "accuracy"]),
    default="steps",
    show_default=True,
    help="What is equal in the networks compared: all training, or validation accuracy.",
)
@click.option("--layer", "layers", multiple=True, help="Only this block; may be repeated. [default: all]")
@click.option(
    "--permutations", type=click.IntRange(1), default=200, show_default=True, help="Shuffles of each permutation null."
)
@store_option
@json_option
@click.pass_context
def figure(ctx, name, run_texts, output, style, measure, stimuli, match, layers, permutations, store, as_json) -> None:
    """Draw a figure from stored runs, in the size and type of a venue.

    RUN is an id, a part of one, or the name of a rule. Nothing is trained. Beside the figure stand its table (.csv)
    and its origin (.json: runs, command, versions, caption); the caption, printed, says how many stimuli, seeds and
    permutations, what the intervals are over, and what is undefined. Without NAME, or with `list`, the figures there
    are.

    \b
    Examples:
        lab figure list
        lab figure similarity bp fa dfa -o similarity.pdf
        lab figure layers bp fa --match accuracy --style nature
        lab figure learning bp fa dfa -o learning.png --style slides
        lab figure spectrum bp fa --layer dense2
    """
    if name in (None, "list"):
        list_figures(as_json)
        return
    check(ctx, name, run_texts)
    from lab.figures.save import check_path, save

    path = check_path(output or Path(f"{name}.pdf"))
    from lab.device import prepare
    from lab.figures.style import STYLES

    prepare(None)
    where = open_store(store)
    folders = find_runs(where, run_texts)
    asked = {"measure": measure, "stimuli": stimuli, "match": match, "permutations": permutations}
    asked = {key: value for key, value in asked.items() if key in TAKES[name]} | {"layers": list(layers)}
    drawn, origin = draw(name, folders, asked, where, STYLES[style])
    sidecar = {
        "figure": name,
        "runs": [folder.id for folder in folders],
        "command": shlex.join(["lab", *sys.argv[1:]]),
        "options": asked,
        **origin,
    }
    files = [str(file) for file in save(drawn, path, sidecar)]
    if as_json:
        print_json({"figure": name, "files": files, "caption": drawn.caption, "runs": sidecar["runs"], **origin})
        return
    click.echo(drawn.caption)
    for file in files:
        click.echo(f"wrote {file}")


def list_figures(as_json: bool) -> None:
    """What there is to draw, a line each."""
    from lab.figures import layers, learning, similarity, spectrum

    about = dict(zip(FIGURES, (f.ABOUT for f in (similarity, layers, learning, spectrum)), strict=True))
    if as_json:
        print_json({"figures": [{"name": name, "about": text} for name, text in about.items()]})
    else:
        print_table(["figure", "shows"], [[name, text] for name, text in about.items()])


def check(ctx: click.Context, name: str, run_texts: tuple[str, ...]) -> None:
    """Refuse what cannot be drawn before anything heavy is loaded.

    Raises:
        UsageError: an unknown figure, too few runs, or an option that the figure would ignore.
    """
    if name not in FIGURES:
        raise UsageError(
            f"there is no figure {name!r}.{did_you_mean(name, list(FIGURES))} `lab figure list` shows all."
        )
    least = 2 if "measure" in TAKES[name] else 1
    if len(run_texts) < least:
        raise UsageError(
            f"lab figure {name} needs at least {least} run{'s' * (least > 1)}; `lab runs` lists those there are"
        )
    for option in ("measure", "stimuli", "match", "permutations"):
        given = ctx.get_parameter_source(option) not in (ParameterSource.DEFAULT, None)
        if given and option not in TAKES[name]:
            raise UsageError(f"--{option} changes nothing in the figure {name}; leave it out")


def draw(name: str, folders: list, asked: dict[str, Any], store: Any, style: Any) -> tuple[Any, dict[str, Any]]:
    """The figure, and what else its sidecar should say of where the numbers come from."""

    def say(line: str) -> None:
        click.echo(line, err=True)

    wanted = tuple(asked["layers"])
    if name in ("similarity", "layers"):
        from lab.comparison import Plan, compare_runs
        from lab.figures import layers, similarity

        plan = Plan((asked["measure"],), asked["stimuli"], asked["permutations"], asked["match"], wanted or None)
        comparison = compare_runs(folders, plan, store, say)
        drawer = {"similarity": similarity, "layers": layers}[name]
        return drawer.draw(comparison.pairs, comparison.rows, style, comparison.labels), {"comparison": comparison.id}
    if name == "learning":
        import pandas as pd

        from lab.comparison import labels_of
        from lab.figures import learning

        tables = [folder.require_complete().read_table("metrics") for folder in folders]
        tables = [table.assign(rule=label) for table, label in zip(tables, labels_of(folders), strict=True)]
        metrics = pd.concat(tables, ignore_index=True)
        # "" is the whole network: its accuracy is shown whatever blocks are asked for.
        return learning.draw(only(metrics, wanted, always=""), style), {}
    from lab.figures import spectrum
    from lab.spectra import spectra

    curves, fits = spectra(folders, stimuli=asked["stimuli"], say=say)
    return spectrum.draw(only(curves, wanted), only(fits, wanted), style, asked["stimuli"]), {}


def only(table: Any, layers: tuple[str, ...], always: str | None = None) -> Any:
    """The lines of the blocks asked for.

    Raises:
        UsageError: no run has a block of that name.
    """
    known = [layer for layer in dict.fromkeys(table["layer"]) if layer != always]
    for layer in layers:
        if layer not in known:
            raise UsageError(
                f"--layer {layer}: no such block.{did_you_mean(layer, known)} There are {', '.join(known)}."
            )
    return table[table["layer"].isin([*layers, always])] if layers else table
