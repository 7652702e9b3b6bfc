"""`lab rules`: the learning rules, and one rule's card."""

from __future__ import annotations

import click

from lab.cli.options import json_option, print_json, print_table


@click.command(short_help="List the learning rules, or show one.")
@click.argument("name", required=False)
@json_option
def rules(name, as_json) -> None:
    """List the learning rules; with NAME, show a rule's equation, citation, requirements and deviations.

    NAME may be your own file: `lab rules ./my_rule.py`.

    \b
    Examples:
        lab rules
        lab rules fa
    """
    from dataclasses import asdict

    from algorithms import RULES
    from lab.request import make_rule

    if name is None:
        cards = [factory().info for factory in RULES.values()]
        if as_json:
            print_json({"rules": [asdict(card) for card in cards]})
        else:
            print_table(
                ["rule", "what it is", "forward passes per sample"], [[c.name, c.title, c.passes] for c in cards]
            )
            click.echo("\n`lab rules NAME` shows one; your own is one file: --rule ./my_rule.py (see CONTRIBUTING.md).")
        return
    rule, call, _ = make_rule(name)
    card = rule.info
    if as_json:
        print_json({"call": call, **asdict(card)})
        return
    click.echo(f"{card.name}: {card.title}\n")
    rows = [
        ("equation", card.equation),
        ("citation", card.citation),
        ("transports", card.transports),
        ("requires", card.requires),
        *(("deviation", text) for text in card.deviations or ("none",)),
        ("passes", card.passes),
        ("compared", card.representation),
        ("settings", call.partition("(")[2].removesuffix(")") or "none"),
    ]
    for label, text in rows:
        click.echo(f"{label:<11} {text}")
