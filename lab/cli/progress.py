"""The progress bar: on stderr, and only where someone is looking."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def shown(title: str, quiet: bool = False) -> Iterator:
    """A `lab.runner.Report` that draws a bar with loss, validation accuracy and time left."""
    if quiet or not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("loss {task.fields[loss]}  accuracy {task.fields[accuracy]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    ]
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, loss="-", accuracy="-")

        def report(progress) -> None:
            fields = {}
            if progress.loss is not None:
                fields["loss"] = f"{progress.loss:.4f}"
            if progress.accuracy is not None:
                fields["accuracy"] = f"{100 * progress.accuracy:.2f} %"
            bar.update(task, completed=progress.done, total=progress.total, **fields)

        yield report
