"""What a check of something written to a contract comes to: a finding in one line, whatever the checked code raises."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

from lab.errors import LabError
from lab.user_files import refusals, told


class Broken(Exception):
    """A check failed; the message says what was seen and what should have been."""


class Refused(LabError):
    """What is checked is not defined for what it is checked on. That breaks no contract: there is nothing to check."""


class Finding(NamedTuple):
    """One check's outcome."""

    check: str
    passed: bool
    seen: str


def finding_of(name: str, check: Callable[[], str], source: Path | None) -> Finding:
    """What one check saw, or what stopped it, in one line.

    What the checked code prints goes to stderr: stdout is the answer's, which a program may be reading.

    Args:
        source: the user's file, where what its code raises is to be mended.
    """
    try:
        with redirect_stdout(sys.stderr):
            return Finding(name, True, check())
    except Refused:
        raise
    except Broken as error:
        return Finding(name, False, str(error))
    except refusals() as error:
        return Finding(name, False, str(error))
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if source is not None and frame.filename == str(source.resolve())]
        place = f"{source}, line {lines[-1]}: " if lines else ""
        return Finding(name, False, f"{place}{told(error)}")
