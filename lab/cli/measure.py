"""`lab measure`: any probe on anybody's arrays."""

from __future__ import annotations

import click
from click.core import ParameterSource

from lab.cli.options import json_option, print_json


@click.command(short_help="Compute a probe on your own arrays.")
@click.argument("measure")
@click.argument("arrays", nargs=-1, required=True, metavar="A.npy [B.npy]")
@click.option(
    "--labels", metavar="Y.npy", help="Class of each stimulus: for within-class nulls and measures that need it."
)
@click.option("--predictions", metavar="P.npy", help="Class that the network answers for each stimulus: for nc4.")
@click.option("--readout", metavar="W.npy", help="Weights of the linear readout, units × classes: for nc3.")
@click.option(
    "--null",
    type=click.Choice(["global", "within-class", "none"]),
    default="global",
    show_default=True,
    help="What is permuted.",
)
@click.option(
    "--permutations", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="Draws of the null."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the permutations.")
@json_option
@click.pass_context
def measure(ctx, measure, arrays, labels, predictions, readout, null, permutations, seed, as_json) -> None:
    """Compute MEASURE on arrays of any origin: .npy files, stimuli in rows, units in columns.

    A pair measure takes two arrays whose rows are the same stimuli in the same order, and is reported beside a
    permutation null; a single measure takes one array. Feature maps have to be flattened or pooled first.

    \b
    Examples:
        lab measure linear-cka a.npy b.npy
        lab measure debiased-cka a.npy b.npy --labels y.npy --null within-class --permutations 1000 --json
        lab measure participation-ratio a.npy
        lab measure nc3 h.npy --labels y.npy --readout W.npy
    """
    from lab.callstring import build
    from lab.errors import UsageError
    from probes import PROBES, PairProbe
    from probes.features import class_labels, features

    refuse_functional(measure)
    made, _ = build(measure, PROBES, "MEASURE", "`lab probes` lists them.")
    wanted = 2 if isinstance(made, PairProbe) else 1
    if len(arrays) != wanted:
        raise UsageError(f"{made.info.name} takes {wanted} array{'s' * (wanted - 1)}, not {len(arrays)}")
    check_options(ctx, made)
    loaded = [features(read_array(path), path) for path in arrays]  # so that a refusal names the file
    given = {"labels": labels, "predictions": predictions, "readout": readout}
    given = {name: read_array(path) for name, path in given.items() if path is not None}
    y = given.get("labels")
    if y is not None:
        class_labels(y, len(loaded[0]))
    if wanted == 2:
        answer = measure_pair(made, loaded, y, null, permutations, seed)
    else:
        answer = measure_single(made, loaded[0], given)
    answer = {"measure": made.info.label, **answer}
    if as_json:
        print_json(answer)
    else:
        print_measure(answer)


def refuse_functional(measure: str) -> None:
    """Refuse a measure that has to run networks; what runs them is loaded only if the name is not an array measure's.

    Raises:
        UsageError: it is one, and this command takes it.
    """
    from lab.callstring import parse
    from lab.errors import UsageError
    from probes import PROBES

    name = parse(measure, "MEASURE").name
    if name in PROBES:
        return
    from probes.functional import FUNCTIONAL

    if name in FUNCTIONAL:
        command = "compare" if FUNCTIONAL[name]().networks == 2 else "describe"
        raise UsageError(f"{name} measures networks, not arrays; `lab {command} --measure {name}` takes stored runs")


def check_options(ctx: click.Context, made) -> None:
    """Refuse options that this measure would ignore.

    Raises:
        UsageError: the first one given.
    """
    from lab.errors import UsageError
    from probes import PairProbe

    if isinstance(made, PairProbe):
        kind, ignored = "pair", ("predictions", "readout")
    else:
        unused = tuple(name for name in ("labels", "predictions", "readout") if name not in made.needs)
        kind, ignored = "single", ("null", "permutations", "seed", *unused)
    for option in ignored:
        if ctx.get_parameter_source(option) is not ParameterSource.DEFAULT:
            raise UsageError(f"--{option} changes nothing for {made.info.name}, a {kind} measure; leave it out")


def read_array(path: str):
    """One array from a .npy file; pickled objects are never loaded.

    Raises:
        NotFound, LabError: no such file, or not a .npy file of numbers.
    """
    import numpy as np

    from lab.errors import LabError, NotFound

    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}; give the path of an array saved with numpy.save") from None
    except (ValueError, OSError, EOFError) as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:  # NumPy advises to unpickle it: never a stranger's file, and useless for text
            reason = "it holds Python objects, or text"
        raise LabError(f"{path} is not a .npy file of numbers ({reason}); save it with numpy.save") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise LabError(f"{path} holds several arrays (.npz); save the one to measure with numpy.save")
    return array


