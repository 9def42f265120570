"""`copycost show`: print every case of a run."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from copycost.cli.options import (
    FilePath,
    errors,
)
from copycost.report import tree
from copycost.results import load


@click.command("show", short_help="Show every case of a run as a tree.")
@click.argument("run", type=FilePath(), metavar="RUN")
@errors
def show_(run: str) -> None:
    """Show a run as a tree: the time and allocations of each variant, by recipe and batch."""
    console = Console()
    for name, _, measurements in (loaded := load.load_all(Path(run))):
        if len(loaded) > 1:
            console.print(Text(name, "bold underline"))
        tree.show(console, measurements)
