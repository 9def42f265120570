"""`copycost fleet`: measure an asv project on several machines."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from copycost.analysis.compare import TOLERANCE
from copycost.cli.compare import Percent
from copycost.cli.options import (
    FilePath,
    errors,
    install_interrupt_handlers,
    lock_options,
    one_line_message,
    write_json,
)
from copycost.fleet import cluster as clusters
from copycost.fleet import journal, plan, project, roster, run, status
from copycost.fleet.compare import Compared, compare
from copycost.fleet.plan import Cell, Plan
from copycost.fleet.project import Project
from copycost.fleet.task import Work
from copycost.model import numbers
from copycost.model.vocabulary import Verdict
from copycost.tracking.project import ProjectError

#: File with the cluster, if there is one.
_CLUSTER = Path("fleet.toml")

_WHAT = [
    click.argument("revisions"),
    click.option("--environment", "environments", multiple=True, metavar="GLOB",
                 help="Measure only these environments of asv. Can be repeated."),
    click.option("--class", "classes", multiple=True, metavar="TEXT",
                 help="Measure only on machines of this class, as fleet status shows it. Can be repeated."),
    click.option("--shards", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="N",
                 help="Divide the benchmarks into N shards. A class of benchmarks stays together."),
    click.option("--no-parents", is_flag=True, help="Do not add the first parent of each commit."),
    click.option("--exact", is_flag=True,
                 help="Leave out what measures time. Such cells need one CPU, and no quiet machine."),
]  # fmt: skip


def _what(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is measured."""
    for option in reversed(_WHAT):
        function = option(function)
    return function


@dataclass(frozen=True)
class _Wanted:
    """What the options ask for."""

    project: Project
    cells: list[Cell]
    shards: dict[str, tuple[str, ...]]


def _wanted(options: dict[str, Any]) -> _Wanted:
    asked = project.load(Path(), options.get("repository"))
    hashes = project.commits(asked, options["revisions"], not options["no_parents"])
    shards = project.shards(asked, options["shards"], options["exact"])
    cells = plan.cells(asked, hashes, shards, options["environments"])
    if not cells:
        names = ", ".join(asked.environments)
        raise ProjectError(f"no environment is {' or '.join(options['environments'])}: expected one of {names}")
    return _Wanted(asked, cells, shards)


def _plans(wanted: _Wanted, classes: tuple[str, ...]) -> list[Plan]:
    """Return a plan for each class of machines in the results, or one for any machine if there is none."""
    known = plan.classes(wanted.project)
    chosen: dict[str | None, list[str]] = {
        name: hosts for name, hosts in known.items() if not classes or name in classes
    }
    if classes and not chosen:
        raise ProjectError(f"no machine is of class {classes[0]}: expected one of {'; '.join(known) or 'none'}")
    entries = journal.read(wanted.project.results)
    return [
        plan.plan(wanted.project, name, wanted.cells, wanted.shards, hosts, entries)
        for name, hosts in (chosen or {None: []}).items()
    ]


@click.group("fleet", short_help="Measure an asv project on several machines.")
def fleet() -> None:
    """Measure the commits of an asv project on several machines, each of which times one thing at a time.

    What is missing in asv's results is what is measured: run a fleet again to go on, whatever has ended it. See
    docs/how-to/fleet.md.
    """


@fleet.command("plan", short_help="Show which cells are missing.")
@_what
@click.option("--json", "json_file", type=FilePath(), metavar="FILE",
              help="Also write the cells as JSON; - writes to standard output.")  # fmt: skip
@errors
def plan_(**options: Any) -> None:
    """Show which cells are missing in asv's results: commits × environments × shards, for each class of machines.

    REVISIONS is as for `asv run`: a range, ALL, NEW, EXISTING or HEAD. The first parent of each commit is added.

    Exit status: 0 nothing is missing; 1 something is; 2 usage error.
    """
    wanted = _wanted(options)
    plans = _plans(wanted, options["classes"])
    if options["json_file"]:
        write_json(options["json_file"], {"schema": 1, "plans": [_document(of) for of in plans]})
    console = Console(stderr=options["json_file"] == "-", highlight=False)
    for of in plans:
        console.print(Text(of.machine_class or "any machine", "bold"))
        console.print(Text(_counted(of)))
        _show_missing(console, of)
    sys.exit(1 if any(of.missing for of in plans) else 0)