def measure_pair(made, loaded, labels, null: str, permutations: int, seed: int) -> dict:
    """Value, null and cautions of a pair probe."""
    from lab.errors import UsageError
    from probes import Undefined
    from probes.cautions import cautions
    from probes.nulls import permutation_test

    if null == "within-class" and labels is None:
        raise UsageError("--null within-class needs --labels Y.npy, the class of each stimulus")
    px, py = (made.prepare(array) for array in loaded)
    value = made.value(px, py)
    answer = {
        "direction": made.info.direction,
        "value": None,
        "n": px.n,
        "units": [px.d, py.d],
        "null": None,
        "calibrated": None,
    }
    warnings = cautions(made, px.n, px.d, py.d, labels, (px, py))
    if labels is None:
        warnings.append("no labels given: what two networks share may be the classes alone; see --null within-class")
    if isinstance(value, Undefined):
        return {**answer, "undefined": value.reason, "warnings": warnings}
    answer["value"] = value
    if null != "none":
        found = permutation_test(made, px, py, kind=null, labels=labels, permutations=permutations, seed=seed)
        if isinstance(found, Undefined):
            warnings.append(f"no null: {found.reason}")
        else:
            answer["null"] = {
                "kind": null,
                "mean": found.mean,
                "sd": found.sd,
                "p": found.p,
                "permutations": permutations,
            }
            answer["calibrated"] = found.calibrated
    return {**answer, "warnings": warnings}


WANTED = {
    "labels": "--labels Y.npy, the class of each stimulus",
    "predictions": "--predictions P.npy, the class that the network answers for each stimulus",
    "readout": "--readout W.npy, the weights of the linear readout, units in rows and classes in columns",
}


def measure_single(made, array, given: dict) -> dict:
    """Value of a single probe, with its further numbers if it has any."""
    from lab.errors import UsageError
    from probes import Undefined, headline

    for name in made.needs:
        if name not in given:
            raise UsageError(f"{made.info.name} needs {WANTED[name]}")
    found = made.value(array, **given)
    answer = {
        "value": None,
        "n": len(array),
        "units": [array.shape[1]],
        "null": None,
        "calibrated": None,
        "warnings": [],
    }
    if isinstance(found, Undefined):
        return {**answer, "undefined": found.reason}
    answer["value"] = float(headline(found))
    if isinstance(found, dict):
        answer["details"] = {name: float(v) for name, v in found.items() if name != "value"}
    return answer


def print_measure(answer: dict) -> None:
    """A few lines for people."""
    units = " and ".join(map(str, answer["units"]))
    value = f"undefined: {answer['undefined']}" if "undefined" in answer else format(answer["value"], ".6f")
    kind = f" ({answer['direction']})" if "direction" in answer else ""
    click.echo(f"{answer['measure']}{kind}: {value}")
    click.echo(f"n = {answer['n']} stimuli, {units} units")
    for name, number in answer.get("details", {}).items():
        click.echo(f"{name}: {number:.6g}")
    if answer["null"]:
        null = answer["null"]
        click.echo(
            f"{null['kind']} null: mean {null['mean']:.6f}, p = {null['p']:.4g} ({null['permutations']} permutations)"
        )
        click.echo(f"calibrated: {answer['calibrated']:.6f}")
    for warning in answer["warnings"]:
        click.echo(f"warning: {warning}", err=True)
