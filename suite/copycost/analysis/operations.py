"""Aggregation of a profile by operation."""

from __future__ import annotations

from dataclasses import dataclass

from copycost.model.call_profile import CallProfile
from copycost_meter.device_work import ON_STREAM, Copy, Launch, Span


@dataclass(frozen=True)
class Operation:
    """Totals of one operation, or one line, in a call.

    Attributes
    ----------
    name : str
    where : str
        The thread, or the queue of the device; ``memory`` if only allocations of the operation are known.
    calls : int or None
        None if only allocations of the operation are known.
    seconds : float or None
        Own time, without nested operations that have their own entry.
    allocations, allocated_bytes : int or None
        None if unknown: `CallProfile.missing` has the reason.
    launch : Launch or None
        How a kernel was launched. None for other operations, and if its launches differ.
    moved_bytes : int or None
        Bytes that a copy on a device has moved, all together. None for other operations.
    """

    name: str
    where: str
    calls: int | None
    seconds: float | None
    allocations: int | None
    allocated_bytes: int | None
    launch: Launch | None = None
    moved_bytes: int | None = None


def operations(profile: CallProfile) -> list[Operation]:
    """Return all operations, longest first."""
    calls: dict[tuple[str, str], list[Span]] = {}
    for span in profile.spans:
        calls.setdefault((span.name, span.where), []).append(span)
    requests: dict[str, list[int]] = {}
    for change in profile.changes:
        if change.bytes > 0:
            requests.setdefault(change.op, []).append(change.bytes)
    entries = []
    for (name, where), spans in calls.items():
        # A kernel requests no memory: the host does, before it queues it.
        of_device = where.startswith(ON_STREAM)
        sizes = [] if of_device else requests.pop(name, [])
        known = bool(sizes) or (profile.missing is None and not of_device)
        launches = {span.work for span in spans}
        launch = launches.pop() if len(launches) == 1 else None
        copies = [span.work.bytes for span in spans if isinstance(span.work, Copy)]
        entries.append(
            Operation(
                name,
                where,
                len(spans),
                sum(span.own_seconds for span in spans),
                len(sizes) if known else None,
                sum(sizes) if known else None,
                launch if isinstance(launch, Launch) else None,
                sum(copies) if copies else None,
            )
        )
    for name, sizes in requests.items():
        entries.append(Operation(name or "(unknown)", "memory", None, None, len(sizes), sum(sizes)))
    return sorted(entries, key=lambda entry: (-(entry.seconds or 0.0), -(entry.allocated_bytes or 0), entry.name))
