"""The command `copycost`."""

from __future__ import annotations

import hashlib
import io
import json
import math
import shlex
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from suite import __version__, cases, devices, doctor, environment, format, images, registry, results, tree
from suite.asv import machine, project, track
from suite.asv import results as history
from suite.cases import PROFILES, Case
from suite.claims.command import claims, claims_of
from suite.comparison import compare as comparison
from suite.comparison.command import compare
from suite.comparison.compare import Side
from suite.comparison.show import markdown as comparison_markdown
from suite.engine.block import free_memory
from suite.engine.sampling import ROUNDS
from suite.engine.session import Plan, Session
from suite.gate.command import gate
from suite.measurement import Measurement
from suite.options import (
    INTERRUPTED,
    FilePath,
    Seconds,
    Word,
    check_writable,
    choose,
    end_in_order,
    errors,
    new_folder,
    printable,
    selection,
    told,
    write_json,
    write_text,
)  # fmt: skip
from suite.pipelines.command import pipelines_
from suite.profile.command import TRACES, profile
from suite.report.markdown import markdown
from suite.report.overview import PLAIN, overview
from suite.report.terminal import show as show_answer
from suite.report.terminal import show_skipped
from suite.terminal import print_line

_FAULT = 70  # EX_SOFTWARE of sysexits.h


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="copycost")
def cli() -> None:
    """Measure what it costs to preprocess images, and whether the result is the one you think."""
    registry.load_shipped()


@cli.command()
@selection
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
        begun_in, settings = results.begun(folder)
        prepared = _prepare(_resumed(ctx, folder, settings, options))
        changed = environment.difference(begun_in, prepared.taken_in)
        if changed:
            raise results.RunError(f"{folder} cannot be completed here: {changed}")
    else:
        prepared = _prepare(options)
    with results.Run(folder, options["resume"]) as writing:
        if not options["resume"]:
            writing.begin(prepared.taken_in, prepared.settings, len(prepared.chosen))
        measured = {results.key(m) for m in writing.measurements}
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
            raise results.RunError("--resume needs --out: which run?")
        return new_folder()
    return Path(out)


