"""Training a run from start, or from where it was stopped, to a folder in the store."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lab.examination import READOUT_FIT, Examiner
from lab.request import PRECISIONS, Request
from lab.training import Examples, Learner, Trainer, cohorts, kept, on_device
from runs import (
    RunFolder,
    Store,
    checkpoint_name,
    finish,
    flatten,
    git_commit,
    load,
    new_manifest,
    package_versions,
    record_cohort,
    resume_name,
    save,
    unflatten_like,
    write_manifest,
)

PACKAGES = ("credit-lab", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")
STRETCH = 0.5  # seconds of training between two looks at the clock: progress moves, Ctrl-C is heard
SAVE_EVERY = 10.0  # seconds of training that a kill may cost


class Interrupted(Exception):
    """Ctrl-C: all that was trained is on disk, and the same command goes on from there."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, for whoever shows it. Steps are counted over all seeds."""

    done: int
    total: int
    loss: float | None
    accuracy: float | None


Report = Callable[[Progress], None]


def evaluation_steps(steps_per_epoch: int, epochs: int) -> list[int]:
    """Steps after which everything is measured: 0, log-spaced within the first epoch, then every epoch."""
    early = [s for s in (10, 30, 100, 300, 1000, 3000) if s < steps_per_epoch and epochs]
    return [0, *early, *(steps_per_epoch * e for e in range(1, epochs + 1))]


def checkpoint_steps(steps_per_epoch: int, epochs: int) -> set[int]:
    """Steps whose parameters are kept: 0, 10, 100, 1000 within the first epoch, epochs 1, 2, 4, 8, ... and the last."""
    early = {s for s in (10, 100, 1000) if s < steps_per_epoch and epochs}
    doubling = {steps_per_epoch * 2**k for k in range(epochs.bit_length())}
    return {0, steps_per_epoch * epochs} | early | {s for s in doubling if s <= steps_per_epoch * epochs}


def train(request: Request, store: Store, report: Report = lambda progress: None) -> RunFolder:
    """Train what was asked for, or find it trained already.

    A run that is complete is returned as it is. One that was interrupted continues from its last saved step and ends
    with the same bits as one that never was.

    Args:
        report: is told how far it is.

    Raises:
        Interrupted: on Ctrl-C, after saving.
        runs.RunError: the store could not be read or written, or another process trains this run.
    """
    there = store.get(request.spec)
    if there is not None and there.status in ("complete", "diverged"):
        return there
    with store.open(request.spec) as folder, stop_on_ctrl_c() as stopping:
        with jax.default_matmul_precision(PRECISIONS[request.spec.precision]):
            _Training(request, folder, report, stopping).run()
        return folder


