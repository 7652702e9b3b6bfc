"""The help of every command: it is there, it shows examples, it explains each option, and it needs no JAX."""

import subprocess
import sys

import click
import pytest

from lab.cli import COMMANDS, main


def walk(command: click.Command, path: tuple[str, ...]):
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*path, name))


TREE = {" ".join(path): (path, command) for path, command in walk(main, ())}


def test_the_tree_is_the_documented_one():
    assert set(COMMANDS) <= set(TREE)
    assert {"runs show", "runs diff", "runs verify", "runs rm", "study run", "data add", "data fetch"} <= set(TREE)


@pytest.mark.parametrize("name", TREE)
def test_help(ask, name):
    path, command = TREE[name]
    said = ask(*path, "-h").stdout
    assert said == ask(*path, "--help").stdout
    assert said.startswith(f"Usage: lab {name}".rstrip())
    examples = said.split("Examples:\n")[1].split("\n\n")[0].splitlines()
    assert all(line.strip().startswith(f"lab {name}".rstrip()) for line in examples)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert any(option in said for option in parameter.opts), f"{parameter.opts} is missing from the help"
            assert parameter.help, f"{parameter.opts} has no help text"


@pytest.mark.parametrize("name", [name for name, (_, command) in TREE.items() if not isinstance(command, click.Group)])
def test_the_examples_are_accepted(name):
    """Every example's options and arguments are such that the command takes them."""
    import shlex

    path, command = TREE[name]
    for line in command.help.split("Examples:")[1].splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[: 1 + len(path)] == ["lab", *path]
            command.make_context(name, words[1 + len(path) :])  # click.UsageError where it does not parse


def test_commands_that_print_data_offer_json():
    silent = {"runs rm"}
    for name, (_, command) in TREE.items():
        if name and name not in silent and not isinstance(command, click.Group):
            assert any("--json" in parameter.opts for parameter in command.params), name


def test_the_exit_codes_are_in_the_help(ask):
    said = " ".join(ask("--help").stdout.split())
    for words in ("0 done", "1 could not", "2 wrong usage", "3 done, but some seeds diverged", "4 not found", "130"):
        assert words in said


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["compare", "-h"], ["--version"]])
def test_help_needs_neither_jax_nor_numpy(words):
    code = "import sys\nsys.modules.update(jax=None, numpy=None, matplotlib=None, pandas=None)\n"
    code += "from lab.cli import main\nmain(prog_name='lab')"
    found = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("lab, version " if words == ["--version"] else "Usage: lab ")
