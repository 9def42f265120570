"""A recipe's formula, written once with operators, in every runtime and in every way that it has."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from copycost.catalog import discovery
from copycost.model import naming


def formula(*, recipe: str, constants: Sequence[Any] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``function(x, *constants)`` as an expression of every runtime that can evaluate it.

    Arrays of all runtimes have Python's operators, and slices with positive steps, and that is what the function may
    use. It is given channels-last images in the result's dtype: bytes are converted first.

    Parameters
    ----------
    recipe : str
        The name of the recipe that it computes.
    constants : sequence of array_like
        Given to the function as arrays of the runtime, in the result's dtype.

    Raises
    ------
    RegistrationError
        If a name is taken, or a constant is no array of numbers.
    """
    try:
        arrays = [np.asarray(constant, np.float64) for constant in constants]
    except (TypeError, ValueError):
        raise naming.RegistrationError(f"formula of '{recipe}': its constants are arrays of numbers") from None

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in discovery.shipped_runtimes():
            module = importlib.import_module(f"copycost.variants.{name}")
            if hasattr(module, "register_expression"):
                module.register_expression(recipe, function, arrays)
        return function

    return register
