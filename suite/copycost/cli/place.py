"""`copycost place`: compare preprocessing on the CPU, on the GPU and inside the model."""

from __future__ import annotations

import glob
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from copycost.cases import images, selection
from copycost.cases.case import Case, CaseError
from copycost.cli.options import (
    INTERRUPTED,
    Batch,
    Device,
    FilePath,
    Seconds,
    Size,
    Word,
    check_writable,
    errors,
    install_interrupt_handlers,
    lock_options,
    one_line_message,
    printable,
    write_bytes,
    write_json,
)
from copycost.engine.audit_cache import open_cache
from copycost.engine.plan import Plan
from copycost.machine import devices, environment
from copycost.model import naming, numbers
from copycost.model.vocabulary import DTYPES, DeviceKind
from copycost.registry import Variant
from copycost.report.console import print_line
from copycost.stats.sums import Bounded
from copycost.studies.place import measure
from copycost.studies.place.routes import Inputs, Measured, Place, Route, break_evens, longer, routes

SCHEMA = 1

#: Batches and dtypes that are measured by default: from one image to a usual batch, as decoded and as floats.
_BATCHES, _DTYPES = (1, 8, 32), ("uint8", "float32")

#: Maximum number of blocks of a case.
_BLOCKS = 9

#: Endings of the names of pictures.
_PICTURES = (".svg", ".png", ".pdf")


