"""PyTorch's tensors.

On the CPU, PyTorch gets every tensor's memory from the C library. On a GPU, its caching allocator keeps a history of
what it was asked for.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter_ns
from typing import Any

import numpy as np

from copycost_meter.device_work import Span
from copycost_meter.events import DEVICE, DRIVER, AllocationEvent
from copycost_meter.library import TEST_BYTES, Device, Library
from copycost_meter.profilers.records import kineto_spans

INSTRUMENT = "torch-history"


def copied(array: Any) -> Any:
    """Return a copy of an array on its device, with the strides of the original where a call can tell."""
    import torch

    # A part of a tensor has gaps that `clone` closes. What is expanded has one element in memory for several.
    base = array.detach()[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.stride())]
    reach = sum((n - 1) * stride for n, stride in zip(base.shape, base.stride()))
    memory = torch.empty(reach + 1 if base.numel() else 0, dtype=array.dtype, device=array.device)
    copy = torch.as_strided(memory, base.shape, base.stride()).copy_(base)
    return copy.expand(array.shape).requires_grad_(array.requires_grad)


def to_numpy(result: Any) -> np.ndarray:
    """Return the values of an array: see `copycost_meter.library.Library`."""
    import torch

    if isinstance(result, np.ndarray):
        return result
    if not isinstance(result, torch.Tensor):
        raise TypeError(f"returned {type(result).__name__}, not a PyTorch tensor")
    return result.detach().cpu().numpy()


def fence() -> None:
    """Return when all work queued so far is done."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()  # all streams


def trace(function: Callable[[], Any]) -> tuple[Any, list[AllocationEvent]]:
    """Run `function` while the caching allocator of the GPU keeps its history."""
    import torch

    memory = torch.cuda.memory
    memory._record_memory_history("all", context=None, clear_history=True)
    try:
        result = function()
        fence()
        snapshot = memory._snapshot()
    finally:
        memory._record_memory_history(None)
    return result, history_events(snapshot["device_traces"][torch.cuda.current_device()])


def history_events(history: Iterable[Mapping[str, Any]]) -> list[AllocationEvent]:
    """Return the requests and releases in the history of PyTorch's caching allocator.

    An entry has an ``action`` and a ``size``: the requested size of an allocation and of its release, or the size of
    memory that the driver was asked for. A release has a second entry when the memory can be used again.
    """
    signs = {
        "alloc": (1, DEVICE),
        "free_requested": (-1, DEVICE),
        "segment_alloc": (1, DRIVER),
        "segment_map": (1, DRIVER),
    }
    return [
        AllocationEvent(sign * int(entry["size"]), space, INSTRUMENT)
        for entry in history
        if entry["action"] in signs
        for sign, space in (signs[entry["action"]],)
    ]


#: Cycles per second that no GPU exceeds so far: `_sleep` then lasts at least as long as wanted.
_CYCLES_PER_SECOND = 3e9

#: Time for which the device is kept busy while a call is queued: this many seconds, plus this multiple of the time that
#: the host needed for an untimed call just before.
_HOLD_SECONDS, _HOLD_TIMES = 20e-6, 3


def seconds(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> float:
    """Return the mean time between two CUDA events around a call, each queued before the device begins with it."""
    import torch

    args = prepare()
    fence()
    start = perf_counter_ns()
    call(*args)
    hold_seconds = _HOLD_SECONDS + _HOLD_TIMES * 1e-9 * (perf_counter_ns() - start)
    total = 0.0
    for _ in range(n):
        args = prepare()
        torch.cuda._sleep(int(hold_seconds * _CYCLES_PER_SECOND))
        begin = mark()
        call(*args)
        total += between(begin, mark())
    return total / n


def mark() -> Any:
    """Queue an event of CUDA, and return it."""
    import torch

    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(begin: Any, end: Any) -> float:
    """Return the device's seconds between two events, once the device has passed both."""
    end.synchronize()
    return begin.elapsed_time(end) * 1e-3


#: Name of the annotation around a profiled call.
_CALL = "copycost call"


def kernels(function: Callable[[], Any]) -> tuple[list[Span], str | None]:
    """Call a function under PyTorch's profiler, and read its trace: other interfaces do not tell a kernel's grid."""
    from torch.profiler import ProfilerActivity, profile, record_function

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler, record_function(_CALL):
        function()
    with tempfile.TemporaryDirectory(prefix="copycost-") as folder:
        path = os.path.join(folder, "trace.json")
        profiler.export_chrome_trace(path)
        with open(path, encoding="utf-8") as file:
            spans = kineto_spans(json.load(file)["traceEvents"], _CALL)
    return spans, None if spans else "PyTorch's profiler saw no work of the device"


def _make() -> Any:
    import torch

    return torch.ones(TEST_BYTES, dtype=torch.uint8, device="cpu")


def _buffer(nbytes: int) -> Any:
    import torch

    return torch.ones(nbytes, dtype=torch.uint8, device="cuda")


LIBRARY = Library(
    name="torch",
    copied=copied,
    to_numpy=to_numpy,
    fence=fence,
    make=_make,
    device=Device(
        trace=trace,
        instrument=INSTRUMENT,
        buffer=_buffer,
        seconds=seconds,
        clock="cuda-events",
        kernels=kernels,
    ),
)
