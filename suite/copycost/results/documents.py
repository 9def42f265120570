"""Read JSON from untrusted or damaged files safely, and check it against the JSON Schema of a run."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from copycost.results import schema as contract

#: Type of a function that returns whether a value conforms to a part of a schema.
Check = Callable[[Any], bool]

#: Integers are stored in columns of 64 bits.
_LARGEST = 2**63


def opened(path: Path, errors: str = "strict") -> TextIO:
    """Open a file or a pipe as UTF-8 text.

    Raises
    ------
    OSError
        If the path is a folder, a device or a socket, some of which never end, or if it cannot be opened.
    """

    def opener(name: str, flags: int) -> int:
        # Without O_NONBLOCK, opening a named pipe without a writer would block. Such a pipe reads as empty.
        fd = os.open(name, flags | os.O_NONBLOCK)
        kind = os.fstat(fd).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
            os.close(fd)
            raise OSError(0, "expected a regular file or a pipe", name)
        os.set_blocking(fd, True)
        return fd

    return open(path, encoding="utf-8", errors=errors, opener=opener)


def read(path: Path, *, nan: bool = False) -> Any:
    """Return the JSON document in a file, parsed by `parsed`.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the file does not contain a valid document.
    """
    with opened(path) as file:
        return parsed(file.read(), nan=nan)


def parsed(text: str, *, nan: bool = False) -> Any:
    """Parse a text as a JSON document.

    Unpaired surrogates, as in a path that is not valid UTF-8, become replacement characters.

    Parameters
    ----------
    text : str
    nan : bool
        Whether the text may contain NaN, like asv's results.

    Raises
    ------
    ValueError
        If the document is incomplete, has a duplicate key in one object, is nested too deeply, or contains a number
        that JSON or Python does not have.
    """
    try:
        found = (_WITH_NAN if nan else _PLAIN).decode(text)
        if not _HALF.search(text):
            return found
        pairs = json.dumps(found, ensure_ascii=False).encode("utf-16", "surrogatepass")
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None
    return json.loads(pairs.decode("utf-16", "replace"))


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a duplicate key")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


_PLAIN = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)
_WITH_NAN = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=lambda name: math.nan if name == "NaN" else _no_number(name)
)


def checker(schema: Mapping[str, Any]) -> Check:
    """Return a function that checks a value against a JSON Schema.

    It supports the parts of JSON Schema that the schema of a run uses for the type and the range of a value. It is
    stricter in two ways: a whole number written with a fraction, such as 1.0, is not an integer, and a number must fit
    into 64 bits.
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

_SCHEMA = contract.schema()
_FIELDS = _SCHEMA["$defs"]["measurement"]["properties"]
_CHECKS = {name: checker(schema) for name, schema in _FIELDS.items()}
_NUMBERS = {name for name, schema in _FIELDS.items() if "number" in schema.get("type", ())}
_ENVIRONMENT = {name: checker(schema) for name, schema in _SCHEMA["properties"]["environment"]["properties"].items()}

#: Fields that must be present: those that are never null, and ``batch``, whose null has a meaning. An absent field was
#: lost.
_ALWAYS = frozenset(
    name for name in _SCHEMA["$defs"]["measurement"]["required"] if name == "batch" or not _CHECKS[name](None)
)

#: Fields that are never null in a run but may be null in a history.
_UNTOLD = ("runtime", "writes", "threads")

#: Texts that are printed to terminals as they are: a name that is not printable is rejected, and a remark is escaped
#: when it is read.
_NAMES, _REMARKS = ("recipe", "variant", "runtime"), ("reason", "known")


def check_measurement(row: dict[str, Any]) -> None:
    """Check that an object is a measurement according to ``schema.json``, ignoring unknown fields.

    Integers in fields of floats become floats, and characters of ``reason`` and ``known`` that are not printable are
    escaped.

    Parameters
    ----------
    row : dict
        Changed in place.

    Raises
    ------
    ValueError
        If the object is invalid. The message is short.
    """
    if not isinstance(row, dict):
        raise ValueError("expected an object")
    if not row.keys() >= _ALWAYS:
        raise ValueError(f"missing {', '.join(sorted(_ALWAYS - row.keys()))}")
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
    """Check that an object is an environment according to ``schema.json``, ignoring unknown keys.

    Raises
    ------
    ValueError
        If the object is invalid. The message is short.
    """
    if not isinstance(environment, dict):
        raise ValueError("the environment must be an object")
    for name, value in environment.items():
        check = _ENVIRONMENT.get(name)
        if check is not None and not check(value):
            raise ValueError(f"{name} of the environment is {short(value)}")
    if "commit_time" in environment:
        when = datetime.fromisoformat(environment["commit_time"])
        # Outside of these years pandas cannot represent times in nanoseconds.
        if when.tzinfo is None or not 1678 <= when.year <= 2261:
            raise ValueError(f"commit_time of the environment is {short(environment['commit_time'])}")


def short(value: Any) -> str:
    """Return a value as JSON, with the middle of a long text elided."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # a number with thousands of digits, or deeply nested lists
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:40]} … {text[-16:]}"
