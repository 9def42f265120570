"""Define variants for computations of the documents that the other files do not cover.

They are written as people write them, not for speed.
"""

from __future__ import annotations

import numpy as np

from copycost.recipes import RESIZED, each, result_dtype
from copycost.registry import recipe, variant

_FLOATS = ("float16", "float32", "float64")


@recipe("scale")
def scale(x: np.ndarray) -> np.ndarray:
    """Scale to 0 … 1."""
    return x / 255.0


@recipe("unchanged")
def unchanged(x: np.ndarray) -> np.ndarray:
    """Return the input unchanged, for models that scale their input in a layer."""
    return x


@variant(recipe="scale", runtime="numpy", writes="new", accepts=_FLOATS)
def divide_new(example):
    """Divide like preprocess(image, inplace=False), which converts uint8 to float64."""
    return lambda x: x / 255.0


@variant(recipe="scale", runtime="numpy", writes="input")
def divide_slice(example):
    """Divide like preprocess(image, inplace=True), which computes a new array and copies it into the input."""

    def call(x):
        x[:] = x / 255.0
        return x

    return call


@variant(recipe="scale", runtime="numpy", writes="out")
def divide_out(example):
    """Divide into `out` without a new array."""
    divisor = result_dtype(example.dtype).type(255)
    return lambda x, out: np.divide(x, divisor, out=out)


@variant(recipe="scale", runtime="tensorflow", writes="new", accepts=("uint8", "float32"))
def keras_rescaling(example):
    """Call the layer Rescaling with a batch."""
    import keras

    return keras.layers.Rescaling(1 / 255.0)


@variant(recipe="unchanged", runtime="keras", writes="new", accepts=_FLOATS)
def keras_numpy(example):
    """Call the preprocess_input of models whose first layer scales, with an array."""
    from keras.applications.efficientnet import preprocess_input

    return preprocess_input


@variant(recipe="unchanged", runtime="tensorflow", writes="new", accepts=_FLOATS)
def keras_tensor(example):
    """Call the preprocess_input of models whose first layer scales, with a tensor."""
    from keras.applications.efficientnet import preprocess_input

    return preprocess_input


@variant(
    recipe="resize_scale", runtime="tensorflow", writes="new", accepts=("uint8", "float32"), layouts="channels_last"
)
def keras_layers(example):
    """Call a model of the layers that replace a custom function."""
    import keras

    model = keras.Sequential([keras.layers.Resizing(RESIZED, RESIZED), keras.layers.Rescaling(1 / 127.5, offset=-1)])
    if len(example.shape) == 4:
        return model
    return lambda x: model(x[None])[0]


@variant(recipe="minmax", runtime="tensorflow", writes="new", devices="cpu")
def numpy_on_tensor(example):
    """Call NumPy's functions with a tensor."""
    import tensorflow as tf

    dtype = tf.as_dtype(result_dtype(example.dtype.as_numpy_dtype))

    def call(x):
        tensor = tf.cast(x, dtype)
        low, high = np.min(tensor), np.max(tensor)
        return tf.math.divide_no_nan(tensor - low, high - low)

    return call


@variant(recipe="minmax", runtime="tensorflow", writes="new", devices="cpu")
def tf_on_array(example):
    """Call TensorFlow's functions with an array that shares the tensor's memory."""
    import tensorflow as tf

    dtype = tf.as_dtype(result_dtype(example.dtype.as_numpy_dtype))

    def call(x):
        array = np.asarray(memoryview(x))
        low, high = tf.reduce_min(array), tf.reduce_max(array)
        difference = tf.cast(tf.subtract(array, low), dtype)
        return tf.math.divide_no_nan(difference, tf.cast(high - low, dtype))

    return call


def _widened(pair):
    """Cast both tensors of a pair to the result's dtype."""
    import tensorflow as tf

    dtype = tf.as_dtype(result_dtype(pair[0].dtype.as_numpy_dtype))
    return each(pair, lambda tensor: tf.cast(tensor, dtype))


