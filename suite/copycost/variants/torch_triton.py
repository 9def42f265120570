"""Define the variants whose kernel Triton compiles: recipes of one multiplication and one addition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from copycost.recipes import AFFINE
from copycost.registry import variant

#: Elements of a program.
_BLOCK = 1024


def affine(x: Any, recipe: str) -> Callable[[Any, Any], Any]:
    """Return a function that computes an affine recipe into a buffer."""
    from copycost.variants.native import affine_triton

    factors, summands, back = AFFINE[recipe]
    apart = 1 if x.shape[-1] == 3 else x.shape[-1] * x.shape[-2]
    size = x.numel()
    wide = size + _BLOCK > 2**31
    programs = (-(-size // _BLOCK),)

    def call(x, out):
        affine_triton.affine[programs](x, out, size, *factors, *summands, apart, back, wide, _BLOCK)
        return out

    return call


def _register(recipe: str) -> None:
    @variant(recipe=recipe, runtime="torch_triton", writes="out", accepts=("uint8", "float32", "float64"))
    def torch_triton(example):
        return affine(example, recipe)


for _recipe in AFFINE:
    _register(_recipe)
