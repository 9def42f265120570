"""A function before and after a change."""

import numpy as np


def before(x):
    return x / 127.5 - 1.0


def after(x):
    y = x / np.float32(127.5)
    y -= 1
    return y


def make(random):
    """Make the argument: an image."""
    return random.uniform(0, 255, (480, 640, 3)).astype(np.float32)
