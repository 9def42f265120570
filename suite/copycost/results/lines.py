"""Lines of a run, one measurement each: written as they are measured, and read in batches and on several CPUs."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from itertools import chain, islice, pairwise, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from copycost.model.measurement import REQUIRED, Measurement, from_columns
from copycost.results import documents

#: Number of lines that are checked together: enough to check by column, and few enough to stay in cache.
_BATCH = 200

#: Bytes of a file that one process reads at a time. A smaller file is read in this process.
_PART = 2**23

#: Values that measurements share: a hundred thousand lines have few distinct words, sources and sets of missing fields,
#: and copies of them would take most of the memory.
_Pool = dict[Any, Any]


def line(measurement: Measurement) -> str:
    """Return the line of a measurement."""
    # Keep None in required fields: a reader requires these, and None is a valid value of some. Others default to None.
    known = {name: value for name, value in measurement.to_dict().items() if value is not None or name in REQUIRED}
    reasons: dict[str, list[str]] = {}
    for name, reason in measurement.missing.items():
        reasons.setdefault(reason, []).append(name)
    return json.dumps(known | {"missing": reasons}, allow_nan=False) + "\n"


def parsed(text: str) -> Measurement:
    """Return the measurement of a line, or raise ValueError if it is invalid."""
    ((_, columns),) = _columns([text], {})
    (measurement,) = from_columns(columns)
    return measurement


def read(path: Path, workers: int = 1) -> tuple[list[Measurement], list[tuple[int, str]]]:
    """Return the measurements of a file, and the number of each invalid line with the reason.

    An incomplete last line, as a killed run leaves it, is ignored.

    Parameters
    ----------
    path : Path
    workers : int
        Number of processes that read a large file. They are forked, so more than one is only safe in a process without
        other threads.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    measurements: list[Measurement] = []
    invalid: list[tuple[int, str]] = []
    lines = 0
    for part in _parts(path, workers):
        before = lines
        for batch in part:
            by_number: dict[int, Measurement] = {}
            for places, columns in batch.columns:
                by_number.update(zip(places, from_columns(columns), strict=True))
            measurements += (by_number[number] for number in sorted(by_number))
            invalid += ((before + number, reason) for number, reason in batch.invalid)
            lines = before + batch.last
    return measurements, invalid


@dataclass(frozen=True)
class _Batch:
    """Consecutive lines that were read.

    Attributes
    ----------
    last : int
        Number of the last line within its part of the file.
    columns : list of (list of int, mapping)
        Measurements with the same fields: the numbers of their lines, and each field with its values.
    invalid : list of (int, str)
        Number and reason of each invalid line.
    """

    last: int
    columns: list[tuple[list[int], dict[str, list[Any]]]]
    invalid: list[tuple[int, str]]


def _parts(path: Path, workers: int) -> Iterator[Iterable[_Batch]]:
    """Yield the parts of a file, in their order."""
    bounds = _bounds(path) if workers > 1 else []
    if len(bounds) <= 2:
        with documents.opened(path, errors="replace") as file:
            yield _batches(file)
        return
    with ProcessPoolExecutor(min(workers, len(bounds) - 1), get_context("fork")) as pool:
        yield from pool.map(_read_part, repeat(path), pairwise(bounds))


def _bounds(path: Path) -> list[int]:
    """Return the positions at which a file can be divided, from its start to its end; none for a pipe."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return []
    bounds = [0]
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        while bounds[-1] + _PART < size:
            file.seek(bounds[-1] + _PART)
            file.readline()
            bounds.append(file.tell())
    return bounds if bounds[-1] == size else [*bounds, size]


def _read_part(path: Path, bounds: tuple[int, int]) -> list[_Batch]:
    start, end = bounds
    with open(path, "rb") as file:
        file.seek(start)
        text = io.TextIOWrapper(io.BytesIO(file.read(end - start)), encoding="utf-8", errors="replace")
    return list(_batches(text))


def _batches(lines: Iterable[str]) -> Iterator[_Batch]:
    pool: _Pool = {}
    numbered = enumerate(lines, 1)
    while batch := list(islice(numbered, _BATCH)):
        yield _batch(batch, pool)


def _batch(numbered: Sequence[tuple[int, str]], pool: _Pool) -> _Batch:
    numbers, lines = zip(*numbered, strict=True)
    try:
        columns = [([numbers[k] for k in places], values) for places, values in _columns(lines, pool)]
    except ValueError as error:
        if len(numbered) > 1:
            single = [_batch([pair], pool) for pair in numbered]
            columns = list(chain.from_iterable(batch.columns for batch in single))
            return _Batch(numbers[-1], columns, list(chain.from_iterable(batch.invalid for batch in single)))
        # The last line of a killed run may be incomplete: that needs no warning.
        return _Batch(numbers[-1], [], [(numbers[-1], str(error))] if lines[-1].endswith("\n") else [])
    return _Batch(numbers[-1], columns, [])


def _columns(lines: Sequence[str], pool: _Pool) -> list[tuple[list[int], dict[str, list[Any]]]]:
    """Return the places of lines with the same fields, and each field with its values.

    Raises
    ------
    ValueError
        If a line is invalid.
    """
    rows = [documents.parsed(text) for text in lines]
    if not all(isinstance(row, dict) and isinstance(row.get("missing"), dict) for row in rows):
        raise ValueError("expected an object with the field missing")
    # Rows with the same fields in the same order become columns without a look at each name.
    by_fields: dict[tuple[str, ...], list[int]] = {}
    for k, row in enumerate(rows):
        by_fields.setdefault(tuple(row), []).append(k)
    groups = []
    for names, places in by_fields.items():
        values = zip(*(rows[k].values() for k in places), strict=True)
        columns = dict(zip(names, map(list, values), strict=True))
        columns["missing"] = [_by_field(lists, pool) for lists in columns["missing"]]
        documents.check_columns(columns)
        _share(columns, pool)
        groups.append((places, columns))
    return groups


def _by_field(lists: Mapping[str, Any], pool: _Pool) -> dict[str, str]:
    """Return field → reason from `missing` of a line, which maps each reason to its fields, or raise ValueError."""
    if not any(isinstance(names, list) for names in lists.values()):
        return dict(lists)  # the older format, which maps each field to its reason
    if not all(isinstance(names, list) and set(map(type, names)) <= {str} for names in lists.values()):
        raise ValueError(f"missing is {documents.short(lists)}")
    key = tuple((reason, *names) for reason, names in lists.items())
    if key not in pool:
        pool[key] = {name: reason for reason, *names in key for name in names}
    shared: dict[str, str] = pool[key]
    return shared


def _share(columns: dict[str, list[Any]], pool: _Pool) -> None:
    """Replace texts in checked columns by the equal ones of a pool."""
    for name in _TEXTS & columns.keys():
        columns[name] = [pool.setdefault(text, text) for text in columns[name]]
    columns["instruments"] = [pool.setdefault(names, names) for names in map(tuple, columns["instruments"])]
    for event in chain.from_iterable(filter(None, columns.get("timeline", ()))):
        event["space"], event["op"] = sys.intern(event["space"]), sys.intern(event["op"])


#: Fields that are texts.
_TEXTS = {field.name for field in fields(Measurement) if str(field.type).startswith("str")}
