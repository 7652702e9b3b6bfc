"""One small request, and the finished run it leads to."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runs import RunFolder, RunSpec, Store, checkpoint_name, finish, new_manifest, record_cohort, save

GOLDEN = {
    "rule": "fa(scale=1.0)",
    "arch": "mlp(256, 128, act='relu')",
    "optimizer": "adam(lr=0.001)",
    "data": "mnist",
    "data_sha256": "ab" * 32,
    "train_size": 60000,
    "validation_size": 0,
    "epochs": 5,
    "batch": 128,
    "seeds": (0, 1, 2),
    "order_seeds": (0, 1, 2),
    "cohort": 2,
    "precision": "float32",
    "sources": (),
}


@pytest.fixture
def ask() -> Callable[..., RunSpec]:
    """A request, with the fields given changed."""
    return lambda **changes: RunSpec(**{**GOLDEN, **changes})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def record() -> Callable[..., dict]:
    """The manifest of a run whose two cohorts have trained."""

    def make(spec: RunSpec, diverged: dict[int, int] | None = None) -> dict:
        manifest = new_manifest(
            spec,
            versions={"numpy": "2.0"},
            device="cpu",
            commit="c" * 40,
            dirty=False,
            command=["lab", "train"],
            chosen_by={"lr": "default"},
            precision="float32",
        )
        record_cohort(manifest, 0, seeds=[0, 1], status="complete", step=430, diverged=diverged, seconds=1.5)
        record_cohort(manifest, 1, seeds=[2], status="complete", step=430, seconds=1.25)
        return manifest

    return make


@pytest.fixture
def train(store: Store, record: Callable[..., dict]) -> Callable[..., RunFolder]:
    """A finished run of a spec, as a reader gets it."""

    def run(spec: RunSpec, diverged: dict[int, int] | None = None) -> RunFolder:
        with store.open(spec) as folder:
            folder.write_table("metrics", [{"seed": 0, "step": 1, "loss": 2.5}, {"seed": 1, "step": 1, "loss": 2.0}])
            save(folder.path / checkpoint_name(0, 430), {"W": np.arange(6.0).reshape(2, 3)}, {"step": "430"})
            finish(folder, record(spec, diverged))
        return store.find(folder.id)

    return run
