"""What hardware is here, found without initialising CUDA: the driver's own files, or its `nvidia-smi`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A CUDA device: its name, memory in bytes (None where not known), driver and compute capability."""

    name: str
    memory_bytes: int | None
    driver: str | None
    compute_capability: str | None


def cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def gpus() -> tuple[list[Gpu], str | None]:
    """The CUDA devices that a process started here would see, and why there are none.

    ``CUDA_VISIBLE_DEVICES`` is obeyed as the CUDA runtime does: empty or -1 hides all.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return [], f"CUDA_VISIBLE_DEVICES={visible!r} hides every CUDA device"
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return [], "no CUDA device: no NVIDIA driver is installed (nvidia-smi not found)"
    query = "--query-gpu=index,uuid,name,memory.total,driver_version,compute_cap"
    try:
        done = subprocess.run(
            [smi, query, "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"no CUDA device: nvidia-smi gave no answer ({type(error).__name__})"
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())[:200]
        return [], f"no CUDA device: nvidia-smi says '{said}'"
    found: dict[str, Gpu] = {}
    uuids: dict[str, str] = {}
    for line in done.stdout.splitlines():
        index, uuid, name, memory, driver, capability = (part.strip() for part in line.split(","))
        mib = int(memory) if memory.isdigit() else None
        found[index] = Gpu(name, mib * 2**20 if mib is not None else None, driver, capability)
        uuids[uuid] = index
    if not found:
        return [], "no CUDA device: nvidia-smi lists none"
    if visible is None:
        return list(found.values()), None
    # The list ends at the first entry that names no device, as it does for the CUDA runtime.
    chosen = []
    for word in visible.split(","):
        word = word.strip()
        index = next((i for uuid, i in uuids.items() if word and uuid.startswith(word)), word)
        if index not in found:
            break
        chosen.append(found[index])
    return chosen, None if chosen else f"CUDA_VISIBLE_DEVICES={visible!r} names no device that is here"


def cuda() -> str | None:
    """The newest version of CUDA that the driver knows, as `nvidia-smi` heads its table with; None if it does not."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return None
    try:
        done = subprocess.run([smi], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+(?:\.\d+)*)", done.stdout)
    return found[1] if found else None
