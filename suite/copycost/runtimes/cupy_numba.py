"""Define the CuPy runtime for kernels that Numba compiles."""

from __future__ import annotations

from dataclasses import replace

from copycost.model.runtime import RuntimeUnavailable
from copycost.model.vocabulary import DeviceKind
from copycost.runtimes import cupy


def _start(device: DeviceKind, threads: int) -> None:
    cupy.RUNTIME.start(device, threads)
    from numba import cuda

    if not cuda.is_available():
        raise RuntimeUnavailable("numba.cuda finds no CUDA device, or not NVVM, which compiles its kernels")


RUNTIME = replace(
    cupy.RUNTIME,
    name="cupy_numba",
    packages=("cupy", "numba"),
    install="pip install -e '.[fast]' in a clone of copycost",
    start=_start,
)
