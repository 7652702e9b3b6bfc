"""`lab train`: one rule, all its seeds, one stored run."""

from __future__ import annotations

import sys
from typing import Any

import click

from lab.cli.options import device_option, json_option, open_store, print_json, recipe_files, store_option


@click.command(short_help="Train a network with a learning rule and store the run.")
@click.option("--rule", default="bp", show_default=True, help="A rule of `lab rules`, or your own: ./my_rule.py.")
@click.option(
    "--arch",
    help="mlp(widths...), conv(channels...), resnet(...) or vit(...). "
    "[default: mlp(256,128) with the nonlinearity the rule needs]",
)
@click.option("--data", "data", default="mnist", show_default=True, help="A data set of `lab data`.")
@click.option("--optimizer", help="adam(0.001), adamw(0.001), sgd(0.1, momentum=0.9). [default: the rule's recipe]")
@click.option("--epochs", type=int, help="Passes over the training examples. [default: the rule's recipe, else 20]")
@click.option("--batch", type=int, help="Examples per step. [default: the rule's recipe, else 128]")
@click.option("--seeds", default="5", show_default=True, help="How many (5), or which (0,3,10-14).")
@click.option("--order-seed", type=int, help="One data order for all seeds. [default: each seed its own]")
@click.option("--train-size", type=int, help="Train on fewer examples. [default: all but the validation split]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "tensorfloat32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Precision of matrix products.",
)
@click.option("--cohort", type=click.IntRange(1, 1024), help="Seeds trained together. [default: 1 on a CPU, else 8]")
@device_option
@store_option
@click.option("--dry-run", is_flag=True, help="Show what would be trained and its id; train nothing.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@json_option
def train(device, store, dry_run, quiet, as_json, **said) -> None:
    """Train one network per seed with a learning rule, and store the run.

    The same request is never computed twice: asked again, it answers from the store; interrupted, it resumes, and
    ends with the same bits. Every rule with the same seed starts from the same weights and sees the same batches.
    Test examples are read once, after the last step.

    At the end three checks (Hao, Wan and Zhai 2026, arXiv 2606.21126) warn of activity that explodes from layer to
    layer, of an exact gradient too small to compare directions with, and of hidden blocks that brought nothing beside
    a stored run of `frozen` alike or, without one, beside a linear readout of the untrained network. A rule whose
    phases settle is warned of where they did not come to rest at any stored step.

    A rule by its name alone takes the settings of its recipe (`lab rules fa` shows them); in brackets you give your
    own, and `fa()` has the defaults.

    \b
    Examples:
        lab train --rule fa
        lab train --rule 'dfa(scale=0.5)' --arch 'mlp(512,512,act=tanh)' --seeds 10
        lab train --rule bp --arch 'conv(6,16)' --optimizer 'sgd(0.05, momentum=0.9)'
        lab train --rule bp --epochs 0                  # the untrained control
        lab train --rule ./my_rule.py --dry-run
    """
    from lab.device import prepare

    prepare(device)
    from lab.fit import check_fit
    from lab.request import Wish, make_request
    from lab.run_warnings import warnings_of
    from lab.runner import Interrupted
    from lab.runner import train as train_run
    from lab.summary import summarise
    from runs import run_id

    where = open_store(store)
    request = make_request(Wish(**said), recipe_files(where))
    check_fit(request)
    if note := recipe_note(request):
        click.echo(note, err=True)
    if dry_run:
        answer = {"run": run_id(request.spec), "spec": vars(request.spec), "chosen_by": request.chosen_by}
        if as_json:
            print_json(answer)
        else:
            click.echo(f"would train {answer['run']}")
            for name, value in vars(request.spec).items():
                click.echo(f"  {name:<16} {value}")
        return
    from lab.cli.progress import shown

    known = where.get(request.spec)
    stored = known is not None and known.status in ("complete", "diverged")
    if known is not None and known.status == "damaged":
        click.echo(f"The stored run is damaged ({known.problem}) and is made again.", err=True)
    try:
        with shown(f"{request.rule.info.name} on {request.spec.data}", quiet) as report:
            folder = train_run(request, where, report)
    except Interrupted as stop:
        click.echo(f"Interrupted; {stop} is saved. The same command resumes it.", err=True)
        sys.exit(130)
    warnings = warnings_of(folder, where)
    answer = {**summarise(folder), "warnings": warnings}
    if as_json:
        print_json(answer)
    else:
        print_summary(answer, stored)
    for warning in warnings:
        click.echo(f"Warning, {warning}.", err=True)
    if answer["diverged"]:
        seeds = ", ".join(f"{seed} at step {step}" for seed, step in answer["diverged"].items())
        which = "All" if len(answer["diverged"]) == len(answer["seeds"]) else "Some"
        click.echo(f"{which} seeds diverged: {seeds}. They stay on record; try a smaller learning rate.", err=True)
        sys.exit(3)


def recipe_note(request: Any) -> str:
    """Where the learning rate came from, unless the user gave it or a search for this very run found it; else ""."""
    name, chosen = request.rule.info.name, request.chosen_by
    match chosen["how"]:
        case "default":
            return f"No recipe of {name}: {request.spec.optimizer} is a default. `lab tune` finds its own rate."
        case "recipe for another network or data set":
            return (
                f"No recipe of {name} is for this network and data set: the learning rate is that for "
                f"{chosen['arch']} on {chosen['data']}. `lab tune` finds its own."
            )
        case "recipe for other settings":
            return (
                f"The search for {request.spec.rule} chose {chosen['rule']}: the learning rate is that for these "
                "settings. Ask for them by name, or give --optimizer."
            )
        case "recipe" if chosen["train_size"] != request.spec.train_size:
            return (
                f"The recipe of {name} was found on {chosen['train_size']:,} training examples, and this run has "
                f"{request.spec.train_size:,}. `lab tune --train-size` finds its own."
            )
    return ""


def print_summary(answer: dict, stored: bool) -> None:
    """What `lab train` says at its end; the last line is the run's folder."""
    n = len(answer["seeds"])
    click.echo(
        f"{answer['rule_call']} on {answer['data']}, {answer['arch']}, {answer['optimizer']}, {answer['epochs']} epochs"
    )
    lost = f", {len(answer['diverged'])} diverged and counted as all wrong" if answer["diverged"] else ""
    click.echo(f"  test accuracy       {percent(answer['test_accuracy'])}  (n = {n} seeds{lost})")
    click.echo(f"  validation accuracy {percent(answer['validation_accuracy'])}")
    readouts = {} if len(answer["diverged"]) == n else answer["test_readout_accuracy"]
    for layer, accuracy in readouts.items():
        click.echo(f"  readout of {layer:<8} {percent(accuracy)}")
    if "evaluations" in answer:
        click.echo(f"  evaluations         {answer['evaluations']:,} per seed")
    if "residual" in answer:
        click.echo(f"  residual            {answer['residual']:.2g} from rest (the largest of the seeds)")
    click.echo(f"  {'stored earlier, took' if stored else 'took'} {answer['seconds']:.1f} s")
    click.echo(answer["path"])


def percent(accuracy: dict) -> str:
    """`97.81 ± 0.12 %`, mean and standard deviation over seeds."""
    if accuracy["mean"] is None:
        return "undefined"
    sd = "" if accuracy["sd"] is None else f" ± {100 * accuracy['sd']:.2f}"
    return f"{100 * accuracy['mean']:.2f}{sd} %"
