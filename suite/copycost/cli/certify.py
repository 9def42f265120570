"""`copycost certify`: test the clocks, fences and counters of this machine."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from copycost.cases import images
from copycost.cli.options import (
    INTERRUPTED,
    Device,
    FilePath,
    check_writable,
    errors,
    install_interrupt_handlers,
    is_stream,
    new_folder,
    one_line_message,
    printable,
    write_json,
)
from copycost.machine import devices, environment
from copycost.model.vocabulary import DeviceKind
from copycost.report.console import print_line
from copycost.studies.certify import evidence, run
from copycost.studies.certify.evidence import Row
from copycost.studies.certify.step import Step, Subject


class _OneDevice(Device):
    """A click type for the CPU, the GPU, or one GPU by its number."""

    name = "DEVICE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        device = super().convert(value, param, ctx)
        if device not in list(DeviceKind):
            self.fail(f"unknown device {device}: expected cpu, gpu, or one GPU, e.g. gpu:1")
        return device


@click.command("certify", short_help="Test the clocks and counters of this machine.")
@click.option("--device", type=_OneDevice(), default="cpu", show_default=True, help="cpu, gpu, or one GPU, e.g. gpu:1.")
@click.option(
    "--json",
    "json_file",
    type=FilePath(),
    metavar="FILE",
    help="File for the evidence; - writes to standard output. The default is a new file in reports/.",
)
@errors
def certify(device: str, json_file: str | None) -> None:
    """Test the clocks, fences, counts of allocations and results of this machine, within ten minutes.

    Each step runs in a process of its own, with a time limit. What it finds is in the file before the next step begins.
    A step that tests nothing is a fault, whatever the reason.

    Exit status: 0 every statement holds; 1 a fault; 2 usage error.
    """
    kind = DeviceKind(device)
    name = json_file or str(new_folder(f"-certified-{kind}.json"))
    if json_file is None:
        check_writable("reports", folder=True)
        Path("reports").mkdir(exist_ok=True)
    check_writable(name)
    # A link stays one, and so does a device or a pipe, which is written to when all is done.
    path, at_the_end = Path(os.path.realpath(name)), is_stream(name)
    install_interrupt_handlers()
    console = Console(stderr=name == "-", highlight=False)
    picture = images.read()
    captured = environment.capture(devices.cpus(), picture.name, picture.sha256)
    rows: list[Row] = []

    def keep(finished: bool = False) -> None:
        if not at_the_end:
            evidence.write(path, evidence.document(kind, captured, rows, finished))

    keep()
    interrupted = False
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True,
    ) as progress:  # fmt: skip
        bar = progress.add_task("starting", total=len(run.plan(kind)))
        begun = itertools.count()

        def begin(step: Step, subject: Subject) -> None:
            progress.update(bar, completed=next(begun), description=_title(step.name, subject.runtime))

        try:
            for row in run.certify(kind, begin):
                rows.append(row)
                keep()
                _show(console, row)
        except KeyboardInterrupt:
            interrupted = True
        else:
            keep(finished=True)
    if at_the_end:
        write_json(name, evidence.document(kind, captured, rows, not interrupted))
    faults = sum(not row.holds for row in rows)
    verdict = "all hold" if not faults else "1 does not hold" if faults == 1 else f"{faults} do not hold"
    print_line(console, Text(f"{len(rows)} statements: {verdict}. Evidence: {printable(name)}"))
    if interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(1 if faults else 0)


def _title(step: str, runtime: str | None) -> str:
    return step if runtime is None else f"{step}, {runtime}"


def _show(console: Console, row: Row) -> None:
    """Print a statement, with its figures if it does not hold; that a step was completed goes without saying."""
    if row.holds and row.statement == run.COMPLETED:
        return
    mark, style = ("✓", "green") if row.holds else ("✗", "bold red")
    print_line(console, Text.assemble((mark, style), f" {_title(row.step, row.runtime)}: {row.statement}"))
    if not row.holds:
        detail = row.reason or ", ".join(f"{name} {value}" for name, value in row.figures.items())
        console.print(Padding(Text(one_line_message(detail)), (0, 0, 0, 4)))
