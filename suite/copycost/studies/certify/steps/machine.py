"""Steps: the machine, its device, and processes that are forked before the device is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import perf_counter

from copycost.catalog import import_context
from copycost.engine.copy_speed import DeviceCopy, DeviceCopyJob
from copycost.engine.worker import ForkServer
from copycost.machine import devices, environment
from copycost.model.source import Source
from copycost.model.vocabulary import DeviceKind
from copycost.studies.certify.step import Each, Finding, NothingToCheck, Subject, step

#: Time limit of one request to a worker, in seconds.
_TIMEOUT = 60.0

#: Number of processes that are forked, and bytes that each copies.
_FORKS, _COPIED = 2, 2**20


@step(DeviceKind.CPU, DeviceKind.GPU, seconds=40)
def machine(subject: Subject) -> Iterator[Finding]:
    """Check that the device is found, and that its driver reports its state."""
    if subject.device == DeviceKind.CPU:
        yield Finding(
            "the processor is known", environment.processor() is not None,
            {"cpu": environment.processor(), "cpus": devices.cpus()},
        )  # fmt: skip
        return
    gpus, reason = devices.gpus()
    if not gpus:
        raise NothingToCheck(str(reason))
    yield Finding("a device is found", True, {"gpus": [vars(gpu) for gpu in gpus], "cuda": devices.cuda()})
    start = perf_counter()
    condition = devices.condition()
    seconds = perf_counter() - start
    yield Finding(
        "the driver reports clock, temperature and free memory",
        None not in (condition.clock_mhz, condition.temperature_c, condition.free_bytes),
        vars(condition) | {"seconds": seconds},
    )
    mode = devices.compute_mode()
    # The cases of a group hold contexts at the same time.
    yield Finding("several processes may use the device", mode in (None, "Default"), {"compute_mode": mode})


@step(DeviceKind.GPU, seconds=90, each=Each.CLOCK)
def forks(subject: Subject) -> Iterator[Finding]:
    """Check that a fork server has not touched the device, and that the processes which it forks can use it."""
    assert subject.runtime is not None
    fork_server = ForkServer(subject.runtime, Source("copycost.recipes"), import_context.child_environment())
    try:
        fork_server.ready()
        files = f"/proc/{fork_server.process.pid}/fd"
        opened = [os.readlink(f"{files}/{fd}") for fd in os.listdir(files)]
        yield Finding(
            "the process that is forked has not initialised CUDA",
            fork_server.forkable and not any(path.startswith("/dev/nvidia") for path in opened),
            {"threads": len(os.listdir(f"/proc/{fork_server.process.pid}/task"))},
        )
        speeds = []
        for _ in range(_FORKS):
            worker = fork_server.fork()
            try:
                worker.open(DeviceCopyJob(subject.runtime, devices.cpus()), _TIMEOUT)
                speeds.append(worker.ask(_TIMEOUT, DeviceCopy.sample, _COPIED)[0])
            finally:
                worker.close()
        yield Finding("a forked process works on the device", min(speeds) > 0, {"copy_bytes_per_second": speeds})
    finally:
        fork_server.close()
