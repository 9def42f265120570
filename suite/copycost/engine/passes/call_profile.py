"""Profile: one call by operation or by line."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from copycost.engine.line_profiler import completed, lines, placed
from copycost.engine.prepared_call import PreparedCall
from copycost.model.call_profile import CallProfile
from copycost_meter.count_allocations import count
from copycost_meter.device_work import ON_STREAM, Span
from copycost_meter.events import THRESHOLD

#: Calls before the profiled one.
_WARM = 3

#: Time for which the device is kept busy while a call is queued, in multiples of the time that the call has just taken.
_HELD = 3


#: Copies whose mean time is compared with that of a call.
_COPIES = 5


def profile(prepared: PreparedCall, bytes_moved: int) -> CallProfile:
    """Profile one warmed-up call, whose input and result have so many bytes in total."""
    profiled = replace(_profile(prepared), bytes_moved=bytes_moved)
    gpu = prepared.runtime.gpu if prepared.device != "cpu" else None
    if gpu is None or gpu.seconds is None:
        return profiled
    try:
        return replace(profiled, copy_seconds=gpu.seconds(gpu.copy(max(8, bytes_moved // 16 * 8)), tuple, _COPIES))
    except Exception:  # the device may have no memory left for it, and the profile is complete without it
        return profiled


def _profile(prepared: PreparedCall) -> CallProfile:
    for i in range(_WARM):
        prepared.fenced_call(i)()
    counts = count(prepared.fenced_call, prepared.runtime.instruments(prepared.device == "cpu"), windows=1)
    c_library = counts.c_library[-1] if counts.c_library is not None else []
    missing = counts.missing or counts.device_missing
    if prepared.runtime.profile is not None:
        profiled = completed(prepared.runtime.profile(prepared.fenced_call(0)), c_library, missing)
        if prepared.device != "cpu" and not any(span.where.startswith(ON_STREAM) for span in profiled.spans):
            profiled = replace(profiled, no_kernels=f"{profiled.instrument} saw no work of the device")
        return profiled
    gpu = prepared.runtime.gpu if prepared.device != "cpu" else None
    mark = gpu.mark if gpu is not None else None
    call = prepared.fenced_call(0)
    start = perf_counter()
    first_mark = mark() if mark is not None else None
    # Leave the fence out of the profile if it has nothing to wait for.
    _, spans, marks = lines(call, mark, prepared.runtime.fence if gpu is None else None)
    seconds = perf_counter() - start
    if gpu is not None and gpu.between is not None and mark is not None:
        if gpu.busy is not None:
            # Queue the call once more, behind work that lasts longer than queueing it: tracing lines slows the host
            # down, and the device's times would be those of the host.
            call = prepared.fenced_call(0)
            gpu.busy(_HELD * seconds)
            first_mark = mark()
            _, _, marks = lines(call, mark)
        for begin, end, name in marks:
            duration = gpu.between(begin, end)
            spans.append(Span(name, "device", gpu.between(first_mark, begin), duration, duration))
    no_kernels = None
    if gpu is not None and gpu.kernels is not None:
        kernels, no_kernels = gpu.kernels(prepared.fenced_call(0))
        spans += kernels
    events = counts.last()
    large_events = [event for event in events if abs(event.bytes) >= THRESHOLD and event.space != "driver"]
    instrument = "Python's lines" + (f", {gpu.instrument}" if gpu is not None else "")
    changes = tuple(placed(large_events, spans))
    return CallProfile(tuple(spans), changes, seconds, instrument, missing, no_kernels)
