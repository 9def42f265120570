"""Data types of one profiled call: its lines or operations, and their allocations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from copycost.model.vocabulary import MemorySpace
from copycost_meter.device_work import ON_STREAM, Span


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
