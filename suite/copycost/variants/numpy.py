"""Define the NumPy variants: into a new array, a copy, a prepared buffer or the input; in tiles; and from a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from copycost.recipes import (
    AFFINE,
    CAFFE_MEAN,
    RESIZED,
    TORCH_MEAN,
    TORCH_STD,
    bilinear,
    channels_reversed,
    each,
    first,
    per_channel,
    result_dtype,
)
from copycost.registry import variant


class Formula(NamedTuple):
    """A recipe in NumPy, in the four forms in which people write it."""

    statements: Callable[..., np.ndarray]
    expression: Callable[..., np.ndarray]
    copy: Callable[..., np.ndarray]
    into: Callable[..., np.ndarray]


# Constants are arrays or scalars of the result's dtype. With them, uint8 / float32 gives float32 instead of float64,
# and an expression over a large array reuses its temporary. With a Python scalar, NumPy does not reuse the temporary.


def tf(x: np.ndarray) -> Formula:
    """Return functions for x / 127.5 − 1."""
    dtype = result_dtype(x.dtype)
    scale, offset = dtype.type(127.5), dtype.type(1)

    def statements(x):
        quotient = x / scale
        return quotient - offset

    def expression(x):
        return x / scale - offset

    def copy(x):
        y = x.astype(dtype)
        y /= scale
        y -= offset
        return y

    def into(x, out):
        np.divide(x, scale, out=out)
        np.subtract(out, offset, out=out)
        return out

    return Formula(statements, expression, copy, into)


def caffe(x: np.ndarray) -> Formula:
    """Return functions that reverse the channels and subtract the mean."""
    dtype = result_dtype(x.dtype)
    mean = per_channel(CAFFE_MEAN, x.shape, dtype)
    bgr = channels_reversed(x.shape)

    def statements(x):
        view = x[bgr]
        return np.ascontiguousarray(view) - mean

    def expression(x):
        # Without order="C", the result would keep the reversed strides of its input.
        return np.subtract(x[bgr], mean, order="C")

    def copy(x):
        y = x[bgr].astype(dtype, order="C")
        y -= mean
        return y

    def into(x, out):
        # If out is x, NumPy detects the overlap and reads from a temporary copy.
        np.subtract(x[bgr], mean, out=out)
        return out

    return Formula(statements, expression, copy, into)


def torch(x: np.ndarray) -> Formula:
    """Return functions for (x / 255 − mean) / standard deviation."""
    dtype = result_dtype(x.dtype)
    scale = dtype.type(255)
    mean = per_channel(TORCH_MEAN, x.shape, dtype)
    std = per_channel(TORCH_STD, x.shape, dtype)

    def statements(x):
        quotient = x / scale
        difference = quotient - mean
        return difference / std

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


def minmax(x: np.ndarray) -> Formula:
    """Return functions for (x − smallest) / (largest − smallest), or 0 if they are equal."""
    dtype = result_dtype(x.dtype)
    unit = dtype.type(1)

    def span(x, low):
        return dtype.type(x.max() - low) or unit

    def statements(x):
        low = x.min()
        difference = x - low  # in the dtype of x, which cannot wrap around, as no value is below the smallest
        return difference / span(x, low)

    def expression(x):
        return (x - (low := x.min())) / span(x, low)

    def copy(x):
        low = x.min()
        y = x.astype(dtype)
        y -= low
        y /= span(x, low)
        return y

    def into(x, out):
        low = x.min()
        scale = span(x, low)  # computed before writing, because out may be x
        np.subtract(x, dtype.type(low), out=out)
        np.divide(out, scale, out=out)
        return out

    return Formula(statements, expression, copy, into)


def resize_scale(x: np.ndarray) -> Formula:
    """Return functions that resize to 256×256 (bilinear, rows then columns) and compute x / 127.5 − 1 in float32."""
    rows, columns = (-3, -2) if x.shape[-1] == 3 else (-2, -1)
    scale, offset = np.float32(127.5), np.float32(1)
    vertical, horizontal = _neighbours(x, rows), _neighbours(x, columns)

    def between(x, lower, upper, fraction, axis):
        start = x.take(lower, axis)
        return start + (x.take(upper, axis) - start) * fraction

    def statements(x):
        pixels = x.astype(np.float32, copy=False)
        resized_rows = between(pixels, *vertical, rows)
        resized = between(resized_rows, *horizontal, columns)
        quotient = resized / scale
        return quotient - offset

    def expression(x):
        resized_rows = between(x.astype(np.float32, copy=False), *vertical, rows)
        return between(resized_rows, *horizontal, columns) / scale - offset

    def copy(x):
        y = x.astype(np.float32)
        for (lower, upper, fraction), axis in ((vertical, rows), (horizontal, columns)):
            start, y = y.take(lower, axis), y.take(upper, axis)
            y -= start
            y *= fraction
            y += start
        y /= scale
        y -= offset
        return y

    return Formula(statements, expression, copy, _resize_scale_into(x))


def _neighbours(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the neighbours and weights of `bilinear` for an axis, the weights in float32 and broadcast over images."""
    lower, upper, fraction = bilinear(x.shape[axis])
    return lower, upper, fraction.astype(np.float32).reshape(RESIZED, *[1] * (-axis - 1))


