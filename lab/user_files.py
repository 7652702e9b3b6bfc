"""Rules and probes of the user's own: Python files that define one function which makes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from lab.errors import LabError, NotFound, UsageError

WHAT = {"rule": "an algorithms.Rule", "probe": "a probes.PairProbe or probes.SingleProbe"}
"""What a user's file may define, by the name of the function that makes it."""


def load_user_factory(path: Path, name: str, option: str) -> tuple[Callable[..., Any], bytes]:
    """The function `name` of a user's file, and the file's bytes.

    Args:
        option: what it was given by, for the complaint.

    Raises:
        NotFound, LabError, UsageError: no such file, it does not run, or it defines no such function.
    """
    if not path.is_file():
        raise NotFound(f"{option}: there is no file {path}; give the path of a Python file that defines {name}()")
    source = path.read_bytes()
    module = ModuleType(f"user_{name}_{path.stem}")
    module.__file__ = str(path.resolve())
    with users_own(path, option):
        # These very bytes, which the run's id is drawn from: an import could find older ones in __pycache__.
        exec(compile(source, module.__file__, "exec"), module.__dict__)
    if not callable(getattr(module, name, None)):
        raise UsageError(
            f"{option}: {path} defines no function {name}(); it must return {WHAT[name]} (CONTRIBUTING.md)"
        )
    return getattr(module, name), source


@contextmanager
def users_own(path: Path, option: str) -> Iterator[None]:
    """Within, whatever a user's file raises is the user's to hear about: one line, with its place in the file.

    What it prints goes to stderr: stdout is the answer's, which a program may be reading.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except refusals():
        raise
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) else _last_line(error, path.resolve())
        raise LabError(f"{option}: {path}, line {line}: {told(error)}; mend the file and try again") from None


def refusals() -> tuple[type[Exception], ...]:
    """The errors in which rules and probes refuse, in words of their own. Asked for only where something was raised:
    a probe's file needs no JAX, and the room of the rules loads it."""
    from algorithms import RuleError
    from probes import ProbeError

    return RuleError, ProbeError


def told(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _last_line(error: BaseException, path: Path) -> int | str:
    lines = []
    trace = error.__traceback__
    while trace:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == path:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines[-1] if lines else "?"
