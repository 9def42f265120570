"""`copycost list`: list recipes, variants, devices or cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from copycost.cases import feasibility
from copycost.cli.options import (
    Word,
    choose,
    errors,
    selection_options,
)
from copycost.machine import devices, environment
from copycost.machine.memory import free_memory
from copycost.report.console import print_line


@click.command("list", short_help="List recipes, variants, devices or cases.")
@click.argument("what", type=Word("list", ("recipes", "variants", "devices", "cases")))
@selection_options
@errors
def list_(what: str, **options: Any) -> None:
    """List recipes, variants, devices or cases, selected by the same options as in `run`."""
    console = Console()
    if what == "devices":
        gpus, none = devices.gpus()
        rows: list[tuple[str, ...]] = [("cpu", f"{environment.processor() or 'unknown'}, {devices.cpus()} usable CPUs")]
        rows += [(f"gpu:{k}", f"{gpu.name}, driver {gpu.driver}") for k, gpu in enumerate(gpus)]
        rows += [("gpu", none)] if none else []
        _print_columns(console, ("device", "description"), rows, wraps="description")
        return
    chosen = choose(options | ({} if what == "cases" or options["recipe"] else {"recipe": ("*",)}))
    if what == "recipes":
        rows = []
        for recipe in dict.fromkeys(case.recipe for case in chosen):
            variants = {case.variant.name for case in chosen if case.recipe == recipe}
            rows.append((recipe.name, str(len(variants)), recipe.source.label))
        _print_columns(console, ("recipe", "variants", "defined in"), rows, wraps="recipe", optional=("defined in",))
    elif what == "variants":
        rows = []
        for name in dict.fromkeys(case.variant.name for case in chosen):
            cases = [case for case in chosen if case.variant.name == name]
            by = cases[0].variant
            of, on = (_unique(names) for names in ((c.recipe.name for c in cases), (c.device for c in cases)))
            rows.append((name, by.runtime, by.writes, of, on, by.source.label))
        headings = ("variant", "runtime", "writes", "recipes", "devices", "defined in")
        _print_columns(console, headings, rows, wraps="recipes", optional=("runtime", "devices", "defined in"))
    else:
        none = devices.gpus()[1]
        free = free_memory()
        for case in chosen:
            reason = feasibility.skip_reason(case, none, free)
            print_line(console, Text(case.label() + (f"  (skipped: {reason})" if reason else "")))


def _print_columns(
    console: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    wraps: str,
    optional: Sequence[str] = (),
) -> None:
    """Print a table without breaking words.

    The column `wraps` may take several lines. If the table is too wide, `optional` columns are dropped, the last first.
    """
    columns = {name: [name, *(row[k] for row in rows)] for k, name in enumerate(headings)}
    # The width of each column: its widest unbreakable part, two spaces of padding, and the separator.
    needed = {
        name: 3 + max(cell_len(part) for cell in cells for part in (cell.split() if name == wraps else [cell]))
        for name, cells in columns.items()
    }
    for name in reversed(optional):
        if 1 + sum(map(needed.__getitem__, columns)) > console.width:
            del columns[name]
    table = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name != wraps)
    for row in zip(*(cells[1:] for cells in columns.values()), strict=True):
        table.add_row(*map(Text, row))
    console.print(table)


def _unique(words: Any) -> str:
    return ", ".join(dict.fromkeys(words))
