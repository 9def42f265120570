"""The four functions as asv measures them."""

import functools

import imaging
import numpy as np


@functools.cache  # a `setup` would be run before every sample, and allow it one call
def arrays(batch):
    x = np.random.default_rng(0).uniform(0, 255, (batch, 224, 224, 3)).astype(np.float32)
    return x, np.empty_like(x)


class Preprocessing:
    params = [1, 4, 16]
    param_names = ["batch"]

    def time_rescale(self, batch):
        imaging.rescale(arrays(batch)[0])

    def time_rescale_out(self, batch):
        imaging.rescale_out(*arrays(batch))

    def time_normalize(self, batch):
        imaging.normalize(arrays(batch)[0])

    def time_center(self, batch):
        imaging.center(arrays(batch)[0])
