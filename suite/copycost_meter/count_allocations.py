"""Count the allocations of calls, with every instrument that sees the memory of their library.

No instrument alone is enough. If oneDNN is on, TensorFlow's CPU allocator keeps freed memory: TensorFlow's profiler
sees the requests, and memray does not. If oneDNN is off, the C library serves the same requests: memray sees them, and
the profiler does not. It is off by default on a CPU without AVX-512 VNNI or AVX-VNNI.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from copycost_meter.events import (
    DEVICE,
    DRIVER,
    HOST,
    AllocationEvent,
    AllocationSummary,
    combine,
    median_summary,
    summarize,
)
from copycost_meter.host_allocations import WINDOWS, CallTraces, Prepare, trace_host
from copycost_meter.library import TEST_BYTES, Instruments, Trace

#: Bytes that an allocator may request beyond the size of an array, for alignment or to fill a page.
_PADDING = 8192

#: Size of the buffer that tests whether the instrument of a device sees its memory, in bytes.
_BUFFER_BYTES = 2**20

#: Number of test arrays that are made under each instrument.
_PROBES = 3


@dataclass(frozen=True)
class AllocationCounts:
    """Allocation events of some calls.

    Attributes
    ----------
    c_library : list of list of AllocationEvent, or None
        Requests to the C library, one list per call. None if the instruments do not see the host's memory.
    allocator : list of list of AllocationEvent
        Requests to the own allocator of the library of the arrays, one list per call. The lists are empty if it has
        none.
    leaked_bytes : int
        Bytes that the last call leaked, according to all instruments.
    instruments : tuple of str
    missing : str or None
        Why the instruments do not see the host's memory.
    device_missing : str or None
        Why no instrument sees the device's memory. None if one does, or for arrays of the host.
    """

    c_library: list[list[AllocationEvent]] | None
    allocator: list[list[AllocationEvent]]
    leaked_bytes: int
    instruments: tuple[str, ...]
    missing: str | None = None
    device_missing: str | None = None

    def host(self) -> list[AllocationSummary] | None:
        """Return the allocations of each call in the host's memory over all instruments, or None if not seen."""
        if self.c_library is None:
            return None
        return list(map(combine, map(summarize, self.c_library), self._of_allocator(HOST)))

    def steady(self, on_device: bool) -> SteadyCounts:
        """Return the figures of a steady call: the median of the calls.

        Parameters
        ----------
        on_device : bool
            Whether the arrays are in the memory of a device.
        """
        device, device_ranges = median_summary(self._of_allocator(DEVICE))
        ranges = {f"device_{name}": limits for name, limits in device_ranges.items()}
        host = None
        agree = not ranges
        summaries = self.host()
        if self.c_library is not None and summaries is not None:
            host, host_ranges = median_summary(summaries)
            peaks = (
                median_summary([summarize(events) for events in self.c_library])[0].peak_bytes,
                median_summary(self._of_allocator(HOST))[0].peak_bytes,
            )
            agree = agree and not host_ranges.keys() - ({"peak_bytes"} if min(peaks) else set())
            if min(peaks):
                # Two instruments watch two calls, so how their peaks coincide is not known.
                host_ranges["peak_bytes"] = [max(peaks), sum(peaks)]
            ranges.update({f"host_{name}": limits for name, limits in host_ranges.items()})
        seen = device if on_device and self.device_missing is None else None
        if self.device_missing is None:
            for key, limits in list(ranges.items()):
                space, _, name = key.partition("_")
                elsewhere = getattr(seen if space == "host" else host, name, 0)
                ranges.setdefault(name, [limit + elsewhere for limit in limits])
        return SteadyCounts(host, seen, ranges, agree, self.device_missing)

    def last(self) -> list[AllocationEvent]:
        """Return the events of the last call, by instrument."""
        return [*(self.c_library[-1] if self.c_library is not None else ()), *self.allocator[-1]]

    def _of_allocator(self, space: str) -> list[AllocationSummary]:
        return [summarize(event for event in events if event.space == space) for events in self.allocator]


@dataclass(frozen=True)
class SteadyCounts:
    """Allocations of a steady call by memory; None for one that no instrument sees.

    Attributes
    ----------
    host, device : AllocationSummary or None
        The device's is None for arrays of the host, too.
    ranges : dict
        Smallest and largest value of each figure that differs between the calls, by its name: ``host_…``, ``device_…``,
        and without a prefix over both.
    agree : bool
        Whether the calls requested the same.
    device_missing : str or None
        Why no instrument sees the device's memory.
    """

    host: AllocationSummary | None
    device: AllocationSummary | None
    ranges: dict[str, list[int]]
    agree: bool
    device_missing: str | None = None

    @property
    def total(self) -> AllocationSummary | None:
        """Allocations over all memory, or None if that of a part is missing."""
        if self.device_missing is not None:
            return None
        return combine(self.host, self.device) if self.host and self.device else self.host


@dataclass(frozen=True)
class Calls:
    """Calls whose allocations are counted.

    Attributes
    ----------
    prepare : callable
        ``prepare(i)`` returns the call of window `i`, 0 to the number of windows. Its allocations are not counted.
    size : callable, optional
        ``size(result)`` returns the bytes of a result that the caller owns, which are not a leak.
    """

    prepare: Callable[[int], Callable[[], Any]]
    size: Callable[[Any], int] = lambda result: 0


