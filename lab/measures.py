"""From what a user typed to a probe: a call string of the tables, or a Python file of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lab.callstring import Call, bind, parse, resolve
from lab.errors import UsageError
from lab.user_files import load_user_factory, users_own
from probes import PROBES, PairProbe, ProbeError, ProbeInfo, SingleProbe
from probes.feature_maps import positions_of, with_maps
from probes.probe import FunctionalProbe

Probe = PairProbe | SingleProbe | FunctionalProbe


def every_probe() -> dict[str, Callable[..., Probe]]:
    """Every probe of the lab by its name. Those that run networks load JAX."""
    from probes.functional import FUNCTIONAL

    return {**PROBES, **FUNCTIONAL}


def make_probe(text: str, option: str) -> tuple[Probe, bytes | None]:
    """The probe a call string names: one of the tables, or the factory called `probe` in a user's Python file.

    Returns:
        The probe, and the user's source if there is one.

    Raises:
        UsageError, LabError, NotFound: no such probe, settings it does not take, a file that does not make one.
    """
    call = parse(text, option)
    if ".py" not in call.name:
        known = PROBES if call.name in PROBES else every_probe()
        factory = resolve(call, known, option, "`lab probes` lists them; your own is ./my_probe.py.")
        call, maps = _without_maps(call, factory)
        bound = bind(call, factory, option)
        try:
            return _with_maps(factory(*bound.args, **bound.kwargs), maps), None
        except (TypeError, ValueError) as error:  # a value that the factory cannot take, in its own words
            raise UsageError(f"{option} '{text.strip()}': {error}") from None
    path = Path(call.name).expanduser()
    factory, source = load_user_factory(path, "probe", option)
    call, maps = _without_maps(call, factory)
    bound = bind(call, factory, option)
    with users_own(path, option):
        probe = factory(*bound.args, **bound.kwargs)
    if not isinstance(probe, Probe) or not isinstance(probe.info, ProbeInfo):
        raise UsageError(
            f"{option}: probe() in {path} must return a PairProbe, SingleProbe or FunctionalProbe of probes.probe "
            f"with info=ProbeInfo(...), not {type(probe).__name__}"
        )
    try:
        return _with_maps(probe, maps), source
    except ProbeError as error:
        raise UsageError(f"{option} '{text.strip()}': {error}") from None


def _without_maps(call: Call, factory: Callable[..., Probe]) -> tuple[Call, str | None]:
    """A call and the `maps=` in it, which every measure of representations takes beside its own settings."""
    if "maps" not in call.kwargs or "maps" in inspect.signature(factory).parameters:
        return call, None
    own = {name: value for name, value in call.kwargs.items() if name != "maps"}
    return Call(call.name, call.args, own), call.kwargs["maps"]


def _with_maps(probe: Probe, maps: str | None) -> Probe:
    if maps is None:
        return probe
    if isinstance(probe, FunctionalProbe):
        raise ProbeError(f"{probe.info.name} measures networks, not their representations, so maps={maps} has no sense")
    return with_maps(probe, maps)


def settled(probe: Probe, shapes: Iterable[tuple[int, ...]]) -> Probe:
    """A probe for layers of stored networks: where any has feature maps, "flatten" unless it was said.

    Args:
        shapes: of what each layer answers to one stimulus, positions first.

    Raises:
        UsageError: it was said, and there are none.
    """
    with_positions = any(positions_of((1, *shape)) for shape in shapes)
    if isinstance(probe, FunctionalProbe) or bool(probe.info.maps) == with_positions:
        return probe
    if with_positions:
        return with_maps(probe, "flatten")
    raise UsageError(
        f"{probe.info.label}: maps changes nothing, for none of these layers has feature maps; leave it out"
    )


def networks_of(probe: Probe) -> int:
    """How many networks a probe takes: 2 where it compares, 1 where it describes."""
    return probe.networks if isinstance(probe, FunctionalProbe) else 1 + isinstance(probe, PairProbe)


def has_null(probe: Probe) -> bool:
    """Whether stimuli can be permuted beneath a measure of two representations."""
    return isinstance(probe, PairProbe) and probe.info.paired


def refuse_idle_layers(probes: Sequence[Probe], layers: tuple[str, ...] | None) -> None:
    """Refuse layers that no measure looks at.

    Raises:
        UsageError: every measure is of whole networks.
    """
    if layers and not any(by_layer(probe) or getattr(probe, "places", None) for probe in probes):
        labels = ", ".join(probe.info.label for probe in probes)
        raise UsageError(f"--layer changes nothing for {labels}: of whole networks; leave it out")


def by_layer(probe: Probe) -> bool:
    """Whether a probe has one value per hidden block, and not one for the whole network."""
    return not isinstance(probe, FunctionalProbe) or probe.by_layer


def _names(networks: int) -> str:
    return ", ".join(name for name, factory in every_probe().items() if networks_of(factory()) == networks)


def require_once(probes: Sequence[Probe]) -> None:
    """Refuse a measure that was asked for twice, which would count twice in every table and false discovery rate.

    Raises:
        UsageError: naming the first.
    """
    labels = [probe.info.label for probe in probes]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise UsageError(f"--measure {twice} is asked for twice; name it once")


def comparing_probe(text: str) -> tuple[PairProbe | FunctionalProbe, bytes | None]:
    """The probe of two networks that a call string names, and the user's source if it is the user's own.

    Raises:
        UsageError: it describes one network; and as `make_probe`.
    """
    made, source = make_probe(text, "--measure")
    if networks_of(made) == 1:
        raise UsageError(
            f"--measure {text} describes one network, not a pair (`lab describe`); these compare two: {_names(2)}"
        )
    return made, source


def describing_probe(text: str) -> tuple[SingleProbe | FunctionalProbe, bytes | None]:
    """The probe of one network that a call string names, and the user's source if it is the user's own.

    Raises:
        UsageError: it compares two, or takes what stored runs do not hold; and as `make_probe`.
    """
    made, source = make_probe(text, "--measure")
    if networks_of(made) == 2:
        raise UsageError(f"--measure {text} compares two networks (`lab compare`); these describe one: {_names(1)}")
    if made.info.name == "concept-probe":
        raise UsageError(
            "--measure concept-probe reads a number per stimulus, and a run's stimuli have classes alone; "
            "`lab measure concept-probe` takes your own numbers"
        )
    return made, source


def pair_probe_of(text: str) -> tuple[PairProbe, bytes | None]:
    """The probe of two representations that a call string names, for what needs its nulls.

    Raises:
        UsageError: it measures networks; and as `comparing_probe`.
    """
    made, source = comparing_probe(text)
    if not isinstance(made, PairProbe):
        raise UsageError(f"--measure {text} compares networks and not their representations, and has no null")
    return made, source
