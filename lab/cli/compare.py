"""`lab compare`: how alike two rules' networks are, beside everything that says whether it means anything."""

from __future__ import annotations

import json
import math

import click
from click.core import ParameterSource

from lab.cli.numbers import discovery, grouped, interval, number, probability, test
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

MATCHED = {
    "steps": "Matched by nothing but the end of training.",
    "accuracy": "Matched by validation accuracy.",
    "loss": "Matched by training loss.",
}
MATCHES = click.Choice(["steps", "accuracy", "loss"])


@click.command(short_help="Compare the networks of stored runs.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "--measure", "-m", "measures", multiple=True, default=("debiased-cka",), show_default=True,
    help="A probe of two networks of `lab probes`; may be repeated.",
)  # fmt: skip
@layer_option
@click.option(
    "--best-layers",
    "search",
    is_flag=True,
    help="Search for the pair of layers that match best; p is that of the maximum.  [default: each with its namesake]",
)
@stimuli_option
@click.option(
    "--permutations",
    type=click.IntRange(1, 100_000),
    default=200,
    show_default=True,
    help="Draws of each null that is not known in closed form.",
)
@click.option(
    "--match",
    type=MATCHES,
    default="steps",
    show_default=True,
    help="Compare at the last step, or at equal accuracy or training loss.",
)
@memory_option
@csv_option
@device_option
@store_option
@json_option
@click.pass_context
def compare(
    ctx, runs, measures, layers, search, stimuli, permutations, match, memory, as_csv, device, store, as_json
) -> None:
    """Compare the hidden representations of stored runs, block by block; train nothing.

    RUN is a run's id, an unambiguous part of it, or the name of its rule where only one run has it. For every pair of
    rules the table gives the similarity between networks of different seeds, and beside it: the same between networks
    that started from the same weights; the ceiling (same rule, other seed) of each rule; each rule's networks against
    their own start; the global and the within-class permutation null; and the rule effect: by how much networks of
    two rules are less alike than networks of one. Intervals (95 %) are over seeds, cut to what the measure can be.
    Functional measures compare what the networks do with the inputs: they have no null, and those of a whole network
    one row, with the layer "output".

    Feature maps are flattened unless the measure says maps=pool (means over positions) or maps=positions (every
    position is a stimulus; the nulls move whole images); its name in the table says which. A comparison that was
    stopped goes on with the same command from the last measure and layer that was finished.

    \b
    Examples:
        lab compare bp fa
        lab compare bp fa dfa --measure mutual-knn --measure 'rsa()' --csv
        lab compare bp es --match accuracy
        lab compare bp fa --measure agreement --measure 'stitching(by=match)'
        lab compare bp fa --measure 'debiased-cka(maps=pool)'
        lab compare bp fa --best-layers
    """
    refuse_two_formats(as_json, as_csv)
    from lab.device import prepare

    prepare(device)
    refuse_idle_draws(ctx, measures)
    from lab.comparison import Plan, compare_runs
    from probes.all_pairs import bytes_of

    limit = bytes_of(memory)
    where = open_store(store)
    folders = find_runs(where, runs)
    plan = Plan(tuple(measures), stimuli, permutations, match, tuple(layers) or None, search)
    comparison = compare_runs(folders, plan, where, lambda line: click.echo(line, err=True), limit)
    if apart := unmatched(comparison.rows):
        click.echo(f"caution: {apart}", err=True)
    if as_csv:
        click.echo(comparison.rows.to_csv(index=False), nl=False)
    elif as_json:
        print_json(
            {
                "comparison": comparison.id,
                **comparison.about,
                "rows": json.loads(comparison.rows.to_json(orient="records")),
            }
        )
    else:
        print_comparison(comparison)


def refuse_idle_draws(ctx: click.Context, measures) -> None:
    """Refuse --permutations where no measure has a null.

    Raises:
        UsageError: none has.
    """
    from lab.errors import UsageError
    from lab.measures import comparing_probe, has_null

    if ctx.get_parameter_source("permutations") is ParameterSource.DEFAULT:
        return
    if not any(has_null(comparing_probe(text)[0]) for text in measures):
        raise UsageError(f"--permutations changes nothing for {', '.join(measures)}: without a null; leave it out")


