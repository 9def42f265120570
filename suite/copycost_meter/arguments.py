"""Make the arguments of a function: arrays of random values, or what a user's function makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from copycost_meter.errors import describe
from copycost_meter.targets import TargetError

#: Makes the arguments of a call.
Make = Callable[[np.random.Generator], "list[Any]"]

#: Dtypes of arrays of random values.
DTYPES = ("uint8", "int32", "int64", "float16", "float32", "float64")

#: The most elements of such an array.
_MOST_ELEMENTS = 10**9

#: An example of the text of an array.
EXAMPLE = "8x224x224x3:float32"


def parse_shape(text: str) -> tuple[tuple[int, ...], str]:
    """Return the shape and the dtype that a text describes: ``8x224x224x3:float32``.

    Raises
    ------
    TargetError
    """
    match = re.fullmatch(r"(\d{1,9}(?:x\d{1,9})*):(\w+)", text)
    if match is None or match[2] not in DTYPES:
        raise TargetError(f"'{text}' is not an input: expected a shape and one of {', '.join(DTYPES)}, e.g. {EXAMPLE}")
    shape = tuple(map(int, match[1].split("x")))
    elements = 1
    for n in shape:
        elements *= n
    if not 0 < elements <= _MOST_ELEMENTS:
        raise TargetError(f"'{text}' has {elements:,} elements: expected 1 to {_MOST_ELEMENTS:,}")
    return shape, match[2]


def random_arguments(shapes: Sequence[tuple[Sequence[int], str]], secret: int = 0) -> Make:
    """Return a function that makes arrays of random values, which nobody can predict without the secret.

    Half of the floats are from 0 to 255, the others from 0 to 1. Integers are from 0 to 255, or to 1,000 where the
    dtype has them.
    """

    def make(random: np.random.Generator) -> list[Any]:
        own = np.random.default_rng([secret, int(random.integers(2**32))])
        made: list[Any] = []
        for shape, dtype in shapes:
            array: Any
            if np.dtype(dtype).kind == "f":
                array = own.uniform(0, 255, tuple(shape)) / np.where(own.integers(0, 2, tuple(shape)), 255, 1)
            else:
                array = own.integers(0, 256 if np.dtype(dtype).itemsize == 1 else 1001, tuple(shape))
            made.append(np.ascontiguousarray(array.astype(dtype)))
        return made

    return make


def made_by(function: Callable[..., Any], *, seeded: bool = True) -> Make:
    """Return a function that makes the arguments by a user's function of a generator.

    Parameters
    ----------
    function : callable
        ``function(random)`` returns an argument, or a tuple or list of arguments.
    seeded : bool, optional
        Whether it receives the given generator, and not one with a seed that nobody can predict.
    """

    def make(random: np.random.Generator) -> list[Any]:
        made = function(random if seeded else np.random.default_rng())
        return list(made) if isinstance(made, (tuple, list)) else [made]

    return make


def checked_arguments(make: Make) -> list[Any]:
    """Return arguments, once it is clear that only arrays change from call to call.

    Raises
    ------
    TargetError
    """
    try:
        made, others = (make(np.random.default_rng(seed)) for seed in range(2))
    except Exception as error:
        raise TargetError(f"the function that makes the inputs {describe(error)}") from None
    if not any(isinstance(value, np.ndarray) for value in made):
        raise TargetError("the function that makes the inputs returns no NumPy array")
    if len(made) != len(others):
        raise TargetError("the function that makes the inputs returns different numbers of arguments")
    for value, other in zip(made, others):  # Python 3.9 has no strict
        if isinstance(value, np.ndarray) != isinstance(other, np.ndarray):
            raise TargetError("the function that makes the inputs returns an array only at times")
        if not isinstance(value, np.ndarray) and repr(value) != repr(other):
            raise TargetError(
                f"the function that makes the inputs returns {value!r:.40} and {other!r:.40}: "
                "only arrays may change from call to call"
            )
    return made
