"""Define the shipped recipes: each recipe's float64 reference, written from its formula.

A reference receives channels-last images with values 0 to 255, whatever the layout of the case: the engine
transposes. The first three recipes have the names and the constants of the three modes of
``keras.applications.imagenet_utils.preprocess_input`` (Keras 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from copycost.registry import recipe

#: Mean blue, green and red of the ImageNet training images, 0 to 255; first published with the VGG models
#: (Simonyan and Zisserman, 2014) for Caffe, which reads images as BGR.
CAFFE_MEAN = (103.939, 116.779, 123.68)

#: Mean and standard deviation of red, green and blue of the ImageNet training images, scaled to 0 … 1, as
#: torchvision's models expect them.
TORCH_MEAN = (0.485, 0.456, 0.406)
TORCH_STD = (0.229, 0.224, 0.225)


@recipe("caffe")
def caffe(x: np.ndarray) -> np.ndarray:
    """Reverse RGB to BGR, then subtract the mean of each channel: −123.68 … 151.061."""
    return x[..., ::-1] - np.array(CAFFE_MEAN)


@recipe("tf")
def tf(x: np.ndarray) -> np.ndarray:
    """Scale to −1 … 1; the quotient reaches 2."""
    return x / 127.5 - 1.0


@recipe("torch")
def torch(x: np.ndarray) -> np.ndarray:
    """Scale to 0 … 1, subtract the mean, divide by the standard deviation; the maximum is 2.64, for white in blue."""
    return (x / 255.0 - np.array(TORCH_MEAN)) / np.array(TORCH_STD)


@recipe("minmax")
def minmax(x: np.ndarray) -> np.ndarray:
    """Scale to 0 … 1 from the smallest to the largest value of the whole batch; 0 if all are equal."""
    low, high = x.min(), x.max()
    return (x - low) / (high - low if high > low else 1.0)


@recipe("resize_scale", dtype="float32")
def resize_scale(x: np.ndarray) -> np.ndarray:
    """Resize to 256×256 bilinearly like ``tf.image.resize``, without antialiasing; then scale to −1 … 1."""
    above, below, down = bilinear(x.shape[-3])
    left, right, along = bilinear(x.shape[-2])
    down, along = down[:, None, None], along[:, None]
    top, bottom = x[..., above, :, :], x[..., below, :, :]
    rows = top + (bottom - top) * down
    start, end = rows[..., left, :], rows[..., right, :]
    return (start + (end - start) * along) / 127.5 - 1.0


@recipe("add", inputs=2)
def add(x: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Add two batches: 0 … 510."""
    a, b = x
    return a + b


#: Height and width of the result of `resize_scale`.
RESIZED = 256

#: Recipes that are one multiplication and one addition for each channel: factors and summands by channel of the result,
#: and whether the channels are reversed.
AFFINE = {
    "caffe": ((1.0,) * 3, tuple(-m for m in CAFFE_MEAN), True),
    "tf": ((1 / 127.5,) * 3, (-1.0,) * 3, False),
    "torch": (
        tuple(1 / (255 * s) for s in TORCH_STD),
        tuple(-m / s for m, s in zip(TORCH_MEAN, TORCH_STD, strict=True)),
        False,
    ),
}


def bilinear(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return neighbours and weights to interpolate 256 pixels from an axis of `length`, with half-pixel centres.

    Pixel i is at (i + 0.5) · length / 256 − 0.5, clipped to the first and the last pixel of the axis.

    Returns
    -------
    lower, upper : ndarray of intp, shape (256,)
        Indices of the neighbours.
    fraction : ndarray of float64, shape (256,)
        Position between `lower` and `upper`, 0 … 1.
    """
    positions = np.clip((np.arange(RESIZED) + 0.5) * (length / RESIZED) - 0.5, 0, length - 1)
    lower = np.floor(positions).astype(np.intp)
    return lower, np.minimum(lower + 1, length - 1), positions - lower


def result_dtype(input_dtype: np.dtype | str) -> np.dtype:
    """Return the dtype that a result must have: float32 for integers, while floats keep their dtype."""
    dtype = np.dtype(input_dtype)
    return dtype if dtype.kind == "f" else np.dtype("float32")


def per_channel(values: tuple[float, ...], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return `values`, one per channel, as an array that broadcasts over images of `shape`.

    Channels are the last axis, or the third from the end if the last is not as long as `values`.
    """
    array = np.array(values, dtype)
    return array if shape[-1] == len(values) else array[:, None, None]


def channels_reversed(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the index that turns RGB images of `shape`, in either layout, into BGR."""
    back = slice(None, None, -1)
    whole = slice(None)
    return (..., back) if shape[-1] == 3 else (..., back, whole, whole)  # type: ignore[return-value]


def first(x: Any) -> Any:
    """Return the first input of a pair, or the only input."""
    return x[0] if isinstance(x, tuple) else x


def each(x: Any, function: Callable[[Any], Any]) -> Any:
    """Apply `function` to the only input, or to both inputs of a pair."""
    return tuple(map(function, x)) if isinstance(x, tuple) else function(x)
