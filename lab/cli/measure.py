"""`lab measure`: any probe on anybody's arrays."""

from __future__ import annotations

import click
from click.core import ParameterSource

from lab.cli.options import json_option, print_json, print_table


@click.command(short_help="Compute a probe on your own arrays.")
@click.argument("measure")
@click.argument("arrays", nargs=-1, required=True, metavar="A.npy [B.npy ...]")
@click.option(
    "--labels", metavar="Y.npy", help="Class of each stimulus: for within-class nulls and measures that need it."
)
@click.option("--predictions", metavar="P.npy", help="Class that the network answers for each stimulus: for nc4.")
@click.option("--readout", metavar="W.npy", help="Weights of the linear readout, units × classes: for nc3.")
@click.option(
    "--null",
    type=click.Choice(["global", "within-class", "restricted", "none"]),
    default="global",
    show_default=True,
    help="What is permuted: all stimuli, those of one class (--labels), those of one block (--blocks).",
)
@click.option("--blocks", metavar="B.npy", help="Whole numbers, one per stimulus: only equal ones change places.")
@click.option(
    "--permutations",
    type=click.IntRange(1, 1_000_000),
    help="Draws of the null.  [default: none where its closed form is known, else 200]",
)
@click.option("--seed", type=click.IntRange(0), help="Seed of the permutations.  [default: 0]")
@click.option("--memory", default="2GiB", show_default=True, help="For all pairs of more than two arrays.")
@json_option
@click.pass_context
def measure(
    ctx, measure, arrays, labels, predictions, readout, null, blocks, permutations, seed, memory, as_json
) -> None:
    """Compute MEASURE on arrays of any origin: .npy files, stimuli in rows, units in columns.

    A pair measure takes two arrays whose rows are the same stimuli in the same order, and is reported beside a
    permutation null; more than two give the matrix of all pairs. A single measure takes one array. A .npz file with
    `features` and `ids` is refused beside one that shows other stimuli. MEASURE is a call string of `lab probes`, or
    ./my_probe.py.

    Arrays of feature maps, stimuli × height × width × channels or stimuli × tokens × units, need maps= in the measure:
    flatten (units at every position), pool (means over positions) or positions (every position is a stimulus; whole
    stimuli are permuted). Channels are on the last axis.

    \b
    Examples:
        lab measure linear-cka a.npy b.npy
        lab measure debiased-cka a.npy b.npy --labels y.npy --null within-class --permutations 1000 --json
        lab measure 'rsa(comparator=kendall)' a.npy b.npy c.npy
        lab measure nc3 h.npy --labels y.npy --readout W.npy
        lab measure 'linear-cka(maps=pool)' maps.npy others.npy
        lab measure debiased-cka a.npy b.npy --null restricted --blocks sessions.npy
    """
    from lab.arrays import read_array, require_same_stimuli
    from lab.errors import UsageError
    from lab.measures import make_probe
    from lab.measuring import measure_all, measure_pair, measure_single
    from probes import PairProbe, SingleProbe
    from probes.all_pairs import bytes_of

    refuse_functional(measure)
    made, _ = make_probe(measure, "MEASURE")
    if not isinstance(made, PairProbe | SingleProbe):
        raise UsageError(f"{made.info.name} measures networks, not arrays; `lab compare` and `lab describe` take runs")
    pair, limit = isinstance(made, PairProbe), bytes_of(memory)
    if (pair and len(arrays) < 2) or (not pair and len(arrays) > 1):
        wanted = "2 arrays or more" if pair else "1 array"
        raise UsageError(f"{made.info.name} takes {wanted}, not {len(arrays)}")
    refuse_idle_options(ctx, made, len(arrays))
    given = {"labels": labels, "predictions": predictions, "readout": readout}
    given = {name: read_array(path) for name, path in given.items() if path is not None}
    if (null == "restricted") != (blocks is not None):
        raise UsageError("--null restricted and --blocks B.npy, which says what may change places, go together")
    paths, y = list(arrays), given.get("labels")
    require_same_stimuli(paths)
    if not pair:
        answer = measure_single(made, paths[0], given)
    elif len(paths) == 2:
        restricted = None if blocks is None else read_array(blocks)
        answer = measure_pair(
            made, paths, y, null, permutations, seed, restricted, lambda line: click.echo(line, err=True)
        )
    else:
        answer = measure_all(made, paths, y, null, limit)
    answer = {"measure": made.info.label, **answer}
    if as_json:
        print_json(answer)
    elif "values" in answer:
        print_matrix(answer)
    else:
        print_measure(answer)


