"""`copycost run`: measure cases."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from copycost.analysis.overview import overview
from copycost.cases import images
from copycost.cases.case import Case
from copycost.cases.profiles import PROFILES
from copycost.cli.options import (
    INTERRUPTED,
    FilePath,
    Seconds,
    check_writable,
    choose,
    errors,
    install_interrupt_handlers,
    new_folder,
    printable,
    selection_options,
    write_json,
)
from copycost.engine.session import Plan, Session
from copycost.machine import devices, environment
from copycost.model.measurement import Measurement
from copycost.report.terminal import show as show_answer
from copycost.report.terminal import show_skipped
from copycost.results import store
from copycost.stats.intervals import ROUNDS


@click.command()
@selection_options
@click.option("--image", type=FilePath(), metavar="PATH", help="Your own image, or a folder of them.")
@click.option("--threads", type=click.IntRange(1, 4096), metavar="N", help="For every runtime.  [default: all CPUs]")
@click.option(
    "--blocks",
    type=click.IntRange(0, 100),
    metavar="N",
    help="Fresh processes that each case is timed in, however long it takes; 0: nothing is timed.  "
    "[default: the profile's, in its budget]",
)
@click.option(
    "--budget",
    type=Seconds(),
    metavar="SECONDS",
    help="Time for timing the whole run.  [default: the profile's]",
)
@click.option(
    "--timeout",
    type=Seconds(),
    metavar="SECONDS",
    help="Time that one case may take.  [default: 60, and more for large batches]",
)
@click.option("--resume", is_flag=True, help="Complete the run in --out.")
@click.option("--out", type=FilePath(), metavar="DIR", help="Where to write the run.  [default: reports/<time>]")
@click.option(
    "--json", "json_file", type=FilePath(), metavar="FILE", help="Also write one JSON document; - for standard output."
)
@click.pass_context
@errors
def run(ctx: click.Context, **options: Any) -> None:
    """Measure: truth, allocations and time of every case. Ends with the answer; `copycost show` has every case.

    --recipe, --variant and --device choose by name or glob; --batch, --size, --dtype and --layout give that axis the
    values named in place of the profile's. All can be repeated.

    Exit status: 0 finished; 1 a case failed, crashed, timed out or was wrong without being known for it; 2 usage.
    """  # fmt: skip
    folder = _folder(options["out"], options["resume"])
    check_writable(str(folder), folder=True)
    # All that can be wrong is found before anything is written.
    if options["resume"]:
        begun_in, settings = store.begun(folder)
        prepared = _prepare(_resumed(ctx, folder, settings, options))
        changed = environment.difference(begun_in, prepared.taken_in)
        if changed:
            raise store.RunError(f"{folder} cannot be completed here: {changed}")
    else:
        prepared = _prepare(options)
    with store.Run(folder, options["resume"]) as writing:
        if not options["resume"]:
            writing.begin(prepared.taken_in, prepared.settings, len(prepared.chosen))
        measured = {store.key(m) for m in writing.measurements}
        left = [case for case in prepared.chosen if case.key not in measured]
        interrupted = _measure(writing, left, prepared)
        if options["json_file"] is not None:
            write_json(options["json_file"], writing.document())
        _conclude(Console(stderr=options["json_file"] == "-"), writing, prepared, folder)
    if interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(1 if any(m.unexpected for m in writing.measurements) else 0)


@dataclass(frozen=True)
class _Prepared:
    """A run that can begin."""

    chosen: list[Case]
    plan: Plan
    photographs: images.Photographs
    taken_in: dict[str, Any]
    settings: dict[str, Any]

    def lacks_device(self, of: Case | Measurement) -> bool:
        """Whether a case is for a kind of device that this machine does not have."""
        return of.device == "gpu" and self.plan.no_gpu is not None

    @property
    def total(self) -> int:
        """The number of cases of the devices that are here."""
        return sum(not self.lacks_device(case) for case in self.chosen)


def _prepare(options: dict[str, Any]) -> _Prepared:
    """Look at everything that was asked for; raises what `errors` turns into a line."""
    photographs = images.read(Path(options["image"]) if options["image"] else None)
    chosen = choose(options)
    check_writable(options["json_file"])
    threads = options["threads"] or devices.cpus()
    taken_in = environment.capture(threads, photographs.name, photographs.sha256)
    profile = PROFILES[options["profile"]]
    blocks = profile.blocks if options["blocks"] is None else options["blocks"]
    budget = options["budget"] or (profile.budget if options["blocks"] is None else math.inf)
    plan = Plan(threads, blocks, budget, options["timeout"], taken_in["no_gpu"])
    settings = {name: value for name, value in options.items() if name not in _NOT_SETTINGS}
    # What is written in a run names files, and no folder of the machine that it was taken on.
    settings["image"] = photographs.name if options["image"] else None
    settings["with_files"] = _digests(options["with_files"])
    return _Prepared(chosen, plan, photographs, taken_in, settings)


def _digests(files: Sequence[str]) -> dict[str, str]:
    """Name → SHA-256 of each file."""
    return {Path(file).name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files}


#: Options that say where a run goes, and not what it is.
_NOT_SETTINGS = ("resume", "out", "json_file")


def _folder(out: str | None, resume: bool) -> Path:
    if out is None:
        if resume:
            raise store.RunError("--resume needs --out: which run?")
        return new_folder()
    return Path(out)


def _resumed(ctx: click.Context, folder: Path, settings: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options of the run that is resumed; one that is given again must be the same."""
    resumed = dict(options)
    for name, held in settings.items():
        if name == "with_files":
            # Only names and digests are kept, so a run with files of the user's has to be given them again.
            if _digests([f for f in options[name] if Path(f).is_file()]) != held:
                raise store.RunError(
                    f"{folder} was begun with --with {' '.join(held) or 'nothing'}: give the same, unchanged"
                )
        elif name == "image":
            if (Path(options[name]).name if options[name] else None) != held:
                raise store.RunError(f"{folder} was begun with --image {held or 'not given'}: give the same")
        elif name in options:
            now = _plain(options[name])
            if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE and now != held:
                raise store.RunError(
                    f"{folder} was begun with {name} {held}: --resume completes it as it was, not with {now}"
                )
            resumed[name] = [tuple(v) if isinstance(v, list) else v for v in held] if isinstance(held, list) else held
    return resumed


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def _measure(writing: store.Run, left: Sequence[Case], prepared: _Prepared) -> bool:
    """Measure what is left, a progress bar on standard error; whether it was interrupted."""
    plan, total = prepared.plan, prepared.total
    console = Console(stderr=True)
    steps_of_case = 2 + plan.blocks * ROUNDS
    # Every case from the start: other threads count them. Those that no device is here for are not counted.
    steps = {case.key: 0 for case in left if not prepared.lacks_device(case)}
    before = total - len(steps)
    begun = time.monotonic()
    install_interrupt_handlers()
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("starting", total=total, completed=before)

        def moved(case: Case | None, doing: str) -> None:
            done = before + sum(min(n, steps_of_case) for n in steps.values()) / steps_of_case
            description = f"{doing} {case.label()}" if case else doing
            progress.update(bar, completed=int(done), description=description[: max(10, console.width - 44)])

        def on_case(case: Case, doing: str) -> None:
            steps[case.key] += 1
            moved(case, doing)

        with Session(plan, prepared.photographs, on_case) as session:
            title = ""
            try:
                moved(None, "importing")
                for measurement in session.measure(left):
                    writing.add(measurement)
                    if prepared.lacks_device(measurement):
                        continue
                    steps[store.key(measurement)] = steps_of_case
                    moved(None, "measured")
                    if not console.is_terminal and title != measurement.group_title():
                        # No bar moves in a log: a line as each group gives its first measurement.
                        title = measurement.group_title()
                        at = f"{_counted(writing, prepared):4} of {total} cases, {time.monotonic() - begun:4.0f} s"
                        print(f"{at}: {title}", file=sys.stderr, flush=True)
            except KeyboardInterrupt:
                writing.finish(session.time_account.seconds, finished=False)
                return True
            writing.finish(session.time_account.seconds, finished=True)
    return False