def _session(example, assign):
    import tensorflow as tf

    with tf.Graph().as_default():
        placeholders = each(example, lambda tensor: tf.compat.v1.placeholder(tensor.dtype, tensor.shape))
        a, b = _widened(placeholders)
        result = tf.add(a, b)
        session = tf.compat.v1.Session()
        if assign:
            c = tf.compat.v1.get_variable("c", initializer=tf.zeros(a.shape, a.dtype), use_resource=True)
            session.run(c.initializer)
            result = tf.compat.v1.assign(c, result)

    def call(x):
        arrays = [np.asarray(memoryview(tensor)) for tensor in x]
        return session.run(result, dict(zip(placeholders, arrays, strict=True)))

    return call


@variant(recipe="add", runtime="tensorflow", writes="new", devices="cpu")
def tf_session(example):
    """Run tf.add in a TensorFlow 1 graph by a session, which takes arrays and returns an array."""
    return _session(example, assign=False)


@variant(recipe="add", runtime="tensorflow", writes="new", devices="cpu")
def tf_session_assign(example):
    """Run tf.add by a session like tf-session, and assign the result to a variable of the session."""
    return _session(example, assign=True)


@variant(recipe="add", runtime="tensorflow", writes="input", accepts=_FLOATS)
def tf_assign_add(example):
    """Compute a += b on a variable."""

    def call(x):
        x[0].assign_add(x[1])

    return call


@variant(recipe="add", runtime="tensorflow", writes="input", accepts=_FLOATS)
def tf_assign_add_read(example):
    """Compute a += b on a variable while a reader holds its old value."""

    def call(x):
        old_value = x[0].read_value()
        x[0].assign_add(x[1])
        del old_value

    return call


@variant(recipe="add", runtime="tensorflow", writes="input", accepts=_FLOATS)
def tf_assign_sub(example):
    """Compute a −= −b on a variable."""

    def call(x):
        x[0].assign_sub(-x[1])

    return call


@variant(recipe="add", runtime="tensorflow", writes="new")
def tf_while_loop(example):
    """Add image by image, and stack the results at the end."""
    import tensorflow as tf

    number = len(example[0])

    @tf.function
    def call(x):
        dtype = _widened((x[0][0], x[1][0]))[0].dtype

        def body(i, results):
            a, b = _widened((x[0][i], x[1][i]))
            return i + 1, results.write(i, a + b)

        results = tf.TensorArray(dtype, number, element_shape=x[0].shape[1:])
        return tf.while_loop(lambda i, _: i < number, body, (0, results), maximum_iterations=number)[1].stack()

    return call


def _into_variable(example, write):
    import tensorflow as tf

    number = len(example[0])

    @tf.function
    def call(x, out):
        def body(i):
            a, b = _widened((x[0][i], x[1][i]))
            write(out, i, a + b)
            return (i + 1,)

        tf.while_loop(lambda i: i < number, body, (0,), maximum_iterations=number)

    return call


@variant(recipe="add", runtime="tensorflow", writes="out")
def tf_while_loop_slice(example):
    """Add image by image, and assign each result to a slice of a variable, which reads the whole variable."""
    return _into_variable(example, lambda out, i, value: out[i].assign(value))


@variant(recipe="add", runtime="tensorflow", writes="out")
def tf_while_loop_scatter(example):
    """Add image by image, and write each result to its position in a variable."""
    import tensorflow as tf

    return _into_variable(example, lambda out, i, value: out.scatter_update(tf.IndexedSlices(value, i)))


@variant(recipe="add", runtime="tensorflow", writes="new", devices="cpu")
def tf_custom_op(example):
    """Run a custom operation in a graph; it overwrites an operand that has no other reference."""
    import tensorflow as tf

    from copycost.variants import native

    operation = tf.load_op_library(str(native.library())).copycost_add
    return tf.function(lambda x: operation(*_widened(x)))
