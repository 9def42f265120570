"""Parents of processes: end a process with its parent, and tell which process started another."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the thread that has started it ends. Only Linux does."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Become the parent of those descendants of this process whose parent ends. Only Linux does."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def parent_of(pid: int) -> int | None:
    """Return the process id of a process's parent, or None if there is no such process."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def ancestors(process: int | None = None) -> Iterator[int]:
    """Yield the process id of a process, by default this one, of its parent, and so on."""
    pid = os.getpid() if process is None else process
    while pid:
        yield pid
        pid = parent_of(pid) or 0


def identity(pid: int) -> str:
    """Return what no other process with the same id has on this host: when it was started, and its namespace.

    It is empty if there is no such process.
    """
    fields = _stat(pid)
    if not fields:
        return ""
    try:
        namespace = os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:  # of another user
        namespace = os.stat("/proc/self/ns/pid").st_ino
    return f"{fields[19]}/{namespace}"


def _stat(pid: int) -> list[str]:
    """Return the fields of a process from its state on (proc_pid_stat(5)), or none if there is no such process."""
    try:
        # The name of the program, in parentheses, may contain anything, but nothing after it does.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
