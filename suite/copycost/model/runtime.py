"""What the engine needs to know of a runtime. One of these stands at the top of each file in `variants/`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from copycost.model.allocation import AllocationEvent
from copycost.model.call_profile import CallProfile


class RuntimeUnavailable(Exception):
    """Raised by a runtime's `start` where it cannot run here; the message is the reason for the skip."""


class ConsumedArrayError(Exception):
    """Raised by a runtime's `to_numpy` and `extent` for an array that a call has consumed."""


@dataclass(frozen=True)
class Device:
    """What a runtime tells of a device that works on its own while the host goes on: a GPU.

    Attributes
    ----------
    seconds : callable or None
        ``seconds(call, prepare, n)``: how long the device works for one of `n` calls, by its own clock. ``prepare()``
        gives the arguments of each; what it queues is not counted, and neither is the time in which the device waits
        for the host to queue the next piece of a call.
    cache_bytes : callable
        ``cache_bytes()``: what the device's last cache holds, or more than any has.
    write : callable
        ``write(nbytes)`` returns a function that queues the writing of a buffer of so many bytes.
    copy : callable
        ``copy(nbytes)`` returns a function that queues the copying of so many bytes within the device's memory.
    instrument : str
        The name of the clock.
    sees_driver : bool
        Whether the runtime's `trace` tells what the pool asks the driver for.
    mark : callable or None
        ``mark()`` queues a mark, and gives it.
    between : callable or None
        ``between(one, other)``: seconds of the device from one mark to the other, once both are behind it.
    """

    seconds: Callable[[Callable[..., Any], Callable[[], tuple[Any, ...]], int], float] | None
    cache_bytes: Callable[[], int]
    write: Callable[[int], Callable[[], None]]
    copy: Callable[[int], Callable[[], None]]
    instrument: str
    sees_driver: bool
    mark: Callable[[], Any] | None = None
    between: Callable[[Any, Any], float] | None = None


@dataclass(frozen=True)
class Runtime:
    """A library whose arrays a variant is given.

    Attributes
    ----------
    name : str
    packages : tuple of str
        Modules that it needs. They are imported once, in a process that is then forked for every block,
        so importing them must touch no device.
    install : str
        How to get them, for the reason of a skip.
    devices : tuple of {"cpu", "gpu"}
    start : callable
        ``start(device, threads)``: choose the device and the number of threads, before first use. Raises
        `RuntimeUnavailable` if it sees no such device.
    array : callable
        ``array(pixels, mutable)``: a fresh array of the runtime that shares nothing with `pixels`; of the
        kind that a variant can write to, if `mutable`.
    restore : callable
        ``restore(array, pristine)``: `array` with the content of `pristine` (an array of the runtime) again;
        a new one if it cannot be written to. Nobody else holds the memory that it then has.
    to_numpy : callable
        ``to_numpy(result)``: the values at this moment as a NumPy array, which may share the result's memory.
        Raises TypeError, naming what it was given, for what is not an array, and `ConsumedArrayError` for an array
        that a call has consumed.
    extent : callable
        ``extent(array)``: first and last address + 1 of its memory, None if that cannot be known.
    contiguous : callable
        ``contiguous(array)``: whether its elements lie in memory in C order without gaps.
    fence : callable
        ``fence()`` returns when all work queued so far is done.
    wait : callable or None
        ``wait(result)`` returns a call's result once it is there: for a library that has no fence for all it has
        queued. It is then a part of every call.
    trace : callable or None
        ``trace(function)``: run `function` and return its result and the `AllocationEvent`s of the runtime's own
        allocator, in order. None where all its memory comes from the C library, which the engine watches itself.
    instrument : str
        The name of what `trace` watches with.
    profile : callable or None
        ``profile(function)`` calls it, with the library's own profiler at work, and gives what that tells of its
        operations. None where there is no such: the lines of Python are then watched.
    gpu : Device or None
        None where it has none, or works on it without letting the host go on.
    spoil : callable or None
        ``spoil(result)`` writes over every element of a result, where it lies. None where what `to_numpy` gives shares
        the result's memory, or where nothing can write to it.
    """

    name: str
    packages: tuple[str, ...]
    install: str
    devices: tuple[str, ...]
    start: Callable[[str, int], None]
    array: Callable[[np.ndarray, bool], Any]
    restore: Callable[[Any, Any], Any]
    to_numpy: Callable[[Any], np.ndarray]
    extent: Callable[[Any], tuple[int, int] | None]
    contiguous: Callable[[Any], bool]
    fence: Callable[[], None]
    wait: Callable[[Any], Any] | None = None
    trace: Callable[[Callable[[], Any]], tuple[Any, list[AllocationEvent]]] | None = None
    instrument: str = ""
    profile: Callable[[Callable[[], Any]], CallProfile] | None = None
    gpu: Device | None = None
    spoil: Callable[[Any], None] | None = None
