"""Four ways of copycost's recipe tf, written for asv: each call until its result is there."""

import functools

import numpy as np

FORMS = ("numpy-out", "tf-eager", "tf-graph", "tf-xla")


@functools.cache  # a `setup` would be run before every sample, and allow it one call
def prepare(form, batch):
    x = np.random.default_rng(0).uniform(0, 255, (batch, 224, 224, 3)).astype(np.float32)
    if form == "numpy-out":
        out = np.empty_like(x)

        def call():
            np.divide(x, np.float32(127.5), out=out)
            np.subtract(out, np.float32(1), out=out)

        return call
    import tensorflow as tf

    tensor = tf.constant(x)

    def formula(x):
        return x / 127.5 - 1.0

    function = formula if form == "tf-eager" else tf.function(formula, jit_compile=form == "tf-xla")

    def call():
        result = function(tensor)
        tf.test.experimental.sync_devices()
        return result

    return call


class Recipe:
    params = [FORMS, [1, 8, 32]]
    param_names = ["form", "batch"]

    def time_call(self, form, batch):
        prepare(form, batch)()
