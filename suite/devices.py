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
    rows = _query("name", "memory.total", "driver_version", "compute_cap")
    if isinstance(rows, str):
        return [], f"no CUDA device: {rows}"
    if not rows:
        return [], "no CUDA device: nvidia-smi lists none"
    found = []
    for name, memory, driver, capability in _visible(rows):
        mib = int(memory) if memory.isdigit() else None
        found.append(Gpu(name, mib * 2**20 if mib is not None else None, driver, capability))
    return found, None if found else f"CUDA_VISIBLE_DEVICES={visible!r} names no device that is here"


#: Reasons for which a GPU's clocks are lower than they could be: power cap, slowdown by the hardware, for its heat by
#: software or hardware, power brake (nvml.h, nvmlClocksThrottleReason…). That it is idle, or set so, is none.
_SLOWED = 0x4 | 0x8 | 0x20 | 0x40 | 0x80


def slowed() -> bool:
    """Whether the clocks of the device that is measured are lowered now; False where the driver does not tell."""
    rows = _query("clocks_throttle_reasons.active")
    if isinstance(rows, str):
        rows = _query("clocks_event_reasons.active")  # as newer drivers have it
    if isinstance(rows, str):
        return False
    first = next(iter(_visible(rows)), ("",))
    try:
        return bool(int(first[0], 16) & _SLOWED)
    except ValueError:  # [N/A]
        return False


def _query(*fields: str) -> list[tuple[str, ...]] | str:
    """What `nvidia-smi` says of every device: index, UUID and the fields; or why it says nothing."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return "no NVIDIA driver is installed (nvidia-smi not found)"
    try:
        done = subprocess.run(
            [smi, f"--query-gpu=index,uuid,{','.join(fields)}", "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi gave no answer ({type(error).__name__})"
    if done.returncode:
        return f"nvidia-smi says '{' '.join((done.stdout + done.stderr).split())[:200]}'"
    rows = [tuple(part.strip() for part in line.split(",")) for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == len(fields) + 2]  # another line is none of a device


def _visible(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The fields of the devices that ``CUDA_VISIBLE_DEVICES`` leaves, in its order."""
    by_index = {index: fields for index, _, *fields in rows}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [tuple(fields) for fields in by_index.values()]
    # The list ends at the first entry that names no device, as it does for the CUDA runtime.
    chosen = []
    for word in visible.split(","):
        word = word.strip()
        index = next((index for index, uuid, *_ in rows if word and uuid.startswith(word)), word)
        if index not in by_index:
            break
        chosen.append(tuple(by_index[index]))
    return chosen


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
