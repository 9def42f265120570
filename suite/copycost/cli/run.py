"""`copycost run`: measure cases and write a run."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    lock_options,
    new_folder,
    printable,
    selection_options,
    write_json,
)
from copycost.engine.audit_cache import open_cache
from copycost.engine.plan import Plan
from copycost.engine.session import Session
from copycost.machine import devices, environment
from copycost.machine.host_lock import LockError
from copycost.model.measurement import Measurement
from copycost.report.terminal import show as show_answer
from copycost.report.terminal import show_skipped
from copycost.results import store
from copycost.stats.intervals import ROUNDS


@click.command(short_help="Measure cases and print a summary.")
@selection_options
@click.option("--image", type=FilePath(), metavar="PATH", help="Image, or folder of images, to measure with.")
@click.option(
    "--threads", type=click.IntRange(1, 4096), metavar="N", help="Threads for every runtime.  [default: all CPUs]"
)
@click.option(
    "--blocks",
    type=click.IntRange(0, 100),
    metavar="N",
    help="Time every case in up to N fresh processes, without the profile's budget; --budget still applies. "
    "0 disables timing.  "
    "[default: the profile's, within its budget]",
)
@click.option(
    "--budget",
    type=Seconds(),
    metavar="SECONDS",
    help="Time budget for timing all cases.  [default: the profile's]",
)
@click.option(
    "--until-decided",
    is_flag=True,
    help="After the budget, go on timing the fastest variant of a group, the runner-up and the baselines, for up to "
    "four times the budget, until their comparisons are decided.",
)
@click.option(
    "--timeout",
    type=Seconds(),
    metavar="SECONDS",
    help="Time limit for one case.  [default: 60, or more for large batches]",
)
@click.option(
    "--share",
    type=click.Choice(["shipped", "all", "none"]),
    default="shipped",
    show_default=True,
    help="Variants that may share a process, where a runtime is slow to start: those that ship with copycost, all "
    "(trust --with files too), or none. They share it for audits, allocations and, where it changes no time, blocks.",
)
@click.option(
    "--fresh",
    is_flag=True,
    help="Audit and trace every case, instead of reusing the findings of earlier runs with the same code and "
    "environment.",
)
@click.option("--energy", is_flag=True, help="Also measure the energy of a call on a GPU, in a second of each block.")
@lock_options
@click.option("--resume", is_flag=True, help="Complete the unfinished run in --out.")
@click.option("--out", type=FilePath(), metavar="DIR", help="Folder to write the run to.  [default: reports/<time>]")
@click.option(
    "--json",
    "json_file",
    type=FilePath(),
    metavar="FILE",
    help="Also write the run as JSON; - writes to standard output.",
)
@click.pass_context
@errors
def run(ctx: click.Context, **options: Any) -> None:
    """Measure the correctness, allocations and time of every case, and print a summary.

    --recipe, --variant and --device select by name or glob. --batch, --size, --dtype and --layout replace the profile's
    values for that axis. All of them can be repeated. `copycost show` prints every case of a run.

    Exit status: 0 finished; 1 a case failed, crashed, timed out or was wrong, and is not a known issue; 2 usage error.
    """  # fmt: skip
    folder = _folder(options["out"], options["resume"])
    check_writable(str(folder), folder=True)
    # Check everything before writing anything.
    if options["resume"]:
        begun_in, settings = store.begun(folder)
        prepared = _prepare(_resumed(ctx, folder, settings, options))
        changed = environment.difference(begun_in, prepared.taken_in)
        if changed:
            raise store.RunError(f"{folder} cannot be completed in this environment: {changed}")
    else:
        prepared = _prepare(options)
    with store.Run(folder, options["resume"]) as writing:
        if not options["resume"]:
            writing.begin(prepared.taken_in, prepared.settings, len(prepared.chosen))
        measured = {store.key(m) for m in writing.measurements}
        remaining = [case for case in prepared.chosen if case.key not in measured]
        interrupted = _measure(writing, remaining, prepared)
        if options["json_file"] is not None:
            write_json(options["json_file"], writing.document())
        _conclude(Console(stderr=options["json_file"] == "-"), writing, prepared, folder)
    if interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(1 if any(m.unexpected for m in writing.measurements) else 0)


@dataclass(frozen=True)
class _Prepared:
    """A run whose options are checked and that can start."""

    chosen: list[Case]
    plan: Plan
    photographs: images.Photographs
    taken_in: dict[str, Any]
    settings: dict[str, Any]

    def lacks_device(self, of: Case | Measurement) -> bool:
        """Return whether a case needs a kind of device that this machine lacks."""
        return of.device == "gpu" and self.plan.no_gpu is not None

    @property
    def total(self) -> int:
        """Number of cases for the devices of this machine."""
        return sum(not self.lacks_device(case) for case in self.chosen)


def _prepare(options: dict[str, Any]) -> _Prepared:
    """Check all options and return the run that they describe; raise the exceptions that `errors` handles."""
    photographs = images.read(Path(options["image"]) if options["image"] else None)
    chosen = choose(options)
    check_writable(options["json_file"])
    threads = options["threads"] or devices.cpus()
    taken_in = environment.capture(threads, photographs.name, photographs.sha256)
    profile = PROFILES[options["profile"]]
    blocks = profile.blocks if options["blocks"] is None else options["blocks"]
    budget = options["budget"] or (profile.budget if options["blocks"] is None else math.inf)
    plan = Plan(threads, blocks, budget, options["timeout"], taken_in["no_gpu"], options["share"])
    if options["until_decided"] and budget < math.inf:
        longer = _DECIDING_BLOCKS if options["blocks"] is None else blocks
        plan = replace(plan, decide=_UNTIL_DECIDED * budget, blocks=longer)
    plan = replace(plan, energy=options["energy"], wait=options["wait"])
    if not options["fresh"]:
        plan = replace(plan, audits=open_cache(taken_in))
    settings = {name: value for name, value in options.items() if name not in _NOT_SETTINGS}
    # A run records the names of files, but not the folders of the machine that measured it.
    settings["image"] = photographs.name if options["image"] else None
    settings["with_files"] = _digests(options["with_files"])
    return _Prepared(chosen, plan, photographs, taken_in, settings)


def _digests(files: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of each file by its name."""
    return {Path(file).name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files}


