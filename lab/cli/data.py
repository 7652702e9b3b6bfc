"""`lab data`: which data sets are on this machine, fetching the known ones, adding one's own."""

import click

from lab.cli.options import json_option, print_json, refuse_early_options


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@json_option
@click.pass_context
def data(ctx: click.Context, as_json: bool) -> None:
    """The data sets that runs can train on; without a subcommand, lists them.

    MNIST is part of the package. Others are kept in $LAB_DATA, by default in the user's cache folder.

    \b
    Examples:
      lab data
      lab data fetch fashion-mnist
      lab data fetch cifar10 --from ~/Downloads
      lab data add shapes shapes.npz
    """
    refuse_early_options(ctx)
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_sets, as_json=as_json)


@data.command("list")
@json_option
def list_sets(as_json: bool = False) -> None:
    """List every data set: its size, its shape, and where it is.

    WHERE is packaged (part of the lab), fetched, system (installed by the operating system), added (your own),
    "not fetched", or damaged.

    \b
    Examples:
      lab data list
      lab data list --json
    """
    from lab.datasets.folder import data_folder
    from lab.datasets.sources import listing

    rows = listing()
    if as_json:
        print_json({"folder": str(data_folder()), "datasets": [row.as_json() for row in rows]})
        return
    table = [("NAME", "TRAIN", "TEST", "SHAPE", "CLASSES", "WHERE")]
    for row in rows:
        shape = None if row.shape is None else "×".join(map(str, row.shape))
        facts = ["-" if fact is None else str(fact) for fact in (row.train, row.test, shape, row.classes)]
        where = row.state if row.path is None or row.state == "packaged" else f"{row.state}: {row.path}"
        table.append((row.name, *facts, where))
    widths = [max(len(line[i]) for line in table) for i in range(5)]
    for name, *numbers, where in table:
        cells = [name.ljust(widths[0]), *(n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True)), where]
        click.echo("  ".join(cells))


@data.command()
@click.argument("name")
@click.option("--from", "from_dir", metavar="DIR", help="Take the official files from this folder, not the network.")
@json_option
def fetch(name: str, from_dir: str | None, as_json: bool) -> None:
    """Bring the known data set NAME to this machine, checked against its published checksums.

    Without --from the files come from their official address. Decompressed IDX files are accepted in DIR too.
    Fetching again does nothing when the files are whole.

    \b
    Examples:
      lab data fetch fashion-mnist
      lab data fetch kmnist --from ~/Downloads
    """
    from lab.datasets.fetch import fetch as bring
    from lab.datasets.sources import load

    path = bring(name, from_dir, say=lambda line: click.echo(line, err=True))
    _report(load(name), str(path), as_json)


@data.command()
@click.argument("name")
@click.argument("file", metavar="FILE.npz")
@click.option("--force", is_flag=True, help="Replace a data set of this name that holds other data.")
@json_option
def add(name: str, file: str, force: bool, as_json: bool) -> None:
    """Add your own data set under NAME; runs then train on it by that name.

    FILE.npz holds the arrays x_train, y_train, x_test, y_test. Images are N×H×W×C, N×H×W, or vectors N×D; uint8
    pixels, or finite floats that you have scaled as you want them. Labels are integers 0..C-1.

    \b
    Examples:
      lab data add shapes shapes.npz
      lab data add shapes better-shapes.npz --force
    """
    from lab.datasets.user_sets import add as keep
    from lab.datasets.user_sets import user_path

    _report(keep(name, file, force=force), str(user_path(name)), as_json)


def _report(dataset, path: str, as_json: bool) -> None:
    facts = {
        "name": dataset.name,
        "train": len(dataset.train_y),
        "test": len(dataset.test_y),
        "shape": list(dataset.input_shape),
        "classes": dataset.classes,
        "dtype": str(dataset.train_x.dtype),
        "sha256": dataset.sha256,
        "path": path,
    }
    if as_json:
        print_json(facts)
        return
    shape = "×".join(map(str, dataset.input_shape))
    click.echo(
        f"{dataset.name}: {facts['train']} training and {facts['test']} test examples of {shape} ({facts['dtype']}), "
        f"{dataset.classes} classes"
    )
    click.echo(f"  in {path}")
    click.echo(f"  sha256 {dataset.sha256}")
