"""`copycost report`: write HTML reports and Markdown tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from copycost.analysis import compare as comparison
from copycost.analysis.compare import Side
from copycost.analysis.overview import PLAIN, overview
from copycost.cli.claims import claims_of
from copycost.cli.options import (
    FilePath,
    Word,
    check_writable,
    errors,
    printable,
    write_text,
)
from copycost.cli.profile import TRACES
from copycost.machine import devices
from copycost.model import naming
from copycost.report.comparison import markdown as comparison_markdown
from copycost.report.markdown import markdown
from copycost.results import load, store


@click.command(short_help="Write an HTML or Markdown report of runs.")
@click.argument("runs", nargs=-1, required=True, type=FilePath(), metavar="RUN…")
@click.option(
    "--html",
    "html",
    type=FilePath(),
    metavar="DIR",
    help="Write index.html, its figures and the table of cases to this folder.",
)
@click.option(
    "--markdown",
    "markdown_file",
    type=FilePath(),
    metavar="FILE",
    help="Write a short table: recommendations for one run, a comparison for two; - writes to standard output.",
)
@click.option(
    "--baseline", default=PLAIN, show_default=True, metavar="VARIANT", help="Baseline variant for relative times."
)
@click.option(
    "--pictures",
    type=Word("choice of pictures", ("first", "all")),
    default="first",
    show_default=True,
    help="Draw the figures of each run's first recipe as SVG, or of all recipes as SVG and PNG.",
)
@errors
def report(runs: tuple[str, ...], html: str | None, markdown_file: str | None, baseline: str, pictures: str) -> None:
    """Write an HTML report of runs and claims, or a Markdown table for a pull request.

    RUN is a folder written by `copycost run --out`, a file written by `--json`, a folder with results of asv, or a file
    written by `copycost claims --json`, which becomes the folklore page.
    """
    if html is None and markdown_file is None:
        raise click.UsageError("nothing to write: --html DIR, --markdown FILE, or both")
    check_writable(markdown_file)
    check_writable(html, folder=True)
    claimed = {name: document for name in runs if (document := claims_of(Path(name)))}
    if len(claimed) > 1:
        raise store.RunError(f"{' and '.join(claimed)} all hold claims: expected at most one file of claims per report")
    # No other thread runs in this process yet.
    workers = devices.cpus()
    loaded = [run for name in runs if name not in claimed for run in load.load_all(Path(name), workers)]
    if baseline != PLAIN and not any(m.variant == baseline for *_, measurements in loaded for m in measurements):
        naming.check_name("variant", baseline, {m.variant for *_, measurements in loaded for m in measurements})
    if markdown_file is not None:
        write_text(markdown_file, _markdown(loaded))
    if html is None:
        return
    traces = [path for name in runs for path in sorted(Path(name, TRACES).glob("*.json"))]
    try:
        written = _write_pages(Path(html), loaded, claimed.values(), baseline, traces, pictures == "all")
    except OSError as error:
        raise store.RunError(f"{html} cannot be written to: {error.strerror}") from None
    console = Console(stderr=markdown_file == "-")
    console.print(Text(f"Wrote {' and '.join(map(printable, written))}"), soft_wrap=True)


def _write_pages(
    folder: Path,
    loaded: Sequence[store.Loaded],
    claims: Collection[Mapping[str, Any]],
    baseline: str,
    traces: Sequence[Path],
    every_picture: bool,
) -> list[Path]:
    """Write the page of measurements and the page of claims, as far as there are any, and return their paths."""
    from copycost.report import FOLKLORE, INDEX, write_folklore, write_html  # matplotlib takes a second to import

    written = []
    if loaded:
        folklore = FOLKLORE if claims else None
        written.append(
            write_html(folder, loaded, folklore=folklore, baseline=baseline, traces=traces, every_picture=every_picture)
        )
    for document in claims:
        written.append(write_folklore(folder, document, index=INDEX if loaded else None))
    return written


def _markdown(loaded: Sequence[store.Loaded]) -> str:
    """Return the recommendations of one run, or the comparison of two, as Markdown."""
    if len(loaded) == 1:
        ((name, _, measurements),) = loaded
        return markdown(overview(measurements), name)
    if len(loaded) != 2:
        raise store.RunError(f"--markdown needs one run, or two to compare: got {len(loaded)}")
    base, head = (Side(environment, measurements) for _, environment, measurements in loaded)
    return comparison_markdown(comparison.compare(base, head), f"{loaded[0][0]} → {loaded[1][0]}")
