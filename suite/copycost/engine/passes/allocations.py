"""Allocations: trace a few calls of a prepared call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from copycost.engine.prepared_call import PreparedCall
from copycost.engine.records import AllocationTrace
from copycost.model.runtime import Runtime
from copycost.model.vocabulary import DeviceKind
from copycost_meter.arrays import nbytes_of
from copycost_meter.count_allocations import AllocationCounts, Calls, count_each
from copycost_meter.device_work import transferred
from copycost_meter.events import THRESHOLD, pool

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
    nbytes, missing = transferred(gpu.kernels, prepared.fenced_call(0))
    return replace(trace, transferred_bytes=nbytes, transfers_missing=missing)


def _trace_once(cases: Sequence[PreparedCall]) -> list[tuple[AllocationTrace, bool]]:
    """Return the allocations of each case's traced calls, and whether these calls agree."""
    calls = [Calls(prepared.fenced_call, partial(_owned_bytes, prepared)) for prepared in cases]
    counts = count_each(calls, cases[0].runtime.instruments(cases[0].device == DeviceKind.CPU))
    return [make_trace(count, prepared.device, prepared.runtime) for prepared, count in zip(cases, counts, strict=True)]


def make_trace(counts: AllocationCounts, device: str, runtime: Runtime) -> tuple[AllocationTrace, bool]:
    """Return the figures of the counted calls of a runtime on a device, and whether these calls agree."""
    found = counts.steady(device != DeviceKind.CPU)
    large_events = (event for event in counts.last() if abs(event.bytes) >= THRESHOLD and event.space != "driver")
    trace = AllocationTrace(
        found.host, found.device, found.ranges, counts.leaked_bytes, counts.instruments, counts.missing,
        timeline=tuple(islice(large_events, _LONGEST_TIMELINE)),
    )  # fmt: skip
    if device != DeviceKind.CPU:
        sees_driver = runtime.gpu is not None and runtime.gpu.sees_driver
        trace = replace(trace, device_missing=counts.device_missing)
        if counts.device_missing is None:
            trace = replace(trace, pool=pool(counts.allocator[-1], sees_driver))
    return trace, found.agree


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
