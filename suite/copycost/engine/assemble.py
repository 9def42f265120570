"""Make a measurement of the records about a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from copycost.engine.records import AllocationTrace, Audit, DeviceSample, Timing
from copycost.machine import devices
from copycost.model.measurement import FIGURES, Measurement
from copycost.model.vocabulary import Status
from copycost.stats.intervals import estimate
from copycost.stats.sums import of_blocks

_ON_CPU = "the case is on the CPU"
_NO_INTERVAL = "an interval needs two blocks"

#: Fields about the memory of a call, by memory space and in total, and about the memory pool of a device.
_ALLOCATIONS = tuple(AllocationTrace(None, None, {}, 0, ()).figures())
_POOL = ("device_rounded_bytes", "driver_allocations", "driver_bytes")

#: Fields about the condition of the GPU, by block.
_CONDITION = ("clocks_mhz", "temperatures_c", "slowed")

#: Figure → attribute of `DeviceSample` from which it is estimated.
_ON_DEVICE = {
    "launch_seconds": "launch",
    "device_seconds": "device",
    "cold_seconds": "cold",
    "cold_device_seconds": "cold_device",
}

_NO_ENERGY = "it is measured with --energy, on a GPU that counts its energy, for calls that leave their input unchanged"

#: The energy of a call, and the limits of its interval.
_ENERGY = ("joules", "joules_low", "joules_high")

#: The figures that come from timing.
_TIMES = (
    *_CONDITION,
    *_ENERGY,
    *(f"{name}{end}" for name in _ON_DEVICE for end in ("", "_low", "_high")),
    "seconds", "seconds_low", "seconds_high", "least_change", "seconds_first", "calls", "blocks", "stopped_by",
    "samples", "marks", "images_per_second", "bytes_moved", "bytes_per_second", "copy_fraction",
)  # fmt: skip

#: Fields of a measurement, and why those of them that are None are missing.
_Part = tuple[dict[str, Any], dict[str, str]]


def measurement(
    row: Mapping[str, Any],
    threads: int,
    status: str,
    reason: str | None,
    audit: Audit | None = None,
    trace: AllocationTrace | str | None = None,
    timing: Timing | None = None,
) -> Measurement:
    """Return the measurement of a case, with a reason for each missing figure.

    Parameters
    ----------
    row : mapping
        Fields of the case itself.
    threads : int
    status : str
        Unless it is ``"ok"`` or ``"unchecked"``, it is the reason of every figure that has no other one.
    reason : str or None
    audit : Audit, optional
    trace : AllocationTrace or str, optional
        A text says why the case was not traced.
    timing : Timing, optional
    """
    complete = status in ("ok", "unchecked")
    parts: list[_Part] = [_audit_part(audit)] if audit is not None else []
    if isinstance(trace, AllocationTrace):
        parts.append(_trace_part(trace))
    elif trace is not None:
        parts.append(({}, dict.fromkeys((*_ALLOCATIONS, *_POOL, "transferred_bytes", "timeline"), trace)))
    if status == "unchecked":
        parts.append(({}, dict.fromkeys(("max_abs_error", "max_ulp"), reason or "")))
    if timing is not None:
        parts.append(_timing_part(timing))
    elif complete:
        parts.append(({}, dict.fromkeys(_TIMES, "not timed")))
    fields: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for part_fields, part_reasons in parts:
        fields |= part_fields
        reasons |= part_reasons
    if timing is not None and fields.get("device_seconds") is not None:
        others = (name for name in fields.get("instruments", ()) if name != timing.device_clock)
        fields["instruments"] = (*others, timing.device_clock)
    default = "not measured" if complete else status
    missing = {name: reasons.get(name, default) for name in FIGURES if fields.get(name) is None}
    return Measurement(**row, threads=threads, status=Status(status), reason=reason, missing=missing, **fields)


def _audit_part(audit: Audit) -> _Part:
    fields = {name: value for name, value in vars(audit).items() if name not in ("status", "reason", "time")}
    fields |= {"instruments": ("audit",), "audited": audit.time}
    return fields, {"code": "the source code cannot be extracted"}


def _trace_part(trace: AllocationTrace) -> _Part:
    reason = trace.missing or "not watched"
    timeline = [{"bytes": event.bytes, "space": event.space, "op": event.op} for event in trace.timeline]
    fields = trace.figures() | {name: getattr(trace.pool, name.removeprefix("device_"), None) for name in _POOL}
    fields |= {"ranges": trace.ranges, "instruments": ("audit", *trace.instruments)}
    fields |= {"timeline": timeline if trace.host or trace.device else None}
    fields |= {"transferred_bytes": trace.transferred_bytes}
    of_device = trace.device_missing or _ON_CPU
    reasons = {name: of_device if name.startswith("device_") else reason for name in (*_ALLOCATIONS, "timeline")}
    if trace.device_missing is not None and trace.host is not None:
        reasons |= {name: of_device for name in _ALLOCATIONS if not name.startswith("host_")}
    reasons["transferred_bytes"] = trace.transfers_missing or _ON_CPU
    return fields, reasons | dict.fromkeys(_POOL, "the instrument does not report it" if trace.pool else of_device)


def _timing_part(timing: Timing) -> _Part:
    samples = [record.seconds for record in timing.records]
    conditions = [devices.combined(record.conditions) for record in timing.records if record.conditions]
    interval = estimate(samples, timing.spread)
    fields, reasons = _device_part([record.device for record in timing.records])
    # A device's copy speed is measured by its own clock: the host's time of a call is not comparable with it.
    is_asynchronous = any(record.device for record in timing.records)
    busy = fields.get("device_seconds") if is_asynchronous else interval.value
    fields |= {
        "clocks_mhz": [condition.clock_mhz for condition in conditions] or None,
        "temperatures_c": [condition.temperature_c for condition in conditions] or None,
        "slowed": [list(condition.slowed) for condition in conditions] or None,
        "seconds": interval.value,
        "seconds_low": interval.low,
        "seconds_high": interval.high,
        "least_change": interval.least,
        "seconds_first": timing.seconds_first,
        "calls": sum(sample.calls for record in timing.records for sample in record.samples),
        "blocks": len(samples),
        "stopped_by": timing.stopped_by,
        "samples": samples,
        "marks": [record.marks for record in timing.records],
        "images_per_second": timing.images / interval.value,
        "bytes_moved": timing.bytes_moved,
        "bytes_per_second": timing.bytes_moved / interval.value,
        "copy_fraction": timing.bytes_moved / busy / timing.copy_speed if timing.copy_speed and busy else None,
    }
    energy_fields, energy_reasons = _energy_part([record.joules for record in timing.records])
    fields |= energy_fields
    reasons |= energy_reasons
    reasons |= dict.fromkeys(_CONDITION, _ON_CPU)
    reasons |= dict.fromkeys(("seconds_low", "seconds_high", "least_change"), _NO_INTERVAL)
    no_fraction = "the copy speed was not measured" if busy else "the time of the device was not measured"
    return fields, reasons | {"copy_fraction": no_fraction}


def _energy_part(values: Sequence[float | None]) -> _Part:
    """Return the energy of a call with its interval, which needs two blocks, from the energy in each block."""
    joules = [value for value in values if value is not None]
    if not joules:
        return {}, dict.fromkeys(_ENERGY, _NO_ENERGY)
    if len(joules) == 1:
        return {"joules": joules[0]}, dict.fromkeys(_ENERGY[1:], _NO_INTERVAL)
    energy = of_blocks(joules)
    return dict(zip(_ENERGY, (energy.value, energy.low, energy.high), strict=True)), {}


def _device_part(blocks: Sequence[Sequence[DeviceSample]]) -> _Part:
    """Return the fields that only an asynchronous device has: each figure with its interval."""
    fields: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name, attribute in _ON_DEVICE.items():
        names = (name, f"{name}_low", f"{name}_high")
        times = [[getattr(sample, attribute) for sample in block] for block in blocks]
        complete = [block for block in times if block and None not in block]
        if not complete:
            asynchronous = any(times)
            reasons |= dict.fromkeys(
                names, "the runtime reported no work of the device" if asynchronous else "not on an asynchronous device"
            )
        elif min(seconds for block in complete for seconds in block) <= 0:
            reasons |= dict.fromkeys(names, "shorter than the resolution of the device's clock")
        else:
            interval = estimate(complete)
            fields |= dict(zip(names, (interval.value, interval.low, interval.high), strict=True))
            reasons |= dict.fromkeys(names, _NO_INTERVAL)
    return fields, reasons
