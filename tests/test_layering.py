"""Which room imports which, read from the source; and what stays unloaded until it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"algorithms", "probes", "runs", "lab"}


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def files(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert len(found) > 3
    return found


@pytest.mark.parametrize("room", ["algorithms", "probes", "runs"])
def test_rooms_do_not_look_into_one_another(room):
    forbidden = (ROOMS | {"tests"}) - {room} | ({"jax", "jaxlib", "flax", "optax"} if room == "runs" else {"flax"})
    for path in files(room):
        assert not {name.split(".")[0] for name in imported(path)} & forbidden, path


def test_nothing_imports_the_command_line_but_itself():
    for path in files("lab"):
        if path.parent.name != "cli":
            assert not any(name == "lab.cli" or name.startswith("lab.cli.") for name in imported(path)), path
            assert "tests" not in {name.split(".")[0] for name in imported(path)}, path


def test_files_hold_one_thing():
    long = {path for room in ROOMS for path in files(room) if len(path.read_text().splitlines()) > 400}
    assert not long


def test_no_seed_or_name_rests_on_pythons_hash():
    """Of a text it differs from one process to the next."""
    for path in (path for room in ROOMS for path in files(room)):
        calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        assert not any(isinstance(call, ast.Name) and call.id == "hash" for call in calls), path


LAZY = """
import sys
from click.testing import CliRunner
from lab.cli import COMMANDS, main
heavy = {"jax", "flax", "optax", "pandas", "matplotlib", "scipy"}
for args in [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)]:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, (args, result.output)
    assert result.output.strip(), args
    assert not heavy & set(sys.modules), (args, heavy & set(sys.modules))
import runs
assert "jax" not in sys.modules
"""


def test_help_and_the_store_load_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
