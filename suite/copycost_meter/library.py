"""The interface of an array library to the meter. Every file in `libraries/` defines a `Library`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from copycost_meter.device_work import Span
from copycost_meter.events import AllocationEvent

if TYPE_CHECKING:
    import numpy as np

#: Runs a function, and returns its result and what an allocator did, in order.
Trace = Callable[[Callable[[], Any]], tuple[Any, list[AllocationEvent]]]

#: Calls a function under a profiler of a device, and returns the kernels and copies that it saw until the fence, and
#: why it saw none, or None.
Kernels = Callable[[Callable[[], Any]], tuple[list[Span], Optional[str]]]

#: Size of the test array by which instruments are tested, in bytes. It must be larger than 256 KiB, because
#: TensorFlow's allocator passes smaller requests on to the C library.
TEST_BYTES = 1_200_000


class ConsumedArrayError(Exception):
    """Raised for an array whose memory a call has taken over, as JAX does with a donated one."""


@dataclass(frozen=True)
class Instruments:
    """What sees the memory of a library's arrays in one place: the host's memory, or that of a device.

    Attributes
    ----------
    library : str
    make : callable or None
        ``make()`` returns a new array of `TEST_BYTES` bytes in the host's memory, when it is ready. None for the
        instruments of a device.
    fence : callable
        ``fence()`` returns when all work queued so far is done.
    trace : callable or None
        See `Trace`. None if all memory comes from the C library, which the meter watches itself.
    name : str
        Name of the instrument of `trace`.
    buffer : callable or None
        ``buffer(nbytes)`` returns what holds a new buffer of this size in the memory of the device.
    """

    library: str
    make: Callable[[], Any] | None
    fence: Callable[[], None]
    trace: Trace | None = None
    name: str = ""
    buffer: Callable[[int], Any] | None = None


@dataclass(frozen=True)
class Device:
    """How a library's work on a CUDA device is measured.

    Attributes
    ----------
    trace : callable
        See `Trace`.
    instrument : str
        Name of the instrument of `trace`.
    buffer : callable
        See `Instruments`.
    seconds : callable
        ``seconds(call, prepare, n)`` returns the device's time for one of `n` calls, in seconds of its own clock, or
        None if the clock saw no work of the device. ``prepare()`` returns the arguments of each call. The time excludes
        work that ``prepare()`` queues, and time in which the device waits for the host to queue the next part of a
        call.
    clock : str
        Name of the clock.
    kernels : callable
        See `Kernels`.
    """

    trace: Trace
    instrument: str
    buffer: Callable[[int], Any]
    seconds: Callable[[Callable[..., Any], Callable[[], tuple[Any, ...]], int], float | None]
    clock: str
    kernels: Kernels


@dataclass(frozen=True)
class Library:
    """A library of arrays.

    Attributes
    ----------
    name : str
    copied : callable
        ``copied(array)`` returns an array with the same values, strides and place that a call can change without
        changing `array`. It may be `array` itself if no call can change it.
    to_numpy : callable
        ``to_numpy(array)`` returns the current values as a NumPy array, which may share the memory of `array`. It
        raises TypeError, naming its argument, if that is not an array, and `ConsumedArrayError` for an array that a
        call has consumed.
    fence : callable
        ``fence()`` returns when all work queued so far is done.
    make : callable or None
        See `Instruments`. None if the library has no arrays in the host's memory.
    wait : callable or None
        ``wait(value)`` returns a value when it is ready, for a library without a fence for all queued work.
    trace : callable or None
        See `Instruments`, for arrays in the host's memory.
    instrument : str
        Name of the instrument of `trace`.
    device : Device or None
        None if the library has no arrays in the memory of a device.
    """

    name: str
    copied: Callable[[Any], Any]
    to_numpy: Callable[[Any], np.ndarray]
    fence: Callable[[], None]
    make: Callable[[], Any] | None
    wait: Callable[[Any], Any] | None = None
    trace: Trace | None = None
    instrument: str = ""
    device: Device | None = None

    def instruments(self, place: str) -> Instruments:
        """Return what sees the memory of the library's arrays on the ``"cpu"``, or on a ``"gpu"``."""
        if place == "cpu":
            return Instruments(self.name, self.make, self.fence, self.trace, self.instrument)
        if self.device is None:
            return Instruments(self.name, None, self.fence)
        return Instruments(
            self.name, None, self.fence, self.device.trace, self.device.instrument, self.device.buffer
        )  # fmt: skip