def _document(of: Plan) -> dict[str, Any]:
    return {
        "class": of.machine_class,
        "cells": len(of.cells),
        "missing": [vars(cell) for cell in of.missing],
        "failed": [vars(cell) | {"reason": reason} for cell, reason in of.failed.items()],
    }


def _counted(of: Plan) -> str:
    failed = f", of which {len(of.failed)} failed when they were tried" if of.failed else ""
    return f"{len(of.cells) - len(of.missing)} of {len(of.cells)} cells measured, {len(of.missing)} missing{failed}"


def _show_missing(console: Console, of: Plan) -> None:
    commits = list(dict.fromkeys(cell.commit[:8] for cell in of.missing))
    if commits:
        more = f" and {len(commits) - 8} more" if len(commits) > 8 else ""
        console.print(Text(f"  missing of {len(commits)} commits: {', '.join(commits[:8])}{more}", "dim"))
    for cell, reason in list(of.failed.items())[:8]:
        console.print(Text(f"  {cell.label()}: {one_line_message(reason)}", "red"))


@fleet.command("run", short_help="Measure what is missing.")
@_what
@click.option("--cluster", "cluster_file", type=FilePath(), metavar="FILE",
              help="File with the hosts.  [default: fleet.toml, or else this machine]")  # fmt: skip
@click.option("--repository", metavar="URL",
              help="Address of the repository, if that in asv.conf.json is not one that all hosts reach.")  # fmt: skip
@click.option("--insecure", is_flag=True, help="Allow a scheduler that is reached without encryption.")
@click.option("--no-canary", is_flag=True, help="Let hosts time that were not tested.")
@lock_options
@click.argument("asv_options", nargs=-1, type=click.UNPROCESSED)
@errors
def run_(**options: Any) -> None:
    """Measure the missing cells on the hosts of a cluster, and merge them into asv's results as they come.

    A host is tested before it may time. A timing cell has its host for itself. A series of cells stays on its host.
    Arguments after -- are passed to `asv run`.

    Exit status: 0 everything is measured; 1 cells have failed, or are left; 2 usage error.
    """
    wanted = _wanted(options)
    file = Path(options["cluster_file"]) if options["cluster_file"] else _CLUSTER
    is_given = options["cluster_file"] is not None or file.exists()
    cluster = clusters.read(file) if is_given else clusters.Cluster()
    work = Work(
        wanted.project.configuration, wanted.project.repository, project.packed(wanted.project),
        options["asv_options"], options["exact"], options["wait"],
    )  # fmt: skip
    install_interrupt_handlers()
    # Jobs may wait in a queue for as long as it takes.
    patience = math.inf if cluster.kind == "slurm" else roster.Settings.patience
    is_tested = not (options["no_canary"] or options["exact"])
    settings = roster.Settings(options["classes"], is_tested, options["wait"], patience)
    with clusters.connected(cluster, options["insecure"]) as client:
        print(f"dashboard: {client.dashboard_link}", file=sys.stderr)
        left = run.run(wanted.project, work, wanted.cells, wanted.shards, client, settings, _print)
    for name, number in left.cells.items():
        failed = f", of which {left.failed[name]} have failed" if left.failed[name] else ""
        print(f"{name}: {number} of {len(wanted.cells)} cells missing{failed}")
    sys.exit(1 if any(left.cells.values()) else 0)


def _print(event: str) -> None:
    print(one_line_message(event), file=sys.stderr, flush=True)


@fleet.command("status", short_help="Show the hosts, and what is left.")
@_what
@errors
def status_(**options: Any) -> None:
    """Show the hosts, whether they may time, what they have measured, and what is left of some commits.

    Exit status: 0 nothing is missing; 1 something is; 2 usage error.
    """
    wanted = _wanted(options)
    known = status.hosts(journal.read(wanted.project.results))
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("host", no_wrap=True)
    for name in ("state", "cells", "failed", "s per cell", "copy"):
        table.add_column(name, justify="left" if name == "state" else "right")
    for host in known:
        colour = {"fit": "green", "unfit": "red"}.get(host.state, "dim")
        speed = f"{host.copy_bytes_per_second / 1e9:.1f} GB/s" if host.copy_bytes_per_second else "–"
        seconds = "–" if host.seconds is None else numbers.three(host.seconds)
        table.add_row(Text(host.name), Text(host.state, colour), f"{host.done:,}", f"{host.failed:,}", seconds, speed)
    if known:
        console.print(table)
    for host in known:
        for reason in host.reasons:
            console.print(Text(f"{host.name}: {one_line_message(reason)}", "red"))
    plans = _plans(wanted, options["classes"])
    for of in plans:
        console.print(Text(of.machine_class or "any machine", "bold"))
        own = [host for host in known if host.machine_class == of.machine_class]
        left = status.seconds_left(len(of.missing), own)
        eta = f", about {numbers.seconds(left)} with the hosts of now" if left and of.missing else ""
        console.print(Text(f"{_counted(of)}{eta}"))
        _show_missing(console, of)
    sys.exit(1 if any(of.missing for of in plans) else 0)


