"""A profile by operation."""

from __future__ import annotations

from dataclasses import dataclass

from suite.engine.profiler import Profile


@dataclass(frozen=True)
class Operation:
    """All that one operation, or one line, did in a call.

    Attributes
    ----------
    name : str
    where : str
        The thread, or the device's queue; ``memory`` where an allocation is all that is known of it.
    calls : int
    seconds : float
        Without what lies within it and is told by itself.
    allocations, allocated_bytes : int
    """

    name: str
    where: str
    calls: int
    seconds: float
    allocations: int
    allocated_bytes: int


def operations(profile: Profile) -> list[Operation]:
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
        found.append(Operation(name, where, len(its), sum(its), len(asked), sum(asked)))
    for name, asked in requested.items():
        found.append(Operation(name or "(not told)", "memory", 0, 0.0, len(asked), sum(asked)))
    return sorted(found, key=lambda one: (-one.seconds, -one.allocated_bytes, one.name))
