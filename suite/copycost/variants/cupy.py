"""Define the CuPy variants: into new arrays, a prepared buffer or the input; as a fused kernel; and as a CUDA graph.

For recipes that are one multiplication and one addition, another kernel reads and writes several elements at once.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple

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
    """A recipe in CuPy: as statements, into a buffer, and as one elementwise kernel (None for reductions)."""

    statements: Callable[[Any], Any]
    into: Callable[[Any, Any], Any]
    fused: Callable[[Any], Any] | None = None


def tf(x: Any) -> Formula:
    """Return functions for x / 127.5 − 1."""
    import cupy

    dtype = result_dtype(x.dtype)
    scale, offset = dtype.type(127.5), dtype.type(1)

    def statements(x):
        quotient = x / scale
        return quotient - offset

    def into(x, out):
        cupy.divide(x, scale, out=out)
        cupy.subtract(out, offset, out=out)
        return out

    kernel = cupy.ElementwiseKernel("T x", "R y", "y = R(x) / R(127.5) - R(1)", "copycost_tf")
    return Formula(statements, into, lambda x: kernel(x, cupy.empty(x.shape, dtype)))


def caffe(x: Any) -> Formula:
    """Return functions that reverse the channels and subtract the mean."""
    import cupy

    dtype = result_dtype(x.dtype)
    mean = cupy.asarray(per_channel(CAFFE_MEAN, x.shape, dtype))
    bgr = channels_reversed(x.shape)

    def statements(x):
        bgr_pixels = cupy.ascontiguousarray(x[bgr])
        return bgr_pixels - mean

    def into(x, out):
        # If out is x, copy first: a kernel that reads x reversed would read elements that it has already overwritten.
        source = x[bgr].copy() if out is x else x[bgr]
        cupy.subtract(source, mean, out=out)
        return out

    kernel = cupy.ElementwiseKernel("T x, R mean", "R y", "y = R(x) - mean", "copycost_caffe")
    return Formula(statements, into, lambda x: kernel(x[bgr], mean, cupy.empty(x.shape, dtype)))


def torch(x: Any) -> Formula:
    """Return functions for (x / 255 − mean) / standard deviation."""
    import cupy

    dtype = result_dtype(x.dtype)
    scale = dtype.type(255)
    mean = cupy.asarray(per_channel(TORCH_MEAN, x.shape, dtype))
    std = cupy.asarray(per_channel(TORCH_STD, x.shape, dtype))

    def statements(x):
        quotient = x / scale
        difference = quotient - mean
        return difference / std

    def into(x, out):
        cupy.divide(x, scale, out=out)
        cupy.subtract(out, mean, out=out)
        cupy.divide(out, std, out=out)
        return out

    kernel = cupy.ElementwiseKernel("T x, R mean, R std", "R y", "y = (R(x) / R(255) - mean) / std", "copycost_torch")
    return Formula(statements, into, lambda x: kernel(x, mean, std, cupy.empty(x.shape, dtype)))


def minmax(x: Any) -> Formula:
    """Return functions for (x − smallest) / (largest − smallest), or 0 if they are equal.

    Both extremes stay on the device.
    """
    import cupy

    dtype = result_dtype(x.dtype)

    def extremes(x):
        low = x.min()
        span = (x.max() - low).astype(dtype)
        return low, cupy.where(span == 0, dtype.type(1), span)

    def statements(x):
        low, span = extremes(x)
        difference = x - low  # in the dtype of x, which cannot wrap around, as no value is below the smallest
        return difference / span

    def into(x, out):
        low, span = extremes(x)
        cupy.subtract(x, low, out=out)
        cupy.divide(out, span, out=out)
        return out

    return Formula(statements, into)


#: Kernel that computes one element of `resize_scale` from its four neighbours; ``i`` is the element's index.
_RESIZE = """
const int c = channels_last ? i % 3 : (i / (SIZE * SIZE)) % 3;
const int column = (channels_last ? i / 3 : i) % SIZE;
const int row = (channels_last ? i / (3 * SIZE) : i / SIZE) % SIZE;
const long long image = i / (3 * SIZE * SIZE);
const float down = min(max((row + 0.5f) * (height / float(SIZE)) - 0.5f, 0.0f), height - 1.0f);
const float along = min(max((column + 0.5f) * (width / float(SIZE)) - 0.5f, 0.0f), width - 1.0f);
const int above = int(down), below = min(above + 1, height - 1);
const int left = int(along), right = min(left + 1, width - 1);
const long long step = channels_last ? 3 : 1;
const long long first = image * 3 * height * width + (channels_last ? c : (long long)c * height * width);
const float top_left = x[first + ((long long)above * width + left) * step];
const float top_right = x[first + ((long long)above * width + right) * step];
const float bottom_left = x[first + ((long long)below * width + left) * step];
const float bottom_right = x[first + ((long long)below * width + right) * step];
const float top = top_left + (top_right - top_left) * (along - left);
const float bottom = bottom_left + (bottom_right - bottom_left) * (along - left);
y = (top + (bottom - top) * (down - above)) / 127.5f - 1.0f;
""".replace("SIZE", str(RESIZED))


def resize_scale(x: Any) -> Formula:
    """Return functions that resize to 256×256 (bilinear, rows then columns) and compute x / 127.5 − 1 in float32."""
    import cupy

    channels_last = x.shape[-1] == 3
    rows, columns = (-3, -2) if channels_last else (-2, -1)
    scale, offset = np.float32(127.5), np.float32(1)
    result_shape = list(x.shape)
    result_shape[rows] = result_shape[columns] = RESIZED

    def weights(axis):
        lower, upper, fraction = bilinear(x.shape[axis])
        shape = (RESIZED, *[1] * (-axis - 1))
        return cupy.asarray(lower), cupy.asarray(upper), cupy.asarray(fraction.astype(np.float32).reshape(shape))

    vertical, horizontal = weights(rows), weights(columns)

    def between(x, weights, axis):
        lower, upper, fraction = weights
        start = cupy.take(x, lower, axis)
        return start + (cupy.take(x, upper, axis) - start) * fraction

    def resized(x):
        return between(between(x.astype(np.float32, copy=False), vertical, rows), horizontal, columns)

    def statements(x):
        quotient = resized(x) / scale
        return quotient - offset

    def into(x, out):
        cupy.divide(resized(x), scale, out=out)
        cupy.subtract(out, offset, out=out)
        return out

    kernel = cupy.ElementwiseKernel(
        "raw T x, int32 height, int32 width, bool channels_last", "float32 y", _RESIZE, "copycost_resize_scale"
    )

    def fused(x):
        return kernel(x, x.shape[rows], x.shape[columns], channels_last, cupy.empty(result_shape, np.float32))

    return Formula(statements, into, fused)


def add(x: tuple[Any, Any]) -> Formula:
    """Return functions for a + b."""
    import cupy

    dtype = result_dtype(x[0].dtype)

    def statements(x):
        a, b = x
        return cupy.add(a, b, dtype=dtype)

    def into(x, out):
        a, b = x
        return cupy.add(a, b, out=out, dtype=dtype)

    kernel = cupy.ElementwiseKernel("T a, T b", "R y", "y = R(a) + R(b)", "copycost_add")
    return Formula(statements, into, lambda x: kernel(*x, cupy.empty(x[0].shape, dtype)))


def _replayed(into: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return `into` as a CUDA graph, captured once for each combination of addresses, which the graph contains."""
    import cupy

    graphs: dict[tuple[int, ...], Any] = {}

    def call(x, out):
        addresses = tuple(array.data.ptr for array in (*(x if isinstance(x, tuple) else (x,)), out))
        if addresses not in graphs:
            into(x, out)  # compile and fill the memory pool, which is not allowed during a capture
            stream = cupy.cuda.Stream(non_blocking=True)
            with stream:
                stream.begin_capture()
                into(x, out)
                graphs[addresses] = stream.end_capture()
        graphs[addresses].launch(cupy.cuda.get_current_stream())
        return out

    return call


