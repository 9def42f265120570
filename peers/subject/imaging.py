"""Four ways of preprocessing, as a small library has them; the constants at the top are what a trial changes."""

from time import perf_counter_ns

import numpy as np

#: Function → how many times as long each of its calls takes.
FACTORS = {"rescale": 1.0, "rescale_out": 1.0, "normalize": 1.0, "center": 1.0}

#: Function → how its result is spoilt: "copy", "mutation" or "value".
FAULTS: dict[str, str] = {}

#: The changes of a trial that changes nothing are here: 0

_SCALE, _MEAN = np.float32(127.5), np.float32(1.0)
_CAFFE = np.array([103.939, 116.779, 123.68], np.float32)
_MEANS = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATIONS = np.array([58.395, 57.12, 57.375], np.float32)


def timed(function):
    """Make every call last as long as its factor says, whatever the machine does meanwhile."""
    name = function.__name__

    def call(*args):
        factor, fault = FACTORS[name], FAULTS.get(name)
        start = perf_counter_ns()
        if fault == "copy":
            args = (args[0].copy(), *args[1:])
        result = function(*args)
        if fault == "mutation":
            args[0][0, 0, 0, 0] = 0
        if fault == "value":
            result[0, 0, 0, 0] += np.float32(0.01)
        end = start + (perf_counter_ns() - start) * factor
        while perf_counter_ns() < end:
            pass
        return result

    return call


@timed
def rescale(x):
    """From -1 to 1."""
    y = np.divide(x, _SCALE)
    np.subtract(y, _MEAN, out=y)
    return y


@timed
def rescale_out(x, out):
    """From -1 to 1, into a buffer."""
    np.divide(x, _SCALE, out=out)
    np.subtract(out, _MEAN, out=out)
    return out


@timed
def normalize(x):
    """By the means and deviations of ImageNet."""
    y = np.subtract(x, _MEANS)
    np.divide(y, _DEVIATIONS, out=y)
    return y


@timed
def center(x):
    """Blue, green, red, around zero."""
    y = x[..., ::-1].copy()
    np.subtract(y, _CAFFE, out=y)
    return y
