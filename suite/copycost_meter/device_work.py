"""Kernels and copies of a device, as its profilers record them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from copycost_meter.errors import describe

#: Beginning of `Span.where` for the kernels and copies of a device; its stream follows.
ON_STREAM = "GPU, "

#: Memory of the host, as CUPTI and the frameworks' profilers name it.
_OF_HOST = ("pageable", "pinned")

#: Maximum number of lines and operations recorded for one call. Later ones are dropped.
MOST = 4_000


@dataclass(frozen=True)
class Launch:
    """How a kernel was launched on a device.

    Attributes
    ----------
    grid, block : tuple of int
        Number of blocks in a grid, and of threads in a block, along x, y and z.
    registers : int
        Registers of a thread.
    shared_bytes : int
        Shared memory of a block.
    occupancy : float or None
        Theoretical occupancy: threads that a multiprocessor can hold at once of this kernel, as a fraction of those
        that it can hold at most. From PyTorch's profiler, it is an estimate of what the launch achieves. None if it is
        unknown.
    """

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    registers: int
    shared_bytes: int
    occupancy: float | None


@dataclass(frozen=True)
class Copy:
    """What a copy on a device has moved: its bytes, and from which memory to which, e.g. ``pageable`` to ``device``."""

    bytes: int
    source: str
    target: str

    @property
    def crosses(self) -> bool:
        """Whether one of the memories is the host's, and the other one is not."""
        return (self.source in _OF_HOST) != (self.target in _OF_HOST)


@dataclass(frozen=True)
class Span:
    """An operation, a line of Python, or a kernel or copy of a device, in a profile.

    Attributes
    ----------
    name : str
        Name of the operation, or text and location of the line.
    where : str
        Thread, or queue of the device.
    start, seconds : float
        Start, from the beginning of the call, and duration.
    own_seconds : float
        Duration without the nested spans.
    work : Launch or Copy or None
        What a device did. None for spans of the host, and if the profiler does not know.
    """

    name: str
    where: str
    start: float
    seconds: float
    own_seconds: float
    work: Launch | Copy | None = None


def transferred_bytes(spans: Sequence[Span]) -> int | None:
    """Return the bytes that a device's copies have moved between host and device, or None if a copy is not known."""
    for span in spans:
        if isinstance(span.work, Copy) and "unknown" in (span.work.source, span.work.target):
            return None
        if span.work is None and "memcpy" in span.name.lower():
            return None
    return sum(span.work.bytes for span in spans if isinstance(span.work, Copy) and span.work.crosses)


def transferred(
    kernels: Callable[[Callable[[], Any]], tuple[list[Span], str | None]], call: Callable[[], Any]
) -> tuple[int | None, str | None]:
    """Return the bytes that a call copies between host and device, and why they are unknown.

    Parameters
    ----------
    kernels : callable
        See `copycost_meter.library.Kernels`.
    call : callable
        It has succeeded before: what is raised here is raised by the profiler.
    """
    try:
        spans, why = kernels(call)
    except Exception as error:
        return None, f"the profiler of the device: {describe(error)}"
    if why is not None:
        return None, why
    if len(spans) >= MOST:
        return None, f"it runs more than {MOST:,} kernels and copies"
    total = transferred_bytes(spans)
    return total, "the profiler of the device does not know what a copy has moved" if total is None else None
