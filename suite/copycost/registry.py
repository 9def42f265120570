"""Registry of recipes (what to compute) and variants (how to compute it), with the origin of each."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from copycost.model.naming import RegistrationError, as_tuple, check_name
from copycost.model.source import Source
from copycost.model.vocabulary import DTYPES, DeviceKind, Layout, Writes

#: All layouts. Variants, including those of older commits in a gate, import it from here.
LAYOUTS = tuple(Layout)

#: Dtypes that a recipe can require of its results.
RESULT_DTYPES = (
    "float16", "float32", "float64", "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
)  # fmt: skip


#: Makes an input from a batch of channels-last images: an array, or a tuple of arrays of any shape and dtype.
Make = Callable[[np.ndarray, np.random.Generator], Any]


@dataclass(frozen=True)
class Recipe:
    """A computation, defined by its float64 reference.

    Attributes
    ----------
    name : str
    magnitude : float or None
        S: every element may be off by ``8 · eps(result dtype) · S``, beyond the error that the analysis of the
        reference allows (see `copycost.engine.rounding`). None adds no tolerance to that error.
    source : Source
        Module or file that defines the recipe.
    inputs : {1, 2}
        Number of inputs. With 2, the reference and every variant receive a pair.
    makes_inputs : bool
        Whether the recipe makes its inputs from images.
    as_given : bool
        Whether the reference receives the arrays of an input as they are. Results then have the dtypes of its results.
    dtype : str or None
        Dtype of every result. If None, results have the dtype of the reference where it returns integers or booleans.
        Otherwise, integer inputs give float32 and floats keep their dtype.
    tolerance : float
        Every element may be off by this much, whatever the error analysis says.
    reference : callable or None
        Function from float64 channels-last images to a float64 array. None where only the description is sent.
    make : callable or None
        ``make(images, random)`` returns the input: an array, or a tuple of arrays. None where only the description is
        sent, and if the recipe does not make its inputs.
    """

    name: str
    magnitude: float | None
    source: Source
    inputs: int = 1
    dtype: str | None = None
    tolerance: float = 0.0
    makes_inputs: bool = False
    as_given: bool = False
    reference: Callable[..., np.ndarray] | None = field(default=None, compare=False, repr=False)
    make: Make | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Variant:
    """One way of computing a recipe in one runtime.

    Attributes
    ----------
    name, recipe, runtime : str
    writes : Writes
    accepts : tuple of str
        Supported input dtypes.
    devices : tuple of DeviceKind
        Supported kinds of device. If empty, all devices of the runtime.
    layouts : tuple of Layout
        Supported layouts.
    known : mapping of str to str
        Input dtype → evidence that a library's path is known to be wrong, or to raise, for that dtype.
    source : Source
        Module or file that defines the variant.
    includes_transfers : bool
        Whether a call on a device takes and returns host arrays.
    prepare : callable or None
        ``prepare(example)`` returns the measured call. None where only the description is sent.
    """

    name: str
    recipe: str
    runtime: str
    writes: Writes
    accepts: tuple[str, ...]
    devices: tuple[DeviceKind, ...]
    layouts: tuple[Layout, ...]
    known: Mapping[str, str]
    source: Source
    includes_transfers: bool = False
    prepare: Callable[[Any], Callable[..., Any]] | None = field(default=None, compare=False, repr=False)


recipes: dict[str, Recipe] = {}


variants: dict[tuple[str, str], Variant] = {}


#: Recipes with parameters, by the name without them: the name of each recipe → its parameters. Variants of all of them
#: are registered by that name.
parametrized: dict[str, dict[str, dict[str, Any]]] = {}


#: Axes that the benchmark class of a source sets, by source: name of the axis → its values. See `copycost.asv.Cases`.
benchmark_axes: dict[Source, dict[str, tuple[Any, ...]]] = {}


_sources: list[Source] = []  # sources being loaded, innermost last


def recipe(
    name: str | None = None,
    *,
    magnitude: float | None = None,
    inputs: int | Make = 1,
    dtype: str | None = None,
    tolerance: float = 0.0,
    parameters: Mapping[str, Iterable[Any]] | None = None,
    as_given: bool = False,
) -> Callable[[Callable[..., np.ndarray]], Callable[..., np.ndarray]]:
    """Register a function from float64 channels-last images to float64 as a recipe's reference.

    Parameters
    ----------
    name : str, optional
        The default is the function's name, with ``-`` for ``_``.
    magnitude : float, optional
        Allow every element to be off by ``8 · eps(result dtype) · magnitude``, where that is more than the error
        analysis of the reference allows. Use it for a formula whose honest implementations differ by more than its
        roundings.
    inputs : {1, 2} or callable, optional
        Number of inputs. With 2, the reference and every variant receive a pair. A function ``inputs(images, random)``
        makes the input from a batch of channels-last images, of shape (batch, height, width, 3) and of the case's
        dtype, and from a `numpy.random.Generator`. It returns an array, or a tuple of arrays: images of several sizes,
        encoded files as uint8 arrays of one axis, a seed. The reference receives the same arrays, in float64, except
        that integer arrays of less than two axes stay as they are.
    dtype : str, optional
        Dtype of every result. By default, results have the dtype of the reference where it returns integers or
        booleans. Otherwise, integer inputs give float32 and floats keep their dtype.
    tolerance : float, optional
        Allow every element to be off by this much, in units of the result. Use it for a library that rounds in its own
        way, such as by 1 of 255. The default is 0: integers must be equal, and floats within the error analysis.
    parameters : mapping of str to iterable, optional
        Values of keyword arguments of the reference and of the variants' functions. Each combination is a recipe of its
        own: ``parameters={"size": (128, 256)}`` defines ``NAME:size=128`` and ``NAME:size=256``. Variants that name the
        recipe ``NAME`` are variants of all of them. They must be defined after it, in the same file.
    as_given : bool, optional
        Pass the arrays of an input to the reference as they are, and not in float64. Its results then define the dtypes
        of all results. Use it if the reference is itself an implementation, such as a function before a change. The
        recipe must make its inputs.

    Raises
    ------
    RegistrationError
        If the name is taken or an argument is invalid.
    """
    if callable(name):
        raise RegistrationError("@recipe needs parentheses: write @recipe()")
    if magnitude is not None and not (isinstance(magnitude, int | float) and 0 < magnitude < float("inf")):
        raise RegistrationError(f"invalid magnitude {magnitude!r}: expected a finite number above 0")
    if not (isinstance(tolerance, int | float) and 0 <= tolerance < float("inf")):
        raise RegistrationError(f"invalid tolerance {tolerance!r}: expected a finite number from 0")
    if not callable(inputs) and inputs not in (1, 2):
        raise RegistrationError(f"invalid inputs {inputs!r}: expected 1, 2, or a function that makes them")
    if as_given and not callable(inputs):
        raise RegistrationError("as_given needs inputs: expected a function that makes them")
    if dtype is not None:
        check_name("dtype", dtype, RESULT_DTYPES)

    def register(reference: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        own_name = _name("recipe", reference.__name__.replace("_", "-") if name is None else name)
        if own_name in recipes or own_name in parametrized:
            raise RegistrationError(f"recipe '{own_name}' is defined twice")
        combined = _combinations(own_name, parameters)
        for full_name, values in combined.items():
            if full_name in recipes:
                raise RegistrationError(f"recipe '{full_name}' is defined twice")
            recipes[full_name] = Recipe(
                full_name,
                magnitude,
                _source(reference),
                1 if callable(inputs) else inputs,
                dtype,
                float(tolerance),
                callable(inputs),
                bool(as_given),
                functools.partial(reference, **values) if values else reference,
                inputs if callable(inputs) else None,
            )
        if parameters:
            parametrized[own_name] = combined
        return reference

    return register


def variant(
    *,
    recipe: str,
    runtime: str,
    writes: str,
    accepts: Iterable[str] = DTYPES,
    name: str | None = None,
    devices: Iterable[str] = (),
    layouts: Iterable[str] = LAYOUTS,
    known: Mapping[str, str] | None = None,
    includes_transfers: bool = False,
) -> Callable[[Callable[[Any], Callable[..., Any]]], Callable[[Any], Callable[..., Any]]]:
    """Register ``prepare(example)``, which returns ``call(x)`` or, for ``writes="out"``, ``call(x, out)``.

    Parameters
    ----------
    recipe : str
        Name of the recipe that the variant computes.
    runtime : str
        Runtime whose arrays the call receives: ``"numpy"``, ``"tensorflow"``, ``"cupy"`` …
    writes : {"new", "out", "input"}
        Where the result goes.
    accepts : iterable of str, optional
        Supported input dtypes. The default is all.
    name : str, optional
        The default is the function's name, with ``-`` for ``_``.
    devices : iterable of {"cpu", "gpu"}, optional
        The default is every device of the runtime.
    layouts : iterable of {"channels_last", "channels_first"}, optional
        The default is both.
    known : mapping, optional
        Input dtype → evidence that this path of a library is wrong or raises.
    includes_transfers : bool, optional
        Whether the call takes and returns host arrays although a device computes. Reports distinguish such a variant
        from variants that take and return device arrays.

    Raises
    ------
    RegistrationError
        If an argument is invalid, or the recipe already has a variant of this name.
    """
    accepts, devices, layouts = as_tuple(accepts), as_tuple(devices), as_tuple(layouts)
    _name("recipe", recipe)
    _name("runtime", runtime)
    check_name("writes", writes, Writes)
    for dtype, evidence in (known or {}).items():
        check_name("dtype", dtype, DTYPES)
        if not isinstance(evidence, str) or not evidence:
            raise RegistrationError(
                f"known[{dtype!r}] is {evidence!r}: expected a non-empty text that names the evidence"
            )
    for dtype in accepts:
        check_name("dtype", dtype, DTYPES)
    for device in devices:
        check_name("device", device, DeviceKind)
    for layout in layouts:
        check_name("layout", layout, Layout)

    def register(prepare: Callable[[Any], Callable[..., Any]]) -> Callable[[Any], Callable[..., Any]]:
        own_name = _name("variant", prepare.__name__.replace("_", "-") if name is None else name)
        for full_name, values in parametrized.get(recipe, {recipe: {}}).items():
            if (full_name, own_name) in variants:
                raise RegistrationError(f"variant '{own_name}' of recipe '{full_name}' is defined twice")
            variants[full_name, own_name] = Variant(
                name=own_name,
                recipe=full_name,
                runtime=runtime,
                writes=Writes(writes),
                accepts=as_tuple(accepts),
                devices=tuple(map(DeviceKind, devices)),
                layouts=tuple(map(Layout, layouts)),
                known=dict(known or {}),
                source=_source(prepare),
                includes_transfers=bool(includes_transfers),
                prepare=functools.partial(prepare, **values) if values else prepare,
            )
        return prepare

    return register


def _combinations(name: str, parameters: Mapping[str, Iterable[Any]] | None) -> dict[str, dict[str, Any]]:
    """Return the name of each combination of parameters, and its values; the name alone if there are none."""
    axes: dict[str, tuple[Any, ...]] = {}
    for key, values in (parameters or {}).items():
        if isinstance(values, str) or not isinstance(values, Iterable) or not (axis := tuple(values)):
            raise RegistrationError(f"invalid values of parameter {key!r}: expected a non-empty list of them")
        axes[key] = axis
    found: dict[str, dict[str, Any]] = {}
    for combination in itertools.product(*axes.values()):
        own = dict(zip(axes, combination, strict=True))
        text = ",".join(f"{key}={_text(key, value)}" for key, value in own.items())
        full_name = _name("recipe", f"{name}:{text}" if text else name)
        if full_name in found:
            raise RegistrationError(f"two values of a parameter have the same text: {text}")
        found[full_name] = own
    return found


def _text(key: str, value: Any) -> str:
    """Return the text of a parameter's value in the name of a recipe: ``3``, ``128x128``, ``mean``."""
    if isinstance(value, tuple | list):
        return "x".join(_text(key, part) for part in value)
    text = str(value.__name__ if callable(value) and hasattr(value, "__name__") else value)
    if re.search(r"[\s*?\[\],=]| at 0x", text) or not text:
        raise RegistrationError(f"invalid value {text!r} of parameter {key!r}: expected a number or a short name")
    return text


def _name(kind: str, name: object) -> str:
    """Return a printable name, or raise RegistrationError."""
    if not isinstance(name, str) or not name or not name.isprintable() or name != name.strip():
        raise RegistrationError(f"invalid {kind} name {name!r}: expected printable text without surrounding spaces")
    return name


def _source(function: Callable[..., Any]) -> Source:
    return _sources[-1] if _sources else Source(function.__module__)


@contextmanager
def registering(source: Source) -> Iterator[None]:
    """Record `source` as the origin of everything registered in the body."""
    _sources.append(source)
    try:
        yield
    finally:
        _sources.pop()
