"""Measure the missing cells of a project on the hosts of a Dask cluster, and merge what they return as it comes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from copycost.fleet import journal, plan, project
from copycost.fleet.hosts import assign
from copycost.fleet.plan import Cell, Plan
from copycost.fleet.project import Project
from copycost.fleet.roster import LOOK, Host, Roster, Settings
from copycost.fleet.task import CellError, Done, Work, measure
from copycost.results import merge_asv
from copycost.results.asv_files import BENCHMARKS
from copycost.results.store import replace, writing
from copycost_meter.errors import describe, one_line

if TYPE_CHECKING:
    from distributed import Client, Future

#: Number of hosts on which a cell may fail in one run, and of workers that may end while they measure it on one host.
_TRIES, _LOSSES = 2, 2

#: Seconds for a result to come once it is there.
_TRANSFER = 60.0


@dataclass
class Left:
    """What a fleet has not measured, by class of machine.

    Attributes
    ----------
    cells : dict of str to int
        Number of cells without results.
    failed : dict of str to int
        Number of those that have failed in this run.
    """

    cells: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Asked:
    """A task that a host has."""

    cell: Cell
    host: Host
    future: Future


def run(
    known: Project, work: Work, wanted: Sequence[Cell], shards: Mapping[str, Sequence[str]], client: Client,
    settings: Settings, on_event: Callable[[str], None],
) -> Left:  # fmt: skip
    """Measure the missing cells, and return what is left.

    Each class of machines measures every cell. What a host returns is merged into the results, and noted in the
    journal, as it comes, so that a run can be cut at any moment: run it again.

    Parameters
    ----------
    known : Project
    work : Work
    wanted : sequence of Cell
    shards : mapping of str to sequence of str
        Benchmarks of each shard.
    client : distributed.Client
    settings : Settings
    on_event : callable
        Called with one line about a host or a cell.

    Raises
    ------
    ProjectError
        If no host can measure, or the scheduler ends.
    RunError
        If another process writes to the results.
    """
    with writing(known.results):
        merge_asv.merge([known.results], newest=True)  # a file that cannot be read is found before anything is measured
        fleet = _Fleet(known, work, wanted, shards, client, settings, on_event)
        try:
            while fleet.step():
                pass
        finally:
            fleet.end()
        return fleet.left()


class _Fleet:
    """What each host of a run is asked for."""

    def __init__(
        self, known: Project, work: Work, wanted: Sequence[Cell], shards: Mapping[str, Sequence[str]],
        client: Client, settings: Settings, on_event: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.project, self.work, self.wanted, self.shards = known, work, wanted, shards
        self.client, self.settings, self.on_event = client, settings, on_event
        self.roster = Roster(client, settings, self.say)
        self.entries = journal.read(known.results)
        self.asked: list[_Asked] = []
        self.measured: set[tuple[str, Cell]] = set()  # class and cell that were measured in this run
        self.tried: dict[tuple[str, Cell], set[str]] = {}  # class and cell → hosts on which it has failed in this run
        self.losses: Counter[tuple[Cell, str]] = Counter()  # how often a host has ended with a cell
        self.homes: dict[tuple[str, str], str] = {}  # class and series → host that has been asked for it

    def say(self, entry: Mapping[str, Any], text: str) -> None:
        """Write an entry to the journal, and a line for the user."""
        journal.append(self.project.results, entry)
        self.entries.append(dict(entry))
        self.on_event(text)

    def plans(self) -> dict[str, Plan]:
        """Return what is missing, by class of the machines that were seen in this run."""
        stored = plan.classes(self.project)
        plans = {}
        for name, hosts in self.roster.classes.items():
            names = hosts | set(stored.get(name, ()))
            plans[name] = plan.plan(self.project, name, self.wanted, self.shards, names, self.entries)
        return plans

    def missing(self, of: Plan) -> list[Cell]:
        """Return the cells that are still to be measured in this run."""
        return [
            cell for cell in of.missing if (of.machine_class, cell) not in self.measured and not self.is_lost(of, cell)
        ]

    def is_lost(self, of: Plan, cell: Cell) -> bool:
        """Return whether a cell has failed on as many hosts as may try it, or on all that there are."""
        name = str(of.machine_class)
        tried, hosts = self.tried.get((name, cell), set()), set(self.roster.expected(name))
        return len(tried) >= _TRIES or bool(tried and hosts and tried >= hosts and not self.roster.tested)

    def step(self) -> bool:
        """Give each host what it can take, and wait for an answer; return whether anything is left to do."""
        self.roster.look()
        plans = self.plans()
        for of in plans.values():
            self.feed(of)
        if self.asked:
            self.collect()
            return True
        # A class whose hosts have gone is given up after a while, and its cells are left.
        coming = [of for of in plans.values() if self.missing(of) and self.roster.expected(str(of.machine_class))]
        is_going = bool(coming or self.roster.tested or not plans)
        time.sleep(0.2 if is_going else 0)
        return is_going

    def feed(self, of: Plan) -> None:
        """Ask each host of a class for its next cells."""
        name = str(of.machine_class)
        served = of.served | {series: home for (its, series), home in self.homes.items() if its == name}
        hosts = set(self.roster.expected(name))
        if self.roster.is_starting:  # a host that has measured a series may connect in a moment
            hosts |= set(served.values())
        hosts |= set(served.values()) & self.roster.tested
        if not self.roster.expected(name) or (self.roster.is_settling and not self.work.exact):
            return
        homes = assign((cell.series for cell in of.cells), sorted(hosts), served)
        asked = {asked.cell for asked in self.asked if asked.host.machine_class == name}
        for cell in self.missing(of):
            if cell in asked:
                continue
            host = self.host_of(cell, name, homes[cell.series])
            if host is not None:
                self.note_move(cell, of, host)
                self.ask(cell, host, homes[cell.series])

    def host_of(self, cell: Cell, machine_class: str, home: str) -> Host | None:
        """Return the host that measures a cell next, or None if it is busy.

        Counts are the same anywhere. Times of one series come from one host, unless it has failed there.
        """
        tried = self.tried.get((machine_class, cell), set())
        free = [
            host
            for host in self.roster.hosts.values()
            if host.machine_class == machine_class and host.name not in tried and self.has_room(host)
        ]
        if not self.work.exact and home not in tried:
            free = [host for host in free if host.name == home]
        return min(free, key=lambda host: (self.load(host), host.name)) if free else None

    def load(self, host: Host) -> int:
        """Return the number of tasks that a host has."""
        return sum(asked.host.name == host.name for asked in self.asked)

    def has_room(self, host: Host) -> bool:
        """Return whether a host can take another task: those that it can do at a time, and one that waits for them."""
        return self.load(host) < (host.cpus if self.work.exact else 1) + 1

    def note_move(self, cell: Cell, of: Plan, host: Host) -> None:
        """Note that another host goes on with a series: its times before and after are not comparable."""
        before = of.served.get(cell.series)
        is_first = self.homes.get((str(of.machine_class), cell.series)) in (None, before)
        if (
            before not in (None, host.name)
            and is_first
            and not self.work.exact
            and (host.machine_class, cell) not in self.tried
        ):
            entry = {"event": "break", "series": cell.series, "from": before, "to": host.name, "time": _now()}
            self.say(entry, f"{cell.series}: {host.name} goes on for {before}, with a line of its own")

    def ask(self, cell: Cell, host: Host, home: str) -> None:
        """Ask a host for a cell."""
        if host.name == home and not self.work.exact:
            self.homes[host.machine_class, cell.series] = home
        cpus = 1 if self.work.exact else host.cpus
        future = self.client.submit(
            _measure, self.work, cell.commit, cell.environment, tuple(self.shards[cell.shard]),
            workers=[host.address], allow_other_workers=False, pure=False, retries=0,
            resources={"cpu": cpus} if self.settings.is_exclusive else {},
        )  # fmt: skip
        self.asked.append(_Asked(cell, host, future))

    def collect(self) -> None:
        """Wait for a moment, and take the answers that have come."""
        end = time.monotonic() + LOOK
        while not (answered := [one for one in self.asked if one.future.status != "pending"]):
            if time.monotonic() > end:
                workers = self.roster.workers()
                answered = [one for one in self.asked if one.host.address not in workers]
                break
            time.sleep(0.02)
        for asked in answered:
            self.asked.remove(asked)
            self.take(asked)

    def take(self, asked: _Asked) -> None:
        """Merge what a host has measured, or note that it has failed."""
        cell, host, status = asked.cell, asked.host, asked.future.status
        done: Done | str | None = None
        if status == "finished":
            with suppress(Exception):  # its worker, or the scheduler, has ended before the result has come
                done = asked.future.result(timeout=_TRANSFER)
        elif status == "error":
            done = one_line(str(asked.future.exception()))
        if done is None:
            self.losses[cell, host.name] += 1
            if self.losses[cell, host.name] < _LOSSES:
                self.on_event(f"{cell.label()}: not measured, because {host.name} has gone")
                return
            done = f"{host.name} has ended {_LOSSES} times while it measured"
        where = {"event": "cell", **asdict(cell), "host": host.name, "class": host.machine_class, "time": _now()}
        if isinstance(done, str):
            reason = one_line(done)
            self.tried.setdefault((host.machine_class, cell), set()).add(host.name)
            self.say(where | {"state": "failed", "reason": reason}, f"{cell.label()}: failed on {host.name}: {reason}")
            return
        self.merge(done, host)
        self.measured.add((host.machine_class, cell))
        is_home = self.homes.get((host.machine_class, cell.series)) == host.name and not self.work.exact
        entry = where | {
            "state": "done", "timed": done.timed, "seconds": round(done.seconds, 2), "home": is_home,
            # With options for asv, such as --bench, not all of the benchmarks may have been measured.
            "versions": None if self.work.options else project.digest(self.project, self.shards[cell.shard]),
        }  # fmt: skip
        self.say(entry, f"{cell.label()}: {done.seconds:.0f} s on {host.name}")

    def merge(self, done: Done, host: Host) -> None:
        """Merge asv's files of a cell into the results."""
        results = self.project.results
        # Dask runs whatever a worker sends, but a mistake of a host shall not touch the results of another.
        own = {path: text for path, text in done.files.items() if _is_own(path, host.name)}
        with TemporaryDirectory(prefix="copycost-fleet-") as new, TemporaryDirectory(prefix="copycost-fleet-") as old:
            for path, text in own.items():
                _write(Path(new, path), text)
                if (results / path).is_file():
                    _write(Path(old, path), (results / path).read_text())
            merged = merge_asv.merge([Path(new), Path(old)], newest=True)
        for path, text in merged.texts.items():
            (results / path).parent.mkdir(parents=True, exist_ok=True)
            replace(results / path, text)
        listed = done.files.get(BENCHMARKS)
        if listed is not None:
            # The list that asv has just made is newer than the one that is there, as for `asv run`.
            known = json.loads((results / BENCHMARKS).read_text()) if (results / BENCHMARKS).is_file() else {}
            replace(results / BENCHMARKS, json.dumps(known | json.loads(listed), indent=4, sort_keys=True))
            self.project = project.reloaded(self.project)

    def end(self) -> None:
        """Cancel what is asked for. What runs already is not interrupted by Dask, and its answer is dropped."""
        for name in self.roster.hosts:
            journal.append(self.project.results, {"event": "host", "host": name, "state": "gone"})
        with suppress(Exception):  # there may be no scheduler any more
            self.client.cancel([asked.future for asked in self.asked], force=True)

    def left(self) -> Left:
        """Return what is not measured."""
        left = Left()
        plans = self.plans()
        for name in set(self.settings.classes) - set(plans):  # no host of this class has come
            hosts = plan.classes(self.project).get(name, ())
            plans[name] = plan.plan(self.project, name, self.wanted, self.shards, hosts, self.entries)
        for name, of in plans.items():
            cells = [cell for cell in of.missing if (name, cell) not in self.measured]
            left.cells[name] = len(cells)
            left.failed[name] = sum((name, cell) in self.tried for cell in cells)
        return left


def _is_own(path: str, host: str) -> bool:
    """Return whether a path is one of a host's own results."""
    folder, _, name = path.rpartition("/")
    return folder == host and "/" not in name and name.endswith(".json") and not name.startswith(".")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _measure(work: Work, commit: str, environment: str, benchmarks: Sequence[str]) -> Done | str:
    """Measure a cell, or return why it cannot be measured: Dask would print a traceback, and try it again."""
    try:
        return measure(work, commit, environment, benchmarks)
    except CellError as error:
        return str(error)
    except Exception as error:  # a full disk, for example
        return describe(error)
