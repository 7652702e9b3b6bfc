"""`lab check`: does a learning rule keep its contract, and does it learn?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lab.cli.options import json_option, print_json


@click.group(short_help="Check a learning rule against its contract.")
def check() -> None:
    """Check whether what you wrote does what its contract says.

    \b
    Examples:
        lab check rule ./my_rule.py
        lab check rule fa
    """


@check.command(short_help="Check one rule, within a minute.")
@click.argument("name")
@click.option(
    "--arch", metavar="NET", help="Network to check it on. [default: mlp(16,16) with the nonlinearity the rule needs]"
)
@json_option
def rule(name, arch, as_json) -> None:
    """Check a rule of `lab rules` or your own file: shapes, purity, pairing, training loop, learning, credit.

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
    findings = []
    for finding in check_rule(Subject(made, net, allowance), file):
        findings.append(finding)
        if not as_json:
            click.echo(f"{'passed' if finding.passed else 'FAILED':<7} {finding.check:<20} {finding.seen}")
    failed = [finding.check for finding in findings if not finding.passed]
    if as_json:
        checks = [finding._asdict() for finding in findings]
        allows = allowance.why or None
        print_json({"rule": call, "arch": arch_call, "allowed": allows, "passed": not failed, "checks": checks})
    if failed:
        click.echo(f"{call}: {len(failed)} of {len(findings)} checks failed", err=True)
        sys.exit(1)
