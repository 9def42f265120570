"""Convert measurements to and from a DataFrame."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from copycost.model.fields import SPECS
from copycost.model.measurement import FIELDS, Measurement, from_dict

#: Fields that are not in the CSV, which has one number or text per cell.
NOT_CELLS = tuple(name for name, spec in SPECS.items() if not spec.cell)


def to_csv(table: pd.DataFrame, path: Path, **options: Any) -> None:
    """Write a table as CSV in which no text is a formula: a spreadsheet would compute it, and can start programs.

    An apostrophe precedes a text that begins as a formula does.
    """
    safe = table.copy(deep=False)
    for name in safe.columns:
        if pd.api.types.is_string_dtype(safe[name]) or pd.api.types.is_object_dtype(safe[name]):
            safe[name] = [f"'{value}" if _is_formula(value) else value for value in safe[name]]
    safe.to_csv(path, index=False, **options)


def _is_formula(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("=", "+", "-", "@"))


def joined(loaded: Iterable[tuple[str, Mapping[str, Any], Sequence[Measurement]]]) -> pd.DataFrame:
    """Join the results of `load_all` into the DataFrame of `read`."""
    rows: list[Measurement] = []
    origin: dict[str, list[Any]] = {column: [] for column in ("source", *ORIGIN)}
    for name, environment, measurements in loaded:
        rows += measurements
        known = {**environment, "source": name, "hardware": _hardware(environment), "session": _session(environment)}
        for column, values in origin.items():
            values += [known.get(column)] * len(measurements)
    table = pd.DataFrame(origin).astype({"commit_time": "datetime64[ns, UTC]"}).convert_dtypes()
    return pd.concat([table, frame(rows)], axis=1)


#: Columns with the origin of a row of `read`, besides the name of its source.
ORIGIN = ("engine", "machine", "environment", "commit", "commit_time", "hardware", "session")

#: Columns that must be equal for times to be comparable. Those that describe a place best come first.
_PLACE = ("machine", "hardware", "environment", "commit", "engine", "threads", "source", "session")


def _hardware(environment: Mapping[str, Any]) -> str | None:
    """Return the names of a machine's CPU and GPUs, or None if they are unknown."""
    if not environment.get("cpu"):
        return None
    cpus = f", {environment['cpus']} CPUs" if environment.get("cpus") else ""
    gpus = [gpu["name"] for gpu in environment.get("gpus") or () if isinstance(gpu, Mapping) and "name" in gpu]
    return ", ".join([f"{environment['cpu']}{cpus}", *gpus])


def _session(environment: Mapping[str, Any]) -> str:
    """Return the session's name from the environment, or else a digest of the environment."""
    if environment.get("session"):
        return str(environment["session"])
    # spent_seconds is only added after the run.
    begun = {name: value for name, value in environment.items() if name != "spent_seconds"}
    return hashlib.sha256(json.dumps(begun, sort_keys=True, default=str).encode()).hexdigest()[:12]


def origins(table: pd.DataFrame) -> tuple[list[int], list[str]]:
    """Return where and when each row of a table was measured: times of two origins must not be compared.

    Parameters
    ----------
    table : DataFrame
        Table returned by `read` or `frame`. Missing columns are assumed to be equal.

    Returns
    -------
    places : list of int
        Index of the origin of each row.
    names : list of str
        Name of each origin, made of the values that distinguish it from the others. A single origin has an empty name.
    """
    columns = [name for name in _PLACE if name in table]
    if not columns:
        return [0] * len(table), [""]
    if all(table[name].nunique(dropna=False) <= 1 for name in columns):
        return [0] * len(table), [""]
    numbers: dict[tuple[Any, ...], int] = {}
    rows = zip(*(objects(table[name]) for name in columns), strict=True)
    places = [numbers.setdefault(values, len(numbers)) for values in rows]
    parts: list[list[str]] = [[] for _ in numbers]
    known = [dict(zip(columns, values, strict=True)) for values in numbers]
    for origin in known:
        # Only asv names machines.
        origin["machine"] = origin.get("hardware") if origin.get("machine") is None else origin["machine"]
    for column in dict.fromkeys(("machine", *columns)):
        values = [origin[column] for origin in known]
        if len(set(values)) == 1 or len(set(map(tuple, parts))) == len(parts):
            continue
        for words, value in zip(parts, values, strict=True):
            words.append(_named(column, value))
    return places, [", ".join(words) for words in parts]


