"""Define the PyTorch runtime, for tensors on the CPU or a GPU.

PyTorch's CPU allocator allocates every tensor through the C library, so that memray sees all of them. On a GPU, its
caching allocator keeps a history of what it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from copycost.model.runtime import Device, Runtime, RuntimeUnavailable
from copycost.model.vocabulary import DeviceKind
from copycost_meter.libraries.torch import INSTRUMENT, between, copied, fence, kernels, mark, seconds, to_numpy, trace

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
    copied=copied,
    to_numpy=to_numpy,
    extent=_extent,
    contiguous=_contiguous,
    fence=fence,
    spoil=_spoil,
    gpu=Device(
        seconds=seconds,
        cache_bytes=_cache_bytes,
        read=_read,
        copy=_copy,
        instrument="cuda-events",
        sees_driver=True,
        mark=mark,
        between=between,
        trace=trace,
        trace_instrument=INSTRUMENT,
        used_bytes=_used_bytes,
        upload=_upload,
        kernels=kernels,
    ),
    slow_to_start=True,
)
