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
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from copycost.model.vocabulary import DeviceKind, Layout, Mark, ResultShares, Status, StopReason, Writes
from copycost.results import schema as contract

#: Type of a function that returns whether a value conforms to a part of a schema.
Check = Callable[[Any], bool]

#: Type of a function that returns whether all values of a list conform to a part of a schema.
ColumnCheck = Callable[[list[Any]], bool]

#: Types of a text: that of files, and those of measurements in memory.
_TEXTS = frozenset({str, DeviceKind, Layout, Mark, ResultShares, Status, StopReason, Writes})

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
        document = (_WITH_NAN if nan else _PLAIN).decode(text)
        if not _HALF.search(text):
            return document
        pairs = json.dumps(document, ensure_ascii=False).encode("utf-16", "surrogatepass")
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None
    return json.loads(pairs.decode("utf-16", "replace"))


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("an object has a duplicate key")
    return document


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


_PLAIN = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)
_WITH_NAN = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=lambda name: math.nan if name == "NaN" else _no_number(name)
)


def checker(schema: Mapping[str, Any]) -> Check:
    """Return a function that checks a value against a JSON Schema, as `column_checker` does with many values."""
    check = column_checker(schema)
    return lambda value: check([value])


def column_checker(schema: Mapping[str, Any]) -> ColumnCheck:
    """Return a function that checks all values of a list against a JSON Schema.

    Checking a column at once takes a tenth of the time of checking each of its values.

    It supports the parts of JSON Schema that the schema of a run uses for the type and the range of a value. It is
    stricter in two ways: a whole number written with a fraction, such as 1.0, is not an integer, and a number must fit
    into 64 bits.
    """
    if "enum" in schema:
        allowed = frozenset(schema["enum"])
        return lambda values: set(map(type, values)) <= {*_TEXTS, NoneType} and allowed.issuperset(values)
    kinds = schema.get("type", ())
    if not kinds:
        return lambda _: True
    parts = [(_TYPES[kind], _KINDS[kind](schema)) for kind in ((kinds,) if isinstance(kinds, str) else kinds)]
    accepted = frozenset().union(*(types for types, _ in parts))

    def check(values: list[Any]) -> bool:
        present = set(map(type, values))
        if not present <= accepted:
            return False
        for types, conform in parts:
            if present <= types:
                return not values or conform(values)
            if present & types and not conform([value for value in values if type(value) in types]):
                return False
        return True

    return check


def _integers(schema: Mapping[str, Any]) -> ColumnCheck:
    low = schema.get("minimum", -_LARGEST)
    return lambda values: low <= min(values) and max(values) < _LARGEST


def _numbers(schema: Mapping[str, Any]) -> ColumnCheck:
    least, above = schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf)
    largest = sys.float_info.max

    def check(values: list[Any]) -> bool:
        try:
            finite = all(map(math.isfinite, values))
        except OverflowError:  # an integer that no float can hold
            return False
        # The order of NaN is undefined, so minimum and maximum come second.
        return finite and above < min(values) and least <= min(values) and max(values) <= largest

    return check


def _strings(schema: Mapping[str, Any]) -> ColumnCheck:
    least = schema.get("minLength", 0)
    return lambda values: not least or min(map(len, values)) >= least


def _arrays(schema: Mapping[str, Any]) -> ColumnCheck:
    items = column_checker(schema.get("items", {}))
    least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    return lambda values: (
        least <= min(map(len, values)) and max(map(len, values)) <= most and items(list(chain.from_iterable(values)))
    )


def _objects(schema: Mapping[str, Any]) -> ColumnCheck:
    known = {name: column_checker(property) for name, property in schema.get("properties", {}).items()}
    required = frozenset(schema.get("required", ()))
    others = schema.get("additionalProperties", {})
    other = column_checker(others) if isinstance(others, Mapping) else lambda values: not values

    def check(values: list[Any]) -> bool:
        objects = {id(value): value for value in values}.values()  # measurements share equal objects
        return (
            all(value.keys() >= required for value in objects)
            and all(conform([value[name] for value in objects if name in value]) for name, conform in known.items())
            and other([item for value in objects for name, item in value.items() if name not in known])
        )

    return check


NoneType = type(None)

#: Type of JSON → Python types of its values.
_TYPES: dict[str, frozenset[type]] = {
    "null": frozenset({NoneType}),
    "boolean": frozenset({bool}),
    "integer": frozenset({int}),
    "number": frozenset({int, float}),
    "string": _TEXTS,
    "array": frozenset({list}),
    "object": frozenset({dict}),
}

#: Type of JSON → maker of the check of values of this type. The lists that it checks are not empty.
_KINDS: dict[str, Callable[[Mapping[str, Any]], ColumnCheck]] = {
    "null": lambda _: lambda _: True,
    "boolean": lambda _: lambda _: True,
    "integer": _integers,
    "number": _numbers,
    "string": _strings,
    "array": _arrays,
    "object": _objects,
}

_SCHEMA = contract.schema()
_FIELDS = _SCHEMA["$defs"]["measurement"]["properties"]
_CHECKS = {name: column_checker(schema) for name, schema in _FIELDS.items()}
_NUMBERS = {name for name, schema in _FIELDS.items() if "number" in schema.get("type", ())}
_ENVIRONMENT = {name: checker(schema) for name, schema in _SCHEMA["properties"]["environment"]["properties"].items()}

#: Fields that must be present: those that are never null, and ``batch``, whose null has a meaning. An absent field was
#: lost.
_ALWAYS = frozenset(
    name for name in _SCHEMA["$defs"]["measurement"]["required"] if name == "batch" or not _CHECKS[name]([None])
)

#: Fields that are never null in a run but may be null in a history.
_UNTOLD = ("runtime", "writes", "threads")

#: Texts that are printed to terminals as they are: a name that is not printable is rejected, and a remark is escaped
#: when it is read.
_NAMES, _REMARKS = ("recipe", "variant", "runtime"), ("reason", "known")


def check_measurement(row: dict[str, Any]) -> None:
    """Check that an object is a measurement, like `check_columns`, and change it in place in the same way."""
    if not isinstance(row, dict):
        raise ValueError("expected an object")
    columns = {name: [value] for name, value in row.items()}
    check_columns(columns)
    row.update({name: values[0] for name, values in columns.items()})


def check_columns(columns: dict[str, list[Any]]) -> None:
    """Check measurements according to ``schema.json``, ignoring unknown fields.

    Integers in fields of floats become floats, and characters of ``reason`` and ``known`` that are not printable are
    escaped.

    Parameters
    ----------
    columns : dict
        Field → its value in each measurement. Changed in place.

    Raises
    ------
    ValueError
        If a measurement is invalid. The message is short.
    """
    if not columns.keys() >= _ALWAYS:
        raise ValueError(f"missing {', '.join(sorted(_ALWAYS - columns.keys()))}")
    for name in columns.keys() & _CHECKS.keys():
        values, check = columns[name], _CHECKS[name]
        if name in _UNTOLD:
            values = [value for value in values if value is not None]
        if not check(values):
            raise ValueError(f"{name} is {short(next(value for value in values if not check([value])))}")
        if name in _NUMBERS and int in set(map(type, values)):
            columns[name] = [float(value) if type(value) is int else value for value in values]
    for name in _NAMES:
        for text in set(columns[name]):
            if text is not None and not text.isprintable():
                raise ValueError(f"{name} is {short(text)}")
    for name in _REMARKS:
        if name in columns:
            columns[name] = [_escaped(text) for text in columns[name]]


def _escaped(text: str | None) -> str | None:
    """Return a text with its characters that are not printable escaped."""
    if text is None or text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


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
