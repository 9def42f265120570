"""Define the JAX variants: operation by operation, by `jax.jit`, and with donated input memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from copycost.recipes import (
    CAFFE_MEAN,
    RESIZED,
    TORCH_MEAN,
    TORCH_STD,
    channels_reversed,
    each,
    first,
    per_channel,
    result_dtype,
)
from copycost.registry import LAYOUTS, variant

# A formula takes an example and returns a function of an array. Constants are NumPy arrays of the result's dtype.


def tf(example: Any) -> Callable[..., Any]:
    """Return a function for x / 127.5 − 1."""
    dtype = result_dtype(example.dtype)
    return lambda x: x.astype(dtype) / 127.5 - 1.0


def caffe(example: Any) -> Callable[..., Any]:
    """Return a function that reverses the channels and subtracts the mean."""
    mean = per_channel(CAFFE_MEAN, example.shape, result_dtype(example.dtype))
    bgr = channels_reversed(example.shape)
    return lambda x: x[bgr].astype(mean.dtype) - mean


def torch(example: Any) -> Callable[..., Any]:
    """Return a function for (x / 255 − mean) / standard deviation."""
    dtype = result_dtype(example.dtype)
    mean, std = (per_channel(values, example.shape, dtype) for values in (TORCH_MEAN, TORCH_STD))
    return lambda x: (x.astype(dtype) / 255.0 - mean) / std


def minmax(example: Any) -> Callable[..., Any]:
    """Return a function for (x − smallest) / (largest − smallest), or 0 if they are equal."""
    import jax.numpy as jnp

    dtype = result_dtype(example.dtype)

    def call(x):
        y = x.astype(dtype)
        low = y.min()
        span = y.max() - low
        return (y - low) / jnp.where(span == 0, 1, span)

    return call


def resize_scale(example: Any) -> Callable[..., Any]:
    """Return a function that resizes to 256×256 (bilinear) and computes x / 127.5 − 1."""
    import jax

    image = (RESIZED, RESIZED, 3) if example.shape[-1] == 3 else (3, RESIZED, RESIZED)
    shape = (*example.shape[:-3], *image)

    def call(x):
        pixels = jax.image.resize(x.astype(np.float32), shape, "bilinear", antialias=False)
        return pixels / 127.5 - 1.0

    return call


def add(example: Any) -> Callable[..., Any]:
    """Return a function for a + b."""
    dtype = result_dtype(example[0].dtype)
    return lambda x: x[0].astype(dtype) + x[1].astype(dtype)


def _register(recipe: str, formula: Callable[[Any], Callable[..., Any]], layouts: tuple[str, ...] = LAYOUTS) -> None:
    @variant(recipe=recipe, runtime="jax", writes="new", layouts=layouts)
    def jax_eager(example):
        return formula(example)

    @variant(recipe=recipe, runtime="jax", writes="new", layouts=layouts)
    def jax_jit(example):
        import jax

        return jax.jit(formula(example))

    @variant(recipe=recipe, runtime="jax", writes="input", layouts=layouts)
    def jax_donated(example):
        """Donate the input's memory to the result; the input can no longer be read."""
        import jax

        value = formula(example)
        if not isinstance(example, tuple):
            return jax.jit(value, donate_argnums=0)
        call = jax.jit(lambda a, b: value((a, b)), donate_argnums=0)  # donates the first array of the pair
        return lambda x: call(*x)


def register_expression(recipe: str, function: Callable[..., Any], constants: list[np.ndarray]) -> None:
    """Register all variants of ``function(x, *constants)``, for images with channels last."""

    def formula(example):
        dtype = result_dtype(first(example).dtype)
        arrays = [constant.astype(dtype) for constant in constants]
        return lambda x: function(each(x, lambda array: array.astype(dtype)), *arrays)

    _register(recipe, formula, ("channels_last",))


for _recipe, _formula in {
    "caffe": caffe, "tf": tf, "torch": torch, "minmax": minmax, "resize_scale": resize_scale, "add": add,
}.items():  # fmt: skip
    _register(_recipe, _formula)
