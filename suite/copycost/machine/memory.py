"""Determine the free memory of this machine."""

from __future__ import annotations

from pathlib import Path


def free_memory() -> int:
    """Return the bytes available without swapping: the kernel's estimate, or the rest of the cgroup's limit if less."""
    with open("/proc/meminfo") as file:
        free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    try:
        group = Path("/sys/fs/cgroup")
        limit, usage = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, limit - usage + int(counts.get("inactive_file", 0)))  # cached files can be evicted
    except (OSError, ValueError):  # no cgroup, or one without a limit: "max"
        pass
    return max(0, free)
