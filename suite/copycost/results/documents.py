"""JSON from files that anyone may have written or damaged: read without harm, and checked against ``schema.json``."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, TextIO

#: Whether a value is what a part of a schema says.
Check = Callable[[Any], bool]

#: Integers are kept in columns of 64 bits.
_LARGEST = 2**63


def opened(path: Path, errors: str = "strict") -> TextIO:
    """Open a file or a pipe as UTF-8 text.

    Raises
    ------
    OSError
        For a folder, a device or a socket, of which some never end; and for what cannot be opened.
    """

    def opener(name: str, flags: int) -> int:
        # A named pipe that nobody writes to would otherwise be waited for; it is empty.
        fd = os.open(name, flags | os.O_NONBLOCK)
        kind = os.fstat(fd).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
            os.close(fd)
            raise OSError(0, "it is no file", name)
        os.set_blocking(fd, True)
        return fd

    return open(path, encoding="utf-8", errors=errors, opener=opener)


def read(path: Path, *, nan: bool = False) -> Any:
    """Return the JSON document that a file holds, as `parsed` does.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it holds something else.
    """
    with opened(path) as file:
        return parsed(file.read(), nan=nan)


def parsed(text: str, *, nan: bool = False) -> Any:
    """Return the JSON document that a text is.

    Half a character, as of a path that is no UTF-8, becomes one that stands for it.

    Parameters
    ----------
    text : str
    nan : bool
        Whether NaN may stand in it, as in asv's results.

    Raises
    ------
    ValueError
        If it is not whole, names a key of one object twice, is nested too deeply, or holds a number that JSON or
        Python does not have.
    """
    try:
        found = (_WITH_NAN if nan else _PLAIN).decode(text)
        if not _HALF.search(text):
            return found
        pairs = json.dumps(found, ensure_ascii=False).encode("utf-16", "surrogatepass")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return json.loads(pairs.decode("utf-16", "replace"))


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


_PLAIN = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)
_WITH_NAN = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=lambda name: math.nan if name == "NaN" else _no_number(name)
)


def checker(schema: Mapping[str, Any]) -> Check:
    """Return what checks a value against a JSON Schema.

    Of JSON Schema it knows what ``schema.json`` uses for the type and the range of a value. It is stricter in two
    things: a whole number with a fraction, as 1.0, is no integer; and a number has to fit into 64 bits.
    """
    if "enum" in schema:
        allowed = tuple(schema["enum"])
        return lambda value: (value is None or isinstance(value, str)) and value in allowed
    given = schema.get("type", ())
    kinds = (given,) if isinstance(given, str) else tuple(given)
    checks = tuple(_KINDS[kind](schema) for kind in kinds)
    if len(checks) == 1:
        return checks[0]
    return lambda value: not checks or any(check(value) for check in checks)


def _integer(schema: Mapping[str, Any]) -> Check:
    low = schema.get("minimum", -_LARGEST)
    return lambda value: type(value) is int and low <= value < _LARGEST


def _number(schema: Mapping[str, Any]) -> Check:
    least, above = schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf)
    most = sys.float_info.max
    return lambda value: type(value) in (int, float) and above < value <= most and -most <= value and least <= value


def _string(schema: Mapping[str, Any]) -> Check:
    least = schema.get("minLength", 0)
    return lambda value: isinstance(value, str) and len(value) >= least


def _array(schema: Mapping[str, Any]) -> Check:
    item = checker(schema.get("items", {}))
    least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    return lambda value: isinstance(value, list) and least <= len(value) <= most and all(map(item, value))


def _object(schema: Mapping[str, Any]) -> Check:
    known = {name: checker(its) for name, its in schema.get("properties", {}).items()}
    required = schema.get("required", ())
    others = schema.get("additionalProperties", {})
    other = checker(others) if isinstance(others, Mapping) else lambda _: False

    def check(value: Any) -> bool:
        if not isinstance(value, dict) or any(name not in value for name in required):
            return False
        return all(known.get(name, other)(its) for name, its in value.items())

    return check


_KINDS: dict[str, Callable[[Mapping[str, Any]], Check]] = {
    "null": lambda _: lambda value: value is None,
    "boolean": lambda _: lambda value: isinstance(value, bool),
    "integer": _integer,
    "number": _number,
    "string": _string,
    "array": _array,
    "object": _object,
}

_SCHEMA = json.loads(resources.files("copycost.results").joinpath("schema.json").read_text(encoding="utf-8"))
_FIELDS = _SCHEMA["$defs"]["measurement"]["properties"]
_CHECKS = {name: checker(schema) for name, schema in _FIELDS.items()}
_NUMBERS = {name for name, schema in _FIELDS.items() if "number" in schema.get("type", ())}
_ENVIRONMENT = {name: checker(schema) for name, schema in _SCHEMA["properties"]["environment"]["properties"].items()}

#: Fields that are never null, and the one whose null says something: one that is not there was lost.
_ALWAYS = frozenset(
    name for name in _SCHEMA["$defs"]["measurement"]["required"] if name == "batch" or not _CHECKS[name](None)
)

#: Fields that a run always has, and that a history need not tell.
_UNTOLD = ("runtime", "writes", "threads")

#: What is shown at terminals as it is.
_NAMES, _REMARKS = ("recipe", "variant", "runtime"), ("reason", "known")


def check_measurement(row: dict[str, Any]) -> None:
    """Look whether an object is a measurement by ``schema.json``; fields that it does not know are let pass.

    Numbers that were written as integers become floats, and what a terminal would obey in a text is escaped.

    Parameters
    ----------
    row : dict
        Changed in place.

    Raises
    ------
    ValueError
        With a few words on what is wrong.
    """
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    if not row.keys() >= _ALWAYS:
        raise ValueError(f"it has no {', '.join(sorted(_ALWAYS - row.keys()))}")
    for name, value in row.items():
        check = _CHECKS.get(name)
        if check is None:
            continue
        if not check(value) and not (value is None and name in _UNTOLD):
            raise ValueError(f"{name} is {short(value)}")
        if type(value) is int and name in _NUMBERS:
            row[name] = float(value)
    for name in _NAMES:
        if row[name] is not None and not row[name].isprintable():
            raise ValueError(f"{name} is {short(row[name])}")
    for name in _REMARKS:
        if (text := row.get(name)) is not None and not text.isprintable():
            row[name] = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def check_environment(environment: Any) -> None:
    """Look whether an object is what ``schema.json`` says of an environment, as far as it is known to it.

    Raises
    ------
    ValueError
        With a few words on what is wrong.
    """
    if not isinstance(environment, dict):
        raise ValueError("its environment is no object")
    for name, value in environment.items():
        check = _ENVIRONMENT.get(name)
        if check is not None and not check(value):
            raise ValueError(f"{name} of its environment is {short(value)}")
    if "commit_time" in environment:
        when = datetime.fromisoformat(environment["commit_time"])
        # Outside of these pandas has no time in nanoseconds.
        if when.tzinfo is None or not 1678 <= when.year <= 2261:
            raise ValueError(f"commit_time of its environment is {short(environment['commit_time'])}")


def short(value: Any) -> str:
    """Return a value as JSON has it, with its middle left out where it is long."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:40]} … {text[-16:]}"
