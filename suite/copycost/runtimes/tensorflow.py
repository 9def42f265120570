"""TensorFlow: eager, `tf.function`, XLA, and each of them into a `tf.Variable`, which is TensorFlow's `out=`."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from copycost.model.allocation import THRESHOLD, AllocationEvent, InstrumentBusyError
from copycost.model.call_profile import MOST, CallProfile, MemoryChange, Span, nested
from copycost.model.runtime import Device, Runtime, RuntimeUnavailable

_INSTRUMENT = "tf-profiler"


def _start(device: str, threads: int) -> None:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise RuntimeUnavailable(
            "this TensorFlow sees no GPU; one with its CUDA libraries: pip install 'copycost[gpu]'"
        )
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        # For a case on the CPU a GPU is hidden: no context, no memory taken, no other default placement.
        tf.config.set_visible_devices(gpus[:1] if device == "gpu" else [], "GPU")
        for gpu in gpus[:1]:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        # A user's file has made a tensor as it was imported. The number of threads is then that of the session's
        # environment variables; a GPU can no longer be hidden.
        if device == "cpu" and gpus:
            raise RuntimeUnavailable(
                "its file uses TensorFlow as it is imported, so that the GPU cannot be hidden"
            ) from None


def _array(pixels: np.ndarray, mutable: bool) -> Any:
    import tensorflow as tf

    # `+ 0`: the sum is TensorFlow's own memory, whatever tf.constant shares with its argument.
    tensor = tf.constant(pixels) + tf.constant(0, pixels.dtype)
    return tf.Variable(tensor) if mutable else tensor


def _restore(array: Any, pristine: Any) -> Any:
    import tensorflow as tf

    # A value that nobody else holds: `assign` adopts its buffer, and a buffer with two owners makes the next XLA
    # call copy it.
    fresh = pristine + tf.constant(0, pristine.dtype)
    if not isinstance(array, tf.Variable):
        return fresh
    array.assign(fresh)
    return array


def _to_numpy(result: Any) -> np.ndarray:
    import tensorflow as tf

    if isinstance(result, np.ndarray):
        return result
    if isinstance(result, tf.Variable):
        result = result.read_value()
    if not isinstance(result, tf.Tensor):
        raise TypeError(f"returned {type(result).__name__}, not a dense tensor, a variable or a NumPy array")
    # The tensor's own memory where it can be had; `.numpy()` copies.
    return np.asarray(memoryview(result)) if _in_host_memory(result) else result.numpy()


def _in_host_memory(tensor: Any) -> bool:
    """Whether a tensor's memory can be looked at as it is: on the CPU, in a dtype that Python's buffers know."""
    import tensorflow as tf

    return "GPU" not in tensor.device and tensor.dtype != tf.bfloat16


def _extent(array: Any) -> tuple[int, int] | None:
    import tensorflow as tf

    if isinstance(array, tf.Variable):
        array = array.read_value()
    if isinstance(array, tf.Tensor):
        if not _in_host_memory(array):
            return None
        array = np.asarray(memoryview(array))
    return byte_bounds(array)


def _fence() -> None:
    import tensorflow as tf

    tf.test.experimental.sync_devices()


def _trace(function: Callable[[], Any]) -> tuple[Any, list[AllocationEvent]]:
    """Run `function` under TensorFlow's profiler, whose trace names each request to TensorFlow's allocators.

    The CPU allocator under oneDNN keeps freed memory, so that the C library is not asked again and a watch on it sees
    nothing; what the allocator itself was asked for is in the trace. Requests below its threshold (256 KB) are the
    other way round: they go to the C library and leave no event.
    """
    result, planes = _profile(function)
    found: list[tuple[int, AllocationEvent]] = []
    for plane in planes:
        for line in plane.lines:
            for event in line.events:
                what = plane.event_metadata[event.metadata_id].name
                if what in ("MemoryAllocation", "MemoryDeallocation"):
                    stats = {plane.stat_metadata[s.metadata_id].name: _value(plane, s) for s in event.stats}
                    at = line.timestamp_ns * 1000 + event.offset_ps
                    found.append((at, _event(what, stats)))
    return result, [event for _, event in sorted(found, key=lambda pair: pair[0])]


def _profile(function: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """Run `function` under TensorFlow's profiler: its result, and the planes of the trace (xplane.proto)."""
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
            _fence()
        finally:
            tf.profiler.experimental.stop()
        planes: list[Any] = []
        for name in glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True):
            space = xplane_pb2.XSpace()
            with open(name, "rb") as file:
                space.ParseFromString(file.read())
            planes += space.planes
        return result, planes


#: What TensorFlow does around an operation: its time is that of the operation in which it is.
_PLUMBING = (
    "TFE_", "EagerExecute", "EagerKernelExecute", "EagerCopyToDevice", "EagerLocalExecute: SyncDevice", "SyncDevice",
    "ValidateInputTypeAndPlacement", "KernelAndDeviceFunc::Run", "ExecutorState::Process", "ExecutorDoneCallback",
    "FunctionRun", "CpuExecutable::", "BlockUntilReady", "end: ",
)  # fmt: skip


