"""Timing on an asynchronous device, by its own clock and with its cache flushed."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from copycost.engine import clock
from copycost.engine.prepared_call import PreparedCall
from copycost.engine.records import DeviceSample
from copycost.machine.nvtx_range import nvtx_range

#: Bytes read to flush the cache, in multiples of its size. Reading just its size may leave older contents in it.
_FLUSHED = 2

#: Maximum number of calls in a sample of device times, and the approximate duration of such a sample in seconds.
_DEVICE_CALLS, _DEVICE_SECONDS = 20, 0.02


#: Number of calls that are queued before the device is waited for.
_UNFENCED = 16


def work(prepared: PreparedCall, seconds: float) -> int:
    """Make calls one after the other for at least this long, and return their number; the device is done with them.

    The number is 0 for calls that change their input: it would have to be restored before each, which takes energy too.
    """
    if prepared.changes_input:
        return 0
    prepared.last_result = None  # these calls overwrite the buffer that it may be in
    calls, start = 0, perf_counter()
    while perf_counter() - start < seconds and calls < prepared.calls_left:
        prepared.call(*prepared.next_arguments())
        calls += 1
        if calls % _UNFENCED == 0:  # a queue without end would hold memory without end
            prepared.runtime.fence()
    prepared.runtime.fence()
    prepared.calls_left -= calls
    return calls


def sample(prepared: PreparedCall, seconds: float) -> DeviceSample:
    """Time a few separate calls: until each is queued, by the device's clock, and with its cache flushed.

    Parameters
    ----------
    seconds : float
        Known duration of a call.
    """
    gpu, fence = prepared.runtime.gpu, prepared.runtime.fence
    assert gpu is not None
    n = max(1, min(_DEVICE_CALLS, int(_DEVICE_SECONDS / seconds), prepared.most_per_sample() // 4))
    prepared.calls_left -= 4 * n
    if prepared.flush is None:
        prepared.flush = gpu.read(_FLUSHED * gpu.cache_bytes())
    flush, i = prepared.flush, next(prepared.turns) % len(prepared.input_indices)

    def warm_arguments() -> tuple[Any, ...]:
        # Use the same input every time, so that it is in the device's cache as far as it fits.
        return prepared.timed_arguments(i)

    def cold_arguments() -> tuple[Any, ...]:
        args = warm_arguments()
        flush()
        return args

    prepared.last_result = None
    launch_ns, result = clock.queued(prepared.call, warm_arguments, n, fence)
    # Time the warm calls first: the call after a flush is cold.
    with nvtx_range(prepared.name):
        device_seconds = gpu.seconds(prepared.call, warm_arguments, n) if gpu.seconds is not None else None
    cold_device_seconds = gpu.seconds(prepared.call, cold_arguments, n) if gpu.seconds is not None else None
    ns, _, result = clock.one_by_one(prepared.call, cold_arguments, n, fence)
    prepared.last_result, prepared.last_k = prepared.completed_result(result), prepared.k
    return DeviceSample(launch_ns / n * 1e-9, device_seconds, ns / n * 1e-9, cold_device_seconds)
