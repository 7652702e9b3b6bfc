"""`lab variance`: what makes networks differ, the rule, the initial weights or the order of the data."""

from __future__ import annotations

import json
import math
from typing import Any

import click

from lab.cli.compare import MATCHED, MATCHES
from lab.cli.numbers import probability
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


@click.command(short_help="Split the variance among networks: rule, initialisation, data order.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "--measure", "-m", "measures", multiple=True, default=("debiased-cka",), show_default=True,
    help="A metric, or an inner product such as CKA (d² = 2 − 2s), of `lab probes`; may be repeated.",
)  # fmt: skip
@layer_option
@stimuli_option
@click.option(
    "--permutations",
    type=click.IntRange(1, 100_000),
    default=999,
    show_default=True,
    help="Of each factor's levels; all exchanges are taken if they are no more.",
)
@click.option(
    "--match",
    type=MATCHES,
    default="steps",
    show_default=True,
    help="Networks at the last step, or at equal accuracy or training loss.",
)
@memory_option
@csv_option
@device_option
@store_option
@json_option
def variance(runs, measures, layers, stimuli, permutations, match, memory, as_csv, device, store, as_json) -> None:
    """Split the variance among networks into rule, initialisation and data order; train nothing.

    Every rule has to be trained with every initialisation (--seeds) and every data order (--order-seed): one run per
    rule and order, all with the same seeds. RUN is a run's id, an unambiguous part of it, or the name of a rule, which
    here stands for all its runs that have one data order for all seeds. A rule's own random numbers, such as feedback
    weights, go with the initialisation.

    For every factor and every two of them together (their interaction): the share of the sum of squared distances to
    the centroid, the share that as many levels take by chance, and the variance component, from the mean squares that
    are expected if levels are drawn at random; it may come out below 0. The rest is the interaction of all factors.

    p of a rule or an order: exchanged anew within every initialisation, networks that share both staying together; an
    interaction of rule and order counts as an effect there. p of the initialisation: exchanged within rules and within
    orders, and the larger counts. In brackets the least p that so few levels can give: two rules need six
    initialisations to reach .05. Interactions have no p, since no exchange moves them alone.

    \b
    Two rules x three initialisations x two orders are four runs:
        lab train --rule bp --seeds 3 --order-seed 0
        lab train --rule bp --seeds 3 --order-seed 1
        lab train --rule fa --seeds 3 --order-seed 0
        lab train --rule fa --seeds 3 --order-seed 1

    \b
    Examples:
        lab variance bp fa
        lab variance bp fa --measure angular-procrustes --match accuracy
        lab variance bp-mnist-mlp-256-128-1f0c bp-mnist-mlp-256-128-77ab --csv
    """
    refuse_two_formats(as_json, as_csv)
    from lab.device import prepare

    prepare(device)
    from lab.variance import VariancePlan, variance_of
    from probes.all_pairs import bytes_of

    limit = bytes_of(memory)
    where = open_store(store)
    folders = of_design(where, runs)
    plan = VariancePlan(tuple(measures), stimuli, match, permutations, tuple(layers) or None)
    found = variance_of(folders, plan, where, lambda line: click.echo(line, err=True), limit)
    if as_csv:
        click.echo(found.rows.to_csv(index=False), nl=False)
    elif as_json:
        tables = {name: json.loads(getattr(found, name).to_json(orient="records")) for name in ("rows", "networks")}
        print_json({"variance": found.id, **found.about, **tables})
    else:
        print_variance(found)


def of_design(store: Any, texts: tuple[str, ...]) -> list:
    """Finished runs: the name of a rule stands for all its runs that were trained with `--order-seed`, if there are
    any; all else is as everywhere (`options.find_runs`)."""
    from lab.summary import rule_name
    from runs import RunError

    ordered: dict[str, list] = {}
    for folder in store.list():
        try:
            spec = folder.spec if folder.status in ("complete", "diverged") else None
        except RunError:
            continue
        if spec is not None and len(set(spec.order_seeds)) == 1 and len(spec.seeds) > 1:
            ordered.setdefault(rule_name(spec.rule), []).append(folder)
    return [folder for text in texts for folder in ordered.get(text) or find_runs(store, [text])]


def print_variance(found) -> None:
    """The table for people: one block per measure and layer."""
    columns = ["factor", "levels", "df", "share", "by chance", "variance component", "p (floor)"]
    rows = found.rows
    for (measure, layer), block in rows.groupby(["measure", "layer"], sort=False):
        of = block.iloc[0]
        square = "2 - 2 x value" if of["direction"] == "similarity" else "value squared"
        click.echo(f"{measure} (squared distance: {square}), {layer}")
        if of["undefined"]:
            click.echo(f"undefined: {of['undefined']}")
        else:
            print_table(columns, [_line(row) for _, row in block.iterrows()], set(columns[1:]))
        click.echo("")
    first = rows.iloc[0]
    levels = " x ".join(f"{len(of)} {name}{'s' * (len(of) > 1)}" for name, of in found.about["levels"].items())
    click.echo(f"n = {first['n']} test stimuli; {first['networks']} networks: {levels}. {MATCHED[first['match']]}")
    units = rows[rows["within"] != ""].drop_duplicates("factor")
    if len(units):
        exchanged = "; ".join(f"{row.factor} within {row.within}" for row in units.itertuples())
        click.echo(f"p: levels exchanged as whole units ({exchanged}),")
        click.echo(
            f"in all ways or in {found.about['plan']['permutations']} random ones; floor: the least p that so few "
            "levels can give; interactions have none."
        )
    if (rows["share"] < -1e-9).any():
        click.echo(
            "note: a share below 0 says that no Euclidean space has these distances; shares sum to 1 all the same"
        )
    for note in found.about["notes"]:
        click.echo(f"note: {note}")


def _line(row) -> list[str]:
    return [
        row["factor"],
        "" if math.isnan(row["levels"]) else f"{row['levels']:.0f}",
        f"{row['df']:.0f}",
        f"{round(100 * row['share'], 1) + 0.0:.1f} %",
        f"{100 * row['by_chance']:.1f} %",
        f"{row['variance']:.3g}",
        "-" if math.isnan(row["p"]) else f"{probability(row['p'])} ({probability(row['floor'])})",
    ]
