"""Convert the records of workers to the fields of a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from copycost.engine.records import AllocationTrace, Audit, BlockRecord, DeviceSample
from copycost.model.allocation import AllocationSummary
from copycost.model.measurement import FIGURES, Measurement
from copycost.model.vocabulary import Status
from copycost.stats.intervals import estimate

_ON_CPU = "the case is on the CPU"

#: Fields about the memory pool of a device.
_POOL = ("device_rounded_bytes", "driver_allocations", "driver_bytes")

#: All fields about the memory of a call.
ALLOCATIONS = (
    *(f"{space}{name}" for space in ("", "host_", "device_") for name in AllocationSummary.__dataclass_fields__),
    *_POOL,
    "timeline",
)


def of_audit(audit: Audit) -> dict[str, Any]:
    """Return the fields that come from an audit."""
    return {
        "input_changed": audit.input_changed,
        "result_shares": audit.result_shares,
        "result_dtype": audit.result_dtype,
        "result_contiguous": audit.result_contiguous,
        "max_abs_error": audit.max_abs_error,
        "max_ulp": audit.max_ulp,
        "code": audit.code,
        "missing": {} if audit.code else {"code": "the source code cannot be extracted"},
        "instruments": ("audit",),
        "audited": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def of_allocations(traced: AllocationTrace) -> dict[str, Any]:
    """Return the fields about the allocations of a call, by memory space and in total."""
    fields: dict[str, Any] = {"instruments": ("audit", *traced.instruments)}
    missing: dict[str, str] = {}
    spaces = {"host": traced.host, "device": traced.device}
    for name in AllocationSummary.__dataclass_fields__:
        for space, found in spaces.items():
            fields[f"{space}_{name}"] = getattr(found, name) if found else None
        fields[name] = None
        if traced.host is None:
            missing[name] = missing[f"host_{name}"] = traced.missing or "not watched"
        else:
            fields[name] = sum(getattr(found, name) for found in spaces.values() if found)
        if traced.device is None:
            missing[f"device_{name}"] = _ON_CPU
    if traced.pool is None:
        missing |= dict.fromkeys(_POOL, _ON_CPU)
    else:
        fields |= {name: getattr(traced.pool, name.removeprefix("device_")) for name in _POOL}
        missing |= dict.fromkeys(_POOL, "the instrument does not report it")
    fields["timeline"] = [{"bytes": e.bytes, "space": e.space, "op": e.op} for e in traced.timeline]
    if traced.host is None and traced.device is None:
        fields["timeline"], missing["timeline"] = None, traced.missing or "not watched"
    ranges = dict(traced.ranges)
    for key, both in traced.ranges.items():
        space, _, name = key.partition("_")
        other = spaces["device" if space == "host" else "host"]
        beside = getattr(other, name) if other else 0
        ranges.setdefault(name, [b + beside for b in both])
    return fields | {"missing": missing, "ranges": ranges}


def with_ranges(fields: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of one process, with a range for each count that differs in another process."""
    ranges = dict(fields["ranges"])
    for space in ("", "host_", "device_"):
        for name in AllocationSummary.__dataclass_fields__:
            key = f"{space}{name}"
            if fields[key] is not None and others[key] is not None:
                seen = [n for its in (fields, others) for n in its["ranges"].get(key, [its[key]])]
                if min(seen) < max(seen):
                    ranges[key] = [min(seen), max(seen)]
    return {**fields, "ranges": ranges}


