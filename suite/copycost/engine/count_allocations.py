"""Count the allocations of calls, with every instrument that sees the memory of their runtime.

No instrument alone is enough. If oneDNN is on, TensorFlow's CPU allocator keeps freed memory: TensorFlow's profiler
sees the requests, and memray does not. If oneDNN is off, the C library serves the same requests: memray sees them, and
the profiler does not. It is off by default on a CPU without AVX-512 VNNI or AVX-VNNI.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from copycost.engine.host_allocations import WINDOWS, CallTraces, Prepare, trace_host
from copycost.model.allocation import AllocationEvent, AllocationSummary, combine, summarize
from copycost.model.runtime import Runtime, Trace
from copycost.model.vocabulary import MemorySpace

#: Shape of the float32 array that tests whether the instruments see a runtime's memory. It must be larger than 256 KB,
#: because TensorFlow's allocator passes smaller requests on to the C library.
_TEST_SHAPE = (1, 100, 1000, 3)

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
    library : list of list of AllocationEvent, or None
        Requests to the C library, one list per call. None if the instruments do not see the host's memory.
    runtime : list of list of AllocationEvent
        Requests to the runtime's own allocator, one list per call. The lists are empty if it has no allocator.
    leaked_bytes : int
        Bytes that the last call leaked, according to all instruments.
    instruments : tuple of str
    missing : str or None
        Why the instruments do not see the host's memory.
    device_missing : str or None
        Why no instrument sees the device's memory. None if one does, or for arrays of the host.
    """

    library: list[list[AllocationEvent]] | None
    runtime: list[list[AllocationEvent]]
    leaked_bytes: int
    instruments: tuple[str, ...]
    missing: str | None = None
    device_missing: str | None = None

    def host(self) -> list[AllocationSummary] | None:
        """Return the allocations of each call in the host's memory over all instruments, or None if not seen."""
        if self.library is None:
            return None
        on_host = ([event for event in events if event.space == "host"] for events in self.runtime)
        return list(map(combine, map(summarize, self.library), map(summarize, on_host)))


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
    prepare: Callable[[int], Callable[[], Any]], runtime: Runtime, *, windows: int = WINDOWS, on_host: bool = True
) -> AllocationCounts:
    """Count the allocations of the same calls under each instrument; see `count_each`."""
    return count_each([Calls(prepare)], runtime, windows=windows, on_host=on_host)[0]


def count_each(
    cases: Sequence[Calls], runtime: Runtime, *, windows: int = WINDOWS, on_host: bool = True
) -> list[AllocationCounts]:
    """Count the allocations of some cases' calls under each instrument, after one call of each that is not counted.

    Every instrument also watches the creation of a test array of known size. If the instruments together do not see its
    bytes exactly once, they miss the runtime's memory, or two of them see the same memory. The counts are then missing.
    The instrument of a device watches the creation of a buffer there, which it must see.

    Parameters
    ----------
    cases : sequence of Calls
    runtime : Runtime
    windows : int, optional
        Number of calls that are counted, of each case.
    on_host : bool, optional
        Whether the runtime's arrays are in the host's memory. If not, a test array cannot test the host's instruments.

    Raises
    ------
    InstrumentBusyError
        If other code in this process already uses an instrument.
    """
    test_arrays: list[Any] = []

    def make() -> Any:
        array = runtime.array(test_array, False)
        if runtime.wait is not None:
            array = runtime.wait(array)
        runtime.fence()
        test_arrays.append(array)
        return array

    test_array = np.zeros(_TEST_SHAPE, np.float32)
    prepares: list[list[Prepare]] = [[partial(calls.prepare, i) for i in range(windows + 1)] for calls in cases]
    probes: list[Prepare] = [lambda: make] * _PROBES if on_host else []
    if on_host:
        make()  # the first one may set something up
    library: list[CallTraces] | None = None
    instruments: tuple[str, ...] = ()
    missing = None
    try:
        library = trace_host([*prepares, probes] if probes else prepares)
        instruments = ("memray",)
    except ImportError:
        missing = "memray is not installed"
    traces = [CallTraces([[]] * (windows + 1), [0] * (windows + 1)) for _ in cases]
    runtime_probes: list[list[AllocationEvent]] = [[] for _ in range(_PROBES)]
    trace, instrument = runtime.tracer(on_host)
    if trace is not None:
        traces = [_trace(trace, *case) for case in zip(cases, prepares, strict=True)]
        runtime_probes = [trace(make)[1] for _ in probes]
        instruments = (*instruments, instrument)
    if library is not None and probes:
        *library, library_probes = library
        size = test_array.nbytes
        events = [[*pair[0], *pair[1]] for pair in zip(library_probes.events, runtime_probes, strict=True)]
        visible_bytes = _visible_bytes(size, events)
        if not size <= visible_bytes < 2 * size:
            library = None
            missing = (
                f"allocations of {runtime.name} cannot be counted here: of a test array of {size:,} bytes, "
                f"{' and '.join(instruments)} saw {visible_bytes:,} bytes"
            )
    device_missing = None if on_host else _why_blind(runtime, trace, instrument)
    return [
        AllocationCounts(
            library[i].steady().events if library is not None else None,
            counted.steady().events,
            counted.leaked_bytes[-1] + (library[i].leaked_bytes[-1] if library is not None else 0),
            instruments,
            missing,
            device_missing,
        )
        for i, counted in enumerate(traces)
    ]


def _trace(trace: Trace, calls: Calls, prepares: Sequence[Prepare]) -> CallTraces:
    """Trace the requests of a case's calls to the runtime's own allocator."""
    events, leaked_bytes = [], []
    for prepare in prepares:
        result, requests = trace(prepare())
        owned_bytes = calls.size(result)
        result = None
        events.append(requests)
        # Memory that the pool keeps for later is not a leak.
        retained_bytes = summarize(event for event in requests if event.space != "driver").retained_bytes
        leaked_bytes.append(max(0, retained_bytes - owned_bytes))
    return CallTraces(events, leaked_bytes)


def _why_blind(runtime: Runtime, trace: Trace | None, instrument: str) -> str | None:
    """Return why the instrument of a device does not see its memory, or None if it does."""
    if trace is None or runtime.gpu is None:
        return f"no instrument of {runtime.name} sees the device's memory"
    buffer, events = trace(partial(runtime.gpu.read, _BUFFER_BYTES))
    del buffer
    seen = [event for event in events if event.space == MemorySpace.DEVICE]
    visible_bytes = _visible_bytes(_BUFFER_BYTES, [seen])
    if visible_bytes >= _BUFFER_BYTES:
        return None
    return (
        f"allocations of {runtime.name} on the device cannot be counted here: of a buffer of {_BUFFER_BYTES:,} bytes, "
        f"{instrument} saw {visible_bytes:,} bytes"
    )


def _visible_bytes(nbytes: int, probes: Sequence[Sequence[AllocationEvent]]) -> int:
    """Return how many bytes of a test array the instruments saw, in the mean of several.

    Only requests of the array's size, rounded up, are counted: another thread may release other memory meanwhile. The
    mean, because it may also release a copy of one test array while the next is made.
    """
    sizes = range(nbytes, nbytes + _PADDING)
    return sum(event.bytes for events in probes for event in events if abs(event.bytes) in sizes) // len(probes)
