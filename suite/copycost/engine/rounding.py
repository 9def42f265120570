"""How far from its float64 reference a right result may be, element by element.

A running error analysis: the reference is evaluated on arrays that carry, beside each value, a bound on the error that
the same formula has when it is evaluated in the result's dtype. The model is that of the textbooks, ``fl(a ∘ b) =
(a ∘ b)(1 + δ)`` with ``|δ| ≤ u``, to first order (N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd
ed., sections 2.2 and 3.3). Beyond the formula's own roundings the bound allows for what honest implementations do:

* a constant is rounded to the result's dtype;
* a division may be a multiplication by the rounded reciprocal;
* a sum that is then multiplied may be distributed: ``(x − c) · s`` as ``x · s − c · s``;
* a multiplication and an addition may be fused, which rounds less;
* a sum of n terms may be taken in any order: ``√n · u`` of the terms' magnitudes (N. J. Higham and T. Mary, *A new
  approach to probabilistic rounding error analysis*, SIAM J. Sci. Comput. 41, 2019).

A formula that leaves NumPy's array functions cannot be followed. Its bound is estimated from how much its result moves
when its input, and all its arithmetic, are rounded.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from copycost.engine.tracked import Arithmetic, Tracked

#: Of a formula that cannot be followed: input perturbations tried, and the factor on the largest change seen.
_TRIALS, _SAFETY = 3, 4


@dataclass(frozen=True)
class Reference:
    """What a result must be.

    Attributes
    ----------
    values : ndarray
        float64, or the integers or booleans that the result must be.
    bound : ndarray of float32 or float64, same shape
        How far each element may be off.
    """

    values: np.ndarray
    bound: np.ndarray


def bounded(reference: Callable[..., Any], x: Any, dtype: np.dtype, exact: bool) -> list[Reference]:
    """Evaluate a reference, with the bound of each element of each of its results.

    Parameters
    ----------
    reference : callable
        Given a float64 array, or a tuple of them, returns one array of numbers, or a tuple of them.
    x : ndarray of float64, or tuple of them
    dtype : dtype
        The float dtype that a variant evaluates the formula in.
    exact : bool
        Whether that dtype holds every value of the input.

    Returns
    -------
    list of Reference
        One for each array that the reference returned.

    Raises
    ------
    ValueError
        Where the reference does not return finite numbers.
    """
    arithmetic = Arithmetic.of(dtype)
    values = [_checked(part) for part in _parts(_call(reference, x, np.array))]
    images = _images(x, values)
    found = None
    if images > 1:
        # Image by image, in memory that stays in the cache, as long as that gives the values of the whole batch.
        each = []
        for i in range(images):
            its = _followed(reference, _map(operator.itemgetter(slice(i, i + 1)), x), arithmetic, exact)
            if its is None or not all(
                _equal(one.values, all_[i : i + 1]) for one, all_ in zip(its, values, strict=True)
            ):
                break
            each.append(its)
        else:
            found = [Reference(value, np.concatenate([its[k].bound for its in each])) for k, value in enumerate(values)]
    if found is None:
        found = _followed(reference, x, arithmetic, exact)
    if found is None or not all(_equal(one.values, value) for one, value in zip(found, values, strict=True)):
        found = _estimated(reference, x, values, arithmetic)
    return found


def _call(reference: Callable[..., Any], x: Any, change: Callable[[np.ndarray], Any]) -> Any:
    """The reference of an input that is changed, or at least copied: it may write to what it is given."""
    with np.errstate(all="ignore"):
        return reference(_map(change, x))


def _map(function: Callable[[np.ndarray], Any], x: Any) -> Any:
    return tuple(map(function, x)) if isinstance(x, tuple) else function(x)


def _parts(returned: Any) -> Sequence[Any]:
    return returned if isinstance(returned, tuple) else (returned,)


def _images(x: Any, values: Sequence[np.ndarray]) -> int:
    """The images of a batch, where input and results all have as many; else 0."""
    arrays = [*(x if isinstance(x, tuple) else (x,)), *values]
    numbers = {len(array) if array.ndim >= 3 else 0 for array in arrays}
    return numbers.pop() if len(numbers) == 1 and arrays[0].ndim == 4 else 0


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and bool(np.array_equal(one, other))


def _followed(reference: Callable[..., Any], x: Any, arithmetic: Arithmetic, exact: bool) -> list[Reference] | None:
    """What the analysis gives, or None where it cannot follow the formula."""

    def tracked(array: np.ndarray) -> Tracked:
        return Tracked(array.copy(), 0.0 if exact else arithmetic.rounding(array), arithmetic)

    try:
        parts = _parts(_call(reference, x, tracked))
        if not all(isinstance(part, Tracked) for part in parts):
            return None
    except Exception:  # whatever the formula does with an array that is not NumPy's
        return None
    found = []
    for part in parts:
        bound: np.ndarray = np.broadcast_to(np.asarray(part.error, arithmetic.errors), part.value.shape)
        value = _checked(part.value)
        found.append(Reference(value, _rounded_up(bound, arithmetic) if value.dtype.kind == "f" else bound))
    return found


def _checked(returned: Any) -> np.ndarray:
    """What a reference returned, as real numbers in float64, integers or booleans; or ValueError."""
    y = np.asarray(returned)
    if y.dtype.kind not in "fiub" or not y.size:
        what = "an empty array" if not y.size else y.dtype if y.dtype.kind != "O" else type(returned).__name__
        raise ValueError(f"it returned {what}, not real numbers")
    if y.dtype.kind == "f":
        y = y.astype(np.float64, copy=False)
        if not np.isfinite(y).all():
            raise ValueError("it is not finite everywhere")
    return y


def _rounded_up(bound: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
    """The bound with what its own computation rounds off, and no more than what is not finite can be."""
    return np.nan_to_num(bound * arithmetic.errors(1 + 1e-5), nan=0.0, posinf=float(np.finfo(arithmetic.errors).max))


def _estimated(
    reference: Callable[..., Any], x: Any, values: Sequence[np.ndarray], arithmetic: Arithmetic
) -> list[Reference]:
    """The bound of a formula that cannot be followed.

    The formula is evaluated in the result's dtype, and in float64 on inputs whose every value is moved by a rounding,
    up or down at random. What is allowed is a multiple of the largest change of an element, and of its own rounding.
    """
    random = np.random.default_rng(0)

    def moved(array: np.ndarray) -> np.ndarray:
        return array * (1 + 2 * arithmetic.unit * random.choice((-1.0, 1.0), array.shape))

    others = [_parts(_call(reference, x, moved)) for _ in range(_TRIALS)]
    with contextlib.suppress(Exception):  # it may need float64
        others.append(_parts(_call(reference, x, lambda array: array.astype(arithmetic.dtype))))
    found = []
    for i, value in enumerate(values):
        floats = value.dtype.kind == "f"
        bound: np.ndarray = np.zeros(value.shape, arithmetic.errors)
        if floats:
            bound += arithmetic.rounding(value)
        for other in others:
            with np.errstate(all="ignore"):
                change = np.abs(np.asarray(other[i], np.float64) - value)
            np.maximum(bound, np.where(np.isfinite(change), change, 0), out=bound, casting="same_kind")
        found.append(Reference(value, _rounded_up(_SAFETY * bound if floats else bound, arithmetic)))
    return found