#: Source of the kernels of `cupy-vector`.
_VECTOR = (resources.files("copycost.variants") / "native" / "affine.cu").read_text()

#: Threads of a block of these kernels, which must be a multiple of 3, and blocks for each multiprocessor: enough to
#: occupy it.
_THREADS, _BLOCKS = 192, 8


def _vector(x: Any, recipe: str) -> Callable[[Any], Any]:
    """Return a function that computes an affine recipe by a kernel that reads and writes 4 to 16 bytes at once."""
    import cupy

    factors, summands, back = AFFINE[recipe]
    kernel = cupy.RawKernel(_VECTOR, f"{'reversed' if back else 'affine'}_{x.dtype}")
    blocks = _BLOCKS * cupy.cuda.Device().attributes["MultiProcessorCount"]
    constants = tuple(map(np.float32, (*factors, *summands)))

    def call(x):
        y = cupy.empty(x.shape, np.float32)
        kernel((blocks,), (_THREADS,), (x, y, np.uint32(x.size), *constants))
        return y

    return call


def _register(recipe: str, formula: Callable[[Any], Formula]) -> None:
    @variant(recipe=recipe, runtime="cupy", writes="new")
    def cupy_new(example):
        return formula(example).statements

    @variant(recipe=recipe, runtime="cupy", writes="out")
    def cupy_out(example):
        return formula(example).into

    if recipe != "minmax":  # a reduction cannot be an elementwise kernel

        @variant(recipe=recipe, runtime="cupy", writes="new")
        def cupy_fused(example):
            return formula(example).fused

    if recipe in AFFINE:

        @variant(recipe=recipe, runtime="cupy", writes="new", accepts=("uint8", "float32"), layouts="channels_last")
        def cupy_vector(example):
            return _vector(example, recipe)

    if recipe not in ("minmax", "resize_scale"):  # these allocate, which is not allowed during a capture

        @variant(recipe=recipe, runtime="cupy", writes="out")
        def cupy_graph(example):
            return _replayed(formula(example).into)

    @variant(recipe=recipe, runtime="cupy", writes="input")
    def cupy_inplace(example):
        into = formula(example).into
        return (lambda x: into(x, x[0])) if isinstance(example, tuple) else lambda x: into(x, x)


def register_expression(recipe: str, function: Callable[..., Any], constants: list[np.ndarray]) -> None:
    """Register ``function(x, *constants)``, for images with channels last."""

    @variant(recipe=recipe, runtime="cupy", writes="new", layouts="channels_last")
    def cupy_expression(example):
        import cupy

        dtype = result_dtype(first(example).dtype)
        arrays = [cupy.asarray(constant, dtype) for constant in constants]
        return lambda x: function(each(x, lambda array: array.astype(dtype, copy=False)), *arrays)


FORMULAS = {"caffe": caffe, "tf": tf, "torch": torch, "minmax": minmax, "resize_scale": resize_scale, "add": add}

for _recipe, _formula in FORMULAS.items():
    _register(_recipe, _formula)
