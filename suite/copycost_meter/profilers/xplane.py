"""Read traces of XLA's profiler (xplane.proto), which TensorFlow and JAX share: kernels, calls and allocations.

TensorFlow reads them with its protocol buffers, JAX with its own classes. Both become `Event`s here.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from copycost_meter.device_work import MOST, ON_STREAM, Span
from copycost_meter.events import DEVICE, HOST, AllocationEvent
from copycost_meter.profilers.records import xplane_work

#: Name of the annotation around a call in a trace.
CALL = "copycost call"

#: Names of the events of a request to an allocator, and of a release.
MEMORY_EVENTS = ("MemoryAllocation", "MemoryDeallocation")


@dataclass(frozen=True)
class Event:
    """An event of a trace.

    Attributes
    ----------
    plane, line : str
        The host or a device, and its thread or queue.
    name : str
    start, duration : int
        In picoseconds.
    stats : callable
        ``stats()`` returns the statistics by name. Few events are asked for them.
    """

    plane: str
    line: str
    name: str
    start: int
    duration: int
    stats: Callable[[], Mapping[str, Any]] = dict

    @property
    def on_stream(self) -> bool:
        """Whether it is a kernel or a copy on a stream of a GPU. Other lines of its plane repeat the same events."""
        return self.plane.startswith("/device:GPU") and self.line.startswith("Stream")


def of_protobuf(planes: Iterable[Any]) -> Iterator[Event]:
    """Yield the events of planes that TensorFlow has read."""
    for plane in planes:
        for line in plane.lines:
            where = line.name or str(line.id)
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                start = line.timestamp_ns * 1000 + event.offset_ps
                yield Event(plane.name, where, name, start, event.duration_ps, _stats(plane, event))


def _stats(plane: Any, event: Any) -> Callable[[], Mapping[str, Any]]:
    def stats() -> dict[str, Any]:
        return {plane.stat_metadata[stat.metadata_id].name: _value(plane, stat) for stat in event.stats}

    return stats


def _value(plane: Any, stat: Any) -> Any:
    kind = stat.WhichOneof("value")
    return plane.stat_metadata[stat.ref_value].name if kind == "ref_value" else getattr(stat, kind or "str_value")


def of_profile_data(data: Any) -> Iterator[Event]:
    """Yield the events of a `jax.profiler.ProfileData`."""
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                start, duration = round(event.start_ns * 1000), round(event.duration_ns * 1000)
                yield Event(plane.name, line.name, event.name, start, duration, partial(_pairs, event))


def _pairs(event: Any) -> dict[str, Any]:
    return dict(event.stats)


#: Maximum number of calls to trace for kernels. All share a profiler session, which takes longer than they do.
_TRACED_CALLS = 3


def make_calls(
    call: Callable[..., Any],
    prepare: Callable[[], tuple[Any, ...]],
    n: int,
    annotation: Callable[[str], AbstractContextManager[Any]],
    wait: Callable[[Any], Any],
) -> None:
    """Make up to three calls, each annotated until it is done, so that a trace tells their work from `prepare`'s.

    Parameters
    ----------
    call, prepare : callable
        ``prepare()`` returns the arguments of each call.
    n : int
        Number of calls that are wanted.
    annotation : callable
        ``annotation(name)`` returns a context that the profiler records.
    wait : callable
        ``wait(values)`` returns when the values are there.
    """
    for _ in range(min(n, _TRACED_CALLS)):
        args = prepare()
        wait(args)
        with annotation(CALL):
            wait(call(*args))


def call_windows(events: Iterable[Event]) -> list[tuple[int, int]]:
    """Return when each annotated call began and ended, to its fence, in picoseconds, in order."""
    return sorted(
        (event.start, event.start + event.duration)
        for event in events
        if event.name == CALL and event.plane.startswith("/host:")
    )


def kernel_seconds(events: Sequence[Event]) -> float | None:
    """Return the mean time for which a GPU's streams ran kernels and copies of an annotated call, in seconds.

    Without an event of a stream in every call, the time is None: the profiler may not be allowed to see the device, or
    the calls have worked elsewhere.
    """
    windows = call_windows(events)
    begins, ends = [begin for begin, _ in windows], [end for _, end in windows]
    picoseconds = [0] * len(begins)
    for event in events:
        if not event.on_stream:
            continue
        # The clocks of host and device agree to within microseconds only. A fence comes before each call, so that a
        # kernel belongs to the call that began last; what comes after a call's end was queued by `prepare`.
        number = bisect.bisect(begins, event.start + event.duration // 2) - 1
        if number >= 0 and event.start <= ends[number]:
            picoseconds[number] += event.duration
    return sum(picoseconds) * 1e-12 / len(picoseconds) if picoseconds and all(picoseconds) else None


def kernel_spans(events: Sequence[Event]) -> list[Span]:
    """Return the kernels and copies of a GPU, in order. `Span.start` counts from the first annotated call."""
    begin = next(iter(call_windows(events)), (0, 0))[0]
    spans = []
    for event in sorted((event for event in events if event.on_stream), key=lambda event: event.start)[:MOST]:
        seconds, where = event.duration * 1e-12, f"{ON_STREAM}{event.line}"
        start = (event.start - begin) * 1e-12
        spans.append(Span(event.name, where, start, seconds, seconds, xplane_work(event.stats())))
    return spans


def allocations(events: Iterable[Event], instrument: str) -> list[AllocationEvent]:
    """Return the requests to XLA's and TensorFlow's allocators, and the releases, in order."""
    found = sorted((event for event in events if event.name in MEMORY_EVENTS), key=lambda event: event.start)
    return [allocation(event, instrument) for event in found]


def allocation(event: Event, instrument: str) -> AllocationEvent:
    """Return the request or the release that an event of a trace records."""
    stats = event.stats()
    sign = 1 if event.name == "MemoryAllocation" else -1
    # GPU_0_bfc is device memory; cuda_host_bfc and mklcpu are host memory.
    space = DEVICE if str(stats["allocator_name"]).startswith("GPU_") else HOST
    rounded = stats.get("allocation_bytes")
    return AllocationEvent(
        sign * int(stats["requested_bytes"]),
        space,
        instrument,
        str(stats.get("tf_op", "")),
        None if rounded is None else int(rounded),
    )
