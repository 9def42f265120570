"""Define the TensorFlow runtime, for tensors and variables on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from time import perf_counter
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from copycost.model.call_profile import CallProfile, MemoryChange, nested
from copycost.model.runtime import Device, Runtime, RuntimeUnavailable
from copycost.model.vocabulary import DeviceKind, MemorySpace
from copycost_meter.device_work import MOST, ON_STREAM, Copy, Launch, Span
from copycost_meter.events import THRESHOLD, AllocationEvent
from copycost_meter.libraries import onednn
from copycost_meter.libraries.tensorflow import (
    INSTRUMENT,
    copied,
    fence,
    in_host_memory,
    kernels,
    profiled,
    seconds,
    to_numpy,
    trace,
)
from copycost_meter.profilers.records import xplane_work
from copycost_meter.profilers.xplane import (
    MEMORY_EVENTS,
    allocation,
    of_protobuf,
)


def _start(device: DeviceKind, threads: int) -> None:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if device == DeviceKind.GPU and not gpus:
        raise RuntimeUnavailable(
            "this TensorFlow sees no GPU; to install its CUDA libraries: pip install -e '.[gpu]' in a clone of copycost"
        )
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        # Hide the GPU from cases on the CPU, so that TensorFlow creates no context on it, allocates none of its memory
        # and does not place operations there by default.
        tf.config.set_visible_devices(gpus[:1] if device == DeviceKind.GPU else [], "GPU")
        for gpu in gpus[:1]:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        # A user's file has created a tensor during import. The number of threads is then set by the session's
        # environment variables, but a GPU can no longer be hidden.
        if device == DeviceKind.CPU and gpus:
            raise RuntimeUnavailable(
                "the variant's file uses TensorFlow during import, so that the GPU cannot be hidden"
            ) from None


def _array(pixels: np.ndarray, mutable: bool) -> Any:
    import tensorflow as tf

    tensor = _copied(tf.constant(pixels))
    return tf.Variable(tensor) if mutable else tensor


def _copied(tensor: Any) -> Any:
    """Return a tensor with the same values in memory of its own, even where tf.constant shares that of its argument."""
    import tensorflow as tf

    return tf.logical_or(tensor, False) if tensor.dtype == tf.bool else tensor + tf.constant(0, tensor.dtype)


def _restore(array: Any, pristine: Any) -> Any:
    import tensorflow as tf

    # Create a tensor without other references: `assign` adopts its buffer, and the next XLA call would copy a buffer
    # that has two owners.
    fresh = _copied(pristine)
    if not isinstance(array, tf.Variable):
        return fresh
    array.assign(fresh)
    return array


def _extent(array: Any) -> tuple[int, int] | None:
    import tensorflow as tf

    if isinstance(array, tf.Variable):
        array = array.read_value()
    if isinstance(array, tf.Tensor):
        if not in_host_memory(array):
            return None
        array = np.asarray(memoryview(array))
    return byte_bounds(array)


#: Prefixes of events that TensorFlow records around an operation. Their time belongs to the enclosing operation.
_PLUMBING = (
    "TFE_", "EagerExecute", "EagerKernelExecute", "EagerCopyToDevice", "EagerLocalExecute: SyncDevice", "SyncDevice",
    "ValidateInputTypeAndPlacement", "KernelAndDeviceFunc::Run", "ExecutorState::Process", "ExecutorDoneCallback",
    "FunctionRun", "CpuExecutable::", "BlockUntilReady", "end: ",
)  # fmt: skip


def _operation(name: str) -> str:
    """Return the name of an operation as users know it."""
    op, _, kind = name.removeprefix("EagerLocalExecute: ").partition(":")
    return op if kind in ("", op) else f"{op}:{kind}"


def _look(function: Callable[[], Any]) -> CallProfile:
    """Run `function` under the profiler and return its operations on the host's threads and the GPU's streams."""
    seconds = 0.0

    def timed() -> Any:
        nonlocal seconds
        start = perf_counter()
        result = function()
        seconds = perf_counter() - start
        return result

    _, planes = profiled(timed)
    # Start and duration in picoseconds, name, thread or stream, and what the device did.
    spans: list[tuple[int, int, str, str, Launch | Copy | None]] = []
    changes: list[tuple[int, AllocationEvent]] = []
    for event in of_protobuf(planes):
        if event.plane.startswith("/device:GPU") and not event.on_stream:
            continue
        if event.name in MEMORY_EVENTS:
            changes.append((event.start, allocation(event, INSTRUMENT)))
        elif event.duration and not event.name.startswith(_PLUMBING):
            where = f"{ON_STREAM}{event.line}" if event.on_stream else event.line.partition("/")[0]
            work = xplane_work(event.stats()) if event.on_stream else None
            spans.append((event.start, event.duration, _operation(event.name), where, work))
    spans.sort(key=itemgetter(0, 1, 2, 3))
    begin = min((at for at, *_ in spans), default=0)
    # The name of a request is the graph node; the name of a span also contains the kind of operation.
    ops = {name.partition(":")[0]: name for _, _, name, *_ in spans}
    operations = [
        Span(name, where, (at - begin) * 1e-12, ps * 1e-12, 0.0, work) for at, ps, name, where, work in spans[:MOST]
    ]
    requests = [
        MemoryChange(event.bytes, MemorySpace(event.space), ops.get(event.op, event.op), max(0.0, (at - begin) * 1e-12))
        for at, event in sorted(changes, key=lambda pair: pair[0])
        if abs(event.bytes) >= THRESHOLD
    ]
    return CallProfile(tuple(nested(operations)), tuple(requests), seconds, "TensorFlow's profiler")


#: At least the size of the L2 cache of any GPU so far, as TensorFlow does not report it.
_CACHE_BYTES = 128 * 2**20


def _read(nbytes: int) -> Callable[[], None]:
    import tensorflow as tf

    buffer = tf.zeros(nbytes // 4)
    return lambda: tf.reduce_max(buffer)


def _copy(nbytes: int) -> Callable[[], None]:
    import tensorflow as tf

    source = tf.zeros(nbytes // 4)
    return lambda: tf.raw_ops.DeepCopy(x=source)


def _used_bytes() -> int:
    import tensorflow as tf

    return int(tf.config.experimental.get_memory_info("GPU:0")["current"])


RUNTIME = Runtime(
    name="tensorflow",
    packages=(
        "tensorflow",
        "keras.applications.imagenet_utils",
        "tensorflow.tsl.profiler.protobuf.xplane_pb2",
    ),
    install="pip install -e '.[tensorflow]' in a clone of copycost",
    devices=(DeviceKind.CPU, DeviceKind.GPU),
    start=_start,
    array=_array,
    restore=_restore,
    copied=copied,
    to_numpy=to_numpy,
    extent=_extent,
    contiguous=lambda array: not isinstance(array, np.ndarray) or bool(array.flags.c_contiguous),
    fence=fence,
    trace=trace,
    instrument=INSTRUMENT,
    profile=_look,
    gpu=Device(
        seconds=seconds,
        cache_bytes=lambda: _CACHE_BYTES,
        read=_read,
        copy=_copy,
        instrument=INSTRUMENT,
        sees_driver=False,
        used_bytes=_used_bytes,
        kernels=kernels,
    ),
    slow_to_start=True,
    # The allocator of oneDNN keeps freed memory. The C library's gives it back to the system, or not, by what was freed
    # before: what other cases of the process do then changes how long a call takes.
    shares_blocks=onednn.enabled,
)
