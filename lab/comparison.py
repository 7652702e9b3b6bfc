"""Comparing rules: similarity between networks beside every number that says whether it means anything.

A similarity of two networks is reported with its ceiling (same rule, another seed), the same network before training,
a global and a within-class permutation null, and intervals over seeds. Networks of two rules with one seed share
their initial weights, which makes them alike for that reason alone; such pairs are never mixed with the others.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.callstring import parse
from lab.capture import capture, dataset_of, matched_steps, mean_accuracy, mean_metric, rule_of, stimuli
from lab.comparison_table import Group, Plan, common_layers, compare_layer
from lab.errors import UsageError
from lab.measures import pair_probe_of
from lab.summary import rule_name
from probes.all_pairs import MEMORY
from runs import RunFolder, Store, package_versions
from runs.files import write_atomically

MADE_BY = (
    *("capture", "comparison", "comparison_table", "comparison_nulls", "examination"),
    *("networks", "blocks", "residual", "attention", "normalisation"),
)
"""Modules of this package that decide the numbers of a comparison."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        id: of the store's folder `comparisons/<id>` that holds the tables.
        labels: a short name per run, in the order they were given.
        rows: one line per measure, layer and pair of runs.
        pairs: one line per pair of networks.
        about: the plan, the runs and what was matched, for a sidecar.
    """

    id: str
    labels: list[str]
    rows: Any
    pairs: Any
    about: dict[str, Any]


def labels_of(folders: list[RunFolder]) -> list[str]:
    """A short name per run: its rule, "untrained" for zero epochs, and what else differs where that is not enough."""
    names = ["untrained" if f.spec.epochs == 0 else rule_name(f.spec.rule) for f in folders]
    fields = ("rule", "arch", "optimizer", "epochs", "train_size", "batch", "precision")
    labels = []
    for folder, name in zip(folders, names, strict=True):
        twins = [f for f, other in zip(folders, names, strict=True) if other == name]
        differing = [k for k in fields if len({getattr(f.spec, k) for f in twins}) > 1]
        what = ", ".join(f"{k}={getattr(folder.spec, k)}" for k in differing)
        labels.append(f"{name} [{what or folder.id[-10:]}]" if len(twins) > 1 else name)
    return labels


def compare_runs(
    folders: list[RunFolder], plan: Plan, store: Store, say: Say = lambda line: None, memory: int = MEMORY
) -> Comparison:
    """Compare runs, or find the comparison in the store; it is kept as two Parquet tables and a JSON file.

    Args:
        memory: bytes for what all pairs of one measure at one layer are computed from.

    Raises:
        UsageError: fewer than two runs, one twice, different data, no common layer.
        runs.RunError: a run is incomplete or damaged.
    """
    if len(folders) < 2:
        raise UsageError("a comparison needs at least two runs; `lab runs` lists those there are")
    if len({folder.id for folder in folders}) < len(folders):
        raise UsageError("a run is named twice; a run compared with itself is the same-rule ceiling of every row")
    for folder in folders:
        folder.require_complete()
    asked = [pair_probe_of(text) for text in plan.measures]
    probes = [probe for probe, _ in asked]
    plan = Plan(tuple(probe.info.label for probe in probes), plan.stimuli, plan.permutations, plan.match, plan.layers)
    manifests = [hashlib.sha256(folder.read_bytes("manifest.json")).hexdigest() for folder in folders]
    about = {"schema": 1, "runs": [folder.id for folder in folders], "manifests": manifests, "plan": asdict(plan)}
    own = [hashlib.sha256(source).hexdigest() for _, source in asked if source is not None]
    about |= {
        "own_probes": own,
        "source": source_digest(),
        "versions": package_versions(("credit-lab", "numpy", "scipy", "jax")),
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:10]
    place = store.root / "comparisons" / key
    labels = labels_of(folders)
    for caution in cautions(folders, labels):
        say(caution)
    kept = _kept(place, key, labels)
    if kept is not None:
        say(f"compared earlier: {place}")
        return kept
    dataset = dataset_of(folders)
    seen = stimuli(dataset, plan.stimuli)
    steps = matched_steps(folders, plan.match)
    groups = []
    for folder, label, step in zip(folders, labels, steps, strict=True):
        say(f"reading {label} at step {step}")
        start = capture(folder, 0, seen, dataset)
        trained = start if step == 0 else capture(folder, step, seen, dataset)
        loss = mean_metric(folder, step, "train_loss")
        groups.append(Group(folder, label, step, mean_accuracy(folder, step), loss, trained, start))
    layers = common_layers(groups, plan.layers)
    rows, pairs = [], []
    for probe, layer in itertools.product(probes, layers):
        say(f"measuring {probe.info.label} at {layer}")
        made, between = compare_layer(probe, layer, groups, seen.y, plan, memory)
        rows += made
        pairs += between
    for row, q in zip(rows, discoveries([row["rule_effect_p"] for row in rows]), strict=True):
        row["rule_effect_q"] = q
    return _keep(place, key, labels, rows, pairs, about, steps)


def discoveries(p: list[float]) -> list[float]:
    """q of each test: the smallest false discovery rate at which it would be called, among all tests of a comparison
    (measures, layers, pairs of runs); nan where there was none.

    Source: Benjamini and Hochberg 1995, doi 10.1111/j.2517-6161.1995.tb02031.x; it holds for tests that depend on each
    other positively, as those of neighbouring layers do (Benjamini and Yekutieli 2001, doi 10.1214/aos/1013699998).
    """
    import numpy as np
    from scipy.stats import false_discovery_control

    p = np.asarray(p, dtype=float)
    q = np.full(len(p), np.nan)
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    return q.tolist()


def cautions(folders: list[RunFolder], labels: list[str]) -> list[str]:
    """What else than the rule differs between runs, and so may be what a difference comes from."""
    losses: dict[str, list[str]] = {}
    acts: dict[str, list[str]] = {}
    for folder, label in zip(folders, labels, strict=True):
        losses.setdefault(rule_of(folder).info.loss, []).append(label)
        acts.setdefault(act_of(folder.spec.arch), []).append(label)
    found = []
    if len(losses) > 1:
        told = "; ".join(f"{', '.join(names)}: {loss}" for loss, names in losses.items())
        found.append(f"caution: the losses differ ({told}). Train bp with each of them as well, as in bp(loss=mse)")
    if len(acts) > 1:
        told = "; ".join(f"{', '.join(names)}: {act}" for act, names in acts.items())
        found.append(f"caution: the nonlinearities differ ({told}). Train bp with each of them as well")
    return found


def act_of(arch: str) -> str:
    """The nonlinearity in a canonical call string of a network."""
    return str(parse(arch, "--arch").kwargs.get("act", "?"))


def source_digest() -> str:
    """Hash of the code that a comparison follows from: tables made before a change are not taken for new ones."""
    root = Path(__file__).resolve().parent
    rooms = (sorted((root.parent / room).glob("*.py")) for room in ("probes", "algorithms"))  # a rule says what is read
    files = [*(file for room in rooms for file in room), *(root / f"{name}.py" for name in MADE_BY)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _kept(place: Path, key: str, labels: list[str]) -> Comparison | None:
    """An earlier comparison, or None where there is none that can be read whole; then it is made again."""
    import pandas as pd
    import pyarrow as pa

    try:
        about = json.loads((place / "comparison.json").read_text())
        rows, pairs = (pd.read_parquet(place / f"{name}.parquet") for name in ("rows", "pairs"))
    except (OSError, ValueError, pa.ArrowException):
        return None
    return Comparison(key, labels, rows, pairs, about)


def _keep(place, key, labels, rows, pairs, about, steps) -> Comparison:
    """Write the tables and, last, the JSON file that says they are whole."""
    import io

    import pandas as pd

    rows, pairs = pd.DataFrame(rows), pd.DataFrame(pairs)
    about = {**about, "labels": labels, "steps": steps}
    place.mkdir(parents=True, exist_ok=True)
    for name, table in (("rows", rows), ("pairs", pairs)):
        buffer = io.BytesIO()
        table.to_parquet(buffer, engine="pyarrow", index=False)
        write_atomically(place / f"{name}.parquet", buffer.getvalue())
    write_atomically(place / "comparison.json", (json.dumps(about, indent=1) + "\n").encode())
    return Comparison(key, labels, rows, pairs, about)
