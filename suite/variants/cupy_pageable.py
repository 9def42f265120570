"""CuPy for arrays of the host, as NumPy allocates them: to the device, one fused kernel, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from suite.recipes import each
from suite.registry import variant
from suite.variants import cupy as plain
from suite.variants import numpy as host

RUNTIME = replace(
    plain.RUNTIME,
    name="cupy_pageable",
    array=host.RUNTIME.array,
    restore=host.RUNTIME.restore,
    to_numpy=host.RUNTIME.to_numpy,
    extent=host.RUNTIME.extent,
    contiguous=host.RUNTIME.contiguous,
)


def there_and_back(formula: plain.Formula) -> Callable[[Any, Any], Any]:
    """``call(x, out)`` on arrays of the host: one fused kernel, or the statements of what is none."""
    import cupy

    compute = formula.fused or formula.statements

    def moved(array: Any) -> Any:
        there = cupy.empty(array.shape, array.dtype)
        there.set(array)
        return there

    def call(x: Any, out: Any) -> Any:
        return compute(each(x, moved)).get(out=out)

    return call


def _register(recipe: str, formula: Callable[[Any], plain.Formula]) -> None:
    @variant(recipe=recipe, runtime="cupy_pageable", writes="out", includes_transfers=True)
    def cupy_pageable(example):
        return there_and_back(formula(example))


for _recipe, _formula in plain.FORMULAS.items():
    _register(_recipe, _formula)
