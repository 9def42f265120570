"""JPEG files to read, and what a pipeline must make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from copycost.cases import images
from copycost.cases.images import Photographs
from copycost.recipes import CAFFE_MEAN

#: Height and width of a file's image, about the mean of ImageNet's; and how well it is kept.
_HEIGHT, _WIDTH, _QUALITY = 375, 500, 90

#: Height and width of what a pipeline gives.
SIDE = 224

#: How a pipeline may resize: `nearest` as Keras' `load_img` does it unless it is told otherwise, `bilinear` between the
#: nearest four as `tf.image.resize` does it, `antialias` over all pixels that one of the result covers, as Pillow does.
RESIZES = ("nearest", "bilinear", "antialias")

#: What comes of 0 … 255: −1 … 1, or channels reversed and the mean subtracted.
MODES = ("tf", "caffe")


def write(folder: Path, photographs: Photographs, number: int) -> tuple[str, ...]:
    """Write crops of photographs as JPEG files, and give their paths."""
    paths = []
    for i in range(number):
        pixels = images.batch(photographs, (None, _HEIGHT, _WIDTH), "uint8", "channels_last", seed=i)
        path = folder / f"{i:05}.jpg"
        Image.fromarray(pixels).save(path, quality=_QUALITY)
        paths.append(str(path))
    return tuple(paths)


def reference(path: str, resize: str, mode: str) -> np.ndarray:
    """What a file must become, in float64, if it is decoded as Pillow does.

    Parameters
    ----------
    path : str
    resize : one of `RESIZES`
    mode : one of `MODES`

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
    """What each pixel of an axis of `length` adds to each of 224: a triangle around its centre, or the nearest alone.

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
