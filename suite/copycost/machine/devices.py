"""Find CPUs and CUDA devices without initialising CUDA, through the driver's `nvidia-smi` and NVML."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from copycost.machine import nvml


@dataclass(frozen=True)
class Gpu:
    """A CUDA device: its name, memory in bytes (None if unknown), driver version, compute capability and index."""

    name: str
    memory_bytes: int | None
    driver: str | None
    compute_capability: str | None
    index: int


def cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def gpus() -> tuple[list[Gpu], str | None]:
    """Return the CUDA devices visible to a process started here, and a reason if there are none.

    ``CUDA_VISIBLE_DEVICES`` has the same effect as in the CUDA runtime: empty or -1 hides all devices. A device in MIG
    mode counts as its partitions, of which a process sees one.
    """
    rows = _visible()
    if isinstance(rows, str):
        return [], rows
    return [gpu for _, gpu in rows], None


def measured_uuids() -> list[str]:
    """Return the UUID of the GPU that is measured, the first visible one, or none."""
    rows = _visible()
    return [] if isinstance(rows, str) else [uuid for uuid, _ in rows[:1]]


def choose(index: int) -> None:
    """Make only the device of this index visible to this process and its children.

    Raises
    ------
    LookupError
        If the device does not exist. The message lists the devices.
    """
    rows = _visible()
    if isinstance(rows, str):
        raise LookupError(rows)
    if not 0 <= index < len(rows):
        names = ", ".join(f"gpu:{k} ({gpu.name})" for k, (_, gpu) in enumerate(rows))
        raise LookupError(f"unknown device gpu:{index}: expected one of {names}")
    os.environ["CUDA_VISIBLE_DEVICES"] = rows[index][0]


@dataclass(frozen=True)
class Condition:
    """The state of the measured device at one moment or during a sample; None for values that are not reported.

    Attributes
    ----------
    clock_mhz : int or None
        Clock of the processors.
    temperature_c : int or None
    slowed : tuple of str
        Why the clocks are lower than they could be.
    free_bytes : int or None
        Free device memory.
    limited_ns : tuple of int
        For how long power and heat have limited the clocks, in nanoseconds since the driver was loaded; empty if not
        reported.
    """

    clock_mhz: int | None = None
    temperature_c: int | None = None
    slowed: tuple[str, ...] = ()
    free_bytes: int | None = None
    limited_ns: tuple[int, ...] = ()


#: Reasons why a GPU's clocks are lower than they could be (nvml.h, nvmlClocksThrottleReason…). Being idle, or being set
#: to lower clocks, does not count as a reason.
_SLOWED = {
    0x4: "power cap", 0x8: "hardware slowdown", 0x20: "heat, by software", 0x40: "heat, by hardware",
    0x80: "power brake",
}  # fmt: skip

#: Reasons that the counters of `Condition.limited_ns` are for.
_LIMITED = ("power cap", "heat, by software")


def condition() -> Condition:
    """Return the current state of the first visible device, without changing any setting.

    It is read from NVML, which starts no process, or else from `nvidia-smi`.
    """
    return condition_by_nvml() or _condition_by_smi()


def condition_by_nvml() -> Condition | None:
    """Return the current state of the first visible device from NVML, without a process of its own, or None."""
    uuid = _first_uuid(os.environ.get("CUDA_VISIBLE_DEVICES")) if nvml.is_available() else None
    reading = nvml.read(uuid) if uuid else None
    if reading is None:
        return None
    return Condition(
        reading.clock_mhz, reading.temperature_c, _reasons(reading.reasons), reading.free_bytes, reading.limited_ns
    )


def energy_joules() -> float | None:
    """Return the energy that the first visible device has used since the driver was loaded, or None without NVML."""
    uuid = _first_uuid(os.environ.get("CUDA_VISIBLE_DEVICES")) if nvml.is_available() else None
    return nvml.energy_joules(uuid) if uuid else None


def during(before: Condition, after: Condition) -> Condition:
    """Return the condition between two moments, with all that slowed the device at either or by its counters.

    The clock is that after the work: before it, the device may have been idle.
    """
    grown = [why for why, x, y in zip(_LIMITED, before.limited_ns, after.limited_ns, strict=False) if y > x]
    slowed = tuple(dict.fromkeys((*before.slowed, *after.slowed, *grown)))
    return replace(combined([before, after]), clock_mhz=after.clock_mhz, slowed=slowed)


def combined(conditions: Sequence[Condition]) -> Condition:
    """Return one condition for several: median clock, highest temperature, every reason, least free memory."""
    clocks = [c.clock_mhz for c in conditions if c.clock_mhz is not None]
    temperatures = [c.temperature_c for c in conditions if c.temperature_c is not None]
    free = [c.free_bytes for c in conditions if c.free_bytes is not None]
    return Condition(
        round(median(clocks)) if clocks else None,
        max(temperatures, default=None),
        tuple(dict.fromkeys(why for c in conditions for why in c.slowed)),
        min(free, default=None),
    )


def _reasons(bits: int) -> tuple[str, ...]:
    return tuple(why for bit, why in _SLOWED.items() if bits & bit)


@functools.cache
def _first_uuid(visible: str | None) -> str | None:
    """Return the UUID of the first device that is visible with this value of ``CUDA_VISIBLE_DEVICES``."""
    rows = _visible()
    return None if isinstance(rows, str) else rows[0][0]


def _condition_by_smi() -> Condition:
    fields = ("clocks.sm", "temperature.gpu", "memory.free")
    # Newer drivers use the second name.
    for reasons in ("clocks_throttle_reasons.active", "clocks_event_reasons.active"):
        rows = _query(*fields, reasons)
        if not isinstance(rows, str):
            break
    else:
        rows = _query(*fields)
    if isinstance(rows, str) or not rows:
        return Condition()
    visible = _visible()
    index = 0 if isinstance(visible, str) else visible[0][1].index
    _, _, clock, temperature, free, *active = next((row for row in rows if row[0] == str(index)), rows[0])
    try:
        bits = int(active[0], 16) if active else 0
    except ValueError:  # [N/A]
        bits = 0
    mib = _number(free)
    return Condition(_number(clock), _number(temperature), _reasons(bits), None if mib is None else mib * 2**20)


def compute_mode() -> str | None:
    """Return which processes may use the first visible device, in the driver's words, or None if it is not reported.

    Where one process has a device for itself (``Exclusive_Process``), the cases of a group cannot be measured together.
    """
    rows = _query("compute_mode")
    visible = _visible()
    if isinstance(rows, str) or isinstance(visible, str):
        return None
    return next((mode for index, _, mode in rows if index == str(visible[0][1].index)), None)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _query(*fields: str) -> list[tuple[str, ...]] | str:
    """Return index, UUID and the given fields of every device from `nvidia-smi`, or why it reports nothing."""
    output = _smi(f"--query-gpu=index,uuid,{','.join(fields)}", "--format=csv,noheader,nounits")
    if output is None:
        return "nvidia-smi not found"
    status, text = output
    if status:
        return text
    rows = [tuple(part.strip() for part in line.split(",")) for line in text.splitlines()]
    return [row for row in rows if len(row) == len(fields) + 2]  # other lines do not describe a device


def _smi(*arguments: str) -> tuple[int, str] | None:
    """Return exit status and output of `nvidia-smi`, or a status and why there is no output; None if not installed."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return None
    try:
        process = subprocess.run(
            [smi, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, f"nvidia-smi did not answer ({type(error).__name__})"
    if process.returncode:
        text = " ".join((process.stdout + process.stderr).split())[:200]
        return process.returncode, f"nvidia-smi failed: '{text}'"
    return 0, process.stdout


def _visible() -> list[tuple[str, Gpu]] | str:
    """Return UUID and device for each device in ``CUDA_VISIBLE_DEVICES``, in its order, or why there are none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides every CUDA device"
    rows = _query("name", "memory.total", "driver_version", "compute_cap")
    if isinstance(rows, str):
        return f"no CUDA device: {rows}"
    if not rows:
        return "no CUDA device: nvidia-smi lists none"
    parts = _parts()
    devices: list[tuple[str, str, Gpu]] = []  # index, UUID
    has_parts = False
    for index, uuid, name, memory, driver, capability in rows:
        mib = _number(memory)
        gpu = Gpu(name, mib * 2**20 if mib is not None else None, driver, capability, int(index))
        if uuid not in parts:
            devices.append((index, uuid, gpu))
        for part, part_uuid in parts.get(uuid, ()):
            # No query returns the memory of a MIG partition.
            devices.append(("", part_uuid, replace(gpu, name=f"{name} {part}", memory_bytes=None)))
            has_parts = True
    if visible is None:
        # With MIG, a process sees one partition and no other device.
        pairs = [(uuid, gpu) for _, uuid, gpu in devices]
        return pairs[:1] if has_parts else pairs
    # Like the CUDA runtime, end the list at the first entry that does not match a device.
    pairs = []
    for word in map(str.strip, visible.split(",")):
        matches = [(uuid, gpu) for index, uuid, gpu in devices if word and (word == index or uuid.startswith(word))]
        if not matches:
            break
        pairs.append(matches[0])
    return pairs or f"CUDA_VISIBLE_DEVICES={visible!r} matches no device of this machine"


def _parts() -> dict[str, list[tuple[str, str]]]:
    """Return UUID → name and UUID of each partition, for the MIG devices that `nvidia-smi -L` lists."""
    output = _smi("-L")
    parts: dict[str, list[tuple[str, str]]] = {}
    device_uuid = ""
    for line in output[1].splitlines() if output and not output[0] else ():
        if match := re.match(r"GPU \d+: .*\(UUID: (GPU-[\w-]+)\)", line):
            device_uuid = match[1]
        elif match := re.match(r"\s+(MIG \S+)\s+Device\s+\d+: \(UUID: (MIG-[\w/-]+)\)", line):
            parts.setdefault(device_uuid, []).append((match[1], match[2]))
    return parts


def cuda() -> str | None:
    """Return the newest CUDA version that the driver supports, from the header of `nvidia-smi`, or None if absent."""
    output = _smi()
    if output is None or output[0]:
        return None
    match = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+(?:\.\d+)*)", output[1])
    return match[1] if match else None
