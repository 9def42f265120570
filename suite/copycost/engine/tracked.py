"""Arrays that carry an error bound for each element through NumPy's functions: see `rounding`."""

# ruff: noqa: D102 - the methods are those of numpy.ndarray.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partialmethod
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

#: Number of roundings allowed for an elementary function: vectorised float32 implementations are off by up to 2 ulp.
_ELEMENTARY = 4


class CannotFollow(TypeError):
    """Raised if a formula uses an operation for which the analysis has no rule."""


@dataclass(frozen=True)
class Arithmetic:
    """Rounding properties of a dtype.

    Attributes
    ----------
    unit : float
        Unit roundoff u of the dtype plus that of the reference, which is rounded too.
    floor : float
        Half the smallest subnormal number, which is the rounding error of a value near 0.
    dtype : dtype
    errors : dtype
        Dtype in which error bounds are stored.
    """

    unit: float
    floor: float
    dtype: np.dtype
    errors: type

    @classmethod
    def of(cls, dtype: np.dtype) -> Arithmetic:
        info = np.finfo(dtype)
        unit = float(info.eps) / 2 + float(np.finfo(np.float64).eps) / 2
        return cls(unit, float(info.smallest_subnormal) / 2, dtype, np.float64 if dtype == np.float64 else np.float32)

    def rounding(self, value: np.ndarray) -> np.ndarray:
        """Return the error of rounding `value` once."""
        error = np.abs(value, dtype=self.errors, casting="same_kind")
        error *= self.unit
        error += self.floor
        return error


