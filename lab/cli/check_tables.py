"""The tables of `lab check probes --blindness` and `--groups`, for people and for programs."""

from __future__ import annotations

from typing import Any

import click

from lab.cli.options import print_json, print_table

MARKS = {"sees": "+", "holds": "+", "blind": "-", "alarm": "!", "undefined": "?"}


def print_blindness(names: tuple[str, ...], as_csv: bool, as_json: bool) -> None:
    """The table of measures and cases: marks for people, every value for programs.

    Raises:
        UsageError: a measure that describes one network.
    """
    from lab.blindness import RULE, default_measures, described, pair_measure, table
    from lab.blindness_cases import cases
    from lab.measures import pair_probe_of

    measures = [pair_measure(pair_probe_of(name)[0], name) for name in names]
    if not names:
        from lab.device import prepare

        prepare("cpu")  # functional measures run networks
        measures = default_measures()
    known = cases()
    found = table(measures, known, lambda name: click.echo(f"measuring {name}", err=True))
    if as_csv:
        print_csv(found)
    elif as_json:
        print_json({"rule": RULE, "cases": described(known), "measures": records(found)})
    else:
        print_marks(found, known)


def print_csv(found) -> None:
    """A data frame as CSV."""
    click.echo(found.to_csv(index=False, lineterminator="\n"), nl=False)


def records(found) -> list[dict[str, Any]]:
    """The lines of a data frame for JSON, where what is missing is null."""
    return found.astype(object).where(found.notna(), None).to_dict("records")


def print_marks(found, known) -> None:
    """A line per measure, a letter per case; the letters and the marks explained below."""
    letters = "abcdefghijklmnopqrstuvwxyz"[: len(known)]
    different = sum(case.different for case in known)
    rows = []
    for name, cells in found.groupby("measure", sort=False):
        verdicts = list(cells["verdict"])
        count = [str(verdicts.count("blind")), str(verdicts.count("alarm"))]
        rows.append([name, *(MARKS[verdict] for verdict in verdicts), *count])
    print_table(["measure", *letters, "blind", "alarms"], rows, right={"blind", "alarms"})
    click.echo(
        "\n+ right; - blind: says the same, and they differ; ! alarm: says different, and the function is the same;"
    )
    click.echo(f"? undefined. Differences {letters[0]} to {letters[different - 1]}, controls after them.\n")
    for letter, case in zip(letters, known, strict=True):
        first, second = (format(accuracy, ".2f") for accuracy in case.accuracies)
        click.echo(
            f"{letter}  {case.name}: {case.about} (accuracies {first}, {second}; equal answers {case.agreement:.2f})"
        )


def print_groups(names: tuple[str, ...], as_csv: bool, as_json: bool) -> None:
    """The tables of measures and tests: scores with their intervals for people, every value for programs.

    Raises:
        UsageError: a measure that describes one network, or that runs networks.
    """
    from lab.blindness import pair_probes
    from lab.device import prepare
    from lab.groups import RULE, described, networks, table
    from lab.measures import pair_probe_of

    measures = [(name, pair_probe_of(name)[0]) for name in names] or pair_probes()

    def say(line: str) -> None:
        click.echo(line, err=True)

    prepare("cpu")  # a network this small is trained faster than it is sent to an accelerator
    shown = networks(say)
    found = table(measures, shown, say)
    if as_csv:
        print_csv(found)
    elif as_json:
        print_json({"rule": RULE, "tests": described(shown), "measures": records(found)})
    else:
        print_scores(found, shown)


SCORES = {
    "auprc": "AUPRC of “same group” among all pairs of networks [95 % interval]: larger is better",
    "violations": "violations, pairs in a group less alike than pairs across, near layers than far: smaller is better",
}


def print_scores(found, shown) -> None:
    """A table for each score, a line per measure, two columns per test: trained, untrained; then what the tests are."""
    for score, title in SCORES.items():
        mine = found[found["score"] == score]
        by_chance = " or ".join(dict.fromkeys(f"{chance:.3f}" for chance in mine["chance"]))
        click.echo(f"{title}; chance {by_chance}")
        rows = []
        for name, cells in mine.groupby("measure", sort=False):
            rows.append([name])
            for _, states in cells.groupby("test", sort=False):
                rows[-1] += [score_text(cell) for cell in states.itertuples()]
        print_table(["measure", *(head for test in mine["test"].unique() for head in (test, "untrained"))], rows)
        click.echo()
    for cell in found[found["reason"] != ""].drop_duplicates(["measure", "test", "reason"]).itertuples():
        click.echo(f"? {cell.measure}, {cell.test}: {cell.reason}")
    for one in shown:
        accuracies = ", ".join(f"{accuracy:.2f}" for accuracy in one.accuracies)
        about = f"{one.test.about} ({', '.join(f'{level:g}' for level in one.test.levels)})"
        click.echo(
            f"{one.test.name}: {one.test.about if one.test.layers else about}; {len(one.group)} networks; "
            f"accuracy on the stimuli {accuracies}"
        )


def score_text(cell) -> str:
    """`0.59 [0.50, 0.68]` of a trained group, `0.17` of an untrained one, `?` where there is none."""
    if cell.reason:
        return "?"
    return f"{cell.value:.2f} [{cell.low:.2f}, {cell.high:.2f}]" if cell.state == "trained" else f"{cell.value:.2f}"
