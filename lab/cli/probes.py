"""`lab probes`: the measures, and one measure's card."""

from __future__ import annotations

import click

from lab.cli.options import json_option, print_json, print_table


@click.command(short_help="List the probes, or show one.")
@click.argument("name", required=False)
@json_option
def probes(name, as_json) -> None:
    """List the probes; with NAME, show a probe's formula, citation, invariances, range and known traps.

    A pair probe compares two representations, a single one describes one; functional ones measure what one network
    does with its inputs, or two do.

    \b
    Examples:
        lab probes
        lab probes debiased-cka
        lab probes 'mutual-knn(k=5)'
        lab probes stitching
    """
    from lab.measures import every_probe, make_probe, networks_of

    if name is None:
        made = [factory() for factory in every_probe().values()]
        if as_json:
            print_json({"probes": [_facts(probe.info, networks_of(probe)) for probe in made]})
            return
        rows = [[p.info.name, p.info.kind, str(networks_of(p)), p.info.direction or "-", p.info.title] for p in made]
        print_table(["probe", "kind", "networks", "direction", "what it is"], rows, {"networks"})
        click.echo(
            "\n`lab probes NAME` shows one. On stored runs `lab describe` computes those of one network, `lab compare` "
            "those of two;\n`lab measure NAME a.npy b.npy` computes a pair or single one for any arrays."
        )
        return
    made, _ = make_probe(name, "NAME")
    card = made.info
    if as_json:
        print_json(_facts(card, networks_of(made)))
        return
    click.echo(f"{card.label}: {card.title}\n")
    low, high = card.range
    rows = [
        ("kind", f"{card.kind}, of {'two networks' if networks_of(made) == 2 else 'one network'}"),
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


def _facts(card, networks: int) -> dict:
    """A card as JSON: an infinite end of a range becomes null."""
    import math

    return {
        "name": card.name,
        "label": card.label,
        "title": card.title,
        "kind": card.kind,
        "networks": networks,
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
