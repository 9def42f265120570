"""Define the NumPy runtime."""

from __future__ import annotations

import copy

import numpy as np
from numpy.lib.array_utils import byte_bounds

from copycost.model.runtime import Runtime
from copycost.model.vocabulary import DeviceKind


def _array(pixels: np.ndarray, mutable: bool) -> np.ndarray:
    return np.array(pixels, order="C")


def _restore(array: np.ndarray, pristine: np.ndarray) -> np.ndarray:
    np.copyto(array, pristine)
    return array


def _copied(array: np.ndarray) -> np.ndarray:
    if array.dtype.hasobject:
        return copy.deepcopy(array)
    low, high = byte_bounds(array)
    # A part of an array, or a reversed one, has gaps that a copy by NumPy closes.
    buffer = np.empty(high - low, np.uint8)
    begin = array.__array_interface__["data"][0] - low
    alike = np.ndarray(array.shape, array.dtype, buffer, begin, array.strides).view(type(array))
    alike.__array_finalize__(array)
    np.copyto(np.ndarray.view(alike, np.ndarray), np.ndarray.view(array, np.ndarray))
    alike.flags.writeable = array.flags.writeable
    return alike


def _to_numpy(result: object) -> np.ndarray:
    if not isinstance(result, np.ndarray):
        raise TypeError(f"returned {type(result).__name__}, not a NumPy array")
    # View the memory directly: a subclass may override how its values are accessed.
    return result if type(result) is np.ndarray else np.ndarray.view(result, np.ndarray)


RUNTIME = Runtime(
    name="numpy",
    packages=("numpy",),
    install="pip install numpy",
    devices=(DeviceKind.CPU,),
    start=lambda device, threads: None,
    array=_array,
    restore=_restore,
    copied=_copied,
    to_numpy=_to_numpy,
    extent=byte_bounds,
    contiguous=lambda array: bool(array.flags.c_contiguous),
    fence=lambda: None,
)