#: With --until-decided: seconds beyond the budget, as a multiple of it, and the maximum number of blocks.
_UNTIL_DECIDED, _DECIDING_BLOCKS = 4, 100

#: Options that decide when a run is measured and where it is written, but not its content.
_NOT_SETTINGS = ("resume", "out", "json_file", "wait")


def _folder(out: str | None, resume: bool) -> Path:
    if out is None:
        if resume:
            raise store.RunError("--resume needs --out to name the run")
        return new_folder()
    return Path(out)


def _resumed(ctx: click.Context, folder: Path, settings: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the run to resume; raise RunError for an option given with another value."""
    resumed = dict(options)
    for name, value in settings.items():
        if name == "with_files":
            # A run keeps only names and digests, so the user must pass the same files again.
            if _digests([f for f in options[name] if Path(f).is_file()]) != value:
                raise store.RunError(
                    f"{folder} was started with --with {' '.join(value) or 'nothing'}: pass the same unchanged files"
                )
        elif name == "image":
            if (Path(options[name]).name if options[name] else None) != value:
                raise store.RunError(f"{folder} was started with --image {value or 'not given'}: pass the same image")
        elif name in options:
            now = _plain(options[name])
            if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE and now != value:
                raise store.RunError(f"{folder} was started with {name} {value}: it cannot be resumed with {now}")
            resumed[name] = (
                [tuple(v) if isinstance(v, list) else v for v in value] if isinstance(value, list) else value
            )
    return resumed


def _plain(value: Any) -> Any:
    """Return a value as a round trip through JSON returns it."""
    return json.loads(json.dumps(value))


def _measure(writing: store.Run, remaining: Sequence[Case], prepared: _Prepared) -> bool:
    """Measure the remaining cases with a progress bar on standard error, and return whether it was interrupted."""
    plan, total = prepared.plan, prepared.total
    console = Console(stderr=True)
    steps_of_case = 2 + plan.blocks * ROUNDS
    # Enter every case before measuring, because other threads count them. Cases without a device are not counted.
    steps = {case.key: 0 for case in remaining if not prepared.lacks_device(case)}
    before = total - len(steps)
    start = time.monotonic()
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

        def update(case: Case | None, step: str) -> None:
            position = before + sum(min(n, steps_of_case) for n in steps.values()) / steps_of_case
            description = f"{step} {case.label()}" if case else step
            progress.update(bar, completed=int(position), description=description[: max(10, console.width - 44)])

        def on_case(case: Case, step: str) -> None:
            steps[case.key] += 1
            update(case, step)

        with Session(plan, prepared.photographs, on_case) as session:
            title = ""
            try:
                update(None, "importing")
                for measurement in session.measure(remaining):
                    writing.add(measurement)
                    if prepared.lacks_device(measurement):
                        continue
                    steps[store.key(measurement)] = steps_of_case
                    update(None, "measured")
                    if not console.is_terminal and title != measurement.group_title():
                        # A log shows no progress bar: print a line for the first measurement of each group.
                        title = measurement.group_title()
                        at = f"{_counted(writing, prepared):4} of {total} cases, {time.monotonic() - start:4.0f} s"
                        print(f"{at}: {title}", file=sys.stderr, flush=True)
            except KeyboardInterrupt:
                writing.finish(session.time_account.seconds, finished=False)
                return True
            except LockError as error:
                writing.finish(session.time_account.seconds, finished=False)
                raise LockError(f"{error}. What is measured is kept: --resume --out {writing.folder}") from None
            writing.finish(session.time_account.seconds, finished=True)
    return False


def _counted(writing: store.Run, prepared: _Prepared) -> int:
    """Return the number of measured cases, except those whose device this machine lacks."""
    return sum(not prepared.lacks_device(m) for m in writing.measurements)


def _conclude(console: Console, writing: store.Run, prepared: _Prepared, folder: Path) -> None:
    """Print how the time was spent, what was skipped, the summary, and the command that shows every case."""
    measured = writing.measurements
    seconds_by_phase = writing.environment["spent_seconds"]
    wall = sum(seconds_by_phase.values())
    number_run = sum(m.status != "skipped" for m in measured)
    parts = [f"{what} {seconds:.1f} s" for what, seconds in seconds_by_phase.items() if seconds >= 0.05]
    console.print(Text(f"{wall:.1f} s{': ' if parts else ''}{', '.join(parts)}.", style="dim"))
    if number_run:
        overhead = (wall - seconds_by_phase["timed calls"]) / number_run
        console.print(
            Text(
                f"Overhead per case: {overhead:.2f} s outside timed calls, over {number_run} measured cases.",
                style="dim",
            )
        )
    begun = writing.environment["time"]
    if earlier := sum(m.audited is not None and m.audited < begun for m in measured):
        console.print(
            Text(
                f"Audit and allocations of {earlier} of {number_run} cases are those of earlier runs with the same "
                "code and environment; --fresh makes them anew.",
                style="dim",
            )
        )
    show_skipped(console, measured)
    console.print()
    show_answer(console, overview(measured))
    number_measured = _counted(writing, prepared)
    console.print()
    if len(measured) < len(prepared.chosen):
        console.print(
            Text(f"Stopped with {number_measured} of {prepared.total} cases measured. ")
            + Text(f"To continue: copycost run --resume --out {folder}")
        )
    # Never break the command, so that it can be copied: on a narrow terminal, it gets its own line.
    command = f"copycost show {shlex.quote(printable(folder))}"
    line = f"All cases: {command}"
    console.print(line if len(line) <= console.width else command, soft_wrap=True, highlight=False, markup=False)


def parsed(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse options of `copycost run` without running it.

    Returns
    -------
    options, stated : dict
        All options by name, and those that `words` gives.

    Raises
    ------
    ValueError
        If an option does not exist, or does not accept its value.
    """
    try:
        context = run.make_context("run", list(words))
    except click.ClickException as error:
        raise ValueError(error.format_message()) from None
    stated = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    }
    return context.params, stated