@fleet.command("compare", short_help="Compare the times of two commits over hosts.")
@click.argument("base")
@click.argument("head")
@click.option("--tolerance", type=Percent(), metavar="PERCENT", default=str(100 * TOLERANCE), show_default=True,
              help="Ignore changes up to this percentage.")  # fmt: skip
@errors
def compare_(base: str, head: str, tolerance: float) -> None:
    """Compare the times of asv benchmarks at two commits, on each host that has measured both.

    Each host has the ratio of its own times. Three hosts and more have a mean of their ratios, with an interval over
    hosts. Samples of two hosts are never mixed. For copycost's own benchmarks, use copycost compare.

    Exit status: 0 nothing is slower; 1 a benchmark is slower, by the mean or on each of two hosts; 2 usage error.
    """
    known = project.load(Path())
    hashes = [project.commits(known, f"-n 1 {one}", parents=False)[0] for one in (base, head)]
    compared = compare(known, *hashes)
    if not compared:
        raise ProjectError(f"no host has measured a time of both {hashes[0][:8]} and {hashes[1][:8]}")
    console = Console(highlight=False)
    is_slower = False
    for one in compared:
        verdict, ends = _verdict(one, tolerance)
        is_slower |= verdict == Verdict.SLOWER
        style = {Verdict.SLOWER: "red", Verdict.FASTER: "green"}.get(verdict, "dim")
        console.print(Text.assemble((f"{verdict:<7}", style), (one.benchmark, "bold"), f"  {one.environment}  {ends}"))
    sys.exit(1 if is_slower else 0)


def _verdict(one: Compared, tolerance: float) -> tuple[Verdict, str]:
    """Return the verdict on a benchmark, and its ratios in words."""
    if one.value is not None:
        verdict = _word(one.low, one.high, tolerance)
        return verdict, f"{_ratio_text(one.value, one.low, one.high)} over {len(one.hosts)} hosts"
    words = {host.host: _word(host.low, host.high, tolerance) for host in one.hosts}
    texts = [f"{host.host}: {words[host.host]} {_ratio_text(host.value, host.low, host.high)}" for host in one.hosts]
    (first, *others) = set(words.values())
    return Verdict.UNSURE if others else first, ", ".join(texts)


def _word(low: float | None, high: float | None, tolerance: float) -> Verdict:
    if low is None or high is None:
        return Verdict.UNSURE
    if low > 1 + tolerance:
        return Verdict.SLOWER
    if high < 1 / (1 + tolerance):
        return Verdict.FASTER
    return Verdict.SAME if high < 1 + tolerance and low > 1 / (1 + tolerance) else Verdict.UNSURE


def _ratio_text(value: float, low: float | None, high: float | None) -> str:
    interval = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"time × {value:.2f}{interval}"


@fleet.command("worker", short_help="Let this machine measure for a fleet.")
@click.argument("address")
@click.option("--insecure", is_flag=True, help="Allow a scheduler that is reached without encryption.")
@click.argument("dask_options", nargs=-1, type=click.UNPROCESSED)
@errors
def worker_(address: str, insecure: bool, dask_options: tuple[str, ...]) -> None:
    """Start Dask's worker for the scheduler at ADDRESS: one process, with settings under which it disturbs no timing.

    Arguments after -- are passed to `dask worker`, such as the files of a TLS certificate.
    """
    command, variables = clusters.worker_command(address, insecure)
    os.environ.update(variables)
    sys.stdout.flush()
    os.execv(command[0], [*command, *dask_options])
