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
    wrong_count, wrong_error, wrong_bound = 0, 0.0, 0.0
    actual, expected, bound = result.reshape(-1), reference.values.reshape(-1), reference.bound.reshape(-1)
    deviation_buffer, spacing_buffer = np.empty(_CHUNK), np.empty(_CHUNK, dtype)
    for start in range(0, actual.size, _CHUNK):
        part, ref, limit = (array[start : start + _CHUNK] for array in (actual, expected, bound))
        deviation = np.subtract(part, ref, out=deviation_buffer[: part.size], dtype=np.float64)
        np.abs(deviation, out=deviation)
        largest = float(deviation.max())
        if not np.isfinite(largest):
            return Verdict(f"not finite in {int((~np.isfinite(result)).sum()):,} of {result.size:,} values")
        worst = max(worst, largest)
        is_wrong = deviation > limit
        if is_wrong.any():
            wrong_count += int(np.count_nonzero(is_wrong))
            index = int(np.argmax(np.where(is_wrong, deviation, 0)))
            if deviation[index] >= wrong_error:
                wrong_error, wrong_bound = float(deviation[index]), float(limit[index])
        if worst_ulp is not None and largest:
            spacing = spacing_buffer[: part.size]
            np.copyto(spacing, ref, casting="same_kind")
            _to_spacing(spacing)
            with np.errstate(over="ignore"):
                np.divide(deviation, spacing, out=deviation)
            # In float64, the distance from 0 in units of 5e-324 can exceed the range of float64.
            worst_ulp = max(worst_ulp, min(float(deviation.max()), float(np.finfo(np.float64).max)))
    if wrong_count:
        share = f"{wrong_count:,} of {result.size:,} values"
        reason = f"off by up to {wrong_error:.3g}, where {wrong_bound:.3g} is allowed, in {share}"
        return Verdict(reason, worst, worst_ulp)
    return Verdict(None, worst, worst_ulp)


def within(result: np.ndarray, low: np.ndarray, high: np.ndarray) -> bool:
    """Return whether a result has the dtype and shape of two limits, and every element lies between them."""
    if result.dtype != low.dtype or result.shape != low.shape:
        return False
    values, lowest, highest = result.reshape(-1), low.reshape(-1), high.reshape(-1)
    for start in range(0, values.size, _CHUNK):
        part, lower, upper = (array[start : start + _CHUNK] for array in (values, lowest, highest))
        if not np.logical_and(part >= lower, part <= upper).all():  # false for NaN
            return False
    return True


def _to_spacing(values: np.ndarray) -> None:
    """Replace finite values by their distance to the next larger magnitude, as `numpy.spacing` of the magnitude does.

    The exponent bits alone are the power of two below the value. NumPy's function takes more than four times as long.
    """
    limits = np.finfo(values.dtype)
    bits = values.view(f"u{values.dtype.itemsize}")
    np.bitwise_and(bits, np.array(np.inf, values.dtype).view(bits.dtype), out=bits)
    np.multiply(values, limits.eps, out=values)
    np.maximum(values, limits.smallest_subnormal, out=values)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays have the same dtype, shape and bits."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if not (a.flags.c_contiguous and b.flags.c_contiguous):
        if a.dtype.itemsize <= 8:  # no complex numbers, no long doubles
            bits = np.dtype(f"u{a.dtype.itemsize}")
            return bool(np.array_equal(a.view(bits), b.view(bits)))
        a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return _memcmp(a.ctypes.data, b.ctypes.data, a.nbytes) == 0


def overlap(a: tuple[int, int] | None, b: tuple[int, int] | None) -> bool:
    """Return whether two ranges of addresses overlap."""
    return a is not None and b is not None and a[0] < b[1] and b[0] < a[1]


def _shape(array: np.ndarray) -> str:
    return "×".join(map(str, array.shape)) or "()"
