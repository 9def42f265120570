"""CuPy's arrays, in the memory of a CUDA device."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np

from copycost_meter.device_work import Span
from copycost_meter.events import DEVICE, DRIVER, AllocationEvent
from copycost_meter.library import Device, Library
from copycost_meter.profilers import cupti
from copycost_meter.profilers.occupancy import Limits

INSTRUMENT = "cupy-hook"


def extent(array: Any) -> tuple[int, int] | None:
    """Return the first and the last address + 1 of the memory of an array, or None for other values."""
    import cupy

    if not isinstance(array, cupy.ndarray):
        return None
    # The data pointer is the address of the first element; a negative stride reaches below it.
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides)]
    start = array.data.ptr
    return start + sum(r for r in reach if r < 0), start + sum(r for r in reach if r > 0) + array.itemsize


def copied(array: Any) -> Any:
    """Return a copy of an array on its device, with the strides of the original where a call can tell."""
    import cupy

    where = extent(array)
    assert where is not None
    low, high = where
    memory = cupy.empty(high - low, cupy.uint8)
    copy = cupy.ndarray(array.shape, array.dtype, memory.data + (array.data.ptr - low), array.strides)
    copy[...] = array
    return copy


def to_numpy(result: Any) -> np.ndarray:
    """Return the values of an array: see `copycost_meter.library.Library`."""
    import cupy

    if isinstance(result, np.ndarray):
        return result
    if not isinstance(result, cupy.ndarray):
        raise TypeError(f"returned {type(result).__name__}, not a CuPy array")
    return cupy.asnumpy(result)


def fence() -> None:
    """Return when all work queued so far is done."""
    import cupy

    # All streams: a variant may queue work on one of its own.
    cupy.cuda.runtime.deviceSynchronize()


def trace(function: Callable[[], Any]) -> tuple[Any, list[AllocationEvent]]:
    """Run `function` with a hook on CuPy's memory pool.

    The hook sees only allocations of this thread, and none of `MemoryAsyncPool`.
    """
    import cupy

    events: list[AllocationEvent] = []

    class Recorder(cupy.cuda.MemoryHook):
        name = "copycost"

        def alloc_postprocess(self, *, mem_size: int, **_: Any) -> None:
            events.append(AllocationEvent(mem_size, DRIVER, INSTRUMENT))

        def malloc_postprocess(self, *, size: int, mem_size: int, mem_ptr: int, **_: Any) -> None:
            events.append(AllocationEvent(size, DEVICE, INSTRUMENT, rounded=mem_size))
            sizes[mem_ptr] = size

        def free_postprocess(self, *, mem_size: int, mem_ptr: int, **_: Any) -> None:
            # For memory that was requested before this trace, only the rounded size is known.
            events.append(AllocationEvent(-sizes.pop(mem_ptr, mem_size), DEVICE, INSTRUMENT, rounded=mem_size))

    sizes: dict[int, int] = {}
    with Recorder():
        result = function()
        fence()
    return result, events


#: Kernel that keeps the device busy for a number of nanoseconds, by its global timer (PTX, %globaltimer), without
#: accessing memory.
HOLD = """
extern "C" __global__ void copycost_hold(long long nanoseconds) {
    long long begin, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
    do { asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)); } while (now - begin < nanoseconds);
}
"""

#: Time for which the device is kept busy while a call is queued: this many nanoseconds, plus this multiple of the time
#: that the host needed for an untimed call just before.
_HOLD_NS, _HOLD_TIMES = 20_000, 3


def seconds(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> float:
    """Return the mean time between two CUDA events around a call.

    Each of the `n` calls waits behind a kernel until the host has queued the whole call.
    """
    import cupy

    hold = cupy.RawKernel(HOLD, "copycost_hold")
    args = prepare()
    fence()
    start = perf_counter_ns()
    call(*args)
    hold_ns = _HOLD_NS + _HOLD_TIMES * (perf_counter_ns() - start)
    total = 0.0
    for _ in range(n):
        args = prepare()
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        hold((1,), (1,), (np.int64(hold_ns),))
        begin.record()
        call(*args)
        end.record()
        end.synchronize()
        total += cupy.cuda.get_elapsed_time(begin, end) * 1e-3
    return total / n


def mark() -> Any:
    """Queue an event of CUDA, and return it."""
    import cupy

    event = cupy.cuda.Event()
    event.record()
    return event


def between(begin: Any, end: Any) -> float:
    """Return the device's seconds between two events, once the device has passed both."""
    import cupy

    end.synchronize()
    return cupy.cuda.get_elapsed_time(begin, end) * 1e-3


def kernels(function: Callable[[], Any]) -> tuple[list[Span], str | None]:
    """Call a function and return the kernels and copies of the device: see `copycost_meter.library.Kernels`."""
    import cupy

    return cupti.recorded(function, Limits.of(cupy.cuda.Device().attributes))


def _buffer(nbytes: int) -> Any:
    import cupy

    return cupy.empty(nbytes, np.uint8)


LIBRARY = Library(
    name="cupy",
    copied=copied,
    to_numpy=to_numpy,
    fence=fence,
    make=None,
    device=Device(
        trace=trace,
        instrument=INSTRUMENT,
        buffer=_buffer,
        seconds=seconds,
        clock="cuda-events",
        kernels=kernels,
    ),
)
