"""Events of memory allocation, and what is derived from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Requests of at least this many bytes are counted; below it lie Python's objects and a runtime's book-keeping.
THRESHOLD = 4096


class InstrumentBusyError(Exception):
    """An instrument that is at work for somebody else in this process."""


@dataclass(frozen=True)
class AllocationEvent:
    """A request for memory, or its release.

    Attributes
    ----------
    bytes : int
        As requested; negative for a release.
    space : {"host", "device", "driver"}
        The last is what the pool of a device had to ask the driver for.
    instrument : str
    op : str
        What asked, as far as the instrument knows.
    rounded : int or None
        The bytes that the pool set aside for it; None where the instrument does not tell.
    """

    bytes: int
    space: str
    instrument: str
    op: str = ""
    rounded: int | None = None


@dataclass(frozen=True)
class AllocationSummary:
    """What one call allocated, in requests and bytes.

    ``peak_bytes`` is the most that was alive at once, above the start; ``retained_bytes`` what was alive at the end,
    the result included, less what the call freed of older memory.
    """

    allocations: int = 0
    allocated_bytes: int = 0
    peak_bytes: int = 0
    retained_bytes: int = 0
    small_allocations: int = 0
    small_bytes: int = 0


def summarize(events: Iterable[AllocationEvent]) -> AllocationSummary:
    """Derive a `AllocationSummary` from the events of one call, in order."""
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
    """What the pool of a device made of one call's requests; None for what its instrument does not tell.

    Attributes
    ----------
    rounded_bytes : int or None
        Set aside for what is counted in `AllocationSummary.allocated_bytes`.
    driver_allocations, driver_bytes : int or None
        Asked of the driver, since nothing was left in the pool.
    """

    rounded_bytes: int | None
    driver_allocations: int | None
    driver_bytes: int | None


def pool(events: Sequence[AllocationEvent], sees_driver: bool) -> Pool:
    """What the pool did for the events of one call."""
    rounded = [e.rounded for e in events if e.space == "device" and e.bytes >= THRESHOLD]
    asked = [e.bytes for e in events if e.space == "driver" and e.bytes > 0]
    return Pool(
        None if None in rounded else sum(n for n in rounded if n),
        len(asked) if sees_driver else None,
        sum(asked) if sees_driver else None,
    )


def combine(one: AllocationSummary, other: AllocationSummary) -> AllocationSummary:
    """The sum of what two instruments saw that watch different allocators."""
    return AllocationSummary(
        *(getattr(one, name) + getattr(other, name) for name in AllocationSummary.__dataclass_fields__)
    )


def median_summary(tallies: Sequence[AllocationSummary]) -> tuple[AllocationSummary, dict[str, list[int]]]:
    """The median of each figure over the windows, and the range of each that differs between them.

    Small requests are the interpreter's as often as the call's, and are not expected to agree.
    """
    values: dict[str, int] = {}
    ranges: dict[str, list[int]] = {}
    for name in AllocationSummary.__dataclass_fields__:
        seen = sorted(getattr(t, name) for t in tallies)
        values[name] = seen[len(seen) // 2]
        if seen[0] != seen[-1] and not name.startswith("small"):
            ranges[name] = [seen[0], seen[-1]]
    return AllocationSummary(**values), ranges
