"""`copycost track`: measure commits with asv."""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from copycost.cli.options import (
    FilePath,
    check_writable,
    errors,
    install_interrupt_handlers,
    printable,
)
from copycost.results import asv_files as history
from copycost.results import load, store
from copycost.tracking import track


@click.command("track", short_help="Measure commits with asv.")
@click.argument("revisions", default="now")
@click.argument("asv_options", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--html",
    "html",
    default="reports/history",
    show_default=True,
    type=FilePath(),
    metavar="DIR",
    help="Folder to publish the pages in.",
)
@errors
def track_(revisions: str, asv_options: tuple[str, ...], html: str) -> None:
    """Measure commits with asv, and publish asv's pages together with the report.

    REVISIONS is passed to `asv run`: a range such as HEAD~3..HEAD, ALL or NEW. The default, now, measures the current
    commit with this interpreter. Arguments after -- are passed to `asv run`: copycost track NEW -- --steps 5

    Exit status: 0 finished; 1 nothing was measured; 2 a case failed or was wrong and is not a known issue, or usage
    error.
    """
    check_writable(html, folder=True)
    if revisions.startswith("-"):  # an option of asv, without revisions before it
        revisions, asv_options = "now", (revisions, *asv_options)
    console, log = Console(stderr=True), Path(".asv", "track.log")
    install_interrupt_handlers()
    if revisions == "now" and track.changed():
        warnings.warn("The working tree has uncommitted changes; results will be recorded for HEAD.", stacklevel=1)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[sessions]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("starting", total=None, sessions="")
        printed_step = ""

        def on_progress(position: float, sessions: int, step: str) -> None:
            nonlocal printed_step
            count = f"{int(position)} of {sessions} sessions" if sessions else ""
            description = step[: max(10, console.width - 48)]
            progress.update(bar, completed=position, total=sessions or None, description=description, sessions=count)
            # A log shows no progress bar: print a line when the activity changes, not for every case.
            if not console.is_terminal and step.lstrip("0123456789") != printed_step:
                printed_step = step.lstrip("0123456789")
                print(f"{count}: {step}".lstrip(": "), file=sys.stderr, flush=True)

        start = time.time()
        status = track.run(revisions, asv_options, log, on_progress)
    if status not in (0, 2):
        raise store.RunError(f"asv exited with status {status}: {track.last_words(log)}; its full output is in {log}")
    try:
        loaded = load.load_all(track.results_folder())
    except store.RunError as error:
        raise store.RunError(f"{error}; asv's output is in {log}") from None
    folder = Path(html)
    track.publish(folder, log)
    from copycost.report import write_html  # matplotlib takes a second to import

    path = write_html(folder, loaded, history="asv/index.html", every_picture=True)
    new = [m for *_, measurements in history.load(track.results_folder(), start) for m in measurements]
    measured = sum(m.status == "ok" for m in new)
    console.print(f"{measured or 'No'} {'case' if measured == 1 else 'cases'} measured", highlight=False)
    for what, why in track.reasons(log).items():
        for reason in why[:8]:
            console.print(Text(f"  {what}: {reason}", style="red" if what == "failed" else "dim"), soft_wrap=True)
        if len(why) > 8:
            console.print(Text(f"  {what}: and {len(why) - 8} more reasons, in {log}"))
    Console().print(
        Text(
            f"Wrote {printable(path)}\n"
            f"To view asv's pages: asv preview --html-dir {printable(folder / 'asv')}"
        ),
        soft_wrap=True,
    )  # fmt: skip
    sys.exit(status or (0 if measured else 1))
