"""Run the README's commands as they stand there, shortened so that they end in a minute or two.

    python -m tests.readme

Every line of the README's `console` blocks that begins with `lab ` is run in one fresh store. Commands that train get
`--epochs 1 --seeds 2 --train-size 2000` added; the others run word for word. Any exit code but 0 is a failure.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
SHORTER = ["--epochs", "1", "--seeds", "2", "--train-size", "2000"]


def commands() -> list[list[str]]:
    """The `lab` commands of the README, in order, without prompts and comments."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line.removeprefix("$ ").strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("lab ")]


def shortened(command: list[str]) -> list[str]:
    """The same command at a size for a test."""
    trains = command[1] in ("train", "tune") or command[1:3] == ["study", "run"]
    return command + (SHORTER if trains and "--epochs" not in command else [])


def main() -> int:
    found = commands()
    if len(found) < 8:
        print(f"only {len(found)} commands found in {README.name}: its console blocks are not read any more")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for command in found:
            words = shortened(command)
            print("$", shlex.join(words), flush=True)
            done = subprocess.run(words, cwd=folder, env={**os.environ, "LAB_STORE": f"{folder}/results"}, timeout=900)
            if done.returncode:
                print(f"exit code {done.returncode}")
                return 1
    print(f"{len(found)} commands of {README.name} ran")
    return 0


def prepare(folder: Path) -> None:
    """Files that the README speaks of as the reader's own: three arrays, labels, and a rule."""
    import numpy as np

    rng = np.random.default_rng(0)
    shared = rng.standard_normal((500, 8))
    for name, width in (("a", 32), ("b", 48), ("c", 24)):
        np.save(folder / f"{name}.npy", shared @ rng.standard_normal((8, width)) + rng.standard_normal((500, width)))
    np.save(folder / "y.npy", np.arange(500) % 10)
    (folder / "my_rule.py").write_text(example_rule())


def example_rule() -> str:
    """The README's own example of a rule: its one `python` block that defines `rule`."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    return next(block for block in blocks if "def rule" in block)


if __name__ == "__main__":
    sys.exit(main())
