"""`lab data` from the outside: what is printed where, as text and as JSON, and the exit codes."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from stand_ins import npz

from lab.cli.data import data


def run(*args):
    return CliRunner().invoke(data, [str(arg) for arg in args])


def parsed(*args):
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("args", [(), ("list",)])
def test_listing(args):
    result = run(*args)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["NAME", "TRAIN", "TEST", "SHAPE", "CLASSES", "WHERE"]
    assert lines[1].split() == ["mnist", "60000", "10000", "28×28×1", "10", "packaged"]
    assert lines[4].split() == ["cifar10", "50000", "10000", "32×32×3", "10", "not", "fetched"]


def test_listing_as_json(tmp_path, data_home, fashion):
    run("add", "own", npz(tmp_path / "own.npz"))
    run("fetch", "fashion-mnist", "--from", fashion.folder)
    (data_home / "broken.npz").write_bytes(b"")
    (data_home / "mnist.npz").write_bytes(b"a known set is not shadowed")
    found = parsed("list")
    assert (found["schema"], found["folder"]) == (1, str(data_home))
    rows = {row["name"]: row for row in found["datasets"]}
    assert list(rows) == ["mnist", "fashion-mnist", "kmnist", "cifar10", "broken", "own"]
    states = ["packaged", "fetched", "not fetched", "not fetched", "damaged", "added"]
    assert [row["state"] for row in rows.values()] == states
    assert rows["own"] == {
        "name": "own",
        "state": "added",
        "train": 12,
        "test": 6,
        "shape": [4, 5, 3],
        "classes": 3,
        "path": str(data_home / "own.npz"),
        "licence": None,
    }
    assert rows["cifar10"]["path"] is None
    assert rows["broken"]["shape"] is None
    lines = run().stdout.splitlines()
    assert lines[5].split() == ["broken", "-", "-", "-", "-", "damaged:", str(data_home / "broken.npz")]


def test_fetch(fashion, data_home):
    result = run("fetch", "fashion-mnist", "--from", fashion.folder, "--json")
    found = json.loads(result.stdout)
    assert result.stderr.count("checked and copied") == 4
    assert found["path"] == str(data_home / "fashion-mnist")
    keys = ["schema", "name", "train", "test", "shape", "classes", "dtype", "sha256", "path"]
    assert list(found) == keys
    assert (found["train"], found["shape"], found["dtype"]) == (40, [28, 28, 1], "uint8")
    again = run("fetch", "fashion-mnist")
    assert "40 training and 20 test examples of 28×28×1" in again.stdout
    assert again.stderr == "fashion-mnist is already here (fetched).\n"


def test_add(tmp_path, data_home):
    path = npz(tmp_path / "own.npz")
    found = parsed("add", "own", path)
    assert (found["schema"], found["name"], found["classes"]) == (1, "own", 3)
    assert found == parsed("add", "own", path)
    assert "12 training and 6 test examples of 4×5×3 (uint8), 3 classes" in run("add", "own", path).stdout
    other = npz(tmp_path / "other.npz", x_test=None, y_test=None)
    assert run("add", "own", other, "--force").exit_code == 1


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("fetch", "mnst"), 2, "Did you mean 'mnist'?"),
        (("fetch", "kmnist", "--from", "/nowhere"), 4, "/nowhere: no such folder."),
        (("add", "own", "/nowhere.npz"), 4, "/nowhere.npz: no such file."),
        (("add", "mnist", "/nowhere.npz"), 2, "knows already"),
        (("add", "own"), 2, "Missing argument 'FILE.npz'"),
        (("fly",), 2, "fly"),
    ],
)
def test_refusals_go_to_standard_error_with_their_exit_code(args, code, words):
    result = run(*args)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("args", [(), ("list",), ("fetch",), ("add",)])
def test_help_shows_examples_line_by_line(args):
    long, short = run(*args, "--help"), run(*args, "-h")
    assert long.stdout == short.stdout
    examples = long.stdout.split("Examples:\n")[1].splitlines()
    assert examples[0].strip().startswith("lab data")


def test_importing_the_command_does_not_import_numpy():
    code = "import sys, lab.cli.data; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
