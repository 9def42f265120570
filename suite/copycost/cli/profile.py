"""`copycost profile`: profile one call of one case."""

from __future__ import annotations

import glob
import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from copycost.analysis.operations import Operation, operations
from copycost.cases import case, images, selection
from copycost.cases.case import Case
from copycost.cases.feasibility import skip_reason
from copycost.cases.profiles import Axes
from copycost.cli.options import (
    FilePath,
    check_writable,
    errors,
    install_interrupt_handlers,
    one_line_message,
    printable,
)
from copycost.engine.call_here import CALLS, call_here
from copycost.engine.plan import Plan
from copycost.engine.session import Session
from copycost.machine import devices, nvtx_range
from copycost.machine.memory import free_memory
from copycost.machine.nvtx_range import CALL
from copycost.model import naming, numbers
from copycost.model.call_profile import CallProfile
from copycost.model.measurement import Measurement
from copycost.model.runtime import RuntimeUnavailable
from copycost.model.vocabulary import DTYPES, DeviceKind, Layout
from copycost.report.trace import trace
from copycost.results import load, store
from copycost_meter.errors import describe

#: The folder of a run that holds its traces.
TRACES = "profiles"

#: The batch, size and dtype of a case whose name omits them.
_BATCH, _SIZE, _DTYPE = 32, (224, 224), "float32"

_SHAPE = re.compile(r"(?:(\d{1,9})[x×])?(\d{1,9})[x×](\d{1,9})[x×]3")


@click.command("profile", short_help="Profile one call by operation or line.")
@click.argument("case", nargs=-1, required=True, metavar="CASE")
@click.option(
    "--with",
    "with_files",
    multiple=True,
    type=FilePath(),
    metavar="FILE",
    help="Python file that defines your own variants. Can be repeated.",
)
@click.option("--image", type=FilePath(), metavar="PATH", help="Image, or folder of images, to measure with.")
@click.option(
    "--threads", type=click.IntRange(1, 4096), metavar="N", help="Threads for every runtime.  [default: all CPUs]"
)
@click.option(
    "--trace",
    "trace_file",
    type=FilePath(),
    metavar="FILE",
    help="Write a trace to this file, for ui.perfetto.dev or chrome://tracing.",
)
@click.option(
    "--run",
    "run",
    type=FilePath(),
    metavar="RUN",
    help="Folder of a run to write the trace to. The run's report then links to the trace.",
)
@click.option("--here", is_flag=True, help="Only make the calls, in this process, for a profiler that has started it.")
@click.option("--nsys", is_flag=True, help="Print the command that profiles the calls with Nsight Systems.")
@click.option("--ncu", is_flag=True, help="Print the command that profiles the kernels with Nsight Compute.")
@errors
def profile(
    case: tuple[str, ...],
    with_files: tuple[str, ...],
    image: str | None,
    threads: int | None,
    trace_file: str | None,
    run: str | None,
    here: bool,
    nsys: bool,
    ncu: bool,
) -> None:
    """Profile one call: time, allocations and bytes by operation, and optionally a trace.

    On a GPU, kernels and copies are operations too: with grid, block, registers and occupancy, and with bytes and
    rate. --nsys and --ncu print the command for a deeper look, in which the calls are the NVTX range copycost_call.

    CASE is a recipe and a variant, optionally followed by shape, dtype, layout and device, as printed by `copycost list
    cases`; gpu:1 is the second GPU. The default is 32×224×224×3 float32 on the CPU. Example: copycost profile tf
    tf-eager 8×224×224×3

    Exit status: 0 finished; 1 the case is skipped, fails or is wrong; 2 usage error.
    """
    words = " ".join(case).split()
    chosen = named(words, with_files)
    photographs = images.read(Path(image) if image else None)
    if here or nsys or ncu:
        if [here, nsys, ncu].count(True) > 1 or trace_file is not None or run is not None:
            raise click.UsageError("--here, --nsys and --ncu exclude each other, --trace and --run")
        if not here and chosen.device == DeviceKind.CPU:
            raise click.UsageError(f"{'--ncu' if ncu else '--nsys'} is for a case on a GPU, such as: tf cupy-new gpu")
        if here:
            _call_here(chosen, photographs, threads or devices.cpus())
        else:
            _print_command(_nsight(chosen, ncu), words, with_files, image, threads)
        return
    target = None if trace_file is None else Path(trace_file)
    if run is not None:
        load.load(Path(run))
        target = target or Path(run) / TRACES / f"{re.sub(r'[^a-z0-9]+', '-', chosen.label().lower())}.json"
    if target is not None:
        if target.is_dir():
            raise store.RunError(f"{target} cannot be written to: it is a folder")
        check_writable(str(target.parent), folder=True)
    install_interrupt_handlers()
    plan = Plan(threads or devices.cpus(), 0, 0.0, None, devices.gpus()[1])
    with Console(stderr=True).status(f"profiling {chosen.label()}"), Session(plan, photographs) as session:
        measurement, profiled = session.profile(chosen)
    if profiled is None:
        print(f"Error: {one_line_message(f'{chosen.label()}: {measurement.remarks()}')}", file=sys.stderr)
        sys.exit(1)
    show(Console(highlight=False), measurement, profiled)
    if target is not None:
        document = trace(profiled, {name: getattr(measurement, name) for name in store.KEY})
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            store.replace(target, json.dumps(document) + "\n")
        except OSError as error:
            raise store.RunError(f"{target} cannot be written to: {error.strerror}") from None
        print(f"Wrote the trace to {printable(target)}: open it in https://ui.perfetto.dev or chrome://tracing")


