"""Define the CuPy runtime, for arrays in device memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from copycost.model.runtime import Device, Runtime, RuntimeUnavailable
from copycost.model.vocabulary import DeviceKind
from copycost_meter.errors import describe
from copycost_meter.libraries.cupy import (
    HOLD,
    INSTRUMENT,
    between,
    copied,
    extent,
    fence,
    kernels,
    mark,
    seconds,
    to_numpy,
    trace,
)

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
        cupy.RawKernel(HOLD, "copycost_hold").compile()
    except Exception as error:  # a library of CUDA that is not found has errors of its own
        raise RuntimeUnavailable(f"CuPy compiles no kernel: {describe(error)}; its libraries: {_INSTALL}") from None


def _array(pixels: np.ndarray, mutable: bool) -> Any:
    import cupy

    return cupy.array(pixels, order="C")


def _restore(array: Any, pristine: Any) -> Any:
    array[...] = pristine
    return array


def _spoil(result: Any) -> None:
    if result.dtype.kind == "f":
        result.fill(np.nan)
    else:
        result[...] = ~result


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
        cupy.RawKernel(HOLD, "copycost_hold")((1,), (1,), (np.int64(seconds * 1e9),))


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
    copied=copied,
    to_numpy=to_numpy,
    extent=extent,
    contiguous=lambda array: bool(array.flags.c_contiguous),
    fence=fence,
    spoil=_spoil,
    trace=trace,
    instrument=INSTRUMENT,
    gpu=Device(
        seconds=seconds,
        cache_bytes=_cache_bytes,
        read=_read,
        copy=_copy,
        instrument="cuda-events",
        sees_driver=True,
        mark=mark,
        between=between,
        busy=_busy,
        used_bytes=_used_bytes,
        upload=_upload,
        kernels=kernels,
    ),
)
