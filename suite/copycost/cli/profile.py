"""`copycost profile`: look into one case."""

from __future__ import annotations

import glob
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from copycost import registry
from copycost.analysis.operations import Operation, operations
from copycost.cases import case, images, selection
from copycost.cases.case import Case
from copycost.cases.profiles import Axes
from copycost.cli.options import (
    FilePath,
    check_writable,
    errors,
    install_interrupt_handlers,
    one_line_message,
    printable,
)
from copycost.engine.session import Plan, Session
from copycost.machine import devices
from copycost.model import naming, numbers
from copycost.model.call_profile import CallProfile
from copycost.model.measurement import Measurement
from copycost.report.trace import trace
from copycost.results import load, store

#: The folder of a run in which its traces are.
TRACES = "profiles"

#: Of a case, where its name does not say it.
_BATCH, _SIZE, _DTYPE = 32, (224, 224), "float32"

_SHAPE = re.compile(r"(?:(\d{1,9})[x×])?(\d{1,9})[x×](\d{1,9})[x×]3")


@click.command("profile")
@click.argument("case", nargs=-1, required=True, metavar="CASE")
@click.option(
    "--with",
    "with_files",
    multiple=True,
    type=FilePath(),
    metavar="FILE",
    help="A Python file with variants of your own.",
)
@click.option("--image", type=FilePath(), metavar="PATH", help="Your own image, or a folder of them.")
@click.option("--threads", type=click.IntRange(1, 4096), metavar="N", help="For every runtime.  [default: all CPUs]")
@click.option(
    "--trace",
    "trace_file",
    type=FilePath(),
    metavar="FILE",
    help="Write the trace there, to be opened in ui.perfetto.dev.",
)
@click.option(
    "--run",
    "run",
    type=FilePath(),
    metavar="RUN",
    help="Keep it in the folder of a run, whose report then leads to it.",
)
@errors
def profile(
    case: tuple[str, ...],
    with_files: tuple[str, ...],
    image: str | None,
    threads: int | None,
    trace_file: str | None,
    run: str | None,
) -> None:
    """Look into one call: time, allocations and bytes by operation, and a trace.

    CASE is named as `copycost list cases` names it: recipe and variant, and where it is not 32×224×224×3 float32 on the
    CPU its shape, dtype, layout or device: copycost profile tf tf-eager 8×224×224×3

    Exit status: 0 finished; 1 the case is skipped, fails or is wrong; 2 usage.
    """
    chosen = named(" ".join(case).split(), with_files)
    photographs = images.read(Path(image) if image else None)
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
        measurement, found = session.profile(chosen)
    if found is None:
        print(f"Error: {one_line_message(f'{chosen.label()}: {measurement.remarks()}')}", file=sys.stderr)
        sys.exit(1)
    show(Console(highlight=False), measurement, found)
    if target is not None:
        document = trace(found, {name: getattr(measurement, name) for name in store.KEY})
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            store.replace(target, json.dumps(document) + "\n")
        except OSError as error:
            raise store.RunError(f"{target} cannot be written to: {error.strerror}") from None
        print(f"The trace is in {printable(target)}: open it in https://ui.perfetto.dev or chrome://tracing")


def named(words: Sequence[str], files: Sequence[str] = ()) -> Case:
    """The one case that the words name.

    Raises
    ------
    CaseError
        Where they name none, or several.
    RegistrationError
        For a file that does not import, or that defines what is there already.
    """
    known = selection.known_with(files)
    axes = Axes((), (_BATCH,), (_SIZE,), (_DTYPE,), ("channels_last",))
    device = "cpu"
    recipes: list[str] = []
    variants: list[str] = []
    for word in words:
        if shape := _SHAPE.fullmatch(word):
            axes = replace(
                axes, batches=(int(shape[1]) if shape[1] else None,), sizes=((int(shape[2]), int(shape[3])),)
            )
        elif re.fullmatch(r"\d+([x×]\d+)+", word):
            raise case.CaseError(f"'{word}' is no shape of images: that is 8×224×224×3, or of one image 224×224×3")
        elif word in registry.DTYPES:
            axes = replace(axes, dtypes=(word,))
        elif word in selection.LAYOUTS:
            axes = replace(axes, layouts=(word,))
        elif word in ("cpu", "gpu"):
            device = word
        elif word in known.recipes and not recipes:
            recipes.append(word)
        else:
            names = [name for recipe, name in known.variants if not recipes or recipe == recipes[0]]
            if word not in names:
                naming.check_name("variant", word, dict.fromkeys([*names, *(name for _, name in known.variants)]))
            variants.append(word)
    if len(recipes) != 1 or len(variants) != 1:
        raise case.CaseError("a case has one recipe and one variant, as in: tf tf-eager 8×224×224×3 float32")
    if (recipes[0], variants[0]) not in known.variants:
        raise case.CaseError(f"recipe '{recipes[0]}' has no variant '{variants[0]}'")
    (found,) = selection.expand(
        replace(axes, recipes=(glob.escape(recipes[0]),)),
        [known.variants[recipes[0], variants[0]]],
        known.recipes,
        only_devices=(device,),
    )
    return found


def show(console: Console, measurement: Measurement, profile: CallProfile) -> None:
    """Print a profile by operation."""
    found = operations(profile)
    console.print(Text(f"{measurement.variant}, {measurement.group_title()}", "bold"))
    several = len({one.where for one in found}) > 1
    columns = [column for column in _COLUMNS if console.width >= column[1] and (several or column[0] != "where")]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("operation", overflow="fold", min_width=20)
    for name, *_ in columns:
        table.add_column(name, justify="left" if name == "where" else "right", no_wrap=True)
    for one in found[:_MOST]:
        table.add_row(Text(one.name), *(cell(one, profile) for *_, cell in columns))
    console.print(table)
    if len(found) > _MOST:
        console.print(Text(f"and {len(found) - _MOST} operations more", "dim"))
    console.print(
        Text(
            f"One call, {numbers.seconds(profile.seconds)} while it was watched by {profile.instrument}: what watching "
            "adds is in it, and `copycost run` measures without. Allocations of 4 KiB and more."
            + (f" –: not known; {profile.missing}." if profile.missing else ""),
            "dim",
        )
    )


#: Heading, the width of terminal from which it is shown, the cell.
_COLUMNS: tuple[tuple[str, int, Callable[[Operation, CallProfile], str]], ...] = (
    ("where", 100, lambda one, _: one.where),
    ("calls", 90, lambda one, _: numbers.count(one.calls)),
    ("time", 0, lambda one, _: numbers.seconds(one.seconds)),
    (
        "of the call",
        80,
        lambda one, profile: numbers.percent(None if one.seconds is None else one.seconds / profile.seconds),
    ),
    ("allocations", 70, lambda one, _: numbers.count(one.allocations)),
    ("allocated", 0, lambda one, _: numbers.size(one.allocated_bytes)),
)

#: Operations that are shown.
_MOST = 40
