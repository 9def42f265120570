"""`copycost machine`: describe this machine to asv."""

from __future__ import annotations

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from copycost.cli.options import (
    errors,
)
from copycost.tracking import machine


@click.command("machine")
@click.option("--name", metavar="NAME", help="What to call it.  [default: the record that asv would take]")
@errors
def machine_(name: str | None) -> None:
    """Tell asv what this machine is: the GPU, its driver, CUDA and the CPU's features too."""
    shown = Table(box=box.SIMPLE_HEAD, show_header=False)
    for key, value in machine.record(name).items():
        shown.add_row(key, Text(str(value)))
    Console().print(shown)