def print_comparison(comparison) -> None:
    """The table for people: one block per measure and layer, and what was matched underneath."""
    from lab.cells import parted
    from lab.comparison_nulls import null_sources

    rows = comparison.rows
    first = rows.iloc[0]
    columns = [
        "rules",
        "between [95 %]",
        "same start",
        "ceilings",
        "untrained",
        "global null",
        "within-class",
        "rule effect [95 %]",
        "p (floor)",
        "q",
    ]
    searched = "layer_a" in rows
    names = names_in_table(comparison.labels)
    for line in legend(names):
        click.echo(line)
    for (measure, where), block in rows.groupby(["measure", "layer_choice" if searched else "layer"], sort=False):
        click.echo(f"{measure} ({block.iloc[0]['direction']}), {where}")
        print_table(columns, [_line(row, names) for _, row in block.iterrows()])
        click.echo("")
    where = "the best pair of layers of every two rules" if searched else "layers compared with their namesakes"
    click.echo(
        f"n = {first['n']} test stimuli; {_counts(rows)}; intervals over seeds; {where}; "
        f"p of the nulls in brackets, {null_sources(rows)}."
    )
    for line in _matched(rows):
        click.echo(line)
    click.echo(unmatched(rows) or MATCHED[first["match"]])
    for note in grouped(note for notes in rows["notes"] for note in parted(notes)):
        click.echo(f"note: {note}")
    click.echo("between, ceilings and nulls compare networks of different seeds; same start: one seed, two rules;")
    click.echo(
        "rule effect: mean of the ceilings minus between (for a distance, the reverse): above 0, rules differ more "
        f"than seeds do; p (floor): exact, {_tests(rows)}, and the least that so few seeds can give; "
        "q: the false discovery rate at which that effect would be called, over all rows above."
    )
    click.echo(
        "interval and p may disagree: one says how far the effect moves with other seeds, the other how rare so large "
        "an effect is where rules make no difference."
    )


def unmatched(rows) -> str:
    """Whose networks stayed apart in what they were to be matched by, and how far; empty where all are near enough."""
    from lab.comparison_table import no_match

    by = rows.iloc[0]["match"]
    if by == "steps":
        return ""
    column, unit, scale = ("accuracy", " points", 100) if by == "accuracy" else ("loss", "", 1)
    far: dict[str, None] = {}
    for row in rows.to_dict("records"):
        a, b = row[f"{column}_a"], row[f"{column}_b"]
        if no_match(by, a, b):
            far[f"{row['rule_a']} and {row['rule_b']} are {scale * abs(a - b):.3g}{unit} apart"] = None
    words = MATCHED[by].removeprefix("M").rstrip(".")
    return f"NOT m{words}: {', '.join(far)} at their nearest stored steps." if far else ""


def _line(row, names: dict[str, str]) -> list[str]:
    at = [f" {row[f'layer_{side}']}" if "layer_a" in row else "" for side in "ab"]
    return [
        f"{names[row['rule_a']]}{at[0]} - {names[row['rule_b']]}{at[1]}",
        interval(row, "between"),
        number(row["same_start"]),
        f"{number(row['ceiling_a'])} / {number(row['ceiling_b'])}",
        f"{number(row['untrained_a'])} / {number(row['untrained_b'])}",
        _null(row, "global"),
        _null(row, "within"),
        interval(row, "rule_effect", sign="+"),
        test(row),
        discovery(row),
    ]


def _null(row, kind: str) -> str:
    p = row[f"null_{kind}_p"]
    if math.isnan(row[f"null_{kind}"]):
        return "-"
    return number(row[f"null_{kind}"]) + ("" if math.isnan(p) else f" ({probability(p)})")


def _counts(rows) -> str:
    sides = [(row, side) for row in rows.to_dict("records") for side in "ab"]
    lost = sum({row[f"rule_{side}"]: row[f"diverged_{side}"] for row, side in sides}.values())
    return seeds_per_rule(rows) + (f", {lost} diverged and left out" if lost else "")


def seeds_per_rule(rows) -> str:
    """`3 seeds per rule`, or of each rule how many were compared, where they differ."""
    counts: dict[str, set[int]] = {}
    for row in rows.to_dict("records"):
        for side in "ab":
            counts.setdefault(row[f"rule_{side}"], set()).add(row[f"seeds_{side}"])
    alike = set.union(*counts.values())
    if len(alike) == 1:
        return f"{(count := alike.pop())} seed{'s' * (count != 1)} per rule"
    told = (f"{label} {' or '.join(map(str, sorted(its)))}" for label, its in counts.items())
    return f"seeds per rule: {', '.join(told)}"


def _tests(rows) -> str:
    """How the rule effects of these rows were tested (see `probes.seed_tests`)."""
    kinds = set(rows["paired"][rows["rule_effect_p"].notna()])
    ways = {True: "over swaps of rules within seeds", False: "over the ways to deal the rules to the networks"}
    if len(kinds) < 2:
        return ways[kinds.pop() if kinds else True]
    return f"{ways[True]} where two runs share seeds, {ways[False]} where they do not"


def _matched(rows) -> list[str]:
    """Of each run its step, accuracy and loss; several, where it is compared with others by different seeds."""
    forms = {
        "step": ("step", str),
        "accuracy": ("validation accuracy", lambda value: f"{100 * value:.2f} %"),
        "loss": ("training loss", "{:.4f}".format),
    }
    told: dict[str, list[str]] = {}
    for label in dict.fromkeys([*rows["rule_a"], *rows["rule_b"]]):
        sides = [(row, side) for side in "ab" for row in rows.to_dict("records") if row[f"rule_{side}"] == label]
        for name, (words, form) in forms.items():
            values = [row[f"{name}_{side}"] for row, side in sides]
            if known := dict.fromkeys(form(value) for value in values if not math.isnan(value)):
                told.setdefault(label, []).append(f"{words} {' or '.join(known)}")
    return [f"{label}: {', '.join(said)}" for label, said in told.items()]
