"""Define the CuPy variants with the driver's memory pool, cudaMallocAsync, instead of CuPy's pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from copycost.registry import variant
from copycost.variants import cupy as plain


def _register(recipe: str, formula: Callable[[Any], plain.Formula]) -> None:
    @variant(recipe=recipe, runtime="cupy_async", writes="new")
    def cupy_async_new(example):
        return formula(example).statements


for _recipe, _formula in plain.FORMULAS.items():
    _register(_recipe, _formula)