def _counted(writing: store.Run, prepared: _Prepared) -> int:
    """How many cases have their measurement, without those that no device is here for."""
    return sum(not prepared.lacks_device(m) for m in writing.measurements)


def _conclude(console: Console, writing: store.Run, prepared: _Prepared, folder: Path) -> None:
    """Print where the time went, what was skipped, the answer, and how to see every case."""
    measured = writing.measurements
    spent = writing.environment["spent_seconds"]
    wall = sum(spent.values())
    ran = sum(m.status != "skipped" for m in measured)
    parts = [f"{what} {seconds:.1f} s" for what, seconds in spent.items() if seconds >= 0.05]
    console.print(Text(f"{wall:.1f} s{': ' if parts else ''}{', '.join(parts)}.", style="dim"))
    if ran:
        overhead = (wall - spent["timed calls"]) / ran
        console.print(
            Text(
                f"{overhead:.2f} s of everything but timed calls for each of {ran} measured cases.",
                style="dim",
            )
        )
    show_skipped(console, measured)
    console.print()
    show_answer(console, overview(measured))
    counted = _counted(writing, prepared)
    console.print()
    if len(measured) < len(prepared.chosen):
        console.print(
            Text(f"Stopped with {counted} of {prepared.total} cases measured. ")
            + Text(f"Go on: copycost run --resume --out {folder}")
        )
    # To be copied: in a line of its own where the terminal is too narrow, and never broken.
    command = f"copycost show {shlex.quote(printable(folder))}"
    line = f"Every case: {command}"
    console.print(line if len(line) <= console.width else command, soft_wrap=True, highlight=False, markup=False)


def parsed(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse options of `copycost run` without running it.

    Returns
    -------
    options, given : dict
        All options by name, and those that `words` gives.

    Raises
    ------
    ValueError
        For an option that does not exist, or a value that it does not take.
    """
    try:
        context = run.make_context("run", list(words))
    except click.ClickException as error:
        raise ValueError(error.format_message()) from None
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    }
    return context.params, given
