"""CuPy for arrays of the host in pinned memory, which the device reads and writes itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from suite.registry import variant
from suite.variants import cupy as plain
from suite.variants.cupy_pageable import RUNTIME as PAGEABLE
from suite.variants.cupy_pageable import there_and_back


def _array(pixels: np.ndarray, mutable: bool) -> np.ndarray:
    import cupyx

    array = cupyx.empty_pinned(pixels.shape, pixels.dtype)
    np.copyto(array, pixels)
    return array


RUNTIME = replace(PAGEABLE, name="cupy_pinned", array=_array)


def _register(recipe: str, formula: Callable[[Any], plain.Formula]) -> None:
    @variant(recipe=recipe, runtime="cupy_pinned", writes="out", includes_transfers=True)
    def cupy_pinned(example):
        return there_and_back(formula(example))


for _recipe, _formula in plain.FORMULAS.items():
    _register(_recipe, _formula)
