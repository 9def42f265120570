"""A run on disk: written case by case, read back whole or from what a killed run left; and, with asv's results, as one
DataFrame.

The folder of a run holds ``environment.json`` (what it was taken in, and what was asked for),
``measurements.jsonl`` (a line a case, appended as each is complete) and, once it is finished,
``measurements.csv``.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from copycost.model.measurement import REQUIRED, Measurement, from_dict
from copycost.results import documents
from copycost.results.table import NOT_CELLS, frame

SCHEMA = 1


ENVIRONMENT, MEASUREMENTS, CSV, _LOCK = "environment.json", "measurements.jsonl", "measurements.csv", ".lock"


#: Name, environment and measurements of what was taken together.
Loaded = tuple[str, dict[str, Any], list[Measurement]]


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
        header, self.measurements = load_folder(self.folder)
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
        check_schema(folder, header)
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


def check_schema(path: Path, found: Mapping[str, Any]) -> None:
    """Raise RunError unless a document has the schema of this version."""
    if type(found["schema"]) is not int or found["schema"] != SCHEMA:
        raise RunError(f"{path} has schema {documents.short(found['schema'])}; this version reads {SCHEMA}")


def load_folder(folder: Path) -> tuple[dict[str, Any], list[Measurement]]:
    """Return the header of a run's folder and its measurements; a line that cannot be read is named in a warning."""
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