def _call_here(case: Case, photographs: images.Photographs, threads: int) -> None:
    """Make the calls in this process; an exception of the variant ends the command with its line."""
    why = skip_reason(case, devices.gpus()[1], free_memory())
    if why is None:
        try:
            call_here(case, photographs, threads)
        except RuntimeUnavailable as unavailable:
            why = str(unavailable)
        except Exception as error:  # a variant may raise anything
            why = describe(error)
    if why is not None:
        print(f"Error: {one_line_message(f'{case.label()}: {why}')}", file=sys.stderr)
        sys.exit(1)
    print(f"Made {CALLS} calls of {case.label()} within the range {CALL}.")


def _nsight(case: Case, ncu: bool) -> list[str]:
    """Return the beginning of the command of a profiler, up to the program that it starts."""
    output = re.sub(r"[^a-z0-9]+", "-", case.label().lower()).strip("-")
    if not ncu:
        return ["nsys", "profile", "--trace", "cuda,nvtx", "--output", output]
    only = ["--nvtx", "--nvtx-include", CALL] if nvtx_range.is_available() else []
    return ["ncu", "--set", "full", *only, "--export", output]


def _print_command(
    profiler: Sequence[str], words: Sequence[str], files: Sequence[str], image: str | None, threads: int | None
) -> None:
    options = [part for file in files for part in ("--with", file)]
    options += ["--image", image] if image is not None else []
    options += ["--threads", str(threads)] if threads is not None else []
    command = [*profiler, "python", "-m", "copycost", "profile", *words, *options, "--here"]
    if not nvtx_range.is_available():
        print("nvtx is not installed: the calls have no range, and those before them are profiled too", file=sys.stderr)
    print(printable(shlex.join(command)))


def named(words: Sequence[str], files: Sequence[str] = ()) -> Case:
    """Return the case that the words name.

    Raises
    ------
    CaseError
        If the words name no case, or several.
    RegistrationError
        If a file cannot be imported, or defines a name that already exists.
    """
    known = selection.find_definitions(files)
    axes = Axes((), (_BATCH,), (_SIZE,), (_DTYPE,), (Layout.CHANNELS_LAST,))
    device = "cpu"
    recipes: list[str] = []
    variants: list[str] = []
    for word in words:
        if shape := _SHAPE.fullmatch(word):
            axes = replace(
                axes, batches=(int(shape[1]) if shape[1] else None,), sizes=((int(shape[2]), int(shape[3])),)
            )
        elif re.fullmatch(r"\d+([x×]\d+)+", word):
            raise case.CaseError(
                f"'{word}' is not a shape of images: expected e.g. 8×224×224×3, or 224×224×3 for one image"
            )
        elif word in DTYPES:
            axes = replace(axes, dtypes=(word,))
        elif word in list(Layout):
            axes = replace(axes, layouts=(Layout(word),))
        elif word in ("cpu", "gpu"):
            device = word
        elif gpu := re.fullmatch(r"gpu:(\d{1,9})", word):
            try:
                devices.choose(int(gpu[1]))
            except LookupError as error:
                raise case.CaseError(str(error)) from None
            device = "gpu"
        elif word in known.recipes and not recipes:
            recipes.append(word)
        else:
            names = [name for recipe, name in known.variants if not recipes or recipe == recipes[0]]
            if word not in names:
                naming.check_name("variant", word, dict.fromkeys([*names, *(name for _, name in known.variants)]))
            variants.append(word)
    if len(recipes) != 1 or len(variants) != 1:
        raise case.CaseError("a case has one recipe and one variant, e.g. tf tf-eager 8×224×224×3 float32")
    if (recipes[0], variants[0]) not in known.variants:
        raise case.CaseError(f"recipe '{recipes[0]}' has no variant '{variants[0]}'")
    (chosen,) = selection.expand(
        replace(axes, recipes=(glob.escape(recipes[0]),)),
        [known.variants[recipes[0], variants[0]]],
        known.recipes,
        only_devices=(device,),
    )
    return chosen


