"""Count what calls allocate, with every instrument that sees the memory of their runtime.

No instrument alone is enough. TensorFlow's CPU allocator keeps freed memory where oneDNN is on: its profiler then sees
the requests, and memray does not. Where oneDNN is off, which is the default on a CPU without AVX-512 VNNI or AVX-VNNI,
the C library serves the same requests: memray sees them, and the profiler does not.
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

#: Shape of the float32 array that shows whether the instruments see a runtime's memory. It takes more than 256 KB:
#: TensorFlow's allocator passes smaller requests on to the C library.
_KNOWN = (1, 100, 1000, 3)

#: How often it is made under each instrument.
_PROBES = 3


@dataclass(frozen=True)
class Counted:
    """The events of some calls.

    Attributes
    ----------
    library : list of list of AllocationEvent, or None
        Requests to the C library, one list a call. None where the host's memory was not seen.
    runtime : list of list of AllocationEvent
        Requests to the runtime's own allocator, one list a call; empty lists where it has none.
    leaked_bytes : int
        Bytes that the last call left behind, by all instruments.
    instruments : tuple of str
    missing : str or None
        Why the host's memory was not seen.
    """

    library: list[list[AllocationEvent]] | None
    runtime: list[list[AllocationEvent]]
    leaked_bytes: int
    instruments: tuple[str, ...]
    missing: str | None = None

    def host(self) -> list[AllocationSummary] | None:
        """Return what each call allocated in the host's memory, over all instruments; None where it was not seen."""
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
    """Make the same calls under each instrument, after one call that is not counted.

    Every instrument also watches the making of an array of known size. If together they do not see its bytes once, they
    do not see the runtime's memory, or two of them see the same memory: the counts are then missing.

    Parameters
    ----------
    prepare : callable
        ``prepare(i)`` returns the call of window `i`, 0 to `windows`. What it allocates is not counted.
    runtime : Runtime
    windows : int, optional
        Calls that are counted.
    on_host : bool, optional
        Whether the runtime's arrays are in the host's memory. The known array shows nothing of the host's instruments
        if it is not.
    size : callable, optional
        ``size(result)``: bytes of a result that the caller owns, and that are no leak.

    Raises
    ------
    InstrumentBusyError
        If an instrument is at work for somebody else in this process.
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
        # What the pool keeps for later is no leak.
        last = summarize(event for event in traces[-1] if event.space != "driver")
        leaked += max(0, last.retained_bytes - owned)
        traces = [*traces[1:], *(runtime.trace(make)[1] for _ in probes)]
        instruments = (*instruments, runtime.instrument)
    if library is not None and probes:
        both = zip(library[windows:], traces[windows:], strict=True)
        # The middle one: another thread may have released in one what was requested in another.
        seen = sorted(summarize([*one, *other]).retained_bytes for one, other in both)[len(probes) // 2]
        library = library[:windows]
        if not known.nbytes <= seen < 2 * known.nbytes:
            library = None
            missing = (
                f"allocations of {runtime.name} cannot be counted here: of an array of {known.nbytes:,} bytes that "
                f"was made to see whether they can, {' and '.join(instruments)} saw {seen:,} bytes"
            )
    return Counted(library, traces[:windows], leaked, instruments, missing)
