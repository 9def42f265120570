"""A device that works on its own while the host goes on, as a GPU does: for the tests of all that deals with one.

Each fault of FAULTS, named in the variable FAKE_FAULT, makes it a device as there should be none.

What is queued is done when somebody waits for it, in order. Each piece of work takes as long as it says, by the
device's clock and by the host's: the device is at work while the host queues more. It has memory of its own, handed out
by a pool, and a cache that makes what was touched last quick. The variants are in another module, as the parent of a
session imports this one.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from copycost.model.runtime import Device, Runtime, RuntimeUnavailable
from copycost_meter.events import AllocationEvent
from copycost_meter.profilers import cupti
from copycost_meter.profilers.occupancy import Limits

#: Seconds that a kernel takes, and that it takes in addition for each 2²⁰ bytes that are not in the cache.
KERNEL, PER_MIB = 400e-6, 4e-3

#: Seconds that the host takes to queue one.
LAUNCH = 50e-6

#: What the pool rounds a request up to, in bytes; and what it asks the driver for at least.
ROUNDED, SEGMENT = 512, 1 << 20

#: Threads of a kernel's block, and registers of each: six blocks of these fit in a multiprocessor that holds eight.
THREADS, REGISTERS = 256, 40

#: Bytes of the cache, and of all memory.
CACHE, MEMORY = 1 << 19, 1 << 26

INSTRUMENT = "fake-hook"

#: What can be wrong of the device or its runtime → the step of `copycost certify`, and the statement that then does not
#: hold.
FAULTS = {
    "no fence": ("device-clock", "a call without its fence is seen to be too short"),
    "fence of one stream": ("device-clock", "work on another stream is waited for"),
    "coarse clock": ("device-clock", "a millisecond more is measured as a millisecond more"),
    "fast clock": ("device-clock", "the device's clock and the host's agree"),
    "blind clock": ("device-clock", "the step is completed"),
    "clock of the host": ("device-clock", "the device's time contains no wait for the host"),
    "lost event": ("allocations", "an array is counted with its bytes"),
    "pool apart": ("allocations", "the count agrees with what the allocator says is in use"),
    "no flush": ("caches", "a flush makes a call cold"),
    "wrong transfer": ("transfers", "values survive the way to the device and back"),
    "wrong result": ("results", "every result is right"),
    "hangs": ("caches", "the step is completed"),
}
FAULT = os.environ.get("FAKE_FAULT")
assert FAULT is None or FAULT in FAULTS


class Fake:
    """The device: its queue, its clock, its pool, its cache."""

    def __init__(self) -> None:
        self.queue: deque[Callable[[], None]] = deque()
        self.idle_at = 0.0  # by the host's clock, which is the device's as well
        self.other_idle_at = 0.0  # of the other stream
        self.used = 0
        self.waits = 0
        self.hooks: list[Callable[[str, int, int], None]] = []
        self.free: dict[int, list[int]] = {}
        self.next = 0
        self.memory = np.zeros(MEMORY, np.uint8)  # of the host, taken once: no call is seen to allocate it
        self.cached: dict[tuple[int, int], bool] = {}  # what was touched last comes last; whether it was written
        self.records: list[dict[str, Any]] | None = None  # of what is done, while a profiler is at work

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
        while time.perf_counter() < (0.0 if FAULT == "no fence" else self.idle_at):
            pass
        while time.perf_counter() < (0.0 if FAULT == "fence of one stream" else self.other_idle_at):
            pass
        while self.queue:
            self.queue.popleft()()

    def kernel(self, work: Callable[[], None], *arrays: Array, written: Array | None = None) -> None:
        """Queue a computation over arrays, of which one may be written."""
        moved = sum(self._touch(array.at, array.nbytes, array is written) for array in arrays)
        self.submit(KERNEL + PER_MIB * moved / 2**20, work)
        if path := os.environ.get("FAKE_ENERGY"):
            with open(path, "ab") as file:
                file.write(b"J")
        number = math.prod(arrays[0].shape)
        self.record(
            KERNEL + PER_MIB * moved / 2**20, "CONCURRENT_KERNEL", name=getattr(work, "__name__", "fake_kernel"),
            grid_x=-(-number // THREADS), grid_y=1, grid_z=1, block_x=THREADS, block_y=1, block_z=1,
            registers_per_thread=REGISTERS, static_shared_memory=0, dynamic_shared_memory=0,
        )  # fmt: skip

    def record(self, seconds: float, kind: str, **fields: Any) -> None:
        """Have what was just queued in the records of a profiler, in nanoseconds."""
        if self.records is not None:
            begin, end = round((self.idle_at - seconds) * 1e9), round(self.idle_at * 1e9)
            self.records.append({"kind": kind, "start": begin, "end": end, "stream_id": 7} | fields)

    def _touch(self, at: int, nbytes: int, is_written: bool) -> int:
        """Have an array in the cache, and give the bytes that this moves: it is read, and others are written back."""
        dirty = self.cached.pop((at, nbytes), None)
        moved = nbytes if dirty is None or nbytes > CACHE else 0
        self.cached[at, nbytes] = is_written or bool(dirty)
        while sum(min(n, CACHE) for _, n in self.cached) > CACHE:
            first = next(iter(self.cached))
            moved += min(first[1], CACHE) if self.cached.pop(first) else 0
        return moved

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
        self.used += rounded + (ROUNDED if FAULT == "pool apart" else 0)
        return self.free[rounded].pop(), rounded

    def release(self, at: int, nbytes: int, rounded: int) -> None:
        """Give memory back to the pool."""
        self.free[rounded].append(at)
        self.used -= rounded
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
    FAKE.kernel(partial(np.copyto, array.values, values), array, written=array)
    FAKE.record(0.0, "MEMCPY", bytes=values.nbytes, src_kind="PAGEABLE", dst_kind="DEVICE")
    return array


def _restore(array: Array, pristine: Array) -> Array:
    FAKE.kernel(partial(np.copyto, array.values, pristine.values), array, pristine, written=array)
    return array


def _to_numpy(result: Any) -> np.ndarray:
    if not isinstance(result, Array):
        raise TypeError(f"returned {type(result).__name__}, not an array of the fake device")
    FAKE.wait()
    values = result.values.copy()
    FAKE.record(0.0, "MEMCPY", bytes=values.nbytes, src_kind="DEVICE", dst_kind="PAGEABLE")
    if FAULT == "wrong transfer":
        values.flat[-1] += 1
    return values


def _spoil(result: Array) -> None:
    FAKE.kernel(lambda: result.values.fill(np.nan), result, written=result)


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

    if FAULT != "lost event":
        FAKE.hooks.append(hook)
    try:
        result = function()
        FAKE.wait()
    finally:
        if FAULT != "lost event":
            FAKE.hooks.remove(hook)
    return result, events


def seconds(call: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], n: int) -> float:
    """Of the device, for one of `n` calls, each queued before the device comes to it."""
    if FAULT == "hangs":
        time.sleep(1000)
    total = 0.0
    for _ in range(n):
        # Again, where the host was kept from queueing all of it in time; a call that waits itself is never in time.
        for hold in (0.0,) if FAULT == "clock of the host" else (0.001, 0.004, 0.016):
            args = prepare()
            FAKE.submit(hold)
            begin, waits = FAKE.now(), FAKE.waits
            call(*args)
            if time.perf_counter() < begin or FAKE.waits > waits:
                break
        total += FAKE.now() - begin
    FAKE.wait()
    mean = total / n
    if FAULT == "blind clock":
        return 0.0
    if FAULT == "coarse clock":
        return round(mean / 0.7e-3) * 0.7e-3 + 1e-9
    return mean * (0.9 if FAULT == "fast clock" else 1.0)


def busy(seconds: float, apart: bool = False) -> None:
    """Work that takes so long, in the queue or on another stream."""
    if not apart:
        FAKE.submit(seconds)
    else:
        FAKE.other_idle_at = max(time.perf_counter(), FAKE.other_idle_at) + seconds


def read(nbytes: int, written: bool = False) -> Callable[[], None]:
    """What reads so much memory, or writes to it."""
    filler = Array((nbytes,), np.uint8)
    if FAULT == "no flush" and nbytes > CACHE:
        return lambda: None
    return lambda: FAKE.kernel(lambda: None, filler, written=filler if written else None)


def copy(nbytes: int) -> Callable[[], None]:
    """What copies from one place of the device's memory to another."""
    source, target = Array((nbytes,), np.uint8), Array((nbytes,), np.uint8)
    return lambda: FAKE.kernel(lambda: np.copyto(target.values, source.values), source, target, written=target)


