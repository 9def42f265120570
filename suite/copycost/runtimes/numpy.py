"""Define the NumPy runtime."""

from __future__ import annotations

import numpy as np
from numpy.lib.array_utils import byte_bounds

from copycost.model.runtime import Runtime
from copycost.model.vocabulary import DeviceKind
from copycost_meter.libraries.numpy import copied, to_numpy


def _array(pixels: np.ndarray, mutable: bool) -> np.ndarray:
    return np.array(pixels, order="C")


def _restore(array: np.ndarray, pristine: np.ndarray) -> np.ndarray:
    np.copyto(array, pristine)
    return array


RUNTIME = Runtime(
    name="numpy",
    packages=("numpy",),
    install="pip install numpy",
    devices=(DeviceKind.CPU,),
    start=lambda device, threads: None,
    array=_array,
    restore=_restore,
    copied=copied,
    to_numpy=to_numpy,
    extent=byte_bounds,
    contiguous=lambda array: bool(array.flags.c_contiguous),
    fence=lambda: None,
)
