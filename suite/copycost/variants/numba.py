"""Define the Numba variants: compiled loops on all cores, into a prepared buffer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from copycost.recipes import AFFINE, RESIZED, bilinear, result_dtype
from copycost.registry import variant

# The kernels take flat arrays, or arrays of shape (n, channels, elements). Numba specializes them by dtype.


@functools.cache
def _affine_kernels() -> SimpleNamespace:
    """Return the compiled loops that multiply and add by channel: for one pair of constants, and for each layout."""
    import numba
    from numba import prange

    compiled = numba.njit(parallel=True, cache=True)

    @compiled
    def affine(x, out, factor, summand):
        for i in prange(x.size):
            out[i] = x[i] * factor + summand

    # With channels last, only this form is vectorized: row by row, three elements at a time, with the constants read
    # before the loop. A single loop over all pixels is not vectorized, and takes four times as long on uint8.

    @compiled
    def affine_last(x, out, factor, summand):
        for i in prange(x.shape[0]):
            row, result = x[i], out[i]
            f0, f1, f2 = factor[0], factor[1], factor[2]
            s0, s1, s2 = summand[0], summand[1], summand[2]
            for j in range(row.size // 3):
                a, b, c = row[3 * j], row[3 * j + 1], row[3 * j + 2]
                result[3 * j] = a * f0 + s0
                result[3 * j + 1] = b * f1 + s1
                result[3 * j + 2] = c * f2 + s2

    @compiled
    def affine_last_reversed(x, out, factor, summand):
        for i in prange(x.shape[0]):
            row, result = x[i], out[i]
            f0, f1, f2 = factor[0], factor[1], factor[2]
            s0, s1, s2 = summand[0], summand[1], summand[2]
            for j in range(row.size // 3):
                a, b, c = row[3 * j], row[3 * j + 1], row[3 * j + 2]
                result[3 * j] = c * f0 + s0
                result[3 * j + 1] = b * f1 + s1
                result[3 * j + 2] = a * f2 + s2

    @compiled
    def affine_first(x, out, factor, summand, back):
        for i in prange(x.shape[0] * 3):
            image, channel = np.int64(i) // 3, np.int64(i) % 3  # unsigned i with signed integers would give floats
            plane = x[image, 2 - channel if back else channel]
            result = out[image, channel]
            for j in range(result.size):
                result[j] = plane[j] * factor[channel] + summand[channel]

    return SimpleNamespace(
        affine=affine,
        affine_last=affine_last,
        affine_last_reversed=affine_last_reversed,
        affine_first=affine_first,
    )


@functools.cache
def _minmax_kernels() -> SimpleNamespace:
    """Return the compiled loops that find the extremes, and that scale from them."""
    import numba
    from numba import prange

    compiled = numba.njit(parallel=True, cache=True)

    @compiled
    def extremes(x):
        low = high = x[0]
        for i in prange(x.size):
            low = min(low, x[i])
            high = max(high, x[i])
        return low, high

    @compiled
    def spread(x, out, low, span):
        for i in prange(x.size):
            out[i] = (x[i] - low) / span

    return SimpleNamespace(extremes=extremes, spread=spread)


@functools.cache
def _add_kernel() -> Callable[..., None]:
    """Return the compiled loop that adds two arrays."""
    import numba
    from numba import prange

    compiled = numba.njit(parallel=True, cache=True)

    @compiled
    def add(a, b, out, zero):
        for i in prange(out.size):
            out[i] = (a[i] + zero) + b[i]  # zero has the result's dtype: it converts uint8, whose sum could overflow

    return add


@functools.cache
def _resize_kernels() -> SimpleNamespace:
    """Return the compiled loops that resize and scale, for each layout; `unit` is a 1 of the result's dtype."""
    import numba
    from numba import prange

    compiled = numba.njit(parallel=True, cache=True)

    @compiled
    def resize_last(x, out, rows, columns, scale, unit):
        above, below, row_fraction = rows
        left, right, column_fraction = columns
        for i in prange(out.shape[0] * out.shape[1]):
            image, row = np.int64(i) // out.shape[1], np.int64(i) % out.shape[1]
            upper, lower, result = x[image, above[row]], x[image, below[row]], out[image, row]
            weight = row_fraction[row]
            for j in range(result.shape[0]):
                for c in range(3):
                    top = upper[left[j], c] + (upper[right[j], c] - upper[left[j], c] * unit) * column_fraction[j]
                    bottom = lower[left[j], c] + (lower[right[j], c] - lower[left[j], c] * unit) * column_fraction[j]
                    result[j, c] = (top + (bottom - top) * weight) / scale - unit

    @compiled
    def resize_first(x, out, rows, columns, scale, unit):
        above, below, row_fraction = rows
        left, right, column_fraction = columns
        for i in prange(out.shape[0] * out.shape[1]):
            plane, row = np.int64(i) // out.shape[1], np.int64(i) % out.shape[1]
            upper, lower, result = x[plane, above[row]], x[plane, below[row]], out[plane, row]
            weight = row_fraction[row]
            for j in range(result.shape[0]):
                top = upper[left[j]] + (upper[right[j]] - upper[left[j]] * unit) * column_fraction[j]
                bottom = lower[left[j]] + (lower[right[j]] - lower[left[j]] * unit) * column_fraction[j]
                result[j] = (top + (bottom - top) * weight) / scale - unit

    return SimpleNamespace(resize_last=resize_last, resize_first=resize_first)


