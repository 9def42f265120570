"""`copycost lock`: keep what functions request from memory in a file of the repository."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from copycost.cli.options import FilePath, check_writable, errors, printable, write_json, write_text
from copycost.gate import lock
from copycost.gate.counted import Counted
from copycost.gate.lock import Checked, Entry
from copycost.machine import devices
from copycost.model import numbers
from copycost.report.console import print_line
from copycost_meter.arguments import EXAMPLE, parse_shape
from copycost_meter.targets import locate

#: Maximum number of requests that are shown of a function that requests more.
_MOST_LINES = 3


@click.command("lock", short_help="Fail if a function requests more memory than before.")
@click.argument("functions", nargs=-1, metavar="[FUNCTION]...")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SHAPE:DTYPE",
    help=f"Shape and dtype of an argument of a new function, e.g. {EXAMPLE}, the default. Can be repeated.",
)
@click.option(
    "--inputs",
    "maker",
    metavar="TARGET",
    help="Function of a numpy.random.Generator that returns the arguments of a new function.",
)
@click.option("--update", is_flag=True, help="Write what the functions request now.")
@click.option("--file", "name", type=FilePath(), default=lock.NAME, show_default=True, metavar="FILE", help="The lock.")
@click.option("--json", "json_file", type=FilePath(), metavar="FILE",
              help="Also write the figures as JSON; - writes to standard output.")  # fmt: skip
@errors
def lock_(
    functions: tuple[str, ...],
    inputs: tuple[str, ...],
    maker: str | None,
    update: bool,
    name: str,
    json_file: str | None,
) -> None:
    """Fail if a function requests more memory, makes more copies or changes more arguments than copycost.lock says.

    With FUNCTIONs, file.py::function or package.module:function, count them and write them to the lock. Without, count
    the functions of the lock. A count is exact: it needs no quiet machine and no baseline.

    Exit status: 0 nothing is more; 1 a figure is higher, or a function cannot be counted; 2 usage error.
    """
    if inputs and maker:
        raise click.UsageError("--input and --inputs cannot both be given: expected shapes, or a function")
    if (inputs or maker) and not functions:
        raise click.UsageError("--input and --inputs are for new functions: name one")
    path = Path(name)
    for file in (json_file, name if functions or update else None):
        check_writable(file)
    try:
        entries = lock.read(path) if path.exists() or not functions else []
    except lock.LockError as error:
        raise click.UsageError(str(error)) from None
    new = [_new(function, inputs, maker, path.parent) for function in dict.fromkeys(functions)]
    targets = {entry.function.target for entry in new}
    checked = lock.check(new or entries, path.parent, devices.cpus())
    failed = [one for one in checked if one.error is not None]
    if new and failed:
        raise click.UsageError(f"{failed[0].entry.function.target}: {failed[0].error}")
    console = Console(stderr=json_file == "-", highlight=False)
    for one in checked:
        _show(console, one)
    if new or update:
        kept = [entry for entry in entries if new and entry.function.target not in targets]
        kept += [one.now or one.entry for one in checked]
        write_text(name, lock.text(kept))
    if json_file:
        write_json(json_file, {"schema": 1, "functions": [_document(one) for one in checked]})
    _conclude(console, checked, bool(new) or update, name)


def _new(function: str, inputs: Sequence[str], maker: str | None, folder: Path) -> Entry:
    """Return the entry of a new function. Files are named relative to the folder of the lock."""
    for target in (function, maker):
        if target is not None:
            locate(target)
    shapes = () if maker else tuple(inputs) or (EXAMPLE,)
    for shape in shapes:
        parse_shape(shape)
    return Entry(Counted(_relative(function, folder), shapes, maker and _relative(maker, folder)), {})


def _relative(target: str, folder: Path) -> str:
    """Return a target with the path of its file relative to a folder."""
    name, _, function = target.partition(":")
    if not name.endswith(".py"):
        return target
    return f"{os.path.relpath(name, folder)}::{function.removeprefix(':')}"


def _show(console: Console, one: Checked) -> None:
    """Print what differs of a function, or what a new one requests."""
    target = one.entry.function.target
    if one.error is not None:
        print_line(console, Text.assemble((target, "bold"), (f"  {one.error}", "red")))
    elif not one.entry.figures and one.now is not None:
        print_line(console, Text.assemble((target, "bold"), f"  {_figures(one.now)}"))
    elif one.differences:
        print_line(console, Text(target, "bold"))
        for difference in one.differences:
            mark, style = ("more", "red") if difference.is_more else ("less", "green")
            line = Text.assemble((f"  {mark}  ", style), f"{difference.name} {difference.before} → {difference.after}")
            print_line(console, line)
        if one.is_more:
            for nbytes, origin in one.lines[:_MOST_LINES]:
                print_line(console, Text(f"        {numbers.size(nbytes)}  {origin}", "dim"))


def _figures(entry: Entry) -> str:
    figures = entry.figures
    words = {"allocations": ("allocation", "allocations"), "copies": ("copy", "copies")}
    parts = [f"{figures[name]:,} {words[name][figures[name] != 1]}" for name in words if name in figures]
    parts += [numbers.size(figures["allocated_bytes"])] if "allocated_bytes" in figures else []
    return ", ".join([*parts, f"changes {', '.join(entry.changes) or 'nothing'}"])


def _document(one: Checked) -> dict[str, Any]:
    return {
        "target": one.entry.function.target,
        "locked": {**one.entry.figures, "changes": one.entry.changes} if one.entry.figures else None,
        "now": {**one.now.figures, "changes": one.now.changes} if one.now else None,
        "error": one.error,
        "differences": [asdict(difference) for difference in one.differences],
    }


def _conclude(console: Console, checked: Sequence[Checked], is_written: bool, name: str) -> None:
    """Print how many functions request more or less, and exit with the status."""
    more, less = sum(one.is_more for one in checked), sum(bool(one.differences) and not one.is_more for one in checked)
    functions = "1 function" if len(checked) == 1 else f"{len(checked)} functions"
    if is_written:
        print_line(console, Text(f"{functions} written to {printable(name)}", "bold"))
        sys.exit(1 if any(one.error for one in checked) else 0)
    parts = [f"{number} {word}" for number, word in ((more, "more"), (less, "less")) if number]
    hint = "" if more or not less else ": copycost lock --update writes it"
    print_line(
        console, Text(f"{functions}: {', '.join(parts) or 'as locked'}{hint}", "bold red" if more else "bold green")
    )
    sys.exit(1 if more else 0)
