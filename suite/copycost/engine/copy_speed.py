"""Copy speed of the machine and of a device."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np

from copycost.cases.case import Case
from copycost.catalog import discovery
from copycost.engine.worker import CaseFailure, Worker
from copycost.engine.worker_pool import WorkerPool
from copycost.machine.memory import free_memory
from copycost.model.source import Source
from copycost.model.vocabulary import DeviceKind

#: Copies per measurement of a device's copy speed, and the size of each in multiples of the device's cache.
_COPIES, _CACHE_MULTIPLE = 5, 8

#: Size in bytes of each buffer for measuring the machine's copy speed: several times a large cache.
COPY_BYTES = 128 * 2**20

#: Timeout of a measurement, in seconds.
_TIMEOUT = 60.0


@dataclass(frozen=True)
class CopyJob:
    """Parameters for measuring the machine's copy speed: `nbytes` between two buffers, on `threads` threads."""

    nbytes: int
    threads: int

    def start(self) -> Copy:
        """Allocate the two buffers."""
        return Copy(self)


class Copy:
    """Two buffers, each several times as large as a large cache, and a pool of threads that copies one to the other."""

    def __init__(self, job: CopyJob) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.bytes_moved = 2 * job.nbytes
        source = np.ones(job.nbytes, np.uint8)
        target = np.ones(job.nbytes, np.uint8)
        self.parts = list(zip(np.array_split(target, job.threads), np.array_split(source, job.threads), strict=True))
        self.pool = ThreadPoolExecutor(job.threads)
        self.sample()

    def sample(self) -> float:
        """Return the speed of one copy in bytes per second, counting bytes read and bytes written."""
        start = perf_counter_ns()
        list(self.pool.map(lambda pair: np.copyto(*pair), self.parts))
        return self.bytes_moved / (perf_counter_ns() - start) * 1e9


@dataclass(frozen=True)
class DeviceCopyJob:
    """Parameters for measuring the copy speed within the memory of a runtime's device."""

    runtime: str
    threads: int

    def start(self) -> DeviceCopy:
        """Allocate the two buffers."""
        return DeviceCopy(self)


class DeviceCopy:
    """Two buffers on a device, far larger than its cache."""

    def __init__(self, job: DeviceCopyJob) -> None:
        runtime = discovery.runtime(job.runtime)
        runtime.start(DeviceKind.GPU, job.threads)
        assert runtime.gpu is not None
        self.fence, self.seconds = runtime.fence, runtime.gpu.seconds
        nbytes = _CACHE_MULTIPLE * runtime.gpu.cache_bytes()
        self.bytes_moved = 2 * nbytes
        self.copy = runtime.gpu.copy(nbytes)
        self.sample()

    def sample(self) -> float:
        """Return the speed of a few copies in bytes per second, counting bytes read and bytes written.

        The device's clock times the copies if the runtime has access to it, else the host's clock does.
        """
        if self.seconds is not None:
            return self.bytes_moved / self.seconds(self.copy, tuple, _COPIES)
        self.fence()
        start = perf_counter_ns()
        for _ in range(_COPIES):
            self.copy()
        self.fence()
        return self.bytes_moved * _COPIES / (perf_counter_ns() - start) * 1e9


class CopySpeed:
    """Measures copy speeds for a session, in one worker for the machine and one for each runtime with a GPU."""

    def __init__(self, pool: WorkerPool, threads: int) -> None:
        self.pool, self.threads = pool, threads
        self._workers: dict[str, Worker] = {}  # key: "cpu", or a runtime with a GPU

    def measure(self, case: Case) -> list[float]:
        """Return the copy speed on the case's device in a list of one, or an empty list if it cannot be measured."""
        key = "cpu" if case.device == "cpu" else case.variant.runtime
        if key != "cpu" and discovery.runtime(key).gpu is None:
            return []
        try:
            if key not in self._workers:
                if key == "cpu" and free_memory() < 8 * COPY_BYTES:
                    return []
                self._workers[key] = self._start_worker(key, case)
            method = Copy.sample if key == "cpu" else DeviceCopy.sample
            speed, _ = self._workers[key].ask(_TIMEOUT, method)
        except CaseFailure:
            self._workers.pop(key, None)
            return []
        return [speed]

    def _start_worker(self, key: str, case: Case) -> Worker:
        if key == "cpu":
            worker = self.pool.worker("numpy", Source("copycost.recipes"))
            worker.open(CopyJob(COPY_BYTES, self.threads), _TIMEOUT)
        else:
            worker = self.pool.worker(key, case.variant.source)
            worker.open(DeviceCopyJob(key, self.threads), _TIMEOUT)
        return worker

    def forget(self) -> None:
        """Start new workers for the next measurement, because the old ones were killed."""
        self._workers.clear()