def count(
    prepare: Callable[[int], Callable[[], Any]], instruments: Instruments, *, windows: int = WINDOWS
) -> AllocationCounts:
    """Count the allocations of the same calls under each instrument; see `count_each`."""
    return count_each([Calls(prepare)], instruments, windows=windows)[0]


def count_each(cases: Sequence[Calls], instruments: Instruments, *, windows: int = WINDOWS) -> list[AllocationCounts]:
    """Count the allocations of some cases' calls under each instrument, after one call of each that is not counted.

    Every instrument also watches the creation of a test array of known size. If the instruments together do not see its
    bytes exactly once, they miss the library's memory, or two of them see the same memory. The counts are then missing.
    The instrument of a device watches the creation of a buffer there, which it must see.

    Parameters
    ----------
    cases : sequence of Calls
    instruments : Instruments
        Those of a device make no test array, so that the host's instruments are not tested.
    windows : int, optional
        Number of calls that are counted, of each case.

    Raises
    ------
    InstrumentBusyError
        If other code in this process already uses an instrument.
    """
    test_arrays: list[Any] = []

    def make() -> Any:
        assert instruments.make is not None
        array = instruments.make()
        instruments.fence()
        test_arrays.append(array)
        return array

    on_host = instruments.make is not None
    prepares: list[list[Prepare]] = [[partial(calls.prepare, i) for i in range(windows + 1)] for calls in cases]
    probes: list[Prepare] = [lambda: make] * _PROBES if on_host else []
    if on_host:
        make()  # the first one may set something up
    library: list[CallTraces] | None = None
    names: tuple[str, ...] = ()
    missing = None
    try:
        library = trace_host([*prepares, probes] if probes else prepares)
        names = ("memray",)
    except ImportError:
        missing = "memray is not installed"
    traces = [CallTraces([[]] * (windows + 1), [0] * (windows + 1)) for _ in cases]
    own_probes: list[list[AllocationEvent]] = [[] for _ in range(_PROBES)]
    trace = instruments.trace
    if trace is not None:
        traces = [_trace(trace, *case) for case in zip(cases, prepares)]
        own_probes = [trace(make)[1] for _ in probes]
        names = (*names, instruments.name)
    if library is not None and probes:
        *library, library_probes = library
        events = [[*pair[0], *pair[1]] for pair in zip(library_probes.events, own_probes)]
        visible_bytes = _visible_bytes(TEST_BYTES, events)
        if not TEST_BYTES <= visible_bytes < 2 * TEST_BYTES:
            library = None
            missing = (
                f"allocations of {instruments.library} cannot be counted here: of a test array of {TEST_BYTES:,} "
                f"bytes, {' and '.join(names)} saw {visible_bytes:,} bytes"
            )
    device_missing = None if on_host else _why_blind(instruments)
    return [
        AllocationCounts(
            library[i].steady().events if library is not None else None,
            counted.steady().events,
            counted.leaked_bytes[-1] + (library[i].leaked_bytes[-1] if library is not None else 0),
            names,
            missing,
            device_missing,
        )
        for i, counted in enumerate(traces)
    ]


def _trace(trace: Trace, calls: Calls, prepares: Sequence[Prepare]) -> CallTraces:
    """Trace the requests of a case's calls to the library's own allocator."""
    events, leaked_bytes = [], []
    for prepare in prepares:
        result, requests = trace(prepare())
        owned_bytes = calls.size(result)
        result = None
        events.append(requests)
        # Memory that the pool keeps for later is not a leak.
        retained_bytes = summarize(event for event in requests if event.space != DRIVER).retained_bytes
        leaked_bytes.append(max(0, retained_bytes - owned_bytes))
    return CallTraces(events, leaked_bytes)


def _why_blind(instruments: Instruments) -> str | None:
    """Return why the instrument of a device does not see its memory, or None if it does."""
    if instruments.trace is None or instruments.buffer is None:
        return f"no instrument of {instruments.library} sees the device's memory"
    buffer, events = instruments.trace(partial(instruments.buffer, _BUFFER_BYTES))
    del buffer
    seen = [event for event in events if event.space == DEVICE]
    visible_bytes = _visible_bytes(_BUFFER_BYTES, [seen])
    if visible_bytes >= _BUFFER_BYTES:
        return None
    return (
        f"allocations of {instruments.library} on the device cannot be counted here: of a buffer of "
        f"{_BUFFER_BYTES:,} bytes, {instruments.name} saw {visible_bytes:,} bytes"
    )


def _visible_bytes(nbytes: int, probes: Sequence[Sequence[AllocationEvent]]) -> int:
    """Return how many bytes of a test array the instruments saw, in the mean of several.

    Only requests of the array's size, rounded up, are counted: another thread may release other memory meanwhile. The
    mean, because it may also release a copy of one test array while the next is made.
    """
    sizes = range(nbytes, nbytes + _PADDING)
    return sum(event.bytes for events in probes for event in events if abs(event.bytes) in sizes) // len(probes)
