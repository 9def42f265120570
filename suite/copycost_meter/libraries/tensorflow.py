"""TensorFlow's tensors and variables.

With oneDNN, TensorFlow's CPU allocator keeps freed memory. Its profiler sees the requests, and memray does not.
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
from copycost_meter.library import TEST_BYTES, Device, Library
from copycost_meter.profilers.xplane import allocations, kernel_seconds, kernel_spans, make_calls, of_protobuf

INSTRUMENT = "tf-profiler"


def copied(array: Any) -> Any:
    """Return a variable with the same value, and a tensor as it is: no call can change it."""
    import tensorflow as tf

    if not isinstance(array, tf.Variable):
        return array
    # Adding 0 makes a buffer that the variable alone has.
    return tf.Variable(array.read_value() + tf.constant(0, array.dtype), trainable=array.trainable)


def to_numpy(result: Any) -> np.ndarray:
    """Return the values of an array: see `copycost_meter.library.Library`."""
    import tensorflow as tf

    if isinstance(result, np.ndarray):
        return result
    if isinstance(result, tf.Variable):
        result = result.read_value()
    if not isinstance(result, tf.Tensor):
        raise TypeError(f"returned {type(result).__name__}, not a dense tensor, a variable or a NumPy array")
    # Use the tensor's own memory if it is accessible; `.numpy()` copies.
    return np.asarray(memoryview(result)) if in_host_memory(result) else result.numpy()


def in_host_memory(tensor: Any) -> bool:
    """Return whether a tensor's memory is accessible: on the CPU, with a dtype that the buffer protocol supports."""
    import tensorflow as tf

    return "GPU" not in tensor.device and tensor.dtype != tf.bfloat16


def fence() -> None:
    """Return when all work queued so far is done."""
    import tensorflow as tf

    tf.test.experimental.sync_devices()


def trace(function: Callable[[], Any]) -> tuple[Any, list[AllocationEvent]]:
    """Run `function` under TensorFlow's profiler, whose trace lists each request to TensorFlow's allocators.

    With oneDNN, the CPU allocator keeps freed memory. It does not request that memory from the C library again, so that
    memray does not see the request, but the trace contains it. Requests below the allocator's threshold (256 KB) go to
    the C library and are not in the trace.
    """
    result, planes = profiled(function)
    return result, allocations(of_protobuf(planes), INSTRUMENT)


def profiled(function: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """Run `function` under TensorFlow's profiler and return its result and the planes of the trace (xplane.proto)."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(
        host_tracer_level=2, python_tracer_level=0, device_tracer_level=1
    )
    with tempfile.TemporaryDirectory(prefix="copycost-") as folder:
        try:
            tf.profiler.experimental.start(folder, options=options)
        except tf.errors.AlreadyExistsError:
            raise InstrumentBusyError("another TensorFlow profiler is running") from None
        try:
            result = function()
            fence()
        finally:
            tf.profiler.experimental.stop()
        planes: list[Any] = []
        for name in glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True):
            space = xplane_pb2.XSpace()
            with open(name, "rb") as file:
                space.ParseFromString(file.read())
            planes += space.planes
        return result, planes


def seconds(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> float | None:
    """Return the device's time for a call: see `copycost_meter.library.Device`."""
    planes = profiled(partial(annotated, call, prepare, n))[1]
    return kernel_seconds(list(of_protobuf(planes)))


def kernels(function: Callable[[], Any]) -> tuple[list[Span], str | None]:
    """Call a function and return the kernels and copies of the device: see `copycost_meter.library.Kernels`."""
    spans = kernel_spans(list(of_protobuf(profiled(partial(annotated, function, tuple, 1))[1])))
    return spans, None if spans else "TensorFlow's profiler saw no work of the device"


def annotated(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> None:
    """Make a few calls that a trace shows: see `make_calls`."""
    import tensorflow as tf

    make_calls(call, prepare, n, tf.profiler.experimental.Trace, lambda values: fence())


def _make() -> Any:
    import tensorflow as tf

    with tf.device("/CPU:0"):
        return tf.zeros(TEST_BYTES // 4) + 1.0


def _buffer(nbytes: int) -> Any:
    import tensorflow as tf

    with tf.device("/GPU:0"):
        return tf.zeros(nbytes // 4) + 1.0


LIBRARY = Library(
    name="tensorflow",
    copied=copied,
    to_numpy=to_numpy,
    fence=fence,
    make=_make,
    trace=trace,
    instrument=INSTRUMENT,
    device=Device(
        trace=trace,
        instrument=INSTRUMENT,
        buffer=_buffer,
        seconds=seconds,
        clock=INSTRUMENT,
        kernels=kernels,
    ),
)
