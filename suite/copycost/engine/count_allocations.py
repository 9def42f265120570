"""Count the allocations of calls, with every instrument that sees the memory of their runtime.

No instrument alone is enough. If oneDNN is on, TensorFlow's CPU allocator keeps freed memory: TensorFlow's profiler
sees the requests, and memray does not. If oneDNN is off, the C library serves the same requests: memray sees them, and
the profiler does not. It is off by default on a CPU without AVX-512 VNNI or AVX-VNNI.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from copycost.engine.host_allocations import WINDOWS, trace_host
from copycost.model.allocation import AllocationEvent, AllocationSummary, combine, summarize
from copycost.model.runtime import Runtime

#: Shape of the float32 array that tests whether the instruments see a runtime's memory. It must be larger than 256 KB,
#: because TensorFlow's allocator passes smaller requests on to the C library.
_KNOWN = (1, 100, 1000, 3)

#: Bytes that an allocator may request beyond the size of an array, for alignment or to fill a page.
_ROUNDED = 8192

#: Number of test arrays that are made under each instrument.
_PROBES = 3


@dataclass(frozen=True)
class Counted:
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
    """

    library: list[list[AllocationEvent]] | None
    runtime: list[list[AllocationEvent]]
    leaked_bytes: int
    instruments: tuple[str, ...]
    missing: str | None = None

    def host(self) -> list[AllocationSummary] | None:
        """Return the allocations of each call in the host's memory over all instruments, or None if not seen."""
        if self.library is None:
            return None
        pairs = zip(self.library, self.runtime, strict=True)
        return [combine(summarize(one), summarize(e for e in other if e.space == "host")) for one, other in pairs]


def count(
    prepare: Callable[[int], Callable[[], Any]],
    runtime: Runtime,
    *,
    windows: int = WINDOWS,
    on_host: bool = True,
    size: Callable[[Any], int] = lambda result: 0,
) -> Counted:
    """Count the allocations of the same calls under each instrument, after one call that is not counted.

    Every instrument also watches the creation of a test array of known size. If the instruments together do not see its
    bytes exactly once, they miss the runtime's memory, or two of them see the same memory. The counts are then missing.

    Parameters
    ----------
    prepare : callable
        ``prepare(i)`` returns the call of window `i`, 0 to `windows`. Allocations of `prepare` are not counted.
    runtime : Runtime
    windows : int, optional
        Number of calls that are counted.
    on_host : bool, optional
        Whether the runtime's arrays are in the host's memory. If not, a test array cannot test the host's instruments.
    size : callable, optional
        ``size(result)`` returns the bytes of a result that the caller owns, which are not a leak.

    Raises
    ------
    InstrumentBusyError
        If other code in this process already uses an instrument.
    """
    known = np.zeros(_KNOWN, np.float32)
    held = []

    def make() -> Any:
        made = runtime.array(known, False)
        if runtime.wait is not None:
            made = runtime.wait(made)
        runtime.fence()
        held.append(made)
        return made

    prepares: list[Callable[[], Callable[[], Any]]] = [partial(prepare, i) for i in range(windows + 1)]
    probes: list[Callable[[], Callable[[], Any]]] = [lambda: make] * (_PROBES if on_host else 0)
    if on_host:
        make()
    library: list[list[AllocationEvent]] | None = None
    instruments: tuple[str, ...] = ()
    missing, leaked = None, 0
    try:
        library, left = trace_host([*prepares, *probes])
        leaked = left[windows - 1]
        instruments = ("memray",)
    except ImportError:
        missing = "memray is not installed"
    traces: list[list[AllocationEvent]] = [[] for _ in range(windows + len(probes))]
    if runtime.trace is not None:
        traces = []
        for one in prepares:
            result, events = runtime.trace(one())
            traces.append(events)
            owned = size(result)
            result = None
        # Memory that the pool keeps for later is not a leak.
        last = summarize(event for event in traces[-1] if event.space != "driver")
        leaked += max(0, last.retained_bytes - owned)
        traces = [*traces[1:], *(runtime.trace(make)[1] for _ in probes)]
        instruments = (*instruments, runtime.instrument)
    if library is not None and probes:
        # Only requests of the test array's size, rounded up: another thread may release other memory meanwhile. The
        # mean, because it may also release a copy of one test array while the next is made.
        sizes = range(known.nbytes, known.nbytes + _ROUNDED)
        both = ([*one, *other] for one, other in zip(library[windows:], traces[windows:], strict=True))
        seen = sum(e.bytes for events in both for e in events if abs(e.bytes) in sizes) // len(probes)
        library = library[:windows]
        if not known.nbytes <= seen < 2 * known.nbytes:
            library = None
            missing = (
                f"allocations of {runtime.name} cannot be counted here: of a test array of {known.nbytes:,} bytes, "
                f"{' and '.join(instruments)} saw {seen:,} bytes"
            )
    return Counted(library, traces[:windows], leaked, instruments, missing)
