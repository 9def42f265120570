"""Ways from files to batches of 224×224 pixels: each a function that is given the files and the size of a batch.

It returns a function that begins an epoch: an iterator over batches of float32. What it takes to make it, tracing
among it, is a part of the time to the first batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from copycost.studies.pipelines.files import SIDE

Epoch = Callable[[], Iterator[Any]]


@dataclass(frozen=True)
class Way:
    """One way.

    Attributes
    ----------
    name : str
    runtime : {"numpy", "tensorflow"}
        What it needs.
    decoder : {"Pillow", "TensorFlow", "TensorFlow, accurate"}
    resize : one of `files.RESIZES`
    mode : one of `files.MODES`
    prepare : callable
    """

    name: str
    runtime: str
    decoder: str
    resize: str
    mode: str
    prepare: Callable[[Sequence[str], int], Epoch] = field(compare=False, repr=False)


WAYS: dict[str, Way] = {}


def _way(
    runtime: str, decoder: str, resize: str, mode: str = "tf"
) -> Callable[[Callable[[Sequence[str], int], Epoch]], Callable[[Sequence[str], int], Epoch]]:
    def register(prepare: Callable[[Sequence[str], int], Epoch]) -> Callable[[Sequence[str], int], Epoch]:
        name = prepare.__name__.replace("_", "-")
        WAYS[name] = Way(name, runtime, decoder, resize, mode, prepare)
        return prepare

    return register


# Loops in Python.


def _pillow(path: str) -> np.ndarray:
    """A file as 224×224 bytes."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


@_way("numpy", "Pillow", "antialias")
def loop(files: Sequence[str], batch: int) -> Epoch:
    """Pillow and NumPy, file by file: what the others are compared with."""

    def epoch() -> Iterator[np.ndarray]:
        for start in range(0, len(files), batch):
            pixels = np.stack([_pillow(path) for path in files[start : start + batch]]).astype(np.float32)
            pixels /= 127.5
            pixels -= 1
            yield pixels

    return epoch


def _keras_loop(module: str, files: Sequence[str], batch: int) -> Epoch:
    """load_img, img_to_array, expand_dims, preprocess_input."""
    import importlib

    from keras.utils import img_to_array, load_img

    preprocess_input = importlib.import_module(f"keras.applications.{module}").preprocess_input

    def one(path: str) -> np.ndarray:
        x = img_to_array(load_img(path, target_size=(SIDE, SIDE)))
        return preprocess_input(np.expand_dims(x, axis=0))

    def epoch() -> Iterator[np.ndarray]:
        for start in range(0, len(files), batch):
            yield np.concatenate([one(path) for path in files[start : start + batch]])

    return epoch


@_way("tensorflow", "Pillow", "nearest", "caffe")
def keras_vgg16(files: Sequence[str], batch: int) -> Epoch:
    """The documents' own, with VGG16's function."""
    return _keras_loop("vgg16", files, batch)


@_way("tensorflow", "Pillow", "nearest", "caffe")
def keras_resnet50(files: Sequence[str], batch: int) -> Epoch:
    """With ResNet50's."""
    return _keras_loop("resnet50", files, batch)


@_way("tensorflow", "Pillow", "nearest")
def keras_inception_v3(files: Sequence[str], batch: int) -> Epoch:
    """With InceptionV3's."""
    return _keras_loop("inception_v3", files, batch)


# tf.data, with TensorFlow's own operations.


def _decoded(path: Any) -> Any:
    import tensorflow as tf

    return tf.io.decode_jpeg(tf.io.read_file(path), channels=3)


def _resized(path: Any) -> Any:
    import tensorflow as tf

    return tf.image.resize(_decoded(path), (SIDE, SIDE))


def _scaled(pixels: Any) -> Any:
    return pixels / 127.5 - 1


def _whole(path: Any) -> Any:
    return _scaled(_resized(path))


def _shaped(pixels: Any) -> Any:
    """With the shape that a Python function does not tell."""
    pixels.set_shape((SIDE, SIDE, 3))
    return pixels


def _paths(files: Sequence[str]) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(list(files))


def _all() -> int:
    """As many at once as tf.data finds good."""
    import tensorflow as tf

    return tf.data.AUTOTUNE


