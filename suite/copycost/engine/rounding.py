"""Bound the error of a right result relative to its float64 reference, element by element.

This is a running error analysis. The reference is evaluated on arrays that carry an error bound beside each value. The
bound holds for the same formula evaluated in the result's dtype. The analysis uses the standard model ``fl(a ∘ b) =
(a ∘ b)(1 + δ)`` with ``|δ| ≤ u``, to first order (N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd
ed., sections 2.2 and 3.3). In addition to the formula's own roundings, the bound allows for variations in legitimate
implementations:

* a constant is rounded to the result's dtype;
* a division may be a multiplication by the rounded reciprocal;
* a sum that is then multiplied may be distributed: ``(x − c) · s`` as ``x · s − c · s``;
* a multiplication and an addition may be fused, which rounds less;
* a sum of n terms may be taken in any order: ``√n · u`` of the terms' magnitudes (N. J. Higham and T. Mary, *A new
  approach to probabilistic rounding error analysis*, SIAM J. Sci. Comput. 41, 2019).

The analysis cannot follow a formula that uses anything but NumPy's array functions. The bound is then estimated from
the changes of the result when the input and all arithmetic are rounded.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from copycost.engine.tracked import Arithmetic, Tracked

#: For a formula that cannot be followed: number of input perturbations, and factor on the largest observed change.
_TRIALS, _SAFETY = 3, 4

#: Number of elements whose limits are computed at a time. Temporary arrays of this size stay in cache.
_CHUNK = 1 << 15


@dataclass(frozen=True)
class Reference:
    """Expected values of a result, and their error bounds.

    Attributes
    ----------
    values : ndarray
        Values in float64, or the exact integers or booleans.
    bound : ndarray of float32 or float64, same shape
        Maximum absolute error of each element.
    low, high : ndarray of the result's dtype, same shape, or None
        Smallest and largest right value of each element: see `limits`. None if they were not computed.
    """

    values: np.ndarray
    bound: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def limits(values: np.ndarray, bound: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest number of a dtype that is within the bound of each value.

    A result is right if it lies between them. Comparing takes half the time of computing its errors in float64.
    """
    low, high = np.empty(values.shape, dtype), np.empty(values.shape, dtype)
    flat = [array.reshape(-1) for array in (values, bound, low, high)]
    with np.errstate(over="ignore"):
        for start in range(0, values.size, _CHUNK):
            value, error, least, most = (array[start : start + _CHUNK] for array in flat)
            for end, rounded, inwards in ((value - error, least, np.inf), (value + error, most, -np.inf)):
                np.copyto(rounded, end, casting="same_kind")
                outside = rounded < end if inwards > 0 else rounded > end
                np.nextafter(rounded, dtype.type(inwards), out=rounded, where=outside)
    return low, high


def bounded(reference: Callable[..., Any], x: Any, dtype: np.dtype, exact: bool) -> list[Reference]:
    """Evaluate a reference and the error bound of each element of its results.

    Parameters
    ----------
    reference : callable
        Takes a float64 array or a tuple of them, and returns one array of numbers or a tuple of them.
    x : ndarray of float64, or tuple of them
        Arrays of integers and booleans among them are exact, and no values that rounding changes.
    dtype : dtype
        Floating-point dtype in which a variant evaluates the formula.
    exact : bool
        Whether this dtype represents every value of the input exactly.

    Returns
    -------
    list of Reference
        One for each array that the reference returns.

    Raises
    ------
    ValueError
        If the reference does not return finite numbers.
    """
    arithmetic = Arithmetic.of(dtype)
    values = [_check(part) for part in _parts(_call(reference, x, np.array))]
    images = _images(x, values)
    references = None
    if images > 1:
        # Proceed image by image, in memory that stays in cache, while this yields the values of the whole batch.
        by_image = []
        for i in range(images):
            image = operator.itemgetter(slice(i, i + 1))
            parts = _follow(reference, _map(image, x), arithmetic, exact)
            if parts is None or not _have_values(parts, map(image, values)):
                break
            by_image.append(parts)
        else:
            bounds = (np.concatenate([part.bound for part in parts]) for parts in zip(*by_image, strict=True))
            references = list(map(Reference, values, bounds))
    if references is None:
        references = _follow(reference, x, arithmetic, exact)
    if references is None or not _have_values(references, values):
        references = _estimate(reference, x, values, arithmetic)
    return references


