"""Does the suite notice a defect? `python -m tests.mutate [NAME ...]` plants one-line bugs and runs the tests.

Each mutant changes one line of a rule, of the transport mechanism or of the training loop in a copy of the sources, and
runs the tests that should notice. It is killed if one of them fails; these tests are run without any defect first,
since one that fails anyway notices nothing. A mutant that survives is a hole in the suite. Exit code 1 if any does, 2
if a row does not fit the sources any more or a test fails without a defect.

    python -m tests.mutate              all mutants; each takes up to a minute of a core, as does each set of tests
    python -m tests.mutate feedback     those of files whose name contains "feedback"
    python -m tests.mutate --list       what would be planted
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("algorithms", "probes", "runs", "lab", "tests", "pyproject.toml")
WORKERS = 2


class Outcome(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    killed: bool
    by: str


def main(words: list[str]) -> int:
    chosen = [m for m in MUTANTS if all(word in f"{m.file} {m.defect}" for word in words if word != "--list")]
    wrong = [why for why in map(misfit, chosen) if why]
    for why in wrong:
        print(why)
    if wrong or not chosen:
        print("nothing was tried" if chosen else f"no mutant fits {' '.join(words)}")
        return 2
    if "--list" in words:
        for mutant in chosen:
            print(f"{mutant.file:<40} {mutant.defect}")
        return 0
    with ThreadPoolExecutor(WORKERS) as pool:
        red = next(filter(None, pool.map(first_failure, sorted({mutant.tests for mutant in chosen}))), "")
        if red:
            print(f"nothing was tried: {red.partition(' ')[2]} fails without any defect")
            return 2
        outcomes = []
        for outcome in pool.map(tried, chosen):
            outcomes.append(outcome)
            verdict = "killed  " if outcome.killed else "SURVIVED"
            print(f"{verdict} {outcome.mutant.file:<40} {outcome.mutant.defect}: {outcome.by}", flush=True)
    alive = [outcome for outcome in outcomes if not outcome.killed]
    print(f"{len(outcomes) - len(alive)} of {len(outcomes)} mutants killed")
    return 1 if alive else 0


def misfit(mutant: Mutant) -> str:
    """Why a defect cannot be planted or looked for; "" if it can."""
    row = f"{mutant.file}, '{mutant.defect}'"
    files = [mutant.file, *(test.partition("::")[0] for test in mutant.tests)]
    missing = [file for file in files if not (ROOT / file).is_file()]
    if missing or not mutant.tests:
        return f"{row}: there is no {missing[0] if missing else 'test named'}"
    times = (ROOT / mutant.file).read_text().count(mutant.line)
    if times != 1:
        return f"{row}: its line stands there {times} times, not once"
    return f"{row}: it changes nothing" if mutant.instead == mutant.line else ""


def tried(mutant: Mutant) -> Outcome:
    """Plant one defect and run its tests."""
    failed = first_failure(mutant.tests, mutant)
    return Outcome(mutant, bool(failed), failed or "no test failed")


def first_failure(tests: tuple[str, ...], mutant: Mutant | None = None) -> str:
    """The first of these tests that fails in a copy of the sources, with the defect, if any, in it; "" if none does."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, Path(folder) / name)
        if mutant is not None:
            file = Path(folder) / mutant.file
            file.write_text(file.read_text().replace(mutant.line, mutant.instead))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "--no-header", *tests]
        environment = {**os.environ, "PYTHONPATH": folder, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        what = f"{mutant.file}, {mutant.defect}" if mutant else " ".join(tests)
        raise SystemExit(f"{what}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0] if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
