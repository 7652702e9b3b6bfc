"""Fixtures of the command-line tests: a home of their own, a tiny data set, a few trained runs, two ways of asking."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

TINY = ("--data", "tiny", "--arch", "mlp(8)", "--epochs", "1", "--batch", "50", "--optimizer", "adam(0.001)")
"""What makes a training of a second or two."""


def blobs(path: Path, seed: int) -> Path:
    """A data set of 600 + 200 images, 8×8, in 4 classes that one hidden layer can tell apart."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(60, 200, (4, 8, 8))

    def half(n: int):
        y = np.arange(n) % 4
        return np.clip(means[y] + rng.normal(0, 40, (n, 8, 8)), 0, 255).astype(np.uint8), y

    (x_train, y_train), (x_test, y_test) = half(600), half(200)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory) -> Iterator[Path]:
    """Data, store and cache in a temporary folder, and JAX's settings as they were before at the end."""
    import jax

    from lab.datasets.user_sets import add

    names = ("jax_compilation_cache_dir", "jax_default_matmul_precision")
    names += ("jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes")
    before = {name: getattr(jax.config, name) for name in names}
    place = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_DATA", str(place / "data"))
        patch.setenv("LAB_STORE", str(place / "store"))
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        add("tiny", blobs(place / "tiny.npz", 0))
        add("other", blobs(place / "other.npz", 1))
        yield place
    for name, value in before.items():
        jax.config.update(name, value)


def invoke(*args: object, **more) -> Result:
    """`lab ARGS`, in this process; whatever is raised but an exit is a bug."""
    from lab.cli import main

    result = CliRunner().invoke(main, [str(arg) for arg in args], prog_name="lab", **more)
    bug = result.exception is not None and not isinstance(result.exception, SystemExit)
    assert not bug, f"lab {' '.join(map(str, args))} ends in a traceback: {result.exception!r}"
    return result


@pytest.fixture(scope="session")
def ask() -> Callable[..., Result]:
    """`lab ARGS`, which must end with exit code `code`."""

    def asked(*args: object, code: int = 0, **more) -> Result:
        result = invoke(*args, **more)
        assert result.exit_code == code, result.output
        return result

    return asked


@pytest.fixture(scope="session")
def answer(ask) -> Callable[..., dict]:
    """`lab ARGS --json`: the one object on stdout."""

    def answered(*args: object, code: int = 0) -> dict:
        found = json.loads(ask(*args, "--json", code=code).stdout)
        assert found["schema"] == 1
        return found

    return answered


@pytest.fixture(scope="session")
def refuse() -> Callable[..., str]:
    """`lab ARGS` must end with this exit code, nothing on stdout, and one line of complaint, which is returned."""

    def refused(code: int, *args: object, **more) -> str:
        result = invoke(*args, **more)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        return complaint(result.stderr)

    return refused


def complaint(stderr: str) -> str:
    """The one line that starts with `Error: `, which is the last."""
    assert "Traceback" not in stderr, stderr
    lines = stderr.splitlines()
    assert lines, "it failed without a word"
    assert [line for line in lines if line.startswith("Error: ")] == lines[-1:], stderr
    return lines[-1].removeprefix("Error: ")


@pytest.fixture
def complained() -> Callable[[str], str]:
    return complaint


@pytest.fixture
def process(home) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts `lab ARGS` as a process of its own; none outlives its test."""
    started: list[subprocess.Popen] = []

    def start(*args: object, first: str = "", **more) -> subprocess.Popen:
        code = f"{first}\nfrom lab.cli import main\nmain(prog_name='lab')"
        command = [sys.executable, "-c", code, *map(str, args)]
        root = Path(__file__).resolve().parents[2]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        started.append(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **more
            )
        )
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    return TINY


@pytest.fixture(scope="session")
def runs(home, ask) -> dict[str, str]:
    """Name -> id of the runs in the session's store; no test writes there."""
    asked = {
        "bp": ("--rule", "bp", "--seeds", "3"),
        "fa": ("--rule", "fa", "--seeds", "3"),
        "later": ("--rule", "bp", "--seeds", "3-5"),
        "alone": ("--rule", "fa", "--seeds", "1"),
        "lost": ("--rule", "bp", "--seeds", "2", "--optimizer", "sgd(1e30)"),
        "conv": ("--rule", "bp", "--seeds", "1", "--arch", "conv(2,kernel=3,dense=())", "--epochs", "0"),
        "other": ("--rule", "bp", "--seeds", "2", "--data", "other", "--epochs", "0"),
    }
    found = {}
    for name, options in asked.items():
        result = ask("train", *TINY, *options, "--json", code=3 if name == "lost" else 0)
        found[name] = json.loads(result.stdout)["run"]
    return found


@pytest.fixture
def copied(home, runs, tmp_path) -> Path:
    """A copy of the session's runs that a test may damage; without comparisons, which would answer for them."""
    shutil.copytree(home / "store" / "runs", tmp_path / "store" / "runs")
    return tmp_path / "store"
