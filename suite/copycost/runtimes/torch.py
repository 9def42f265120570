"""Define the PyTorch runtime, for tensors on the CPU or a GPU.

PyTorch's CPU allocator allocates every tensor through the C library, so that memray sees all of them. On a GPU, its
caching allocator keeps a history of what it was asked for.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from copycost.machine.device_records import kineto_spans
from copycost.model.allocation import AllocationEvent
from copycost.model.call_profile import Span
from copycost.model.runtime import Device, Runtime, RuntimeUnavailable
from copycost.model.vocabulary import DeviceKind, MemorySpace

_INSTRUMENT = "torch-history"

#: PyTorch's name of the device of this process, which `_start` sets.
_place = "cpu"


def _start(device: DeviceKind, threads: int) -> None:
    global _place
    import torch

    torch.set_num_threads(threads)
    if device == DeviceKind.GPU:
        if not torch.cuda.is_available():
            why = "was built without CUDA" if torch.version.cuda is None else "sees no CUDA device"
            raise RuntimeUnavailable(f"this PyTorch {why}")
        torch.cuda.set_device(0)
    _place = "cuda" if device == DeviceKind.GPU else "cpu"


def _array(pixels: np.ndarray, mutable: bool) -> Any:
    import torch

    return torch.from_numpy(np.array(pixels, order="C")).to(_place)


def _restore(array: Any, pristine: Any) -> Any:
    array.copy_(pristine)
    return array


def _copied(array: Any) -> Any:
    import torch

    # A part of a tensor has gaps that `clone` closes. What is expanded has one element in memory for several.
    base = array.detach()[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.stride())]
    reach = sum((n - 1) * stride for n, stride in zip(base.shape, base.stride(), strict=True))
    memory = torch.empty(reach + 1 if base.numel() else 0, dtype=array.dtype, device=array.device)
    copy = torch.as_strided(memory, base.shape, base.stride()).copy_(base)
    return copy.expand(array.shape).requires_grad_(array.requires_grad)


def _to_numpy(result: Any) -> np.ndarray:
    import torch

    if isinstance(result, np.ndarray):
        return result
    if not isinstance(result, torch.Tensor):
        raise TypeError(f"returned {type(result).__name__}, not a PyTorch tensor")
    return result.detach().cpu().numpy()


def _spoil(result: Any) -> None:
    if isinstance(result, np.ndarray):
        result[...] = np.nan if result.dtype.kind in "fc" else np.invert(result)
    elif result.dtype.is_floating_point:
        result.fill_(np.nan)
    else:
        result.bitwise_not_()


def _extent(array: Any) -> tuple[int, int] | None:
    import torch

    if isinstance(array, np.ndarray):
        return byte_bounds(array)
    if not isinstance(array, torch.Tensor):
        return None
    start = array.data_ptr()
    # Tensor strides are never negative.
    reach = sum((n - 1) * stride for n, stride in zip(array.shape, array.stride(), strict=True))
    return start, start + (reach + 1) * array.element_size()


def _contiguous(array: Any) -> bool:
    return bool(array.flags.c_contiguous if isinstance(array, np.ndarray) else array.is_contiguous())


def _fence() -> None:
    import torch

    if _place != "cpu":
        torch.cuda.synchronize()  # all streams


def _trace(function: Callable[[], Any]) -> tuple[Any, list[AllocationEvent]]:
    """Run `function` while the caching allocator of the GPU keeps its history."""
    import torch

    memory = torch.cuda.memory
    memory._record_memory_history("all", context=None, clear_history=True)
    try:
        result = function()
        _fence()
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
        "alloc": (1, MemorySpace.DEVICE),
        "free_requested": (-1, MemorySpace.DEVICE),
        "segment_alloc": (1, MemorySpace.DRIVER),
        "segment_map": (1, MemorySpace.DRIVER),
    }
    return [
        AllocationEvent(sign * int(entry["size"]), space, _INSTRUMENT)
        for entry in history
        if entry["action"] in signs
        for sign, space in (signs[entry["action"]],)
    ]


#: Cycles per second that no GPU exceeds so far: `_sleep` then lasts at least as long as wanted.
_CYCLES_PER_SECOND = 3e9

#: Time for which the device is kept busy while a call is queued: this many seconds, plus this multiple of the time that
#: the host needed for an untimed call just before.
_HOLD_SECONDS, _HOLD_TIMES = 20e-6, 3


def _seconds(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> float:
    """Return the mean time between two CUDA events around a call, each queued before the device begins with it."""
    import torch

    args = prepare()
    _fence()
    start = perf_counter_ns()
    call(*args)
    hold_seconds = _HOLD_SECONDS + _HOLD_TIMES * 1e-9 * (perf_counter_ns() - start)
    total = 0.0
    for _ in range(n):
        args = prepare()
        torch.cuda._sleep(int(hold_seconds * _CYCLES_PER_SECOND))
        begin = _mark()
        call(*args)
        total += _between(begin, _mark())
    return total / n


def _mark() -> Any:
    import torch

    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(begin: Any, end: Any) -> float:
    end.synchronize()
    return begin.elapsed_time(end) * 1e-3


def _cache_bytes() -> int:
    import torch

    return int(torch.cuda.get_device_properties(0).L2_cache_size)


def _read(nbytes: int) -> Callable[[], None]:
    import torch

    buffer, result = torch.ones(nbytes // 4, device=_place), torch.empty((), device=_place)

    def read() -> None:
        torch.amax(buffer, 0, out=result)

    return read


def _copy(nbytes: int) -> Callable[[], None]:
    import torch

    source, target = (torch.ones(nbytes, dtype=torch.uint8, device=_place) for _ in range(2))

    def copy() -> None:
        target.copy_(source)

    return copy


def _upload(pixels: np.ndarray, pinned: bool) -> Callable[[], None]:
    import torch

    source = torch.from_numpy(np.array(pixels, order="C"))
    if pinned:
        source = source.pin_memory()
    target = torch.empty_like(source, device=_place)

    def upload() -> None:
        target.copy_(source, non_blocking=True)

    return upload


#: Name of the annotation around a profiled call.
_CALL = "copycost call"


def _kernels(function: Callable[[], Any]) -> tuple[list[Span], str | None]:
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


def _used_bytes() -> int:
    import torch

    return int(torch.cuda.memory_stats()["requested_bytes.all.current"])


RUNTIME = Runtime(
    name="torch",
    # `torch.compile` would import the second package when it is called, and the third when it compiles.
    packages=("torch", "torch._dynamo", "torch._inductor.compile_fx"),
    install="pip install -e '.[torch]' in a clone of copycost",
    devices=(DeviceKind.CPU, DeviceKind.GPU),
    start=_start,
    array=_array,
    restore=_restore,
    copied=_copied,
    to_numpy=_to_numpy,
    extent=_extent,
    contiguous=_contiguous,
    fence=_fence,
    spoil=_spoil,
    gpu=Device(
        seconds=_seconds,
        cache_bytes=_cache_bytes,
        read=_read,
        copy=_copy,
        instrument="cuda-events",
        sees_driver=True,
        mark=_mark,
        between=_between,
        trace=_trace,
        trace_instrument=_INSTRUMENT,
        used_bytes=_used_bytes,
        upload=_upload,
        kernels=_kernels,
    ),
    slow_to_start=True,
)
