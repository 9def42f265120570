"""Define the pipelines from files to batches of 224×224 pixels.

Each pipeline is a function that takes the files and the batch size. It returns a function that starts an epoch and
returns an iterator over float32 batches. The time to build the pipeline, including tracing, is part of the time to the
first batch.
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
    """A pipeline.

    Attributes
    ----------
    name : str
    runtime : {"numpy", "tensorflow"}
        Runtime that the pipeline needs.
    decoder : {"Pillow", "TensorFlow", "TensorFlow, accurate"}
    resize : {"nearest", "bilinear", "antialias"}
        Method of resizing: see `files.reference`.
    mode : {"tf", "caffe"}
        Scaling: see `files.reference`.
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
    """Return a file's image as 224×224×3 uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


@_way("numpy", "Pillow", "antialias")
def loop(files: Sequence[str], batch: int) -> Epoch:
    """Process file by file with Pillow and NumPy; the baseline of the other pipelines."""

    def epoch() -> Iterator[np.ndarray]:
        for start in range(0, len(files), batch):
            pixels = np.stack([_pillow(path) for path in files[start : start + batch]]).astype(np.float32)
            pixels /= 127.5
            pixels -= 1
            yield pixels

    return epoch


def _keras_loop(module: str, files: Sequence[str], batch: int) -> Epoch:
    """Process file by file with load_img, img_to_array, expand_dims and preprocess_input."""
    import importlib

    from keras.utils import img_to_array, load_img

    preprocess_input = importlib.import_module(f"keras.applications.{module}").preprocess_input

    def image(path: str) -> np.ndarray:
        x = img_to_array(load_img(path, target_size=(SIDE, SIDE)))
        return preprocess_input(np.expand_dims(x, axis=0))

    def epoch() -> Iterator[np.ndarray]:
        for start in range(0, len(files), batch):
            yield np.concatenate([image(path) for path in files[start : start + batch]])

    return epoch


@_way("tensorflow", "Pillow", "nearest", "caffe")
def keras_vgg16(files: Sequence[str], batch: int) -> Epoch:
    """Use the documents' loop with VGG16's preprocess_input."""
    return _keras_loop("vgg16", files, batch)


@_way("tensorflow", "Pillow", "nearest", "caffe")
def keras_resnet50(files: Sequence[str], batch: int) -> Epoch:
    """Use the documents' loop with ResNet50's preprocess_input."""
    return _keras_loop("resnet50", files, batch)


@_way("tensorflow", "Pillow", "nearest")
def keras_inception_v3(files: Sequence[str], batch: int) -> Epoch:
    """Use the documents' loop with InceptionV3's preprocess_input."""
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
    """Set the static shape, which is unknown after a Python function."""
    pixels.set_shape((SIDE, SIDE, 3))
    return pixels


def _paths(files: Sequence[str]) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(list(files))


def _all() -> int:
    """Return the value that lets tf.data tune the parallelism."""
    import tensorflow as tf

    return tf.data.AUTOTUNE


def _parallel(files: Sequence[str], function: Callable[[Any], Any], batch: int) -> Epoch:
    """Chain a parallel map of `function`, batch and prefetch."""
    dataset = _paths(files).map(function, num_parallel_calls=_all()).batch(batch).prefetch(_all())
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_map(files: Sequence[str], batch: int) -> Epoch:
    """Chain map and batch."""
    dataset = _paths(files).map(_whole).batch(batch)
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_map_prefetch(files: Sequence[str], batch: int) -> Epoch:
    """Chain map, batch and prefetch."""
    dataset = _paths(files).map(_whole).batch(batch).prefetch(_all())
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_map_parallel(files: Sequence[str], batch: int) -> Epoch:
    """Chain a parallel map and batch."""
    dataset = _paths(files).map(_whole, num_parallel_calls=_all()).batch(batch)
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_map_parallel_prefetch(files: Sequence[str], batch: int) -> Epoch:
    """Chain a parallel map, batch and prefetch."""
    return _parallel(files, _whole, batch)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_batch_then_scale(files: Sequence[str], batch: int) -> Epoch:
    """Work like tf-map-parallel-prefetch, but scale whole batches after batch."""
    dataset = _paths(files).map(_resized, num_parallel_calls=_all()).batch(batch).map(_scaled).prefetch(_all())
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "antialias")
def tf_antialias(files: Sequence[str], batch: int) -> Epoch:
    """Work like tf-map-parallel-prefetch, but resize with antialiasing, like Pillow."""
    import tensorflow as tf

    def whole(path: Any) -> Any:
        return _scaled(tf.image.resize(_decoded(path), (SIDE, SIDE), antialias=True))

    return _parallel(files, whole, batch)


@_way("tensorflow", "TensorFlow, accurate", "bilinear")
def tf_accurate(files: Sequence[str], batch: int) -> Epoch:
    """Work like tf-map-parallel-prefetch, but decode with the accurate transform, like Pillow."""
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
    """Work like tf-map, but resize and scale in a custom function in `tf.py_function`."""
    dataset = _paths(files).map(_py_function).batch(batch)
    return lambda: iter(dataset)


@_way("tensorflow", "TensorFlow", "bilinear")
def tf_py_function_parallel(files: Sequence[str], batch: int) -> Epoch:
    """Work like tf-py-function, but map in parallel, as far as Python's GIL allows, and prefetch."""
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
    """Work like tf-map, but run the body of the loop pipeline in `tf.numpy_function`."""
    dataset = _paths(files).map(_numpy_function).batch(batch)
    return lambda: iter(dataset)


@_way("tensorflow", "Pillow", "antialias")
def tf_numpy_function_parallel(files: Sequence[str], batch: int) -> Epoch:
    """Work like tf-numpy-function, but map in parallel, as far as Python's GIL allows, and prefetch."""
    return _parallel(files, _numpy_function, batch)


# Keras' layers.


@_way("tensorflow", "TensorFlow", "bilinear")
def keras_layers_in_map(files: Sequence[str], batch: int) -> Epoch:
    """Apply the layers Resizing and Rescaling in the pipeline."""
    import keras

    layers = keras.Sequential([keras.layers.Resizing(SIDE, SIDE), keras.layers.Rescaling(1 / 127.5, offset=-1)])

    def whole(path: Any) -> Any:
        return layers(_decoded(path)[None])[0]

    return _parallel(files, whole, batch)


def _in_model(layer: Any, files: Sequence[str], batch: int) -> Epoch:
    """Resize in the pipeline, and scale by a layer of a model that is called with each batch."""
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layer])
    call = tf.function(model)
    epoch = _parallel(files, _resized, batch)
    return lambda: map(call, epoch())


@_way("tensorflow", "TensorFlow", "bilinear")
def keras_rescaling_in_model(files: Sequence[str], batch: int) -> Epoch:
    """Scale by Rescaling as the model's first layer."""
    import keras

    return _in_model(keras.layers.Rescaling(1 / 127.5, offset=-1), files, batch)


@_way("tensorflow", "TensorFlow", "bilinear")
def keras_normalization_in_model(files: Sequence[str], batch: int) -> Epoch:
    """Scale by Normalization as the model's first layer."""
    import keras

    return _in_model(keras.layers.Normalization(mean=127.5, variance=127.5**2), files, batch)
