"""NumPy's arrays. NumPy gets their memory from the C library."""

from __future__ import annotations

import copy

import numpy as np

from copycost_meter.library import TEST_BYTES, Library

try:
    from numpy.lib.array_utils import byte_bounds
except ImportError:  # before NumPy 2
    from numpy import byte_bounds  # type: ignore[attr-defined,no-redef]


def copied(array: np.ndarray) -> np.ndarray:
    """Return a copy with the gaps of the original, which a copy by NumPy closes."""
    if array.dtype.hasobject:
        return copy.deepcopy(array)
    low, high = byte_bounds(array)
    buffer = np.empty(high - low, np.uint8)
    begin = array.__array_interface__["data"][0] - low
    alike = np.ndarray(array.shape, array.dtype, buffer, begin, array.strides).view(type(array))
    alike.__array_finalize__(array)
    np.copyto(np.ndarray.view(alike, np.ndarray), np.ndarray.view(array, np.ndarray))
    alike.flags.writeable = array.flags.writeable
    return alike


def to_numpy(result: object) -> np.ndarray:
    """Return the array itself, without what a subclass adds."""
    if not isinstance(result, np.ndarray):
        raise TypeError(f"returned {type(result).__name__}, not a NumPy array")
    # View the memory directly: a subclass may override how its values are accessed.
    return result if type(result) is np.ndarray else np.ndarray.view(result, np.ndarray)


LIBRARY = Library(
    name="numpy",
    copied=copied,
    to_numpy=to_numpy,
    fence=lambda: None,
    make=lambda: np.zeros(TEST_BYTES // 4, np.float32) + np.float32(1),
)
