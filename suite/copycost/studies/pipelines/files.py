"""Write JPEG files, and compute the reference result of a pipeline that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from copycost.cases import images
from copycost.cases.images import Photographs
from copycost.model.vocabulary import Layout
from copycost.recipes import CAFFE_MEAN

#: Height and width of a file's image, close to the mean of ImageNet's, and its JPEG quality.
_HEIGHT, _WIDTH, _QUALITY = 375, 500, 90

#: Height and width of the images that a pipeline returns.
SIDE = 224


def write(folder: Path, photographs: Photographs, number: int) -> tuple[str, ...]:
    """Write crops of photographs as JPEG files and return their paths."""
    paths = []
    for i in range(number):
        pixels = images.batch(photographs, (None, _HEIGHT, _WIDTH), "uint8", Layout.CHANNELS_LAST, seed=i)
        path = folder / f"{i:05}.jpg"
        Image.fromarray(pixels).save(path, quality=_QUALITY)
        paths.append(str(path))
    return tuple(paths)


def reference(path: str, resize: str, mode: str) -> np.ndarray:
    """Return the expected result for a file in float64, if it is decoded like Pillow does.

    Parameters
    ----------
    path : str
    resize : {"nearest", "bilinear", "antialias"}
        ``"nearest"`` is the default of Keras' `load_img`. ``"bilinear"`` interpolates between the nearest four pixels,
        as `tf.image.resize` does. ``"antialias"`` averages over all pixels that a result pixel covers, as Pillow does.
    mode : {"tf", "caffe"}
        Scaling of 0 … 255: ``"tf"`` maps to −1 … 1; ``"caffe"`` reverses the channels and subtracts the mean.

    Returns
    -------
    ndarray of float64, shape (224, 224, 3)
    """
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.float64)
    down, along = (weights(length, resize) for length in pixels.shape[:2])
    resized = np.einsum("ih,hwc,jw->ijc", down, pixels, along, optimize=True)
    return resized / 127.5 - 1 if mode == "tf" else resized[..., ::-1] - np.array(CAFFE_MEAN)


def weights(length: int, resize: str) -> np.ndarray:
    """Return the weights of the `length` pixels along an axis for each of the 224 result pixels.

    Each result pixel weights its neighbours by a triangle around its centre, or takes the nearest pixel only.

    Returns
    -------
    ndarray of float64, shape (224, length)
        Every row adds up to 1.
    """
    step = length / SIDE
    centre = (np.arange(SIDE)[:, None] + 0.5) * step
    if resize == "nearest":
        return (np.arange(length) == np.floor(centre)).astype(np.float64)
    reach = max(1.0, step) if resize == "antialias" else 1.0
    triangle = np.maximum(0, 1 - np.abs(np.arange(length) + 0.5 - centre) / reach)
    return triangle / triangle.sum(axis=1, keepdims=True)
