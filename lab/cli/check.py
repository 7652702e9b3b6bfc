"""`lab check`: does a learning rule keep its contract, and learn; does a measure keep what its card promises?"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lab.cli.options import json_option, print_json

if TYPE_CHECKING:
    from lab.checking import Finding


@click.group(short_help="Check learning rules and measures against their contracts.")
def check() -> None:
    """Check whether what you wrote does what its contract says.

    \b
    Examples:
        lab check rule ./my_rule.py
        lab check rule fa
        lab check probe ./my_probe.py
        lab check probes linear-cka mutual-knn
        lab check probes linear-cka mutual-knn --groups
    """


@check.command(short_help="Check one rule, within a minute.")
@click.argument("name")
@click.option(
    "--arch", metavar="NET", help="Network to check it on. [default: mlp(16,16) with the nonlinearity the rule needs]"
)
@json_option
def rule(name, arch, as_json) -> None:
    """Check a rule of `lab rules` or your own file: shapes, purity, settling, pairing, training loop, learning, credit.

    A small network learns a task that no readout of random features solves. A network for images is given noise, and
    everything is checked but learning. Exit code 1 if any check fails.

    \b
    Examples:
        lab check rule ./my_rule.py
        lab check rule ./my_rule.py --arch 'conv(6,16)'
        lab check rule './my_rule.py(scale=0.5)' --json
    """
    from lab.device import prepare

    prepare("cpu")
    from lab.check import check_rule
    from lab.check_subject import ALLOWANCES, NONE, Subject, default_arch, network_of
    from lab.request import make_rule

    made, call, sources = make_rule(name)
    file, allowance = None, ALLOWANCES.get(made.info.name, NONE)
    if sources:
        file, allowance = Path(name.partition("(")[0]).expanduser(), NONE
    net, arch_call = network_of(arch or default_arch(made))
    if allowance.why and not as_json:
        click.echo(f"{call} is allowed this: {allowance.why}", err=True)
    findings = told(check_rule(Subject(made, net, allowance), file), not as_json)
    if as_json:
        print_json({"rule": call, "arch": arch_call, "allowed": allowance.why or None, **answer(findings)})
    if failures(call, findings):
        sys.exit(1)


@check.command(short_help="Check one measure, within a minute.")
@click.argument("name")
@json_option
def probe(name, as_json) -> None:
    """Check a probe of `lab probes` or your own file: what its card says of it is tried out.

    Range, invariances (those it declares hold, the others do not), order of the two arguments, triangle inequality,
    permuted rows, refusals; and for paired probes how often its permutation null calls what is not there and what is.
    Exit code 1 if any check fails.

    \b
    Examples:
        lab check probe ./my_probe.py
        lab check probe 'mutual-knn(k=5)'
        lab check probe './my_probe.py(k=3)' --json
    """
    from lab.check_probe import check_probe

    label, made, file = probe_of(name)
    findings = told(check_probe(made, file), not as_json)
    if as_json:
        print_json({"probe": label, **answer(findings)})
    if failures(label, findings):
        sys.exit(1)


@check.command(short_help="Check many measures, what they are blind to, or which groups they find.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--blindness", is_flag=True, help="Pairs of networks whose truth is known: which differences are seen?")
@click.option("--groups", is_flag=True, help="Networks trained in groups: are those of one group found to be alike?")
@click.option("--csv", "as_csv", is_flag=True, help="With --blindness or --groups: print every value as CSV.")
@json_option
def probes(names, blindness, groups, as_csv, as_json) -> None:
    """Check probes of `lab probes` or your own files; all of the lab by default, ten seconds for each pair probe.

    With --blindness, small networks are built so that measures go wrong in known ways: the same geometry with another
    function, the same classes and nothing else, one direction or two stimuli that carry everything; and controls whose
    function is exactly the same. The table says which measure sees which difference; exit code 0 whatever it says.

    With --groups, groups of small networks are trained on MNIST, which takes a minute or two: with more or less random
    labels, a shortcut that gives the label away more or less often, more or less noise on the images. The tables say
    how well a measure tells pairs of one group from other pairs, and whether it orders the layers of a network; what
    chance gives, and what the same networks score before training, stand beside. Exit code 0 whatever they say.

    \b
    Examples:
        lab check probes
        lab check probes linear-cka debiased-cka ./my_probe.py
        lab check probes --blindness
        lab check probes linear-cka ./my_probe.py --blindness --csv
        lab check probes debiased-cka rsa ./my_probe.py --groups
    """
    if blindness and groups:
        raise click.UsageError("--blindness and --groups are two tables; ask for one at a time")
    if as_csv and (as_json or not (blindness or groups)):
        raise click.UsageError("--csv prints the table of --blindness or --groups, and not together with --json")
    if blindness or groups:
        from lab.cli.check_tables import print_blindness, print_groups

        (print_blindness if blindness else print_groups)(names, as_csv, as_json)
        return
    from lab.check_probe import check_probe
    from probes import PROBES

    asked = [probe_of(name) for name in names or PROBES]
    found = {}
    for label, made, file in asked:
        found[label] = told(check_probe(made, file), not as_json, f"{label:<{max(len(a[0]) for a in asked)}} ")
    if as_json:
        passed = all(finding.passed for findings in found.values() for finding in findings)
        each = [{"probe": label, **answer(findings)} for label, findings in found.items()]
        print_json({"passed": passed, "probes": each})
    if sum(failures(label, findings) for label, findings in found.items()):
        sys.exit(1)


def probe_of(name: str):
    """Label and probe of a call string, and the user's file if it is the user's own."""
    from lab.measures import make_probe
    from lab.probe_examples import SMALL_ENOUGH
    from probes.probe import FunctionalProbe

    made, source = make_probe(SMALL_ENOUGH.get(name, name), "NAME")
    if isinstance(made, FunctionalProbe):
        raise click.UsageError(
            f"{made.info.name} measures networks, and what such a card promises cannot be tried out on arrays; checked "
            "are measures of representations"
        )
    return made.info.label, made, Path(name.partition("(")[0]).expanduser() if source is not None else None


def told(findings: Iterable[Finding], aloud: bool, before: str = "") -> list[Finding]:
    """The findings as a list; aloud, each one is a line of text as soon as it is there."""
    found = []
    for finding in findings:
        found.append(finding)
        if aloud:
            click.echo(f"{'passed' if finding.passed else 'FAILED':<7} {before}{finding.check:<20} {finding.seen}")
    return found


def answer(findings: list[Finding]) -> dict[str, Any]:
    """Findings as JSON."""
    return {"passed": all(f.passed for f in findings), "checks": [f._asdict() for f in findings]}


def failures(label: str, findings: list[Finding]) -> int:
    """How many checks failed; said on stderr if any did."""
    failed = sum(not finding.passed for finding in findings)
    if failed:
        click.echo(f"{label}: {failed} of {len(findings)} checks failed", err=True)
    return failed
