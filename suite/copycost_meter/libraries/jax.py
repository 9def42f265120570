"""JAX's arrays.

XLA's CPU client gets every array's memory from the C library. On a GPU, JAX's profiler records the requests to XLA's
allocator, kernels and copies.
"""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from copycost_meter.device_work import Span
from copycost_meter.events import AllocationEvent, InstrumentBusyError
from copycost_meter.library import TEST_BYTES, ConsumedArrayError, Device, Library
from copycost_meter.profilers.xplane import (
    Event,
    allocations,
    kernel_seconds,
    kernel_spans,
    make_calls,
    of_profile_data,
)

INSTRUMENT = "jax-profiler"


def copied(array: Any) -> Any:
    """Return a copy of an array on its device, with the strides of the original where a call can tell."""
    import jax.numpy as jnp

    return wait(jnp.array(array, copy=True))  # a call may consume it


def to_numpy(result: Any) -> np.ndarray:
    """Return the values of an array: see `copycost_meter.library.Library`."""
    import jax

    if isinstance(result, np.ndarray):
        return result
    if not isinstance(result, jax.Array):
        raise TypeError(f"returned {type(result).__name__}, not a JAX array")
    if result.is_deleted():
        raise ConsumedArrayError("the array was donated")
    return np.asarray(result)


def wait(result: Any) -> Any:
    """Return an array, or arrays in a list, tuple or dict, when they are ready, and any other value at once."""
    if hasattr(result, "block_until_ready"):  # less work than JAX's function for any tree
        return result.block_until_ready()
    if not isinstance(result, (list, tuple, dict)):
        return result
    import jax

    return jax.block_until_ready(result)


def trace(function: Callable[[], Any]) -> tuple[Any, list[AllocationEvent]]:
    """Run `function` under JAX's profiler, whose trace lists each request to the allocator of a GPU."""
    result, events = profiled(function)
    return result, allocations(events, INSTRUMENT)


def profiled(function: Callable[[], Any]) -> tuple[Any, list[Event]]:
    """Run `function` under JAX's profiler, and return its result and the events of the trace."""
    import jax

    with tempfile.TemporaryDirectory(prefix="copycost-") as folder:
        try:
            jax.profiler.start_trace(folder)
        except RuntimeError as error:
            raise InstrumentBusyError(f"JAX's profiler: {error}") from None
        try:
            result = wait(function())
        finally:
            jax.profiler.stop_trace()
        names = glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True)
        events = [event for name in names for event in of_profile_data(jax.profiler.ProfileData.from_file(name))]
    return result, events


def seconds(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> float | None:
    """Return the device's time for a call: see `copycost_meter.library.Device`."""
    return kernel_seconds(profiled(partial(annotated, call, prepare, n))[1])


def kernels(function: Callable[[], Any]) -> tuple[list[Span], str | None]:
    """Call a function and return the kernels and copies of the device: see `copycost_meter.library.Kernels`."""
    spans = kernel_spans(profiled(partial(annotated, function, tuple, 1))[1])
    return spans, None if spans else "JAX's profiler saw no work of the device"


def annotated(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> None:
    """Make a few calls that a trace shows: see `make_calls`."""
    import jax

    make_calls(call, prepare, n, jax.profiler.TraceAnnotation, jax.block_until_ready)


def _on(platform: str, nbytes: int) -> Any:
    import jax

    return wait(jax.device_put(np.ones(nbytes // 4, np.float32), jax.devices(platform)[0]))


def _make() -> Any:
    return _on("cpu", TEST_BYTES)


LIBRARY = Library(
    name="jax",
    copied=copied,
    to_numpy=to_numpy,
    fence=lambda: None,
    make=_make,
    wait=wait,
    device=Device(
        trace=trace,
        instrument=INSTRUMENT,
        buffer=partial(_on, "cuda"),
        seconds=seconds,
        clock=INSTRUMENT,
        kernels=kernels,
    ),
)
