"""Folders for files that processes share."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def shared_folder(nbytes: int) -> Path | str:
    """Create a folder for shared files in memory, or else on disk; or return why neither has enough space."""
    disk = tempfile.gettempdir()
    for parent, margin in (("/dev/shm", 2.0), (disk, 1.1)):
        usable = os.path.isdir(parent) and os.access(parent, os.W_OK)
        if usable and shutil.disk_usage(parent).free > margin * nbytes:
            return new_folder(parent)
    free = shutil.disk_usage(disk).free
    return f"needs {nbytes / 2**30:.3g} GiB for its inputs, and {free / 2**30:.3g} GiB is free in {disk}"


def new_folder(parent: str) -> Path:
    """Create a folder for this process's files, and remove the folders of killed processes."""
    for folder in Path(parent).glob("copycost-session-*"):
        if not Path("/proc", folder.name.split("-")[2]).exists():
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"copycost-session-{os.getpid()}-", dir=parent))
