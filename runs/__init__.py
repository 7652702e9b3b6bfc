"""What was asked, what happened, and where it is kept. Code; the runs themselves live in a store outside."""

from runs.checkpoint import (
    checkpoint_name,
    flatten,
    list_checkpoints,
    load,
    load_checkpoint,
    resume_name,
    save,
    unflatten_like,
)
from runs.errors import RunBusy, RunDamaged, RunError, RunNotFound, StoreFull, StoreTooNew
from runs.folder import RunFolder
from runs.manifest import (
    diverged_seeds,
    finish,
    git_commit,
    new_manifest,
    package_versions,
    record_cohort,
    write_manifest,
)
from runs.spec import RunSpec, canonical, diff, from_json, run_id, to_json
from runs.store import Store, default_root

__all__ = [
    "RunBusy",
    "RunDamaged",
    "RunError",
    "RunFolder",
    "RunNotFound",
    "RunSpec",
    "Store",
    "StoreFull",
    "StoreTooNew",
    "canonical",
    "checkpoint_name",
    "default_root",
    "diff",
    "diverged_seeds",
    "finish",
    "flatten",
    "from_json",
    "git_commit",
    "list_checkpoints",
    "load",
    "load_checkpoint",
    "new_manifest",
    "package_versions",
    "record_cohort",
    "resume_name",
    "run_id",
    "save",
    "to_json",
    "unflatten_like",
    "write_manifest",
]
