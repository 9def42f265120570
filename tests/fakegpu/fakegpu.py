"""A device that works on its own while the host goes on, as a GPU does: for the tests of all that deals with one.

What is queued is done when somebody waits for it, in order. Each piece of work takes as long as it says, by the
device's clock and by the host's: the device is at work while the host queues more. It has memory of its own, handed out
by a pool, and a cache that makes what was touched last quick. The variants are in another module, as the parent of a
session imports this one.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from copycost.model.allocation import AllocationEvent
from copycost.model.runtime import Device, Runtime, RuntimeUnavailable

#: Seconds that a kernel takes, and that it takes in addition for each 2²⁰ bytes that are not in the cache.
KERNEL, PER_MIB = 400e-6, 4e-3

#: Seconds that the host takes to queue one.
LAUNCH = 50e-6

#: What the pool rounds a request up to, in bytes; and what it asks the driver for at least.
ROUNDED, SEGMENT = 512, 1 << 20

#: Bytes of the cache, and of all memory.
CACHE, MEMORY = 1 << 19, 1 << 26

INSTRUMENT = "fake-hook"


class Fake:
    """The device: its queue, its clock, its pool, its cache."""

    def __init__(self) -> None:
        self.queue: deque[Callable[[], None]] = deque()
        self.idle_at = 0.0  # by the host's clock, which is the device's as well
        self.waits = 0
        self.hooks: list[Callable[[str, int, int], None]] = []
        self.free: dict[int, list[int]] = {}
        self.next = 0
        self.memory = np.zeros(MEMORY, np.uint8)  # of the host, taken once: no call is seen to allocate it
        self.cached: deque[tuple[int, int]] = deque()

    def submit(self, seconds: float, work: Callable[[], None] = lambda: None) -> None:
        """Queue work that takes so long."""
        _spin(LAUNCH)
        self.idle_at = max(time.perf_counter(), self.idle_at) + seconds
        self.queue.append(work)

    def now(self) -> float:
        """When what is queued by now will be done."""
        return max(time.perf_counter(), self.idle_at)

    def wait(self) -> None:
        """Until all that is queued is done."""
        self.waits += 1
        while time.perf_counter() < self.idle_at:
            pass
        while self.queue:
            self.queue.popleft()()

    def kernel(self, work: Callable[[], None], *arrays: Array) -> None:
        """Queue a computation over arrays."""
        missed = sum(0 if self._touch(array.at, array.nbytes) else array.nbytes for array in arrays)
        self.submit(KERNEL + PER_MIB * missed / 2**20, work)

    def _touch(self, at: int, nbytes: int) -> bool:
        hit = (at, nbytes) in self.cached
        if hit:
            self.cached.remove((at, nbytes))
        self.cached.append((at, nbytes))
        while sum(n for _, n in self.cached) > CACHE:
            self.cached.popleft()
        return hit

    def allocate(self, nbytes: int) -> tuple[int, int]:
        """An address, and the bytes that are there."""
        rounded = -(-nbytes // ROUNDED) * ROUNDED
        if not self.free.get(rounded):
            segment = max(rounded, SEGMENT)
            if self.next + segment > MEMORY:
                raise MemoryError(f"out of device memory: {nbytes} bytes were requested")
            for hook in self.hooks:
                hook("driver", segment, segment)
            self.free.setdefault(rounded, []).extend(self.next + k * rounded for k in range(segment // rounded))
            self.next += segment
        for hook in self.hooks:
            hook("malloc", nbytes, rounded)
        return self.free[rounded].pop(), rounded

    def release(self, at: int, nbytes: int, rounded: int) -> None:
        """Give memory back to the pool."""
        self.free[rounded].append(at)
        for hook in self.hooks:
            hook("free", nbytes, rounded)


FAKE = Fake()


class Array:
    """Memory of the device. Its values are there once the device has done what was queued.

    Work that is queued holds the values and not the array: memory goes back to the pool at once, as on a GPU, and who
    is given it next comes later in the queue.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.nbytes = int(np.prod(shape)) * self.dtype.itemsize
        self.at, rounded = FAKE.allocate(self.nbytes)
        self.values = FAKE.memory[self.at : self.at + self.nbytes].view(dtype).reshape(shape)
        weakref.finalize(self, FAKE.release, self.at, self.nbytes, rounded)


