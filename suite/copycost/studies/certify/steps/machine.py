"""Steps: the machine, its device, and processes that are forked before the device is used."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

from copycost.catalog import import_context
from copycost.engine.copy_speed import DeviceCopy, DeviceCopyJob
from copycost.engine.worker import CaseFailure, ForkServer
from copycost.machine import devices, environment
from copycost.model.source import Source
from copycost.model.vocabulary import DeviceKind
from copycost.studies.certify.step import Each, Finding, Subject, step

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
    yield Finding(
        "a device is found", bool(gpus),
        {"gpus": [vars(gpu) for gpu in gpus], "reason": reason, "cuda": devices.cuda()},
    )  # fmt: skip
    if not gpus:
        return
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
        yield Finding("a process that has imported the runtime can be forked", fork_server.forkable)
        speeds, reason = [], None
        try:
            for _ in range(_FORKS):
                worker = fork_server.fork()
                try:
                    worker.open(DeviceCopyJob(subject.runtime, devices.cpus(), _COPIED), _TIMEOUT)
                    speeds.append(worker.ask(_TIMEOUT, DeviceCopy.sample)[0])
                finally:
                    worker.close()
        except CaseFailure as failure:
            reason = failure.reason
        yield Finding(
            "the processes that are forked work on the device",
            reason is None,
            {"copy_bytes_per_second": speeds, "reason": reason},
        )
    finally:
        fork_server.close()
