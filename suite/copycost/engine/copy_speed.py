"""Copy speed of the machine and of a device."""

from __future__ import annotations

from collections.abc import Sequence
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

#: Copies per measurement of a device's copy speed.
_COPIES = 5

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
    """Parameters for measuring the copy speed within the memory of a runtime's device, by copies of `nbytes`."""

    runtime: str
    threads: int
    nbytes: int

    def start(self) -> DeviceCopy:
        """Allocate the two buffers."""
        return DeviceCopy(self)


class DeviceCopy:
    """Two buffers on a device."""

    def __init__(self, job: DeviceCopyJob) -> None:
        runtime = discovery.runtime(job.runtime)
        runtime.start(DeviceKind.GPU, job.threads)
        assert runtime.gpu is not None
        self.fence, self.seconds = runtime.fence, runtime.gpu.seconds
        self.bytes_moved = 2 * job.nbytes
        self.copy = runtime.gpu.copy(job.nbytes)
        self.sample()

    def sample(self) -> float:
        """Return the speed of a few copies in bytes per second, counting bytes read and bytes written.

        The device's clock times the copies if the runtime has access to it, else the host's clock does.

        Raises
        ------
        RuntimeError
            If the device's clock saw no copy.
        """
        if self.seconds is not None:
            seconds = self.seconds(self.copy, tuple, _COPIES)
            if not seconds:
                raise RuntimeError("the device's clock saw no copy")
            return self.bytes_moved / seconds
        self.fence()
        start = perf_counter_ns()
        for _ in range(_COPIES):
            self.copy()
        self.fence()
        return self.bytes_moved * _COPIES / (perf_counter_ns() - start) * 1e9


class CopySpeed:
    """Measures copy speeds for a session, in one worker for the machine and one for its GPU.

    All cases on the GPU are compared with the same speed, that of the first runtime by name which they use: the buffers
    of several runtimes would take gigabytes, and their clocks are not alike.
    """

    def __init__(self, pool: WorkerPool, threads: int) -> None:
        self.pool, self.threads = pool, threads
        self._workers: dict[DeviceKind, tuple[int, Worker]] = {}  # bytes of a copy, and who makes it

    def measure(self, cases: Sequence[Case], nbytes: int) -> list[float]:
        """Return the copy speed on the device of some cases in a list of one, or an empty list if it is unknown.

        A GPU's is that of copies which read and write `nbytes` bytes in total, as a case does: both then find as much
        in the device's cache.
        """
        device = cases[0].device
        copied = COPY_BYTES if device == DeviceKind.CPU else max(8, nbytes // 16 * 8)
        try:
            size, worker = self._workers.get(device, (0, None))
            if size != copied:
                if worker is not None:  # its buffers would stay in the device's memory
                    del self._workers[device]
                    self.pool.close_worker(worker)
                worker = self._start_worker(cases, copied)
                if worker is None:
                    return []
                self._workers[device] = copied, worker
            assert worker is not None
            speed, _ = worker.ask(_TIMEOUT, Copy.sample if device == DeviceKind.CPU else DeviceCopy.sample)
        except CaseFailure:
            self._workers.pop(device, None)
            return []
        return [speed]

    def _start_worker(self, cases: Sequence[Case], nbytes: int) -> Worker | None:
        """Start the worker for the device of some cases, or return None if its copy speed cannot be measured."""
        if cases[0].device == DeviceKind.CPU:
            if free_memory() < 8 * nbytes:
                return None
            worker = self.pool.worker("numpy", Source("copycost.recipes"))
            worker.open(CopyJob(nbytes, self.threads), _TIMEOUT)
            return worker
        variants = [case.variant for case in cases if discovery.runtime(case.variant.runtime).gpu is not None]
        if not variants:
            return None
        variant = min(variants, key=lambda variant: variant.runtime)
        worker = self.pool.worker(variant.runtime, variant.source)
        worker.open(DeviceCopyJob(variant.runtime, self.threads, nbytes), _TIMEOUT)
        return worker

    def forget(self) -> None:
        """Start new workers for the next measurement, because the old ones were killed."""
        self._workers.clear()
