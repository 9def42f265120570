"""A class a runtime: their variants run on different devices, and asv has the product of all parameters of a class."""

from copycost import asv


class NumPy(asv.Cases, runtime="numpy"):
    """Into a new array, into `out`, over the input, in tiles, from a table."""


class Keras(asv.Cases, runtime="keras"):
    """`preprocess_input` of NumPy arrays."""


class TensorFlow(asv.Cases, runtime="tensorflow"):
    """Eager, graph, XLA, and assigned to a variable; `preprocess_input` of tensors."""


class CuPy(asv.Cases, runtime="cupy"):
    """As NumPy, on the GPU, and fused kernels."""


class CuPyAsync(asv.Cases, runtime="cupy_async"):
    """The same with the driver's own pool, cudaMallocAsync."""


class CuPyPageable(asv.Cases, runtime="cupy_pageable"):
    """From arrays of the host and back."""


class CuPyPinned(asv.Cases, runtime="cupy_pinned"):
    """From pinned memory of the host and back."""


class PyTorch(asv.Cases, runtime="torch"):
    """Eager, compiled, into `out`, over the input."""


class JAX(asv.Cases, runtime="jax"):
    """Eager, jitted, with a donated input."""


class Numba(asv.Cases, runtime="numba"):
    """Loops on all cores, into `out`."""


class Numexpr(asv.Cases, runtime="numexpr"):
    """One expression in blocks, into `out`."""