def refuse_functional(measure: str) -> None:
    """Refuse a measure that has to run networks; what runs them is loaded only if the name is not an array measure's.

    Raises:
        UsageError: it is one, and this command takes it.
    """
    from lab.callstring import parse
    from lab.errors import UsageError
    from probes import PROBES

    name = parse(measure, "MEASURE").name
    if name in PROBES or name.endswith(".py"):
        return
    from probes.functional import FUNCTIONAL

    if name in FUNCTIONAL:
        command = "compare" if FUNCTIONAL[name]().networks == 2 else "describe"
        raise UsageError(f"{name} measures networks, not arrays; `lab {command} --measure {name}` takes stored runs")


def refuse_idle_options(ctx: click.Context, made, arrays: int) -> None:
    """Refuse options that this measure would ignore.

    Raises:
        UsageError: the first one given.
    """
    from lab.errors import UsageError
    from probes import PairProbe

    if isinstance(made, PairProbe):
        what = f"{made.info.name}, a pair measure" if arrays == 2 else f"all pairs of {arrays} arrays"
        null, drawn = ctx.params["null"], ("permutations", "seed")
        ignored = ("predictions", "readout", *(("memory",) if arrays == 2 else drawn))
        if not made.info.paired:
            what, ignored = f"{made.info.name}, which has no null", (*ignored, "null", "blocks", *drawn)
        elif null == "none":
            ignored = (*ignored, *drawn)
            what += " with --null none"
        if arrays > 2 and null in ("within-class", "restricted"):
            raise UsageError(f"--null {null} takes two arrays at a time: its permutations are drawn for each pair")
    else:
        unused = tuple(name for name in ("labels", "predictions", "readout") if name not in made.needs)
        what = f"{made.info.name}, a single measure"
        ignored = ("null", "blocks", "permutations", "seed", "memory", *unused)
    for option in ignored:
        if ctx.get_parameter_source(option) is not ParameterSource.DEFAULT:
            raise UsageError(f"--{option} changes nothing for {what}; leave it out")


def print_measure(answer: dict) -> None:
    """A few lines for people."""
    from probes.features import stimuli

    units = " and ".join(map(str, answer["units"])) + (" unit" if answer["units"] == [1] else " units")
    value = f"undefined: {answer['undefined']}" if "undefined" in answer else format(answer["value"], ".6f")
    kind = f" ({answer['direction']})" if "direction" in answer else ""
    click.echo(f"{answer['measure']}{kind}: {value}")
    click.echo(f"n = {stimuli(answer['n'])},{_rows(answer)} {units}")
    for name, number in answer.get("details", {}).items():
        click.echo(f"{name}: {number:.6g}")
    if answer["null"]:
        null = answer["null"]
        drawn = null["permutations"]
        how = f"{drawn} permutation{'s' * (drawn > 1)}" if drawn else "closed form, 1e-06 at least"
        click.echo(f"{null['kind']} null: mean {null['mean']:.6f}, p = {null['p']:.4g} ({how})")
        if "uncalibrated" in answer:
            click.echo(f"calibrated: undefined: {answer['uncalibrated']}")
        else:
            click.echo(f"calibrated: {answer['calibrated']:.6f} (0: within the null's 95 %; 1: identical)")
    for warning in answer["warnings"]:
        click.echo(f"warning: {warning}", err=True)


def _rows(answer: dict) -> str:
    """How many rows the positions of the stimuli make, where there are more than stimuli."""
    return f" {answer['rows']} rows," if answer.get("rows", answer["n"]) > answer["n"] else ""


def print_matrix(answer: dict) -> None:
    """All pairs as a table, a row per array; p below where there is a null."""
    from probes.features import stimuli

    click.echo(f"{answer['measure']} ({answer['direction']}), n = {stimuli(answer['n'])}{_rows(answer).rstrip(',')}")
    numbers = [str(i + 1) for i in range(len(answer["files"]))]
    for title, key, form in (("", "values", ".4f"), ("p, global null (closed form, 1e-06 at least)", "p", ".2g")):
        if answer[key] is None:
            continue
        if title:
            click.echo(f"\n{title}")
        cells = [["-" if v is None else format(v, form) for v in row] for row in answer[key]]
        rows = [[i, file, *row] for i, file, row in zip(numbers, answer["files"], cells, strict=True)]
        print_table(["", "", *numbers], rows, right=set(numbers))
    for path, reason in answer["undefined"].items():
        click.echo(f"warning: {path} has no value: {reason}", err=True)
    for warning in answer["warnings"]:
        click.echo(f"warning: {warning}", err=True)
