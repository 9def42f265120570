"""`copycost bisect`: find the commit or the release from which on a function requests more memory."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from copycost.analysis.compare import TOLERANCE
from copycost.cli.options import FilePath, Seconds, check_writable, errors, install_interrupt_handlers, write_json
from copycost.engine.plan import Plan
from copycost.gate import bisect as study
from copycost.gate import commits
from copycost.gate.bisect import Bisected, Look
from copycost.gate.counted import Counted
from copycost.gate.judge import Question
from copycost.machine import devices
from copycost.model import numbers
from copycost.report.console import print_line
from copycost_meter.arguments import EXAMPLE, parse_shape

#: Maximum number of blocks of a judgement. The time is up, or the verdict clear, long before.
_BLOCKS = 10_000

#: Maximum number of requests that are shown of the first bad step.
_MOST_LINES = 3


@click.command("bisect", short_help="Find the commit or release from which on a function requests more memory.")
@click.argument("good")
@click.argument("bad")
@click.argument("function")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SHAPE:DTYPE",
    help=f"Shape and dtype of an argument, e.g. {EXAMPLE}, the default. Can be repeated.",
)
@click.option(
    "--inputs", "maker", metavar="TARGET", help="Function of a numpy.random.Generator that returns the arguments."
)
@click.option(
    "--needs",
    multiple=True,
    metavar="REQUIREMENT",
    help="Further requirement of the function, for releases. Can be repeated.",
)
@click.option(
    "--time",
    "timed",
    is_flag=True,
    help="Find the commit from which on the function is slower, by the paired test of copycost judge.",
)
@click.option("--budget", type=Seconds(), default=30, show_default=True, help="With --time: seconds for each commit.")
@click.option("--json", "json_file", type=FilePath(), metavar="FILE",
              help="Also write the looks as JSON; - writes to standard output.")  # fmt: skip
@errors
def bisect_(
    good: str,
    bad: str,
    function: str,
    inputs: tuple[str, ...],
    maker: str | None,
    needs: tuple[str, ...],
    timed: bool,
    budget: float,
    json_file: str | None,
) -> None:
    """Find the commit, or the release of a dependency, from which on a function requests more memory.

    GOOD and BAD are commits, or two releases of one package, such as numpy==1.26.4 and numpy==2.2.0. FUNCTION is
    file.py::function or package.module:function. Counts are exact, so that one look at each step is enough: seven for
    100 commits. A step at which the function cannot be counted is skipped.

    Exit status: 0 found; 1 not found, because BAD is no worse, or cannot be counted; 2 usage error.
    """
    if inputs and maker:
        raise click.UsageError("--input and --inputs cannot both be given: expected shapes, or a function")
    shapes = () if maker else inputs or (EXAMPLE,)
    for shape in shapes:
        parse_shape(shape)
    check_writable(json_file)
    if maker and maker.partition(":")[0].endswith(".py"):
        maker = str(Path(maker).resolve())  # the same arguments at every step, also at those that lack the file
    file, _, name = function.partition(":")
    if file.endswith(".py"):
        # A path from here, so that it names the file of each step.
        function = f"{os.path.relpath(file)}::{name.removeprefix(':')}"
    elif timed:
        raise click.UsageError(f"--time is for functions of files: expected file.py::function, and not {function}")
    counted = Counted(function, tuple(shapes), maker)
    console = Console(stderr=json_file == "-", highlight=False)
    install_interrupt_handlers()

    def show(look: Look) -> None:
        word, style = {True: ("bad", "red"), False: ("good", "green"), None: ("skip", "dim")}[look.is_bad]
        print_line(console, Text.assemble((f"{word:<5}", style), (look.step.title, "bold"), f"  {look.reason}"))

    try:
        if study.is_release(good) or study.is_release(bad):
            if timed:
                raise click.UsageError("--time is for commits: releases are compared by their counts")
            steps = study.release_steps(good, bad)
            found = study.bisect(steps, study.counting_releases(counted, Path().resolve(), needs), show)
        else:
            if needs:
                raise click.UsageError("--needs is for releases: a commit is counted with the installed packages")
            here = Path().resolve()
            repository = commits.root(here).resolve()
            if file.endswith(".py") and not Path(file).resolve().is_relative_to(repository):
                raise click.UsageError(f"{file} is not in the repository {repository}")
            steps = study.commit_steps(repository, good, bad)
            if timed:
                arrays = tuple(map(parse_shape, shapes))
                question = Question(function, function, arrays, maker)
                plan = Plan(devices.cpus(), _BLOCKS, budget, None, devices.gpus()[1])
                with study.judging_commits(repository, steps[0], question, plan, TOLERANCE, here) as judged:
                    found = study.bisect_time(steps, judged, show)
            else:
                with study.counting_commits(repository, counted, here) as counter:
                    found = study.bisect(steps, counter, show)
    except study.NothingToBisect as error:
        print_line(Console(stderr=True, highlight=False), Text(str(error), "bold"))
        sys.exit(1)
    _conclude(console, found)
    if json_file:
        write_json(json_file, _document(found))


def _conclude(console: Console, found: Bisected) -> None:
    """Print the first bad step, what it requests and where."""
    first = found.first_bad
    number = len(found.looks)
    looks = "1 look" if number == 1 else f"{number} looks"
    print_line(console, Text.assemble(("first bad: ", "bold red"), (first.step.title, "bold"), f"  ({looks})"))
    print_line(console, Text(f"  {found.last_good.reason} → {first.reason}"))
    for nbytes, origin in (first.found.lines if first.found else ())[:_MOST_LINES]:
        print_line(console, Text(f"  {numbers.size(nbytes)}  {origin}", "dim"))
    if found.skipped:
        names = ", ".join(step.title for step in found.skipped[:5]) + " …" * (len(found.skipped) > 5)
        print_line(console, Text(f"  or one of those that cannot be counted: {names}", "yellow"))


def _document(found: Bisected) -> dict[str, Any]:
    def look(one: Look) -> dict[str, Any]:
        count = asdict(one.found) if one.found else None
        return {"step": one.step.name, "title": one.step.title, "is_bad": one.is_bad, "count": count,
                "reason": one.reason}  # fmt: skip

    return {
        "schema": 1,
        "first_bad": look(found.first_bad),
        "last_good": look(found.last_good),
        "skipped": [step.name for step in found.skipped],
        "looks": [look(one) for one in (found.good, found.bad, *found.looks)],
    }
