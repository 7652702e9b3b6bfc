"""`lab figure`: draw a figure from stored runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click
from click.core import ParameterSource

from lab.cli.options import device_option, find_runs, json_option, open_store, print_json, print_table, store_option
from lab.errors import UsageError, did_you_mean
from lab.figures.stored import FIGURES

STYLE_NAMES = ("neurips", "icml", "nature", "slides")
TAKES = {
    "similarity": {"measure", "stimuli", "match", "permutations", "layer"},
    "layers": {"measure", "stimuli", "match", "permutations", "layer"},
    "dynamics": {"measure", "stimuli", "against", "layer"},
    "paths": {"measure", "stimuli", "layer"},
    "learning": {"layer"},
    "spectrum": {"stimuli", "layer"},
    "blindness": set(),
    "groups": set(),
}
"""Figure -> the options that change it; another one, given, would be ignored, so it is refused."""
NAMES = {"layer": "layers"}
"""Option -> parameter, where these differ."""
MEASURES = {"paths": "angular-procrustes"}
"""Figure -> the measure it takes by default, where that is another one."""


@click.command(short_help="Draw a figure from stored runs.")
@click.argument("name", required=False)
@click.argument("run_texts", nargs=-1, metavar="[RUN]...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write: .pdf, .png or .svg. [default: NAME.pdf]"
)
@click.option(
    "--style", type=click.Choice(STYLE_NAMES), default="neurips", show_default=True, help="Width and type of a venue."
)
@click.option("--measure", help="A pair probe of `lab probes`. [default: debiased-cka; for paths, angular-procrustes]")
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
@click.option(
    "--against",
    type=click.Choice(["step", "loss", "accuracy"]),
    default="step",
    show_default=True,
    help="What dynamics are drawn over; networks are then at one step, or equally far.",
)
@click.option("--layer", "layers", multiple=True, help="Only this block; may be repeated. [default: all]")
@click.option(
    "--permutations", type=click.IntRange(1), default=200, show_default=True, help="Shuffles of each permutation null."
)
@device_option
@store_option
@json_option
@click.pass_context
def figure(
    ctx, name, run_texts, output, style, measure, stimuli, match, against, layers, permutations, device, store, as_json
) -> None:
    """Draw a figure from stored runs, in the size and type of a venue.

    RUN is an id, a part of one, or the name of a rule; none is trained. Beside the figure stand its table (.csv)
    and its origin (.json: runs, command, versions, caption); the caption, printed, says how many stimuli, seeds and
    permutations, what the intervals are over, and what is undefined. `blindness` and `groups` take no runs: they draw
    the tables of `lab check probes --blindness` and `--groups`. Without NAME, or with `list`, the figures there are.

    \b
    Examples:
        lab figure list
        lab figure similarity bp fa dfa -o similarity.pdf
        lab figure layers bp fa --match accuracy --style nature
        lab figure dynamics bp fa --against accuracy
        lab figure paths bp fa dfa -o paths.png
        lab figure learning bp fa dfa -o learning.png --style slides
        lab figure spectrum bp fa --layer dense2
        lab figure blindness -o blindness.png
    """
    if name in (None, "list"):
        list_figures(as_json)
        return
    check(ctx, name, run_texts)
    from lab.figures.save import check_path, save

    path = check_path(output or Path(f"{name}.pdf"))
    from lab.device import prepare
    from lab.figures.stored import draw
    from lab.figures.style import STYLES

    prepare(device)
    where = open_store(store)
    folders = find_runs(where, run_texts)
    measure = measure or MEASURES.get(name, "debiased-cka")
    asked = {"measure": measure, "stimuli": stimuli, "match": match, "against": against, "permutations": permutations}
    asked = {key: value for key, value in asked.items() if key in TAKES[name]} | {"layers": list(layers)}
    drawn, origin = draw(name, folders, asked, where, STYLES[style], lambda line: click.echo(line, err=True))
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
    from lab.figures import blindness, dynamics, groups, layers, learning, paths, similarity, spectrum

    drawers = (similarity, layers, dynamics, paths, learning, spectrum, blindness, groups)
    about = {name: drawer.ABOUT for name, drawer in zip(FIGURES, drawers, strict=True)}
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
    if run_texts and not TAKES[name]:
        raise UsageError(f"lab figure {name} draws networks of its own, and runs change nothing in it; leave them out")
    least = 2 if "measure" in TAKES[name] else int(bool(TAKES[name]))
    if len(run_texts) < least:
        raise UsageError(
            f"lab figure {name} needs at least {least} run{'s' * (least > 1)}; `lab runs` lists those there are"
        )
    for option in ("measure", "stimuli", "match", "against", "permutations", "layer"):
        given = ctx.get_parameter_source(NAMES.get(option, option)) not in (ParameterSource.DEFAULT, None)
        if given and option not in TAKES[name]:
            raise UsageError(f"--{option} changes nothing in the figure {name}; leave it out")
