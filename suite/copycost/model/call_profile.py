"""One profiled call: its lines or operations, and what they allocate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

#: Lines and operations of one call at most; what comes later is not told.
MOST = 4_000


@dataclass(frozen=True)
class Span:
    """Something that was done.

    Attributes
    ----------
    name : str
        Of an operation; or a line of Python, what it says and where it stands.
    where : str
        The thread, or the device's queue.
    start, seconds : float
        From the beginning of the call, and how long.
    own_seconds : float
        Without the spans within it.
    """

    name: str
    where: str
    start: float
    seconds: float
    own_seconds: float


@dataclass(frozen=True)
class MemoryChange:
    """Memory that was requested (or, negative, released), `at` so many seconds from the beginning.

    `at` is None where the instrument knows the order of the requests only.
    """

    bytes: int
    space: str
    op: str
    at: float | None


@dataclass(frozen=True)
class CallProfile:
    """One call.

    Attributes
    ----------
    spans : tuple of Span
    changes : tuple of MemoryChange
    seconds : float
        From the beginning until the fence, with all that watching adds.
    instrument : str
        What told of the spans.
    missing : str or None
        Why the allocations of a span that no change names are not known; None where it has none.
    """

    spans: tuple[Span, ...]
    changes: tuple[MemoryChange, ...]
    seconds: float
    instrument: str
    missing: str | None = None


def nested(spans: Sequence[Span]) -> list[Span]:
    """Spans of which only start and length are known, each with its own time: without those that lie within it."""
    own: dict[int, float] = {}
    by_place: dict[str, list[int]] = {}
    for k, span in enumerate(spans):
        by_place.setdefault(span.where, []).append(k)
    for its in by_place.values():
        open_: list[int] = []
        for k in sorted(its, key=lambda k: (spans[k].start, -spans[k].seconds)):
            while open_ and spans[open_[-1]].start + spans[open_[-1]].seconds <= spans[k].start + 1e-12:
                open_.pop()
            own[k] = spans[k].seconds
            if open_:
                own[open_[-1]] -= spans[k].seconds
            open_.append(k)
    return [replace(span, own_seconds=max(0.0, own[k])) for k, span in enumerate(spans)]
