"""Define the CuPy variants for host arrays in pinned memory, which the device reads and writes directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from copycost.registry import variant
from copycost.variants import cupy as plain
from copycost.variants.cupy_pageable import there_and_back


def _register(recipe: str, formula: Callable[[Any], plain.Formula]) -> None:
    @variant(recipe=recipe, runtime="cupy_pinned", writes="out", includes_transfers=True)
    def cupy_pinned(example):
        return there_and_back(formula(example))


for _recipe, _formula in plain.FORMULAS.items():
    _register(_recipe, _formula)
