"""`lab probes`: the measures, and one measure's card."""

from __future__ import annotations

import click

from lab.cli.options import json_option, print_json, print_table


@click.command(short_help="List the probes, or show one.")
@click.argument("name", required=False)
@json_option
def probes(name, as_json) -> None:
    """List the probes; with NAME, show a probe's formula, citation, invariances, range and known traps.

    \b
    Examples:
        lab probes
        lab probes debiased-cka
        lab probes 'mutual-knn(k=5)'
    """
    from lab.callstring import build
    from probes import PROBES

    if name is None:
        cards = [factory().info for factory in PROBES.values()]
        if as_json:
            print_json({"probes": [_facts(card) for card in cards]})
            return
        rows = [[c.name, c.kind, c.direction or "-", c.title] for c in cards]
        print_table(["probe", "kind", "direction", "what it is"], rows)
        click.echo("\n`lab probes NAME` shows one; `lab measure NAME a.npy b.npy` computes it for any arrays.")
        return
    made, _ = build(name, PROBES, "NAME", "`lab probes` lists them.")
    card = made.info
    if as_json:
        print_json(_facts(card))
        return
    click.echo(f"{card.label}: {card.title}\n")
    low, high = card.range
    rows = [
        ("formula", card.formula),
        ("citation", card.citation),
        ("range", f"{low:g} to {high:g}" + (f" ({card.direction})" if card.direction else "")),
        ("symmetric", {True: "yes", False: "no", None: "-"}[card.symmetric]),
        ("metric", "yes" if card.metric else "no"),
        ("invariant to", ", ".join(sorted(card.invariances)) or "nothing"),
        ("convention", card.convention),
        ("cost", card.cost),
        ("traps", card.traps),
    ]
    for label, text in rows:
        click.echo(f"{label:<13} {text}")


def _facts(card) -> dict:
    """A card as JSON: an infinite end of a range becomes null."""
    import math

    return {
        "name": card.name,
        "label": card.label,
        "title": card.title,
        "kind": card.kind,
        "formula": card.formula,
        "citation": card.citation,
        "range": [end if math.isfinite(end) else None for end in card.range],
        "direction": card.direction,
        "symmetric": card.symmetric,
        "metric": card.metric,
        "invariances": sorted(card.invariances),
        "convention": card.convention,
        "cost": card.cost,
        "traps": card.traps,
        "settings": dict(card.params),
    }
