"""Aggregation of a profile by operation."""

from __future__ import annotations

from dataclasses import dataclass

from copycost.model.call_profile import CallProfile


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
    """

    name: str
    where: str
    calls: int | None
    seconds: float | None
    allocations: int | None
    allocated_bytes: int | None


def operations(profile: CallProfile) -> list[Operation]:
    """Return all operations, longest first."""
    calls: dict[tuple[str, str], list[float]] = {}
    for span in profile.spans:
        calls.setdefault((span.name, span.where), []).append(span.own_seconds)
    requested: dict[str, list[int]] = {}
    for change in profile.changes:
        if change.bytes > 0:
            requested.setdefault(change.op, []).append(change.bytes)
    found = []
    for (name, where), its in calls.items():
        asked = requested.pop(name, [])  # if it ran on a thread and a device, count allocations at the thread
        known = (len(asked), sum(asked)) if asked or profile.missing is None else (None, None)
        found.append(Operation(name, where, len(its), sum(its), *known))
    for name, asked in requested.items():
        found.append(Operation(name or "(unknown)", "memory", None, None, len(asked), sum(asked)))
    return sorted(found, key=lambda one: (-(one.seconds or 0.0), -(one.allocated_bytes or 0), one.name))
