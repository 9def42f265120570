"""Steps: counts of allocations against known distinct, and the copy speed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np

from copycost.engine.copy_speed import COPY_BYTES, Copy, CopyJob
from copycost.machine import devices
from copycost.model.runtime import Runtime
from copycost.model.vocabulary import DeviceKind, MemorySpace, Status
from copycost.studies.certify.probes import device_seconds, distinct, measure, started, started_device
from copycost.studies.certify.step import Each, Finding, NothingToCheck, Subject, step
from copycost_meter.count_allocations import count
from copycost_meter.events import median_summary

#: Size of a known array in bytes. It is no multiple of a page or of what a pool rounds to.
_BYTES = 10_000_004

#: Bytes that an allocator may add to an array, for alignment or to fill its smallest unit.
_PADDING = 2**21

#: How much longer a cold read must take than a hot one.
_COLD = 1.1

#: Requests, total, peak and what is kept, of variants of recipe tf on float32 in the steady state. The sizes are in
#: batches. tests/frameworks/test_allocations.py gives the reason for each.
KNOWN = {
    "numpy-new": (2, 2, 2, 1), "numpy-out": (0, 0, 0, 0), "numpy-inplace": (0, 0, 0, 0),
    "tf-eager": (2, 2, 2, 1), "tf-xla": (1, 1, 1, 1), "tf-variable-inplace": (0, 0, 0, 0),
    "torch-new": (2, 2, 2, 1), "torch-out": (0, 0, 0, 0), "torch-inplace": (0, 0, 0, 0),
    "jax-eager": (2, 2, 2, 1), "jax-jit": (1, 1, 1, 1), "jax-donated": (0, 0, 0, 0),
    "cupy-new": (2, 2, 2, 1), "cupy-out": (0, 0, 0, 0), "cupy-inplace": (0, 0, 0, 0), "cupy-fused": (1, 1, 1, 1),
    "cupy-vector": (1, 1, 1, 1), "cupy-graph": (0, 0, 0, 0), "cupy-async-new": (2, 2, 2, 1),
    "cupy-pageable": (2, 2, 2, 0), "cupy-pinned": (2, 2, 2, 0),
}  # fmt: skip


@step(DeviceKind.CPU, DeviceKind.GPU, seconds=100, each=Each.RUNTIME)
def allocations(subject: Subject) -> Iterator[Finding]:
    """Check the counts of allocations against arrays of known size, and against a second instrument."""
    runtime = started(subject)
    if subject.device == DeviceKind.CPU:
        yield from _on_host(runtime)
    elif not isinstance(runtime.array(distinct(4), False), np.ndarray):
        yield from _on_device(runtime)
    try:
        found = measure(subject, variants=KNOWN, batch=8)
    except NothingToCheck:  # no variant of this runtime is in the table
        return
    for m in found:
        nbytes = 8 * m.height * m.width * m.channels * 4
        prefix = "" if subject.device == DeviceKind.CPU else "device_"
        names = [f"{prefix}{name}" for name in ("allocations", "allocated_bytes", "peak_bytes", "retained_bytes")]
        counted = [getattr(m, name) for name in names]
        number, *batches = KNOWN[m.variant]
        yield Finding(
            f"{m.variant} allocates {number} {'array' if number == 1 else 'arrays'} a call",
            m.status == Status.OK and counted == [number, *(k * nbytes for k in batches)],
            {"status": m.status, "reason": m.reason, "batch_bytes": nbytes, **dict(zip(names, counted, strict=True))},
        )


def _on_host(runtime: Runtime) -> Iterator[Finding]:
    pixels, wait = distinct(_BYTES), runtime.wait or (lambda result: result)
    for statement, call, known in (
        ("an array is counted with its bytes", lambda: wait(runtime.array(pixels, False)), _BYTES),
        ("a call that allocates nothing is counted with nothing", lambda: None, 0),
    ):
        counts = count(lambda i, call=call: call, runtime.instruments())  # type: ignore[misc]
        summaries = counts.host()
        if summaries is None:
            raise NothingToCheck(str(counts.missing))
        kept = median_summary(summaries)[0].retained_bytes
        yield Finding(statement, known <= kept <= known + (_PADDING if known else 0), {"bytes": known, "counted": kept})


def _on_device(runtime: Runtime) -> Iterator[Finding]:
    device, trace = runtime.gpu, runtime.instruments(on_host=False).trace
    if device is None or trace is None:
        raise NothingToCheck(f"{runtime.name} has no instrument for the device's memory")
    pixels = distinct(_BYTES)

    def make() -> Any:
        return runtime.array(pixels, False)

    make()
    runtime.fence()
    before = device.used_bytes() if device.used_bytes else 0
    array, events = trace(make)
    used = (device.used_bytes() if device.used_bytes else 0) - before
    on_device = [event for event in events if event.space == MemorySpace.DEVICE]
    kept, rounded = sum(e.bytes for e in on_device), sum(_rounded(e.bytes, e.rounded) for e in on_device)
    figures = {"bytes": pixels.nbytes, "counted": kept, "rounded": rounded, "used": used}
    yield Finding("an array is counted with its bytes", kept == pixels.nbytes, figures)
    if device.used_bytes:
        yield Finding("the count agrees with what the allocator says is in use", used == rounded, figures)
    del array


def _rounded(nbytes: int, rounded: int | None) -> int:
    return nbytes if rounded is None else rounded if nbytes > 0 else -rounded


@step(DeviceKind.CPU, seconds=30)
def copy_speed(subject: Subject) -> Iterator[Finding]:
    """Check the machine's copy speed against the C library's memmove."""
    copy = CopyJob(COPY_BYTES, devices.cpus()).start()
    source, target = np.ones(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)
    by_engine, by_memmove = [], []
    for _ in range(15):
        by_engine.append(Copy.sample(copy))
        start = perf_counter_ns()
        ctypes.memmove(target.ctypes.data, source.ctypes.data, COPY_BYTES)
        by_memmove.append(2 * COPY_BYTES / (perf_counter_ns() - start) * 1e9)
    figures = {"bytes_per_second": max(by_engine), "memmove_bytes_per_second": max(by_memmove)}
    # One thread can reach most of the speed of several, and other programs may have some of the CPUs.
    yield Finding("copying on all threads is not slower than on one", max(by_engine) > 0.5 * max(by_memmove), figures)


@step(DeviceKind.GPU, seconds=90, each=Each.CLOCK)
def caches(subject: Subject) -> Iterator[Finding]:
    """Measure the device's copy speed by size, and check that a flush makes a call cold."""
    runtime, device = started_device(subject)
    cache = device.cache_bytes()
    speeds = {k: 2 * k * cache / device_seconds(device, device.copy(k * cache)) for k in (1, 2, 4, 8)}
    flush = device.read(2 * cache)

    def flushed() -> tuple[Any, ...]:
        flush()
        return ()

    # Several sizes: the cache can be smaller than its upper bound, and a small read takes no longer than two events.
    ratios = {}
    for part in (64, 16, 4):
        read = device.read(cache // part)
        pairs = [(device_seconds(device, read), device_seconds(device, read, flushed)) for _ in range(3)]
        ratios[part] = median(cold / hot for hot, cold in pairs)
    yield Finding(
        "a flush makes a call cold",
        max(ratios.values()) > _COLD,
        {
            "cache_bytes": cache,
            "copy_bytes_per_second_by_cache_sizes": {str(k): speed for k, speed in speeds.items()},
            "cold_per_hot_by_cache_parts": {str(part): ratio for part, ratio in ratios.items()},
        },
    )
    runtime.fence()
