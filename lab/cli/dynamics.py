"""`lab dynamics`: two rules' networks all along training, and the paths of all networks in one space of shapes."""

from __future__ import annotations

import json
import math

import click

from lab.cli.compare import seeds_per_rule
from lab.cli.numbers import discovery, grouped, interval, number, test
from lab.cli.options import (
    csv_option,
    device_option,
    find_runs,
    json_option,
    layer_option,
    memory_option,
    open_store,
    print_json,
    print_table,
    refuse_two_formats,
    stimuli_option,
    store_option,
)
from lab.labels import legend, names_in_table

AGAINST = click.Choice(["step", "loss", "accuracy"])
HELD = {
    "step": "All networks of a row stand at one step.",
    "loss": "Each run stands at its stored step with the nearest training loss; the columns say how near that is.",
    "accuracy": "Each run stands at its stored step with the nearest validation accuracy; the columns say how near.",
}


@click.command(short_help="Compare the networks of stored runs all along training.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "--measure", "-m", "measures", multiple=True, default=("debiased-cka",), show_default=True,
    help="A probe of two networks of `lab probes`; may be repeated. A metric, such as angular-procrustes, gives paths.",
)  # fmt: skip
@layer_option
@click.option(
    "--against",
    type=AGAINST,
    default="step",
    show_default=True,
    help="Networks at one step, or at equal training loss or validation accuracy.",
)
@stimuli_option
@memory_option
@csv_option
@device_option
@store_option
@json_option
def dynamics(runs, measures, layers, against, stimuli, memory, as_csv, device, store, as_json) -> None:
    """Compare stored runs at every stored step that they have in common; train nothing.

    RUN is a run's id, an unambiguous part of it, or the name of its rule where only one run has it. Every row is a
    comparison as `lab compare` makes it, between networks of different seeds, beside the ceiling (same rule, other
    seed) of each rule, with intervals (95 %) over seeds; for the nulls of one point, see there. Against loss or
    accuracy the points are those that the run with the worst end passes through.

    A measure that is a metric makes all networks at all steps points of one space of shapes: their paths are printed
    by rule, as length, distance from end to start, and velocity (distance per step), means over networks with
    intervals over seeds. Coordinates, stress and negative eigenvalues are in the tables and in `lab figure paths`.

    \b
    Examples:
        lab dynamics bp fa
        lab dynamics bp fa dfa --measure angular-procrustes --layer dense2
        lab dynamics bp fa --against accuracy --csv
    """
    refuse_two_formats(as_json, as_csv)
    from lab.device import prepare

    prepare(device)
    from lab.dynamics import DynamicsPlan, dynamics_of
    from probes.all_pairs import bytes_of

    limit = bytes_of(memory)
    where = open_store(store)
    folders = find_runs(where, runs)
    plan = DynamicsPlan(tuple(measures), stimuli, against, tuple(layers) or None)
    found = dynamics_of(folders, plan, where, lambda line: click.echo(line, err=True), limit)
    if as_csv:
        click.echo(found.rows.to_csv(index=False), nl=False)
    elif as_json:
        print_json({"dynamics": found.id, **found.about, "rows": records(found.rows), "paths": of_paths(found.paths)})
    else:
        print_dynamics(found, where)


def records(table) -> list[dict]:
    return json.loads(table.to_json(orient="records"))


def of_paths(paths) -> dict | None:
    """Paths for programs; the distances between all networks stay in the store."""
    if paths is None:
        return None
    return {"ids": paths.ids, **{name: records(getattr(paths, name)) for name in ("maps", "networks", "checkpoints")}}


def print_dynamics(found, store) -> None:
    """The table for people: one block per measure and layer, then the paths of the metrics among them."""
    from lab.cells import parted

    rows = found.rows
    first = rows.iloc[0]
    columns = ["rules", "step", "loss", "accuracy %", "between [95 %]", "same start", "ceilings"]
    columns += ["rule effect [95 %]", "p (floor)", "q"]
    names = names_in_table(found.labels)
    for line in legend(names):
        click.echo(line)
    for (measure, layer), block in rows.groupby(["measure", "layer"], sort=False):
        click.echo(f"{measure} ({first_of(block, 'direction')}), {layer}")
        print_table(columns, [_line(row, names) for _, row in block.iterrows()], {"step", "loss", "accuracy %"})
        click.echo("")
    if found.paths is not None:
        print_paths(found.paths)
    for why in found.about["no_paths"]:
        click.echo(f"no paths: {why}")
    for note in found.about["left_out"]:
        click.echo(f"note: {note}")
    click.echo(
        f"n = {first['n']} test stimuli; {seeds_per_rule(rows)}; intervals over seeds; no nulls (`lab compare`)."
    )
    click.echo(HELD[found.about["plan"]["against"]] + " Columns as in `lab compare`; q over all rows above.")
    for note in grouped(note for notes in rows["notes"] for note in parted(notes)):
        click.echo(f"note: {note}")
    click.echo(f"tables: {store.root / 'dynamics' / found.id}")


def print_paths(paths) -> None:
    """The paths of every rule, measure by measure and layer by layer."""
    from lab.shape_paths import rule_means

    columns = ["rule", "length [95 %]", "end to start [95 %]", "tortuosity", "velocity: first", "last", "networks"]
    means = rule_means(paths)
    for of in paths.maps.itertuples():
        map_words = (
            "no map"
            if math.isnan(of.stress)
            else f"map of {of.points} points: stress {number(of.stress)}, negative eigenvalues "
            f"{100 * of.negative:.1f} %, two axes explain {100 * of.explained:.0f} %"
        )
        click.echo(f"paths by {of.measure}, {of.layer}; {map_words}")
        here = [line for line in means if (line["measure"], line["layer"]) == (of.measure, of.layer)]
        print_table(columns, [_path_line(line) for line in here])
        click.echo("")


def first_of(block, name: str):
    return block.iloc[0][name]


def _line(row, names: dict[str, str]) -> list[str]:
    step = str(row["step_a"]) if row["step_a"] == row["step_b"] else f"{row['step_a']} / {row['step_b']}"
    return [
        f"{names[row['rule_a']]} - {names[row['rule_b']]}",
        step,
        " / ".join("-" if math.isnan(row[f"loss_{side}"]) else f"{row[f'loss_{side}']:.3f}" for side in "ab"),
        " / ".join(f"{100 * row[f'accuracy_{side}']:.1f}" for side in "ab"),
        interval(row, "between"),
        number(row["same_start"]),
        f"{number(row['ceiling_a'])} / {number(row['ceiling_b'])}",
        interval(row, "rule_effect", sign="+").replace("-.000", "+.000"),
        test(row),
        discovery(row),
    ]


def _path_line(line) -> list[str]:
    velocity = [line[f"{end}_velocity"] for end in ("first", "last")]
    lost = f" ({line['undefined']} undefined)" if line["undefined"] else ""
    return [
        line["rule"],
        interval(line, "length"),
        interval(line, "displacement"),
        number(line["tortuosity"]),
        *("-" if math.isnan(v) else f"{v:.2g}" for v in velocity),
        f"{line['seeds']}{lost}",
    ]
