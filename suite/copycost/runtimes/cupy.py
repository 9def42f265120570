"""Define the CuPy runtime, for arrays in device memory."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np

from copycost.machine import cupti
from copycost.machine.occupancy import Limits
from copycost.model.allocation import AllocationEvent
from copycost.model.call_profile import Span
from copycost.model.errors import describe
from copycost.model.runtime import Device, Runtime, RuntimeUnavailable
from copycost.model.vocabulary import DeviceKind, MemorySpace

_INSTRUMENT = "cupy-hook"
_INSTALL = "pip install -e '.[cupy]' in a clone of copycost"


def _start(device: DeviceKind, threads: int) -> None:
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeUnavailable(f"CuPy sees no CUDA device: {error}") from None
    if not count:
        raise RuntimeUnavailable("CuPy sees no CUDA device")
    cupy.cuda.Device(0).use()
    try:
        cupy.RawKernel(_HOLD, "copycost_hold").compile()
    except Exception as error:  # a library of CUDA that is not found has errors of its own
        raise RuntimeUnavailable(f"CuPy compiles no kernel: {describe(error)}; its libraries: {_INSTALL}") from None


def _array(pixels: np.ndarray, mutable: bool) -> Any:
    import cupy

    return cupy.array(pixels, order="C")


def _restore(array: Any, pristine: Any) -> Any:
    array[...] = pristine
    return array


def _copied(array: Any) -> Any:
    import cupy

    extent = _extent(array)
    assert extent is not None
    low, high = extent
    memory = cupy.empty(high - low, cupy.uint8)
    copy = cupy.ndarray(array.shape, array.dtype, memory.data + (array.data.ptr - low), array.strides)
    copy[...] = array
    return copy


def _to_numpy(result: Any) -> np.ndarray:
    import cupy

    if isinstance(result, np.ndarray):
        return result
    if not isinstance(result, cupy.ndarray):
        raise TypeError(f"returned {type(result).__name__}, not a CuPy array")
    return cupy.asnumpy(result)


def _spoil(result: Any) -> None:
    if result.dtype.kind == "f":
        result.fill(np.nan)
    else:
        result[...] = ~result


def _extent(array: Any) -> tuple[int, int] | None:
    import cupy

    if not isinstance(array, cupy.ndarray):
        return None
    # The data pointer is the address of the first element; a negative stride reaches below it.
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    start = array.data.ptr
    return start + sum(r for r in reach if r < 0), start + sum(r for r in reach if r > 0) + array.itemsize


def _fence() -> None:
    import cupy

    # All streams: a variant may queue work on one of its own.
    cupy.cuda.runtime.deviceSynchronize()


def _trace(function: Callable[[], Any]) -> tuple[Any, list[AllocationEvent]]:
    """Run `function` with a hook on CuPy's memory pool.

    The hook sees only allocations of this thread, and none of `MemoryAsyncPool`.
    """
    import cupy

    events: list[AllocationEvent] = []

    class Recorder(cupy.cuda.MemoryHook):
        name = "copycost"

        def alloc_postprocess(self, *, mem_size: int, **_: Any) -> None:
            events.append(AllocationEvent(mem_size, MemorySpace.DRIVER, _INSTRUMENT))

        def malloc_postprocess(self, *, size: int, mem_size: int, mem_ptr: int, **_: Any) -> None:
            events.append(AllocationEvent(size, MemorySpace.DEVICE, _INSTRUMENT, rounded=mem_size))
            sizes[mem_ptr] = size

        def free_postprocess(self, *, mem_size: int, mem_ptr: int, **_: Any) -> None:
            # For memory that was requested before this trace, only the rounded size is known.
            events.append(
                AllocationEvent(-sizes.pop(mem_ptr, mem_size), MemorySpace.DEVICE, _INSTRUMENT, rounded=mem_size)
            )

    sizes: dict[int, int] = {}
    with Recorder():
        result = function()
        _fence()
    return result, events


#: Kernel that keeps the device busy for a number of nanoseconds, by its global timer (PTX, %globaltimer), without
#: accessing memory.
_HOLD = """
extern "C" __global__ void copycost_hold(long long nanoseconds) {
    long long begin, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
    do { asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)); } while (now - begin < nanoseconds);
}
"""

#: Time for which the device is kept busy while a call is queued: this many nanoseconds, plus this multiple of the time
#: that the host needed for an untimed call just before.
_HOLD_NS, _HOLD_TIMES = 20_000, 3


def _seconds(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> float:
    """Return the mean time between two CUDA events around a call.

    Each of the `n` calls waits behind a kernel until the host has queued the whole call.
    """
    import cupy

    hold = cupy.RawKernel(_HOLD, "copycost_hold")
    args = prepare()
    _fence()
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


def _mark() -> Any:
    import cupy

    event = cupy.cuda.Event()
    event.record()
    return event


def _between(begin: Any, end: Any) -> float:
    import cupy

    end.synchronize()
    return cupy.cuda.get_elapsed_time(begin, end) * 1e-3


def _cache_bytes() -> int:
    import cupy

    return int(cupy.cuda.Device().attributes["L2CacheSize"])


def _read(nbytes: int) -> Callable[[], None]:
    import cupy

    buffer = cupy.ones(nbytes // 8, np.uint64)
    result = cupy.empty((), np.uint64)
    return lambda: buffer.max(out=result)


def _copy(nbytes: int) -> Callable[[], None]:
    import cupy

    source, target = cupy.ones(nbytes, np.uint8), cupy.ones(nbytes, np.uint8)
    return lambda: target.data.copy_from_device_async(source.data, nbytes)


def _upload(pixels: np.ndarray, pinned: bool) -> Callable[[], None]:
    import cupy
    import cupyx

    source = cupyx.empty_pinned(pixels.shape, pixels.dtype) if pinned else np.empty_like(pixels, order="C")
    np.copyto(source, pixels)
    target = cupy.empty(pixels.shape, pixels.dtype)
    return lambda: target.set(source, stream=cupy.cuda.get_current_stream())  # on a stream, it does not wait


def _busy(seconds: float, apart: bool = False) -> None:
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True) if apart else cupy.cuda.get_current_stream()
    with stream:
        cupy.RawKernel(_HOLD, "copycost_hold")((1,), (1,), (np.int64(seconds * 1e9),))


def _kernels(function: Callable[[], Any]) -> tuple[list[Span], str | None]:
    import cupy

    return cupti.recorded(function, Limits.of(cupy.cuda.Device().attributes))


def _used_bytes() -> int:
    import cupy

    return int(cupy.get_default_memory_pool().used_bytes())


RUNTIME = Runtime(
    name="cupy",
    packages=("cupy",),
    install=_INSTALL,
    devices=(DeviceKind.GPU,),
    start=_start,
    array=_array,
    restore=_restore,
    copied=_copied,
    to_numpy=_to_numpy,
    extent=_extent,
    contiguous=lambda array: bool(array.flags.c_contiguous),
    fence=_fence,
    spoil=_spoil,
    trace=_trace,
    instrument=_INSTRUMENT,
    gpu=Device(
        seconds=_seconds,
        cache_bytes=_cache_bytes,
        read=_read,
        copy=_copy,
        instrument="cuda-events",
        sees_driver=True,
        mark=_mark,
        between=_between,
        busy=_busy,
        used_bytes=_used_bytes,
        upload=_upload,
        kernels=_kernels,
    ),
)
