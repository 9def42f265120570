"""`copycost doctor`: check this machine."""

from __future__ import annotations

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from copycost.machine import doctor


@click.command("doctor")
def doctor_() -> None:
    """Check this machine for settings that make timings noisy."""
    console = Console()
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", "check", "value", "advice"):
        table.add_column(name, overflow="fold")
    findings = doctor.examine()
    for f in findings:
        mark, style = {True: ("✓", "green"), False: ("!", "yellow"), None: ("·", "dim")}[f.good]
        table.add_row(Text(mark, style), f.subject, Text(f.value), Text(f.advice if f.good is False else ""))
    console.print(table)
    unsteady = sum(f.good is False for f in findings)
    console.print("No potential problems found." if not unsteady else f"{unsteady} potential problems found.")