class _Picture(FilePath):
    """A click type for the file of a picture, whose name says its format."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = super().convert(value, param, ctx)
        if Path(name).suffix.lower() not in _PICTURES:
            self.fail(f"unknown format of a picture '{name}': expected a name that ends in {', '.join(_PICTURES)}")
        return name


@click.command("place", short_help="Compare preprocessing on CPU, GPU and in the model.")
@click.argument("recipe")
@click.option("--variant", "variants", multiple=True, metavar="GLOB", help="Choose only among these variants.")
@click.option("--device", type=Device(), metavar="DEVICE", help="Where the model runs.  [default: the GPU if any]")
@click.option("--batch", "batches", multiple=True, type=Batch(), metavar="N", help="Images in a batch.  [1, 8, 32]")
@click.option("--size", "sizes", multiple=True, type=Size(), metavar="HxW", help="Height and width.  [224x224]")
@click.option(
    "--dtype", "dtypes", multiple=True, type=Word("dtype", DTYPES), metavar="NAME",
    help="Dtype of the images.  [uint8, float32]",
)  # fmt: skip
@click.option(
    "--with", "with_files", multiple=True, type=FilePath(), metavar="FILE",
    help="Python file that defines your own variants and recipes. Can be repeated.",
)  # fmt: skip
@click.option("--image", type=FilePath(), metavar="PATH", help="Image, or folder of images, to measure with.")
@click.option(
    "--threads", type=click.IntRange(1, 4096), metavar="N", help="Threads for every runtime.  [default: all CPUs]"
)
@click.option(
    "--budget", type=Seconds(), metavar="SECONDS", default=60, show_default=True, help="Time for timing all variants."
)
@click.option(
    "--json", "json_file", type=FilePath(), metavar="FILE",
    help="Also write the results as JSON; - writes to standard output.",
)  # fmt: skip
@click.option(
    "--picture", "picture_file", type=_Picture(), metavar="FILE", help="Draw images/s by batch: .svg, .png or .pdf."
)
@lock_options
@errors
def place_(
    recipe: str,
    variants: tuple[str, ...],
    device: str | None,
    batches: tuple[int | str, ...],
    sizes: tuple[tuple[int, int], ...],
    dtypes: tuple[str, ...],
    with_files: tuple[str, ...],
    image: str | None,
    threads: int | None,
    budget: float,
    json_file: str | None,
    picture_file: str | None,
    wait: float | None,
) -> None:
    """Compare preprocessing on the CPU before the model, on the GPU, and inside the model.

    RECIPE is computed on images in the host's memory, until the result is in the memory of the device that the model
    runs on. To a GPU, either the result or the images cross, from pageable or pinned memory. The fastest variant of
    each place is shown. Inside the model, TensorFlow's graph comes before a small convolution: its time is what it adds
    to it.

    --batch, --size and --dtype can be repeated. The break-even batch of the GPU needs several batches.

    Exit status: 0 finished; 1 a case failed or was wrong, and is not a known issue; 2 usage error.
    """  # fmt: skip
    photographs = images.read(Path(image) if image else None)
    known = selection.find_definitions(with_files)
    naming.check_name("recipe", recipe, known.recipes)
    if known.recipes[recipe].makes_inputs:
        raise click.UsageError(f"recipe {recipe} makes its inputs: expected one whose inputs are images")
    threads = threads or devices.cpus()
    taken_in = environment.capture(threads, photographs.name, photographs.sha256)
    lacking: str | None = taken_in["no_gpu"]
    model_on = _model_device(device, lacking)
    no_gpu = lacking or (None if model_on == DeviceKind.GPU else "the model is on the CPU (--device cpu)")
    cases = _cases(recipe, variants, batches, sizes, dtypes, with_files, no_gpu is None)
    inside: Variant | None = known.variants.get((recipe, measure.INSIDE))
    check_writable(json_file)
    check_writable(picture_file)
    plan = Plan(threads, _BLOCKS, budget, None, no_gpu, audits=open_cache(taken_in), wait=wait)
    install_interrupt_handlers()
    console = Console(stderr=json_file == "-", highlight=False)
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True,
    ) as progress:  # fmt: skip
        bar = progress.add_task("starting", total=None)

        def on_step(step: str) -> None:
            progress.update(bar, description=step[: max(10, progress.console.width - 20)])

        measured = measure.measure(cases, inside, plan, photographs, model_on, no_gpu, on_step)
    found = routes(measured)
    if json_file:
        write_json(json_file, _document(taken_in, measured, found))
    _show(console, recipe, measured, found)
    if picture_file:
        from copycost.studies.place import picture  # matplotlib takes long to import

        drawn = picture.draw(found, recipe, _where(model_on))
        write_bytes(picture_file, picture.encoded(drawn, Path(picture_file).suffix.lower().removeprefix(".")))
        print_line(console, Text(f"Picture: {printable(picture_file)}"))
    if measured.interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(1 if any(m.unexpected for m in measured.measurements) else 0)


def _model_device(device: str | None, lacking: str | None) -> DeviceKind:
    """Return the device of the model, by default the GPU if there is one."""
    if device is None:
        return DeviceKind.CPU if lacking else DeviceKind.GPU
    if device not in list(DeviceKind):
        raise click.UsageError(f"unknown device {device}: expected cpu, gpu, or one GPU, e.g. gpu:1")
    if device == DeviceKind.GPU and lacking:
        raise click.UsageError(f"the model cannot run on a GPU: {lacking}")
    return DeviceKind(device)


def _cases(
    recipe: str,
    variants: Sequence[str],
    batches: Sequence[int | str],
    sizes: Sequence[tuple[int, int]],
    dtypes: Sequence[str],
    files: Sequence[str],
    on_gpu: bool,
) -> list[Case]:
    """Return the cases to choose from: on the CPU, and on the GPU those whose arrays are there."""
    cases = selection.select(
        recipes=[glob.escape(recipe)],
        variants=variants,
        devices=[DeviceKind.CPU, DeviceKind.GPU] if on_gpu else [DeviceKind.CPU],
        batches=[None if batch == "none" else int(batch) for batch in batches] or _BATCHES,
        sizes=sizes,
        dtypes=dtypes or _DTYPES,
        files=files,
    )
    cases = [case for case in cases if case.device == DeviceKind.CPU or not case.variant.includes_transfers]
    if not cases:
        raise CaseError("every selected variant takes and returns host arrays: select others with --variant")
    return cases


def _document(taken_in: dict[str, object], measured: Measured, found: Sequence[Route]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "environment": taken_in,
        "model_on": measured.model_on,
        "routes": [asdict(route) for route in found],
        "break_even": [asdict(batch) for batch in break_evens(found)],
        "measurements": [m.to_dict() for m in measured.measurements],
    }


def _where(model_on: DeviceKind) -> str:
    return "the model on the CPU" if model_on == DeviceKind.CPU else "the model on the GPU"


def _show(console: Console, recipe: str, measured: Measured, found: Sequence[Route]) -> None:
    """Print a table for each size and dtype, the break-even batches, and why routes were not measured."""
    for (height, width, dtype), group in groupby(sorted(found, key=_kind), _kind):
        title = f"{recipe}, {height}×{width}×3 {dtype}, {_where(measured.model_on)}"
        console.print(_table(console.width, title, list(group)))
    for even in break_evens(found):
        routes_of = f"{even.height}×{even.width}×3 {even.dtype} from {even.memory} memory"
        text = (
            f"Preprocessing on the GPU is not surely faster at batch {even.largest} ({routes_of})."
            if even.batch is None
            else f"Preprocessing on the GPU is surely faster from batch {even.batch} on ({routes_of})."
        )
        print_line(console, Text(text))
    reasons: dict[tuple[Place, str], list[Route]] = {}
    for route in found:
        if route.reason is not None:
            reasons.setdefault((route.place, route.reason), []).append(route)
    for (place, reason), missing in reasons.items():
        of_place = [route for route in found if route.place == place]
        where = "" if len(missing) == len(of_place) else f" ({', '.join(dict.fromkeys(map(_named, missing)))})"
        line = f"Not measured {place.phrase}{where}: {one_line_message(reason)}"
        print_line(console, Text(line, "dim"))
    print_line(console, Text(
        "Times are for all images of a batch: preprocessing, then the transfer, with 95 % intervals that allow for the "
        "choice of the variant." if measured.model_on == DeviceKind.GPU else
        "Times are for all images of a batch, with 95 % intervals that allow for the choice of the variant.", "dim",
    ))  # fmt: skip


def _named(route: Route) -> str:
    """Return what tells a route from the others of its place."""
    memory = "" if route.memory is None else f", {route.memory}"
    return f"batch {_number(route.inputs)} {route.inputs.dtype}{memory}"


def _kind(route: Route) -> tuple[int, int, str]:
    return route.inputs.height, route.inputs.width, route.inputs.dtype


def _table(width: int, title: str, found: Sequence[Route]) -> Table:
    table = Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD)
    crosses = any(route.memory for route in found)
    columns = [column for column in _COLUMNS if width >= column[1] and (crosses or column[0] not in _CROSSING)]
    table.add_column("batch", justify="right", no_wrap=True)
    table.add_column("preprocessed", no_wrap=True)
    for name, *_ in columns:
        table.add_column(name, justify="left" if name == "variant" else "right", no_wrap=True)
    for inputs, group in groupby(sorted(found, key=_batch), lambda route: route.inputs):
        times = sorted((route for route in group if route.seconds), key=_seconds)
        for number, route in enumerate(times):
            style = "bold" if not number else None
            cells = [Text(cell(route, times[0])) for *_, cell in columns]
            table.add_row(_number(inputs) if not number else "", route.place.phrase, *cells, style=style)
    return table


def _batch(route: Route) -> int:
    return route.inputs.batch or 0


def _seconds(route: Route) -> float:
    return route.seconds.value if route.seconds else float("inf")


def _number(inputs: Inputs) -> str:
    return "none" if inputs.batch is None else str(inputs.batch)


def _time(seconds: Bounded | None) -> str:
    """Return a time; what a model takes longer can be too little to be measured."""
    if seconds is None:
        return "–"
    if seconds.value > 0:
        return numbers.seconds(seconds.value)
    return f"< {numbers.seconds(seconds.high)}" if seconds.high > 0 else "not longer"


def _interval(seconds: Bounded | None) -> str:
    if seconds is None:
        return ""
    return f"{numbers.seconds(max(seconds.low, 0.0))} … {numbers.seconds(max(seconds.high, 0.0))}"


def _rate(route: Route) -> str:
    rate = route.images_per_second
    return "–" if rate is None or rate.value == float("inf") else numbers.count(rate.value)


def _behind(route: Route, fastest: Route) -> str:
    """Return how much longer a route takes than the fastest, with its interval."""
    if route is fastest or route.seconds is None or fastest.seconds is None:
        return "–"
    by = longer(route, fastest)
    return "undecided" if by.low <= 0 else f"{numbers.seconds(by.low)} … {numbers.seconds(by.high)}"


#: Columns that only a device with memory of its own needs.
_CROSSING = ("memory", "crossing", "compute", "transfer")

#: Heading, minimum terminal width that shows the column, and cell.
_COLUMNS = (
    ("variant", 72, lambda route, _: route.variant or measure.INSIDE),
    ("memory", 84, lambda route, _: route.memory or "–"),
    ("crossing", 120, lambda route, _: numbers.size(route.moved_bytes)),
    ("compute", 146, lambda route, _: _time(route.compute)),
    ("transfer", 158, lambda route, _: _time(route.transfer)),
    ("time", 0, lambda route, _: _time(route.seconds)),
    ("95 %", 104, lambda route, _: _interval(route.seconds)),
    ("images/s", 52, lambda route, _: _rate(route)),
    ("slower by", 132, _behind),
)
