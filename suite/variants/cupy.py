"""CuPy: new arrays, a prepared buffer, over the input, and one fused kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from suite.measure.allocations import Event
from suite.recipes import (
    CAFFE_MEAN,
    TORCH_MEAN,
    TORCH_STD,
    channels_reversed,
    per_channel,
    result_dtype,
)
from suite.registry import variant
from suite.runtime import Runtime, Unavailable

_INSTRUMENT = "cupy-hook"


def _start(device: str, threads: int) -> None:
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise Unavailable(f"CuPy sees no CUDA device: {error}") from None
    if not count:
        raise Unavailable("CuPy sees no CUDA device")
    cupy.cuda.Device(0).use()


def _array(pixels: np.ndarray, mutable: bool) -> Any:
    import cupy

    return cupy.array(pixels, order="C")


def _restore(array: Any, pristine: Any) -> Any:
    array[...] = pristine
    return array


def _to_numpy(result: Any) -> np.ndarray:
    import cupy

    if isinstance(result, np.ndarray):
        return result
    if not isinstance(result, cupy.ndarray):
        raise TypeError(f"returned {type(result).__name__}, not a CuPy array")
    return cupy.asnumpy(result)


def _extent(array: Any) -> tuple[int, int] | None:
    import cupy

    if not isinstance(array, cupy.ndarray):
        return None
    # The data pointer is that of the first element; a negative stride reaches below it.
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    start = array.data.ptr
    return start + sum(r for r in reach if r < 0), start + sum(r for r in reach if r > 0) + array.itemsize


def _fence() -> None:
    import cupy

    cupy.cuda.get_current_stream().synchronize()


def _trace(function: Callable[[], Any]) -> tuple[Any, list[Event]]:
    """Run `function` with a hook on CuPy's memory pool. The hook sees this thread, and not `MemoryAsyncPool`."""
    import cupy

    events: list[Event] = []

    class Recorder(cupy.cuda.MemoryHook):
        name = "copycost"

        def malloc_postprocess(self, *, size: int, mem_ptr: int, **_: Any) -> None:
            events.append(Event(size, "device", _INSTRUMENT))
            sizes[mem_ptr] = size

        def free_postprocess(self, *, mem_size: int, mem_ptr: int, **_: Any) -> None:
            # What was requested before this trace is known by its rounded size only.
            events.append(Event(-sizes.pop(mem_ptr, mem_size), "device", _INSTRUMENT))

    sizes: dict[int, int] = {}
    with Recorder():
        result = function()
        _fence()
    return result, events


RUNTIME = Runtime(
    name="cupy",
    packages=("cupy",),
    install="pip install 'copycost[cupy]'",
    devices=("gpu",),
    start=_start,
    array=_array,
    restore=_restore,
    to_numpy=_to_numpy,
    extent=_extent,
    contiguous=lambda array: bool(array.flags.c_contiguous),
    fence=_fence,
    trace=_trace,
    instrument=_INSTRUMENT,
)


class Formula(NamedTuple):
    """A recipe in CuPy: as statements, into a buffer, and as one elementwise kernel."""

    statements: Callable[[Any], Any]
    into: Callable[[Any, Any], Any]
    fused: Callable[[Any], Any]


def tf(x: Any) -> Formula:
    """x / 127.5 − 1."""
    import cupy

    dtype = result_dtype(x.dtype)
    scale, one = dtype.type(127.5), dtype.type(1)

    def statements(x):
        scaled = x / scale
        return scaled - one

    def into(x, out):
        cupy.divide(x, scale, out=out)
        cupy.subtract(out, one, out=out)
        return out

    kernel = cupy.ElementwiseKernel("T x", "R y", "y = R(x) / R(127.5) - R(1)", "copycost_tf")
    return Formula(statements, into, lambda x: kernel(x, cupy.empty(x.shape, dtype)))


def caffe(x: Any) -> Formula:
    """Channels reversed, minus the mean."""
    import cupy

    dtype = result_dtype(x.dtype)
    mean = cupy.asarray(per_channel(CAFFE_MEAN, x.shape, dtype))
    bgr = channels_reversed(x.shape)

    def statements(x):
        reversed_ = cupy.ascontiguousarray(x[bgr])
        return reversed_ - mean

    def into(x, out):
        # A kernel that reads x reversed while it writes over x would read what it has just written.
        source = x[bgr].copy() if out is x else x[bgr]
        cupy.subtract(source, mean, out=out)
        return out

    kernel = cupy.ElementwiseKernel("T x, R mean", "R y", "y = R(x) - mean", "copycost_caffe")
    return Formula(statements, into, lambda x: kernel(x[bgr], mean, cupy.empty(x.shape, dtype)))


def torch(x: Any) -> Formula:
    """(x / 255 − mean) / standard deviation."""
    import cupy

    dtype = result_dtype(x.dtype)
    scale = dtype.type(255)
    mean = cupy.asarray(per_channel(TORCH_MEAN, x.shape, dtype))
    std = cupy.asarray(per_channel(TORCH_STD, x.shape, dtype))

    def statements(x):
        scaled = x / scale
        centred = scaled - mean
        return centred / std

    def into(x, out):
        cupy.divide(x, scale, out=out)
        cupy.subtract(out, mean, out=out)
        cupy.divide(out, std, out=out)
        return out

    kernel = cupy.ElementwiseKernel("T x, R mean, R std", "R y", "y = (R(x) / R(255) - mean) / std", "copycost_torch")
    return Formula(statements, into, lambda x: kernel(x, mean, std, cupy.empty(x.shape, dtype)))


def _register(recipe: str, formula: Callable[[Any], Formula]) -> None:
    @variant(recipe=recipe, runtime="cupy", writes="new")
    def cupy_new(example):
        return formula(example).statements

    @variant(recipe=recipe, runtime="cupy", writes="out")
    def cupy_out(example):
        return formula(example).into

    @variant(recipe=recipe, runtime="cupy", writes="input")
    def cupy_inplace(example):
        into = formula(example).into
        return lambda x: into(x, x)

    @variant(recipe=recipe, runtime="cupy", writes="new")
    def cupy_fused(example):
        return formula(example).fused


for _recipe, _formula in {"caffe": caffe, "tf": tf, "torch": torch}.items():
    _register(_recipe, _formula)
