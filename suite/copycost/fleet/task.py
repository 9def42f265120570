"""What a host of a fleet does: measure one cell with asv, in processes that the worker does not share a CPU with."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any

from copycost.fleet import project
from copycost.fleet.hosts import host_name
from copycost.machine import host_lock
from copycost.machine.cache import cache
from copycost.machine.host_lock import LockError
from copycost.results.asv_files import BENCHMARKS, MACHINE
from copycost.tracking import machine
from copycost_meter.errors import one_line

#: Fewest CPUs of a host for one of them to be left to the worker.
_LEAVE_ONE = 3

#: Exit statuses of asv after which results are there: all ran, or some failed.
_RAN = (0, 2)


@dataclass(frozen=True)
class Work:
    """What all cells of a project need.

    Attributes
    ----------
    configuration : dict
        asv's.
    repository : str
        Path or address.
    archive : bytes
        Folder of the benchmarks: see `copycost.fleet.project.packed`.
    options : tuple of str
        Further options of `asv run`.
    exact : bool
        Whether nothing is timed, so that a cell needs one CPU, and not the whole host.
    wait : float or None
        Seconds to wait for the lock of the host while timing. None does not take it.
    """

    configuration: Mapping[str, Any]
    repository: str
    archive: bytes
    options: tuple[str, ...] = ()
    exact: bool = False
    wait: float | None = None


@dataclass(frozen=True)
class Done:
    """A measured cell.

    Attributes
    ----------
    host : str
    files : dict of str to str
        asv's results: path within the folder of results → text.
    timed : tuple of float
        Begin and end of the measurement, on the host's monotonic clock, in seconds.
    seconds : float
        Seconds of everything, builds included.
    """

    host: str
    files: dict[str, str]
    timed: tuple[float, float]
    seconds: float


class CellError(Exception):
    """Raised if asv cannot measure a cell on this host. The message is one line."""


def measure(work: Work, commit: str, environment: str, benchmarks: Sequence[str]) -> Done:
    """Measure some benchmarks of one commit in one environment.

    Parameters
    ----------
    work : Work
    commit, environment : str
    benchmarks : sequence of str
        Their names. Empty for all.

    Raises
    ------
    CellError
    """
    start = time.monotonic()
    host = host_name()
    with _slot(work) as folder:
        machines, results = folder / "machines.json", folder / "results"
        for path in (results, folder / "benchmarks"):
            shutil.rmtree(path, ignore_errors=True)
        project.unpack(work.archive, folder)
        project.written(work.configuration, work.repository, folder)
        machines.write_text(json.dumps({"version": 1, host: host_record() | {"machine": host}}))
        asv = [sys.executable, "-m", "copycost.fleet.asv_main", str(machines), str(os.getpid()), measuring_cpus()]
        run = [*asv, "run", "--environment", environment, "--machine", host, f"{commit}^!"]
        # asv searches names and, of a benchmark with parameters, names with their values in parentheses.
        chosen = [word for name in benchmarks for word in ("--bench", rf"^{re.escape(name)}(\(|$)")]
        log = folder / "log.txt"
        log.unlink(missing_ok=True)
        wait = None if work.exact else work.wait
        if wait is not None:
            # The environment is made, and the commit installed, before the host is locked.
            _run([*run, "--bench", "just-discover"], folder, log, work.exact)
        try:
            with host_lock.held(wait=wait):
                begin = time.monotonic()
                options = ["--record-samples", "--show-stderr", *chosen, *work.options]
                _run([*run, *options], folder, log, work.exact)
                timed = begin, time.monotonic()
        except LockError as error:
            raise CellError(str(error)) from None
        files = {str(path.relative_to(results)): path.read_text() for path in sorted(results.rglob("*.json"))}
        own = [text for path, text in files.items() if path not in (BENCHMARKS, f"{host}/{MACHINE}")]
        if not any(_has_result(text) for text in own):
            raise CellError(f"asv has measured nothing: {_last(log)}")
    return Done(host, files, timed, time.monotonic() - start)


def _has_result(text: str) -> bool:
    """Return whether a file of asv's results has any: where a commit cannot be built, all are null."""
    document = json.loads(text)
    at = document["result_columns"].index("result")
    return any(len(row) > at and row[at] is not None for row in document["results"].values())


@contextmanager
def _slot(work: Work) -> Iterator[Path]:
    """Yield a folder of the project with asv's environments, which no other cell uses meanwhile."""
    text = json.dumps([dict(work.configuration), work.repository, sys.prefix], sort_keys=True, default=str)
    home = cache() / "fleet" / hashlib.sha256(text.encode()).hexdigest()[:16] / host_name()
    for number in range(10_000):
        folder = home / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield folder
            return


def _run(command: Sequence[str], folder: Path, log: Path, exact: bool) -> None:
    """Run a command that ends with this process, and raise CellError unless it has measured."""
    environment = dict(os.environ)
    if exact:
        environment["COPYCOST_BLOCKS"] = "0"  # copycost.asv.Cases then counts only
    with open(log, "a") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait()
        except BaseException:
            process.terminate()  # it then ends what it has started
            process.wait()
            raise
    if status not in _RAN:
        raise CellError(f"asv exited with {status}: {_last(log)}")


@once
def host_record() -> dict[str, str]:
    """Return asv's record of this machine, as it is before `measuring_cpus` is called."""
    return machine.describe()


@once
def measuring_cpus() -> str:
    """Return the CPUs to measure on. Where there are enough, this process then keeps to another one."""
    host_record()
    cpus = os.sched_getaffinity(0)
    if len(cpus) >= _LEAVE_ONE:
        own = max(cpus)
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError):  # it has ended
                os.sched_setaffinity(int(thread), {own})
        cpus = cpus - {own}
    return ",".join(map(str, sorted(cpus)))


def _last(log: Path) -> str:
    lines = [line.strip(" ·") for line in log.read_text(errors="replace").splitlines() if line.strip(" ·")]
    return one_line(" / ".join(lines[-3:]))[-300:]
