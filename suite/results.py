"""A run on disk: written case by case, read back whole or from what a killed run left; and, with asv's results, as one
DataFrame.

The folder of a run holds ``environment.json`` (what it was taken in, and what was asked for),
``measurements.jsonl`` (a line a case, appended as each is complete) and, once it is finished,
``measurements.csv``.
"""

from __future__ import annotations

import fcntl
import gc
import hashlib
import json
import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd

from suite.asv import results as history
from suite.measurement import FIELDS, REQUIRED, Measurement, from_dict

SCHEMA = 1

ENVIRONMENT, MEASUREMENTS, CSV, _LOCK = "environment.json", "measurements.jsonl", "measurements.csv", ".lock"

#: Name, environment and measurements of what was taken together.
Loaded = tuple[str, dict[str, Any], list[Measurement]]

#: The fields that are no figure, a word or a reason: not in the CSV, which has one a cell.
NOT_CELLS = ("missing", "ranges", "samples", "marks", "clocks_mhz", "temperatures_c", "slowed", "code", "timeline")

#: The fields that tell a case from every other of a run.
KEY = ("recipe", "device", "dtype", "layout", "batch", "height", "width", "variant")


class RunError(Exception):
    """A folder that cannot be written to, or that holds no run; the message is one line."""


class Run:
    """A run that is being written. A context manager, which keeps every other run out of its folder.

    Parameters
    ----------
    folder : Path
    resume : bool
        Whether to go on with the run that it holds.

    Raises
    ------
    RunError
        On entering, if the folder cannot be written to, holds a run that is not to be resumed, or another run writes
        to it now.
    """

    def __init__(self, folder: Path, resume: bool) -> None:
        self.folder, self.resume = folder, resume
        self.environment: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        self.cases = 0
        self.measurements: list[Measurement] = []

    def __enter__(self) -> Run:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / _LOCK, "w")
        except OSError as error:
            raise RunError(f"{self.folder} cannot be written to: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise RunError(f"another run is writing to {self.folder}") from None
        held = (self.folder / ENVIRONMENT).exists()
        try:
            if held and not self.resume:
                raise RunError(f"{self.folder} holds a run: --resume completes it, --out names another folder")
            if self.resume:
                if not held:
                    raise RunError(f"{self.folder} holds no run to resume")
                self._read()
        except RunError:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def _read(self) -> None:
        header, self.measurements = _load_folder(self.folder)
        self.environment, self.settings = header["environment"], header["settings"]
        self.cases = header.get("cases", 0)
        # What was cut off in the middle of a line is measured again.
        lines = "".join(_line(m) for m in self.measurements)
        replace(self.folder / MEASUREMENTS, lines)

    def begin(self, environment: Mapping[str, Any], settings: Mapping[str, Any], cases: int) -> None:
        """Write what the run is taken in, and how many cases it is to have, before anything is measured."""
        self.environment, self.settings, self.cases = dict(environment), dict(settings), cases
        self._write_header(finished=False)

    def add(self, measurement: Measurement) -> None:
        """Append a measurement, on disk before this returns."""
        line = _line(measurement)
        self.measurements.append(_row(line))
        with open(self.folder / MEASUREMENTS, "a") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def finish(self, spent: Mapping[str, float], *, finished: bool) -> None:
        """Write where the time went, and the CSV."""
        before = self.environment.get("spent_seconds", {})
        self.environment["spent_seconds"] = {k: round(v + before.get(k, 0), 3) for k, v in spent.items()}
        self._write_header(finished=finished)
        frame(self.measurements).drop(columns=list(NOT_CELLS)).to_csv(self.folder / CSV, index=False)

    def document(self) -> dict[str, Any]:
        """The run as the JSON contract has it."""
        return document(self.environment, self.measurements)

    def _write_header(self, finished: bool) -> None:
        header = {
            "schema": SCHEMA,
            "environment": self.environment,
            "settings": self.settings,
            "cases": self.cases,
            "finished": finished,
        }
        replace(self.folder / ENVIRONMENT, json.dumps(header, indent=1) + "\n")


def key(measurement: Measurement) -> tuple[Any, ...]:
    """That of the case that was measured."""
    return tuple(getattr(measurement, name) for name in KEY)


def document(environment: Mapping[str, Any], measurements: Iterable[Measurement]) -> dict[str, Any]:
    """``{"schema": 1, "environment": {…}, "measurements": [{…}]}``."""
    return {
        "schema": SCHEMA,
        "environment": dict(environment),
        "measurements": [m.to_dict() for m in measurements],
    }


def load(path: Path) -> tuple[dict[str, Any], list[Measurement]]:
    """The environment and the measurements of a run's folder or of a ``--json`` file.

    Raises
    ------
    RunError
        If it is neither.
    """
    if path.is_dir():
        header, measurements = _load_folder(path)
        return header["environment"], measurements
    try:
        found = _parsed(path.read_text())
        if found["schema"] != SCHEMA:
            raise RunError(f"{path} has schema {found['schema']}; this version reads {SCHEMA}")
        return found["environment"], [from_dict(row) for row in found["measurements"]]
    except FileNotFoundError:
        raise RunError(f"no run {path}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RunError(f"{path} is not a run") from None


def load_all(path: Path) -> list[Loaded]:
    """Name, environment and measurements of a run, or of every file of asv's results.

    Raises
    ------
    RunError
        If `path` is neither.
    """
    if path.is_dir() and not (path / ENVIRONMENT).exists() and history.holds(path):
        found = history.load(path)
        if not found:
            raise RunError(f"{path} holds asv's results, and none of them is copycost's")
        return found
    return [(path.name, *load(path))]


def read(*paths: str | os.PathLike[str]) -> pd.DataFrame:
    """Runs and asv's results, of any number of machines, environments and commits, as one table.

    Parameters
    ----------
    *paths : path
        Folders of runs, files of ``--json``, folders of asv's results.

    Returns
    -------
    DataFrame
        A row a case. First where it is from: ``source``, ``engine`` (the version of the way of measuring), for asv's
        results ``machine``, ``environment``, ``commit`` and ``commit_time``, and ``hardware`` and ``session`` (what was
        measured together); then every field of `Measurement`, ``samples`` included. Times are only comparable where all
        of these are equal.

    Raises
    ------
    RunError
        If a path is neither. A file of asv's that cannot be read is named in a warning and left out.
    """
    return joined([one for path in paths for one in load_all(Path(path))])


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


def _load_folder(folder: Path) -> tuple[dict[str, Any], list[Measurement]]:
    try:
        header = _parsed((folder / ENVIRONMENT).read_text())
        if header["schema"] != SCHEMA:
            raise RunError(f"{folder} has schema {header['schema']}; this version reads {SCHEMA}")
        header["environment"]["engine"], header["settings"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RunError(f"{folder} holds no run") from None
    measurements: dict[tuple[Any, ...], Measurement] = {}
    path = folder / MEASUREMENTS
    number, bad = 0, []
    # None of what is made here is garbage, and to look for it would take a third of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        with open(path, errors="replace") if path.exists() else nullcontext(()) as lines:
            for number, line in enumerate(lines, 1):
                try:
                    found = _row(line)
                except (ValueError, KeyError, TypeError, AttributeError):
                    bad.append(number)
                else:
                    measurements[key(found)] = found
    finally:
        if collects:
            gc.enable()
    for one in bad:
        # A killed run ends in the middle of its last line.
        if one < number:
            warnings.warn(f"{path}: line {one} is not a measurement, and is left out", stacklevel=3)
    return header, list(measurements.values())


def _parsed(text: str) -> Any:
    """JSON, in which half a character, as of a path that is no UTF-8, becomes one that stands for it."""
    found = json.loads(text)
    if not _HALF.search(text):
        return found
    pairs = json.dumps(found, ensure_ascii=False).encode("utf-16", "surrogatepass")
    return json.loads(pairs.decode("utf-16", "replace"))


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _line(measurement: Measurement) -> str:
    # None is the default of the other fields only: a reader requires these, and None is a value of some.
    known = {name: value for name, value in measurement.to_dict().items() if value is not None or name in REQUIRED}
    reasons: dict[str, list[str]] = {}
    for name, reason in measurement.missing.items():
        reasons.setdefault(reason, []).append(name)
    return json.dumps(known | {"missing": reasons}, allow_nan=False) + "\n"


def _row(line: str) -> Measurement:
    """The measurement of a line, in which each reason why something is missing stands once."""
    row = _parsed(line)
    missing: dict[str, str] = {}
    for name, given in row["missing"].items():
        if isinstance(given, list):
            # One text for all lines: of a hundred thousand it would be most of the memory.
            missing |= dict.fromkeys(given, sys.intern(name))
        else:  # as it was written before
            missing[name] = given
    row["missing"] = missing
    if row.get("code"):
        row["code"] = sys.intern(row["code"])
    for event in row.get("timeline") or ():
        event["op"] = sys.intern(event["op"])
    return from_dict(row)


def replace(path: Path, text: str) -> None:
    """Write a file so that it is whole at every moment."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)
