"""The interface of a runtime to the engine. Every file in `runtimes/` defines a `Runtime`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from copycost.model.call_profile import CallProfile
from copycost.model.vocabulary import DeviceKind
from copycost_meter.arrays import place_of
from copycost_meter.library import TEST_BYTES, Instruments, Kernels, Trace


class RuntimeUnavailable(Exception):
    """Raised by a runtime's `start` if it cannot run on this machine. The message is the reason for the skip."""


@dataclass(frozen=True)
class Device:
    """A runtime's functions for a device that works asynchronously to the host: a GPU.

    Attributes
    ----------
    seconds : callable or None
        ``seconds(call, prepare, n)`` returns the device's time for one of `n` calls, in seconds of its own clock, or
        None if the clock saw no work of the device.
        ``prepare()`` returns the arguments of each call. The time excludes work that ``prepare()`` queues, and time in
        which the device waits for the host to queue the next part of a call.
    cache_bytes : callable
        ``cache_bytes()`` returns the size of the device's last-level cache in bytes, or an upper bound for any device.
    read : callable
        ``read(nbytes)`` returns a function that queues the reading of a buffer of `nbytes` bytes. Reading flushes the
        cache, and leaves no modified lines there, which later calls would have to write back.
    copy : callable
        ``copy(nbytes)`` returns a function that queues the copying of `nbytes` bytes within the device's memory.
    instrument : str
        Name of the clock.
    sees_driver : bool
        Whether the runtime's `trace` reports the pool's requests to the driver.
    mark : callable or None
        ``mark()`` queues a mark and returns it.
    between : callable or None
        ``between(begin, end)`` returns the device's seconds between two marks, once the device has passed both.
    busy : callable or None
        ``busy(seconds, apart=False)`` queues work that takes the device this long. If `apart`, it queues it on another
        stream, which does not wait for the runtime's own. For tests of clocks and fences.
    trace : callable or None
        ``trace(function)`` as that of `Runtime`, for cases on the device. None if the runtime's serves both.
    trace_instrument : str
        Name of the instrument of `trace`.
    used_bytes : callable or None
        ``used_bytes()`` returns the bytes of device memory that the runtime's allocator counts as in use, as rounded by
        it: a second instrument beside `trace`.
    upload : callable or None
        ``upload(pixels, pinned)`` returns a function that queues the copying of `pixels`, a NumPy array, to the
        device's memory: from memory that NumPy allocates, or from pinned memory, which the device reads by itself.
    kernels : callable or None
        ``kernels(function)`` calls `function` under a profiler of the device, and returns the kernels and copies that
        it saw until the fence, as spans, and why it saw none, or None.
    """

    seconds: Callable[[Callable[..., Any], Callable[[], tuple[Any, ...]], int], float | None] | None
    cache_bytes: Callable[[], int]
    read: Callable[[int], Callable[[], None]]
    copy: Callable[[int], Callable[[], None]]
    instrument: str
    sees_driver: bool
    mark: Callable[[], Any] | None = None
    between: Callable[[Any, Any], float] | None = None
    busy: Callable[..., None] | None = None
    trace: Trace | None = None
    trace_instrument: str = ""
    used_bytes: Callable[[], int] | None = None
    upload: Callable[[np.ndarray, bool], Callable[[], None]] | None = None
    kernels: Kernels | None = None


