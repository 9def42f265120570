"""`copycost pipelines`: measure the images per second of input pipelines, from files to batches."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from copycost.cases import images
from copycost.cases.selection import chosen_names
from copycost.cli.options import INTERRUPTED, FilePath, check_writable, errors, install_interrupt_handlers, write_json
from copycost.machine import devices, environment
from copycost.model import numbers
from copycost.studies.pipelines import measure as pipelines
from copycost.studies.pipelines.measure import BASELINE, Pipeline
from copycost.studies.pipelines.ways import WAYS

SCHEMA = 1

#: Heading, minimum terminal width that shows the column, and cell.
_COLUMNS = (
    ("images/s", 0, lambda p: numbers.count(p.images_per_second)),
    ("±95 %", 62, lambda p: _spread(p.images_per_second, p.images_per_second_low, p.images_per_second_high)),
    (f"× {BASELINE}", 0, lambda p: "–" if p.ratio is None else f"{numbers.three(p.ratio)}"),
    ("95 %", 98, lambda p: "" if p.ratio is None else f"{numbers.three(p.ratio_low)} … {numbers.three(p.ratio_high)}"),
    ("first batch", 82, lambda p: numbers.seconds(p.seconds_first)),
    ("allocations/batch", 150, lambda p: numbers.count(p.allocations)),
    ("allocated/batch", 130, lambda p: numbers.size(None if p.allocated_bytes is None else int(p.allocated_bytes))),
    ("peak", 162, lambda p: numbers.size(p.peak_bytes)),
    ("off by", 112, lambda p: "–" if p.levels is None else f"{p.levels:.1f} levels"),
    ("resized", 174, lambda p: p.resize),
)


@click.command("pipelines", short_help="Measure pipelines from JPEG files to batches.")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option(
    "--files",
    "number",
    type=click.IntRange(8, 100_000),
    default=256,
    show_default=True,
    metavar="N",
    help="Number of JPEG files to write and read.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 4096),
    default=32,
    show_default=True,
    metavar="N",
    help="Number of images in a batch.",
)
@click.option(
    "--blocks",
    type=click.IntRange(2, 100),
    default=5,
    show_default=True,
    metavar="N",
    help="Number of fresh processes in which each pipeline is timed.",
)
@click.option(
    "--threads", type=click.IntRange(1, 4096), metavar="N", help="Threads for TensorFlow.  [default: all CPUs]"
)
@click.option("--image", type=FilePath(), metavar="PATH", help="Image, or folder of images, to measure with.")
@click.option(
    "--json",
    "json_file",
    type=FilePath(),
    metavar="FILE",
    help="Also write the results as JSON; - writes to standard output.",
)
@errors
def pipelines_(
    names: tuple[str, ...],
    number: int,
    batch: int,
    blocks: int,
    threads: int | None,
    image: str | None,
    json_file: str | None,
) -> None:
    """Measure input pipelines from JPEG files to batches: a loop, tf.data, Python functions in tf.data, Keras layers.

    NAME selects pipelines by name or glob. The loop is always measured, because it is the baseline. The files are crops
    of a photograph, and are in the page cache when they are read.

    Exit status: 0 finished; 1 a pipeline failed or gave a wrong result; 2 usage error.
    """  # fmt: skip
    chosen = [BASELINE, *chosen_names("pipeline", names, list(WAYS))]
    ways = [WAYS[name] for name in dict.fromkeys(chosen)]
    photographs = images.read(Path(image) if image else None)
    check_writable(json_file)
    threads = threads or devices.cpus()
    taken_in = environment.capture(threads, photographs.name, photographs.sha256)
    install_interrupt_handlers()
    console = Console(stderr=json_file == "-", highlight=False)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        bar = progress.add_task("starting", total=pipelines.steps(len(ways), blocks))

        def on_step(step: str) -> None:
            progress.update(bar, advance=1, description=step[: max(10, progress.console.width - 30)])

        results, interrupted = pipelines.measure(
            ways, photographs, number=number, batch=batch, blocks=blocks, threads=threads, on_step=on_step
        )
    if json_file:
        write_json(
            json_file,
            {"schema": SCHEMA, "environment": taken_in, "pipelines": [result.to_dict() for result in results]},
        )
    show(console, results)
    if interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(1 if any(result.status not in ("ok", "skipped") for result in results) else 0)


def show(console: Console, rows: list[Pipeline]) -> None:
    """Print a table of the pipelines, fastest first, and the reasons for those that were not measured."""
    measured = sorted((p for p in rows if p.images_per_second is not None), key=lambda p: -(p.images_per_second or 0))
    columns = [column for column in _COLUMNS if console.width >= column[1]]
    if measured:
        first = measured[0]
        title = Text(f"{first.images} JPEG files to 224×224×3 float32, in batches of {first.batch}", "bold")
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("pipeline", no_wrap=True)
        for name, *_ in columns:
            table.add_column(name, justify="right", no_wrap=True)
        for p in measured:
            table.add_row(p.name, *(cell(p) for *_, cell in columns), style=None if p.status == "ok" else "red")
        console.print(table)
    for p in rows:
        if p.status != "ok":
            console.print(Text(f"{p.name}: {p.status}, {p.reason}", "dim" if p.status == "skipped" else "red"))
        elif p.reason:
            console.print(Text(f"{p.name}: {p.reason}", "dim"))


def _spread(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return ""
    return f"±{100 * max(high / value - 1, 1 - low / value):.0f} %"
