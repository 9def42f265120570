"""Define the variants whose kernel Numba compiles from Python: recipes of one multiplication and one addition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from copycost.recipes import AFFINE, result_dtype
from copycost.registry import variant

#: Threads of a block, and blocks at most: each thread takes several elements of a large batch.
_THREADS, _BLOCKS = 256, 4096


def affine(x: Any, recipe: str) -> Callable[[Any, Any], Any]:
    """Return a function that computes an affine recipe into a buffer.

    Numba takes CuPy's arrays through their ``__cuda_array_interface__``. It waits for the stream that the interface
    names, if it names one.
    """
    from copycost.variants.native import affine_numba

    kind = result_dtype(x.dtype).type
    factors, summands, back = AFFINE[recipe]
    apart = 1 if x.shape[-1] == 3 else x.shape[-1] * x.shape[-2]
    kernel = affine_numba.affine(kind, tuple(map(kind, factors)), tuple(map(kind, summands)), apart, back)
    blocks = min(-(-x.size // _THREADS), _BLOCKS)

    def call(x, out):
        kernel[blocks, _THREADS](x.ravel(), out.ravel())
        return out

    return call


def _register(recipe: str) -> None:
    @variant(recipe=recipe, runtime="cupy_numba", writes="out", accepts=("uint8", "float32", "float64"))
    def cupy_numba(example):
        return affine(example, recipe)


for _recipe in AFFINE:
    _register(_recipe)
