"""What can be measured: recipes (what is computed) and variants (how), and where each is defined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    pass
from copycost.model.naming import RegistrationError, as_tuple, check_name

WRITES = ("new", "out", "input")


DTYPES = ("uint8", "float16", "float32", "float64")


RESULT_DTYPES = (
    "float16", "float32", "float64", "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
)  # fmt: skip


LAYOUTS = ("channels_last", "channels_first")


DEVICES = ("cpu", "gpu")


@dataclass(frozen=True)
class Recipe:
    """What is computed.

    Attributes
    ----------
    name : str
    magnitude : float or None
        S, where every element may be off by ``8 · eps(result dtype) · S``, beyond what an error analysis of the
        reference allows (see `copycost.engine.rounding`). None: by no more than that.
    source : str
        The module or the file that defines it.
    inputs : {1, 2}
        With two, whoever computes it is given a pair.
    dtype : str or None
        Of every result. None: that of the reference where it returns integers or booleans; else float32 for integers,
        and floats keep theirs.
    reference : callable
        float64 arrays of channels-last images in, a float64 array out. None where only the name travels.
    """

    name: str
    magnitude: float | None
    source: str
    inputs: int = 1
    dtype: str | None = None
    reference: Callable[..., np.ndarray] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Variant:
    """One way of computing a recipe in one runtime.

    Attributes
    ----------
    name, recipe, runtime : str
    writes : {"new", "out", "input"}
        Where the result goes: an array of its own, a buffer prepared once, or over the input.
    accepts : tuple of str
        The input dtypes that it is for.
    devices : tuple of str
        The kinds of device it runs on; empty: all that its runtime knows.
    layouts : tuple of str
        The layouts that it is for.
    known : mapping of str to str
        Input dtype → the evidence that a library's path is known to be wrong, or to raise, for it.
    source : str
        The module or the file that defines it.
    includes_transfers : bool
        Whether a call on a device begins and ends with arrays of the host.
    prepare : callable
        ``prepare(example)`` returns the call that is measured. None where only the description travels.
    """

    name: str
    recipe: str
    runtime: str
    writes: str
    accepts: tuple[str, ...]
    devices: tuple[str, ...]
    layouts: tuple[str, ...]
    known: Mapping[str, str]
    source: str
    includes_transfers: bool = False
    prepare: Callable[[Any], Callable[..., Any]] | None = field(default=None, compare=False, repr=False)


recipes: dict[str, Recipe] = {}


variants: dict[tuple[str, str], Variant] = {}


_sources: list[str] = []  # what is being loaded, innermost last


def recipe(
    name: str | None = None, *, magnitude: float | None = None, inputs: int = 1, dtype: str | None = None
) -> Callable[[Callable[..., np.ndarray]], Callable[..., np.ndarray]]:
    """Register a function as a recipe's reference: float64 channels-last images in, float64 out.

    Parameters
    ----------
    name : str, optional
        The default is the function's name, with ``-`` for ``_``.
    magnitude : float, optional
        Allow every element to be off by ``8 · eps(result dtype) · magnitude``, where that is more than the error
        analysis of the reference allows: for a formula whose honest implementations differ by more than its roundings.
    inputs : {1, 2}, optional
        With two, the reference and every variant are given a pair of them.
    dtype : str, optional
        Of every result. The default is that of the reference where it returns integers or booleans; otherwise float32
        for integers, and floats keep theirs.

    Raises
    ------
    RegistrationError
        If the name is taken, or a word is not one of those allowed.
    """

    if callable(name):
        raise RegistrationError("@recipe needs its parentheses: @recipe()")
    if magnitude is not None and not (isinstance(magnitude, int | float) and 0 < magnitude < float("inf")):
        raise RegistrationError(f"a magnitude of {magnitude!r}: it is a finite number above 0")
    if inputs not in (1, 2):
        raise RegistrationError(f"a recipe of {inputs!r} inputs: it has 1 or 2")
    if dtype is not None:
        check_name("dtype", dtype, RESULT_DTYPES)

    def register(reference: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        chosen = _name("recipe", reference.__name__.replace("_", "-") if name is None else name)
        if chosen in recipes:
            raise RegistrationError(f"recipe '{chosen}' is defined twice")
        recipes[chosen] = Recipe(chosen, magnitude, _where(reference), inputs, dtype, reference)
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
        The name of the recipe that is computed.
    runtime : str
        The runtime whose arrays the call is given: ``"numpy"``, ``"tensorflow"``, ``"cupy"`` …
    writes : {"new", "out", "input"}
        Where the result goes.
    accepts : iterable of str, optional
        Input dtypes; the default is all.
    name : str, optional
        The default is the function's name, with ``-`` for ``_``.
    devices : iterable of {"cpu", "gpu"}, optional
        The default is every device the runtime knows.
    layouts : iterable of {"channels_last", "channels_first"}, optional
        The default is both.
    known : mapping, optional
        Input dtype → evidence that this path of a library is wrong or raises.
    includes_transfers : bool, optional
        Whether the call is given arrays of the host, and returns such, though a device computes: it is then told apart
        from what begins and ends on the device.

    Raises
    ------
    RegistrationError
        If a word is not one of those allowed or the name is taken for this recipe.
    """
    accepts, devices, layouts = as_tuple(accepts), as_tuple(devices), as_tuple(layouts)
    _name("recipe", recipe)
    _name("runtime", runtime)
    check_name("writes", writes, WRITES)
    for dtype, evidence in (known or {}).items():
        check_name("dtype", dtype, DTYPES)
        if not isinstance(evidence, str) or not evidence:
            raise RegistrationError(f"known[{dtype!r}] is {evidence!r}: it names the evidence")
    for dtype in accepts:
        check_name("dtype", dtype, DTYPES)
    for device in devices:
        check_name("device", device, DEVICES)
    for layout in layouts:
        check_name("layout", layout, LAYOUTS)

    def register(prepare: Callable[[Any], Callable[..., Any]]) -> Callable[[Any], Callable[..., Any]]:
        chosen = _name("variant", prepare.__name__.replace("_", "-") if name is None else name)
        if (recipe, chosen) in variants:
            raise RegistrationError(f"variant '{chosen}' of recipe '{recipe}' is defined twice")
        variants[recipe, chosen] = Variant(
            chosen, recipe, runtime, writes, accepts, devices, layouts, dict(known or {}), _where(prepare),
            bool(includes_transfers), prepare,
        )  # fmt: skip
        return prepare

    return register


def _name(what: str, given: object) -> str:
    """A name that can be printed, or RegistrationError."""
    if not isinstance(given, str) or not given or not given.isprintable() or given != given.strip():
        raise RegistrationError(f"{given!r} is no name for a {what}")
    return given


def _where(function: Callable[..., Any]) -> str:
    return _sources[-1] if _sources else function.__module__


@contextmanager
def registering(source: str) -> Iterator[None]:
    """Note `source` as the origin of what is registered in the body."""
    _sources.append(source)
    try:
        yield
    finally:
        _sources.pop()
