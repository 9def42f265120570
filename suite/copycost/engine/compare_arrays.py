"""Compare a result with its reference, arrays with each other, and the memory that they occupy."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

from copycost.engine.rounding import Reference

#: `memcmp` takes half the time of NumPy's comparison, which writes a temporary array.
_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

#: Number of elements compared at a time. Temporary arrays of this size need little memory and stay in cache.
_CHUNK = 1 << 15


@dataclass(frozen=True)
class Verdict:
    """Outcome of comparing a result with its reference.

    ``reason`` is None if the result is right. ``max_ulp`` is the largest distance in units in the last place of the
    reference rounded to the result's dtype. It is large near zero, and therefore not a criterion.
    """

    reason: str | None
    max_abs_error: float | None = None
    max_ulp: float | None = None


def judge(result: np.ndarray, reference: Reference, dtype: np.dtype, ulp: bool = True) -> Verdict:
    """Compare a result with its reference, element by element.

    Parameters
    ----------
    result : ndarray
    reference : Reference
    dtype : dtype
        Required dtype of the result.
    ulp : bool
        Whether to compute ``max_ulp``, which takes longer than the rest of the comparison.
    """
    if result.dtype != dtype:
        return Verdict(f"returned {result.dtype}, not {dtype}")
    if result.shape != reference.values.shape:
        return Verdict(f"returned shape {_shape(result)}, not {_shape(reference.values)}")
    ulp = ulp and dtype.kind == "f"
    worst = 0.0
    worst_ulp = 0.0 if ulp else None
    wrong, off_by, allowed = 0, 0.0, 0.0
    got, want, bound = result.reshape(-1), reference.values.reshape(-1), reference.bound.reshape(-1)
    error, unit = np.empty(_CHUNK), np.empty(_CHUNK, dtype)
    for start in range(0, got.size, _CHUNK):
        part, ref, most = (array[start : start + _CHUNK] for array in (got, want, bound))
        off = np.subtract(part, ref, out=error[: part.size], dtype=np.float64)
        np.abs(off, out=off)
        largest = float(off.max())
        if not np.isfinite(largest):
            return Verdict(f"not finite in {int((~np.isfinite(result)).sum()):,} of {result.size:,} values")
        worst = max(worst, largest)
        beyond = off > most
        if beyond.any():
            wrong += int(np.count_nonzero(beyond))
            at = int(np.argmax(np.where(beyond, off, 0)))
            if off[at] >= off_by:
                off_by, allowed = float(off[at]), float(most[at])
        if worst_ulp is not None and largest:
            spacing = unit[: part.size]
            np.copyto(spacing, ref, casting="same_kind")
            _to_spacing(spacing)
            with np.errstate(over="ignore"):
                np.divide(off, spacing, out=off)
            # In float64, the distance from 0 in units of 5e-324 can exceed the range of float64.
            worst_ulp = max(worst_ulp, min(float(off.max()), float(np.finfo(np.float64).max)))
    if wrong:
        reason = f"off by up to {off_by:.3g}, where {allowed:.3g} is allowed, in {wrong:,} of {result.size:,} values"
        return Verdict(reason, worst, worst_ulp)
    return Verdict(None, worst, worst_ulp)


def within(result: np.ndarray, low: np.ndarray, high: np.ndarray) -> bool:
    """Return whether a result has the dtype and shape of two limits, and every element lies between them."""
    if result.dtype != low.dtype or result.shape != low.shape:
        return False
    got, least, most = result.reshape(-1), low.reshape(-1), high.reshape(-1)
    for start in range(0, got.size, _CHUNK):
        part, lower, upper = (array[start : start + _CHUNK] for array in (got, least, most))
        if not np.logical_and(part >= lower, part <= upper).all():  # false for NaN
            return False
    return True


def _to_spacing(values: np.ndarray) -> None:
    """Replace finite values by their distance to the next larger magnitude, as `numpy.spacing` of the magnitude does.

    The exponent bits alone are the power of two below the value. NumPy's function takes six times as long.
    """
    limits = np.finfo(values.dtype)
    bits = values.view(f"u{values.dtype.itemsize}")
    np.bitwise_and(bits, np.array(np.inf, values.dtype).view(bits.dtype), out=bits)
    np.multiply(values, limits.eps, out=values)
    np.maximum(values, limits.smallest_subnormal, out=values)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two arrays have the same dtype, shape and bits."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if not (one.flags.c_contiguous and other.flags.c_contiguous):
        if one.dtype.itemsize <= 8:  # no complex numbers, no long doubles
            bits = np.dtype(f"u{one.dtype.itemsize}")
            return bool(np.array_equal(one.view(bits), other.view(bits)))
        one, other = np.ascontiguousarray(one), np.ascontiguousarray(other)
    return _memcmp(one.ctypes.data, other.ctypes.data, one.nbytes) == 0


def overlap(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Return whether two ranges of addresses overlap."""
    return one is not None and other is not None and one[0] < other[1] and other[0] < one[1]


def _shape(array: np.ndarray) -> str:
    return "×".join(map(str, array.shape)) or "()"
