"""Capture the environment of a run: machine, library versions, allocator and thread settings, GPU, driver."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from copycost._version import __version__
from copycost.machine import devices
from copycost_meter.cpu import cpu_flags

#: Version of the measuring method. It changes when the figures of two versions must not be compared. The method on a
#: GPU may change without it until a figure has been measured on one.
METHOD_VERSION = 5

_LIBRARIES = (
    "numpy", "tensorflow", "keras", "cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "jaxlib", "numba", "numexpr",
    "memray", "pandas", "pillow",
)  # fmt: skip

#: Variables that change what is measured. Terraform's variables also begin with TF_ and may hold secrets.
_VARIABLES = re.compile(
    r"^(TF_(?!VAR_|CLI_|TOKEN_|LOG|DATA_DIR|WORKSPACE|INPUT|REGISTRY_|PLUGIN_|IN_AUTOMATION|REATTACH_)"
    r"|XLA_|CUDA_|CUPY_|KERAS_BACKEND|OMP_|OPENBLAS_|MKL_|MALLOC_|LD_PRELOAD|GLIBC_TUNABLES|PYTHONMALLOC|NUMPY_"
    r"|JAX_|NUMBA_|NUMEXPR_|TORCH(?!INDUCTOR_CACHE_DIR))"
)

#: Keys that must be equal in all parts of one run.
_SAME = ("engine", "python", "libraries", "variables", "cpu", "cpus", "threads", "image_sha256", "gpus")


def capture(threads: int, image_name: str, image_sha256: str) -> dict[str, Any]:
    """Return everything that may explain a figure, with None for values that this machine does not report."""
    gpus, no_gpu = devices.gpus()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "copycost": __version__,
        "engine": METHOD_VERSION,
        "python": platform.python_version(),
        "libraries": versions(),
        "variables": {k: v for k, v in sorted(os.environ.items()) if _VARIABLES.match(k)},
        "os": _os_name(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "architecture": platform.machine(),
        "cpu": processor(),
        "cpus": devices.cpus(),
        "cpu_flags": cpu_flags(),
        "caches": _caches(),
        "memory_bytes": _kib("MemTotal"),
        "governor": read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "huge_pages": huge_pages(),
        "load": round(os.getloadavg()[0], 2),
        # The index of one of several identical GPUs does not affect any figure.
        "gpus": [{name: value for name, value in vars(gpu).items() if name != "index"} for gpu in gpus],
        "no_gpu": no_gpu,
        "threads": threads,
        "image": image_name,
        "image_sha256": image_sha256,
    }


def processor() -> str | None:
    """Return the model of the CPU, or None if it is unknown."""
    return _from_file("/proc/cpuinfo", r"^model name\s*:\s*(.+)$")


def versions() -> dict[str, str]:
    """Return the versions of the installed libraries without importing them."""
    by_name = {}
    for name in _LIBRARIES:
        try:
            by_name[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return by_name


def difference(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """Return a description of the first difference between two environments that must agree, or None."""
    for name in _SAME:
        if before.get(name) != after.get(name):
            return f"{name} was {before.get(name)!r} and is {after.get(name)!r}"
    return None


def read_line(path: str) -> str | None:
    """Return the first line of a kernel file, or None if it cannot be read."""
    try:
        return Path(path).read_text().splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def _from_file(path: str, pattern: str) -> str | None:
    try:
        match = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        return None
    return match[1].strip() if match else None


def _kib(name: str) -> int | None:
    kib = _from_file("/proc/meminfo", rf"^{name}:\s*(\d+) kB")
    return int(kib) * 1024 if kib else None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _caches() -> dict[str, str]:
    """Return a mapping from level and kind of each cache of the first CPU to its size."""
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (read_line(str(index / name)) for name in ("level", "type", "size"))
        if level and kind and size:
            caches[f"L{level} {kind}"] = size
    return caches


def huge_pages() -> str | None:
    """Return the setting of transparent huge pages: always, madvise or never."""
    line = read_line("/sys/kernel/mm/transparent_hugepage/enabled")  # always [madvise] never
    match = re.search(r"\[(\w+)\]", line or "")
    return match[1] if match else line
