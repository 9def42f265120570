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
    requests: dict[str, list[int]] = {}
    for change in profile.changes:
        if change.bytes > 0:
            requests.setdefault(change.op, []).append(change.bytes)
    entries = []
    for (name, where), seconds in calls.items():
        sizes = requests.pop(name, [])  # if it ran on a thread and a device, count allocations at the thread
        allocations = (len(sizes), sum(sizes)) if sizes or profile.missing is None else (None, None)
        entries.append(Operation(name, where, len(seconds), sum(seconds), *allocations))
    for name, sizes in requests.items():
        entries.append(Operation(name or "(unknown)", "memory", None, None, len(sizes), sum(sizes)))
    return sorted(entries, key=lambda entry: (-(entry.seconds or 0.0), -(entry.allocated_bytes or 0), entry.name))
