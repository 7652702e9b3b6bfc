"""Figures by name: the numbers each one needs, gathered from the store, and the figure drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lab.errors import LabError, UsageError, did_you_mean

if TYPE_CHECKING:  # what draws and what measures is imported only once there is something to draw
    from lab.figures.drawn import Drawn
    from lab.figures.style import Style
    from runs import RunFolder, Store

FIGURES = ("similarity", "layers", "dynamics", "paths", "learning", "spectrum", "blindness", "groups")
"""The figures there are, in the order in which they are listed."""


def draw(
    name: str, folders: list[RunFolder], asked: dict[str, Any], store: Store, style: Style, say: Callable[[str], None]
) -> tuple[Drawn, dict[str, Any]]:
    """One of `FIGURES`, and what else its sidecar should say of where the numbers come from.

    Args:
        asked: the options of `lab figure` that this figure takes; "layers" is empty for all.
        say: is told what is read and measured on the way.
    """
    wanted = tuple(asked.get("layers", ()))
    if name == "blindness":
        from lab.blindness import RULE, default_measures, table
        from lab.blindness_cases import cases
        from lab.figures import blindness

        known = cases()
        return blindness.draw(table(default_measures(), known, say), known, style), {"rule": RULE}
    if name == "groups":
        from lab.blindness import pair_probes
        from lab.figures import groups
        from lab.groups import RULE, networks, table

        shown = networks(say)
        return groups.draw(table(pair_probes(), shown, say), shown, style), {"rule": RULE}
    if name in ("similarity", "layers"):
        from lab.comparison import Plan, compare_runs
        from lab.figures import layers, similarity

        plan = Plan((asked["measure"],), asked["stimuli"], asked["permutations"], asked["match"], wanted or None)
        comparison = compare_runs(folders, plan, store, say)
        check_some(comparison.pairs)
        drawer = {"similarity": similarity, "layers": layers}[name]
        return drawer.draw(comparison.pairs, comparison.rows, style, comparison.labels), {"comparison": comparison.id}
    if name in ("dynamics", "paths"):
        from lab.dynamics import DynamicsPlan, dynamics_of
        from lab.figures import dynamics, paths
        from lab.measures import comparing_probe
        from lab.shape_paths import no_metric

        if name == "paths" and (why := no_metric(comparing_probe(asked["measure"])[0])):
            raise UsageError(f"--measure {why}")
        plan = DynamicsPlan((asked["measure"],), asked["stimuli"], asked.get("against", "step"), wanted or None)
        found = dynamics_of(folders, plan, store, say)
        if name == "dynamics":
            return dynamics.draw(found.rows, style, plan.against, found.labels), {"dynamics": found.id}
        return paths.draw(found.paths.checkpoints, found.paths.maps, style), {"paths": found.paths.ids}
    if name == "learning":
        import pandas as pd

        from lab.comparison import labels_of
        from lab.figures import learning

        tables = [folder.require_complete().read_table("metrics") for folder in folders]
        tables = [table.assign(rule=label) for table, label in zip(tables, labels_of(folders), strict=True)]
        metrics = pd.concat(tables, ignore_index=True)
        # "" is the whole network: its accuracy is shown whatever blocks are asked for.
        return learning.draw(only(metrics, wanted, always=""), style), {}
    from lab.figures import spectrum
    from lab.spectra import spectra

    curves, fits = spectra(folders, stimuli=asked["stimuli"], say=say)
    check_some(curves)
    return spectrum.draw(only(curves, wanted), only(fits, wanted), style, asked["stimuli"]), {}


def check_some(table: Any) -> None:
    """Refuse runs without a network that could be shown.

    Raises:
        LabError: the table, which has lines for sound seeds alone, is empty.
    """
    if table.empty:
        raise LabError(
            "there is nothing to draw: every seed of these runs diverged; train with a smaller learning rate, or see "
            "`lab figure learning`"
        )


def only(table: Any, layers: tuple[str, ...], always: str | None = None) -> Any:
    """The lines of the blocks asked for.

    Raises:
        UsageError: no run has a block of that name.
    """
    known = [layer for layer in dict.fromkeys(table["layer"]) if layer != always]
    for layer in layers:
        if layer not in known:
            raise UsageError(
                f"--layer {layer}: no such block.{did_you_mean(layer, known)} There are {', '.join(known)}."
            )
    return table[table["layer"].isin([*layers, always])] if layers else table
