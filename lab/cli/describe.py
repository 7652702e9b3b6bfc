"""`lab describe`: what measures of one network say of stored runs, at the end of training or all along."""

from __future__ import annotations

import json
import math

import click

from lab.cli.numbers import grouped
from lab.cli.options import (
    csv_option,
    device_option,
    find_runs,
    json_option,
    open_store,
    print_json,
    print_table,
    refuse_two_formats,
    store_option,
)


@click.command(short_help="Describe the networks of stored runs.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--measure", "-m", "measures", multiple=True,
    help="A probe of one network of `lab probes`; may be repeated. "
    "[default: participation-ratio, effective-rank, sparsity, dead-units, linear-probe]",
)  # fmt: skip
@click.option("--layer", "layers", multiple=True, help="A block; may be repeated. [default: all]")
@click.option(
    "--steps",
    type=click.Choice(["last", "all"]),
    default="last",
    show_default=True,
    help="The end of training, or every stored step with its loss and accuracy.",
)
@click.option("--stimuli", type=int, default=1000, show_default=True, help="Test inputs to measure on.")
@csv_option
@device_option
@store_option
@json_option
def describe(runs, measures, layers, steps, stimuli, as_csv, device, store, as_json) -> None:
    """Measure the networks of stored runs one by one; train nothing.

    RUN is a run's id, an unambiguous part of it, or the name of its rule where only one run has it. Each value is a
    mean over the seeds that did not diverge, with a 95 % interval over seeds, beside that of the same networks before
    training. Measures of the whole network have one row, with the layer "output"; those of representations have one
    per hidden block, whose feature maps are flattened unless the measure says maps=pool or maps=positions; those of
    weights and directions one per block or weight, the readout ("output") included. gradient-alignment is taken on
    training examples, as in the run's own record; the other measures of weights look at no examples at all.

    \b
    Examples:
        lab describe bp fa
        lab describe bp --measure nc1 --measure calibration-error --json
        lab describe bp --measure 'participation-ratio(maps=pool)'
        lab describe bp fa --steps all --csv
        lab describe fa dfa --measure weight-feedback-angle --measure gradient-alignment
    """
    refuse_two_formats(as_json, as_csv)
    from lab.device import prepare

    prepare(device)
    from lab.description import DEFAULT, DescriptionPlan, describe_runs

    where = open_store(store)
    folders = find_runs(where, runs)
    plan = DescriptionPlan(tuple(measures) or DEFAULT, stimuli, steps, tuple(layers) or None)
    description = describe_runs(folders, plan, where, lambda line: click.echo(line, err=True))
    if as_csv:
        click.echo(description.rows.to_csv(index=False), nl=False)
    elif as_json:
        rows = json.loads(description.rows.to_json(orient="records"))
        rows = [{**row, "parts": json.loads(row["parts"])} for row in rows]
        print_json({"description": description.id, **description.about, "rows": rows})
    else:
        print_description(description.rows)


def print_description(rows) -> None:
    """The table for people: one block per measure and layer."""
    columns = ["rule", "step", "value [95 %]", "untrained", "seeds", "loss", "accuracy %", "further means"]
    for (measure, layer), block in rows.groupby(["measure", "layer"], sort=False):
        click.echo(f"{measure}, {layer}")
        lines = [_line(row) for _, row in block.iterrows()]
        used = len(columns) - (not any(line[-1] for line in lines))
        print_table(columns[:used], [line[:used] for line in lines], {"step", "seeds", "loss", "accuracy %"})
        click.echo("")
    click.echo(
        f"{_stimuli(rows)}; means over the seeds that have a value, intervals over these seeds; "
        "loss and accuracy: training loss since the stored step before, validation accuracy."
    )
    for label, lost in dict(zip(rows["rule"], rows["diverged"], strict=True)).items():
        if lost:
            click.echo(f"{label}: {lost} seeds diverged and are left out")
    for note in grouped(_notes(rows)):
        click.echo(f"note: {note}")


def _stimuli(rows) -> str:
    """On how many stimuli the measures were taken, and which were taken on none."""
    none = ", ".join(dict.fromkeys(rows["measure"][rows["n"] == 0]))
    if not none:
        return f"n = {rows['n'].max()} test stimuli"
    words = f"{none}: no test stimuli, but weights, or directions on training examples"
    return words if not rows["n"].any() else f"n = {rows['n'].max()} test stimuli ({words})"


def _notes(rows) -> list[str]:
    """Each note with its measure and rule; what is undefined also with its layers, unless it is so at all."""
    from lab.cells import parted

    layers: dict[tuple[str, str, str], dict[str, None]] = {}
    for row in rows.itertuples():
        for note in parted(row.notes):
            layers.setdefault((row.measure, row.rule, note), {})[row.layer] = None
    all_of = rows.groupby(["measure", "rule"])["layer"].nunique()
    said = []
    for (measure, rule, note), at in layers.items():
        some = at if "undefined" in note and len(at) < all_of[measure, rule] else ()
        said.append(f"{', '.join((measure, rule, *some))}: {note}")
    return said


def _line(row) -> list[str]:
    value = _number(row["value"], "undefined")
    if not math.isnan(row["value_low"]):
        value += f" [{_number(row['value_low'])}, {_number(row['value_high'])}]"
    elif not math.isnan(row["value"]):
        value += " [no interval]"
    accuracy = "-" if math.isnan(row["accuracy"]) else f"{100 * row['accuracy']:.2f}"
    return [
        row["rule"],
        str(row["step"]),
        value,
        _number(row["untrained"], "undefined"),
        str(row["seeds"]),
        _number(row["loss"]),
        accuracy,
        ", ".join(f"{name} {value:.4g}" for name, value in json.loads(row["parts"]).items() if value is not None),
    ]


def _number(value: float, missing: str = "-") -> str:
    return missing if math.isnan(value) else f"{value:.4g}"
