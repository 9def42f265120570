"""Messages from workers to the session: JSON that is checked against the type that is expected.

A worker runs a stranger's code, which may write anything to the connection. So an answer is nothing that can execute,
and only becomes an object once every part of it has the type that the requested function declares.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints


class MessageError(ValueError):
    """Raised for a message that is not what is expected."""


def encode(value: Any) -> bytes:
    """Return a message with a value.

    Parameters
    ----------
    value : dataclass, str, int, float, bool, None, or lists, tuples and dicts of them
    """
    return json.dumps(_plain(value), separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a number of NumPy
        return value.item()
    return value


def decode(message: bytes, expected: Any) -> Any:
    """Return the value in a message.

    Parameters
    ----------
    message : bytes
    expected : type
        Type of the value: a dataclass, a `StrEnum`, ``str``, ``int``, ``float``, ``bool``, ``None``, or a ``list``,
        ``tuple``, ``dict`` or union of them. ``Any`` is any value of JSON, in which tuples are lists.

    Raises
    ------
    MessageError
        If the message is no JSON, has a number that is not finite, or if its value is not of this type.
    """
    try:
        return typed(json.loads(message, parse_float=_finite, parse_constant=_no_number), expected)
    except (ValueError, RecursionError, TypeError, OverflowError) as error:
        raise MessageError(str(error)) from None


def _finite(text: str) -> float:
    """Return a number of JSON, or raise MessageError if it is too large: no file of results could hold it."""
    value = float(text)
    if not math.isfinite(value):
        raise MessageError(f"{text} is not finite")
    return value


def _no_number(name: str) -> NoReturn:
    """Refuse ``NaN`` and ``Infinity``, which are no JSON."""
    raise MessageError(f"{name} is no number")


def typed(value: Any, expected: Any) -> Any:
    """Return a value of JSON as an object of the expected type, or raise MessageError."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (Union, types.UnionType):
        return _one_of(value, arguments)
    if origin is Literal:
        return _checked(value, value in arguments, expected)
    if origin in (list, Sequence):
        return [typed(item, arguments[0]) for item in _checked(value, isinstance(value, list), expected)]
    if origin is tuple:
        return _tuple(value, arguments, expected)
    if origin in (dict, Mapping):
        items = _checked(value, isinstance(value, dict), expected).items()
        return {key: typed(item, arguments[1]) for key, item in items}
    if expected is Any:  # of JSON: no object that could execute anything
        return value
    if expected in (None, type(None)):
        return _checked(value, value is None, expected)
    if is_dataclass(expected):
        return _dataclass(value, expected)
    if isinstance(expected, type) and issubclass(expected, StrEnum):
        return expected(_checked(value, isinstance(value, str), expected))
    if expected is float:
        return float(_checked(value, type(value) in (int, float), expected))
    if expected in (bool, int, str):
        return _checked(value, type(value) is expected, expected)
    raise MessageError(f"{expected} is no type of a message")


def _checked(value: Any, holds: bool, expected: Any) -> Any:
    if not holds:
        raise MessageError(f"{value!r:.40} is not of type {expected}")
    return value


def _one_of(value: Any, choices: Sequence[Any]) -> Any:
    for choice in choices:
        try:
            return typed(value, choice)
        except MessageError:
            continue
    raise MessageError(f"{value!r:.40} is of none of the types {choices}")


def _tuple(value: Any, arguments: Sequence[Any], expected: Any) -> tuple[Any, ...]:
    _checked(value, isinstance(value, list), expected)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(typed(item, arguments[0]) for item in value)
    _checked(value, len(value) == len(arguments), expected)
    return tuple(typed(item, kind) for item, kind in zip(value, arguments, strict=True))


def _dataclass(value: Any, expected: Any) -> Any:
    hints = _hints(expected)
    _checked(value, isinstance(value, dict) and value.keys() == hints.keys(), expected)
    return expected(**{name: typed(item, hints[name]) for name, item in value.items()})


@cache
def _hints(expected: Any) -> dict[str, Any]:
    hints = get_type_hints(expected)
    return {field.name: hints[field.name] for field in fields(expected)}
