"""Detect disturbed samples from counters of the system.

Disturbed samples are marked and kept, since dropping samples because they are slow makes every interval too narrow.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from copycost.model.vocabulary import Mark

#: Fraction of a sample that may be spent waiting for a CPU. Shorter waits are timer interrupts.
_WAITED = 0.01

_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class State:
    """Counters at one moment; None for a counter that the system does not have.

    Attributes
    ----------
    waited_ns : int or None
        Nanoseconds that this thread was ready to run while another thread ran.
    stolen_ticks : int or None
        Ticks that the hypervisor took from all CPUs.
    throttled : int
        Throttle count of the current CPU.
    cpu : int or None
        Index of the current CPU.
    """

    waited_ns: int | None
    stolen_ticks: int | None
    throttled: int
    cpu: int | None


def state() -> State:
    """Read the current counters, which takes about 50 µs."""
    cpu = _LIBC.sched_getcpu() if hasattr(_LIBC, "sched_getcpu") else None
    throttled = _words(f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count")
    return State(
        waited_ns(_words("/proc/thread-self/schedstat")),
        stolen_ticks(_words("/proc/stat")),
        int(throttled[0]) if throttled else 0,
        cpu,
    )


def waited_ns(schedstat: list[str]) -> int | None:
    """Return the waiting time from the fields of a schedstat file (Documentation/scheduler/sched-stats.rst).

    The fields are the time on a CPU, the time waiting for one, and the number of time slices.
    """
    return int(schedstat[1]) if len(schedstat) > 1 else None


def stolen_ticks(stat: list[str]) -> int | None:
    """Return the stolen ticks from the first line of ``/proc/stat``.

    The fields are "cpu" user nice system idle iowait irq softirq steal guest … (proc_stat(5)).
    """
    return int(stat[8]) if len(stat) > 8 else None


def mark(before: State, after: State, ns: int) -> Mark:
    """Return the mark of a sample that took `ns` nanoseconds."""
    if before.cpu == after.cpu and after.throttled > before.throttled:
        return Mark.THROTTLED
    if _grown(before.stolen_ticks, after.stolen_ticks) > 0:
        return Mark.STOLEN
    if _grown(before.waited_ns, after.waited_ns) > _WAITED * ns:
        return Mark.WAITED
    return Mark.MOVED if before.cpu != after.cpu else Mark.NONE


def _grown(before: int | None, after: int | None) -> int:
    return 0 if before is None or after is None else after - before


def _words(path: str) -> list[str]:
    """Return the words in the first line of a kernel file, or an empty list if it cannot be read."""
    try:
        with open(path) as file:
            return file.readline().split()
    except OSError:
        return []
