"""The hosts of a Dask cluster: those that may measure, those that are being tested, and those that have gone."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from copycost.fleet import canary
from copycost.fleet.canary import Canary
from copycost.fleet.hosts import host_name, machine_class
from copycost.fleet.task import host_record, measuring_cpus
from copycost.tracking.project import ProjectError
from copycost_meter.errors import one_line

if TYPE_CHECKING:
    from distributed import Client, Future

#: Seconds between two looks at which hosts there are.
LOOK = 2.0

#: Seconds after which the series of a host that has gone move to others. Dask starts a worker again in a few.
AWAY = 30.0

#: Seconds without a host that may measure after which a fleet gives up, although there are workers.
_ALL_UNFIT = 10.0

#: Seconds of the comparison of a test.
_SECONDS = 10.0

#: Called with an entry of the journal, and a line for the user.
Say = Callable[[Mapping[str, Any], str], None]


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
    is_tested : bool
        Whether a host must pass a test before it may time.
    wait : float or None
        Seconds to wait for the lock of a host while it is tested. None does not take it.
    patience : float
        Seconds without any worker after which the fleet gives up.
    is_exclusive : bool
        Whether a timing task takes all CPUs of its host. A test shows what happens without it.
    """

    classes: tuple[str, ...] = ()
    is_tested: bool = True
    wait: float | None = math.inf
    patience: float = 120.0
    is_exclusive: bool = True


