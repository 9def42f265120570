"""Define the JAX runtime, for arrays on the CPU or a GPU.

XLA's CPU client allocates every array through the C library, so that memray sees all of them. On a GPU, JAX's profiler
records the requests to XLA's allocator, kernels and copies.
"""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from copycost.machine.xplane import Event, allocations, kernel_seconds, kernel_spans, make_calls, of_profile_data
from copycost.model.allocation import AllocationEvent, InstrumentBusyError
from copycost.model.call_profile import Span
from copycost.model.runtime import ConsumedArrayError, Device, Runtime, RuntimeUnavailable
from copycost.model.vocabulary import DeviceKind

_INSTRUMENT = "jax-profiler"


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

    return _wait(jnp.array(pixels))  # the fence does not wait for it


def _restore(array: Any, pristine: Any) -> Any:
    import jax.numpy as jnp

    return _wait(jnp.array(pristine))  # a copy


def _copied(array: Any) -> Any:
    import jax.numpy as jnp

    return _wait(jnp.array(array, copy=True))  # a call may consume it


def _to_numpy(result: Any) -> np.ndarray:
    import jax

    if isinstance(result, np.ndarray):
        return result
    if not isinstance(result, jax.Array):
        raise TypeError(f"returned {type(result).__name__}, not a JAX array")
    if result.is_deleted():
        raise ConsumedArrayError("the array was donated")
    return np.asarray(result)


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


def _wait(result: Any) -> Any:
    return result.block_until_ready() if hasattr(result, "block_until_ready") else result


def _trace(function: Callable[[], Any]) -> tuple[Any, list[AllocationEvent]]:
    """Run `function` under JAX's profiler, whose trace lists each request to the allocator of a GPU."""
    result, events = profiled(function)
    return result, allocations(events, _INSTRUMENT)


def profiled(function: Callable[[], Any]) -> tuple[Any, list[Event]]:
    """Run `function` under JAX's profiler, and return its result and the events of the trace."""
    import jax

    with tempfile.TemporaryDirectory(prefix="copycost-") as folder:
        try:
            jax.profiler.start_trace(folder)
        except RuntimeError as error:
            raise InstrumentBusyError(f"JAX's profiler: {error}") from None
        try:
            result = _wait(function())
        finally:
            jax.profiler.stop_trace()
        names = glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True)
        events = [event for name in names for event in of_profile_data(jax.profiler.ProfileData.from_file(name))]
    return result, events


def _seconds(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> float | None:
    return kernel_seconds(profiled(partial(annotated, call, prepare, n))[1])


def annotated(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> None:
    """Make a few calls that a trace shows: see `make_calls`."""
    import jax

    make_calls(call, prepare, n, jax.profiler.TraceAnnotation, jax.block_until_ready)


def _kernels(function: Callable[[], Any]) -> tuple[list[Span], str | None]:
    spans = kernel_spans(profiled(partial(annotated, function, tuple, 1))[1])
    return spans, None if spans else "JAX's profiler saw no work of the device"


#: At least the size of the L2 cache of any GPU so far, as JAX does not report it.
_CACHE_BYTES = 128 * 2**20


def _read(nbytes: int) -> Callable[[], None]:
    import jax.numpy as jnp

    buffer = jnp.zeros(nbytes // 4, np.float32)

    def read() -> None:
        _wait(buffer.max())

    return read


def _copy(nbytes: int) -> Callable[[], Any]:
    import jax.numpy as jnp

    source = jnp.zeros(nbytes // 4, np.float32)
    return lambda: _wait(jnp.array(source, copy=True))


def _upload(pixels: np.ndarray, pinned: bool) -> Callable[[], None]:
    import jax

    source: Any = np.array(pixels)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    if pinned:
        source = _wait(jax.device_put(source, sharding.with_memory_kind("pinned_host")))

    def upload() -> None:
        _wait(jax.device_put(source, sharding))

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
    copied=_copied,
    to_numpy=_to_numpy,
    extent=_extent,
    contiguous=lambda array: not isinstance(array, np.ndarray) or bool(array.flags.c_contiguous),
    fence=lambda: None,
    wait=_wait,  # JAX has no fence for all queued work, only for individual arrays
    gpu=Device(
        seconds=_seconds,
        cache_bytes=lambda: _CACHE_BYTES,
        read=_read,
        copy=_copy,
        instrument=_INSTRUMENT,
        sees_driver=False,
        trace=_trace,
        trace_instrument=_INSTRUMENT,
        used_bytes=_used_bytes,
        upload=_upload,
        kernels=_kernels,
    ),
    slow_to_start=True,
)
