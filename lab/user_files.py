"""Rules and probes of the user's own: Python files that define one function which makes them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from lab.errors import LabError, NotFound, UsageError

OURS = ("algorithms", "probes", "runs", "lab")
"""The rooms of the lab, which a user's file may import from anywhere."""

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
    require_whole(path, source, option)
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


def require_whole(path: Path, source: bytes, option: str) -> None:
    """Refuse a file that imports one of its neighbours: a change of that one would be noticed by nothing, since the
    run's record and id have the bytes of the file alone.

    Raises:
        UsageError: it does. (What is no Python at all is for the attempt to run it to say.)
    """
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    for name in {name.partition(".")[0] for name in names} - set(OURS):
        beside = [path.parent / f"{name}.py", path.parent / name / "__init__.py"]
        if name not in sys.stdlib_module_names and any(file.is_file() for file in beside):
            raise UsageError(
                f"{option}: {path} imports {name} from beside it, which no record of a run would hold; put it all into "
                "one file, or install it as a package elsewhere"
            )


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
