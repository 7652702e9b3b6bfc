"""`lab runs`: what the store holds."""

from __future__ import annotations

import click

from lab.cli.options import json_option, open_store, print_json, print_table, refuse_early_options, store_option


@click.group(invoke_without_command=True, short_help="List, show, compare, verify and remove stored runs.")
@store_option
@json_option
@click.pass_context
def runs(ctx, store, as_json) -> None:
    """The stored runs; without a subcommand, lists them.

    \b
    Examples:
        lab runs
        lab runs show fa-mnist
        lab runs diff bp-mnist fa-mnist
        lab runs verify
        lab runs rm fa-mnist-mlp-256-128-edb73ce190
    """
    refuse_early_options(ctx)
    if ctx.invoked_subcommand is not None:
        return
    where = open_store(store)
    rows = [describe(folder) for folder in where.list()]
    if as_json:
        print_json({"store": str(where.root), "runs": rows})
        return
    if not rows:
        click.echo(f"no runs in {where.root} yet; `lab train --rule fa` makes one", err=True)
        return
    columns = ["run", "status", "rule", "optimizer", "epochs", "seeds", "train size", "test accuracy", "size", "other"]
    lines = [[shown(column, row) for column in columns] for row in rows]
    used = len(columns) - (not any(row["other"] for row in rows))
    print_table(
        columns[:used],
        [line[:used] for line in lines],
        right={"epochs", "seeds", "train size", "test accuracy", "size"},
    )
    for row in rows:
        if row["problem"]:
            click.echo(f"{row['run']}: {row['problem']}", err=True)


def shown(column: str, row: dict) -> str:
    """A cell of the listing."""
    value = row[{"rule": "rule_call", "seeds": "which_seeds"}.get(column, column.replace(" ", "_"))]
    if value is None:
        return "-"
    if column == "size":
        return f"{value / 1e6:.1f} MB"
    return f"{100 * value:.2f} %" if column == "test accuracy" else str(value)


def describe(folder) -> dict:
    """One line on a run; whatever is unreadable is left out, never raised."""
    from algorithms import RULES
    from lab.callstring import short
    from lab.optimizers import OPTIMIZERS
    from lab.request import seeds_text
    from lab.summary import rule_name, summarise
    from runs import RunError

    row = {"run": folder.id, "status": folder.status, "problem": folder.problem, "size": folder.size()}
    row |= dict.fromkeys(("rule", "arch", "data", "optimizer", "epochs", "seeds", "test_accuracy"))
    row |= dict.fromkeys(("rule_call", "which_seeds", "train_size")) | {"other": ""}
    try:
        spec = folder.spec
        row |= {"rule": rule_name(spec.rule), "arch": spec.arch, "data": spec.data, "epochs": spec.epochs}
        row |= {"optimizer": short(spec.optimizer, OPTIMIZERS), "seeds": len(spec.seeds)}
        row |= {"rule_call": spec.rule if spec.sources else short(spec.rule, RULES), "train_size": spec.train_size}
        row |= {"which_seeds": seeds_text(spec.seeds), "other": unusual(spec)}
        if row["status"] in ("complete", "diverged"):
            row["test_accuracy"] = summarise(folder)["test_accuracy"]["mean"]
    except RunError:
        pass  # `status` and `problem` have said so already
    return row


def unusual(spec) -> str:
    """What tells a run apart besides the columns and its id: settings that are not the default."""
    from lab.callstring import parse, short
    from lab.networks import ARCHITECTURES
    from lab.request import BATCH

    arch = parse(short(spec.arch, ARCHITECTURES), "")
    orders = sorted(set(spec.order_seeds))
    said = [f"{name}={value}" for name, value in arch.kwargs.items()]
    said += [f"order seed {','.join(map(str, orders))}"] * (list(spec.order_seeds) != list(spec.seeds))
    said += [f"batch {spec.batch}"] * (spec.batch != BATCH) + [spec.precision] * (spec.precision != "float32")
    said += [f"cohort {spec.cohort}"] * (spec.cohort > 1) + [f"source {digest[:6]}" for _, digest in spec.sources]
    return ", ".join(said)


