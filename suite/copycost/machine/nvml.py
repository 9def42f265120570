"""Read the state of a CUDA device through NVML, the driver's management library. It does not initialise CUDA.

The Python package nvidia-ml-py, which the extras for CuPy install, wraps the library. A reading starts no process, as
`nvidia-smi` does, so that every sample can have its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reading:
    """The state of a device at one moment; None for what it does not report.

    Attributes
    ----------
    clock_mhz : int or None
        Clock of the processors.
    temperature_c : int or None
    free_bytes : int or None
        Free memory: of the part, if the device is a part of another one (MIG).
    reasons : int
        Bits of the reasons why the clocks are lower than they could be (nvml.h, nvmlClocksEventReason…).
    limited_ns : tuple of int
        Nanoseconds since the driver was loaded for which power, and then heat, have limited the clocks; 0 for a counter
        that the device does not have.
    """

    clock_mhz: int | None
    temperature_c: int | None
    free_bytes: int | None
    reasons: int
    limited_ns: tuple[int, ...]


def is_available() -> bool:
    """Return whether NVML can be asked in this process."""
    return _library() is not None


def read(uuid: str) -> Reading | None:
    """Return the state of the device of this UUID, or None without NVML, or if NVML does not know the device."""
    library, handles = _library(), _handles(uuid)
    if library is None or handles is None:
        return None
    part, whole = handles

    def ask(function: Callable[..., Any], *arguments: Any, handle: Any = whole) -> Any:
        try:
            return function(handle, *arguments)
        except library.NVMLError:  # not supported by this device
            return None

    # Every driver has this name of the function; the newer one is missing in old drivers.
    reasons = ask(library.nvmlDeviceGetCurrentClocksThrottleReasons)
    memory = ask(library.nvmlDeviceGetMemoryInfo, handle=part)
    # The counters of the other reasons have different numbers in different versions of nvml.h.
    counters = ask(
        library.nvmlDeviceGetFieldValues,
        [library.NVML_FI_DEV_PERF_POLICY_POWER, library.NVML_FI_DEV_PERF_POLICY_THERMAL],
    )
    return Reading(
        ask(library.nvmlDeviceGetClockInfo, library.NVML_CLOCK_SM),
        ask(library.nvmlDeviceGetTemperature, library.NVML_TEMPERATURE_GPU),
        None if memory is None else int(memory.free),
        int(reasons or 0),
        tuple(int(c.value.ullVal) if c.nvmlReturn == library.NVML_SUCCESS else 0 for c in counters or ()),
    )


def energy_joules(uuid: str) -> float | None:
    """Return the energy that the device has used since the driver was loaded, or None if it does not report it.

    Devices since Volta count it, in millijoules. A part of a device (MIG) has no counter of its own.
    """
    library, handles = _library(), _handles(uuid)
    if library is None or handles is None or handles[0] is not handles[1]:
        return None
    try:
        return float(library.nvmlDeviceGetTotalEnergyConsumption(handles[1])) * 1e-3
    except library.NVMLError:
        return None


@functools.cache
def _library() -> Any:
    """Return the initialised wrapper of NVML, or None if it or the library is not installed."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
    return pynvml


@functools.cache
def _handles(uuid: str) -> tuple[Any, Any] | None:
    """Return NVML's handles of the device of this UUID and of the whole device that it may be a part of (MIG).

    Clocks and temperature are those of the whole. The result is None if NVML does not know the device.
    """
    library = _library()
    if library is None:
        return None
    try:
        handle = library.nvmlDeviceGetHandleByUUID(uuid)
    except library.NVMLError:
        return None
    try:
        return handle, library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    except library.NVMLError:
        return handle, handle
