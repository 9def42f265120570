"""CuPy with the driver's own pool, cudaMallocAsync, in place of CuPy's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from copycost.model.allocation import AllocationEvent
from copycost.model.runtime import RuntimeUnavailable
from copycost.runtimes import cupy

_INSTRUMENT = "cupy-allocator"


def _start(device: str, threads: int) -> None:
    import cupy

    cupy.RUNTIME.start(device, threads)
    try:
        cupy.cuda.set_allocator(cupy.cuda.MemoryAsyncPool().malloc)
        cupy.empty(1)
    except RuntimeError as error:  # CUDARuntimeError is one
        raise RuntimeUnavailable(f"no cudaMallocAsync here: {error}") from None


def _trace(function: Callable[[], Any]) -> tuple[Any, list[AllocationEvent]]:
    """Run `function` with an allocator that tells what it is asked for, and asks cudaMallocAsync.

    A hook on CuPy's pool sees nothing of it. What was allocated before is released by its own allocator, and not seen.
    """
    import cupy

    events: list[AllocationEvent] = []
    sizes: dict[int, int] = {}

    def malloc(size: int, device: int) -> int:
        pointer = cupy.cuda.runtime.mallocAsync(size, cupy.cuda.get_current_stream().ptr)
        events.append(AllocationEvent(size, "device", _INSTRUMENT))
        sizes[pointer] = size
        return pointer

    def free(pointer: int, device: int) -> None:
        cupy.cuda.runtime.freeAsync(pointer, cupy.cuda.get_current_stream().ptr)
        events.append(AllocationEvent(-sizes.pop(pointer), "device", _INSTRUMENT))

    with cupy.cuda.using_allocator(cupy.cuda.PythonFunctionAllocator(malloc, free).malloc):
        result = function()
        cupy.RUNTIME.fence()
    return result, events[:]  # what is released later is not of this call


assert cupy.RUNTIME.gpu is not None
RUNTIME = replace(
    cupy.RUNTIME,
    name="cupy_async",
    start=_start,
    trace=_trace,
    instrument=_INSTRUMENT,
    gpu=replace(cupy.RUNTIME.gpu, sees_driver=False),
)
