"""A profile by operation."""

from __future__ import annotations

from dataclasses import dataclass

from copycost.model.call_profile import CallProfile


@dataclass(frozen=True)
class Operation:
    """All that one operation, or one line, did in a call.

    Attributes
    ----------
    name : str
    where : str
        The thread, or the device's queue; ``memory`` where an allocation is all that is known of it.
    calls : int or None
        None where an allocation is all that is known of it.
    seconds : float or None
        Without what lies within it and is told by itself.
    allocations, allocated_bytes : int or None
        None where they are not known: `Profile.missing` has the reason.
    """

    name: str
    where: str
    calls: int | None
    seconds: float | None
    allocations: int | None
    allocated_bytes: int | None


def operations(profile: CallProfile) -> list[Operation]:
    """Every operation, the longest first."""
    calls: dict[tuple[str, str], list[float]] = {}
    for span in profile.spans:
        calls.setdefault((span.name, span.where), []).append(span.own_seconds)
    requested: dict[str, list[int]] = {}
    for change in profile.changes:
        if change.bytes > 0:
            requested.setdefault(change.op, []).append(change.bytes)
    found = []
    for (name, where), its in calls.items():
        asked = requested.pop(name, [])  # where it ran on a thread and on a device, the thread asked
        known = (len(asked), sum(asked)) if asked or profile.missing is None else (None, None)
        found.append(Operation(name, where, len(its), sum(its), *known))
    for name, asked in requested.items():
        found.append(Operation(name or "(not told)", "memory", None, None, len(asked), sum(asked)))
    return sorted(found, key=lambda one: (-(one.seconds or 0.0), -(one.allocated_bytes or 0), one.name))