def _resize_scale_into(x: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a function that resizes and scales into `out` with buffers that it keeps."""
    rows, columns = (-3, -2) if x.shape[-1] == 3 else (-2, -1)
    scale, offset = np.float32(127.5), np.float32(1)
    above, below, row_fraction = _neighbours(x, rows)
    left, right, column_fraction = _neighbours(x, columns)

    def empty(height, width):
        shape = (*x.shape[:-3], height, width, 3) if rows == -3 else (*x.shape[:-2], height, width)
        return np.empty(shape, np.float32)

    pixels = np.empty(x.shape, np.float32)
    upper_rows, lower_rows = (empty(RESIZED, x.shape[columns]) for _ in range(2))
    right_pixels = empty(RESIZED, RESIZED)

    def into(x, out):
        if x.dtype != pixels.dtype:
            np.copyto(pixels, x, casting="same_kind")
            x = pixels
        # In other modes, `take` allocates a buffer, so that it can raise before it writes.
        x.take(above, rows, upper_rows, "clip")
        x.take(below, rows, lower_rows, "clip")
        np.subtract(lower_rows, upper_rows, out=lower_rows)
        np.multiply(lower_rows, row_fraction, out=lower_rows)
        np.add(upper_rows, lower_rows, out=upper_rows)
        upper_rows.take(left, columns, out, "clip")
        upper_rows.take(right, columns, right_pixels, "clip")
        np.subtract(right_pixels, out, out=right_pixels)
        np.multiply(right_pixels, column_fraction, out=right_pixels)
        np.add(out, right_pixels, out=out)
        np.divide(out, scale, out=out)
        np.subtract(out, offset, out=out)
        return out

    return into


def add(x: tuple[np.ndarray, np.ndarray]) -> Formula:
    """Return functions for a + b."""
    dtype = result_dtype(x[0].dtype)

    def statements(x):
        a, b = x
        wide = a.astype(dtype, copy=False)  # the sum of two uint8 values may not fit into uint8
        return wide + b

    def expression(x):
        return np.add(*x, dtype=dtype)

    def copy(x):
        a, b = x
        y = a.astype(dtype)
        y += b
        return y

    def into(x, out):
        a, b = x
        return np.add(a, b, out=out, dtype=dtype)

    return Formula(statements, expression, copy, into)


#: Elements per tile, a multiple of 3 channels. In float32, a tile and two tiles of constants take 288 KiB, which fits
#: into the private cache of a core.
_TILE = 3 << 13


def _planes(x: np.ndarray, out: np.ndarray, back: bool):
    """Yield flat parts of `x` and `out` with their channel: one per plane with channels first, else the whole."""
    if x.shape[-1] == 3:
        yield x.reshape(-1), out.reshape(-1), 0
        return
    planes = (-1, 3, x.shape[-2] * x.shape[-1])
    for image, result in zip(x.reshape(planes), out.reshape(planes), strict=True):
        for channel in range(3):
            yield image[2 - channel if back else channel], result[channel], channel


def _constants(values: tuple[float, ...], x: np.ndarray, dtype: np.dtype) -> list[np.ndarray]:
    """Return a tile of constants for each channel of `_planes`, as a loop over three channels does not vectorize."""
    of_planes = [values] if x.shape[-1] == 3 else [(value,) for value in values]
    return [np.resize(np.array(plane_values, dtype), _TILE) for plane_values in of_planes]


def _converted(part: np.ndarray, to: np.ndarray, back: bool = False) -> np.ndarray:
    """Return a tile in the dtype of `to`: the tile itself or a copy in `to`, with reversed channels if `back` is true.

    A ufunc would also convert, but in buffers that it allocates for every tile.
    """
    if back:
        for channel in range(3):
            np.copyto(to[channel::3], part[2 - channel :: 3])
        return to
    if part.dtype == to.dtype:
        return part
    np.copyto(to, part)
    return to


def affine_in_tiles(recipe: str, x: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that applies one multiplication and one addition per channel, tile by tile."""
    dtype = result_dtype(x.dtype)
    factors, summands, back = AFFINE[recipe]
    factor, summand = _constants(factors, x, dtype), _constants(summands, x, dtype)
    has_factor = any(f != 1 for f in factors)
    back_within = back and x.shape[-1] == 3

    def call(x, out):
        for source, result, channel in _planes(x, out, back):
            for start in range(0, source.size, _TILE):
                tile = result[start : start + _TILE]
                values = _converted(source[start : start + _TILE], tile, back_within)
                if has_factor:
                    values = np.multiply(values, factor[channel][: tile.size], out=tile)
                np.add(values, summand[channel][: tile.size], out=tile)
        return out

    return call


def from_table(recipe: str, x: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that looks up each uint8 value in a table of 256 values per channel."""
    factors, summands, back = AFFINE[recipe]
    values = np.arange(256)
    table = np.concatenate([values * f + s for f, s in zip(factors, summands, strict=True)]).astype(np.float32)
    shift = _constants((0, 256, 512), x, np.dtype(np.intp))
    is_uniform = len(set(zip(factors, summands, strict=True))) == 1
    back_within = back and x.shape[-1] == 3
    index = np.empty(_TILE, np.intp)  # `take` would convert uint8 indices to intp in new memory at each call

    def call(x, out):
        for source, result, channel in _planes(x, out, back):
            for start in range(0, source.size, _TILE):
                tile = result[start : start + _TILE]
                tile_index = index[: tile.size]
                _converted(source[start : start + _TILE], tile_index, back_within)
                if not is_uniform:
                    np.add(tile_index, shift[channel][: tile.size], out=tile_index)
                # In other modes, `take` allocates a buffer, so that it can raise before it writes.
                table.take(tile_index, None, tile, "clip")
        return out

    return call


def minmax_in_tiles(x: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that makes two passes: one for the smallest and largest value, and one over tiles."""
    dtype = result_dtype(x.dtype)

    def call(x, out):
        low = x.min()
        span = dtype.type(x.max() - low) or dtype.type(1)
        low = dtype.type(low)
        source, result = x.reshape(-1), out.reshape(-1)
        for start in range(0, result.size, _TILE):
            tile = result[start : start + _TILE]
            np.subtract(_converted(source[start : start + _TILE], tile), low, out=tile)
            np.divide(tile, span, out=tile)
        return out

    return call


def resize_scale_in_tiles(x: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that resizes and scales image by image."""
    if x.ndim == 3:
        return _resize_scale_into(x)
    into = _resize_scale_into(x[0])

    def call(x, out):
        for image, result in zip(x, out, strict=True):
            into(image, result)
        return out

    return call


def add_in_tiles(x: tuple[np.ndarray, np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a function that adds one tile of a and of b at a time."""
    buffer = np.empty(_TILE, result_dtype(x[0].dtype))

    def call(x, out):
        a, b, result = (array.reshape(-1) for array in (*x, out))
        for start in range(0, result.size, _TILE):
            tile = result[start : start + _TILE]
            a_tile = _converted(a[start : start + _TILE], tile)
            b_tile = _converted(b[start : start + _TILE], buffer[: tile.size])
            np.add(a_tile, b_tile, out=tile)
        return out

    return call


def _register(recipe: str, formula: Callable[..., Formula], in_tiles: Callable[..., Callable]) -> None:
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
        return (lambda x: into(x, x[0])) if isinstance(example, tuple) else lambda x: into(x, x)

    @variant(recipe=recipe, runtime="numpy", writes="out")
    def numpy_blocked(example):
        return in_tiles(example)

    if recipe in AFFINE:

        @variant(recipe=recipe, runtime="numpy", writes="out", accepts=("uint8",))
        def numpy_table(example):
            return from_table(recipe, example)


def register_expression(recipe: str, function: Callable[..., np.ndarray], constants: list[np.ndarray]) -> None:
    """Register ``function(x, *constants)``, for images with channels last."""

    @variant(recipe=recipe, runtime="numpy", writes="new", layouts="channels_last")
    def numpy_expression(example):
        dtype = result_dtype(first(example).dtype)
        arrays = [constant.astype(dtype) for constant in constants]
        return lambda x: function(each(x, lambda array: array.astype(dtype, copy=False)), *arrays)


for _recipe, _formula, _in_tiles in (
    ("caffe", caffe, partial(affine_in_tiles, "caffe")),
    ("tf", tf, partial(affine_in_tiles, "tf")),
    ("torch", torch, partial(affine_in_tiles, "torch")),
    ("minmax", minmax, minmax_in_tiles),
    ("resize_scale", resize_scale, resize_scale_in_tiles),
    ("add", add, add_in_tiles),
):
    _register(_recipe, _formula, _in_tiles)
