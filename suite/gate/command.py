"""`copycost gate`: is what is checked out worse than another commit?"""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from suite import cases, devices, environment, images, results
from suite.comparison.command import check_outputs, conclude, verdict_options
from suite.comparison.compare import Side, compare
from suite.engine.session import Plan
from suite.gate import gate as measuring
from suite.gate import repository
from suite.gate.repository import Commit
from suite.measurement import Measurement
from suite.options import Seconds, errors, selection

_INTERRUPTED = 130

#: More blocks than there is ever time for: the answer or the budget ends them.
_BLOCKS = 10_000


@click.command()
@click.option("--base", required=True, metavar="REF", help="The commit to compare with, as main or HEAD~1.")
@selection
@click.option(
    "--budget",
    type=Seconds(),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="For measuring; less is used where the answer is clear before.",
)
@click.option("--exact", is_flag=True, help="Decide only what needs no clock: results, inputs, allocations.")
@click.option("--image", metavar="PATH", help="Your own image, or a folder of them.")
@click.option("--threads", type=click.IntRange(1, 4096), metavar="N", help="For every runtime.  [default: all CPUs]")
@click.option("--out", metavar="DIR", help="Where to keep both runs.  [default: reports/<time>-gate]")
@verdict_options
@errors
def gate(**options: Any) -> None:
    """Measure what is checked out and another commit side by side, and give one verdict.

    Variants are defined in the files of --with, or else in those of benchmarks/, each as either commit has it. What is
    exact is decided first: a result that is wrong, an input that is changed, more allocations. If nothing is worse,
    samples of both sides are taken in turn until every case is clear, or the budget is spent.

    Exit status: 0 no worse; 1 something is worse; 3 something could not be told, with --strict; 2 usage.
    """  # fmt: skip
    check_outputs(options)
    top = repository.root(Path())
    axes = cases.axes_of(
        options["profile"],
        batches=[None if batch == "none" else batch for batch in options["batch"]],
        sizes=options["size"],
        dtypes=options["dtype"],
        layouts=options["layout"],
    )
    photographs = images.read(Path(options["image"]) if options["image"] else None)
    files = _files(top, options["with_files"])
    folder = _folder(options["out"])
    if repository.same_tree(top, options["base"]):
        print(f"no worse: what is checked out is {options['base']}, file by file", file=sys.stderr)
        return
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=True)
    begun = time.monotonic()
    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), console=console,
        transient=True, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        bar = progress.add_task("checking out", total=1.0)
        with repository.checked_out(top, options["base"]) as (base, head):
            given = _placed(top, files, base, head)
            progress.update(bar, description="reading what there is to measure")
            chosen = measuring.choose(
                base, head, given, axes, top,
                recipes=options["recipe"], variants=options["variant"], devices=options["device"],
            )  # fmt: skip
            threads = options["threads"] or devices.cpus()
            taken_in = environment.capture(threads, photographs.name, photographs.sha256)
            blocks = 0 if options["exact"] else _BLOCKS
            plan = Plan(threads, blocks, options["budget"], None, taken_in["no_gpu"])

            def on_case(doing: str, done: float) -> None:
                progress.update(bar, description=doing[: max(10, console.width - 50)], completed=done)

            measured = measuring.measure(chosen, plan, photographs, options["tolerance"], on_case)
    taken_in["session"] = uuid.uuid4().hex
    sides = []
    for commit, its in ((base, measured.base), (head, measured.head)):
        told = taken_in | {"commit": commit.commit, "changed": commit.changed}
        _keep(folder / commit.name, told, options, its)
        sides.append(Side(told, its))
    comparison = measuring.with_unmatched(compare(*sides, tolerance=options["tolerance"]), chosen)
    took = time.monotonic() - begun
    lines = [f"base {base.title}", f"head {head.title}{' and uncommitted changes' if head.changed else ''}"]
    lines.append(f"{took:.0f} s, {_WHY[measured.stopped_by]}; kept in {folder}")
    more = {
        "base": {"commit": base.commit, "title": base.title},
        "head": {"commit": head.commit, "title": head.title, "changed": head.changed},
        "seconds": round(took, 2), "stopped_by": measured.stopped_by,
    }  # fmt: skip
    try:
        conclude(comparison, options, [*measured.base, *measured.head], lines, more)
    finally:
        if measured.stopped_by == "interrupted":
            sys.exit(_INTERRUPTED)


_WHY = {
    "exact": "not timed, as what is exact is worse",
    "clear": "stopped as every case was clear",
    "budget": "stopped by the budget",
    "interrupted": "stopped by you",
    "untimed": "not timed",
}


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _files(top: Path, given: tuple[str, ...]) -> list[Path]:
    """Absolute paths of the files that define what is measured."""
    if given:
        for name in given:
            if not name.endswith(".py"):
                raise results.RunError(f"{name} is not a .py file")
            if not Path(name).is_file():
                raise results.RunError(f"no file {name}")
        return [Path(name).resolve() for name in given]
    found = [path for path in sorted((top / "benchmarks").rglob("*.py")) if _DEFINES.search(path.read_text("utf-8"))]
    if not found:
        raise measuring.NothingToMeasure(
            "no file in benchmarks/ defines a variant: --with names one that does, and copycost init writes one"
        )
    return found


#: What a file has that registers a variant.
_DEFINES = re.compile(r"^\s*@(\w+\.)?variant\(", re.MULTILINE)


def _placed(top: Path, files: list[Path], base: Commit, head: Commit) -> list[str]:
    """The names of files in the folders of both commits; a commit that lacks one is given head's, or what is here."""
    names = []
    for path in files:
        inside = path.is_relative_to(top)
        name = str(path.relative_to(top)) if inside else f"copycost-with/{path.name}"
        for commit in (head, base):
            target = Path(commit.place.folder, name)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                held = Path(head.place.folder, name)
                shutil.copy(held if held.exists() else path, target)
        names.append(name)
    return names


def _folder(out: str | None) -> Path:
    """Where both runs are kept: a new folder, or one that holds none."""
    if out is None:
        name = f"{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}-gate"
        folders = (Path("reports") / f"{name}{suffix}" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
        return next(folder for folder in folders if not folder.exists())
    for side in ("base", "head"):
        if (Path(out) / side / results.ENVIRONMENT).exists():
            raise results.RunError(f"{out} holds a gate's runs: --out names another folder")
    return Path(out)


def _keep(folder: Path, taken_in: dict[str, Any], options: dict[str, Any], measured: list[Measurement]) -> None:
    """Write one side as a run."""
    settings = {"gate": options["base"], "budget": options["budget"], "tolerance": options["tolerance"]}
    with results.Run(folder, resume=False) as writing:
        writing.begin(taken_in, settings, len(measured))
        for m in measured:
            writing.add(m)
        writing.finish({}, finished=True)
