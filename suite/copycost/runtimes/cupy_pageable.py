"""CuPy for arrays of the host, as NumPy allocates them: to the device, one fused kernel, and back."""

from __future__ import annotations

from dataclasses import replace

from copycost.runtimes import cupy, numpy

RUNTIME = replace(
    cupy.RUNTIME,
    name="cupy_pageable",
    array=numpy.RUNTIME.array,
    restore=numpy.RUNTIME.restore,
    to_numpy=numpy.RUNTIME.to_numpy,
    extent=numpy.RUNTIME.extent,
    contiguous=numpy.RUNTIME.contiguous,
)