class Roster:
    """The hosts of a cluster, as of the last look.

    Parameters
    ----------
    client : distributed.Client
    settings : Settings
    say : callable
    """

    def __init__(self, client: Client, settings: Settings, say: Say) -> None:
        self.client, self.settings, self.say = client, settings, say
        self.hosts: dict[str, Host] = {}
        self.classes: dict[str, set[str]] = {}  # every host that was seen in this run, by its class
        self._away: dict[str, tuple[Host, float]] = {}  # hosts that have gone, and when
        self._unfit: dict[str, list[str]] = {}  # by address
        self._testing: dict[str, tuple[Host, Future]] = {}  # by address
        self._canaries: dict[str, Canary] = {}
        self._twice: set[str] = set()  # addresses of workers on a host that has another one
        self._looked = 0.0
        self._begin: float | None = None  # when the first worker was there
        self._last_seen = self._last_admitted = time.monotonic()

    @property
    def is_starting(self) -> bool:
        """Whether hosts may not have connected yet that have measured before: for a while after the first one."""
        return self._begin is None or time.monotonic() < self._begin + AWAY

    @property
    def is_settling(self) -> bool:
        """Whether more hosts are about to come, among which series are to be spread."""
        return self.is_starting and bool(self._testing or time.monotonic() < self._last_admitted + LOOK)

    @property
    def tested(self) -> set[str]:
        """Names of the hosts that are being tested."""
        return {host.name for host, _ in self._testing.values()}

    def expected(self, machine_class: str) -> list[str]:
        """Return the names of the hosts of a class, also of those that have gone a moment ago and may come back."""
        soon = [host for host, since in self._away.values() if time.monotonic() < since + AWAY]
        return sorted({host.name for host in (*self.hosts.values(), *soon) if host.machine_class == machine_class})

    def look(self) -> None:
        """Find out which hosts there are, and test the new ones.

        Raises
        ------
        ProjectError
            If the scheduler has ended, or if no host has come for a while.
        """
        self._take_tests()
        if time.monotonic() < self._looked + LOOK:
            return
        workers = self.workers()
        for name in [name for name, host in self.hosts.items() if host.address not in workers]:
            self._away[name] = self.hosts.pop(name), time.monotonic()
            self.say({"event": "host", "host": name, "state": "gone"}, f"{name}: gone")
        for address in [address for address in self._testing if address not in workers]:
            host, _ = self._testing.pop(address)
            self.say({"event": "host", "host": host.name, "state": "gone"}, f"{host.name}: gone")
        known = {host.address for host in self.hosts.values()} | set(self._unfit) | set(self._testing)
        if new := [address for address in workers if address not in known]:
            if self._begin is None:
                self._begin = time.monotonic()
            self._meet(new)
        if self.hosts or self._testing:
            self._last_seen = time.monotonic()
        elif time.monotonic() > self._last_seen + self._patience(bool(workers)):
            reasons = "; ".join(dict.fromkeys(reason for own in self._unfit.values() for reason in own))
            why = f"no host may measure: {reasons}" if workers else "there is no host"
            raise ProjectError(f"{why}. Run the command again once there is one")
        self._looked = time.monotonic()

    def _patience(self, has_workers: bool) -> float:
        """Return the seconds to wait for a host; those that are unfit stay so, but jobs in a queue may be fit."""
        return _ALL_UNFIT if has_workers and math.isfinite(self.settings.patience) else self.settings.patience

    def workers(self) -> dict[str, Any]:
        """Return the scheduler's workers by their address."""
        if self.client.status == "running":
            with suppress(OSError, RuntimeError, KeyError):  # Dask's errors of a connection derive from OSError
                return dict(self.client.scheduler_info(n_workers=-1)["workers"])
        raise ProjectError("the scheduler has ended: run the command again once there is one")

    def _meet(self, addresses: list[str]) -> None:
        """Ask new workers who they are."""
        try:
            answers = self.client.run(_introduce, workers=addresses, on_error="return")
        except OSError:  # the scheduler has ended: the next look says so
            return
        for address, answer in answers.items():
            if isinstance(answer, OSError):  # of the connection: the worker has ended, or is asked again
                continue
            if isinstance(answer, BaseException):
                self._unfit[address] = [one_line(str(answer))]
                self.say({"event": "error"}, f"{address}: it cannot measure: {one_line(str(answer))}")
                continue
            host = Host(answer["name"], address, answer["class"], answer["cpus"])
            others = [*self.hosts.values(), *(host for host, _ in self._testing.values())]
            if any(other.name == host.name for other in others):
                if address not in self._twice:  # the other one may have ended, which the scheduler does not know yet
                    self._twice.add(address)
                    self.say({"event": "error"}, f"{host.name} has two workers: {address} waits until the other ends")
            elif self.settings.classes and host.machine_class not in self.settings.classes:
                self._unfit[address] = [f"it is of another class: {host.machine_class}"]
                self.say({"event": "error"}, f"{host.name}: {self._unfit[address][0]}")
            elif self.settings.is_tested:
                self._testing[address] = host, self.client.submit(
                    _examine, self.settings.wait, workers=[address], allow_other_workers=False, pure=False,
                    resources={"cpu": host.cpus},
                )  # fmt: skip
                self.say({"event": "test", "host": host.name}, f"{host.name}: is tested")
            else:
                self._admit(host, [])

    def _take_tests(self) -> None:
        """Admit the hosts whose test has ended, or not."""
        for address, (host, future) in list(self._testing.items()):
            if future.status == "pending":
                continue
            del self._testing[address]
            if future.status == "error":
                self._admit(host, [f"the test failed: {one_line(str(future.exception()))}"])
            elif future.status == "finished":
                try:
                    found = self._canaries[host.name] = Canary(**future.result(timeout=LOOK))
                except Exception:  # its worker has ended before the result has come: the next look meets it again
                    continue
                speeds = [
                    self._canaries[other.name].copy_bytes_per_second
                    for other in self.hosts.values()
                    if other.machine_class == host.machine_class and other.name in self._canaries
                ]
                self._admit(host, canary.unfit(found, speeds))

    def _admit(self, host: Host, reasons: list[str]) -> None:
        """Let a host measure, unless there are reasons against it."""
        entry: dict[str, Any] = {"event": "host", "host": host.name, "class": host.machine_class, "reasons": reasons}
        if host.name in self._canaries:
            entry["canary"] = asdict(self._canaries[host.name])
        if reasons:
            self._unfit[host.address] = reasons
            self.say(entry | {"state": "unfit"}, f"{host.name}: it may not time: {'; '.join(reasons)}")
            return
        self.hosts[host.name] = host
        self._last_admitted = time.monotonic()
        self.classes.setdefault(host.machine_class, set()).add(host.name)
        self._away.pop(host.name, None)
        self.say(entry | {"state": "fit"}, f"{host.name}: ready ({host.machine_class})")


# On a worker


async def _introduce(dask_worker: Any = None) -> dict[str, Any]:
    """Return the name, the class and the CPUs of a host, which it offers as a resource."""
    cpus = int(dask_worker.state.total_resources.get("cpu", 0)) or int(dask_worker.state.nthreads)
    await dask_worker.set_resources(cpu=cpus)
    return {"name": host_name(), "class": machine_class(host_record()), "cpus": cpus}


def _examine(wait: float | None) -> dict[str, Any]:
    """Test this host in a process of its own, on the CPUs on which it measures."""
    lock = "no" if wait is None else str(wait)
    command = [sys.executable, "-m", "copycost.fleet.canary", str(_SECONDS), lock, measuring_cpus()]
    process = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if process.returncode:
        raise RuntimeError(process.stderr.strip().rpartition("\n")[2])
    found: dict[str, Any] = json.loads(process.stdout)
    return found
