"""Run asv on a host of a fleet: with a record of machines of its own, and until the worker that started it ends.

``python -m copycost.fleet.asv_main MACHINES WORKER CPUS …`` runs ``asv …`` on some CPUs.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

from copycost.machine.parent import adopt_orphans, ancestors, die_with_parent


def main() -> None:
    """Run asv's command."""
    machines, worker, cpus, *arguments = sys.argv[1:]
    adopt_orphans()
    signal.signal(signal.SIGTERM, _end)
    die_with_parent(signal.SIGTERM)
    if os.getppid() != int(worker):  # it has ended before this line
        _end(signal.SIGTERM, None)
    os.sched_setaffinity(0, set(map(int, cpus.split(","))))
    from asv.machine import MachineCollection
    from asv.main import main as asv

    # asv keeps the records in the home folder, which hosts may share, and writes the file whenever it runs.
    MachineCollection.get_machine_file_path = staticmethod(lambda: machines)
    sys.argv = ["asv", *arguments]
    try:
        asv()
    finally:
        _kill_children()  # what a benchmark has left in the background


def _end(number: int, frame: FrameType | None) -> None:
    _kill_children()
    os._exit(128 + number)


def _kill_children() -> None:
    """Kill every process that this one has started, directly or not: the host may time something else next."""
    own = os.getpid()
    for _ in range(3):  # a process may have been started meanwhile
        every = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        for pid in [pid for pid in every if pid != own and own in ancestors(pid)]:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
