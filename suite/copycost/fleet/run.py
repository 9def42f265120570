"""Measure the missing cells of a project on the hosts of a Dask cluster, and merge what they return as it comes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from copycost.fleet import canary, journal, plan
from copycost.fleet.canary import Canary
from copycost.fleet.hosts import assign, host_name, machine_class
from copycost.fleet.plan import Cell, Plan
from copycost.fleet.project import Project
from copycost.fleet.task import CellError, Done, Work, measure
from copycost.results import merge_asv
from copycost.results.store import replace
from copycost.tracking import machine
from copycost.tracking.project import ProjectError
from copycost_meter.errors import describe, one_line

if TYPE_CHECKING:
    from distributed import Client, Future

#: Seconds of the comparison of a canary, and those after which it is given up.
_CANARY, _CANARY_TIMEOUT = 10.0, 300.0

#: Seconds between two looks at which hosts there are.
_LOOK = 2.0

#: Seconds without any host after which a fleet gives up, and with hosts of which none may measure.
_ALONE, _ALL_UNFIT = 120.0, 10.0

#: Seconds after which the series of a host that has gone move to others. Dask starts a worker again in a few.
_AWAY = 30.0


@dataclass(frozen=True)
class Host:
    """A worker of the cluster.

    Attributes
    ----------
    name : str
        Under which its results are stored.
    address : str
        Dask's, which changes when the worker is started again.
    machine_class : str
    cpus : int
        Its resource: a timing task takes all of them.
    """

    name: str
    address: str
    machine_class: str
    cpus: int


@dataclass(frozen=True)
class Settings:
    """How a fleet measures.

    Attributes
    ----------
    classes : tuple of str
        Classes of machines that measure. Empty for all.
    exclusive : bool
        Whether a timing task takes all CPUs of its host. Only tests turn it off.
    has_canary : bool
        Whether a host must pass a test before it may time.
    """

    classes: tuple[str, ...] = ()
    exclusive: bool = True
    has_canary: bool = True


@dataclass
class Left:
    """What a fleet has not measured, by class of machine."""

    missing: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    def total(self) -> int:
        """Return the number of cells that have no results."""
        return sum(self.missing.values()) + sum(self.failed.values())


@dataclass(frozen=True)
class _Asked:
    """A task that a host has."""

    cell: Cell
    host: Host
    future: Future


def run(
    project: Project, work: Work, wanted: Sequence[Cell], shards: Mapping[str, Sequence[str]], client: Client,
    settings: Settings, on_event: Callable[[str], None],
) -> Left:  # fmt: skip
    """Measure the missing cells, and return what is left.

    Each class of machines measures every cell. What a host returns is merged into the results, and noted in the
    journal, before it gets another cell, so that a run can be cut at any moment: run it again.

    Parameters
    ----------
    project : Project
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
        If no host can measure.
    """
    fleet = _Fleet(project, work, wanted, shards, client, settings, on_event)
    try:
        while fleet.step():
            pass
    finally:
        fleet.cancel()
    return fleet.left()


class _Fleet:
    """The hosts of a run, and what each of them is asked for."""

    def __init__(
        self, project: Project, work: Work, wanted: Sequence[Cell], shards: Mapping[str, Sequence[str]],
        client: Client, settings: Settings, on_event: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.project, self.work, self.wanted, self.shards = project, work, wanted, shards
        self.client, self.settings, self.on_event = client, settings, on_event
        self.hosts: dict[str, Host] = {}
        self.unfit: dict[str, list[str]] = {}
        self.canaries: dict[str, Canary] = {}
        self.asked: list[_Asked] = []
        self.tried: dict[Cell, set[str]] = {}  # hosts on which a cell has failed in this run
        self.homes: dict[tuple[str, str], str] = {}  # class and series → host
        self.away: dict[str, tuple[Host, float]] = {}  # hosts that have gone, and when
        self.moved: set[tuple[str, str]] = set()  # class and series whose move was noted
        self.looked = 0.0
        self.last_seen = time.monotonic()

    # Hosts

    def look(self) -> None:
        """Find out which hosts there are, and test the new ones."""
        if time.monotonic() < self.looked + _LOOK:
            return
        workers = self.workers()
        known = {host.address for host in self.hosts.values()} | set(self.unfit)
        gone = [name for name, host in self.hosts.items() if host.address not in workers]
        for name in gone:
            self.say({"event": "host", "host": name, "state": "gone"}, f"{name}: gone")
            self.away[name] = self.hosts.pop(name), time.monotonic()
        new = [address for address in workers if address not in known]
        if new:
            for address, answer in self.client.run(_introduce, workers=new, on_error="return").items():
                if isinstance(answer, BaseException):
                    self.on_event(f"{address}: it cannot measure: {one_line(str(answer))}")
                    self.unfit[address] = [str(answer)]
                    continue
                self.add(Host(answer["name"], address, answer["class"], answer["cpus"]))
        if self.hosts:
            self.last_seen = time.monotonic()
        elif time.monotonic() > self.last_seen + (_ALL_UNFIT if workers else _ALONE):
            reasons = "; ".join(dict.fromkeys(reason for own in self.unfit.values() for reason in own))
            why = f"no host may measure: {reasons}" if workers else "there is no host"
            raise ProjectError(f"{why}. Run the command again once there is one")
        self.looked = time.monotonic()

    def workers(self) -> dict[str, Any]:
        """Return the scheduler's workers by their address."""
        if self.client.status == "running":
            with suppress(OSError, RuntimeError, KeyError):  # Dask's errors of a connection derive from OSError
                return dict(self.client.scheduler_info(n_workers=-1)["workers"])
        raise ProjectError("the scheduler has ended: run the command again once there is one")

    def add(self, host: Host) -> None:
        """Add a host, if it may measure."""
        if host.name in self.hosts:
            raise ProjectError(
                f"{host.name} has two workers, which would disturb each other: expected one (dask worker --nworkers 1)"
            )
        if self.settings.classes and host.machine_class not in self.settings.classes:
            self.unfit[host.address] = ["another class"]
            self.on_event(f"{host.name}: it is of another class: {host.machine_class}")
            return
        reasons = [] if self.work.exact or not self.settings.has_canary else self.tested(host)
        entry: dict[str, Any] = {"event": "host", "host": host.name, "class": host.machine_class, "reasons": reasons}
        if host.name in self.canaries:
            entry["canary"] = canary.as_json(self.canaries[host.name])
        if reasons:
            self.unfit[host.address] = reasons
            self.say(entry | {"state": "unfit"}, f"{host.name}: it may not time: {'; '.join(reasons)}")
            return
        self.hosts[host.name] = host
        self.away.pop(host.name, None)
        self.say(entry | {"state": "fit"}, f"{host.name}: ready ({host.machine_class})")

    def tested(self, host: Host) -> list[str]:
        """Return why a host must not time."""
        future = self.client.submit(
            _sing, workers=[host.address], allow_other_workers=False, pure=False, resources={"cpu": host.cpus}
        )
        try:
            found = Canary(**future.result(_CANARY_TIMEOUT))
        except Exception as error:  # whatever keeps it from measuring
            return [f"the test failed: {one_line(str(error))}"]
        speeds = [
            self.canaries[other.name].copy_bytes_per_second
            for other in self.hosts.values()
            if other.machine_class == host.machine_class and other.name in self.canaries
        ]
        self.canaries[host.name] = found
        return canary.unfit(found, speeds)

    # Cells

    def plans(self) -> dict[str, Plan]:
        """Return what is missing, by class of machine."""
        known = plan.classes(self.project)
        by_class: dict[str, set[str]] = {}
        for host in self.hosts.values():
            by_class.setdefault(host.machine_class, set(known.get(host.machine_class, ()))).add(host.name)
        return {
            name: plan.plan(self.project, name, self.wanted, self.shards, hosts) for name, hosts in by_class.items()
        }

    def step(self) -> bool:
        """Give each host what it can take, and wait for an answer; return whether anything is left to do."""
        self.look()
        plans = self.plans()
        self.feed(plans)
        if not self.asked:
            waiting = any(plan.missing for plan in plans.values()) or not self.hosts
            if waiting:
                time.sleep(0.2)
            return waiting and not self.is_stuck(plans)
        self.collect()
        return True

    def is_stuck(self, plans: Mapping[str, Plan]) -> bool:
        """Return whether every missing cell has failed on all hosts that there are."""
        if not self.hosts:
            return False
        return all(
            self.tried.get(cell, set()) >= {host.name for host in self.hosts.values() if host.machine_class == name}
            for name, of in plans.items()
            for cell in of.missing
        )

    def feed(self, plans: Mapping[str, Plan]) -> None:
        """Ask each host for its next cells, the one in one series after another."""
        for name, of in plans.items():
            soon = [host for host, since in self.away.values() if time.monotonic() < since + _AWAY]
            hosts = sorted({host.name for host in (*self.hosts.values(), *soon) if host.machine_class == name})
            if not hosts:
                continue
            served = {**of.served, **{series: home for (its, series), home in self.homes.items() if its == name}}
            homes = assign((cell.series for cell in of.cells), hosts, served)
            self.homes |= {(name, series): home for series, home in homes.items()}
            self.note_moves(name, of, homes)
            asked = {asked.cell for asked in self.asked if asked.host.machine_class == name}
            for cell in of.missing:
                if cell in asked:
                    continue
                host = self.host_of(cell, hosts, homes)
                if host is not None:
                    self.ask(cell, host)

    def note_moves(self, name: str, of: Plan, homes: Mapping[str, str]) -> None:
        """Note each series that another host goes on with: its times before and after are not comparable."""
        for series in dict.fromkeys(cell.series for cell in of.missing):
            before = of.served.get(series)
            if before not in (None, homes[series]) and not self.work.exact and (name, series) not in self.moved:
                self.moved.add((name, series))
                entry = {"event": "break", "series": series, "from": before, "to": homes[series], "time": _now()}
                self.say(entry, f"{series}: {homes[series]} goes on for {before}, with a line of its own")

    def host_of(self, cell: Cell, hosts: Sequence[str], homes: Mapping[str, str]) -> Host | None:
        """Return the host that measures a cell next, or None if it is busy.

        Counts are the same anywhere. Times of one series come from one host, unless it has failed there.
        """
        tried = self.tried.get(cell, set())
        free = [name for name in hosts if name in self.hosts and name not in tried and self.has_room(self.hosts[name])]
        if not self.work.exact and homes[cell.series] not in tried:
            free = [name for name in free if name == homes[cell.series]]
        if not free:
            return None
        return self.hosts[min(free, key=lambda name: sum(asked.host.name == name for asked in self.asked))]

    def has_room(self, host: Host) -> bool:
        """Return whether a host can take another task: those that it can do at a time, and one that waits for them."""
        number = sum(asked.host.name == host.name for asked in self.asked)
        return number < (host.cpus if self.work.exact else 1) + 1

    def ask(self, cell: Cell, host: Host) -> None:
        """Ask a host for a cell."""
        cpus = host.cpus if self.settings.exclusive and not self.work.exact else 1
        future = self.client.submit(
            _measure, self.work, cell.commit, cell.environment, tuple(self.shards[cell.shard]),
            workers=[host.address], allow_other_workers=False, pure=False, retries=0,
            resources={"cpu": cpus} if self.settings.exclusive else {},
            # In the order in which they are asked: times of neighbouring commits are then neighbours in time.
            priority=-len(self.tried.get(cell, ())),
        )  # fmt: skip
        self.asked.append(_Asked(cell, host, future))

    def collect(self) -> None:
        """Wait for a moment, and take the answers that have come."""
        end = time.monotonic() + _LOOK
        while not (answered := [one for one in self.asked if one.future.status != "pending"]):
            if time.monotonic() > end:
                workers = self.workers()
                answered = [one for one in self.asked if one.host.address not in workers]
                break
            time.sleep(0.02)
        for asked in answered:
            self.asked.remove(asked)
            self.take(asked)

    def take(self, asked: _Asked) -> None:
        """Merge what a host has measured, or note that it has failed."""
        cell, host = asked.cell, asked.host
        if asked.future.status != "finished":
            # The worker or the scheduler has ended: it was not the cell.
            self.on_event(f"{cell.label()}: not measured, because {host.name} has gone")
            return
        where = {"event": "cell", **asdict(cell), "host": host.name, "time": _now()}
        done: Done | str = asked.future.result()
        if isinstance(done, str):
            reason = one_line(done)
            self.tried.setdefault(cell, set()).add(host.name)
            self.say(where | {"state": "failed", "reason": reason}, f"{cell.label()}: failed on {host.name}: {reason}")
            return
        self.merge(done)
        entry = where | {"state": "done", "timed": done.timed, "seconds": round(done.seconds, 2)}
        self.say(entry, f"{cell.label()}: {done.seconds:.0f} s on {host.name}")

    def merge(self, done: Done) -> None:
        """Merge asv's files of a cell into the results."""
        results = self.project.results
        with TemporaryDirectory(prefix="copycost-fleet-") as name:
            folder = Path(name)
            for path, text in done.files.items():
                # A host is trusted with its own results only.
                if Path(path).parts[:-1] in ((), (done.host,)) and Path(path).suffix == ".json":
                    (folder / path).parent.mkdir(exist_ok=True)
                    (folder / path).write_text(text)
            own = [path for path in (results / path for path in done.files) if path.is_file()]
            with TemporaryDirectory(prefix="copycost-fleet-") as before:
                for known in own:
                    copy = Path(before) / known.relative_to(results)
                    copy.parent.mkdir(exist_ok=True)
                    copy.write_text(known.read_text())
                merged = merge_asv.merge([folder, Path(before)], newest=True)
        for path, text in merged.texts.items():
            (results / path).parent.mkdir(parents=True, exist_ok=True)
            replace(results / path, text)

    def say(self, entry: Mapping[str, Any], text: str) -> None:
        """Write an entry to the journal, and a line for the user."""
        journal.append(self.project.results, entry)
        self.on_event(text)

    def cancel(self) -> None:
        """Cancel what is asked for. What runs already is not interrupted by Dask, and its answer is dropped."""
        with suppress(Exception):  # there may be no scheduler any more
            self.client.cancel([asked.future for asked in self.asked], force=True)

    def left(self) -> Left:
        """Return what is not measured."""
        plans = self.plans()
        return Left(
            {name: len(of.missing) for name, of in plans.items()}, {name: len(of.failed) for name, of in plans.items()}
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# On a worker


async def _introduce(dask_worker: Any = None) -> dict[str, Any]:
    """Return the name, the class and the CPUs of a host, which it offers as a resource."""
    cpus = int(dask_worker.state.total_resources.get("cpu", 0)) or int(dask_worker.state.nthreads)
    await dask_worker.set_resources(cpu=cpus)
    return {"name": host_name(), "class": machine_class(machine.describe()), "cpus": cpus}


def _sing() -> dict[str, Any]:
    """Test this host in a process of its own."""
    command = [sys.executable, "-m", "copycost.fleet.canary", str(_CANARY)]
    process = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if process.returncode:
        raise RuntimeError(process.stderr.strip().rpartition("\n")[2])
    found: dict[str, Any] = json.loads(process.stdout)
    return found


def _measure(work: Work, commit: str, environment: str, benchmarks: Sequence[str]) -> Done | str:
    """Measure a cell, or return why it cannot be measured: Dask would print a traceback, and try it again."""
    try:
        return measure(work, commit, environment, benchmarks)
    except CellError as error:
        return str(error)
    except Exception as error:  # a full disk, for example
        return describe(error)