@contextmanager
def stop_on_ctrl_c() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C asks politely (the yielded function turns true); a second one interrupts at once."""
    asked = False

    def handler(signum, frame):
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    try:
        before = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread: nobody presses keys at this one
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


class _Training:
    """One run under way: what every cohort of it shares."""

    def __init__(self, request: Request, folder: RunFolder, report: Report, stopping: Callable[[], bool]):
        spec = request.spec
        self.request, self.spec, self.folder, self.report, self.stopping = request, spec, folder, report, stopping
        self.trainer = Trainer(
            request.rule, request.net, request.optimizer, spec.batch, spec.cohort, cohort_sharding(spec.cohort)
        )
        self.data = on_device(request.split.train_x, request.split.train_y)
        self.validation = on_device(request.split.validation_x, request.split.validation_y)
        self.examiner = Examiner(self.trainer, Examples(*(a[:READOUT_FIT] for a in self.data)))
        self.per_epoch = spec.train_size // spec.batch
        self.last = self.per_epoch * spec.epochs
        self.evaluations = evaluation_steps(self.per_epoch, spec.epochs)
        self.kept = checkpoint_steps(self.per_epoch, spec.epochs)
        self.accuracy: float | None = None

    def run(self) -> None:
        for role, (name, data) in self.request.sources.items():
            self.folder.add_source(role, name, data)
        manifest = self._manifest()
        tables = []
        pairs = list(zip(self.spec.seeds, self.spec.order_seeds, strict=True))
        for index, cohort in enumerate(cohorts(pairs, self.spec.cohort)):
            tables += self._cohort(index, cohort, manifest)
        self.folder.write_table("metrics", tables)
        finish(self.folder, manifest)

    def _manifest(self) -> dict[str, Any]:
        """The record as an interrupted run left it, or a new one."""
        root = Path(__file__).resolve().parent.parent
        commit, dirty = git_commit(root)
        fresh = new_manifest(
            self.spec,
            versions=package_versions(PACKAGES),
            device=f"{jax.devices()[0].device_kind} x {len(jax.devices())} ({jax.default_backend()})",
            commit=commit,
            dirty=dirty,
            command=shlex.join(["lab", *sys.argv[1:]]),
            chosen_by={"optimizer": self.request.chosen_by},
            precision=f"{self.spec.precision} (matrix products: {PRECISIONS[self.spec.precision]})",
        )
        if not (self.folder.path / "manifest.json").exists():
            return fresh
        before = self.folder.manifest
        if before["complete"]:  # it was finished and has lost files since: what it says of itself no longer holds
            return fresh
        # Who began it stays on record; who went on is what a reader of the final numbers needs as well.
        return {
            **before,
            "resumed": [*before.get("resumed", []), {k: fresh[k] for k in ("versions", "device", "commit")}],
        }

    def _cohort(self, index: int, cohort: list[tuple[int, int]], manifest: dict[str, Any]) -> list[dict[str, Any]]:
        """Train one cohort to the end; returns the rows of its seeds for the metrics table."""
        names = [seed for seed, _ in cohort]
        seeds, orders = (self.trainer.seeds(list(column)) for column in zip(*cohort, strict=True))
        learner = self.trainer.start(seeds, self.data)
        step, seconds, rows = 0, 0.0, []
        path = self.folder.path / resume_name(index)
        if path.exists():
            arrays, notes = load(path)
            learner = jax.device_put(unflatten_like(jax.device_get(learner), arrays), self.trainer.sharding)
            step, seconds, rows = int(notes["step"]), float(notes["seconds"]), json.loads(notes["rows"])
        begun = saved = time.monotonic()
        done_before = index * self.spec.cohort

        def note(status: str, spent: float) -> None:
            bad = diverged(learner, names)
            record_cohort(manifest, index, seeds=names, status=status, step=step, diverged=bad, seconds=spent)

        def save_for_resuming(status: str) -> None:
            spent = seconds + time.monotonic() - begun
            notes = {"step": str(step), "seconds": repr(spent), "rows": json.dumps(rows)}
            save(path, flatten(jax.device_get(learner)), notes)
            note(status, spent)
            write_manifest(self.folder, manifest)

        def show(loss: float | None) -> None:
            done = done_before * self.last + step * len(names)
            self.report(Progress(done, self.last * len(self.spec.seeds), loss, self.accuracy))

        stretch = 1
        while True:
            if step in self.evaluations and not any(row["step"] == step for row in rows):
                loss = self._evaluate(index, names, learner, seeds, step, rows)
                learner = self.trainer.rest(learner, step)
                show(loss)
            if step == self.last:
                break
            if self.stopping():
                save_for_resuming("interrupted")
                raise Interrupted(self.folder.id)
            epoch, begin = divmod(step, self.per_epoch)
            next_stop = min(s for s in (*self.evaluations, (epoch + 1) * self.per_epoch) if s > step)
            end = min(step + stretch, next_stop)
            clock = time.monotonic()
            learner = self.trainer.advance(learner, seeds, orders, epoch, begin, begin + end - step, self.data)
            jax.block_until_ready(learner.loss_sum)
            took = time.monotonic() - clock
            if end - step == stretch:  # aim at STRETCH seconds; how a run is cut changes no bit of its result
                stretch = max(1, min(4 * stretch, int(stretch * STRETCH / max(took, 1e-6))))
            step = end
            show(None)
            if time.monotonic() - saved > SAVE_EVERY:
                save_for_resuming("running")
                saved = time.monotonic()
        if not any(row["metric"] == "test_accuracy" for row in rows):
            rows += self._test(names, learner, step)
        spent = seconds + time.monotonic() - begun
        # The cohort's end state stays resumable until the whole run is committed.
        save_for_resuming("running")
        note("complete", spent)
        write_manifest(self.folder, manifest)
        return rows

    def _evaluate(self, index, names, learner: Learner, seeds, step: int, rows: list[dict[str, Any]]) -> float | None:
        """Measure the cohort at this step, and keep its parameters if this is a step to keep."""
        scores = self.examiner.scores(learner, self.validation, "validation")
        directions = self.examiner.directions(learner, seeds, step)
        norms = self.examiner.norms(learner, self.validation) if step == self.last else [[] for _ in scores]
        since = step - max((s for s in self.evaluations if s < step), default=0)
        losses = np.asarray(learner.loss_sum) / max(since, 1)
        for i, name in enumerate(names):
            loss = [("", "train_loss", float(losses[i]) if np.isfinite(losses[i]) else None)] if since else []
            rows += self._tidy(name, step, [*scores[i], *loss, *directions[i], *norms[i]])
        self.accuracy = float(np.mean([score[0][2] for score in scores[: len(names)]]))
        if step in self.kept:
            arrays = flatten(jax.device_get(kept(learner)))
            save(self.folder.path / checkpoint_name(index, step), arrays, {"step": str(step)})
        return float(losses[: len(names)].mean()) if since else None

    def _test(self, names: list[int], learner: Learner, step: int) -> list[dict[str, Any]]:
        """The one reading of the test set, after the last step."""
        test = on_device(self.request.dataset.test_x, self.request.dataset.test_y)
        scores = self.examiner.scores(learner, test, "test")
        return [row for name, score in zip(names, scores, strict=False) for row in self._tidy(name, step, score)]

    def _tidy(self, seed: int, step: int, measured) -> list[dict[str, Any]]:
        epoch = step / self.per_epoch if self.per_epoch else 0.0
        return [
            {"seed": seed, "step": step, "epoch": epoch, "layer": layer, "metric": metric, "value": value}
            for layer, metric, value in measured
        ]


def diverged(learner: Learner, names: list[int]) -> dict[int, int]:
    """Seed -> its first non-finite step, for the seeds that have one."""
    return {name: int(bad) for name, bad in zip(names, np.asarray(learner.first_bad), strict=False) if bad >= 0}


def cohort_sharding(width: int):
    """Spread the cohort axis over all devices when it divides evenly; None on a single one."""
    devices = jax.devices()
    if len(devices) == 1 or width % len(devices):
        return None
    mesh = jax.sharding.Mesh(np.array(devices), ("cohort",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("cohort"))
