"""The command line: `lab COMMAND`. One file per command, imported only when that command runs."""

from __future__ import annotations

import importlib
import os
import sys

import click

from lab.errors import LabError

# The lab's matrices are small and JAX has the cores already. Left alone, NumPy's BLAS starts a thread per core that
# spins against JAX's: the eigenvalues of a 256 x 256 matrix took 480 ms instead of 2 ms on two busy cores.
# This must stand before NumPy is imported; a value that the user has set is kept.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

COMMANDS = {
    "train": "train",
    "compare": "compare",
    "dynamics": "dynamics",
    "variance": "variance",
    "describe": "describe",
    "figure": "figure",
    "study": "study",
    "runs": "runs",
    "measure": "measure",
    "rules": "rules",
    "probes": "probes",
    "data": "data",
    "tune": "tune",
    "check": "check",
}
"""Command -> module of this package that holds it, under the command's name."""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Lab(click.Group):
    """The group of all commands; it loads each one only when it is needed and turns what went wrong into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f"lab.cli.{COMMANDS[name]}"), name)

    def resolve_command(self, ctx: click.Context, args: list[str]):
        from lab.errors import did_you_mean

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            error.message = f"{error.message.rstrip('.')}.{did_you_mean(args[0], list(COMMANDS))}"
            raise

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted; what was saved stays, and the same command goes on from there.", err=True)
            sys.exit(130)
        except click.ClickException:
            raise
        except Exception as error:
            raise one_line(error) from error


def one_line(error: Exception) -> Exception:
    """The rooms' own errors, and those of the machine, as one line with an exit code; anything else is a bug."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"RunError", "RuleError", "ProbeError"}:
        told = LabError(str(error))
        told.exit_code = getattr(error, "exit_code", 1)
        return told
    told_full = ("RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)) and "JaxRuntimeError" in kinds
    if isinstance(error, MemoryError) or told_full:
        return LabError(
            "not enough memory on this device; use a smaller network, --batch, --cohort, --train-size or --stimuli"
        )
    if isinstance(error, OSError) and error.filename:
        return LabError(f"{error.filename}: {error.strerror}; check the path, the permissions and the space left")
    return error


@click.group(cls=Lab, context_settings=CONTEXT)
@click.version_option(package_name="credit-lab", prog_name="lab")
def main() -> None:
    """Does the way a network learns change what it comes to represent?

    Train identical networks on identical data from identical starts with different credit-assignment rules, and
    compare the geometry inside.

    \b
    Examples:
        lab train --rule bp
        lab train --rule fa
        lab compare bp fa
        lab figure similarity bp fa -o similarity.pdf
        lab study run credit-assignment

    Exit codes: 0 done; 1 could not; 2 wrong usage; 3 done, but some seeds diverged; 4 not found or incomplete;
    130 interrupted, and the same command resumes.
    """
