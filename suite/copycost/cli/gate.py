"""`copycost gate`: check that the working tree is not worse than a base commit."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from copycost.analysis.compare import Side, compare
from copycost.cases import images, selection
from copycost.cli.compare import check_outputs, print_verdict_and_exit, verdict_options
from copycost.cli.options import (
    INTERRUPTED,
    FilePath,
    Seconds,
    axes_of,
    check_writable,
    errors,
    given_axes,
    install_interrupt_handlers,
    json_text,
    lock_options,
    new_folder,
    one_line_message,
    printable,
    selection_options,
    write_texts,
)
from copycost.cli.progress import shown_steps
from copycost.engine.plan import Plan
from copycost.gate import commits
from copycost.gate import measure as measuring
from copycost.gate.commits import Commit
from copycost.machine import devices, environment
from copycost.report.comparison import SCHEMA
from copycost.results import store
from copycost.tracking import project

#: More blocks than any budget allows, so that only a decided comparison or the budget ends measuring.
_BLOCKS = 10_000


@click.command(short_help="Compare the working tree with another commit.")
@click.option("--base", required=True, metavar="REF", help="Commit to compare with, e.g. main or HEAD~1.")
@selection_options
@click.option(
    "--budget",
    type=Seconds(),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Time budget. Measuring stops early once every case is decided.",
)
@click.option("--exact", is_flag=True, help="Compare only results, input changes and allocations, and time nothing.")
@click.option("--image", type=FilePath(), metavar="PATH", help="Image, or folder of images, to measure with.")
@click.option(
    "--threads", type=click.IntRange(1, 4096), metavar="N", help="Threads for every runtime.  [default: all CPUs]"
)
@click.option(
    "--out", type=FilePath(), metavar="DIR", help="Folder to keep both runs in.  [default: reports/<time>-gate]"
)
@lock_options
@verdict_options
@errors
def gate(**options: Any) -> None:
    """Measure the working tree (head) and another commit (base) side by side, and give one verdict.

    Variants come from the files given by --with, or else from benchmarks/. Each side uses its own version of these
    files. In copycost's own repository, the variants that ship are compared. Exact figures are compared first: wrong
    results, changed inputs, more allocations. If none is worse, interleaved samples of both sides are timed until every
    case is decided or the budget is spent.

    Exit status: 0 no case is worse; 1 a case is worse; 2 usage error; 3 a case is unsure, with --strict.
    """  # fmt: skip
    check_outputs(options)
    subject = _prepare(options)
    if unchanged := _unchanged(subject, options["base"]):
        _print_unchanged(unchanged, subject, options)
        return
    run_folder = _RunFolder(options)
    install_interrupt_handlers()
    start = time.monotonic()
    outcome = _measure(subject, options, run_folder)
    _conclude(outcome, subject, options, run_folder.folder, time.monotonic() - start)


@dataclass(frozen=True)
class _Subject:
    """What the options name, checked before any work starts.

    Attributes
    ----------
    top : Path
        Root of the repository.
    files : list of Path
        Files that define the variants; empty for the variants that copycost ships.
    photographs : Photographs
    untracked : list of str
        Python files that are not part of head, because git does not track them.
    """

    top: Path
    files: list[Path]
    photographs: images.Photographs
    untracked: list[str]

    @property
    def note(self) -> list[str]:
        """A line about the untracked files, if there are any."""
        if not self.untracked:
            return []
        names = ", ".join(self.untracked[:5]) + " …" * (len(self.untracked) > 5)
        return [f"not part of head, because git does not track them: {names}"]


@dataclass(frozen=True)
class _Outcome:
    """Measurements of base and head, and the cases that they were chosen from."""

    base: Commit
    head: Commit
    chosen: measuring.Chosen
    measured: measuring.Measured
    sides: tuple[Side, Side]


def _prepare(options: dict[str, Any]) -> _Subject:
    top = commits.root(Path())
    selection.check_axes(axes_of(options))
    photographs = images.read(Path(options["image"]) if options["image"] else None)
    files = _files(top, options["with_files"])
    return _Subject(top, files, photographs, commits.untracked(top, files))


def _unchanged(subject: _Subject, base: str) -> str | None:
    """Return the verdict if base and head are identical, so that nothing need be measured; else None."""
    if commits.same_tree(subject.top, base) and not subject.untracked:
        return f"no worse: the working tree is identical to {base}"
    if not subject.files and commits.same_shipped(subject.top, base):
        return f"no worse: recipes and variants are identical to those of {base}"
    return None


def _print_unchanged(verdict: str, subject: _Subject, options: dict[str, Any]) -> None:
    for line in (*subject.note, verdict):
        print(one_line_message(line), file=sys.stderr)
    texts = {}
    if options["json_file"]:
        document = {"schema": SCHEMA, "verdict": "no worse", "exit_status": 0, "rows": []}
        texts[options["json_file"]] = json_text(document)
    if options["markdown_file"]:
        texts[options["markdown_file"]] = f"**{verdict}**\n"
    write_texts(texts)


def _measure(subject: _Subject, options: dict[str, Any], run_folder: _RunFolder) -> _Outcome:
    """Check out base and head, measure the cases that they define, and keep both runs."""
    with shown_steps("checking out") as on_step:
        with commits.checked_out(subject.top, options["base"]) as (base, head):
            names = _copy_missing(subject.top, subject.files, base, head)
            on_step("reading variants", 0.0)
            chosen = measuring.choose(
                base, head, names, options["profile"], given_axes(options),
                recipes=options["recipe"], variants=options["variant"], devices=options["device"],
            )  # fmt: skip
            threads = options["threads"] or devices.cpus()
            captured = environment.capture(threads, subject.photographs.name, subject.photographs.sha256)
            blocks = 0 if options["exact"] else _BLOCKS
            plan = Plan(threads, blocks, options["budget"], None, captured["no_gpu"], wait=options["wait"])
            with run_folder:
                measured = measuring.measure(chosen, plan, subject.photographs, options["tolerance"], on_step)
                sides = _sides(base, head, measured, captured)
                run_folder.write(*sides)
    return _Outcome(base, head, chosen, measured, sides)


def _sides(
    base: Commit, head: Commit, measured: measuring.Measured, captured: dict[str, Any]
) -> tuple[Side, Side]:  # fmt: skip
    """Return both sides with their environments, which name one session."""
    common = captured | {"session": uuid.uuid4().hex}
    libraries = commits.libraries(base) if _is_separate(base) else captured["libraries"]
    return (
        Side(common | {"commit": base.commit, "libraries": libraries}, measured.base),
        Side(common | {"commit": head.commit, "changed": head.changed}, measured.head),
    )


def _is_separate(base: Commit) -> bool:
    """Return whether base is measured by an interpreter of its own, because it requires other libraries than head."""
    return base.place.python != sys.executable


def _conclude(outcome: _Outcome, subject: _Subject, options: dict[str, Any], folder: Path, seconds: float) -> None:
    """Compare the sides, print and write the verdict, and exit with its status."""
    base, head, measured, sides = outcome.base, outcome.head, outcome.measured, outcome.sides
    timed = measured.stopped_by not in ("untimed", "exact")
    comparison = compare(*sides, tolerance=options["tolerance"], timed=timed)
    if not comparison.measured and comparison.verdict != "worse":
        raise measuring.NothingToMeasure(measuring.why_nothing(measured))
    lines = [f"base {base.title}", f"head {head.title}{' and uncommitted changes' if head.changed else ''}"]
    if _is_separate(base):
        lines.append(f"base uses a separate interpreter because it requires other libraries: {_differing(*sides)}")
    lines += subject.note
    lines.append(f"{seconds:.0f} s, {_WHY[measured.stopped_by]}; kept in {printable(folder)}")
    libraries = [side.environment["libraries"] for side in sides]
    fields = {
        "base": {"commit": base.commit, "title": base.title, "libraries": libraries[0]},
        "head": {"commit": head.commit, "title": head.title, "changed": head.changed, "libraries": libraries[1]},
        "seconds": round(seconds, 2),
        "stopped_by": measured.stopped_by,
    }
    comparison = measuring.with_unmatched(comparison, outcome.chosen)
    try:
        print_verdict_and_exit(comparison, options, [*measured.base, *measured.head], lines, fields)
    finally:
        if measured.stopped_by == "interrupted":
            sys.exit(INTERRUPTED)


def _differing(base: Side, head: Side) -> str:
    """Return the libraries whose versions differ between base's and head's interpreters."""
    before, after = (side.environment["libraries"] for side in (base, head))
    names = [name for name in before if before[name] != after.get(name)]
    return ", ".join(f"{name} {before[name]} and {after.get(name, 'none')}" for name in names) or "no version differs"


_WHY = {
    "exact": "not timed, because an exact figure is worse",
    "clear": "stopped because every case was decided",
    "budget": "stopped by the budget",
    "interrupted": "stopped by the user",
    "untimed": "not timed",
}


def _files(top: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the absolute paths of the files that define the variants; empty for the variants that copycost ships."""
    if names:
        for name in names:
            if not name.endswith(".py"):
                raise store.RunError(f"{name} is not a .py file")
            if not Path(name).is_file():
                raise store.RunError(f"no file {name}")
        return [Path(name).resolve() for name in names]
    folder = project.benchmarks(top)
    files = [path for path in sorted(folder.rglob("*.py")) if _DEFINES.search(path.read_text("utf-8", "replace"))]
    if not files and not commits.ships_variants(top):
        raise measuring.NothingToMeasure(
            f"no file in {folder.name}/ defines a variant: name one by --with, or write one with copycost init"
        )
    return files


