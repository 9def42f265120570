"""Allocations: trace a few calls of a prepared call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from copycost.engine.count_allocations import Calls, Counted, count_each
from copycost.engine.prepared_call import PreparedCall
from copycost.engine.records import AllocationTrace
from copycost.model.allocation import (
    THRESHOLD,
    median_summary,
    pool,
    summarize,
)

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
    unlike = [i for i, (_, agree) in enumerate(traces) if not agree]
    if unlike:
        for i, again in zip(unlike, _trace_once([cases[i] for i in unlike]), strict=True):
            traces[i] = again
    return [trace for trace, _ in traces]


def _trace_once(cases: Sequence[PreparedCall]) -> list[tuple[AllocationTrace, bool]]:
    """Return the allocations of each case's traced calls, and whether these calls agree."""
    calls = [Calls(prepared.fenced_call, partial(_owned_bytes, prepared)) for prepared in cases]
    counts = count_each(calls, cases[0].runtime, on_host=cases[0].device == "cpu")
    return [_summarized(prepared, counted) for prepared, counted in zip(cases, counts, strict=True)]


def _summarized(prepared: PreparedCall, counted: Counted) -> tuple[AllocationTrace, bool]:
    """Return the figures of the counted calls, and whether these calls agree."""
    host, traces, leaked = counted.library, counted.runtime, counted.leaked_bytes
    on_host = counted.host()
    instruments, missing = counted.instruments, counted.missing
    in_host = [summarize(e for e in events if e.space == "host") for events in traces]
    in_device = [summarize(e for e in events if e.space == "device") for events in traces]
    device, ranges = median_summary(in_device)
    ranges = {f"device_{name}": both for name, both in ranges.items()}
    total = None
    agree = not ranges
    if host is not None and on_host is not None:
        total, unequal = median_summary(on_host)
        peaks = (
            median_summary([summarize(events) for events in host])[0].peak_bytes,
            median_summary(in_host)[0].peak_bytes,
        )
        agree = agree and not unequal.keys() - ({"peak_bytes"} if min(peaks) else set())
        if min(peaks):
            # Two instruments watch two calls, so how their peaks coincide is not known.
            unequal["peak_bytes"] = [max(peaks), sum(peaks)]
        ranges |= {f"host_{name}": both for name, both in unequal.items()}
    seen = [*(host[-1] if host is not None else ()), *traces[-1]]
    timeline = tuple(e for e in seen if abs(e.bytes) >= THRESHOLD and e.space != "driver")[:_LONGEST_TIMELINE]
    if prepared.device == "cpu":
        return AllocationTrace(total, None, ranges, leaked, instruments, missing, None, timeline), agree
    sees_driver = prepared.runtime.gpu is not None and prepared.runtime.gpu.sees_driver
    pools = pool(traces[-1], sees_driver)
    return AllocationTrace(total, device, ranges, leaked, instruments, missing, pools, timeline), agree


def _owned_bytes(prepared: PreparedCall, result: Any) -> int:
    """Return the bytes of a result that lie outside the caller's arrays."""
    return sum(map(_nbytes, prepared.parts(result))) if prepared.writes == "new" else 0


def _nbytes(result: Any) -> int:
    """Return the size of a result in bytes."""
    nbytes = getattr(result, "nbytes", None)
    if nbytes is not None:
        return int(nbytes)
    shape, dtype = getattr(result, "shape", ()), getattr(result, "dtype", None)
    size = int(np.prod(tuple(shape)))
    return size * int(getattr(dtype, "size", getattr(dtype, "itemsize", 0)) or 0)
