"""Time the lines of Python that a call executes, and assign its allocations to them.

Each line lasts from its beginning to the beginning of the next line. On a device, a mark is queued at both, for the
lines of the called function itself. `copycost.engine.passes.call_profile` computes the device's time from the marks.
`completed` adds the requests to the C library to the profile of a runtime with its own profiler.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from types import FrameType
from typing import Any

from copycost.model.call_profile import CallProfile, MemoryChange, nested
from copycost.model.vocabulary import MemorySpace
from copycost_meter.device_work import MOST, Span
from copycost_meter.events import THRESHOLD, AllocationEvent
from copycost_meter.host_allocations import line_label

#: Operation of a request that memray has seen. memray knows only its line of Python, which is within the library.
UNKNOWN = "(operation unknown; seen by memray)"

#: Folder of the modules whose functions make the call (`PreparedCall.fenced_call`) but are not part of it. It does not
#: include `passes`, whose functions do not run within the call.
_ENGINE = os.path.dirname(__file__)


def lines(
    function: Callable[[], Any], mark: Callable[[], Any] | None = None, fence: Callable[..., Any] | None = None
) -> tuple[Any, list[Span], list[tuple[Any, Any, str]]]:
    """Call a function and time each executed line of Python, including those of the libraries that it calls.

    Parameters
    ----------
    function : callable
    mark : callable, optional
        Queues a mark on a device at the beginning of each of the function's own lines.
    fence : callable, optional
        A function that is called too, but is not part of the profiled call.

    Returns
    -------
    result
    spans : list of Span
        Spans on the host.
    marks : list of (mark, mark, str)
        Marks at the beginning and at the end of a line, and the name of the line.
    """
    spans: list[Span] = []
    marks: list[tuple[Any, Any, str]] = []
    open_lines: dict[FrameType, tuple[str, float, Any]] = {}
    outermost: list[FrameType] = []
    start = perf_counter()

    def end(frame: FrameType, now: float) -> None:
        if frame in open_lines:
            name, line_start, first_mark = open_lines.pop(frame)
            spans.append(Span(name, "Python", line_start - start, now - line_start, 0.0))
            if first_mark is not None and mark is not None:
                marks.append((first_mark, mark(), name))

    def trace_line(frame: FrameType, event: str, argument: Any) -> Any:
        now = perf_counter()
        if event in ("line", "return"):
            end(frame, now)
        if event == "line" and len(spans) < MOST:
            if not outermost:
                outermost.append(frame)
            first_mark = mark() if mark is not None and frame is outermost[0] else None
            open_lines[frame] = (line_label(frame.f_code.co_filename, frame.f_lineno), perf_counter(), first_mark)
        return trace_line

    def trace_call(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        is_outside = os.path.dirname(code.co_filename) == _ENGINE or code is getattr(fence, "__code__", None)
        return None if len(spans) >= MOST or is_outside else trace_line

    previous = sys.gettrace()
    sys.settrace(trace_call)
    try:
        result = function()
    finally:
        sys.settrace(previous)
    return result, nested(spans), marks


def placed(events: Sequence[AllocationEvent], spans: Sequence[Span]) -> list[MemoryChange]:
    """Assign times to ordered events: a request gets the end of its line, a release the time of the last request."""
    ends: dict[str, list[float]] = {}
    for span in spans:
        ends.setdefault(span.name, []).append(span.start + span.seconds)
    time = 0.0
    changes = []
    for event in events:
        if event.bytes > 0:
            time = next((end for end in ends.get(event.op, ()) if end >= time), time)
        changes.append(MemoryChange(event.bytes, MemorySpace(event.space), event.op, time))
    return changes


def completed(profile: CallProfile, library: Sequence[AllocationEvent], missing: str | None) -> CallProfile:
    """Add the requests to the C library, whose operations are unknown, to a runtime's own profile.

    Parameters
    ----------
    profile : CallProfile
        Profile of the runtime's own profiler, which knows the operations of the requests that it sees.
    library : sequence of AllocationEvent
    missing : str or None
        Why the instruments do not see the requests to the C library.
    """
    changes = tuple(
        MemoryChange(e.bytes, MemorySpace(e.space), UNKNOWN, None) for e in library if abs(e.bytes) >= THRESHOLD
    )
    if any(change.bytes > 0 for change in changes):
        missing = "memray saw requests to the C library, but does not know the operations that made them"
    return replace(profile, changes=(*profile.changes, *changes), missing=missing)