@dataclass(frozen=True)
class Runtime:
    """A library whose arrays variants receive.

    Attributes
    ----------
    name : str
    packages : tuple of str
        Required modules. They are imported once, in the fork server, which is then forked for every block. So importing
        them must not initialise any device.
    install : str
        How to install the packages, for the reason of a skip.
    devices : tuple of DeviceKind
    start : callable
        ``start(device, threads)`` chooses the device and the number of threads, before first use. It raises
        `RuntimeUnavailable` if the device is not available.
    array : callable
        ``array(pixels, mutable)`` returns a new array of the runtime that shares no memory with `pixels`. If `mutable`,
        variants can write to it.
    restore : callable
        ``restore(array, pristine)`` returns `array` with the content of `pristine` (an array of the runtime) restored,
        or a new array if `array` cannot be written to or was consumed. Nothing else may refer to the memory of the
        returned array.
    to_numpy : callable
        ``to_numpy(result)`` returns the current values as a NumPy array, which may share the result's memory. It raises
        TypeError, naming its argument, if that is not an array, and `ConsumedArrayError` for an array that a call has
        consumed.
    extent : callable
        ``extent(array)`` returns the first and the last address + 1 of its memory, or None if they are unknown.
    contiguous : callable
        ``contiguous(array)`` returns whether the array is C-contiguous.
    fence : callable
        ``fence()`` returns when all work queued so far is done.
    copied : callable or None
        ``copied(array)`` returns an array with the same values, strides and place that a call can change without
        changing `array`. It may be `array` itself if no call can change it. None: a contiguous copy is made instead.
    wait : callable or None
        ``wait(result)`` returns a call's result when it is ready, for a library without a fence for all queued work.
        It is then part of every call.
    trace : callable or None
        ``trace(function)`` runs `function` and returns its result and the `AllocationEvent`s of the runtime's own
        allocator, in order. None if all memory comes from the C library, which the engine watches itself.
    instrument : str
        Name of the instrument of `trace`.
    profile : callable or None
        ``profile(function)`` calls `function` under the library's own profiler and returns a profile of its operations.
        None if the library has no profiler: lines of Python are then profiled instead.
    gpu : Device or None
        None if the runtime has no GPU, or works on it synchronously to the host.
    spoil : callable or None
        ``spoil(result)`` overwrites every element of a result on a GPU in place. None if results are read-only. On the
        CPU, the array of `to_numpy` is overwritten, which shares the result's memory.
    slow_to_start : bool
        Whether a process needs long to make its first call, for a context, threads or a compiler. Cases on the CPU then
        share processes for audits and traces.
    shares_blocks : callable or None
        ``shares_blocks()`` returns whether such cases also share processes for blocks, because a call takes as long
        beside others as alone. An experiment must have shown it: see ``peers/sharing.py``.
    """

    name: str
    packages: tuple[str, ...]
    install: str
    devices: tuple[DeviceKind, ...]
    start: Callable[[DeviceKind, int], None]
    array: Callable[[np.ndarray, bool], Any]
    restore: Callable[[Any, Any], Any]
    to_numpy: Callable[[Any], np.ndarray]
    extent: Callable[[Any], tuple[int, int] | None]
    contiguous: Callable[[Any], bool]
    fence: Callable[[], None]
    copied: Callable[[Any], Any] | None = None
    wait: Callable[[Any], Any] | None = None
    trace: Trace | None = None
    instrument: str = ""
    profile: Callable[[Callable[[], Any]], CallProfile] | None = None
    gpu: Device | None = None
    spoil: Callable[[Any], None] | None = None
    slow_to_start: bool = False
    shares_blocks: Callable[[], bool | None] | None = None

    def device_of(self, array: Any) -> DeviceKind:
        """Return where an array is, or raise ValueError if arrays there cannot be measured."""
        device = DeviceKind(place_of(array))
        if device not in self.devices:
            raise ValueError(f"x is on {device}, but {self.name} can only be measured on {' and '.join(self.devices)}")
        return device

    def instruments(self, on_host: bool = True) -> Instruments:
        """Return what sees the memory of the runtime's arrays: those of the host, or those of its device."""
        if not on_host:
            gpu = self.gpu
            own = gpu is not None and gpu.trace is not None
            trace, name = (
                (gpu.trace, gpu.trace_instrument) if gpu is not None and own else (self.trace, self.instrument)
            )
            return Instruments(self.name, None, self.fence, trace, name, None if gpu is None else gpu.read)
        pixels = np.zeros(TEST_BYTES // 4, np.float32).reshape(1, 100, -1, 3)

        def make() -> Any:
            array = self.array(pixels, False)
            return array if self.wait is None else self.wait(array)

        return Instruments(self.name, make, self.fence, self.trace, self.instrument)
