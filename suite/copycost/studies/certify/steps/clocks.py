"""Steps: the host's clock, the device's clock, and the fence that ends a call."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial

from copycost.engine import clock
from copycost.model.vocabulary import DeviceKind, Writes
from copycost.studies.certify.probes import (
    device_seconds,
    distinct,
    plain_variant,
    prepare,
    started,
    started_device,
    to_the_fence,
)
from copycost.studies.certify.step import Each, Finding, Subject, step

#: Maximum relative error of a known time.
_TOLERANCE = 0.02

#: Number of trials of which the shortest counts: another process may have had the CPU.
_TRIALS = 50

#: Seconds of known work for which the host waits. A shorter wait is less often interrupted by other processes; ending
#: it takes some 20 µs, which must be well within the tolerance.
_WAIT_SECONDS = 5e-3

#: Seconds after which the host gives up waiting for an undisturbed trial.
_PATIENCE_SECONDS = 10

#: Seconds of work after which the clocks of a device are steady.
_WARM_SECONDS = 0.5

#: Shape of an input of a call on the CPU. The call takes a hundred times as long as a fence.
_SHAPE = (32, 224, 224, 3)


@step(DeviceKind.CPU, DeviceKind.GPU, seconds=20)
def host_clock(subject: Subject) -> Iterator[Finding]:
    """Check the engine's clock against the kernel's clock that no time service adjusts (CLOCK_MONOTONIC_RAW)."""
    resolution = time.get_clock_info("perf_counter").resolution
    yield Finding("the clock resolves a microsecond", resolution <= 1e-6, {"resolution_seconds": resolution})
    one, two = (min(_batched_spin(k * 1_000_000) for _ in range(_TRIALS)) * 1e-9 for k in (1, 2))
    yield Finding(
        "a millisecond more is measured as a millisecond more",
        abs(two - one - 1e-3) < _TOLERANCE * 1e-3,
        {"seconds_of_1_ms": one, "seconds_of_2_ms": two},
    )


def _batched_spin(ns: int) -> int:
    return clock.batched(partial(_spin, ns), [None], (), 1, lambda: None)[0]


def _spin(ns: int, _: None) -> None:
    end = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) + ns
    while time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) < end:
        pass


@step(DeviceKind.CPU, seconds=60, each=Each.RUNTIME)
def fence(subject: Subject) -> Iterator[Finding]:
    """Check that no work is left when a call was waited for."""
    runtime = started(subject)
    wait = runtime.wait or (lambda result: result)
    variant = plain_variant(runtime.name)
    pixels = distinct(4 * math.prod(_SHAPE)).reshape(_SHAPE)
    x = runtime.array(pixels, False)
    arguments = (x, runtime.array(pixels, True)) if variant.writes == Writes.OUT else (x,)
    call = prepare(variant, x)
    wait(call(*arguments))
    whole, left = [], []
    for _ in range(10):
        start = time.perf_counter()
        result = wait(call(*arguments))
        runtime.fence()
        middle = time.perf_counter()
        wait(result)
        runtime.fence()
        whole.append(middle - start)
        left.append(time.perf_counter() - middle)
    yield Finding(
        "after the fence nothing is left to wait for",
        min(left) < 0.1 * min(whole),
        {"seconds_to_the_fence": min(whole), "seconds_of_a_second_fence": min(left)},
    )


@step(DeviceKind.GPU, seconds=60, each=Each.CLOCK)
def device_clock(subject: Subject) -> Iterator[Finding]:
    """Check the device's clock against known times, and that the fence waits for all of its work."""
    runtime, device = started_device(subject)
    copy = device.copy(8 * device.cache_bytes())
    by_device: list[float] = []
    by_host: list[float] = []
    end = time.monotonic() + _WARM_SECONDS
    while time.monotonic() < end or len(by_device) < 9:  # the clocks of an idle device rise
        by_device.append(device_seconds(device, copy))
        by_host.append(to_the_fence(runtime, copy))
    yield Finding(
        "a copy takes the device no longer than the host waits for it",
        min(by_device) < (1 + _TOLERANCE) * min(by_host),
        {"device_seconds": min(by_device), "host_seconds": min(by_host)},
    )
    busy = device.busy
    if busy is None:
        return
    one, two = (device_seconds(device, partial(busy, k * 1e-3)) for k in (1, 2))
    yield Finding(
        "a millisecond more is measured as a millisecond more",
        abs(two - one - 1e-3) < _TOLERANCE * 1e-3,
        {"seconds_of_1_ms": one, "seconds_of_2_ms": two},
    )
    # Another process may have had the CPU while the host waited: the shortest wait counts.
    work = partial(busy, _WAIT_SECONDS)
    by_the_device = device_seconds(device, work)
    ratio, tries = math.inf, 0
    end = time.monotonic() + _PATIENCE_SECONDS
    while tries < _TRIALS or (ratio >= 1 + _TOLERANCE and time.monotonic() < end):
        ratio, tries = min(ratio, to_the_fence(runtime, work) / by_the_device), tries + 1
    yield Finding("the device's clock and the host's agree", abs(ratio - 1) < _TOLERANCE, {"host_per_device": ratio})
    without = min(to_the_fence(runtime, partial(busy, 0.02), lambda: None) for _ in range(10))
    with_fence = min(to_the_fence(runtime, partial(busy, 0.02)) for _ in range(3))
    yield Finding(
        "a call without its fence is seen to be too short",
        without < 0.01 < 0.99 * 0.02 <= with_fence,
        {"seconds_without": without, "seconds_with": with_fence},
    )

    def slow() -> None:
        busy(1e-5)
        time.sleep(1e-3)
        busy(1e-5)

    seconds = device_seconds(device, slow)
    yield Finding("the device's time contains no wait for the host", seconds < 5e-4, {"seconds": seconds})
    apart = min(to_the_fence(runtime, partial(busy, 0.02, True)) for _ in range(3))
    yield Finding("work on another stream is waited for", apart >= 0.99 * 0.02, {"seconds": apart})