def affine(recipe: str, x: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a function that applies one multiplication and one addition per channel."""
    kernels, dtype = _affine_kernels(), result_dtype(x.dtype)
    factors, summands, back = AFFINE[recipe]
    factor, summand = np.array(factors, dtype), np.array(summands, dtype)
    if len(set(zip(factors, summands, strict=True))) == 1:
        shape: tuple[int, ...] = (-1,)
        kernel = functools.partial(kernels.affine, factor=factor[0], summand=summand[0])
    elif x.shape[-1] == 3:
        shape = (-1, 3 * x.shape[-2])
        loop = kernels.affine_last_reversed if back else kernels.affine_last
        kernel = functools.partial(loop, factor=factor, summand=summand)
    else:
        shape = (-1, 3, x.shape[-2] * x.shape[-1])
        kernel = functools.partial(kernels.affine_first, factor=factor, summand=summand, back=back)

    def call(x, out):
        kernel(x.reshape(shape), out.reshape(shape))
        return out

    return call


def minmax(x: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a function with two passes: find the extremes, then compute (x − smallest) / (largest − smallest)."""
    kernels, dtype = _minmax_kernels(), result_dtype(x.dtype)

    def call(x, out):
        low, high = map(dtype.type, kernels.extremes(x.reshape(-1)))
        kernels.spread(x.reshape(-1), out.reshape(-1), low, high - low or dtype.type(1))
        return out

    return call


def resize_scale(x: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a function that computes each pixel from its four neighbours."""
    kernels = _resize_kernels()
    channels_last = x.shape[-1] == 3
    axes = (-3, -2) if channels_last else (-2, -1)
    weights = [bilinear(x.shape[axis]) for axis in axes]
    rows, columns = ((lower, upper, fraction.astype(np.float32)) for lower, upper, fraction in weights)
    channels = (3,) if channels_last else ()
    input_shape = (-1, *(x.shape[axis] for axis in axes), *channels)
    result_shape = (-1, RESIZED, RESIZED, *channels)
    kernel = kernels.resize_last if channels_last else kernels.resize_first

    def call(x, out):
        kernel(x.reshape(input_shape), out.reshape(result_shape), rows, columns, np.float32(127.5), np.float32(1))
        return out

    return call


def add(x: tuple[np.ndarray, np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a function for a + b."""
    kernel, zero = _add_kernel(), result_dtype(x[0].dtype).type(0)

    def call(x, out):
        a, b = x
        kernel(a.reshape(-1), b.reshape(-1), out.reshape(-1), zero)
        return out

    return call


def _register(recipe: str, into: Callable[[Any], Callable[..., np.ndarray]]) -> None:
    @variant(recipe=recipe, runtime="numba", writes="out", accepts=("uint8", "float32", "float64"))
    def numba_out(example):
        return into(example)


for _recipe in AFFINE:
    _register(_recipe, functools.partial(affine, _recipe))
_register("minmax", minmax)
_register("resize_scale", resize_scale)
_register("add", add)