def of_time(
    records: Sequence[BlockRecord],
    *,
    first: float,
    stopped_by: str,
    images: int,
    bytes_moved: int,
    copy_speed: float | None,
) -> dict[str, Any]:
    """Return the fields that come from timing.

    Parameters
    ----------
    records : sequence of BlockRecord
    first : float
        Duration of the first call in seconds.
    stopped_by : str
    images : int
        Number of images in a batch.
    bytes_moved : int
        Bytes of input and result.
    copy_speed : float or None
        Copy speed in bytes per second, counting bytes read and bytes written.
    """
    samples = [record.seconds for record in records]
    conditions = [record.condition for record in records if record.condition is not None]
    found = estimate(samples)
    missing = {}
    if copy_speed is None:
        missing["copy_fraction"] = "the copy speed was not measured"
    if found.low is None:
        missing |= dict.fromkeys(("seconds_low", "seconds_high", "least_change"), "an interval needs two blocks")
    on_device = _of_device([record.device for record in records])
    missing |= on_device.pop("missing")
    # A device's copy speed is measured by its own clock.
    busy = on_device.get("device_seconds") or found.value
    if not conditions:
        missing |= dict.fromkeys(_CONDITION, _ON_CPU)
    return {
        **on_device,
        "clocks_mhz": [one.clock_mhz for one in conditions] or None,
        "temperatures_c": [one.temperature_c for one in conditions] or None,
        "slowed": [list(one.slowed) for one in conditions] or None,
        "seconds": found.value,
        "seconds_low": found.low,
        "seconds_high": found.high,
        "least_change": found.least,
        "seconds_first": first,
        "calls": sum(sample.calls for record in records for sample in record.samples),
        "blocks": len(samples),
        "stopped_by": stopped_by,
        "samples": samples,
        "marks": [record.marks for record in records],
        "images_per_second": images / found.value,
        "bytes_moved": bytes_moved,
        "bytes_per_second": bytes_moved / found.value,
        "copy_fraction": bytes_moved / busy / copy_speed if copy_speed else None,
        "missing": missing,
    }


#: Figure → attribute of `DeviceSample` from which it is estimated.
_ON_DEVICE = {
    "launch_seconds": "launch",
    "device_seconds": "device",
    "cold_seconds": "cold",
    "cold_device_seconds": "cold_device",
}


def _of_device(samples: Sequence[Sequence[DeviceSample]]) -> dict[str, Any]:
    """Return the fields that only an asynchronous device has: each figure with its interval."""
    fields: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, of in _ON_DEVICE.items():
        blocks = [[getattr(sample, of) for sample in block] for block in samples]
        whole = [block for block in blocks if block and None not in block]
        names = (name, f"{name}_low", f"{name}_high")
        if not whole:
            told = any(blocks)
            missing |= dict.fromkeys(
                names, "the runtime does not report it" if told else "not on an asynchronous device"
            )
            continue
        if min(value for block in whole for value in block) <= 0:
            missing |= dict.fromkeys(names, "shorter than the resolution of the device's clock")
            continue
        found = estimate(whole)
        fields |= dict(zip(names, (found.value, found.low, found.high), strict=True))
        if found.low is None:
            missing |= dict.fromkeys(names[1:], "an interval needs two blocks")
    return fields | {"missing": missing}


def untimed() -> dict[str, Any]:
    """Return the fields of a case that is not timed."""
    return {"missing": dict.fromkeys(_TIMES, "not timed")}


#: Fields about the condition of the GPU, by block.
_CONDITION = ("clocks_mhz", "temperatures_c", "slowed")

#: The figures that come from timing.
_TIMES = (
    *_CONDITION,
    *(f"{name}{end}" for name in _ON_DEVICE for end in ("", "_low", "_high")),
    "seconds", "seconds_low", "seconds_high", "least_change", "seconds_first", "calls", "blocks", "stopped_by",
    "samples", "marks", "images_per_second", "bytes_moved", "bytes_per_second", "copy_fraction",
)  # fmt: skip


def measurement(
    row: Mapping[str, Any], threads: int, status: str, reason: str | None, *parts: Mapping[str, Any]
) -> Measurement:
    """Return the measurement of a complete case, with a reason for each missing figure.

    Parameters
    ----------
    row : mapping
        Fields of the case itself.
    threads : int
    status : str
    reason : str or None
    *parts : mapping
        Figures; their ``missing`` entry gives the reasons of missing ones. The default reason is the status.
    """
    fields: dict[str, Any] = {}
    why: dict[str, str] = {}
    for part in parts:
        fields |= part
        why |= part.get("missing", {})
    lacking = [name for name in FIGURES if fields.get(name) is None]
    default = status if status not in ("ok", "unchecked") else "not measured"
    fields["missing"] = {name: why.get(name, default) for name in lacking}
    return Measurement(**row, threads=threads, status=Status(status), reason=reason, **fields)
