"""Define one class per runtime, as asv runs the product of a class's parameters, and runtimes differ in devices."""

from copycost import asv


class NumPy(asv.Cases, runtime="numpy"):
    """NumPy: into a new array, into `out`, over the input, in tiles, and from a table."""


class Keras(asv.Cases, runtime="keras"):
    """Keras' `preprocess_input` on NumPy arrays."""


class TensorFlow(asv.Cases, runtime="tensorflow"):
    """TensorFlow: eager, graph, XLA, and assigned to a variable; also `preprocess_input` on tensors."""


class CuPy(asv.Cases, runtime="cupy"):
    """CuPy: as NumPy, but on the GPU, and with fused kernels."""


class CuPyAsync(asv.Cases, runtime="cupy_async"):
    """CuPy with the driver's memory pool, cudaMallocAsync."""


class CuPyPageable(asv.Cases, runtime="cupy_pageable"):
    """CuPy with transfers from and to pageable host arrays."""


class CuPyNumba(asv.Cases, runtime="cupy_numba"):
    """CuPy's arrays, and kernels that Numba compiles."""


class CuPyPinned(asv.Cases, runtime="cupy_pinned"):
    """CuPy with transfers from and to pinned host memory."""


class PyTorch(asv.Cases, runtime="torch"):
    """PyTorch: eager, compiled, into `out`, and over the input."""


class PyTorchTriton(asv.Cases, runtime="torch_triton"):
    """PyTorch's tensors, and kernels that Triton compiles."""


class JAX(asv.Cases, runtime="jax"):
    """JAX: eager, jitted, and with a donated input."""


class Numba(asv.Cases, runtime="numba"):
    """Numba: loops on all cores, into `out`."""


class Numexpr(asv.Cases, runtime="numexpr"):
    """numexpr: one expression in chunks, into `out`."""
