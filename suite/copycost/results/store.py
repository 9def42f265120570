"""Write runs to disk case by case, and read them back, whether finished or killed.

The folder of a run holds ``environment.json`` (environment and settings) and ``measurements.jsonl`` (one line per case,
appended as each case is complete). A finished run also has ``measurements.csv``.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from copycost.model.measurement import Measurement
from copycost.results import documents, lines
from copycost.results.table import NOT_CELLS, frame, to_csv

SCHEMA = 1


ENVIRONMENT, MEASUREMENTS, CSV, LOCK = "environment.json", "measurements.jsonl", "measurements.csv", ".lock"

#: Name, environment and measurements of one run or asv file.
Loaded = tuple[str, dict[str, Any], list[Measurement]]

#: Fields that identify a case within a run.
KEY = ("recipe", "device", "dtype", "layout", "batch", "height", "width", "variant")


class RunError(Exception):
    """Raised for a folder that cannot be written to or holds no run. The message is one line."""


class Run:
    """A run that is being written: a context manager that locks the folder against other runs.

    Parameters
    ----------
    folder : Path
    resume : bool
        Whether to resume the run in the folder.

    Raises
    ------
    RunError
        On entering, if the folder cannot be written to, holds a run although `resume` is False, or is being written to
        by another run.
    """

    def __init__(self, folder: Path, resume: bool) -> None:
        self.folder, self.resume = folder, resume
        self.environment: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        self.cases = 0
        self.measurements: list[Measurement] = []

    def __enter__(self) -> Run:
        if self.resume or not (self.folder / LOCK).exists():
            self._check()  # before anything is created in an unusable folder
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / LOCK, "a")
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
        # Drop a line that was cut off in the middle: its case is measured again.
        replace(self.folder / MEASUREMENTS, "".join(map(lines.line, self.measurements)))

    def begin(self, environment: Mapping[str, Any], settings: Mapping[str, Any], cases: int) -> None:
        """Write environment, settings and number of cases, before anything is measured."""
        self.environment, self.settings, self.cases = dict(environment), dict(settings), cases
        self._write_header(finished=False)

    def add(self, measurement: Measurement) -> None:
        """Append a measurement and flush it to disk."""
        line = lines.line(measurement)
        self.measurements.append(lines.parsed(line))
        with open(self.folder / MEASUREMENTS, "a") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def finish(self, spent: Mapping[str, float], *, finished: bool) -> None:
        """Write the seconds spent in each phase, and the CSV file."""
        before = self.environment.get("spent_seconds", {})
        self.environment["spent_seconds"] = {k: round(v + before.get(k, 0), 3) for k, v in spent.items()}
        self._write_header(finished=finished)
        to_csv(frame(self.measurements).drop(columns=list(NOT_CELLS)), self.folder / CSV)

    def document(self) -> dict[str, Any]:
        """Return the run as a document of the JSON contract."""
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
        raise RunError(f"another process is writing to {folder}") from None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keep others from writing to a folder of results meanwhile.

    Raises
    ------
    RunError
        If another process does.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "a")  # noqa: SIM115  # closed below
    except OSError as error:
        raise RunError(f"{folder} cannot be written to: {error.strerror}") from None
    with file:
        _lock(file, folder)
        yield


def key(measurement: Measurement) -> tuple[Any, ...]:
    """Return the fields that identify the measured case within a run."""
    return _key(measurement)


_key: Callable[[Measurement], tuple[Any, ...]] = attrgetter(*KEY)


def document(environment: Mapping[str, Any], measurements: Iterable[Measurement]) -> dict[str, Any]:
    """Return the JSON document ``{"schema": 1, "environment": {…}, "measurements": [{…}]}``."""
    return {
        "schema": SCHEMA,
        "environment": dict(environment),
        "measurements": [m.to_dict() for m in measurements],
    }


def begun(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the environment and the settings of the run in a folder, finished or not.

    Raises
    ------
    RunError
        If the folder holds no run, or another process is writing to it.
    """
    if not (folder / ENVIRONMENT).exists():
        raise RunError(f"{folder} holds no run to resume")
    with suppress(FileNotFoundError), open(folder / LOCK) as file:
        _lock(file, folder)
    header = _header(folder)
    return header["environment"], header["settings"]


def _header(folder: Path) -> dict[str, Any]:
    path = folder / ENVIRONMENT
    try:
        header = documents.read(path)
        if not _is_header(header):
            raise RunError(f"{folder} holds no run: {path} lacks a valid environment or settings")
        check_schema(folder, header)
        documents.check_environment(header["environment"])
        if "engine" not in header["environment"]:
            raise RunError(f"{folder} holds no run: {path} has no engine version")
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

#: Schema of ``environment.json``. The environment in it is checked separately.
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


def run_folders(folder: Path) -> list[Path]:
    """Return a folder if it holds a run, or else those in it that do, in the order of their names."""
    if (folder / ENVIRONMENT).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{ENVIRONMENT}"))


def check_schema(path: Path, document: Mapping[str, Any]) -> None:
    """Raise RunError unless a document has the schema version that this version reads."""
    if type(document["schema"]) is not int or document["schema"] != SCHEMA:
        raise RunError(f"{path} has schema {documents.short(document['schema'])}; this version reads {SCHEMA}")


def load_folder(folder: Path, workers: int = 1) -> tuple[dict[str, Any], list[Measurement]]:
    """Return the header and the measurements of a run's folder, with a warning for each line that cannot be read.

    Several processes read a large file, as `lines.read` does.
    """
    header = _header(folder)
    path = folder / MEASUREMENTS
    # Nothing created here is garbage, and garbage collection would take a third of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        measurements, invalid = lines.read(path, workers)
    except FileNotFoundError:
        if header.get("finished") and header.get("cases"):
            raise RunError(f"{folder} holds no complete run: {path.name} is missing") from None
        return header, []
    except OSError as error:
        raise RunError(f"{folder} holds no complete run: {path}: {error.strerror}") from None
    finally:
        if collects:
            gc.enable()
    for number, reason in invalid:
        warnings.warn(f"{path}: line {number} is not a measurement, and is left out: {reason}", stacklevel=3)
    # A case that was measured again has its newest measurement.
    return header, list({key(m): m for m in measurements}.values())


def replace(path: Path, text: str) -> None:
    """Replace a file atomically."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)
