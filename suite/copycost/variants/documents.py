"""What the documents compute and nothing else here did: each a variant, measured like the rest.

Written as people write them, and not as one would to be fast.
"""

from __future__ import annotations

import numpy as np

from copycost.recipes import RESIZED, each, result_dtype
from copycost.registry import recipe, variant

_FLOATS = ("float16", "float32", "float64")


@recipe("scale")
def scale(x: np.ndarray) -> np.ndarray:
    """Scaled to 0 … 1."""
    return x / 255.0


@recipe("unchanged")
def unchanged(x: np.ndarray) -> np.ndarray:
    """As it is: what the models want that scale their input themselves."""
    return x


@variant(recipe="scale", runtime="numpy", writes="new", accepts=_FLOATS)
def divide_new(example):
    """preprocess(image, inplace=False). Of bytes it makes float64."""
    return lambda x: x / 255.0


@variant(recipe="scale", runtime="numpy", writes="input")
def divide_slice(example):
    """preprocess(image, inplace=True): the quotient is an array of its own, and is then copied."""

    def call(x):
        x[:] = x / 255.0
        return x

    return call


@variant(recipe="scale", runtime="numpy", writes="out")
def divide_out(example):
    """The same without an array of its own."""
    divisor = result_dtype(example.dtype).type(255)
    return lambda x, out: np.divide(x, divisor, out=out)


@variant(recipe="scale", runtime="tensorflow", writes="new", accepts=("uint8", "float32"))
def keras_rescaling(example):
    """The layer, called with a batch."""
    import keras

    return keras.layers.Rescaling(1 / 255.0)


@variant(recipe="unchanged", runtime="keras", writes="new", accepts=_FLOATS)
def keras_numpy(example):
    """preprocess_input of the models whose first layer scales."""
    from keras.applications.efficientnet import preprocess_input

    return preprocess_input


@variant(recipe="unchanged", runtime="tensorflow", writes="new", accepts=_FLOATS)
def keras_tensor(example):
    """The same function, of a tensor."""
    from keras.applications.efficientnet import preprocess_input

    return preprocess_input


@variant(
    recipe="resize_scale", runtime="tensorflow", writes="new", accepts=("uint8", "float32"), layouts="channels_last"
)
def keras_layers(example):
    """The layers that take the place of a function of one's own, as a model."""
    import keras

    model = keras.Sequential([keras.layers.Resizing(RESIZED, RESIZED), keras.layers.Rescaling(1 / 127.5, offset=-1)])
    if len(example.shape) == 4:
        return model
    return lambda x: model(x[None])[0]


@variant(recipe="minmax", runtime="tensorflow", writes="new", devices="cpu")
def numpy_on_tensor(example):
    """NumPy's functions, given a tensor."""
    import tensorflow as tf

    dtype = tf.as_dtype(result_dtype(example.dtype.as_numpy_dtype))

    def call(x):
        tensor = tf.cast(x, dtype)
        low, high = np.min(tensor), np.max(tensor)
        return tf.math.divide_no_nan(tensor - low, high - low)

    return call


@variant(recipe="minmax", runtime="tensorflow", writes="new", devices="cpu")
def tf_on_array(example):
    """TensorFlow's functions, given an array: the memory of the tensor, as NumPy sees it."""
    import tensorflow as tf

    dtype = tf.as_dtype(result_dtype(example.dtype.as_numpy_dtype))

    def call(x):
        array = np.asarray(memoryview(x))
        low, high = tf.reduce_min(array), tf.reduce_max(array)
        centred = tf.cast(tf.subtract(array, low), dtype)
        return tf.math.divide_no_nan(centred, tf.cast(high - low, dtype))

    return call


def _widened(pair):
    """Both of a pair in the result's dtype."""
    import tensorflow as tf

    dtype = tf.as_dtype(result_dtype(pair[0].dtype.as_numpy_dtype))
    return each(pair, lambda one: tf.cast(one, dtype))


def _session(example, assign):
    import tensorflow as tf

    with tf.Graph().as_default():
        fed = each(example, lambda one: tf.compat.v1.placeholder(one.dtype, one.shape))
        a, b = _widened(fed)
        result = tf.add(a, b)
        session = tf.compat.v1.Session()
        if assign:
            c = tf.compat.v1.get_variable("c", initializer=tf.zeros(a.shape, a.dtype), use_resource=True)
            session.run(c.initializer)
            result = tf.compat.v1.assign(c, result)
    return lambda x: session.run(result, {name: np.asarray(memoryview(one)) for name, one in zip(fed, x, strict=True)})


@variant(recipe="add", runtime="tensorflow", writes="new", devices="cpu")
def tf_session(example):
    """tf.add in a graph of TensorFlow 1's, run by a session: arrays in, an array out."""
    return _session(example, assign=False)


@variant(recipe="add", runtime="tensorflow", writes="new", devices="cpu")
def tf_session_assign(example):
    """The same, assigned to a variable of the session."""
    return _session(example, assign=True)


@variant(recipe="add", runtime="tensorflow", writes="input", accepts=_FLOATS)
def tf_assign_add(example):
    """a += b of a variable."""

    def call(x):
        x[0].assign_add(x[1])

    return call


@variant(recipe="add", runtime="tensorflow", writes="input", accepts=_FLOATS)
def tf_assign_add_read(example):
    """a += b while somebody still reads what a was."""

    def call(x):
        held = x[0].read_value()
        x[0].assign_add(x[1])
        del held

    return call


@variant(recipe="add", runtime="tensorflow", writes="input", accepts=_FLOATS)
def tf_assign_sub(example):
    """a −= −b of a variable."""

    def call(x):
        x[0].assign_sub(-x[1])

    return call


@variant(recipe="add", runtime="tensorflow", writes="new")
def tf_while_loop(example):
    """Image by image, and put together in the end."""
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
    """Image by image, each assigned to a slice of a variable, which reads the whole of it each time."""
    return _into_variable(example, lambda out, i, value: out[i].assign(value))


@variant(recipe="add", runtime="tensorflow", writes="out")
def tf_while_loop_scatter(example):
    """Image by image, each written to its place in a variable."""
    import tensorflow as tf

    return _into_variable(example, lambda out, i, value: out.scatter_update(tf.IndexedSlices(value, i)))


@variant(recipe="add", runtime="tensorflow", writes="new", devices="cpu")
def tf_custom_op(example):
    """An operation of our own, in a graph: it writes over an operand that nobody else holds."""
    import tensorflow as tf

    from copycost.variants import native

    operation = tf.load_op_library(str(native.library())).copycost_add
    return tf.function(lambda x: operation(*_widened(x)))