#: Seconds in which a transfer from the host moves 2²⁰ bytes of pinned memory, and from other memory.
PINNED, PAGEABLE = 1e-3, 3e-3


def upload(pixels: np.ndarray, pinned: bool) -> Callable[[], None]:
    """What copies an array of the host to the device."""
    target, source = Array(pixels.shape, pixels.dtype), np.array(pixels)
    seconds = (PINNED if pinned else PAGEABLE) * pixels.nbytes / 2**20

    def call() -> None:
        FAKE.submit(seconds, partial(np.copyto, target.values, source))
        kind = "PINNED" if pinned else "PAGEABLE"
        FAKE.record(seconds, "MEMCPY", bytes=pixels.nbytes, src_kind=kind, dst_kind="DEVICE")

    return call


#: What a multiprocessor of the device holds at most.
LIMITS = Limits(threads=2048, blocks=32, registers=65536, shared_bytes=164 * 1024, reserved_bytes=1024)


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
        read=read,
        copy=copy,
        instrument="fake-clock",
        sees_driver=True,
        mark=FAKE.now,
        between=lambda one, other: other - one,
        busy=busy,
        used_bytes=lambda: FAKE.used,
        upload=upload,
        kernels=partial(cupti.recorded, limits=LIMITS),
    ),
)