def _parallel(files: Sequence[str], function: Callable[[Any], Any], batch: int) -> Epoch:
    """map on several files at once, batch, prefetch."""
    dataset = _paths(files).map(function, num_parallel_calls=_all()).batch(batch).prefetch(_all())
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_map(files: Sequence[str], batch: int) -> Epoch:
    """map, batch."""
    dataset = _paths(files).map(_whole).batch(batch)
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_map_prefetch(files: Sequence[str], batch: int) -> Epoch:
    """map, batch, prefetch."""
    dataset = _paths(files).map(_whole).batch(batch).prefetch(_all())
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_map_parallel(files: Sequence[str], batch: int) -> Epoch:
    """map on several files at once, batch."""
    dataset = _paths(files).map(_whole, num_parallel_calls=_all()).batch(batch)
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_map_parallel_prefetch(files: Sequence[str], batch: int) -> Epoch:
    """map on several files at once, batch, prefetch."""
    return _parallel(files, _whole, batch)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_batch_then_scale(files: Sequence[str], batch: int) -> Epoch:
    """The same, but what can be done to a whole batch at once is done after batch."""
    dataset = _paths(files).map(_resized, num_parallel_calls=_all()).batch(batch).map(_scaled).prefetch(_all())
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "antialias")
def tf_antialias(files: Sequence[str], batch: int) -> Epoch:
    """As tf-map-parallel-prefetch, with the resizing that Pillow has."""
    import tensorflow as tf

    def whole(path: Any) -> Any:
        return _scaled(tf.image.resize(_decoded(path), (SIDE, SIDE), antialias=True))

    return _parallel(files, whole, batch)


@_way("tensorflow", "TensorFlow, accurate", "bilinear")
def tf_accurate(files: Sequence[str], batch: int) -> Epoch:
    """As tf-map-parallel-prefetch, with the decoding that Pillow has."""
    import tensorflow as tf

    def whole(path: Any) -> Any:
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")
        return _scaled(tf.image.resize(pixels, (SIDE, SIDE)))

    return _parallel(files, whole, batch)


# tf.data, with Python inside.


def _py_function(path: Any) -> Any:
    import tensorflow as tf

    return _shaped(
        tf.py_function(lambda pixels: _scaled(tf.image.resize(pixels, (SIDE, SIDE))), [_decoded(path)], tf.float32)
    )


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_py_function(files: Sequence[str], batch: int) -> Epoch:
    """As tf-map, resized and scaled by a function of one's own in `tf.py_function`."""
    dataset = _paths(files).map(_py_function).batch(batch)
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_py_function_parallel(files: Sequence[str], batch: int) -> Epoch:
    """The same on several files at once, as far as Python lets it; prefetch."""
    return _parallel(files, _py_function, batch)


def _numpy_function(path: Any) -> Any:
    import tensorflow as tf

    def whole(path: bytes) -> np.ndarray:
        pixels = _pillow(path.decode()).astype(np.float32)
        pixels /= 127.5
        pixels -= 1
        return pixels

    return _shaped(tf.numpy_function(whole, [path], tf.float32))


@_way("tensorflow", "Pillow", "antialias")
def tf_numpy_function(files: Sequence[str], batch: int) -> Epoch:
    """The loop's body in `tf.numpy_function`."""
    dataset = _paths(files).map(_numpy_function).batch(batch)
    return lambda: iter(dataset)


@_way("tensorflow", "Pillow", "antialias")
def tf_numpy_function_parallel(files: Sequence[str], batch: int) -> Epoch:
    """The same on several files at once, as far as Python lets it; prefetch."""
    return _parallel(files, _numpy_function, batch)


# Keras' layers.


@_way("tensorflow", "TensorFlow", "bilinear")
def keras_layers_in_map(files: Sequence[str], batch: int) -> Epoch:
    """Resizing and Rescaling in the pipeline."""
    import keras

    layers = keras.Sequential([keras.layers.Resizing(SIDE, SIDE), keras.layers.Rescaling(1 / 127.5, offset=-1)])

    def whole(path: Any) -> Any:
        return layers(_decoded(path)[None])[0]

    return _parallel(files, whole, batch)


def _in_model(layer: Any, files: Sequence[str], batch: int) -> Epoch:
    """Resized in the pipeline, scaled by a layer of the model, which is called with each batch."""
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layer])
    call = tf.function(model)
    epoch = _parallel(files, _resized, batch)
    return lambda: map(call, epoch())


@_way("tensorflow", "TensorFlow", "bilinear")
def keras_rescaling_in_model(files: Sequence[str], batch: int) -> Epoch:
    """Rescaling as the model's first layer."""
    import keras

    return _in_model(keras.layers.Rescaling(1 / 127.5, offset=-1), files, batch)


@_way("tensorflow", "TensorFlow", "bilinear")
def keras_normalization_in_model(files: Sequence[str], batch: int) -> Epoch:
    """Normalization as the model's first layer."""
    import keras

    return _in_model(keras.layers.Normalization(mean=127.5, variance=127.5**2), files, batch)
