"""Measure what a call does on a CUDA device: its time there, and what it copies between host and device."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from copycost_meter.arrays import found_arrays, library, library_of, place_of
from copycost_meter.counting import finish
from copycost_meter.device_work import transferred
from copycost_meter.errors import describe
from copycost_meter.library import Device, Library

#: Number of calls that the device's clock times together.
_CALLS = 3

#: Libraries with arrays on a device.
_LIBRARIES = ("cupy", "torch", "jax", "tensorflow")


def device_seconds(call: Callable[[], Any], arrays: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return the device's time for a call, in seconds, and the clock; or None, and why it is unknown.

    Parameters
    ----------
    call : callable
        It has been made before.
    arrays : mapping of str to array
        What it works on. Their library chooses the clock. Without arrays on a device, it is the library that is loaded
        and has a device.
    """
    found, device, reason = _of_device(arrays)
    if found is None or device is None:
        return None, reason
    try:
        seconds = device.seconds(lambda: finish(found, call()) if found.wait else call(), tuple, _CALLS)
    except Exception as error:  # a device that another process uses alone, or a profiler that the driver forbids
        return None, f"the clock of the device: {describe(error)}"
    return (seconds, device.clock) if seconds else (None, "the clock of the device saw no work")


def transferred_bytes(call: Callable[[], Any], arrays: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """Return the bytes that a call copies between host and device, or None and why they are unknown.

    Parameters
    ----------
    call, arrays
        See `device_seconds`.
    """
    found, device, reason = _of_device(arrays)
    if found is None or device is None:
        return None, reason
    chosen = found
    return transferred(device.kernels, lambda: finish(chosen, call()))


def _of_device(arrays: Mapping[str, Any]) -> tuple[Library | None, Device | None, str]:
    """Return the library whose work on a device is measured and the device, or None and the reason."""
    names = {library_of(array) for array in found_arrays(dict(arrays)).values() if place_of(array) == "gpu"}
    if len(names) > 1:
        return None, None, f"arrays of {' and '.join(sorted(names))} on a device: expected those of one library"
    for name in names or filter(_has_device, _LIBRARIES):
        found = library(name)
        return found, found.device, "its library has no device" if found.device is None else ""
    return None, None, "no array is on a CUDA device"


def _has_device(name: str) -> bool:
    """Return whether a library is loaded and has a device, without loading it."""
    module = sys.modules.get(name)
    if module is None:
        return False
    try:
        if name == "cupy":
            return bool(module.cuda.runtime.getDeviceCount())
        if name == "torch":
            return bool(module.cuda.is_available())
        if name == "jax":
            return bool(module.default_backend() == "gpu")
        return bool(module.config.list_physical_devices("GPU"))
    except Exception:  # no driver
        return False
