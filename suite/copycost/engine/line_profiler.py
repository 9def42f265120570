"""What happens within one call: which operation takes how long, and what it allocates.

A runtime with a profiler of its own is asked for its operations. Of every other the lines of Python are watched, each
from its beginning to the beginning of the next; on a device, by the device's clock as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from types import FrameType
from typing import Any

from copycost.engine.host_allocations import named
from copycost.model.allocation import THRESHOLD, AllocationEvent
from copycost.model.call_profile import MOST, CallProfile, MemoryChange, Span, nested

#: The operation of a request that memray has seen: it knows the line of Python, and that is within the library.
UNKNOWN = "(operation unknown; seen by memray)"


#: What calls, and is no part of the call.
_ENGINE = os.path.dirname(__file__)


def lines(
    function: Callable[[], Any], mark: Callable[[], Any] | None = None, beside: Callable[..., Any] | None = None
) -> tuple[Any, list[Span], list[tuple[Any, Any, str]]]:
    """Call, and watch each line of Python that is executed, those of the libraries that are called as well.

    Parameters
    ----------
    function : callable
    mark : callable, optional
        Queues a mark on a device as each of the function's own lines begins.
    beside : callable, optional
        What is called as well and is no part of the call.

    Returns
    -------
    result
    spans : list of Span
        Of the host.
    marked : list of (mark, mark, str)
        The marks at a line's beginning and end, and its name.
    """
    spans: list[Span] = []
    marked: list[tuple[Any, Any, str]] = []
    begun: dict[FrameType, tuple[str, float, Any]] = {}
    outermost: list[FrameType] = []
    start = perf_counter()

    def end(frame: FrameType, now: float) -> None:
        if frame in begun:
            name, since, token = begun.pop(frame)
            spans.append(Span(name, "Python", since - start, now - since, 0.0))
            if token is not None and mark is not None:
                marked.append((token, mark(), name))

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        now = perf_counter()
        if event in ("line", "return"):
            end(frame, now)
        if event == "line" and len(spans) < MOST:
            if not outermost:
                outermost.append(frame)
            token = mark() if mark is not None and frame is outermost[0] else None
            begun[frame] = (named(frame.f_code.co_filename, frame.f_lineno), perf_counter(), token)
        return local

    def called(frame: FrameType, event: str, argument: Any) -> Any:
        ours = os.path.dirname(frame.f_code.co_filename) == _ENGINE or frame.f_code is getattr(beside, "__code__", None)
        return None if len(spans) >= MOST or ours else local

    before = sys.gettrace()
    sys.settrace(called)
    try:
        result = function()
    finally:
        sys.settrace(before)
    return result, nested(spans), marked


def placed(events: Sequence[AllocationEvent], spans: Sequence[Span]) -> list[MemoryChange]:
    """Events of which only the order is known, each at the end of the line that asked; a release where the last was."""
    ends: dict[str, list[float]] = {}
    for span in spans:
        ends.setdefault(span.name, []).append(span.start + span.seconds)
    at = 0.0
    found = []
    for event in events:
        if event.bytes > 0:
            at = next((end for end in ends.get(event.op, ()) if end >= at), at)
        found.append(MemoryChange(event.bytes, event.space, event.op, at))
    return found


def completed(profile: CallProfile, library: Sequence[AllocationEvent], missing: str | None) -> CallProfile:
    """Add the requests to the C library, whose operations are not known, to a profile by operation.

    Parameters
    ----------
    profile : CallProfile
        By the runtime's own profiler, which knows the operations of the requests that it sees.
    library : sequence of AllocationEvent
    missing : str or None
        Why the requests to the C library were not seen.
    """
    seen = tuple(MemoryChange(e.bytes, e.space, UNKNOWN, None) for e in library if abs(e.bytes) >= THRESHOLD)
    if any(change.bytes > 0 for change in seen):
        missing = "memray saw requests to the C library, and does not know the operations that made them"
    return replace(profile, changes=(*profile.changes, *seen), missing=missing)
