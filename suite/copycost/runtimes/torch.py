"""Define the PyTorch runtime, for tensors on the CPU.

PyTorch's CPU allocator allocates every tensor through the C library, so that memray sees all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from copycost.model.runtime import Runtime
from copycost.model.vocabulary import DeviceKind


def _start(device: DeviceKind, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _array(pixels: np.ndarray, mutable: bool) -> Any:
    import torch

    return torch.from_numpy(np.array(pixels, order="C"))


def _restore(array: Any, pristine: Any) -> Any:
    array.copy_(pristine)
    return array


def _to_numpy(result: Any) -> np.ndarray:
    import torch

    if isinstance(result, np.ndarray):
        return result
    if not isinstance(result, torch.Tensor):
        raise TypeError(f"returned {type(result).__name__}, not a PyTorch tensor")
    return result.detach().numpy()


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


RUNTIME = Runtime(
    name="torch",
    # `torch.compile` would import the second package when it is called, and the third when it compiles.
    packages=("torch", "torch._dynamo", "torch._inductor.compile_fx"),
    install="pip install -e '.[torch]' in a clone of copycost",
    devices=(DeviceKind.CPU,),
    start=_start,
    array=_array,
    restore=_restore,
    to_numpy=_to_numpy,
    extent=_extent,
    contiguous=_contiguous,
    fence=lambda: None,
    slow_to_start=True,
)
