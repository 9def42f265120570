"""Find the arrays in arguments and results, copy them, and read their values."""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from copycost_meter.library import ConsumedArrayError, Library

#: Package of an array's type → library.
_OF_PACKAGE = {
    "numpy": "numpy", "tensorflow": "tensorflow", "torch": "torch", "jax": "jax", "jaxlib": "jax", "cupy": "cupy",
}  # fmt: skip


def library(name: str) -> Library:
    """Return the library of this name."""
    found: Library = importlib.import_module(f"copycost_meter.libraries.{name}").LIBRARY
    return found


def library_of(array: Any) -> str:
    """Return the name of the library of a dense array, or an empty text for any other value."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(array, numpy.ndarray):
        return "numpy"
    name = _OF_PACKAGE.get(type(array).__module__.partition(".")[0], "")
    # Specifications of arrays have no values; the shape of ragged ones, and sparse ones, have no strides.
    is_dense = (
        name not in ("", "numpy")
        and all(hasattr(array, attribute) for attribute in ("shape", "dtype", "__array__"))
        and all(isinstance(n, int) for n in array.shape)
        and str(getattr(array, "layout", "strided")).endswith("strided")
    )
    return name if is_dense else ""


def found_arrays(value: Any, name: str = "") -> dict[str, Any]:
    """Return the arrays in a value by their name: ``x``, ``x[0]``, ``batch['image']``."""
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def look(value: Any, name: str) -> None:
        if library_of(value):
            found[name] = value
        elif id(value) not in seen:
            for key, part in _parts(value, name):
                seen.add(id(value))  # a container may hold itself
                look(part, key)

    look(value, name)
    return found


def _parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a container that `with_copies` can make anew, with their names."""
    if isinstance(value, dict):
        yield from ((f"{name}[{key!r}]" if name else str(key), part) for key, part in value.items())
    elif type(value) in (list, tuple) or _is_named_tuple(value):
        yield from ((f"{name}[{i}]", part) for i, part in enumerate(value))


def with_copies(value: Any, copies: dict[int, Any]) -> Any:
    """Return a value with a copy of each array in it: the same one for the same array.

    Parameters
    ----------
    value : object
        Arrays are found in dicts, lists and tuples.
    copies : dict
        Copies so far, by the identity of the array or of its container.
    """
    if id(value) in copies:
        return copies[id(value)]
    if name := library_of(value):
        copies[id(value)] = own = library(name).copied(value)
        return own
    if isinstance(value, dict):
        copies[id(value)] = own = copy.copy(value)
        own.update({key: with_copies(part, copies) for key, part in value.items()})
        return own
    if type(value) is list:
        copies[id(value)] = own = list(value)
        own[:] = [with_copies(part, copies) for part in value]
        return own
    if type(value) is tuple:
        return tuple(with_copies(part, copies) for part in value)
    if _is_named_tuple(value):
        return type(value)(*(with_copies(part, copies) for part in value))
    return value


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def parameters_of(call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by the names of their parameters, where these are known."""
    try:
        return dict(inspect.signature(call).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # a builtin, or arguments that do not fit, which the call itself reports
        return {f"args[{i}]": value for i, value in enumerate(args)} | dict(kwargs)


def place_of(array: Any) -> str:
    """Return ``"cpu"`` or ``"gpu"``, where an array is, or raise ValueError if it is elsewhere."""
    where = str(getattr(array, "device", "")).upper()
    if "GPU" in where or "CUDA" in where:
        return "gpu"
    if where and "CPU" not in where:
        raise ValueError(f"x is on {where.lower()}: expected the CPU or a CUDA device")
    return "cpu"


def is_comparable(array: Any) -> bool:
    """Return whether the values of an array can be compared, on a device that is known."""
    try:
        _values_of(array)
        place_of(array)
    except Exception:  # a test's arrays may be anything, and the test is not about this
        return False
    return True


def digest_of(array: Any) -> bytes | None:
    """Return a digest of the values of an array, or None if a call has consumed it.

    To keep the values instead would take memory, and memory that is new to a process is slower than SHA-256.
    """
    try:
        values = _values_of(array).ravel()
    except ConsumedArrayError:
        return None
    try:
        content = values.view("u1")
    except TypeError:  # Python's objects, of which the addresses are compared
        content = values.tobytes()
    return hashlib.sha256(content).digest()


def _values_of(array: Any) -> Any:
    """Return the values of an array as a NumPy array."""
    try:
        return library(library_of(array)).to_numpy(array)
    except TypeError:  # of PyTorch
        raise ValueError(f"an array of {array.dtype}: expected a dtype that NumPy knows") from None


def nbytes_of(array: Any) -> int:
    """Return the size of an array in bytes."""
    nbytes = getattr(array, "nbytes", None)
    if nbytes is not None:
        return int(nbytes)
    shape, dtype = getattr(array, "shape", ()), getattr(array, "dtype", None)
    size = math.prod(int(n) for n in shape)
    return size * int(getattr(dtype, "size", getattr(dtype, "itemsize", 0)) or 0)


def bytes_in(result: Any) -> int:
    """Return the bytes of the arrays in a result."""
    return sum(map(nbytes_of, found_arrays({"": result}).values()))
