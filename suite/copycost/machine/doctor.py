"""Check this machine for settings that make timings noisy or figures unavailable."""

from __future__ import annotations

import importlib.util
import os
import time
from dataclasses import dataclass

from copycost.machine import devices, environment
from copycost.machine.memory import free_memory
from copycost_meter.libraries import onednn

#: Busy or stolen time, as a fraction of all CPUs' time, above which timings suffer.
_MUCH = 0.05


@dataclass(frozen=True)
class Finding:
    """The result of one check: its subject, whether it is good (None if unknown), its value and advice."""

    subject: str
    good: bool | None
    value: str
    advice: str = ""


def examine(seconds: float = 1.0) -> list[Finding]:
    """Run all checks, observing the load of the machine for `seconds`."""
    return [
        *_processors(seconds),
        _governor(),
        _turbo(),
        _clock(),
        _memory(),
        _swap(),
        _huge_pages(),
        *_gpu(),
        *_tensorflow(),
        _variables(),
        _memray(),
    ]


def _processors(seconds: float) -> list[Finding]:
    cpus = devices.cpus()
    busy, stolen = cpu_use(seconds)
    load = os.getloadavg()[0]
    return [
        Finding(
            "CPUs to use", cpus > 1, str(cpus),
            "the measuring process, the system and the call share one core: close all other programs",
        ),
        Finding(
            "load", load < 0.2 * cpus, f"{load:.2f} over the last minute",
            "other processes are running: wait for them, or stop them",
        ),
        Finding(
            "busy now", busy < _MUCH, f"{100 * busy:.0f} % of all CPUs",
            "other processes are running: wait for them, or stop them",
        ),
        Finding(
            "stolen by the host", stolen < _MUCH, f"{100 * stolen:.1f} %",
            "other guests use the host of this virtual machine: measure at another time or on another machine",
        ),
        _quota(cpus),
    ]  # fmt: skip


def cpu_use(seconds: float) -> tuple[float, float]:
    """Return the fractions of all CPUs' time that were busy and stolen while this process slept."""
    before = _stat()
    time.sleep(seconds)
    ticks = [b - a for a, b in zip(before, _stat(), strict=True)]
    total = sum(ticks) or 1
    idle = ticks[3] + ticks[4]
    return (total - idle - ticks[7]) / total, ticks[7] / total


def _stat() -> list[int]:
    line = environment.read_line("/proc/stat") or "cpu 0 0 0 1 0 0 0 0"
    return [int(n) for n in line.split()[1:9]]


def _quota(cpus: int) -> Finding:
    line = environment.read_line("/sys/fs/cgroup/cpu.max") or "max"
    quota, *period = line.split()
    if quota == "max":
        return Finding("CPU quota", True, "none")
    share = int(quota) / int(period[0])
    return Finding(
        "CPU quota", share >= cpus, f"{share:.3g} of {cpus} CPUs",
        "the container is paused when it has used up its quota: raise the quota, or lower --threads",
    )  # fmt: skip


def _governor() -> Finding:
    governor = environment.read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return Finding(
        "frequency governor", None if governor is None else governor == "performance",
        governor or "not reported (a virtual machine?)", "cpupower frequency-set -g performance",
    )  # fmt: skip


def _turbo() -> Finding:
    boost = environment.read_line("/sys/devices/system/cpu/cpufreq/boost")
    no_turbo = environment.read_line("/sys/devices/system/cpu/intel_pstate/no_turbo")
    if boost is None and no_turbo is None:
        return Finding("turbo", None, "not reported")
    on = boost == "1" or no_turbo == "0"
    return Finding(
        "turbo",
        not on,
        "on" if on else "off",
        "the clock slows down as the chip warms up: turn turbo off to compare runs",
    )


def _clock() -> Finding:
    source = environment.read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    return Finding(
        "clock", None if source is None else source in ("tsc", "kvm-clock", "arch_sys_counter"),
        source or "not reported", "reading this clock takes a system call of a microsecond: short calls look longer",
    )  # fmt: skip


def _memory() -> Finding:
    free = free_memory()
    return Finding(
        "free memory", free > 4 * 2**30, f"{free / 2**30:.1f} GiB",
        "large batches are skipped, and fewer processes run in parallel: free memory",
    )  # fmt: skip


def _swap() -> Finding:
    with open("/proc/meminfo") as file:
        kib = {line.split(":")[0]: int(line.split()[1]) for line in file}
    usage = (kib.get("SwapTotal", 0) - kib.get("SwapFree", 0)) * 1024
    return Finding(
        "swap in use", usage < 2**26, f"{usage / 2**20:.0f} MiB", "memory is scarce: pages may be read from disk"
    )


def _huge_pages() -> Finding:
    setting = environment.huge_pages()
    return Finding(
        "transparent huge pages", None if setting is None else setting != "always", setting or "not reported",
        "whether an array gets them depends on its address: 'madvise' gives steadier timings than 'always'",
    )  # fmt: skip


def _gpu() -> list[Finding]:
    gpus, no_gpu = devices.gpus()
    if no_gpu:
        return [Finding("GPU", None, no_gpu)]
    growth = os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH")
    return [
        *(Finding("GPU", True, f"{gpu.name}, driver {gpu.driver or 'not reported'}") for gpu in gpus),
        Finding(
            "GPU memory growth", growth != "false", growth or "on, set by copycost",
            "TensorFlow reserves the memory of the whole device: unset TF_FORCE_GPU_ALLOW_GROWTH",
        ),
    ]  # fmt: skip


def _tensorflow() -> list[Finding]:
    if importlib.util.find_spec("tensorflow") is None:
        return [Finding("TensorFlow", None, "not installed", "pip install -e '.[tensorflow]' in a clone of copycost")]
    on = onednn.enabled()
    if on is None:
        return [Finding("TensorFlow's oneDNN", None, f"{onednn.VARIABLE} is not set, and this is not an x86 CPU")]
    by_default = not os.environ.get(onednn.VARIABLE)
    return [
        Finding(
            "TensorFlow's oneDNN", on, "on" if on else "off by default on this CPU" if by_default else "off",
            "its allocator then keeps no memory, and every large tensor is a request to the C library",
        )
    ]  # fmt: skip


def _variables() -> Finding:
    names = [k for k in ("LD_PRELOAD", "PYTHONMALLOC", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES") if os.environ.get(k)]
    return Finding(
        "allocator settings",
        not names,
        ", ".join(names) or "none",
        "these change the cost of allocations: unset them",
    )


def _memray() -> Finding:
    installed = importlib.util.find_spec("memray") is not None
    return Finding(
        "memray", installed, "installed" if installed else "not installed", "host allocations are not counted"
    )
