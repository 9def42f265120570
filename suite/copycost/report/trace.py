"""Conversion of a profile to a trace for Perfetto (https://ui.perfetto.dev) and chrome://tracing.

The format is Google's Trace Event Format, with complete events ("X"), counters ("C") and names of threads ("M"). Times
are in microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from copycost.model.call_profile import CallProfile
from copycost_meter.device_work import Span

_PID = 1


def trace(profile: CallProfile, case: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trace as a JSON object, which includes `case` so that a report can match it with a row."""
    places = list(dict.fromkeys(span.where for span in profile.spans))
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": _PID, "args": {"name": f"copycost: {case['variant']}"}}
    ]
    events += [
        {"ph": "M", "name": "thread_name", "pid": _PID, "tid": k, "args": {"name": where}}
        for k, where in enumerate(places)
    ]
    events += [
        {
            "ph": "X", "name": span.name, "pid": _PID, "tid": places.index(span.where), "ts": span.start * 1e6,
            "dur": span.seconds * 1e6, "args": {"own_us": span.own_seconds * 1e6} | _work(span),
        }
        for span in profile.spans
    ]  # fmt: skip
    live: dict[str, int] = {}
    # Skip memory spaces with changes at unknown times: a curve of the remaining changes would be wrong.
    partial = {change.space for change in profile.changes if change.at is None}
    timed = [(change.at, change) for change in profile.changes if change.at is not None]
    for at, change in sorted(timed, key=lambda pair: pair[0]):
        if change.space in partial:
            continue
        live[change.space] = live.get(change.space, 0) + change.bytes
        events.append(
            {
                "ph": "C", "name": f"live bytes, {change.space}", "pid": _PID, "ts": at * 1e6,
                "args": {"bytes": live[change.space]},
            }
        )  # fmt: skip
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "copycost": dict(case),
            "instrument": profile.instrument,
            "missing": profile.missing,
            "no_kernels": profile.no_kernels,
        },
    }


def _work(span: Span) -> dict[str, Any]:
    """Return what a device did: how a kernel was launched, or what a copy has moved."""
    return {} if span.work is None else asdict(span.work)