def _resumed(ctx: click.Context, folder: Path, settings: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options of the run that is resumed; one that is given again must be the same."""
    resumed = dict(options)
    for name, held in settings.items():
        if name == "with_files":
            # Only names and digests are kept, so a run with files of the user's has to be given them again.
            if _digests([f for f in options[name] if Path(f).is_file()]) != held:
                raise results.RunError(
                    f"{folder} was begun with --with {' '.join(held) or 'nothing'}: give the same, unchanged"
                )
        elif name == "image":
            if (Path(options[name]).name if options[name] else None) != held:
                raise results.RunError(f"{folder} was begun with --image {held or 'not given'}: give the same")
        elif name in options:
            now = _plain(options[name])
            if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE and now != held:
                raise results.RunError(
                    f"{folder} was begun with {name} {held}: --resume completes it as it was, not with {now}"
                )
            resumed[name] = [tuple(v) if isinstance(v, list) else v for v in held] if isinstance(held, list) else held
    return resumed


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def _measure(writing: results.Run, left: Sequence[Case], prepared: _Prepared) -> bool:
    """Measure what is left, a progress bar on standard error; whether it was interrupted."""
    plan, total = prepared.plan, prepared.total
    console = Console(stderr=True)
    steps_of_case = 2 + plan.blocks * ROUNDS
    # Every case from the start: other threads count them. Those that no device is here for are not counted.
    steps = {case.key: 0 for case in left if not prepared.lacks_device(case)}
    before = total - len(steps)
    begun = time.monotonic()
    end_in_order()
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
                    steps[results.key(measurement)] = steps_of_case
                    moved(None, "measured")
                    if not console.is_terminal and title != format.group_title(measurement):
                        # No bar moves in a log: a line as each group gives its first measurement.
                        title = format.group_title(measurement)
                        at = f"{_counted(writing, prepared):4} of {total} cases, {time.monotonic() - begun:4.0f} s"
                        print(f"{at}: {title}", file=sys.stderr, flush=True)
            except KeyboardInterrupt:
                writing.finish(session.ledger.seconds, finished=False)
                return True
            writing.finish(session.ledger.seconds, finished=True)
    return False


def _counted(writing: results.Run, prepared: _Prepared) -> int:
    """How many cases have their measurement, without those that no device is here for."""
    return sum(not prepared.lacks_device(m) for m in writing.measurements)


def _conclude(console: Console, writing: results.Run, prepared: _Prepared, folder: Path) -> None:
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


@cli.command("list")
@click.argument("what", type=Word("list", ("recipes", "variants", "devices", "cases")))
@selection
@errors
def list_(what: str, **options: Any) -> None:
    """List recipes, variants, devices or cases; the same options as `run` choose."""
    console = Console()
    if what == "devices":
        found, none = devices.gpus()
        rows: list[tuple[str, ...]] = [
            ("cpu", f"{environment.processor() or 'not told'}, {devices.cpus()} CPUs to use")
        ]
        rows += [(f"gpu:{k}", f"{gpu.name}, driver {gpu.driver}") for k, gpu in enumerate(found)]
        rows += [("gpu", none)] if none else []
        _print_columns(console, ("device", "what it is"), rows, wraps="what it is")
        return
    chosen = choose(options | ({} if what == "cases" or options["recipe"] else {"recipe": ("*",)}))
    if what == "recipes":
        rows = []
        for recipe in dict.fromkeys(case.recipe for case in chosen):
            variants = {case.variant.name for case in chosen if case.recipe == recipe}
            rows.append((recipe.name, str(len(variants)), _source(recipe.source)))
        _print_columns(console, ("recipe", "variants", "defined in"), rows, wraps="recipe", optional=("defined in",))
    elif what == "variants":
        rows = []
        for name in dict.fromkeys(case.variant.name for case in chosen):
            its = [case for case in chosen if case.variant.name == name]
            by = its[0].variant
            of, on = (_unique(names) for names in ((c.recipe.name for c in its), (c.device for c in its)))
            rows.append((name, by.runtime, by.writes, of, on, _source(by.source)))
        headings = ("variant", "runtime", "writes", "recipes", "devices", "defined in")
        _print_columns(console, headings, rows, wraps="recipes", optional=("runtime", "devices", "defined in"))
    else:
        none = devices.gpus()[1]
        free = free_memory()
        for case in chosen:
            reason = cases.skip_reason(case, none, free)
            print_line(console, Text(case.label() + (f"  (skipped: {reason})" if reason else "")))


def _print_columns(
    console: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    wraps: str,
    optional: Sequence[str] = (),
) -> None:
    """Print a table without a broken word: the column `wraps` takes several lines, of `optional` the last go first."""
    columns = {name: [name, *(row[k] for row in rows)] for k, name in enumerate(headings)}
    # Of each column the widest part that cannot be broken, two spaces beside it, and the line between two columns.
    needed = {
        name: 3 + max(cell_len(part) for cell in cells for part in (cell.split() if name == wraps else [cell]))
        for name, cells in columns.items()
    }
    for name in reversed(optional):
        if 1 + sum(map(needed.__getitem__, columns)) > console.width:
            del columns[name]
    shown = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        shown.add_column(name, overflow="fold", no_wrap=name != wraps)
    for row in zip(*(cells[1:] for cells in columns.values()), strict=True):
        shown.add_row(*map(Text, row))
    console.print(shown)


def _unique(words: Any) -> str:
    return ", ".join(dict.fromkeys(words))


def _source(source: str) -> str:
    return Path(source).name if source.endswith(".py") else source


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=FilePath(), metavar="RUN…")
@click.option(
    "--html",
    "html",
    type=FilePath(),
    metavar="DIR",
    help="Write index.html there, its pictures, and the table as files.",
)
@click.option(
    "--markdown",
    "markdown_file",
    type=FilePath(),
    metavar="FILE",
    help="Write a short table: which to take; of two runs, what became of the first. - for standard output.",
)
@click.option(
    "--baseline", default=PLAIN, show_default=True, metavar="VARIANT", help="What the page compares times with."
)
@errors
def report(runs: tuple[str, ...], html: str | None, markdown_file: str | None, baseline: str) -> None:
    """Write pages of runs and claims, or a table for a pull request.

    RUN is a folder of `copycost run --out`, a file of `--json`, a folder of asv's results, or a file of
    `copycost claims --json`, of which the page of folklore is made.
    """
    if html is None and markdown_file is None:
        raise click.UsageError("nothing to write: --html DIR, --markdown FILE, or both")
    check_writable(markdown_file)
    check_writable(html, folder=True)
    claimed = {name: document for name in runs if (document := claims_of(Path(name)))}
    if len(claimed) > 1:
        raise results.RunError(
            f"{' and '.join(claimed)} are claims: one page shows one time that they were looked into"
        )
    loaded = [one for name in runs if name not in claimed for one in results.load_all(Path(name))]
    if baseline != PLAIN and not any(m.variant == baseline for *_, its in loaded for m in its):
        registry.check_name("variant", baseline, {m.variant for *_, its in loaded for m in its})
    if markdown_file is not None:
        write_text(markdown_file, _markdown(loaded))
    if html is None:
        return
    from suite.report import FOLKLORE, INDEX, write_folklore, write_html  # matplotlib takes a second to import

    written = []
    try:
        if loaded:
            traces = [path for name in runs for path in sorted(Path(name, TRACES).glob("*.json"))]
            page = write_html(
                Path(html), loaded, folklore=FOLKLORE if claimed else None, baseline=baseline, traces=traces
            )
            written.append(page)
        for document in claimed.values():
            written.append(write_folklore(Path(html), document, index=INDEX if loaded else None))
    except OSError as error:
        raise results.RunError(f"{html} cannot be written to: {error.strerror}") from None
    console = Console(stderr=markdown_file == "-")
    console.print(Text(f"The report is {' and '.join(map(printable, written))}"), soft_wrap=True)


def _markdown(loaded: Sequence[results.Loaded]) -> str:
    """Of one run which way to take; of two, what became of the first."""
    if len(loaded) == 1:
        ((name, _, measurements),) = loaded
        return markdown(overview(measurements), name)
    if len(loaded) != 2:
        raise results.RunError(f"a table for a pull request is of one run, or of two: there are {len(loaded)}")
    base, head = (Side(environment, measurements) for _, environment, measurements in loaded)
    return comparison_markdown(comparison.compare(base, head), f"{loaded[0][0]} → {loaded[1][0]}")


@cli.command("show")
@click.argument("run", type=FilePath(), metavar="RUN")
@errors
def show_(run: str) -> None:
    """Show a run as a tree: by recipe and batch, each variant with its time and what it allocates."""
    console = Console()
    for name, _, measurements in (loaded := results.load_all(Path(run))):
        if len(loaded) > 1:
            console.print(Text(name, "bold underline"))
        tree.show(console, measurements)


@cli.command("doctor")
def doctor_() -> None:
    """Tell what of this machine makes timings unsteady."""
    console = Console()
    shown = Table(box=box.SIMPLE_HEAD)
    for name in ("", "what", "found", "what to do"):
        shown.add_column(name, overflow="fold")
    findings = doctor.examine()
    for f in findings:
        mark, style = {True: ("✓", "green"), False: ("!", "yellow"), None: ("·", "dim")}[f.good]
        shown.add_row(Text(mark, style), f.what, Text(f.value), Text(f.advice if f.good is False else ""))
    console.print(shown)
    unsteady = sum(f.good is False for f in findings)
    console.print("Nothing found that makes timings unsteady." if not unsteady else f"{unsteady} to look at.")


@cli.command("machine")
@click.option("--name", metavar="NAME", help="What to call it.  [default: the record that asv would take]")
@errors
def machine_(name: str | None) -> None:
    """Tell asv what this machine is: the GPU, its driver, CUDA and the CPU's features too."""
    shown = Table(box=box.SIMPLE_HEAD, show_header=False)
    for key, value in machine.record(name).items():
        shown.add_row(key, Text(str(value)))
    Console().print(shown)


@cli.command()
@click.argument("function", metavar="PACKAGE.MODULE:FUNCTION")
@click.option("--recipe", metavar="NAME", help="What it computes: a recipe that ships.")
@click.option("--formula", metavar="EXPRESSION", help="Or your own: NumPy of x, as 'x / 127.5 - 1'.")
@click.option("--runtime", default="numpy", show_default=True, metavar="NAME", help="Whose arrays it is given.")
@click.option(
    "--writes",
    type=Word("writes", registry.WRITES),
    default="new",
    show_default=True,
    metavar="WHERE",
    help="Where its result goes: new; out, given as its second argument; input, over its first.",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=Word("dtype", registry.DTYPES),
    metavar="NAME",
    help="Input dtypes that it is for.  [default: those of the profile]",
)
@errors
def init(
    function: str, recipe: str | None, formula: str | None, runtime: str, writes: str, dtypes: tuple[str, ...]
) -> None:
    """Have asv measure a function of the project here, at every commit.

    Writes asv.conf.json and a file in benchmarks/ into the git repository. Nothing that is there is changed.
    """  # fmt: skip
    if (recipe is None) == (formula is None):
        raise click.UsageError("either --recipe or --formula: what must the function compute?")
    if recipe is not None:
        registry.check_name("recipe", recipe, registry.recipes)
    registry.check_name("runtime", runtime, registry.runtimes())
    watched = project.Watched(function, recipe, formula, runtime, writes, dtypes)
    written = [str(path.relative_to(Path.cwd())) for path in project.write(Path.cwd(), watched)]
    print(f"Wrote {', '.join(written)}.")
    needed = project.requirement()
    if "asv.conf.json" not in written:
        print(f"asv.conf.json was there already: its install_command has to install '{needed}' too.")
    elif "file:" in needed:
        print(f"It installs '{needed}', a place on this machine: others need another in asv.conf.json.")
    print("Commit them, and have git ignore .asv/ and reports/. Then: copycost track ALL, or a range of commits.")


@cli.command("track")
@click.argument("revisions", default="now")
@click.argument("asv_options", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--html",
    "html",
    default="reports/history",
    show_default=True,
    type=FilePath(),
    metavar="DIR",
    help="Where to publish.",
)
@errors
def track_(revisions: str, asv_options: tuple[str, ...], html: str) -> None:
    """Measure commits with asv, and publish its pages and the report together.

    REVISIONS is what `asv run` takes: a range as HEAD~3..HEAD, ALL, NEW. The default, now, is this interpreter and the
    commit that is checked out. What follows -- goes to `asv run`: copycost track NEW -- --steps 5

    Exit status: 0 finished; 1 nothing was measured; 2 a case failed, or was wrong without being known for it; or usage.
    """
    check_writable(html, folder=True)
    if revisions.startswith("-"):  # of asv's options, and no revisions before them
        revisions, asv_options = "now", (revisions, *asv_options)
    console, log = Console(stderr=True), Path(".asv", "track.log")
    end_in_order()
    if revisions == "now" and track.changed():
        warnings.warn("the working tree is not the commit that its figures will be noted for", stacklevel=1)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[sessions]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("starting", total=None, sessions="")
        told = ""

        def moved(done: float, sessions: int, doing: str) -> None:
            nonlocal told
            said = f"{int(done)} of {sessions} sessions" if sessions else ""
            shown = doing[: max(10, console.width - 48)]
            progress.update(bar, completed=done, total=sessions or None, description=shown, sessions=said)
            # No bar moves in a log: a line when it is something else that is done, and not for every case.
            if not console.is_terminal and doing.lstrip("0123456789") != told:
                told = doing.lstrip("0123456789")
                print(f"{said}: {doing}".lstrip(": "), file=sys.stderr, flush=True)

        begun = time.time()
        status = track.run(revisions, asv_options, log, moved)
    if status not in (0, 2):
        raise results.RunError(f"asv ended with {status}: {track.last_words(log)}; all it said is in {log}")
    try:
        loaded = results.load_all(track.results_folder())
    except results.RunError as error:
        raise results.RunError(f"{error}; what asv said is in {log}") from None
    folder = Path(html)
    track.publish(folder, log)
    from suite.report import write_html  # matplotlib takes a second to import

    path = write_html(folder, loaded, history="asv/index.html")
    new = [m for *_, found in history.load(track.results_folder(), begun) for m in found]
    measured = sum(m.status == "ok" for m in new)
    console.print(f"{measured or 'No'} {'case' if measured == 1 else 'cases'} measured", highlight=False)
    for what, why in track.reasons(log).items():
        for reason in why[:8]:
            console.print(Text(f"  {what}: {reason}", style="red" if what == "failed" else "dim"), soft_wrap=True)
        if len(why) > 8:
            console.print(Text(f"  {what}: and {len(why) - 8} more reasons, in {log}"))
    Console().print(
        Text(
            f"The report is {printable(path)}\n"
            f"asv's pages need a server: asv preview --html-dir {printable(folder / 'asv')}"
        ),
        soft_wrap=True,
    )  # fmt: skip
    sys.exit(status or (0 if measured else 1))


def main() -> None:
    """Run the command."""
    warnings.showwarning = lambda message, *_, **__: print(f"Warning: {told(str(message))}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without µ or ± still gets its table
    try:
        status = cli(prog_name="copycost", standalone_mode=False)
    except click.ClickException as error:
        print(f"Error: {told(error.format_message())}", file=sys.stderr)  # one line, and not the usage before it
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):  # before anything is measured, or after
        print("Interrupted.", file=sys.stderr)
        status = INTERRUPTED
    except Exception:  # a fault of ours: 1 would say that something is worse
        traceback.print_exc()
        status = _FAULT
    sys.exit(status if isinstance(status, int) else 0)


cli.add_command(compare)
cli.add_command(gate)
cli.add_command(claims)
cli.add_command(pipelines_)
cli.add_command(profile)
