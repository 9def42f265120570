"""NumPy: into a new array, into a copy, into a prepared buffer, over the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from suite.recipes import (
    CAFFE_MEAN,
    TORCH_MEAN,
    TORCH_STD,
    channels_reversed,
    per_channel,
    result_dtype,
)
from suite.registry import variant
from suite.runtime import Runtime


def _array(pixels: np.ndarray, mutable: bool) -> np.ndarray:
    return np.array(pixels, order="C")


def _restore(array: np.ndarray, pristine: np.ndarray) -> np.ndarray:
    np.copyto(array, pristine)
    return array


def _to_numpy(result: object) -> np.ndarray:
    if not isinstance(result, np.ndarray):
        raise TypeError(f"returned {type(result).__name__}, not a NumPy array")
    return result


RUNTIME = Runtime(
    name="numpy",
    packages=("numpy",),
    install="pip install numpy",
    devices=("cpu",),
    start=lambda device, threads: None,
    array=_array,
    restore=_restore,
    to_numpy=_to_numpy,
    extent=byte_bounds,
    contiguous=lambda array: bool(array.flags.c_contiguous),
    fence=lambda: None,
)


class Formula(NamedTuple):
    """A recipe in NumPy, in the four shapes that people write it in."""

    statements: Callable[[np.ndarray], np.ndarray]
    expression: Callable[[np.ndarray], np.ndarray]
    copy: Callable[[np.ndarray], np.ndarray]
    into: Callable[[np.ndarray, np.ndarray], np.ndarray]


# Constants are arrays or scalars of the result's dtype. With them uint8 / float32 is float32 and not float64,
# and one expression over a large array reuses its own temporary, which with a Python scalar it does not.


def tf(x: np.ndarray) -> Formula:
    """x / 127.5 − 1."""
    dtype = result_dtype(x.dtype)
    scale, one = dtype.type(127.5), dtype.type(1)

    def statements(x):
        scaled = x / scale
        return scaled - one

    def expression(x):
        return x / scale - one

    def copy(x):
        y = x.astype(dtype)
        y /= scale
        y -= one
        return y

    def into(x, out):
        np.divide(x, scale, out=out)
        np.subtract(out, one, out=out)
        return out

    return Formula(statements, expression, copy, into)


def caffe(x: np.ndarray) -> Formula:
    """Channels reversed, minus the mean."""
    dtype = result_dtype(x.dtype)
    mean = per_channel(CAFFE_MEAN, x.shape, dtype)
    bgr = channels_reversed(x.shape)

    def statements(x):
        reversed_ = x[bgr]
        return np.ascontiguousarray(reversed_) - mean

    def expression(x):
        # Without order="C" the result would keep the reversed strides of its input.
        return np.subtract(x[bgr], mean, order="C")

    def copy(x):
        y = x[bgr].astype(dtype, order="C")
        y -= mean
        return y

    def into(x, out):
        # Where out is x, NumPy sees the overlap and reads from a copy that it makes.
        np.subtract(x[bgr], mean, out=out)
        return out

    return Formula(statements, expression, copy, into)


def torch(x: np.ndarray) -> Formula:
    """(x / 255 − mean) / standard deviation."""
    dtype = result_dtype(x.dtype)
    scale = dtype.type(255)
    mean = per_channel(TORCH_MEAN, x.shape, dtype)
    std = per_channel(TORCH_STD, x.shape, dtype)

    def statements(x):
        scaled = x / scale
        centred = scaled - mean
        return centred / std

    def expression(x):
        return (x / scale - mean) / std

    def copy(x):
        y = x.astype(dtype)
        y /= scale
        y -= mean
        y /= std
        return y

    def into(x, out):
        np.divide(x, scale, out=out)
        np.subtract(out, mean, out=out)
        np.divide(out, std, out=out)
        return out

    return Formula(statements, expression, copy, into)


def _register(recipe: str, formula: Callable[[np.ndarray], Formula]) -> None:
    @variant(recipe=recipe, runtime="numpy", writes="new")
    def numpy_new(example):
        return formula(example).statements

    @variant(recipe=recipe, runtime="numpy", writes="new")
    def numpy_expression(example):
        return formula(example).expression

    @variant(recipe=recipe, runtime="numpy", writes="new")
    def numpy_copy(example):
        return formula(example).copy

    @variant(recipe=recipe, runtime="numpy", writes="out")
    def numpy_out(example):
        return formula(example).into

    @variant(recipe=recipe, runtime="numpy", writes="input")
    def numpy_inplace(example):
        into = formula(example).into
        return lambda x: into(x, x)


for _recipe, _formula in {"caffe": caffe, "tf": tf, "torch": torch}.items():
    _register(_recipe, _formula)
