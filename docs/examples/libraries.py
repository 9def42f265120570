"""Functions of image libraries, measured as variants. Each is as its documentation has it.

    copycost run --with docs/examples/libraries.py --recipe 'lib-*' --batch none --blocks 0 \
        --layout channels_last --layout channels_first

needs the extra `libraries`. A function whose library is not installed fails with the name of the library.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from copycost import recipe, variant

MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
GRAY = np.array((0.299, 0.587, 0.114))

integers = partial(variant, runtime="numpy", writes="new", accepts="uint8", layouts="channels_last")
tensors = partial(variant, runtime="torch", writes="new", layouts="channels_first")
flow = partial(variant, runtime="tensorflow", writes="new", layouts="channels_last")


@recipe("lib-flip")
def flip(x):
    """Mirror left and right."""
    return x[..., ::-1, :].astype(np.uint8)


@recipe("lib-float", dtype="float32")
def to_float(x):
    """Scale 0 … 255 to 0 … 1."""
    return x / 255


@recipe("lib-float64", dtype="float64")
def to_float64(x):
    """Scale to 0 … 1 in float64, as scikit-image does by default."""
    return x / 255


@recipe("lib-normalize", dtype="float32")
def normalize(x):
    """Scale to 0 … 1, subtract the mean and divide by the standard deviation of ImageNet."""
    return (x / 255 - MEAN) / STD


@recipe("lib-gray", tolerance=1)
def gray(x):
    """Luma of Rec. 601, which the libraries round in their own ways."""
    return np.rint(x @ GRAY).astype(np.uint8)


@recipe("lib-half", tolerance=1)
def half(x):
    """Mean of each 2×2 pixels."""
    rows = x[..., 0::2, :, :] + x[..., 1::2, :, :]
    return np.rint((rows[..., 0::2, :] + rows[..., 1::2, :]) / 4).astype(np.uint8)


@recipe("lib-planes")
def planes(x):
    """Channels first, contiguous."""
    return np.moveaxis(x, -1, -3).astype(np.uint8)


@recipe("lib-luma")
def luma(x):
    """Luma of Rec. 601, in floats."""
    return x @ GRAY


# OpenCV


@integers(recipe="lib-flip")
def cv2_flip(example):
    import cv2

    return lambda x: cv2.flip(x, 1)


@integers(recipe="lib-gray")
def cv2_gray(example):
    import cv2

    return lambda x: cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)


@integers(recipe="lib-half")
def cv2_area(example):
    import cv2

    return lambda x: cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


@integers(recipe="lib-float")
def cv2_divide(example):
    import cv2

    return lambda x: cv2.divide(x, (255.0,) * 4, dtype=cv2.CV_32F)


# Pillow


@integers(recipe="lib-flip")
def pillow_mirror(example):
    from PIL import Image, ImageOps

    return lambda x: np.asarray(ImageOps.mirror(Image.fromarray(x)))


@integers(recipe="lib-gray")
def pillow_gray(example):
    from PIL import Image

    return lambda x: np.asarray(Image.fromarray(x).convert("L"))


@integers(recipe="lib-half")
def pillow_reduce(example):
    from PIL import Image

    return lambda x: np.asarray(Image.fromarray(x).reduce(2))


# scikit-image


@integers(recipe="lib-float64")
def skimage_float(example):
    from skimage.util import img_as_float

    return img_as_float


@integers(recipe="lib-float")
def skimage_float32(example):
    from skimage.util import img_as_float32

    return img_as_float32


@integers(recipe="lib-float64")
def skimage_rescale(example):
    from skimage.exposure import rescale_intensity

    return lambda x: rescale_intensity(x, in_range=(0, 255), out_range=(0.0, 1.0))


# albumentations


@integers(recipe="lib-flip")
def albumentations_flip(example):
    from albumentations import HorizontalFlip

    transform = HorizontalFlip(p=1)
    return lambda x: transform(image=x)["image"]


@integers(recipe="lib-float")
def albumentations_float(example):
    from albumentations import ToFloat

    transform = ToFloat(max_value=255, p=1)
    return lambda x: transform(image=x)["image"]


@integers(recipe="lib-normalize")
def albumentations_normalize(example):
    from albumentations import Normalize

    transform = Normalize(p=1)
    return lambda x: transform(image=x)["image"]


# einops


@integers(recipe="lib-planes")
def einops_rearrange(example):
    from einops import rearrange

    return lambda x: np.ascontiguousarray(rearrange(x, "h w c -> c h w"))


# kornia


@tensors(recipe="lib-normalize", accepts="float32")
def kornia_normalize(example):
    import torch
    from kornia.enhance import normalize

    mean, std = (torch.tensor(255 * values, dtype=torch.float32) for values in (MEAN, STD))
    return lambda x: normalize(x[None], mean, std)[0]


@tensors(recipe="lib-flip", accepts="uint8")
def kornia_flip(example):
    from kornia.geometry.transform import hflip

    return hflip


@tensors(recipe="lib-float", accepts="uint8")
def kornia_float(example):
    import torch
    from kornia.enhance import normalize

    mean, std = torch.zeros(3), torch.full((3,), 255.0)
    return lambda x: normalize(x.float()[None], mean, std)[0]


@tensors(recipe="lib-luma", accepts="float32")
def kornia_gray(example):
    from kornia.color import rgb_to_grayscale

    return lambda x: rgb_to_grayscale(x[None])[0, 0]


# tf.image and Keras


@flow(recipe="lib-flip", accepts="uint8")
def tf_image_flip(example):
    import tensorflow as tf

    return tf.image.flip_left_right


@flow(recipe="lib-float", accepts="uint8")
def tf_image_float(example):
    import tensorflow as tf

    return lambda x: tf.image.convert_image_dtype(x, tf.float32)


@flow(recipe="lib-float", accepts="uint8")
def keras_rescaling(example):
    from keras.layers import Rescaling

    return Rescaling(1 / 255)


@flow(recipe="lib-normalize", accepts="float32")
def keras_normalization(example):
    from keras.layers import Normalization

    return Normalization(mean=255 * MEAN, variance=(255 * STD) ** 2)
