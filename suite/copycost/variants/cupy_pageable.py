"""Define the CuPy variants for pageable host arrays: copy to the device, run one fused kernel, and copy back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from copycost.recipes import each
from copycost.registry import variant
from copycost.variants import cupy as plain


def there_and_back(formula: plain.Formula) -> Callable[[Any, Any], Any]:
    """Return ``call(x, out)`` for host arrays, which runs the fused kernel, or the statements if there is no kernel."""
    import cupy

    compute = formula.fused or formula.statements

    def to_device(array: Any) -> Any:
        device_array = cupy.empty(array.shape, array.dtype)
        device_array.set(array)
        return device_array

    def call(x: Any, out: Any) -> Any:
        return compute(each(x, to_device)).get(out=out)

    return call


def _register(recipe: str, formula: Callable[[Any], plain.Formula]) -> None:
    @variant(recipe=recipe, runtime="cupy_pageable", writes="out", includes_transfers=True)
    def cupy_pageable(example):
        return there_and_back(formula(example))


for _recipe, _formula in plain.FORMULAS.items():
    _register(_recipe, _formula)
