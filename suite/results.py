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
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
import pandas as pd

from suite import documents
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
        if self.resume or not (self.folder / _LOCK).exists():
            self._check()  # nothing is created beside what cannot be used
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / _LOCK, "a")
        except OSError as error:
            raise RunError(f"{self.folder} cannot be written to: {error.strerror}") from None
        try:
            _lock(self._lock, self.folder)
            self._check()
            if self.resume:
                self._read()
        except RunError:
            self._lock.close()
            raise
        return self

    def _check(self) -> None:
        held = (self.folder / ENVIRONMENT).exists()
        if held and not self.resume:
            raise RunError(f"{self.folder} holds a run: --resume completes it, --out names another folder")
        if self.resume and not held:
            raise RunError(f"{self.folder} holds no run to resume")

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


def _lock(file: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunError(f"another run is writing to {folder}") from None


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
        If it is neither, or a value in it is not of the type and the range that ``schema.json`` says. A line of a
        folder's measurements that is not is named in a warning and left out.
    """
    if path.is_dir():
        header, measurements = _load_folder(path)
        return header["environment"], measurements
    try:
        found = documents.read(path)
        if not isinstance(found, dict) or not {"schema", "environment", "measurements"} <= found.keys():
            raise RunError(f"{path} is not a run")
        _check_schema(path, found)
        documents.check_environment(found["environment"])
        if not isinstance(found["measurements"], list):
            raise RunError(f"{path} is not a run: its measurements are no list")
    except FileNotFoundError:
        raise RunError(f"no run {path}") from None
    except OSError as error:
        raise RunError(f"{path} is not a run: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{path} is not a run: {error}") from None
    for number, row in enumerate(found["measurements"], 1):
        try:
            documents.check_measurement(row)
        except ValueError as error:
            raise RunError(f"{path} is not a run: of measurement {number} {error}") from None
    measurements = [from_dict(row) for row in found["measurements"]]
    first: dict[tuple[Any, ...], int] = {}
    for number, m in enumerate(measurements, 1):
        if (other := first.setdefault(key(m), number)) != number:
            raise RunError(f"{path} is not a run: measurements {other} and {number} are of the same case")
    return found["environment"], measurements


def _check_schema(path: Path, found: Mapping[str, Any]) -> None:
    if type(found["schema"]) is not int or found["schema"] != SCHEMA:
        raise RunError(f"{path} has schema {documents.short(found['schema'])}; this version reads {SCHEMA}")


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
    # A name that is no UTF-8 could not be written into a page.
    return [(path.name.encode(errors="replace").decode(), *load(path))]


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


def begun(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the environment and the settings of the run that a folder holds, finished or not.

    Raises
    ------
    RunError
        If it holds none, or another run writes to it now.
    """
    if not (folder / ENVIRONMENT).exists():
        raise RunError(f"{folder} holds no run to resume")
    with suppress(FileNotFoundError), open(folder / _LOCK) as file:
        _lock(file, folder)
    header = _header(folder)
    return header["environment"], header["settings"]


def _header(folder: Path) -> dict[str, Any]:
    path = folder / ENVIRONMENT
    try:
        header = documents.read(path)
        if not _is_header(header):
            raise RunError(f"{folder} holds no run: {path} does not say what it was begun with")
        _check_schema(folder, header)
        documents.check_environment(header["environment"])
        if "engine" not in header["environment"]:
            raise RunError(f"{folder} holds no run: {path} names no engine")
    except FileNotFoundError:
        raise RunError(f"{folder} holds no run") from None
    except OSError as error:
        raise RunError(f"{folder} holds no run: {path}: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{folder} holds no run: {path}: {error}") from None
    return header


_WORDS, _TEXT = {"type": "array", "items": {"type": "string"}}, {"type": ["string", "null"]}
_COUNT, _SECONDS = {"type": ["integer", "null"], "minimum": 0}, {"type": ["number", "null"], "minimum": 0}
_SIZE = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}

#: What stands in the file of a run that is not its measurements; the environment is checked for itself.
_is_header = documents.checker(
    {
        "type": "object",
        "required": ["schema", "environment", "settings"],
        "properties": {
            "settings": {
                "type": "object",
                "properties": {
                    "profile": {"type": "string"},
                    **dict.fromkeys(("recipe", "variant", "device", "dtype", "layout"), _WORDS),
                    "batch": {"type": "array", "items": {"type": ["integer", "string"]}},
                    "size": {"type": "array", "items": _SIZE},
                    **dict.fromkeys(("threads", "blocks"), _COUNT),
                    **dict.fromkeys(("budget", "timeout"), _SECONDS),
                    "image": _TEXT,
                    "with_files": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
            "cases": {"type": "integer", "minimum": 0},
            "finished": {"type": "boolean"},
        },
    }
)


def _load_folder(folder: Path) -> tuple[dict[str, Any], list[Measurement]]:
    header = _header(folder)
    measurements: dict[tuple[Any, ...], Measurement] = {}
    path = folder / MEASUREMENTS
    bad: list[tuple[int, str]] = []
    # None of what is made here is garbage, and to look for it would take a third of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        with documents.opened(path, errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    found = _row(line)
                except ValueError as error:
                    # A killed run ends in the middle of its last line.
                    if line.endswith("\n"):
                        bad.append((number, str(error)))
                else:
                    measurements[key(found)] = found
    except FileNotFoundError:
        if header.get("finished") and header.get("cases"):
            raise RunError(f"{folder} holds no whole run: {path.name} is missing") from None
    except OSError as error:
        raise RunError(f"{folder} holds no whole run: {path}: {error.strerror}") from None
    finally:
        if collects:
            gc.enable()
    for number, why in bad:
        warnings.warn(f"{path}: line {number} is not a measurement, and is left out: {why}", stacklevel=3)
    return header, list(measurements.values())


def _line(measurement: Measurement) -> str:
    # None is the default of the other fields only: a reader requires these, and None is a value of some.
    known = {name: value for name, value in measurement.to_dict().items() if value is not None or name in REQUIRED}
    reasons: dict[str, list[str]] = {}
    for name, reason in measurement.missing.items():
        reasons.setdefault(reason, []).append(name)
    return json.dumps(known | {"missing": reasons}, allow_nan=False) + "\n"


def _row(line: str) -> Measurement:
    """The measurement of a line, in which each reason why something is missing stands once; else ValueError."""
    row = documents.parsed(line)
    if not isinstance(row, dict) or not isinstance(row.get("missing"), dict):
        raise ValueError("it has no missing")
    missing: dict[str, str] = {}
    for name, given in row["missing"].items():
        if isinstance(given, list):
            if not all(isinstance(field, str) for field in given):
                raise ValueError(f"missing is {documents.short(row['missing'])}")
            # One text for all lines: of a hundred thousand it would be most of the memory.
            missing |= dict.fromkeys(given, sys.intern(name))
        else:  # as it was written before
            missing[name] = given
    row["missing"] = missing
    documents.check_measurement(row)
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
