"""Define the numexpr variants: expressions for its virtual machine, in chunks on all cores, into a prepared buffer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from copycost.recipes import AFFINE, channels_reversed, per_channel, result_dtype
from copycost.registry import variant


def _evaluate(expression: str, out: np.ndarray, **names: Any) -> np.ndarray:
    import numexpr

    # numexpr does not support uint8 and converts it to int32, so that the result must be cast to float32.
    return numexpr.evaluate(expression, names, {}, out=out, casting="same_kind")


def affine(recipe: str, x: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a function that applies one multiplication and one addition per channel."""
    dtype = result_dtype(x.dtype)
    factors, summands, back = AFFINE[recipe]
    factor, summand = (per_channel(values, x.shape, dtype) for values in (factors, summands))
    if len(set(zip(factors, summands, strict=True))) == 1:
        factor, summand = factor.flat[0], summand.flat[0]
    channels = channels_reversed(x.shape) if back else ...
    return lambda x, out: _evaluate("x * factor + summand", out, x=x[channels], factor=factor, summand=summand)


def minmax(x: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a function for (x − smallest) / (largest − smallest), or 0 if they are equal; NumPy finds the extremes."""
    dtype = result_dtype(x.dtype)

    def call(x, out):
        low = x.min()
        span = dtype.type(x.max() - low) or dtype.type(1)
        return _evaluate("(x - low) / span", out, x=x, low=dtype.type(low), span=span)

    return call


def add(x: tuple[np.ndarray, np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a function for a + b."""
    return lambda x, out: _evaluate("a + b", out, a=x[0], b=x[1])


def _register(recipe: str, into: Callable[[Any], Callable[..., np.ndarray]]) -> None:
    @variant(recipe=recipe, runtime="numexpr", writes="out", accepts=("uint8", "float32", "float64"))
    def numexpr_out(example):
        return into(example)


for _recipe in AFFINE:
    _register(_recipe, partial(affine, _recipe))
_register("minmax", minmax)
_register("add", add)