@runs.command()
@click.argument("run")
@store_option
@json_option
def show(run, store, as_json) -> None:
    """Show what was asked of RUN, how it was made, and its numbers.

    \b
    Examples:
        lab runs show fa-mnist
    """
    from dataclasses import asdict

    from lab.cli.train import print_summary
    from lab.run_warnings import warnings_of
    from lab.summary import summarise

    where = open_store(store)
    folder = where.find(run)
    spec = asdict(folder.spec)
    finished = folder.status in ("complete", "diverged")
    summary = {**summarise(folder), "warnings": warnings_of(folder, where)} if finished else None
    manifest = (
        {k: v for k, v in folder.manifest.items() if k != "files"}
        if folder.status != "incomplete" or (folder.path / "manifest.json").exists()
        else {}
    )
    if as_json:
        print_json({"run": folder.id, "status": folder.status, "spec": spec, "manifest": manifest, "summary": summary})
        return
    click.echo(f"{folder.id}: {folder.status}" + (f" ({folder.problem})" if folder.problem else ""))
    # The manifest's precision is that of the spec with what it means for matrix products.
    for name, value in (spec | {"precision": manifest.get("precision", spec["precision"])}).items():
        click.echo(f"  {name:<16} {value}")
    for name in ("started", "finished", "device", "commit", "command"):
        click.echo(f"  {name:<16} {manifest.get(name)}")
    chosen = manifest.get("chosen_by", {}).get("optimizer", {})
    click.echo(f"  {'chosen by':<16} {chosen.get('how', '-')}")
    for rate, value in zip(chosen.get("grid", ()), chosen.get("validation_accuracy", ()), strict=True):
        click.echo(f"  {'':<16} learning rate {rate:g}: validation accuracy {100 * value:.2f} %")
    if summary:
        print_summary(summary, stored=True)
        for warning in summary["warnings"]:
            click.echo(f"Warning, {warning}.", err=True)


@runs.command()
@click.argument("run_a")
@click.argument("run_b")
@store_option
@json_option
def diff(run_a, run_b, store, as_json) -> None:
    """Show only what was asked differently of two runs.

    \b
    Examples:
        lab runs diff bp-mnist fa-mnist
    """
    import runs as room

    where = open_store(store)
    a, b = where.find(run_a), where.find(run_b)
    differing = room.diff(a.spec, b.spec)
    if as_json:
        print_json({"a": a.id, "b": b.id, "diff": {name: list(pair) for name, pair in differing.items()}})
    elif not differing:
        click.echo("the two runs were asked for in the same words")
    else:
        print_table(["field", a.id, b.id], [[name, str(left), str(right)] for name, (left, right) in differing.items()])


@runs.command()
@click.argument("run", nargs=-1)
@store_option
@json_option
@click.pass_context
def verify(ctx, run, store, as_json) -> None:
    """Read every file of RUNs (of all, if none is named) and compare it with the checksum written at the end.

    Exit code 1 if anything is not as it was written.

    \b
    Examples:
        lab runs verify
        lab runs verify fa-mnist
    """
    where = open_store(store)
    folders = [where.find(text) for text in run] if run else where.list()
    found = {folder.id: {"status": folder.status, "problems": folder.verify()} for folder in folders}
    if as_json:
        print_json({"runs": found})
    else:
        for name, entry in found.items():
            click.echo(
                f"{name}: {'; '.join(entry['problems']) or 'sound'}"
                + (" (incomplete)" if entry["status"] == "incomplete" else "")
            )
    if any(entry["problems"] for entry in found.values()):
        ctx.exit(1)


@runs.command()
@click.argument("run", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@store_option
def rm(run, yes, store) -> None:
    """Delete RUNs for good.

    \b
    Examples:
        lab runs rm fa-mnist-mlp-256-128-edb73ce190
    """
    where = open_store(store)
    folders = [where.find(text) for text in run]
    for folder in folders:
        if yes or click.confirm(f"delete {folder.id} ({folder.size() / 1e6:.1f} MB) for good?"):
            where.remove(folder)
            click.echo(f"deleted {folder.id}", err=True)
