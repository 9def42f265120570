"""Define the CuPy runtime for host arrays in pageable memory, as NumPy allocates them."""

from __future__ import annotations

from dataclasses import replace

from copycost.runtimes import cupy, numpy

RUNTIME = replace(
    cupy.RUNTIME,
    name="cupy_pageable",
    array=numpy.RUNTIME.array,
    restore=numpy.RUNTIME.restore,
    copied=numpy.RUNTIME.copied,
    to_numpy=numpy.RUNTIME.to_numpy,
    extent=numpy.RUNTIME.extent,
    contiguous=numpy.RUNTIME.contiguous,
)