def _operation(name: str) -> str:
    """An operation as its author knows it."""
    op, _, kind = name.removeprefix("EagerLocalExecute: ").partition(":")
    return op if kind in ("", op) else f"{op}:{kind}"


def _look(function: Callable[[], Any]) -> CallProfile:
    """Run `function` under the profiler, and tell of its operations: on the host's threads and the GPU's streams."""
    took = 0.0

    def timed() -> Any:
        nonlocal took
        start = perf_counter()
        result = function()
        took = perf_counter() - start
        return result

    _, planes = _profile(timed)
    spans: list[tuple[int, int, str, str]] = []  # from and for so many picoseconds, name, where
    changes: list[tuple[int, AllocationEvent]] = []
    for plane in planes:
        on_gpu = plane.name.startswith("/device:GPU")
        for line in plane.lines:
            if on_gpu and not line.name.startswith("Stream"):
                continue  # the same again, by module and by step
            where = f"GPU, {line.name}" if on_gpu else line.name.partition("/")[0] or str(line.id)
            for event in line.events:
                what = plane.event_metadata[event.metadata_id].name
                at = line.timestamp_ns * 1000 + event.offset_ps
                if what in ("MemoryAllocation", "MemoryDeallocation"):
                    stats = {plane.stat_metadata[s.metadata_id].name: _value(plane, s) for s in event.stats}
                    changes.append((at, _event(what, stats)))
                elif event.duration_ps and not what.startswith(_PLUMBING):
                    spans.append((at, event.duration_ps, _operation(what), where))
    begin = min((at for at, *_ in spans), default=0)
    # A request names the node of a graph, a span its kind as well.
    ops = {name.partition(":")[0]: name for _, _, name, _ in spans}
    told = [Span(name, where, (at - begin) * 1e-12, ps * 1e-12, 0.0) for at, ps, name, where in sorted(spans)[:MOST]]
    counted = [
        MemoryChange(event.bytes, event.space, ops.get(event.op, event.op), max(0.0, (at - begin) * 1e-12))
        for at, event in sorted(changes, key=lambda pair: pair[0])
        if abs(event.bytes) >= THRESHOLD
    ]
    return CallProfile(tuple(nested(told)), tuple(counted), took, "TensorFlow's profiler")


def kernel_seconds(planes: Iterable[Any]) -> float:
    """That the streams of the GPU were at work, as a trace tells: its kernels and its copies.

    The other lines of a GPU's plane say the same again, by operation and by module.
    """
    picoseconds = sum(
        event.duration_ps
        for plane in planes
        if plane.name.startswith("/device:GPU")
        for line in plane.lines
        if line.name.startswith("Stream")
        for event in line.events
    )
    return picoseconds * 1e-12


#: Calls that a trace of kernels is taken of: each is traced apart from what is queued before it.
_TRACED_CALLS = 3


def _seconds(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> float:
    total, n = 0.0, min(n, _TRACED_CALLS)
    for _ in range(n):
        args = prepare()
        _fence()
        total += kernel_seconds(_profile(partial(call, *args))[1])
    return total / n


#: More than the second-level cache of any GPU so far: TensorFlow does not tell how large it is.
_CACHE_BYTES = 128 * 2**20


def _write(nbytes: int) -> Callable[[], None]:
    import tensorflow as tf

    buffer = tf.zeros(nbytes // 4)
    return lambda: tf.raw_ops.ZerosLike(x=buffer)


def _copy(nbytes: int) -> Callable[[], None]:
    import tensorflow as tf

    source = tf.zeros(nbytes // 4)
    return lambda: tf.raw_ops.DeepCopy(x=source)


def _value(plane: Any, stat: Any) -> Any:
    kind = stat.WhichOneof("value")
    return plane.stat_metadata[stat.ref_value].name if kind == "ref_value" else getattr(stat, kind or "str_value")


def _event(what: str, stats: dict[str, Any]) -> AllocationEvent:
    sign = 1 if what == "MemoryAllocation" else -1
    # GPU_0_bfc is device memory; cuda_host_bfc and mklcpu are memory of the host.
    space = "device" if str(stats["allocator_name"]).startswith("GPU_") else "host"
    rounded = stats.get("allocation_bytes")
    return AllocationEvent(
        sign * int(stats["requested_bytes"]),
        space,
        _INSTRUMENT,
        str(stats.get("tf_op", "")),
        None if rounded is None else int(rounded),
    )


RUNTIME = Runtime(
    name="tensorflow",
    packages=(
        "tensorflow",
        "keras.applications.imagenet_utils",
        "tensorflow.tsl.profiler.protobuf.xplane_pb2",
    ),
    install="pip install 'copycost[tensorflow]'",
    devices=("cpu", "gpu"),
    start=_start,
    array=_array,
    restore=_restore,
    to_numpy=_to_numpy,
    extent=_extent,
    contiguous=lambda array: not isinstance(array, np.ndarray) or bool(array.flags.c_contiguous),
    fence=_fence,
    trace=_trace,
    instrument=_INSTRUMENT,
    profile=_look,
    gpu=Device(
        seconds=_seconds,
        cache_bytes=lambda: _CACHE_BYTES,
        write=_write,
        copy=_copy,
        instrument=_INSTRUMENT,
        sees_driver=False,
    ),
)
