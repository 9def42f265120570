"""Recipes that make their inputs: images of several sizes, JPEG files, and images with a seed. One has a parameter.

copycost run --with docs/examples/inputs.py --recipe 'own-*' --batch 4 --dtype uint8 --dtype float32
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from copycost import recipe, variant


def of_several_sizes(images, random):
    """Crop each image to another size."""
    return tuple(image[8 * (i % 4) :, 4 * (i % 4) :] for i, image in enumerate(images))


@recipe(name="own-sizes", inputs=of_several_sizes)
def own_sizes(images):
    return tuple(image / 127.5 - 1 for image in images)


@variant(recipe="own-sizes", runtime="numpy", writes="new")
def one_by_one(example):
    scale = np.float32(1 / 127.5) if example[0].dtype == np.uint8 else example[0].dtype.type(1 / 127.5)
    return lambda images: [image * scale - scale.dtype.type(1) for image in images]


def jpeg_files(images, random):
    """Encode each image as a file."""
    files = [io.BytesIO() for _ in images]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image).save(file, "jpeg", quality=90)
    return tuple(np.frombuffer(file.getvalue(), np.uint8) for file in files)


@recipe(name="own-jpeg", inputs=jpeg_files, tolerance=3)  # decoders may round in their own way
def own_jpeg(files):
    return tuple(np.asarray(Image.open(io.BytesIO(file.tobytes()))) for file in files)


@variant(recipe="own-jpeg", runtime="numpy", writes="new", accepts="uint8")
def opencv(example):
    return lambda files: [cv2.imdecode(file, cv2.IMREAD_COLOR_RGB) for file in files]


@variant(recipe="own-jpeg", runtime="numpy", writes="new", accepts="uint8")
def pillow(example):
    return lambda files: [np.asarray(Image.open(io.BytesIO(file))) for file in files]


def with_seed(images, random):
    return images, random.integers(2**31, size=1)


@recipe(name="own-flip", inputs=with_seed)
def own_flip(x):
    images, seed = x
    mirrored = np.random.default_rng(seed).random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


@variant(recipe="own-flip", runtime="numpy", writes="new", accepts=("float32", "float64"))
def mirror_some(example):
    def call(x):
        result = x[0].copy()
        mirrored = np.random.default_rng(x[1]).random(len(result)) < 0.5
        result[mirrored] = result[mirrored, :, ::-1]
        return result

    return call


@recipe(name="own-pool", parameters={"by": (2, 4)})
def own_pool(x, by):
    *batch, height, width, channels = x.shape
    return x.reshape(*batch, height // by, by, width // by, by, channels).mean((-4, -2))


@variant(recipe="own-pool", runtime="numpy", writes="new", accepts="float32", layouts="channels_last")
def strided_sum(example, by):
    def call(x):
        return sum(x[..., i::by, j::by, :] for i in range(by) for j in range(by)) / np.float32(by * by)

    return call
