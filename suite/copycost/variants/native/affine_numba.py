"""Define the kernel of `cupy-numba`, which Numba compiles from Python.

The module imports `numba.cuda` as a global, by which Numba's simulator runs the kernel on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda


def affine(
    kind: Callable[[Any], Any], factors: tuple[Any, ...], summands: tuple[Any, ...], apart: int, back: bool
) -> Any:
    """Return a kernel ``kernel(x, y)`` of flat arrays that multiplies and adds a constant for each channel.

    Parameters
    ----------
    kind : callable
        Scalar type of the result, e.g. `numpy.float32`.
    factors, summands : tuple
        Constants of that type, by channel of the result.
    apart : int
        Elements from a value to that of the next channel.
    back : bool
        Whether the channels are reversed.
    """

    @cuda.jit
    def kernel(x, y):
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            channel = i // apart % 3
            source = i + apart * (2 - 2 * channel) if back else i
            y[i] = kind(x[source]) * factors[channel] + summands[channel]

    return kernel
