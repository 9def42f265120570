"""Data types of one profiled call: its lines or operations, and their allocations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from copycost.model.vocabulary import MemorySpace

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


@dataclass(frozen=True)
class MemoryChange:
    """A request for memory or, if negative, a release, `at` seconds after the beginning of the call.

    `at` is None where the instrument knows only the order of the requests.
    """

    bytes: int
    space: MemorySpace
    op: str
    at: float | None


@dataclass(frozen=True)
class CallProfile:
    """The profile of one call.

    Attributes
    ----------
    spans : tuple of Span
    changes : tuple of MemoryChange
    seconds : float
        Time from the beginning of the call to the fence, including the overhead of profiling.
    instrument : str
        Profiler that recorded the spans.
    missing : str or None
        Why the allocations of a span without any `MemoryChange` are unknown. None if such a span has no allocations.
    no_kernels : str or None
        Why the kernels of a device are not among the spans. None if they are, or if there is no device.
    bytes_moved : int
        Bytes of input and result.
    copy_seconds : float or None
        Time in which the device copies within its memory so that it reads and writes `bytes_moved` in total, by the
        runtime's clock. None if there is no device, or no clock.
    """

    spans: tuple[Span, ...]
    changes: tuple[MemoryChange, ...]
    seconds: float
    instrument: str
    missing: str | None = None
    no_kernels: str | None = None
    bytes_moved: int = 0
    copy_seconds: float | None = None

    @property
    def device_seconds(self) -> float:
        """Sum of the times of the kernels and copies of a device."""
        return sum(span.seconds for span in self.spans if span.where.startswith(ON_STREAM))


def transferred_bytes(spans: Sequence[Span]) -> int | None:
    """Return the bytes that a device's copies have moved between host and device, or None if a copy is not known."""
    for span in spans:
        if isinstance(span.work, Copy) and "unknown" in (span.work.source, span.work.target):
            return None
        if span.work is None and "memcpy" in span.name.lower():
            return None
    return sum(span.work.bytes for span in spans if isinstance(span.work, Copy) and span.work.crosses)


def nested(spans: Sequence[Span]) -> list[Span]:
    """Return the spans with `own_seconds` computed from their starts and durations: without the nested spans."""
    own: dict[int, float] = {}
    by_place: dict[str, list[int]] = {}
    for k, span in enumerate(spans):
        by_place.setdefault(span.where, []).append(k)
    for indices in by_place.values():
        open_: list[int] = []
        for k in sorted(indices, key=lambda k: (spans[k].start, -spans[k].seconds)):
            while open_ and spans[open_[-1]].start + spans[open_[-1]].seconds <= spans[k].start + 1e-12:
                open_.pop()
            own[k] = spans[k].seconds
            if open_:
                own[open_[-1]] -= spans[k].seconds
            open_.append(k)
    return [replace(span, own_seconds=max(0.0, own[k])) for k, span in enumerate(spans)]
