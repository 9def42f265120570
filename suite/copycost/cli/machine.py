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


@click.command("machine", short_help="Record this machine for asv.")
@click.option(
    "--name", metavar="NAME", help="Name of the machine in asv's results.  [default: the record that asv would use]"
)
@errors
def machine_(name: str | None) -> None:
    """Record this machine for asv, including the GPU, its driver, CUDA and the CPU's features."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    for key, value in machine.record(name).items():
        table.add_row(key, Text(str(value)))
    Console().print(table)
