"""References: compute the right results of a case, save them, and judge results by them."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from copycost import registry
from copycost.cases.case import computed_dtype
from copycost.cases.images import swap
from copycost.catalog import import_context
from copycost.engine.compare_arrays import Verdict, judge, within
from copycost.engine.rounding import Reference, bounded, limits
from copycost.model.source import Source
from copycost.registry import Make, Recipe

#: Factor of a recipe's own tolerance: |result − reference| ≤ _FACTOR · eps(result dtype) · magnitude.
_FACTOR = 8

#: For a reference that receives its arrays as they are, and that float64 cannot be passed to: number of evaluations
#: with the input moved by one rounding, and factor on the largest change. `copycost.engine.rounding` does the same.
_TRIALS, _SAFETY = 3, 4

#: Swaps of pixels in the images of a twin, for a recipe that makes inputs of a part of them.
MORE_SWAPS = 64


@dataclass(frozen=True)
class ExpectedResults:
    """Expected results of a case.

    Attributes
    ----------
    references : list of list of Reference
        For each input, one reference per array of a result.
    dtype : dtype
        Required dtype of a floating-point result.
    is_tuple : bool
        Whether the reference returns a tuple, also of one array. A result is then a tuple or a list.
    """

    references: list[list[Reference]]
    dtype: np.dtype
    is_tuple: bool = False

    def judge(self, k: int, result: Sequence[np.ndarray], ulp: bool = True) -> Verdict:
        """Compare a result with the references of input `k`; return the first error, or the largest deviations."""
        worst = Verdict(None, 0.0, 0.0)
        for i, (array, reference) in enumerate(zip(result, self.references[k], strict=True)):
            verdict = judge(array, reference, self._dtype(reference), ulp)
            if verdict.reason:
                location = f"array {i} of the result: " if len(result) > 1 else ""
                return replace(verdict, reason=location + verdict.reason)
            worst = Verdict(
                None,
                larger_error(worst.max_abs_error, verdict.max_abs_error),
                larger_error(worst.max_ulp, verdict.max_ulp),
            )
        return worst

    def refuse(self, k: int, result: Sequence[np.ndarray]) -> str | None:
        """Return why a result is not that of input `k`, or None; as `judge`, but without measuring right results."""
        matches = (
            reference.low is not None and reference.high is not None and within(array, reference.low, reference.high)
            for array, reference in zip(result, self.references[k], strict=True)
        )
        return None if all(matches) else self.judge(k, result, ulp=False).reason

    def explain(self, k: int, result: Sequence[np.ndarray], reason: str) -> str:
        """Return why a result is not that of input `k`, with the reason that it is the result of another input."""
        others = (other for other in range(len(self.references)) if other != k)
        if any(self.refuse(other, result) is None for other in others):
            return f"returned the result of another input: {reason}"
        return reason

    def blank_out(self) -> tuple[np.ndarray, ...]:
        """Return the contents of `out` before a call: every element is wrong, so that unwritten ones are detected."""
        # A broadcast NaN takes no memory of its own.
        return tuple(
            np.broadcast_to(np.array(np.nan, self.dtype), reference.values.shape)
            if reference.values.dtype.kind == "f"
            else np.invert(reference.values)
            for reference in self.references[0]
        )

    def _dtype(self, reference: Reference) -> np.dtype:
        if reference.low is not None:
            return reference.low.dtype
        return self.dtype if reference.values.dtype.kind == "f" else reference.values.dtype


#: Returns the argument of a call from the arrays of an input.
Build = Callable[[tuple[Any, ...]], Any]


def argument(x: tuple[Any, ...]) -> Any:
    """Return the argument of a call: a single array, or the tuple of several."""
    return x[0] if len(x) == 1 else x


def as_it_is(x: tuple[Any, ...]) -> Any:
    """Return the argument of a call that takes a tuple, also of one array."""
    return x


def is_code(array: np.ndarray) -> bool:
    """Return whether an array that a recipe has made is no array of pixels: an encoded file, a seed, or indices."""
    return array.dtype.kind in "iub" and array.ndim < 2


@dataclass(frozen=True)
class ReferenceJob:
    """Parameters for computing and saving a recipe's reference of each input.

    The reference receives channels-last images. Its result is transposed to the layout of the case.

    Attributes
    ----------
    source : Source
    recipe, layout : str
    inputs : tuple of tuple of str
        ``.npy`` files. If the recipe makes its inputs, the first of each has the images that it makes them from.
    seeds : tuple of int
        Seed of the random generator with which the recipe makes each input. Empty if it does not.
    references : tuple of str
        Path of each saved reference: see `save_references`.
    dtype : str
        Floating-point dtype that variants compute in.
    place : ImportContext or None
    """

    source: Source
    recipe: str
    layout: str
    inputs: tuple[tuple[str, ...], ...]
    references: tuple[str, ...]
    dtype: str
    place: import_context.ImportContext | None = None
    seeds: tuple[int, ...] = ()

    def start(self) -> None:
        """Make the inputs, if the recipe does so, and compute and save the references.

        Raises
        ------
        ValueError
            If the reference does not return finite numbers, or if the recipe makes an input without arrays of numbers.
        """
        if self.place is not None:
            import_context.load_at(self.place, self.source)
        recipe = registry.recipes[self.recipe]
        assert recipe.reference is not None  # it was registered in this process
        for i, (sources, target) in enumerate(zip(self.inputs, self.references, strict=True)):
            pixels = tuple(np.load(source) for source in sources)
            build: Build = argument
            dtype = np.dtype(self.dtype)
            if recipe.make is not None:
                pixels, build = made_inputs(recipe.make, pixels[0], self.seeds[i])
                _save_made(sources[0], pixels, build is as_it_is)
                dtype = made_dtype(recipe, pixels, dtype)
            noted = Noted(recipe.reference)
            if recipe.as_given:
                references = refer_as_given(noted, pixels, recipe.tolerance, build)
            else:
                references = refer(
                    noted, pixels, self.layout, dtype, recipe.magnitude, recipe.tolerance, build, recipe.makes_inputs
                )
            save_references(target, references, noted.is_tuple)


class Noted:
    """A reference that notes whether its result is a tuple. Of lists of arrays, tuples are made.

    Parameters
    ----------
    reference : callable
    """

    def __init__(self, reference: Callable[..., Any]) -> None:
        self._reference = reference
        self.is_tuple = False

    def __call__(self, x: Any) -> Any:
        """Return the result of the reference."""
        result = self._reference(x)
        if isinstance(result, list) and all(hasattr(part, "shape") for part in result):
            result = tuple(result)
        self.is_tuple = isinstance(result, tuple)
        return result


def made_dtype(recipe: Recipe, arrays: Sequence[np.ndarray], dtype: np.dtype) -> np.dtype:
    """Return the floating-point dtype in which variants compute on an input that a recipe has made.

    Parameters
    ----------
    recipe : Recipe
    arrays : sequence of ndarray
        The arrays of the input.
    dtype : dtype
        Dtype for an input of codes (see `is_code`) only.
    """
    return next((computed_dtype(recipe, array.dtype) for array in arrays if not is_code(array)), dtype)


def made_inputs(make: Make, images: np.ndarray, seed: int) -> tuple[tuple[np.ndarray, ...], Build]:
    """Return the arrays of an input that a recipe makes, and what returns the argument of a call from them.

    Raises
    ------
    ValueError
        If they are not non-empty arrays of numbers.
    """
    made = make(images if images.ndim == 4 else images[None], np.random.default_rng(seed))
    is_tuple = isinstance(made, tuple | list)
    if is_tuple and any(isinstance(part, tuple | list) for part in made):
        raise ValueError("made a list in a list as an input: expected a list of arrays")
    arrays = tuple(np.array(part, order="C") for part in (made if is_tuple else (made,)))
    if not arrays:
        raise ValueError("made an input without arrays")
    for array in arrays:
        if array.dtype.kind not in "fiub" or not array.size:
            kind = "an empty array" if array.dtype.kind in "fiub" else f"an array of {array.dtype}"
            raise ValueError(f"made {kind} as an input: expected an array of numbers")
    return arrays, as_it_is if is_tuple else argument


def renewing(make: Make, images: np.ndarray) -> Callable[[], tuple[np.ndarray, ...]]:
    """Return a function that makes the arrays of an input anew, from images in which pixels have changed places."""

    def renew() -> tuple[np.ndarray, ...]:
        own = images.copy()
        for _ in range(MORE_SWAPS):
            swap(own)
        return made_inputs(make, own, 0)[0]

    return renew


def _save_made(images: str, arrays: Sequence[np.ndarray], is_tuple: bool) -> None:
    """Save an input beside the images that it was made from."""
    for part, array in enumerate(arrays):
        np.save(made_path(images, part, is_tuple), array)


def made_path(images: str, part: int, is_tuple: bool) -> str:
    """Return the path of an array of a made input, whose name says whether the input is a tuple."""
    return f"{images.removesuffix('.npy')}-{'part' if is_tuple else 'array'}-{part}.npy"


def made_files(images: str) -> tuple[tuple[str, ...], bool]:
    """Return the paths of the arrays that were made from images, and whether they are a tuple."""
    is_tuple = os.path.exists(made_path(images, 0, True))
    paths = (made_path(images, part, is_tuple) for part in itertools.count())
    return tuple(itertools.takewhile(os.path.exists, paths)), is_tuple


def save_references(path: str, references: Sequence[Reference], is_tuple: bool) -> None:
    """Save the reference of each array `i` of a result as ``PATH-i-values.npy``, ``PATH-i-bound.npy``, and so on.

    A file ``PATH-tuple`` says that the result is a tuple, also one of one array.
    """
    if is_tuple:
        Path(f"{path}-tuple").touch()
    for i, reference in enumerate(references):
        for name, array in vars(reference).items():
            if array is not None:
                np.save(f"{path}-{i}-{name}.npy", array)


def load_references(path: str) -> list[Reference]:
    """Load references saved by `save_references`, mapped into memory."""
    references: list[Reference] = []
    while os.path.exists(f"{path}-{len(references)}-bound.npy"):
        files = {field.name: f"{path}-{len(references)}-{field.name}.npy" for field in fields(Reference)}
        references.append(
            Reference(**{name: np.load(file, mmap_mode="r") for name, file in files.items() if os.path.exists(file)})
        )
    return references


def load_expected(paths: Sequence[str], dtype: np.dtype) -> ExpectedResults:
    """Load the references of each input: see `save_references`."""
    is_tuple = os.path.exists(f"{paths[0]}-tuple")
    return ExpectedResults([load_references(path) for path in paths], dtype, is_tuple)


def refer(
    reference: Callable[..., Any],
    pixels: Sequence[np.ndarray],
    layout: str,
    dtype: np.dtype,
    magnitude: float | None = None,
    tolerance: float = 0.0,
    build: Build = argument,
    is_made: bool = False,
) -> list[Reference]:
    """Return the reference of an input in its layout, one for each array of a result.

    Parameters
    ----------
    reference : callable
    pixels : sequence of ndarray
        The arrays of an input.
    layout : {"channels_last", "channels_first"}
    dtype : dtype
        Floating-point dtype that variants compute in.
    magnitude : float or None
    tolerance : float
        See `Recipe`.
    build : callable, optional
        Returns the argument of the reference from the arrays.
    is_made : bool, optional
        Whether a recipe has made the input: codes (see `is_code`) then stay as they are.

    Raises
    ------
    ValueError
        If the reference does not return finite numbers.
    """
    x = [array if is_made and is_code(array) else array.astype(np.float64) for array in pixels]
    if layout == "channels_first":
        x = [np.moveaxis(array, -3, -1) for array in x]
    exact = all(np.can_cast(array.dtype, dtype, "safe") for array in pixels if not (is_made and is_code(array)))

    def built(parts: Any) -> Any:
        return reference(build(parts if isinstance(parts, tuple) else (parts,)))

    references = []
    for part in bounded(built, argument(tuple(x)), dtype, exact):
        values, bound = part.values, part.bound
        if magnitude is not None and values.dtype.kind == "f":
            bound = np.maximum(bound, _FACTOR * float(np.finfo(dtype).eps) * magnitude)
        bound = np.maximum(bound, tolerance)
        if layout == "channels_first" and values.ndim >= 3:
            values, bound = np.moveaxis(values, -1, -3), np.moveaxis(bound, -1, -3)
        values, bound = np.asarray(values, order="C"), np.asarray(bound, order="C")  # also of no axis
        references.append(Reference(values, bound, *(limits(values, bound, dtype) if values.dtype.kind == "f" else ())))
    return references


def refer_as_given(
    reference: Callable[..., Any], arrays: Sequence[np.ndarray], tolerance: float = 0.0, build: Build = argument
) -> list[Reference]:
    """Return the reference of an input whose arrays the reference receives as they are.

    Where the reference gives the same in float64, up to rounding, its error analysis bounds the error of a result: see
    `copycost.engine.rounding`. Two roundings of the largest value are allowed in any case: the analysis of an
    implementation that leaves NumPy's functions is an estimate, and in float64 the reference rounds too. Otherwise,
    the bound of an element is the largest of eight roundings of the largest value, and of four times the change of the
    element when the input is moved by one rounding. Integers and booleans must be equal, except for those that the
    analysis finds to be at a step.

    Raises
    ------
    ValueError
        If the reference does not return finite numbers.
    """
    own, again = (_results(reference, build(tuple(array.copy() for array in arrays))) for _ in range(2))
    for part, other in zip(own, again, strict=True):
        if part.shape != other.shape or (np.abs(part.astype(np.float64) - other) > _FACTOR * _rounding(part)).any():
            raise ValueError("gives other results for the same input")
    floats = [part.dtype for part in own if part.dtype.kind == "f"]
    coarsest = max(floats, key=lambda dtype: float(np.finfo(dtype).eps), default=np.dtype("float64"))
    with contextlib.suppress(Exception):  # an implementation may need its own dtypes
        analysed = refer(reference, arrays, "channels_last", coarsest, tolerance=tolerance, build=build, is_made=True)
        limited = [
            _with_limits(found.values, np.maximum(found.bound, 2 * _rounding(part)), part)
            for found, part in zip(analysed, own, strict=True)
        ]
        if all(judge(part, one, part.dtype, ulp=False).reason is None for part, one in zip(own, limited, strict=True)):
            return limited
    random = np.random.default_rng(0)
    changes = [np.zeros(part.shape) for part in own]
    for _ in range(_TRIALS if any(array.dtype.kind == "f" for array in arrays) else 0):
        moved = tuple(_moved(array, random) for array in arrays)
        for change, part, trial in zip(changes, own, _results(reference, build(moved)), strict=True):
            if trial.shape == part.shape and part.dtype.kind == "f":
                np.maximum(change, np.abs(trial.astype(np.float64) - part), out=change)
    references = []
    for part, change in zip(own, changes, strict=True):
        bound = change
        if part.dtype.kind == "f":
            bound = np.maximum(_SAFETY * change, _FACTOR * _rounding(part))
        references.append(_with_limits(part, np.maximum(bound, tolerance), part))
    return references


def _rounding(array: np.ndarray) -> float:
    """Return one rounding of the largest value of an array of floats; 0 for integers."""
    return float(np.finfo(array.dtype).eps) * float(np.abs(array).max()) if array.dtype.kind == "f" else 0.0


def _results(reference: Callable[..., Any], x: Any) -> list[np.ndarray]:
    """Return the arrays of an implementation's result; raise ValueError if they are not finite numbers."""
    with np.errstate(all="ignore"):
        result = reference(x)
    parts = [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]
    for part in parts:
        if part.dtype.kind not in "fiub" or not part.size:
            kind = "an empty array" if part.dtype.kind in "fiub" else f"an array of {part.dtype}"
            raise ValueError(f"returned {kind}, not real numbers")
        if not np.isfinite(part).all():
            raise ValueError("returned values that are not finite")
    return parts


def _with_limits(values: np.ndarray, bound: np.ndarray, part: np.ndarray) -> Reference:
    """Return a reference for results of the dtype of a part; raise ValueError if it is of another kind or shape."""
    if values.shape != part.shape or values.dtype.kind != part.dtype.kind:
        raise ValueError("another kind of result")
    if part.dtype.kind != "f":
        if values.dtype != part.dtype:
            raise ValueError("another dtype")
        return Reference(values, bound)
    exact = values.astype(np.float64)
    return Reference(exact, bound, *limits(exact, bound, part.dtype))


def _moved(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a copy of an array with every float moved by one rounding, up or down."""
    if array.dtype.kind != "f":
        return array.copy()
    ends = np.where(random.integers(0, 2, array.shape, bool), np.inf, -np.inf).astype(array.dtype)
    return np.nextafter(array, ends)


def larger_error(error: float | None, other_error: float | None) -> float | None:
    """Return the larger of two errors, or None if either is None."""
    return None if error is None or other_error is None else max(error, other_error)
