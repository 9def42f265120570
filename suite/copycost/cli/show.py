"""`copycost show`: print every case of a run."""

from __future__ import annotations

import click
from rich.console import Console
from rich.text import Text

from copycost.cli.options import FilePath, errors
from copycost.cli.runs import load_runs
from copycost.report import tree


@click.command("show", short_help="Show every case of a run as a tree.")
@click.argument("run", type=FilePath(), metavar="RUN")
@errors
def show_(run: str) -> None:
    """Show a run as a tree: the time and allocations of each variant, by recipe and batch.

    RUN is a folder written by `copycost run --out`, a file written by `--json`, or a folder with results of asv.
    """
    console = Console()
    for name, _, measurements in (loaded := load_runs(run)):
        if len(loaded) > 1:
            console.print(Text(name, "bold underline"))
        tree.show(console, measurements)
