"""Record the kernels and copies of a CUDA device through CUPTI, NVIDIA's interface for profilers.

The Python package cupti-python, of the extra ``cupti``, wraps the library. It sees the work of every library in the
process, on every stream. Activity records need no rights of an administrator, unlike counters.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from copycost_meter.device_work import MOST, ON_STREAM, Copy, Launch, Span
from copycost_meter.errors import describe
from copycost_meter.profilers.occupancy import Limits, occupancy

#: Bytes of a buffer for records, as in NVIDIA's examples.
_BUFFER = 8 * 2**20

_KINDS = ("CONCURRENT_KERNEL", "MEMCPY", "MEMSET")


def recorded(function: Callable[[], Any], limits: Limits | None = None) -> tuple[list[Span], str | None]:
    """Call a function, which waits for the device at its end, and return the kernels and copies of the device.

    Parameters
    ----------
    function : callable
    limits : Limits, optional
        Of a multiprocessor, to compute the occupancy of kernels.

    Returns
    -------
    list of Span
        In the order of their beginning. `Span.start` counts from just before the call, by CUPTI's clock.
    str or None
        Why there are none.
    """
    if importlib.util.find_spec("cupti") is None:
        return [], "cupti-python is not installed: pip install cupti-python"
    try:
        from cupti import cupti
    except Exception as error:  # its wheel is for another CUDA, or its loader finds no library
        return [], f"cupti-python: {describe(error)}"
    spans: list[Span] = []
    begin = 0

    def completed(activities: list[Any]) -> None:
        # The records are valid during this call only.
        # A time of 0 says that it could not be collected.
        timed = [record for record in activities if getattr(record, "start", 0)]
        spans.extend(_span(cupti, record, begin, limits) for record in timed)

    kinds = [getattr(cupti.ActivityKind, name) for name in _KINDS]
    enabled = []
    try:
        cupti.activity_register_callbacks(lambda: (_BUFFER, 0), completed)
        for kind in kinds:
            cupti.activity_enable(kind)
            enabled.append(kind)
        begin = cupti.get_timestamp()
        function()
        cupti.activity_flush_all(1)  # also buffers that are not full
    except cupti.cuptiError as error:  # another profiler is at work, or the driver forbids it
        return [], f"CUPTI: {describe(error)}"
    finally:
        for kind in enabled:
            cupti.activity_disable(kind)
    spans.sort(key=lambda span: span.start)
    return spans[:MOST], None if spans else "CUPTI saw no work of the device"


def _span(cupti: Any, record: Any, begin: int, limits: Limits | None) -> Span:
    """Return a record of a kernel, a copy or a filling of memory as a span."""
    seconds, name = (record.end - record.start) * 1e-9, "memset"
    work: Launch | Copy | None = None
    if record.kind == cupti.ActivityKind.CONCURRENT_KERNEL:
        name = record.name
        block = (record.block_x, record.block_y, record.block_z)
        shared = record.static_shared_memory + record.dynamic_shared_memory
        fraction = None if limits is None else occupancy(block, record.registers_per_thread, shared, limits)
        work = Launch(
            (record.grid_x, record.grid_y, record.grid_z), block, record.registers_per_thread, shared, fraction
        )
    elif record.kind == cupti.ActivityKind.MEMCPY:
        source, target = (_memory(cupti, kind) for kind in (record.src_kind, record.dst_kind))
        name, work = f"copy, {source} to {target}", Copy(record.bytes, source, target)
    return Span(name, f"{ON_STREAM}stream {record.stream_id}", (record.start - begin) * 1e-9, seconds, seconds, work)


def _memory(cupti: Any, kind: int) -> str:
    return str(cupti.ActivityMemoryKind(kind).name).lower().replace("_", " ")
