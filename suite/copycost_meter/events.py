"""Allocation events, and the figures derived from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Memory in which an allocation is made: the host's; a device's, as requested from its pool; and a device's, as the
#: pool requested it from the driver when it had none left.
HOST, DEVICE, DRIVER = "host", "device", "driver"

#: Requests of at least this many bytes are counted. Smaller ones are Python's objects and a runtime's book-keeping.
THRESHOLD = 4096


class InstrumentBusyError(Exception):
    """Raised when other code in this process is already using an instrument."""


@dataclass(frozen=True)
class AllocationEvent:
    """A request for memory, or its release.

    Attributes
    ----------
    bytes : int
        Requested bytes; negative for a release.
    space : str
        `HOST`, `DEVICE` or `DRIVER`.
    instrument : str
    op : str
        Operation that made the request, as far as the instrument knows.
    rounded : int or None
        Bytes that the pool reserved for the request. None where the instrument does not report them.
    """

    bytes: int
    space: str
    instrument: str
    op: str = ""
    rounded: int | None = None


@dataclass(frozen=True)
class AllocationSummary:
    """Number and bytes of the allocations of one call.

    ``peak_bytes`` is the maximum number of bytes alive at once, above the start. ``retained_bytes`` are the bytes alive
    at the end, including the result, less the older memory that the call freed.
    """

    allocations: int = 0
    allocated_bytes: int = 0
    peak_bytes: int = 0
    retained_bytes: int = 0
    small_allocations: int = 0
    small_bytes: int = 0


def summarize(events: Iterable[AllocationEvent]) -> AllocationSummary:
    """Derive an `AllocationSummary` from the events of one call, in order."""
    count = total = peak = alive = small = small_total = 0
    for event in events:
        if abs(event.bytes) < THRESHOLD:
            small += event.bytes > 0
            small_total += max(event.bytes, 0)
            continue
        alive += event.bytes
        if event.bytes > 0:
            count += 1
            total += event.bytes
            peak = max(peak, alive)
    return AllocationSummary(count, total, peak, alive, small, small_total)


@dataclass(frozen=True)
class Pool:
    """Memory that the pool of a device used for one call; None for figures that its instrument does not report.

    Attributes
    ----------
    rounded_bytes : int or None
        Bytes that the pool reserved for the requests counted in `AllocationSummary.allocated_bytes`.
    driver_allocations, driver_bytes : int or None
        Number and bytes of the pool's requests to the driver, made when the pool had no memory left.
    """

    rounded_bytes: int | None
    driver_allocations: int | None
    driver_bytes: int | None


def pool(events: Sequence[AllocationEvent], sees_driver: bool) -> Pool:
    """Derive a `Pool` from the events of one call."""
    rounded = [e.rounded for e in events if e.space == DEVICE and e.bytes >= THRESHOLD]
    requests = [e.bytes for e in events if e.space == DRIVER and e.bytes > 0]
    return Pool(
        None if None in rounded else sum(n for n in rounded if n),
        len(requests) if sees_driver else None,
        sum(requests) if sees_driver else None,
    )


def combine(first: AllocationSummary, second: AllocationSummary) -> AllocationSummary:
    """Return the sum of the summaries of two instruments that watch different allocators."""
    return AllocationSummary(
        *(getattr(first, name) + getattr(second, name) for name in AllocationSummary.__dataclass_fields__)
    )


def median_summary(summaries: Sequence[AllocationSummary]) -> tuple[AllocationSummary, dict[str, list[int]]]:
    """Return the median of each figure over the traced calls, and the range of each figure that varies.

    Small requests are excluded from the ranges, since they come from the interpreter as often as from the call.
    """
    values: dict[str, int] = {}
    ranges: dict[str, list[int]] = {}
    for name in AllocationSummary.__dataclass_fields__:
        counts = sorted(getattr(summary, name) for summary in summaries)
        values[name] = counts[len(counts) // 2]
        if counts[0] != counts[-1] and not name.startswith("small"):
            ranges[name] = [counts[0], counts[-1]]
    return AllocationSummary(**values), ranges