def _named(column: str, value: Any) -> str:
    """Format a value of a column for a name in `origins`."""
    if value is None:
        return f"{column} unknown"
    if column in ("commit", "session"):
        return f"{column} {str(value)[:8]}"
    return {"engine": f"engine {value}", "threads": f"{value} threads"}.get(column, str(value))


def frame(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """Return a DataFrame with a row per measurement and a column per field; missing figures are missing values."""
    columns: list[list[Any]] = [[] for _ in FIELDS]
    # Read row by row, so that each measurement is loaded into cache once and not once per column, and a few rows at a
    # time, because the tuples of all would take as much memory as the table.
    for start in range(0, len(measurements), _ROWS):
        rows = map(attrgetter(*FIELDS), measurements[start : start + _ROWS])
        for values, part in zip(columns, zip(*rows, strict=True), strict=True):
            values += part
    # Each list is released when its column is complete.
    columns.reverse()
    return pd.DataFrame({name: _column(name, columns.pop()) for name in FIELDS}, copy=False)


#: Number of rows that are read at a time.
_ROWS = 1000


def _column(name: str, values: list[Any]) -> Any:
    dtype = _DTYPES[name]
    if dtype not in _MASKED:
        if name == "instruments":
            values = list(map(list, values))
        elif name == "marks":
            # Most blocks have the same marks, and share their list.
            words = functools.cache(lambda *block: list(map(str, block)))
            values = [blocks and [words(*block) for block in blocks] for blocks in values]
        elif dtype == "string":
            # Plain strings instead of members of a vocabulary, which pandas would keep.
            values = [value if value is None else str(value) for value in values]
        if name == "code":
            # The measurements of a variant share their text, of which Arrow's strings would make copies.
            return pd.Series(values, dtype=pd.StringDtype("python"))
        return pd.Series(values, dtype=dtype)
    # Build the array from its parts. pandas inspects each value several times, which takes seconds for 100,000 rows.
    array, kind, plain_type = _MASKED[dtype]
    types = set(map(type, values))
    if types == {plain_type} or (types == {float, type(None)} and plain_type is float):
        plain = np.array(values, kind)  # None becomes NaN
        lacking = np.isnan(plain)
        plain[lacking] = 0
        return array(plain, lacking)
    objects = np.array(values, object)
    lacking = pd.isna(objects)
    objects[lacking] = kind()
    plain = objects.astype(kind)
    if (plain != objects).any():
        raise ValueError(f"invalid value in column {name}: expected {dtype}")
    return array(plain, lacking)


#: Dtype of a column → its array, and the NumPy and Python types of its values.
_MASKED: dict[str, tuple[Any, type[np.generic], type]] = {
    "boolean": (pd.arrays.BooleanArray, np.bool_, bool),
    "Int64": (pd.arrays.IntegerArray, np.int64, int),
    "Float64": (pd.arrays.FloatingArray, np.float64, float),
}

#: Dtypes of the columns, from the type annotations of the fields. The words of a vocabulary are strings.
_DTYPES = {
    field.name: "string"
    if "enum" in SPECS[field.name].schema
    else {"str": "string", "bool": "boolean", "int": "Int64", "float": "Float64"}.get(
        str(field.type).removesuffix(" | None"), "object"
    )
    for field in fields(Measurement)
}


def measurements(table: pd.DataFrame) -> list[Measurement]:
    """Return the measurements of a table returned by `frame` or `read`."""
    return [from_dict(row) for row in records(table[[name for name in FIELDS if name in table]])]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries, with None for missing values."""
    columns = [objects(column) for _, column in table.items()]
    return [dict(zip(table.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def objects(column: pd.Series) -> list[Any]:
    """Return the values of a column as Python objects, with None for missing values."""
    if not isinstance(column.dtype, np.dtype):
        return column.array.to_numpy(object, na_value=None).tolist()
    values = column.tolist()
    lacking = column.isna().to_numpy()
    return [None if lacks else value for value, lacks in zip(values, lacking, strict=True)] if lacking.any() else values
