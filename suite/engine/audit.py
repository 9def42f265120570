"""Whether a result is right, whose memory it has, and whether the input is still what it was."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

#: The factor of the tolerance |result − reference| ≤ FACTOR · eps(result dtype) · S.
FACTOR = 8

#: Half the time of NumPy's comparison, which writes an array of its own.
_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

#: Elements compared at a time: little memory, and all of it in cache.
_CHUNK = 1 << 15


@dataclass(frozen=True)
class Verdict:
    """How a result stands against its reference.

    ``reason`` is None if it is right. ``max_ulp`` is the largest distance in units in the last place of the reference
    rounded to the result's dtype: large near zero, and no ground for a judgement.
    """

    reason: str | None
    max_abs_error: float | None = None
    max_ulp: float | None = None


def judge(
    result: np.ndarray, reference: np.ndarray, dtype: np.dtype, magnitude: float | None, ulp: bool = True
) -> Verdict:
    """Compare `result` with the float64 `reference`.

    Parameters
    ----------
    result : ndarray
    reference : ndarray of float64
    dtype : dtype
        What the result's must be.
    magnitude : float or None
        S, the largest magnitude of any intermediate; None for the larger of 255 and the reference's largest.
    ulp : bool
        Whether to find ``max_ulp``, which takes longer than all the rest.
    """
    if result.dtype != dtype:
        return Verdict(f"returned {result.dtype}, not {dtype}")
    if result.shape != reference.shape:
        return Verdict(f"returned shape {_shape(result)}, not {_shape(reference)}")
    if magnitude is None:
        magnitude = max(255.0, float(np.abs(reference).max(initial=0)))
    tolerance = FACTOR * float(np.finfo(dtype).eps) * magnitude
    worst = 0.0
    worst_ulp = 0.0 if ulp else None
    got, want = result.reshape(-1), reference.reshape(-1)
    error, unit = np.empty(_CHUNK), np.empty(_CHUNK, dtype)
    for start in range(0, got.size, _CHUNK):
        part, ref = got[start : start + _CHUNK], want[start : start + _CHUNK]
        off = np.subtract(part, ref, out=error[: part.size])
        np.abs(off, out=off)
        largest = float(off.max())
        if not np.isfinite(largest):
            return Verdict(f"not finite in {int((~np.isfinite(result)).sum()):,} of {result.size:,} values")
        worst = max(worst, largest)
        if worst_ulp is not None and largest:
            spacing = unit[: part.size]
            np.copyto(spacing, ref, casting="same_kind")
            np.abs(spacing, out=spacing)
            np.spacing(spacing, out=spacing)
            with np.errstate(over="ignore"):
                np.divide(off, spacing, out=off)
            # In float64 the distance from 0, in units of 5e-324, can pass what float64 holds.
            worst_ulp = max(worst_ulp, min(float(off.max()), float(np.finfo(np.float64).max)))
    if not worst <= tolerance:
        return Verdict(f"off by up to {worst:.3g}; {tolerance:.3g} is allowed", worst, worst_ulp)
    return Verdict(None, worst, worst_ulp)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays have equal bits."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if not (one.flags.c_contiguous and other.flags.c_contiguous):
        if one.dtype.itemsize <= 8:  # no complex numbers, no long doubles
            bits = np.dtype(f"u{one.dtype.itemsize}")
            return bool(np.array_equal(one.view(bits), other.view(bits)))
        one, other = np.ascontiguousarray(one), np.ascontiguousarray(other)
    return _memcmp(one.ctypes.data, other.ctypes.data, one.nbytes) == 0


def overlap(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Whether two ranges of addresses have one in common."""
    return one is not None and other is not None and one[0] < other[1] and other[0] < one[1]


def _shape(array: np.ndarray) -> str:
    return "×".join(map(str, array.shape)) or "()"
