"""What hardware is here, found without initialising CUDA: the driver's own files, or its `nvidia-smi`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Gpu:
    """A CUDA device: its name, memory in bytes (None where not known), driver, compute capability and number."""

    name: str
    memory_bytes: int | None
    driver: str | None
    compute_capability: str | None
    index: int


def cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def gpus() -> tuple[list[Gpu], str | None]:
    """The CUDA devices that a process started here would see, and why there are none.

    ``CUDA_VISIBLE_DEVICES`` is obeyed as the CUDA runtime does: empty or -1 hides all. A device in parts (MIG) is its
    parts, of which a process sees one.
    """
    rows = _visible()
    if isinstance(rows, str):
        return [], rows
    return [gpu for _, gpu in rows], None


def choose(which: int) -> None:
    """Let this process, and all that it starts, see only that one of the devices.

    Raises
    ------
    LookupError
        Where there is no such; the message says which there are.
    """
    rows = _visible()
    if isinstance(rows, str):
        raise LookupError(rows)
    if not 0 <= which < len(rows):
        there = ", ".join(f"gpu:{k} ({gpu.name})" for k, (_, gpu) in enumerate(rows))
        raise LookupError(f"there is no gpu:{which}; there is {there}")
    os.environ["CUDA_VISIBLE_DEVICES"] = rows[which][0]


@dataclass(frozen=True)
class Condition:
    """How the device that is measured is at one moment; None for what the driver does not tell.

    Attributes
    ----------
    clock_mhz : int or None
        Of its processors.
    temperature_c : int or None
    slowed : tuple of str
        Why its clocks are lower than they could be.
    free_bytes : int or None
        Of its memory.
    """

    clock_mhz: int | None = None
    temperature_c: int | None = None
    slowed: tuple[str, ...] = ()
    free_bytes: int | None = None


#: Reasons for which a GPU's clocks are lower than they could be (nvml.h, nvmlClocksThrottleReason…). That it is idle,
#: or set so, is none.
_SLOWED = {
    0x4: "power cap", 0x8: "hardware slowdown", 0x20: "heat, by software", 0x40: "heat, by hardware",
    0x80: "power brake",
}  # fmt: skip


def condition() -> Condition:
    """How the first of the visible devices is now. Read, and never set."""
    fields = ("clocks.sm", "temperature.gpu", "memory.free")
    # The last is what newer drivers call it.
    for reasons in ("clocks_throttle_reasons.active", "clocks_event_reasons.active"):
        rows = _query(*fields, reasons)
        if not isinstance(rows, str):
            break
    else:
        rows = _query(*fields)
    if isinstance(rows, str) or not rows:
        return Condition()
    chosen = _visible()
    index = 0 if isinstance(chosen, str) else chosen[0][1].index
    _, _, clock, temperature, free, *active = next((row for row in rows if row[0] == str(index)), rows[0])
    try:
        bits = int(active[0], 16) if active else 0
    except ValueError:  # [N/A]
        bits = 0
    mib = _number(free)
    return Condition(
        _number(clock),
        _number(temperature),
        tuple(why for bit, why in _SLOWED.items() if bits & bit),
        None if mib is None else mib * 2**20,
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _query(*fields: str) -> list[tuple[str, ...]] | str:
    """What `nvidia-smi` says of every device: index, UUID and the fields; or why it says nothing."""
    said = _smi(f"--query-gpu=index,uuid,{','.join(fields)}", "--format=csv,noheader,nounits")
    if said is None:
        return "nvidia-smi not found"
    status, text = said
    if status:
        return text
    rows = [tuple(part.strip() for part in line.split(",")) for line in text.splitlines()]
    return [row for row in rows if len(row) == len(fields) + 2]  # another line is none of a device


def _smi(*arguments: str) -> tuple[int, str] | None:
    """What `nvidia-smi` ends with and says, or why it gives no answer; None where it is not there."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return None
    try:
        done = subprocess.run([smi, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, f"nvidia-smi gave no answer ({type(error).__name__})"
    if done.returncode:
        return done.returncode, f"nvidia-smi says '{' '.join((done.stdout + done.stderr).split())[:200]}'"
    return 0, done.stdout


def _visible() -> list[tuple[str, Gpu]] | str:
    """The devices that ``CUDA_VISIBLE_DEVICES`` leaves, in its order, by their UUIDs; or why there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides every CUDA device"
    rows = _query("name", "memory.total", "driver_version", "compute_cap")
    if isinstance(rows, str):
        return f"no CUDA device: {rows}"
    if not rows:
        return "no CUDA device: nvidia-smi lists none"
    parts = _parts()
    there: list[tuple[str, str, Gpu]] = []  # index, UUID
    in_parts = False
    for index, uuid, name, memory, driver, capability in rows:
        mib = _number(memory)
        gpu = Gpu(name, mib * 2**20 if mib is not None else None, driver, capability, int(index))
        if uuid not in parts:
            there.append((index, uuid, gpu))
        for part, its_uuid in parts.get(uuid, ()):
            # How much memory a part has is in no query.
            there.append(("", its_uuid, replace(gpu, name=f"{name} {part}", memory_bytes=None)))
            in_parts = True
    if visible is None:
        # Of parts a process sees one, and no device beside it.
        chosen = [(uuid, gpu) for _, uuid, gpu in there]
        return chosen[:1] if in_parts else chosen
    # The list ends at the first entry that names no device, as it does for the CUDA runtime.
    chosen = []
    for word in map(str.strip, visible.split(",")):
        found = next(((u, gpu) for index, u, gpu in there if word and (word == index or u.startswith(word))), None)
        if found is None:
            break
        chosen.append(found)
    return chosen or f"CUDA_VISIBLE_DEVICES={visible!r} names no device that is here"


def _parts() -> dict[str, list[tuple[str, str]]]:
    """UUID → name and UUID of each part, for a device that is in parts (MIG), as `nvidia-smi -L` lists them."""
    said = _smi("-L")
    parts: dict[str, list[tuple[str, str]]] = {}
    whole = ""
    for line in said[1].splitlines() if said and not said[0] else ():
        if found := re.match(r"GPU \d+: .*\(UUID: (GPU-[\w-]+)\)", line):
            whole = found[1]
        elif found := re.match(r"\s+(MIG \S+)\s+Device\s+\d+: \(UUID: (MIG-[\w/-]+)\)", line):
            parts.setdefault(whole, []).append((found[1], found[2]))
    return parts


def cuda() -> str | None:
    """The newest version of CUDA that the driver knows, as `nvidia-smi` heads its table with; None if it does not."""
    said = _smi()
    found = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+(?:\.\d+)*)", said[1]) if said and not said[0] else None
    return found[1] if found else None
