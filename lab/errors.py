"""What the lab says when it cannot do what was asked: one line, and an exit code that scripts can read.

Exit codes: 0 done; 1 the lab could not do it; 2 wrong usage; 3 finished, but some seeds diverged;
4 a run, data set or file was not found or is incomplete; 130 interrupted, resumable.
"""

import click


class LabError(click.ClickException):
    """The lab could not do it (exit code 1). The message says what happened, why, and what to do next."""

    exit_code = 1


class UsageError(LabError):
    """The request itself is wrong: an unknown name, a value out of range (exit code 2)."""

    exit_code = 2


class NotFound(LabError):
    """A run, data set or file is missing or incomplete (exit code 4)."""

    exit_code = 4


def did_you_mean(name: str, known: list[str]) -> str:
    """`" Did you mean 'fa'?"`, or an empty string when nothing known is close to `name`."""
    from difflib import get_close_matches

    close = [k for k in known if len(name) > 2 and name.lower() in k.lower()]
    close = close or get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
