"""Read what the profilers of frameworks record about kernels and copies of a device."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from copycost_meter.device_work import MOST, ON_STREAM, Copy, Launch, Span

#: Categories of a device's work in the traces of Kineto, PyTorch's profiler.
_KINETO = ("kernel", "gpu_memcpy", "gpu_memset")

_COPY = re.compile(r"Memcpy \w+ \((\w+) -> (\w+)\)")


def xplane_work(stats: Mapping[str, Any]) -> Launch | Copy | None:
    """Return how a kernel was launched, or what a copy moved, from the statistics of an event of XLA's profiler.

    ``kernel_details`` and ``memcpy_details`` are texts of names and values, e.g. ``regs:32 grid:196,1,1 occ_pct:100``
    (xla/backends/profiler/gpu).
    """
    if details := stats.get("kernel_details"):
        values = _values(details)
        if not values.keys() >= {"grid", "block", "regs", "static_shared", "dynamic_shared"}:
            return None
        grid, block = (_three(values[name].split(",")) for name in ("grid", "block"))
        shared = int(values["static_shared"]) + int(values["dynamic_shared"])
        return Launch(grid, block, int(values["regs"]), shared, _fraction(values.get("occ_pct")))
    if details := stats.get("memcpy_details"):
        values = _values(details)
        nbytes = values.get("size", values.get("num_bytes"))
        if nbytes is None:
            return None
        return Copy(int(nbytes), values.get("kind_src", "unknown"), values.get("kind_dst", "unknown"))
    return None


def kineto_spans(events: Iterable[Mapping[str, Any]], begin: str) -> list[Span]:
    """Return the kernels and copies in a trace of PyTorch's profiler, in the order of their beginning.

    Parameters
    ----------
    events : iterable of mapping
        ``traceEvents`` of the trace; times are in microseconds.
    begin : str
        Name of the event whose beginning is the time 0: an annotation around the call.
    """
    events = list(events)
    # The annotation has a second event on the device, from its first kernel on.
    annotations = [event for event in events if event.get("name") == begin and event.get("cat") == "user_annotation"]
    start = annotations[0]["ts"] if annotations else 0.0
    spans = []
    for event in events:
        if event.get("cat") not in _KINETO or "dur" not in event:
            continue
        values = event.get("args", {})
        name = str(event["name"])
        work: Launch | Copy | None = None
        if event["cat"] == "kernel" and values.keys() >= {"grid", "block", "registers per thread", "shared memory"}:
            work = Launch(
                _three(values["grid"]), _three(values["block"]), int(values["registers per thread"]),
                int(values["shared memory"]), _fraction(values.get("est. achieved occupancy %")),
            )  # fmt: skip
        elif (match := _COPY.match(name)) and "bytes" in values:
            source, target = match[1].lower(), match[2].lower()
            name, work = f"copy, {source} to {target}", Copy(int(values["bytes"]), source, target)
        seconds = event["dur"] * 1e-6
        where = f"{ON_STREAM}stream {values.get('stream', event.get('tid'))}"
        spans.append(Span(name, where, (event["ts"] - start) * 1e-6, seconds, seconds, work))
    return sorted(spans, key=lambda span: span.start)[:MOST]


def _fraction(percent: Any) -> float | None:
    """Return a percentage as a fraction; profilers give a negative one if it is unknown."""
    return None if percent is None or float(percent) < 0 else float(percent) / 100


def _values(details: str) -> dict[str, str]:
    return dict(part.split(":", 1) for part in details.split() if ":" in part)


def _three(values: Iterable[Any]) -> tuple[int, int, int]:
    x, y, z = (int(value) for value in values)
    return x, y, z
