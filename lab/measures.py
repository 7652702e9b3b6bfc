"""From what a user typed to a probe: a call string of the table, or a Python file of the user's."""

from __future__ import annotations

from pathlib import Path

from lab.callstring import bind, build, parse
from lab.errors import UsageError
from lab.user_files import load_user_factory, users_own
from probes import PROBES, PairProbe, ProbeInfo, SingleProbe


def make_probe(text: str, option: str) -> tuple[PairProbe | SingleProbe, bytes | None]:
    """The probe a call string names: one of the table, or the factory called `probe` in a user's Python file.

    Returns:
        The probe, and the user's source if there is one.

    Raises:
        UsageError, LabError, NotFound: no such probe, settings it does not take, a file that does not make one.
    """
    if ".py" not in text.partition("(")[0]:
        return build(text, PROBES, option, "`lab probes` lists them; your own is ./my_probe.py.")[0], None
    call = parse(text, option)
    path = Path(call.name).expanduser()
    factory, source = load_user_factory(path, "probe", option)
    bound = bind(call, factory, option)
    with users_own(path, option):
        probe = factory(*bound.args, **bound.kwargs)
    if not isinstance(probe, PairProbe | SingleProbe) or not isinstance(probe.info, ProbeInfo):
        raise UsageError(
            f"{option}: probe() in {path} must return a probes.PairProbe or probes.SingleProbe with "
            f"info=ProbeInfo(...), not {type(probe).__name__}"
        )
    return probe, source


def pair_probe_of(text: str) -> tuple[PairProbe, bytes | None]:
    """The pair probe a call string names, and the user's source if it is the user's own.

    Raises:
        UsageError: it describes one network; and as `make_probe`.
    """
    made, source = make_probe(text, "--measure")
    if not isinstance(made, PairProbe):
        known = ", ".join(name for name, factory in PROBES.items() if isinstance(factory(), PairProbe))
        raise UsageError(f"--measure {text} describes one network, not a pair; these compare two: {known}")
    return made, source
