"""Register a recipe's formula, written once with operators, for every shipped runtime that can evaluate it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from copycost.catalog import discovery
from copycost.model import naming


def formula(*, recipe: str, constants: Sequence[Any] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``function(x, *constants)`` as an expression of every runtime that can evaluate it.

    The function may use Python's operators and slices with positive steps, which arrays of these runtimes support.
    It receives channels-last images in the result's dtype: integers are converted first.

    Parameters
    ----------
    recipe : str
        Name of the recipe that the function computes.
    constants : sequence of array_like
        Constants, passed to the function as arrays of the runtime in the result's dtype.

    Raises
    ------
    RegistrationError
        If a name is taken, or a constant is not an array of numbers.
    """
    try:
        arrays = [np.asarray(constant, np.float64) for constant in constants]
    except (TypeError, ValueError):
        raise naming.RegistrationError(f"invalid constants of formula '{recipe}': expected arrays of numbers") from None

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in discovery.shipped_runtimes():
            module = importlib.import_module(f"copycost.variants.{name}")
            if hasattr(module, "register_expression"):
                module.register_expression(recipe, function, arrays)
        return function

    return register