def show(console: Console, measurement: Measurement, profile: CallProfile) -> None:
    """Print a profile as a table of operations."""
    rows = operations(profile)
    console.print(Text(f"{measurement.variant}, {measurement.group_title()}", "bold"))
    several_places = len({row.where for row in rows}) > 1
    left_out = set() if several_places else {"where"}
    if not any(row.launch for row in rows):
        left_out |= _OF_KERNELS
    if not any(row.moved_bytes for row in rows):
        left_out |= _OF_COPIES
    columns = [column for column in _COLUMNS if console.width >= column[1] and column[0] not in left_out]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("operation", overflow="fold", min_width=20)
    for name, *_ in columns:
        table.add_column(name, justify="left" if name == "where" else "right", no_wrap=True)
    for row in rows[:_MOST]:
        table.add_row(Text(row.name), *(cell(row, profile) for *_, cell in columns))
    console.print(table)
    if len(rows) > _MOST:
        console.print(Text(f"and {len(rows) - _MOST} more operations", "dim"))
    console.print(
        Text(
            f"One call took {numbers.seconds(profile.seconds)} under {profile.instrument}. Times include the overhead "
            "of profiling; `copycost run` measures without it. Allocations of 4 KiB or more are counted."
            + (f" –: unknown; {profile.missing}." if profile.missing else "")
            + (f" No kernels: {profile.no_kernels}." if profile.no_kernels else "")
            + _bandwidth(profile),
            "dim",
        )
    )


def _bandwidth(profile: CallProfile) -> str:
    """Return how fast kernels and copies have moved input and result, beside a copy within the device's memory."""
    if not profile.device_seconds or not profile.copy_seconds:
        return ""
    speeds = (profile.bytes_moved / seconds * 1e-12 for seconds in (profile.device_seconds, profile.copy_seconds))
    call, copy = (f"{speed:.3g} TB/s" for speed in speeds)
    return (
        f" Kernels and copies took {numbers.seconds(profile.device_seconds)}: input and result, once each, at {call}. "
        f"A copy in the device's memory that moves as many bytes runs at {copy}."
    )


#: Heading, minimum terminal width that shows the column, and cell.
_COLUMNS: tuple[tuple[str, int, Callable[[Operation, CallProfile], str]], ...] = (
    ("where", 100, lambda row, _: row.where),
    ("calls", 90, lambda row, _: numbers.count(row.calls)),
    ("time", 0, lambda row, _: numbers.seconds(row.seconds)),
    (
        "of the call",
        80,
        lambda row, profile: numbers.percent(None if row.seconds is None else row.seconds / profile.seconds),
    ),
    ("allocations", 70, lambda row, _: numbers.count(row.allocations)),
    ("allocated", 0, lambda row, _: numbers.size(row.allocated_bytes)),
    ("grid × block", 110, lambda row, _: _launched(row)),
    ("registers", 124, lambda row, _: "" if row.launch is None else str(row.launch.registers)),
    ("occupancy", 134, lambda row, _: "" if row.launch is None else numbers.percent(row.launch.occupancy)),
    ("copied", 110, lambda row, _: "" if row.moved_bytes is None else numbers.size(row.moved_bytes)),
    ("rate", 140, lambda row, _: _rate(row)),
)

#: Columns that only kernels, and that only copies of a device need.
_OF_KERNELS, _OF_COPIES = {"grid × block", "registers", "occupancy"}, {"copied", "rate"}


def _launched(row: Operation) -> str:
    """Return grid and block of a kernel, without dimensions of 1: ``196 × 1024``."""
    if row.launch is None:
        return ""
    return " × ".join(
        ",".join(map(str, size[: max((k + 1 for k, n in enumerate(size) if n > 1), default=1)]))
        for size in (row.launch.grid, row.launch.block)
    )


def _rate(row: Operation) -> str:
    """Return the bytes per second of a copy, in the decimal multiples that its devices are specified in."""
    return "" if row.moved_bytes is None or not row.seconds else f"{row.moved_bytes / row.seconds * 1e-9:.3g} GB/s"


#: Maximum number of operations shown.
_MOST = 40
