"""Allocations: trace a few calls of a prepared call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from copycost.engine.count_allocations import AllocationCounts, Calls, count_each
from copycost.engine.prepared_call import PreparedCall
from copycost.engine.records import AllocationTrace
from copycost.model.allocation import THRESHOLD, median_summary, pool, summarize
from copycost.model.call_profile import MOST, transferred_bytes
from copycost.model.errors import describe
from copycost.model.runtime import Runtime

#: Maximum number of allocation events in the timeline of a call.
_LONGEST_TIMELINE = 400


def trace(prepared: PreparedCall) -> AllocationTrace:
    """Trace a few warmed-up calls, each on its own input, under one instrument after the other."""
    return trace_each([prepared])[0]


def trace_each(cases: Sequence[PreparedCall]) -> list[AllocationTrace]:
    """Trace a few warmed-up calls of each case. All cases have the same runtime and device.

    The instruments are started once for all cases.
    """
    traces = _trace_once(cases)
    # A pool may have grown between the calls. Differences that persist in a second trace are real.
    indices = [i for i, (_, agree) in enumerate(traces) if not agree]
    if indices:
        for i, second_trace in zip(indices, _trace_once([cases[i] for i in indices]), strict=True):
            traces[i] = second_trace
    return [
        trace if prepared.device == "cpu" else _with_transfers(trace, prepared)
        for prepared, (trace, _) in zip(cases, traces, strict=True)
    ]


def _with_transfers(trace: AllocationTrace, prepared: PreparedCall) -> AllocationTrace:
    """Return the trace with the bytes that a call copies between host and device, as a profiler of the device sees."""
    gpu = prepared.runtime.gpu
    if gpu is None or gpu.kernels is None:
        return replace(trace, transfers_missing=f"no profiler of the device is known for {prepared.runtime.name}")
    try:
        spans, why = gpu.kernels(prepared.fenced_call(0))
    except Exception as error:  # the call itself has succeeded before, so that it is the profiler that fails
        return replace(trace, transfers_missing=f"the profiler of the device: {describe(error)}")
    if why is not None:
        return replace(trace, transfers_missing=why)
    if len(spans) >= MOST:
        return replace(trace, transfers_missing=f"it runs more than {MOST:,} kernels and copies")
    total = transferred_bytes(spans)
    if total is None:
        return replace(trace, transfers_missing="the profiler of the device does not know what a copy has moved")
    return replace(trace, transferred_bytes=total)


def _trace_once(cases: Sequence[PreparedCall]) -> list[tuple[AllocationTrace, bool]]:
    """Return the allocations of each case's traced calls, and whether these calls agree."""
    calls = [Calls(prepared.fenced_call, partial(_owned_bytes, prepared)) for prepared in cases]
    counts = count_each(calls, cases[0].runtime, on_host=cases[0].device == "cpu")
    return [make_trace(count, prepared.device, prepared.runtime) for prepared, count in zip(cases, counts, strict=True)]


def make_trace(counts: AllocationCounts, device: str, runtime: Runtime) -> tuple[AllocationTrace, bool]:
    """Return the figures of the counted calls of a runtime on a device, and whether these calls agree."""
    by_space = {
        space: [summarize(event for event in events if event.space == space) for events in counts.runtime]
        for space in ("host", "device")
    }
    on_device, device_ranges = median_summary(by_space["device"])
    ranges = {f"device_{name}": limits for name, limits in device_ranges.items()}
    host = None
    agree = not ranges
    summaries = counts.host()
    if counts.library is not None and summaries is not None:
        host, host_ranges = median_summary(summaries)
        peaks = (
            median_summary([summarize(events) for events in counts.library])[0].peak_bytes,
            median_summary(by_space["host"])[0].peak_bytes,
        )
        agree = agree and not host_ranges.keys() - ({"peak_bytes"} if min(peaks) else set())
        if min(peaks):
            # Two instruments watch two calls, so how their peaks coincide is not known.
            host_ranges["peak_bytes"] = [max(peaks), sum(peaks)]
        ranges |= {f"host_{name}": limits for name, limits in host_ranges.items()}
    events = [*(counts.library[-1] if counts.library is not None else ()), *counts.runtime[-1]]
    large_events = (event for event in events if abs(event.bytes) >= THRESHOLD and event.space != "driver")
    trace = AllocationTrace(
        host, None, ranges, counts.leaked_bytes, counts.instruments, counts.missing,
        timeline=tuple(islice(large_events, _LONGEST_TIMELINE)),
    )  # fmt: skip
    if device != "cpu":
        sees_driver = runtime.gpu is not None and runtime.gpu.sees_driver
        trace = replace(trace, device_missing=counts.device_missing)
        if counts.device_missing is None:
            trace = replace(trace, device=on_device, pool=pool(counts.runtime[-1], sees_driver))
    return replace(trace, ranges=_with_totals(trace)), agree


def _with_totals(trace: AllocationTrace) -> dict[str, list[int]]:
    """Return the ranges of a trace, and those of the figures over all memory spaces."""
    ranges = dict(trace.ranges)
    if trace.device_missing is not None:
        return ranges  # the figures over all spaces are missing
    for key, limits in trace.ranges.items():
        space, _, name = key.partition("_")
        elsewhere = getattr(trace.device if space == "host" else trace.host, name, 0)
        ranges.setdefault(name, [limit + elsewhere for limit in limits])
    return ranges


def with_ranges(trace: AllocationTrace, other_trace: AllocationTrace) -> AllocationTrace:
    """Return the trace of one process, with a range for each figure that differs in another process."""
    ranges, other_figures = dict(trace.ranges), other_trace.figures()
    for name, value in trace.figures().items():
        if value is not None and (other_value := other_figures[name]) is not None:
            limits = [*trace.ranges.get(name, [value]), *other_trace.ranges.get(name, [other_value])]
            if min(limits) < max(limits):
                ranges[name] = [min(limits), max(limits)]
    return replace(trace, ranges=ranges)


def _owned_bytes(prepared: PreparedCall, result: Any) -> int:
    """Return the bytes of a result that lie outside the caller's arrays."""
    return sum(map(nbytes_of, prepared.parts(result))) if prepared.writes == "new" else 0


def nbytes_of(result: Any) -> int:
    """Return the size of a result in bytes."""
    nbytes = getattr(result, "nbytes", None)
    if nbytes is not None:
        return int(nbytes)
    shape, dtype = getattr(result, "shape", ()), getattr(result, "dtype", None)
    size = int(np.prod(tuple(shape)))
    return size * int(getattr(dtype, "size", getattr(dtype, "itemsize", 0)) or 0)
