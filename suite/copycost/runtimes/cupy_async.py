"""Define the CuPy runtime with the driver's memory pool, cudaMallocAsync, instead of CuPy's pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from copycost.model.runtime import RuntimeUnavailable
from copycost.model.vocabulary import DeviceKind, MemorySpace
from copycost.runtimes import cupy
from copycost_meter.events import AllocationEvent

_INSTRUMENT = "cupy-allocator"


def _start(device: DeviceKind, threads: int) -> None:
    import cupy

    cupy.RUNTIME.start(device, threads)
    try:
        cupy.cuda.set_allocator(cupy.cuda.MemoryAsyncPool().malloc)
        cupy.empty(1)
    except RuntimeError as error:  # includes CUDARuntimeError
        raise RuntimeUnavailable(f"no cudaMallocAsync here: {error}") from None


def _trace(function: Callable[[], Any]) -> tuple[Any, list[AllocationEvent]]:
    """Run `function` with an allocator that records requests and forwards them to cudaMallocAsync.

    A hook on CuPy's pool does not see these requests. Memory that was allocated before the trace is released by its
    original allocator and not recorded.
    """
    import cupy

    events: list[AllocationEvent] = []
    sizes: dict[int, int] = {}

    def malloc(size: int, device: int) -> int:
        pointer = cupy.cuda.runtime.mallocAsync(size, cupy.cuda.get_current_stream().ptr)
        events.append(AllocationEvent(size, MemorySpace.DEVICE, _INSTRUMENT))
        sizes[pointer] = size
        return pointer

    def free(pointer: int, device: int) -> None:
        cupy.cuda.runtime.freeAsync(pointer, cupy.cuda.get_current_stream().ptr)
        events.append(AllocationEvent(-sizes.pop(pointer), MemorySpace.DEVICE, _INSTRUMENT))

    with cupy.cuda.using_allocator(cupy.cuda.PythonFunctionAllocator(malloc, free).malloc):
        result = function()
        cupy.RUNTIME.fence()
    return result, events[:]  # a copy, as later releases do not belong to this call


assert cupy.RUNTIME.gpu is not None
RUNTIME = replace(
    cupy.RUNTIME,
    name="cupy_async",
    start=_start,
    trace=_trace,
    instrument=_INSTRUMENT,
    # CuPy's pool serves no request of this runtime.
    gpu=replace(cupy.RUNTIME.gpu, sees_driver=False, used_bytes=None),
)
