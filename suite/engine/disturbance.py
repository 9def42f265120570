"""What the system tells of a sample that was disturbed.

A disturbed sample is marked and kept: what is left out because it is slow makes every interval too narrow.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

#: Marks of a sample: it waited for a CPU that others had, the hypervisor gave the CPU to another machine, the CPU (or
#: the GPU, of a whole block) was slowed down for its heat or its power, the thread moved from one CPU to another.
MARKS = ("waited", "stolen", "throttled", "moved")

#: The part of a sample that may be spent waiting for a CPU: less is a timer's interrupt.
_WAITED = 0.01

_THROTTLED = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
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
    cpu : int or None
    """

    waited_ns: int | None
    stolen_ticks: int | None
    throttled: int
    cpu: int | None


def state() -> State:
    """The counters now. Some 50 µs."""
    # schedstat: on a CPU, waiting for one, number of turns (Documentation/scheduler/sched-stats.rst).
    waited = _numbers("/proc/thread-self/schedstat")
    stolen = _numbers("/proc/stat")
    return State(
        waited[1] if waited else None,
        stolen[7] if len(stolen) > 7 else None,
        sum(sum(_numbers(str(path))) for path in _THROTTLED),
        _LIBC.sched_getcpu() if hasattr(_LIBC, "sched_getcpu") else None,
    )


def mark(before: State, after: State, ns: int) -> str:
    """The mark of a sample of so many nanoseconds; empty where nothing is known to have disturbed it."""
    if after.throttled > before.throttled:
        return "throttled"
    if _grown(before.stolen_ticks, after.stolen_ticks) > 0:
        return "stolen"
    if _grown(before.waited_ns, after.waited_ns) > _WAITED * ns:
        return "waited"
    return "moved" if before.cpu != after.cpu else ""


def _grown(before: int | None, after: int | None) -> int:
    return 0 if before is None or after is None else after - before


def _numbers(path: str) -> list[int]:
    """The numbers in the first line of a file of the kernel's, a word at its start being 0; empty without the file."""
    try:
        with open(path) as file:
            return [int(word) if word.isdigit() else 0 for word in file.readline().split()]
    except OSError:
        return []