def _call(reference: Callable[..., Any], x: Any, change: Callable[[np.ndarray], Any]) -> Any:
    """Evaluate the reference on a changed or at least copied input, because it may write to its argument."""
    with np.errstate(all="ignore"):
        return reference(_map(change, x))


def _map(function: Callable[[np.ndarray], Any], x: Any) -> Any:
    return tuple(map(function, x)) if isinstance(x, tuple) else function(x)


def _parts(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)


def _images(x: Any, values: Sequence[np.ndarray]) -> int:
    """Return the number of images in a batch if inputs and results all have the same number, else 0."""
    arrays = [*(x if isinstance(x, tuple) else (x,)), *values]
    numbers = {len(array) if array.ndim >= 3 else 0 for array in arrays}
    return numbers.pop() if len(numbers) == 1 and arrays[0].ndim == 4 else 0


def _have_values(references: Sequence[Reference], values: Iterable[np.ndarray]) -> bool:
    return all(
        reference.values.dtype == value.dtype and bool(np.array_equal(reference.values, value))
        for reference, value in zip(references, values, strict=True)
    )


def _follow(reference: Callable[..., Any], x: Any, arithmetic: Arithmetic, exact: bool) -> list[Reference] | None:
    """Return the result of the error analysis, or None if it cannot follow the formula."""

    def track(array: np.ndarray) -> Any:
        if array.dtype.kind != "f":  # codes, which are exact
            return array.copy()
        return Tracked(array.copy(), 0.0 if exact else arithmetic.rounding(array), arithmetic)

    try:
        parts = _parts(_call(reference, x, track))
        if not all(isinstance(part, Tracked) for part in parts):
            return None
    except Exception:  # a formula may raise anything when its argument is not a NumPy array
        return None
    references = []
    for part in parts:
        bound: np.ndarray = np.broadcast_to(np.asarray(part.error, arithmetic.errors), part.value.shape)
        value = _check(part.value)
        references.append(Reference(value, _round_up(bound, arithmetic) if value.dtype.kind == "f" else bound))
    return references


def _check(result: Any) -> np.ndarray:
    """Convert a reference's result to float64, or keep integers and booleans; raise ValueError if it is invalid."""
    values = np.asarray(result)
    if values.dtype.kind not in "fiub" or not values.size:
        kind = type(result).__name__ if values.dtype.kind == "O" else values.dtype
        raise ValueError(f"returned {kind if values.size else 'an empty array'}, not real numbers")
    if values.dtype.kind == "f":
        values = values.astype(np.float64, copy=False)
        if not np.isfinite(values).all():
            raise ValueError("returned values that are not finite")
    return values


def _round_up(bound: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
    """Return the bound plus the rounding of its own computation, with non-finite values replaced by finite ones."""
    return np.nan_to_num(bound * arithmetic.errors(1 + 1e-5), nan=0.0, posinf=float(np.finfo(arithmetic.errors).max))


def _estimate(
    reference: Callable[..., Any], x: Any, values: Sequence[np.ndarray], arithmetic: Arithmetic
) -> list[Reference]:
    """Estimate the error bounds of a formula that the analysis cannot follow.

    The formula is evaluated in the result's dtype, and in float64 on inputs whose values are all moved by one rounding,
    up or down at random. The bound of an element is a multiple of its largest change or its own rounding.
    """
    random = np.random.default_rng(0)

    def perturb(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind != "f":
            return array.copy()
        return array * (1 + 2 * arithmetic.unit * random.choice((-1.0, 1.0), array.shape))

    def lower(array: np.ndarray) -> np.ndarray:
        return array.astype(arithmetic.dtype) if array.dtype.kind == "f" else array.copy()

    trials = [_parts(_call(reference, x, perturb)) for _ in range(_TRIALS)]
    with contextlib.suppress(Exception):  # the formula may require float64
        trials.append(_parts(_call(reference, x, lower)))
    references = []
    for i, value in enumerate(values):
        is_float = value.dtype.kind == "f"
        bound: np.ndarray = np.zeros(value.shape, arithmetic.errors)
        if is_float:
            bound += arithmetic.rounding(value)
        for trial in trials:
            with np.errstate(all="ignore"):
                change = np.abs(np.asarray(trial[i], np.float64) - value)
            np.maximum(bound, np.where(np.isfinite(change), change, 0), out=bound, casting="same_kind")
        references.append(Reference(value, _round_up(_SAFETY * bound if is_float else bound, arithmetic)))
    return references
