"""Define the JAX runtime, for arrays on the CPU or a GPU.

XLA's CPU client allocates every array through the C library, so that memray sees all of them. On a GPU, JAX's profiler
records the requests to XLA's allocator, kernels and copies.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from copycost.model.runtime import Device, Runtime, RuntimeUnavailable
from copycost.model.vocabulary import DeviceKind
from copycost_meter.libraries.jax import INSTRUMENT, copied, kernels, seconds, to_numpy, trace, wait
from copycost_meter.library import ConsumedArrayError


def _start(device: DeviceKind, threads: int) -> None:
    import jax

    on_gpu = device == DeviceKind.GPU
    if on_gpu:
        # Otherwise, the first array takes three quarters of the device's memory, which other processes need.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax.config.update("jax_platforms", "cuda" if on_gpu else "cpu")
    jax.config.update("jax_enable_x64", True)  # otherwise, float64 becomes float32
    # Otherwise, another thread releases the memory that a call no longer needs, sometimes during the next call.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if on_gpu:
        try:
            jax.devices("cuda")
        except RuntimeError as error:
            raise RuntimeUnavailable(f"JAX sees no CUDA device: {error}") from None


def _array(pixels: np.ndarray, mutable: bool) -> Any:
    import jax.numpy as jnp

    return wait(jnp.array(pixels))  # the fence does not wait for it


def _restore(array: Any, pristine: Any) -> Any:
    import jax.numpy as jnp

    return wait(jnp.array(pristine))  # a copy


def _extent(array: Any) -> tuple[int, int] | None:
    import jax

    if isinstance(array, np.ndarray):
        return byte_bounds(array)
    if not isinstance(array, jax.Array):
        return None
    if array.is_deleted():
        raise ConsumedArrayError("the array was donated")
    start = array.unsafe_buffer_pointer()
    return start, start + array.nbytes


#: At least the size of the L2 cache of any GPU so far, as JAX does not report it.
_CACHE_BYTES = 128 * 2**20


def _read(nbytes: int) -> Callable[[], None]:
    import jax.numpy as jnp

    buffer = jnp.zeros(nbytes // 4, np.float32)

    def read() -> None:
        wait(buffer.max())

    return read


def _copy(nbytes: int) -> Callable[[], Any]:
    import jax.numpy as jnp

    source = jnp.zeros(nbytes // 4, np.float32)
    return lambda: wait(jnp.array(source, copy=True))


def _upload(pixels: np.ndarray, pinned: bool) -> Callable[[], None]:
    import jax

    source: Any = np.array(pixels)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    if pinned:
        source = wait(jax.device_put(source, sharding.with_memory_kind("pinned_host")))

    def upload() -> None:
        wait(jax.device_put(source, sharding))

    return upload


def _used_bytes() -> int:
    import jax

    return int((jax.devices()[0].memory_stats() or {})["bytes_in_use"])


RUNTIME = Runtime(
    name="jax",
    packages=("jax", "jax.numpy"),
    install="pip install -e '.[jax]' in a clone of copycost",
    devices=(DeviceKind.CPU, DeviceKind.GPU),
    start=_start,
    array=_array,
    restore=_restore,
    copied=copied,
    to_numpy=to_numpy,
    extent=_extent,
    contiguous=lambda array: not isinstance(array, np.ndarray) or bool(array.flags.c_contiguous),
    fence=lambda: None,
    wait=wait,  # JAX has no fence for all queued work, only for individual arrays
    gpu=Device(
        seconds=seconds,
        cache_bytes=lambda: _CACHE_BYTES,
        read=_read,
        copy=_copy,
        instrument=INSTRUMENT,
        sees_driver=False,
        trace=trace,
        trace_instrument=INSTRUMENT,
        used_bytes=_used_bytes,
        upload=_upload,
        kernels=kernels,
    ),
    slow_to_start=True,
)
