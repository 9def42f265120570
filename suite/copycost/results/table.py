"""Measurements as a DataFrame."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd

from copycost.model.measurement import FIELDS, Measurement, from_dict

#: The fields that are no figure, a word or a reason: not in the CSV, which has one a cell.
NOT_CELLS = ("missing", "ranges", "samples", "marks", "clocks_mhz", "temperatures_c", "slowed", "code", "timeline")


def joined(loaded: Iterable[tuple[str, Mapping[str, Any], Sequence[Measurement]]]) -> pd.DataFrame:
    """What `load_all` gives, as the table of `read`."""
    rows: list[Measurement] = []
    origin: dict[str, list[Any]] = {column: [] for column in ("source", *ORIGIN)}
    for name, environment, measurements in loaded:
        rows += measurements
        known = {**environment, "source": name, "hardware": _hardware(environment), "session": _session(environment)}
        for column, its in origin.items():
            its += [known.get(column)] * len(measurements)
    table = pd.DataFrame(origin).astype({"commit_time": "datetime64[ns, UTC]"}).convert_dtypes()
    return pd.concat([table, frame(rows)], axis=1)


#: Where a row of `read` is from, beside the name of its source.
ORIGIN = ("engine", "machine", "environment", "commit", "commit_time", "hardware", "session")


#: Columns that must be equal for times to be compared, those first that name a place best.
_PLACE = ("machine", "hardware", "environment", "commit", "engine", "threads", "source", "session")


def _hardware(environment: Mapping[str, Any]) -> str | None:
    """The CPU and the GPUs of a machine, None where they are not known."""
    if not environment.get("cpu"):
        return None
    cpus = f", {environment['cpus']} CPUs" if environment.get("cpus") else ""
    gpus = [gpu["name"] for gpu in environment.get("gpus") or () if isinstance(gpu, Mapping) and "name" in gpu]
    return ", ".join([f"{environment['cpu']}{cpus}", *gpus])


def _session(environment: Mapping[str, Any]) -> str:
    """What was measured together: the name that the environment gives it, else a digest of the environment."""
    if environment.get("session"):
        return str(environment["session"])
    # Where the time went is noted afterwards.
    told = {name: value for name, value in environment.items() if name != "spent_seconds"}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:12]


def origins(table: pd.DataFrame) -> tuple[list[int], list[str]]:
    """Where and when each row of a table was measured. Times of two origins must not be compared.

    Parameters
    ----------
    table : DataFrame
        As `read` or `frame` makes it. Columns that it lacks are taken to be equal.

    Returns
    -------
    places : list of int
        For each row, its origin.
    names : list of str
        Of each origin, by what tells it from the others. Of a single one the name is empty.
    """
    columns = [name for name in _PLACE if name in table]
    if not columns:
        return [0] * len(table), [""]
    numbers: dict[tuple[Any, ...], int] = {}
    places = [numbers.setdefault(tuple(row.values()), len(numbers)) for row in records(table[columns])]
    if len(numbers) <= 1:
        return places, [""]
    parts: list[list[str]] = [[] for _ in numbers]
    known = [dict(zip(columns, one, strict=True)) for one in numbers]
    for one in known:
        # Only asv gives machines a name.
        one["machine"] = one.get("hardware") if one.get("machine") is None else one["machine"]
    for column in dict.fromkeys(("machine", *columns)):
        values = [one[column] for one in known]
        if len(set(values)) == 1 or len({tuple(its) for its in parts}) == len(parts):
            continue
        for its, value in zip(parts, values, strict=True):
            its.append(_named(column, value))
    return places, [", ".join(its) for its in parts]


def _named(column: str, value: Any) -> str:
    """A value of a column of `origins` in a name."""
    if value is None:
        return f"{column} not known"
    if column in ("commit", "session"):
        return f"{column} {str(value)[:8]}"
    return {"engine": f"engine {value}", "threads": f"{value} threads"}.get(column, str(value))


def frame(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """One row a measurement, one column a field of the JSON contract; missing figures are missing values."""
    # Row by row: each is looked up in memory once, and not once a column.
    rows = map(attrgetter(*FIELDS), measurements)
    columns = zip(*rows, strict=True) if measurements else [()] * len(FIELDS)
    return pd.DataFrame({name: _column(name, list(its)) for name, its in zip(FIELDS, columns, strict=True)})


def _column(name: str, values: list[Any]) -> Any:
    dtype = _DTYPES[name]
    if dtype not in _MASKED:
        values = list(map(list, values)) if name == "instruments" else values
        return pd.Series(values, dtype=dtype)
    # Of its parts: pandas looks at each value several times, which of 100,000 rows takes seconds.
    array, kind = _MASKED[dtype]
    given = np.array(values, object)
    lacking = pd.isna(given)
    given[lacking] = kind()
    plain = given.astype(kind)
    if (plain != given).any():
        raise ValueError(f"{name} holds what is no {dtype}")
    return array(plain, lacking)


_MASKED: dict[str, tuple[Any, type[np.generic]]] = {
    "boolean": (pd.arrays.BooleanArray, np.bool_),
    "Int64": (pd.arrays.IntegerArray, np.int64),
    "Float64": (pd.arrays.FloatingArray, np.float64),
}


#: Of the columns, by what the fields hold.
_DTYPES = {
    field.name: {"str": "string", "bool": "boolean", "int": "Int64", "float": "Float64"}.get(
        str(field.type).removesuffix(" | None"), "object"
    )
    for field in fields(Measurement)
}


def measurements(table: pd.DataFrame) -> list[Measurement]:
    """The measurements of a table that `frame` or `read` made."""
    return [from_dict(row) for row in records(table[[name for name in FIELDS if name in table]])]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, in which what is missing is None."""
    plain = table.astype(object)
    found: list[dict[Any, Any]] = plain.where(plain.notna(), None).to_dict("records")
    return found