class Tracked(NDArrayOperatorsMixin):
    """An array with an error bound for each element.

    Attributes
    ----------
    value : ndarray
    error : ndarray or float
        Error bound, which broadcasts to the value's shape. 0.0 means that the value is exact.
    terms : tuple of ndarray or None
        The two operands if the array is their unmodified sum or difference.
    """

    __array_priority__ = 1000.0

    def __init__(self, value: Any, error: Any, arithmetic: Arithmetic, terms: Any = None) -> None:
        self.value, self.error, self.arithmetic, self.terms = np.asarray(value), error, arithmetic, terms

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    nbytes = property(lambda self: self.value.nbytes)
    itemsize = property(lambda self: self.value.itemsize)
    T = property(lambda self: self.transpose())

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise CannotFollow("the formula requires a NumPy array")

    def __float__(self) -> float:
        raise CannotFollow("the formula requires a Python number")

    __int__ = __index__ = __complex__ = __float__

    def __getitem__(self, index: Any) -> Tracked:
        if isinstance(index, Tracked):
            index = index.exactly()
        return self._like(self.value[index], self._errors()[index] if np.ndim(self.error) else self.error)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, Tracked):
            index = index.exactly()
        operand = self._track(value)
        self.error = np.array(self._errors())
        self.value[index] = operand.value
        self.error[index] = operand.error
        self.terms = None

    def _like(self, value: Any, error: Any, terms: Any = None) -> Tracked:
        return Tracked(value, error, self.arithmetic, terms)

    def _errors(self) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.error, self.arithmetic.errors), self.value.shape)

    def exactly(self) -> np.ndarray:
        """Return the value of an index or a condition, which must have no error."""
        if np.any(self.error):
            raise CannotFollow("an index depends on rounding")
        return self.value

    def _track(self, operand: Any) -> Tracked:
        """Return an operand as a tracked array; a constant that the dtype cannot hold gets a rounding error."""
        if isinstance(operand, Tracked):
            return operand
        value = np.asarray(operand)
        if value.dtype.kind not in "fiub":
            raise CannotFollow(f"an operand is {value.dtype}")
        if value.dtype.kind == "b" or not value.size:
            return self._like(value, 0.0)
        with np.errstate(over="ignore"):
            representable = value.astype(self.arithmetic.dtype).astype(np.float64)
        with np.errstate(all="ignore"):
            half = np.spacing(np.abs(representable).astype(self.arithmetic.dtype)).astype(np.float64) / 2
        error = np.where(representable == value, 0.0, half)
        return self._like(value, error.astype(self.arithmetic.errors) if error.any() else 0.0)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if method == "reduce" and ufunc in _REDUCTIONS:
            result = _REDUCTIONS[ufunc](self, **kwargs)
        elif method == "__call__" and not kwargs.keys() - {"dtype", "casting", "order"} and ufunc in _RULES:
            if "dtype" in kwargs and np.dtype(kwargs["dtype"]).kind != "f":
                raise CannotFollow("a ufunc with a dtype")
            result = _RULES[ufunc](*map(self._track, inputs))
        else:
            raise CannotFollow(f"{ufunc.__name__}.{method}")
        if out is not None:
            (target,) = out
            if not isinstance(target, Tracked):
                raise CannotFollow("a result is written to an array that is not tracked")
            target[...] = result
            return target
        return result

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = function.__name__
        if name in _SAME:
            return self._rearrange(function, args, kwargs)
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](self, *args, **kwargs)
        if name in _METHODS:
            operand, *rest = args
            return getattr(self._track(operand), _METHODS[name])(*rest, **kwargs)
        raise CannotFollow(f"np.{name}")

    def _rearrange(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Apply a function that only moves elements to the values and to their errors."""

        def apply(get: Callable[[Tracked], np.ndarray]) -> Any:
            def convert(argument: Any) -> Any:
                if isinstance(argument, Tracked):
                    return get(argument)
                if isinstance(argument, list | tuple) and any(isinstance(item, Tracked) for item in argument):
                    return [get(self._track(item)) for item in argument]
                return argument

            return function(*map(convert, args), **{key: convert(value) for key, value in kwargs.items()})

        value, error = apply(lambda operand: operand.value), apply(lambda operand: operand._errors())
        if isinstance(value, list | tuple):
            return [self._like(v, e) for v, e in zip(value, error, strict=True)]
        return self._like(value, error)

    def _move(self, name: str, *args: Any, **kwargs: Any) -> Tracked:
        return self._like(getattr(self.value, name)(*args, **kwargs), getattr(self._errors(), name)(*args, **kwargs))

    reshape = partialmethod(_move, "reshape")
    transpose = partialmethod(_move, "transpose")
    swapaxes = partialmethod(_move, "swapaxes")
    ravel = flatten = partialmethod(_move, "ravel")
    squeeze = partialmethod(_move, "squeeze")
    take = partialmethod(_move, "take")
    repeat = partialmethod(_move, "repeat")

    def copy(self, *_: Any) -> Tracked:
        return self._like(self.value.copy(), np.array(self._errors()))

    def astype(self, dtype: Any, **_: Any) -> Tracked:
        target = np.dtype(dtype)
        if target.kind == "f":
            if np.can_cast(self.value.dtype, target, "safe"):
                return self._like(self.value.astype(np.float64), self.error)
            value = self.value.astype(target).astype(np.float64)
            return self._like(value, self.error + Arithmetic.of(target).rounding(value))
        if target.kind not in "iub":
            raise CannotFollow(f"astype({target})")
        if not np.any(self.error):
            return self._like(self.value.astype(target), 0.0)
        if target.kind == "b":
            unsure = np.abs(self.value) <= self._errors()
            return self._like(self.value.astype(target), unsure.astype(self.arithmetic.errors))
        return self._apply_steps(lambda v: np.trunc(v), target)

    def _apply_steps(self, step: Callable[[np.ndarray], np.ndarray], dtype: Any = np.float64) -> Tracked:
        """Apply a step function, whose error bound near a step allows the value of either side."""
        value = step(self.value)
        errors = self._errors().astype(np.float64)
        error = np.maximum(step(self.value + errors) - value, value - step(self.value - errors))
        return self._like(value.astype(dtype), error.astype(self.arithmetic.errors) if error.any() else 0.0)

    def sum(self, axis: Any = None, keepdims: bool = False, **kwargs: Any) -> Tracked:
        if {key for key, value in kwargs.items() if value is not None} - {"dtype", "initial", "where", "out"}:
            raise CannotFollow("a sum")
        if kwargs.get("out") is not None or kwargs.get("where", True) is not True:
            raise CannotFollow("a sum")
        value = self.value.sum(axis=axis, keepdims=keepdims, dtype=np.float64)
        n = self.size // max(1, value.size)
        magnitude = np.abs(self.value).sum(axis=axis, keepdims=keepdims, dtype=np.float64)
        error = self._errors().sum(axis=axis, keepdims=keepdims, dtype=np.float64)
        return self._like(value, (error + np.sqrt(n) * self.arithmetic.unit * magnitude).astype(self.arithmetic.errors))

    def mean(self, axis: Any = None, keepdims: bool = False, **kwargs: Any) -> Tracked:
        total = self.sum(axis=axis, keepdims=keepdims, **kwargs)
        return total / float(self.size // max(1, total.size))

    def var(self, axis: Any = None, ddof: int = 0, keepdims: bool = False, **_: Any) -> Tracked:
        deviation = self - self.mean(axis=axis, keepdims=True)
        total = (deviation * deviation).sum(axis=axis, keepdims=keepdims)
        return total / float(self.size // max(1, total.size) - ddof)

    def std(self, axis: Any = None, ddof: int = 0, keepdims: bool = False, **kwargs: Any) -> Tracked:
        return _RULES[np.sqrt](self.var(axis=axis, ddof=ddof, keepdims=keepdims, **kwargs))

    def _extreme(self, name: str, axis: Any = None, keepdims: bool = False, **_: Any) -> Tracked:
        error = self._errors().max(axis=axis, keepdims=keepdims) if np.any(self.error) else 0.0
        return self._like(getattr(self.value, name)(axis=axis, keepdims=keepdims), error)

    def min(self, *args: Any, **kwargs: Any) -> Tracked:
        return self._extreme("min", *args, **kwargs)

    def max(self, *args: Any, **kwargs: Any) -> Tracked:
        return self._extreme("max", *args, **kwargs)

    def ptp(self, axis: Any = None, keepdims: bool = False) -> Tracked:
        return self.max(axis=axis, keepdims=keepdims) - self.min(axis=axis, keepdims=keepdims)

    def clip(self, low: Any = None, high: Any = None, **_: Any) -> Tracked:
        result = self if low is None else np.maximum(self, low)
        return result if high is None else np.minimum(result, high)

    def round(self, decimals: int = 0, **_: Any) -> Tracked:
        return self._apply_steps(lambda v: np.round(v, decimals))

    def any(self, *args: Any, **kwargs: Any) -> Any:
        return self.exactly().any(*args, **kwargs)

    def all(self, *args: Any, **kwargs: Any) -> Any:
        return self.exactly().all(*args, **kwargs)


def _add(ufunc: np.ufunc) -> Callable[[Tracked, Tracked], Tracked]:
    def rule(a: Tracked, b: Tracked) -> Tracked:
        value = ufunc(a.value, b.value)
        if _are_whole(a, b):
            return a._like(value, 0.0)
        return a._like(value, a.error + b.error + a.arithmetic.rounding(value), (a.value, b.value))

    return rule


def _distribution_error(a: Tracked, factor: np.ndarray) -> Any:
    """Return the additional error of a sum ``s + t`` if both terms are multiplied by `factor` before the addition."""
    if a.terms is None:
        return 0.0
    arithmetic = a.arithmetic
    s, t = (np.abs(term, dtype=arithmetic.errors, casting="same_kind") for term in map(_float, a.terms))
    return (s + t) * (np.abs(factor).astype(arithmetic.errors) * arithmetic.unit)


def _float(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _are_whole(*operands: Tracked) -> bool:
    """Return whether all operands are exact integers or booleans, whose arithmetic is exact."""
    return all(operand.value.dtype.kind in "iub" and not np.any(operand.error) for operand in operands)


def _multiply(a: Tracked, b: Tracked) -> Tracked:
    value = np.multiply(a.value, b.value)
    if _are_whole(a, b):
        return a._like(value, 0.0)
    error = a.arithmetic.rounding(value)
    for operand, factor in ((a, b), (b, a)):
        if np.any(operand.error):
            error = error + operand.error * np.abs(factor.value).astype(error.dtype)
        if operand.terms is not None and (factor.value.ndim < operand.value.ndim or factor.value.size == 1):
            error = error + _distribution_error(operand, factor.value)
    return a._like(value, error)


def _divide(a: Tracked, b: Tracked) -> Tracked:
    value = np.divide(a.value, b.value)
    arithmetic = a.arithmetic
    size = np.abs(value).astype(arithmetic.errors)
    # Roundings of the reciprocal and of the product.
    error = 2 * (size * arithmetic.errors(arithmetic.unit) + arithmetic.errors(arithmetic.floor))
    inverse: np.ndarray = np.abs(1 / b.value).astype(arithmetic.errors)
    if np.any(a.error):
        error = error + a.error * inverse
    if np.any(b.error):
        error = error + size * (b.error * inverse)
    if a.terms is not None and b.value.ndim < a.value.ndim:
        error = error + _distribution_error(a, inverse)
    return a._like(value, error)


def _smooth(ufunc: np.ufunc, slope: Callable[[np.ndarray], np.ndarray], roundings: int = _ELEMENTARY) -> Any:
    """Return the rule of an elementary function, given its derivative."""

    def rule(a: Tracked) -> Tracked:
        value = ufunc(_float(a.value))
        error = roundings * a.arithmetic.rounding(value)
        if np.any(a.error):
            error = error + a.error * np.abs(slope(_float(a.value))).astype(error.dtype)
        return a._like(value, error)

    return rule


def _power(a: Tracked, b: Tracked) -> Tracked:
    if np.any(b.error) or b.value.ndim:
        raise CannotFollow("an exponent that is not a single exact number")
    value = np.power(_float(a.value), b.value)
    error = _ELEMENTARY * a.arithmetic.rounding(value)
    if np.any(a.error):
        slope = np.abs(b.value * np.power(_float(a.value), b.value - 1.0))
        error = error + a.error * slope.astype(error.dtype)
    return a._like(value, error)


def _choose(ufunc: np.ufunc) -> Callable[[Tracked, Tracked], Tracked]:
    def rule(a: Tracked, b: Tracked) -> Tracked:
        value = ufunc(a.value, b.value)
        error = np.maximum(a.error, b.error) if np.any(a.error) or np.any(b.error) else 0.0
        return a._like(value, error)

    return rule


def _compare(ufunc: np.ufunc) -> Callable[[Tracked, Tracked], Tracked]:
    """Return the rule of a comparison, which allows both results if the difference is within the errors."""

    def rule(a: Tracked, b: Tracked) -> Tracked:
        value = ufunc(a.value, b.value)
        error = a.error + b.error
        if not np.any(error):
            return a._like(value, 0.0)
        unsure = np.abs(np.subtract(_float(a.value), _float(b.value))) <= error
        return a._like(value, unsure.astype(a.arithmetic.errors))

    return rule


def _logical(ufunc: np.ufunc) -> Any:
    def rule(*operands: Tracked) -> Tracked:
        error: Any = 0.0
        for operand in operands:
            error = np.maximum(error, operand.error)
        return operands[0]._like(ufunc(*(operand.value for operand in operands)), error)

    return rule


def _exact_rule(ufunc: np.ufunc) -> Any:
    return lambda a: a._like(ufunc(a.value), a.error)


def _step(ufunc: np.ufunc) -> Any:
    return lambda a: a._apply_steps(ufunc)


def _square(a: Tracked) -> Tracked:
    return _multiply(a, a)


def _matmul(function: Any, a: Any, b: Any, *args: Any, **kwargs: Any) -> Tracked:
    """Apply a sum of products; the number of terms of each sum follows from the sizes."""
    operand = a if isinstance(a, Tracked) else b
    a, b = operand._track(a), operand._track(b)
    value = function(a.value, b.value, *args, **kwargs)
    a_magnitude, b_magnitude = np.abs(a.value), np.abs(b.value)
    terms = np.sqrt(max(1, a.size * b.size // max(1, value.size)) ** 0.5)
    magnitude = function(a_magnitude, b_magnitude, *args, **kwargs)
    error = function(a._errors(), b_magnitude, *args, **kwargs) + function(a_magnitude, b._errors(), *args, **kwargs)
    return operand._like(
        value, (error + (1 + terms) * operand.arithmetic.unit * magnitude).astype(operand.arithmetic.errors)
    )


def _where(operand: Tracked, condition: Any, *choices: Any) -> Tracked:
    if len(choices) != 2:
        raise CannotFollow("np.where with one argument")
    mask, a, b = operand._track(condition), operand._track(choices[0]), operand._track(choices[1])
    value = np.where(mask.value, a.value, b.value)
    error = np.where(mask.value, a.error, b.error)
    if np.any(mask.error):
        difference = np.abs(_float(a.value) - _float(b.value)) + a.error + b.error
        error = np.where(mask.error, difference, error)
    return operand._like(value, error.astype(operand.arithmetic.errors))


def _trace(operand: Tracked, a: Any) -> Tracked:
    a = operand._track(a)
    return operand._like(np.asarray(np.trace(a.value)), np.diagonal(a).sum(-1).error)


def _full(operand: Tracked, template: Any, value: float) -> Tracked:
    full = np.full(operand._track(template).shape, value)
    return operand._like(full, np.zeros(full.shape, operand.arithmetic.errors))


_RULES: dict[Any, Any] = {
    np.add: _add(np.add),
    np.subtract: _add(np.subtract),
    np.multiply: _multiply,
    np.divide: _divide,
    np.square: _square,
    np.power: _power,
    np.sqrt: _smooth(np.sqrt, lambda v: 0.5 / np.sqrt(np.maximum(v, np.finfo(np.float64).tiny)), 1),
    np.reciprocal: _smooth(np.reciprocal, lambda v: 1 / (v * v), 2),
    np.exp: _smooth(np.exp, np.exp),
    np.exp2: _smooth(np.exp2, lambda v: np.exp2(v) * np.log(2)),
    np.expm1: _smooth(np.expm1, np.exp),
    np.log: _smooth(np.log, lambda v: 1 / v),
    np.log2: _smooth(np.log2, lambda v: 1 / (v * np.log(2))),
    np.log10: _smooth(np.log10, lambda v: 1 / (v * np.log(10))),
    np.log1p: _smooth(np.log1p, lambda v: 1 / (1 + v)),
    np.sin: _smooth(np.sin, np.cos),
    np.cos: _smooth(np.cos, np.sin),
    np.tanh: _smooth(np.tanh, lambda v: 1 - np.tanh(v) ** 2),
    np.arctan: _smooth(np.arctan, lambda v: 1 / (1 + v * v)),
    np.negative: _exact_rule(np.negative),
    np.positive: _exact_rule(np.positive),
    np.absolute: _exact_rule(np.absolute),
    np.fabs: _exact_rule(np.fabs),
    np.maximum: _choose(np.maximum),
    np.minimum: _choose(np.minimum),
    np.fmax: _choose(np.fmax),
    np.fmin: _choose(np.fmin),
    np.floor: _step(np.floor),
    np.ceil: _step(np.ceil),
    np.rint: _step(np.rint),
    np.trunc: _step(np.trunc),
    np.sign: _step(np.sign),
    np.logical_and: _logical(np.logical_and),
    np.logical_or: _logical(np.logical_or),
    np.logical_not: _logical(np.logical_not),
    np.matmul: lambda a, b: _matmul(np.matmul, a, b),
} | {
    ufunc: _compare(ufunc)
    for ufunc in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal)
} | {
    ufunc: _logical(ufunc) for ufunc in (np.bitwise_and, np.bitwise_or, np.invert)
}  # fmt: skip

_REDUCTIONS: dict[Any, Any] = {np.add: Tracked.sum, np.minimum: Tracked.min, np.maximum: Tracked.max}

#: Functions that only move elements.
_SAME = {
    "flip", "fliplr", "flipud", "moveaxis", "transpose", "swapaxes", "reshape", "ravel", "squeeze", "expand_dims",
    "concatenate", "stack", "hstack", "vstack", "dstack", "roll", "rot90", "take", "repeat", "tile", "broadcast_to",
    "split", "array_split", "atleast_1d", "atleast_2d", "atleast_3d", "rollaxis", "take_along_axis", "delete", "pad",
    "diagonal", "tril", "triu",
}  # fmt: skip

#: Functions that are implemented by a method of the array.
_METHODS = {
    "sum": "sum", "mean": "mean", "min": "min", "max": "max", "amin": "min", "amax": "max", "std": "std", "var": "var",
    "ptp": "ptp", "clip": "clip", "round": "round", "around": "round", "any": "any", "all": "all", "copy": "copy",
}  # fmt: skip

_FUNCTIONS: dict[str, Any] = {
    "where": _where,
    "zeros_like": lambda operand, like, **_: _full(operand, like, 0.0),
    "ones_like": lambda operand, like, **_: _full(operand, like, 1.0),
    "empty_like": lambda operand, like, **_: _full(operand, like, 0.0),
    "full_like": lambda operand, like, value, **_: _full(operand, like, value),
    "dot": lambda operand, a, b: _matmul(np.dot, a, b),
    "tensordot": lambda operand, a, b, *args, **kwargs: _matmul(np.tensordot, a, b, *args, **kwargs),
    "einsum": lambda operand, how, a, b: _matmul(lambda p, q: np.einsum(how, p, q), a, b),
    "trace": _trace,
    "norm": lambda operand, a, axis=None, keepdims=False: np.sqrt(
        np.square(operand._track(a)).sum(axis=axis, keepdims=keepdims)
    ),
    "shape": lambda operand, a: a.shape,
    "ndim": lambda operand, a: a.ndim,
    "size": lambda operand, a: a.size,
}
