"""`lab rules`: the learning rules, and one rule's card."""

from __future__ import annotations

import click

from lab.cli.options import json_option, open_store, print_json, print_table, recipe_files, store_option


@click.command(short_help="List the learning rules, or show one.")
@click.argument("name", required=False)
@click.option("--data", help="The data set of the accuracies shown. [default: mnist]")
@click.option("--arch", help="The network of the accuracies shown. [default: mlp(256,128), or a rule's own]")
@click.option("--markdown", is_flag=True, help="Print the whole page on all rules, docs/rules.md; takes nothing else.")
@store_option
@json_option
def rules(name, data, arch, markdown, store, as_json) -> None:
    """List the learning rules with accuracy and cost; with NAME, show a rule's equation, sources, recipe.

    NAME may be your own file: `lab rules ./my_rule.py`. Accuracies are those of the store's own recipes (`lab tune
    --confirm`), else of those that come with the lab: mean and standard deviation over seeds on the test set, for the
    rule's default network or, where there is none, the network that is named; for --arch, or its twin with the
    nonlinearity that the rule needs.

    \b
    Examples:
        lab rules
        lab rules fa
        lab rules 'bp(loss=mse)'
        lab rules --data fashion-mnist
        lab rules --arch 'conv(6,16)'
        lab rules --markdown
    """
    from dataclasses import asdict

    from algorithms import RULES
    from lab.datasets.sources import require_known
    from lab.errors import UsageError
    from lab.recipes import read_all
    from lab.rule_pages import accuracy_text, card, cost_text, page, passes_text, recipe_of, recipe_text

    if markdown:
        if name or data or arch or as_json:
            raise UsageError("--markdown prints one page on all rules and data sets; leave out what else was asked")
        click.echo(page(), nl=False)
        return
    data = data or "mnist"
    require_known(data)
    recipes = read_all(recipe_files(open_store(store)))
    if name is None:
        made = {key: factory() for key, factory in RULES.items()}
        found = {key: recipe_of(recipes, [key], rule, data, arch) for key, rule in made.items()}
        if as_json:
            cards = [
                {**asdict(rule.info), "recipe": None if found[key] is None else asdict(found[key])}
                for key, rule in made.items()
            ]
            print_json({"data": data, "arch": arch, "rules": cards})
            return
        rows = []
        for key, rule in made.items():
            title, recipe = rule.info.title.removeprefix("control: ").partition(":")[0], found[key]
            rows.append([key, title, accuracy_text(recipe, rule, arch), cost_text(recipe), passes_text(rule, recipe)])
        where = data if arch is None else f"{data}, {arch}"
        print_table(["rule", "what it is", f"{where}, test accuracy", "CPU-s/epoch", "passes"], rows)
        if arch is not None:
            sizes = sorted({f"{recipe.train_size:,}" for recipe in found.values() if recipe is not None})
            trained = f"Trained on {' or '.join(sizes)} examples." if sizes else f"No rule is tuned on {where} yet."
            click.echo(f"\n{trained}")
        click.echo("\n`lab rules NAME` shows one; your own is one file: --rule ./my_rule.py (see CONTRIBUTING.md).")
        return
    from lab.callstring import has_brackets
    from lab.request import make_rule, source_hash

    rule, call, sources = make_rule(name)
    # A bare name stands for its own search, and so do the settings that this search chose.
    names = [call] if has_brackets(name) else [rule.info.name]
    names += [r.name for r in recipes if r.rule == call]
    recipe = recipe_of(recipes, names, rule, data, arch, source_hash(sources))
    if as_json:
        print_json({"call": call, **asdict(rule.info), "recipe": None if recipe is None else asdict(recipe)})
        return
    click.echo(f"{rule.info.name}: {rule.info.title}\n")
    for label, text in card(rule.info, call):
        click.echo(f"{label:<11} {text}")
    if recipe is not None:
        click.echo(f"{'recipe':<11} {recipe_text(recipe, rule)}")
