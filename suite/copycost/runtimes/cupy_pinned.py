"""Define the CuPy runtime for host arrays in pinned memory, which the device reads and writes directly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from copycost.runtimes.cupy_pageable import RUNTIME as PAGEABLE


def _array(pixels: np.ndarray, mutable: bool) -> np.ndarray:
    import cupyx

    array = cupyx.empty_pinned(pixels.shape, pixels.dtype)
    np.copyto(array, pixels)
    return array


RUNTIME = replace(PAGEABLE, name="cupy_pinned", array=_array)
