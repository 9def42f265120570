"""What the system tells of a sample that was disturbed.

A disturbed sample is marked and kept: what is left out because it is slow makes every interval too narrow.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

#: Marks of a sample: it waited for a CPU that others had, the hypervisor gave the CPU to another machine, the CPU (or
#: the GPU, of a whole block) was slowed down for its heat or its power, the thread moved from one CPU to another.
MARKS = ("waited", "stolen", "throttled", "moved")

#: The part of a sample that may be spent waiting for a CPU: less is a timer's interrupt.
_WAITED = 0.01

_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class State:
    """Counters at one moment; None for one that the system does not have.

    Attributes
    ----------
    waited_ns : int or None
        That this thread was ready to run and another did.
    stolen_ticks : int or None
        Of all CPUs.
    throttled : int
        Of the CPU.
    cpu : int or None
    """

    waited_ns: int | None
    stolen_ticks: int | None
    throttled: int
    cpu: int | None


def state() -> State:
    """The counters now. Some 50 µs."""
    cpu = _LIBC.sched_getcpu() if hasattr(_LIBC, "sched_getcpu") else None
    throttled = _words(f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count")
    return State(
        waited_ns(_words("/proc/thread-self/schedstat")),
        stolen_ticks(_words("/proc/stat")),
        int(throttled[0]) if throttled else 0,
        cpu,
    )


def waited_ns(schedstat: list[str]) -> int | None:
    """Of on a CPU, waiting for one, number of turns (Documentation/scheduler/sched-stats.rst)."""
    return int(schedstat[1]) if len(schedstat) > 1 else None


def stolen_ticks(stat: list[str]) -> int | None:
    """Of "cpu" user nice system idle iowait irq softirq steal guest … (proc_stat(5))."""
    return int(stat[8]) if len(stat) > 8 else None


def mark(before: State, after: State, ns: int) -> str:
    """The mark of a sample of so many nanoseconds; empty where nothing is known to have disturbed it."""
    if before.cpu == after.cpu and after.throttled > before.throttled:
        return "throttled"
    if _grown(before.stolen_ticks, after.stolen_ticks) > 0:
        return "stolen"
    if _grown(before.waited_ns, after.waited_ns) > _WAITED * ns:
        return "waited"
    return "moved" if before.cpu != after.cpu else ""


def _grown(before: int | None, after: int | None) -> int:
    return 0 if before is None or after is None else after - before


def _words(path: str) -> list[str]:
    """The words in the first line of a file of the kernel's, none without the file."""
    try:
        with open(path) as file:
            return file.readline().split()
    except OSError:
        return []