def _spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _start(device: str, threads: int) -> None:
    if device != "gpu":
        raise RuntimeUnavailable("there is no such device")
    if starts := os.environ.get("FAKE_STARTS"):  # a file with a line for each start that still succeeds
        left = Path(starts).read_text().splitlines()
        if not left:
            raise RuntimeUnavailable("the device is lost")
        Path(starts).write_text("\n".join(left[1:]))


def _array(pixels: np.ndarray, mutable: bool) -> Array:
    array = Array(pixels.shape, pixels.dtype)
    values = np.array(pixels)
    FAKE.kernel(partial(np.copyto, array.values, values), array)
    return array


def _restore(array: Array, pristine: Array) -> Array:
    FAKE.kernel(partial(np.copyto, array.values, pristine.values), array, pristine)
    return array


def _to_numpy(result: Any) -> np.ndarray:
    if not isinstance(result, Array):
        raise TypeError(f"returned {type(result).__name__}, not an array of the fake device")
    FAKE.wait()
    return result.values.copy()


def _spoil(result: Array) -> None:
    FAKE.kernel(lambda: result.values.fill(np.nan), result)


def _extent(array: Any) -> tuple[int, int]:
    return array.at, array.at + array.nbytes


def trace(function: Callable[[], Any]) -> tuple[Any, list[AllocationEvent]]:
    """Run `function` with a hook on the pool."""
    events: list[AllocationEvent] = []

    def hook(what: str, nbytes: int, rounded: int) -> None:
        if what == "driver":
            events.append(AllocationEvent(nbytes, "driver", INSTRUMENT))
        else:
            events.append(
                AllocationEvent(nbytes if what == "malloc" else -nbytes, "device", INSTRUMENT, rounded=rounded)
            )

    FAKE.hooks.append(hook)
    try:
        result = function()
        FAKE.wait()
    finally:
        FAKE.hooks.remove(hook)
    return result, events


def seconds(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> float:
    """Of the device, for one of `n` calls, each queued before the device comes to it."""
    total = 0.0
    for _ in range(n):
        # Again, where the host was kept from queueing all of it in time; a call that waits itself is never in time.
        for hold in (0.001, 0.004, 0.016):
            args = prepare()
            FAKE.submit(hold)
            begin, waits = FAKE.now(), FAKE.waits
            call(*args)
            if time.perf_counter() < begin or FAKE.waits > waits:
                break
        total += FAKE.now() - begin
    FAKE.wait()
    return total / n


def write(nbytes: int) -> Callable[[], None]:
    """What writes to so much memory."""
    filler = Array((nbytes,), np.uint8)
    return lambda: FAKE.kernel(lambda: filler.values.fill(1), filler)


def copy(nbytes: int) -> Callable[[], None]:
    """What copies from one place of the device's memory to another."""
    source, target = Array((nbytes,), np.uint8), Array((nbytes,), np.uint8)
    return lambda: FAKE.kernel(lambda: np.copyto(target.values, source.values), source, target)


RUNTIME = Runtime(
    name="fakegpu",
    packages=("fakegpu",),
    install="it is there for the tests",
    devices=("gpu",),
    start=_start,
    array=_array,
    restore=_restore,
    to_numpy=_to_numpy,
    extent=_extent,
    contiguous=lambda array: True,
    fence=FAKE.wait,
    spoil=_spoil,
    trace=trace,
    instrument=INSTRUMENT,
    gpu=Device(
        seconds=seconds,
        cache_bytes=lambda: CACHE,
        write=write,
        copy=copy,
        instrument="fake-clock",
        sees_driver=True,
        mark=FAKE.now,
        between=lambda one, other: other - one,
    ),
)
