"""Define the TensorFlow variants: eager, `tf.function` and XLA, each also into a `tf.Variable`, TensorFlow's `out=`."""

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

# A formula takes an example and returns a function of a tensor. A cast to the dtype that a tensor already has adds no
# operation.


def tf(example: Any) -> Callable[[Any], Any]:
    """Return a function for x / 127.5 − 1."""
    import tensorflow as tf

    dtype = tf.as_dtype(result_dtype(example.dtype.as_numpy_dtype))
    return lambda x: tf.cast(x, dtype) / 127.5 - 1.0


def caffe(example: Any) -> Callable[[Any], Any]:
    """Return a function that reverses the channels and subtracts the mean."""
    import tensorflow as tf

    dtype = result_dtype(example.dtype.as_numpy_dtype)
    mean = tf.constant(per_channel(CAFFE_MEAN, tuple(example.shape), dtype))
    bgr = channels_reversed(tuple(example.shape))
    return lambda x: tf.cast(x[bgr], mean.dtype) - mean


def torch(example: Any) -> Callable[[Any], Any]:
    """Return a function for (x / 255 − mean) / standard deviation."""
    import tensorflow as tf

    dtype = result_dtype(example.dtype.as_numpy_dtype)
    mean = tf.constant(per_channel(TORCH_MEAN, tuple(example.shape), dtype))
    std = tf.constant(per_channel(TORCH_STD, tuple(example.shape), dtype))
    return lambda x: (tf.cast(x, mean.dtype) / 255.0 - mean) / std


def minmax(example: Any) -> Callable[[Any], Any]:
    """Return a function for (x − smallest) / (largest − smallest), or 0 if they are equal."""
    import tensorflow as tf

    dtype = tf.as_dtype(result_dtype(example.dtype.as_numpy_dtype))

    def call(x):
        y = tf.cast(x, dtype)
        low = tf.reduce_min(y)
        return tf.math.divide_no_nan(y - low, tf.reduce_max(y) - low)

    return call


def resize_scale(example: Any) -> Callable[[Any], Any]:
    """Return a function that resizes to 256×256 (bilinear) and computes x / 127.5 − 1.

    `tf.image.resize` returns float32 and requires channels last.
    """
    import tensorflow as tf

    size = (RESIZED, RESIZED)
    if example.shape[-1] == 3:
        return lambda x: tf.image.resize(x, size) / 127.5 - 1.0
    n = len(example.shape) - 3
    batch = range(n)
    to_last, to_first = [*batch, n + 1, n + 2, n], [*batch, n + 2, n, n + 1]
    return lambda x: tf.transpose(tf.image.resize(tf.transpose(x, to_last), size), to_first) / 127.5 - 1.0


def add(example: Any) -> Callable[[Any], Any]:
    """Return a function for a + b."""
    import tensorflow as tf

    dtype = tf.as_dtype(result_dtype(example[0].dtype.as_numpy_dtype))
    return lambda x: tf.cast(x[0], dtype) + tf.cast(x[1], dtype)


def _register(recipe: str, formula: Callable[[Any], Callable[[Any], Any]], layouts: tuple[str, ...] = LAYOUTS) -> None:
    @variant(recipe=recipe, runtime="tensorflow", writes="new", layouts=layouts)
    def tf_eager(example):
        return formula(example)

    @variant(recipe=recipe, runtime="tensorflow", writes="new", layouts=layouts)
    def tf_graph(example):
        import tensorflow as tf

        return tf.function(formula(example))

    @variant(recipe=recipe, runtime="tensorflow", writes="new", layouts=layouts)
    def tf_xla(example):
        import tensorflow as tf

        return tf.function(formula(example), jit_compile=True)

    # The result of the following variants is the variable. Returning its value from the same function would allocate it
    # again.

    def into_variable(example):
        value = formula(example)

        def call(x, out):
            out.assign(value(x))

        return call

    @variant(recipe=recipe, runtime="tensorflow", writes="out", layouts=layouts)
    def tf_variable_eager(example):
        return into_variable(example)

    @variant(recipe=recipe, runtime="tensorflow", writes="out", layouts=layouts)
    def tf_variable_graph(example):
        import tensorflow as tf

        return tf.function(into_variable(example))

    @variant(recipe=recipe, runtime="tensorflow", writes="out", layouts=layouts)
    def tf_variable_xla(example):
        import tensorflow as tf

        return tf.function(into_variable(example), jit_compile=True)

    @variant(recipe=recipe, runtime="tensorflow", writes="input", layouts=layouts)
    def tf_variable_inplace(example):
        import tensorflow as tf

        value = formula(example)

        def call(x):
            first(x).assign(value(x))

        return tf.function(call, jit_compile=True)


def register_expression(recipe: str, function: Callable[..., Any], constants: list[np.ndarray]) -> None:
    """Register all variants of ``function(x, *constants)``, for images with channels last."""

    def formula(example):
        import tensorflow as tf

        dtype = tf.as_dtype(result_dtype(first(example).dtype.as_numpy_dtype))
        tensors = [tf.constant(constant, dtype) for constant in constants]
        return lambda x: function(each(x, lambda tensor: tf.cast(tensor, dtype)), *tensors)

    _register(recipe, formula, ("channels_last",))


for _recipe, _formula in {
    "caffe": caffe, "tf": tf, "torch": torch, "minmax": minmax, "resize_scale": resize_scale, "add": add,
}.items():  # fmt: skip
    _register(_recipe, _formula)