#: A decorator that registers a variant.
_DEFINES = re.compile(r"^\s*@(\w+\.)?(variant\(|formula\b)", re.MULTILINE)


def _copy_missing(top: Path, files: list[Path], base: Commit, head: Commit) -> dict[str, bool]:
    """Copy missing files into the folders of both commits.

    Return the name of each file within the folders, and whether base lacked it and received head's version.
    """
    names: dict[str, bool] = {}
    for number, path in enumerate(files):
        name = str(path.relative_to(top)) if path.is_relative_to(top) else f"copycost-with/{number}/{path.name}"
        in_head, in_base = (Path(commit.place.folder, name) for commit in (head, base))
        names[name] = not in_base.exists()
        for target, source in ((in_head, path), (in_base, in_head)):
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    return names


class _RunFolder:
    """The folder that keeps both runs, created before measuring and removed if no run was written.

    Parameters
    ----------
    options : dict
        ``out`` names the folder; the default is a new one.

    Raises
    ------
    RunError
        If the folder cannot be written, or already holds runs. Nothing is created until the context is entered.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.folder = Path(options["out"]) if options["out"] else new_folder("-gate")
        self._runs = {side: store.Run(self.folder / side, resume=False) for side in ("base", "head")}
        for run in self._runs.values():
            check_writable(str(run.folder), folder=True)
            if (run.folder / store.ENVIRONMENT).exists():
                raise store.RunError(f"{run.folder} holds a run: choose another folder with --out")

    def __enter__(self) -> _RunFolder:
        folders = [*(run.folder for run in self._runs.values()), self.folder, *self.folder.parents]
        self._new_folders = [folder for folder in folders if not folder.exists()]
        self._has_runs = False
        for run in self._runs.values():
            run.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        for run in self._runs.values():
            run.__exit__(*exception)
        if self._has_runs:
            return
        for folder in self._new_folders:
            if folder.parent == self.folder:
                shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # the folder no longer exists, or is not empty
                folder.rmdir()

    def write(self, base: Side, head: Side) -> None:
        """Write both sides as runs."""
        settings = {name: self.options[name] for name in ("base", "budget", "tolerance", "exact")}
        for run, side in zip(self._runs.values(), (base, head), strict=True):
            run.begin(side.environment, settings, len(side.measurements))
            for m in side.measurements:
                run.add(m)
            run.finish({}, finished=True)
        self._has_runs = True
