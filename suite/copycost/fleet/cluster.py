"""Connect to a Dask cluster whose workers are the hosts of a fleet: one process on each."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import shutil
import socket
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from copycost.fleet.hosts import NAME
from copycost.tracking.project import ProjectError
from copycost_meter.errors import describe

if TYPE_CHECKING:
    from distributed import Client

#: Settings of Dask under which a worker disturbs no measurement, and does not take it for a leak: neither a sampling
#: profiler, nor a thread that asks for the GIL each millisecond, nor a worker that takes another's task, nor a restart
#: because of memory (names as in distributed.yaml).
SETTINGS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "logging.distributed": "warning",
}

#: Seconds to connect to a scheduler.
_CONNECT = 60

_MISSING = 'Dask is not installed: pip install "copycost[fleet]"'

T = TypeVar("T")

#: Keys of a table ``[cluster]``.
_KEYS = {"kind", "hosts", "options", "address"}


@dataclass(frozen=True)
class Cluster:
    """How to reach the hosts.

    Attributes
    ----------
    kind : {"local", "ssh", "slurm", "address"}
    hosts : int or tuple of str
        Number of hosts. For ``"ssh"``, their names: the first one runs the scheduler, the others measure.
    address : str or None
        Of the scheduler, for ``"address"``.
    options : mapping
        Further arguments of Dask's class.
    """

    kind: str = "local"
    hosts: int | tuple[str, ...] = 1
    address: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def read(path: Path) -> Cluster:
    """Read a cluster from a file.

    Raises
    ------
    ProjectError
        If it does not say where the hosts are.
    """
    try:
        table = tomllib.loads(path.read_text()).get("cluster")
    except (OSError, ValueError) as error:
        raise ProjectError(f"{path} cannot be read: {error}") from None
    if not isinstance(table, dict) or set(table) - _KEYS:
        raise ProjectError(f"{path}: expected a table [cluster] with {', '.join(sorted(_KEYS))}")
    kind, hosts = table.get("kind", "local"), table.get("hosts", 1)
    if kind not in ("local", "ssh", "slurm", "address"):
        raise ProjectError(f"{path}: unknown kind {kind!r}: expected local, ssh, slurm or address")
    if kind == "ssh":
        if not (isinstance(hosts, list) and len(hosts) > 1 and all(isinstance(host, str) for host in hosts)):
            raise ProjectError(f"{path}: kind ssh: expected hosts = [the scheduler's, and those that measure]")
        hosts = tuple(hosts)
    elif type(hosts) is not int or hosts < 1:
        raise ProjectError(f"{path}: hosts is {hosts!r}: expected a number from 1")
    if kind == "address" and not isinstance(table.get("address"), str):
        raise ProjectError(f"{path}: address is missing: expected that of a scheduler, e.g. tls://10.0.0.1:8786")
    options = table.get("options", {})
    if not isinstance(options, dict):
        raise ProjectError(f"{path}: options is no table")
    return Cluster(kind, hosts, table.get("address"), options)


def check_address(address: str, insecure: bool) -> None:
    """Raise ProjectError unless a scheduler is reached by TLS or on this machine: it runs what anybody sends to it."""
    match = re.fullmatch(r"([a-z]+)://(\[[^\]]+\]|[^:/]+):(\d+)", address)
    if match is None:
        raise ProjectError(f"invalid address '{address}': expected e.g. tls://10.0.0.1:8786")
    if match[1] == "tls" or insecure:
        return
    name = match[2].strip("[]")
    try:
        is_here = ipaddress.ip_address(name).is_loopback
    except ValueError:
        is_here = name == "localhost"
    if not is_here:
        raise ProjectError(
            f"{address} is not encrypted, and whoever reaches it can run code: use tls://, or pass --insecure"
        )


@contextmanager
def connected(cluster: Cluster, insecure: bool = False) -> Iterator[Client]:
    """Start a cluster, or connect to one, and yield a client of it; end what was started.

    Raises
    ------
    ProjectError
        If Dask is not installed, or if the cluster is not reached safely.
    """
    try:
        import dask

        dask.config.set({"logging.distributed": SETTINGS["logging.distributed"]})  # which the import reads
        from distributed import Client
    except ImportError:
        raise ProjectError(_MISSING) from None
    for name in ("distributed", "distributed.client", "tornado", "tornado.application", "asyncio"):
        # A host or a scheduler that ends is an event of the fleet, and not a traceback of Dask's.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with dask.config.set(SETTINGS):
        if cluster.kind == "address":
            assert cluster.address is not None
            check_address(cluster.address, insecure)
            client = _begun(lambda: Client(cluster.address, timeout=_CONNECT, security=_security(cluster)))
            with client:
                yield client
            return
        with ExitStack() as stack:
            started = stack.enter_context(_begun(lambda: _started(cluster, insecure)))
            if cluster.kind == "slurm":
                started.scale(jobs=cluster.hosts)
                _check_jobs(started)
            yield stack.enter_context(_begun(lambda: Client(started)))


def _check_jobs(started: Any) -> None:
    """Wait until all jobs are submitted, or raise ProjectError."""
    from distributed import Status

    with suppress(Exception):  # Dask logs why
        started.sync(started._correct_state)
    refused = [job for job in started.workers.values() if not job.job_id]
    for job in refused:
        job.status = Status.closed  # Dask asserts at the end that a worker was begun
    if refused:
        raise ProjectError("sbatch does not accept the jobs: try it with a script of your own")


def _begun(start: Callable[[], T]) -> T:
    """Return what a function starts, or raise ProjectError with the reason in one line."""
    try:
        return start()
    except ProjectError:
        raise
    except Exception as error:  # Dask, asyncssh and dask-jobqueue raise errors of many types
        raise ProjectError(f"the cluster cannot be reached: {describe(error)}") from None


def _security(cluster: Cluster) -> Any:
    """Return the certificates of ``[cluster.options.security]``, or None."""
    from distributed import Security

    table = cluster.options.get("security")
    return Security(**table) if isinstance(table, dict) else None


def _started(cluster: Cluster, insecure: bool) -> Any:
    """Return a cluster that was started, as a context manager."""
    options = dict(cluster.options)
    if cluster.kind == "local":
        os.environ.update(_variables())  # which processes read before they get an environment of their own
        from distributed import Nanny, Scheduler, SpecCluster

        assert isinstance(cluster.hosts, int)
        cpus = len(os.sched_getaffinity(0))
        names = [f"{socket.gethostname()}-{k}" for k in range(cluster.hosts)] if cluster.hosts > 1 else [None]
        here = {"host": "127.0.0.1"}
        workers = {
            name or "host": {
                "cls": Nanny,
                "options": {**here, "nthreads": cpus, "resources": {"cpu": cpus}, "memory_limit": 0,
                            "env": _variables() | ({NAME: name} if name else {})} | options,
            }
            for name in names
        }  # fmt: skip
        scheduler = {"cls": Scheduler, "options": {**here, "port": 0, "dashboard_address": "127.0.0.1:0"}}
        return SpecCluster(workers, scheduler)
    if cluster.kind == "ssh":
        from distributed import SSHCluster

        security = options["security"] = _security(cluster)
        if security is None and not insecure:
            raise ProjectError("kind ssh: expected TLS certificates in [cluster.options.security], or --insecure")
        assert isinstance(cluster.hosts, tuple)
        return SSHCluster(list(cluster.hosts), **options)
    return slurm(cluster)


def slurm(cluster: Cluster) -> Any:
    """Return a cluster whose workers are jobs of SLURM, each alone on its node.

    Raises
    ------
    ProjectError
        If dask-jobqueue or SLURM is not installed.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise ProjectError('dask-jobqueue is not installed: pip install "copycost[fleet]"') from None
    if shutil.which("sbatch") is None:
        raise ProjectError("there is no sbatch here: expected a machine that submits jobs to SLURM")
    options = dict(cluster.options)
    cores = options.setdefault("cores", 1)
    directives = list(options.pop("job_extra_directives", ()))
    if "--exclusive" not in directives:
        directives.append("--exclusive")
    settings = [f"export {name}={value}" for name, value in _variables().items()]
    options |= {
        "processes": 1, "job_extra_directives": directives, "python": options.get("python", sys.executable),
        "worker_extra_args": [*options.get("worker_extra_args", ()), "--resources", f"cpu={cores}"],
        "job_script_prologue": [*settings, *options.get("job_script_prologue", ())],
    }  # fmt: skip
    options.setdefault("security", True)  # TLS, with certificates in a folder that the nodes share
    # Dask does not limit the memory, and SLURM gives the job all of its node (sbatch --mem=0).
    options.setdefault("memory", "1GB")
    options.setdefault("job_mem", "0")
    return SLURMCluster(**options)


def _variables() -> dict[str, str]:
    """Return the environment variables with Dask's settings (https://docs.dask.org, Configuration)."""
    return {f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(value) for name, value in SETTINGS.items()}


def worker_command(address: str, insecure: bool) -> tuple[list[str], dict[str, str]]:
    """Return the command of a worker that serves this host, and the variables that it needs.

    Raises
    ------
    ProjectError
        If the address is not reached safely.
    """
    check_address(address, insecure)
    if find_spec("distributed") is None:
        raise ProjectError(_MISSING)
    cpus = len(os.sched_getaffinity(0))
    command = [
        sys.executable, "-m", "distributed.cli.dask_worker", address, "--nworkers", "1", "--nthreads", str(cpus),
        "--resources", f"cpu={cpus}", "--memory-limit", "0", "--no-dashboard",
    ]  # fmt: skip
    return command, _variables()
