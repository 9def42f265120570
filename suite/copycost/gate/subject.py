"""A function that is judged, as the variant of a recipe. This module is imported where the function is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from copycost.cases.case import CHANNELS
from copycost.cases.images import swap
from copycost.catalog import discovery
from copycost.model.vocabulary import DTYPES, DeviceKind
from copycost.registry import benchmark_axes, recipe, variant, variants
from copycost_meter.arguments import Make, checked_arguments, made_by, random_arguments
from copycost_meter.errors import describe
from copycost_meter.targets import Place, TargetError, load

#: Name of the recipe, and of the variant on both sides.
NAME = "judged"


def define(
    target: Place,
    library: str,
    device: str,
    threads: int,
    tolerance: float,
    secret: int,
    shapes: Sequence[tuple[Sequence[int], str]] = (),
    maker: Place | None = None,
    writes: str | None = None,
) -> None:
    """Register a function as the variant of a recipe whose reference is the function itself.

    Parameters
    ----------
    target : Place
    library, device : str
        Library of the arrays that the function receives, and where they are.
    threads : int
    tolerance : float
        Error of a result that is allowed beyond rounding.
    secret : int
        Part of the seed of random values.
    shapes : sequence of (shape, dtype), optional
        The arguments, if they are arrays of random values.
    maker : Place, optional
        A function that makes the arguments.
    writes : {"new", "input"}, optional
        Where the function puts its result. By default it is called to find out.

    Raises
    ------
    TargetError
        If a function does not exist or raises.
    """
    function = load(target)
    make = made_by(load(maker), seeded=False) if maker else _told_apart(random_arguments(shapes, secret))
    runtime = discovery.runtime(library)
    example = checked_arguments(make)
    is_array = [isinstance(value, np.ndarray) for value in example]
    others = [None if array else value for array, value in zip(is_array, example, strict=True)]
    positions = [i for i, array in enumerate(is_array) if array]

    def arrays(images: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        made = make(random)
        return [made[i] for i in positions]

    if len(positions) == len(example) == 1:

        def call(x: Any) -> Any:
            return plain(function(x[0]))

    elif len(positions) == len(example):

        def call(x: Any) -> Any:
            return plain(function(*x))

    else:

        def call(x: Any) -> Any:
            arguments = list(others)
            for i, array in zip(positions, x, strict=True):
                arguments[i] = array
            return plain(function(*arguments))

    def reference(x: tuple[np.ndarray, ...]) -> Any:
        if library == "numpy":
            given = x
        else:
            runtime.start(DeviceKind(device), threads)
            given = tuple(runtime.array(array, True) for array in x)
        result = call(given)
        runtime.fence()
        result = given[0] if result is None else result
        parts = result if isinstance(result, tuple | list) else (result,)
        if library == "numpy":
            return result
        values = tuple(np.array(runtime.to_numpy(part)) for part in parts)
        return values if isinstance(result, tuple | list) else values[0]

    recipe(NAME, inputs=arrays, as_given=True, tolerance=tolerance)(reference)
    given = [example[i] for i in positions]
    writes = writes or _writes(call, given, library, device, threads)
    variant(recipe=NAME, runtime=library, writes=writes, name=NAME, accepts=DTYPES)(lambda example: call)
    # Memory is estimated by the images of a case: choose as many bytes of float64 as the arguments have.
    side = math.ceil(math.sqrt(sum(array.nbytes for array in given) / (CHANNELS * 8)))
    benchmark_axes[variants[NAME, NAME].source] = {"sizes": ((side, side),)}


def plain(result: Any) -> Any:
    """Return a result with numbers as arrays, and a dict as a tuple: its keys as bytes, and its values in order."""
    if isinstance(result, bool | int | float | np.generic):
        return np.asarray(result)
    if isinstance(result, tuple | list):
        return tuple(map(plain, result))
    if isinstance(result, dict):
        items = sorted(result.items(), key=lambda item: repr(item[0]))
        keys = np.frombuffer(repr([key for key, _ in items]).encode(), np.uint8)
        return (keys, *(plain(value) for _, value in items))
    return result


def _told_apart(make: Make) -> Make:
    """Return what makes the same arguments with a few elements of each array swapped.

    No sum, extreme or sample of a few elements tells arguments of the same generator apart.
    """

    def made(random: np.random.Generator) -> list[Any]:
        arguments = make(random)
        for array in arguments:
            swap(array)
        return arguments

    return made


def _writes(call: Callable[[Any], Any], arrays: list[np.ndarray], library: str, device: str, threads: int) -> str:
    """Call a function to find out where it puts its result: ``"new"``, or ``"input"`` if it returns None.

    Raises
    ------
    TargetError
        If it raises, or if it returns None and does not change its first array.
    """
    runtime = discovery.runtime(library)
    runtime.start(DeviceKind(device), threads)
    given = tuple(runtime.array(array, True) for array in arrays)
    try:
        result = call(given)
        runtime.fence()
    except Exception as error:
        raise TargetError(describe(error)) from None
    if result is not None:
        return "new"
    if np.array_equal(runtime.to_numpy(given[0]), arrays[0]):
        raise TargetError(
            "returns None and does not change its first array: expected a result, or one in its first array"
        )
    return "input"
