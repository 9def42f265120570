"""Load runs and asv's results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from copycost.model.measurement import Measurement, from_dict
from copycost.results import asv_files as history
from copycost.results import documents
from copycost.results.store import ENVIRONMENT, Loaded, RunError, check_schema, key, load_folder, run_folders
from copycost.results.table import joined


def load(path: Path, workers: int = 1) -> tuple[dict[str, Any], list[Measurement]]:
    """Return the environment and the measurements of a run's folder or of a ``--json`` file.

    An invalid line in the measurements of a folder is skipped with a warning. Several processes read a large file, as
    `lines.read` does.

    Raises
    ------
    RunError
        If the path is neither, or a value in it does not have the type and range required by ``schema.json``.
    """
    if path.is_dir():
        header, measurements = load_folder(path, workers)
        return header["environment"], measurements
    try:
        document = documents.read(path)
        if not isinstance(document, dict) or not {"schema", "environment", "measurements"} <= document.keys():
            raise RunError(f"{path} is not a run")
        check_schema(path, document)
        documents.check_environment(document["environment"])
        if not isinstance(document["measurements"], list):
            raise RunError(f"{path} is not a run: its measurements must be a list")
    except FileNotFoundError:
        raise RunError(f"no run at {path}") from None
    except OSError as error:
        raise RunError(f"{path} is not a run: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{path} is not a run: {error}") from None
    for number, row in enumerate(document["measurements"], 1):
        try:
            documents.check_measurement(row)
        except ValueError as error:
            raise RunError(f"{path} is not a run: measurement {number}: {error}") from None
    measurements = [from_dict(row) for row in document["measurements"]]
    first: dict[tuple[Any, ...], int] = {}
    for number, m in enumerate(measurements, 1):
        if (other := first.setdefault(key(m), number)) != number:
            raise RunError(f"{path} is not a run: measurements {other} and {number} are of the same case")
    return document["environment"], measurements


def load_all(path: Path, workers: int = 1) -> list[Loaded]:
    """Return name, environment and measurements of a run, of every run in a folder, or of every result file of asv.

    Several processes read a large run, as `lines.read` does.

    Raises
    ------
    RunError
        If `path` is neither.
    """
    if path.is_dir() and not (path / ENVIRONMENT).exists() and history.holds(path):
        loaded = history.load(path)
        if not loaded:
            raise RunError(f"{path} holds asv's results, but none of them is from copycost")
        return loaded
    runs = run_folders(path) if path.is_dir() else []
    if runs and runs != [path]:
        return [(_written(run), *load(run, workers)) for run in runs]
    return [(_written(path), *load(path, workers))]


def _written(path: Path) -> str:
    """Return the name of a path as it can be written into a page."""
    # A name that is not valid UTF-8 cannot be written into a page.
    return path.name.encode(errors="replace").decode()


def read(*paths: str | os.PathLike[str]) -> pd.DataFrame:
    """Load runs and asv's results, of any number of machines, environments and commits, as one DataFrame.

    An asv file that cannot be read is skipped with a warning.

    Parameters
    ----------
    *paths : path
        Folders of runs, ``--json`` files, folders of asv's results.

    Returns
    -------
    DataFrame
        One row per case. The first columns are its origin: ``source``, ``engine`` (the version of the measuring
        method), ``machine``, ``environment``, ``commit`` and ``commit_time`` (for asv's results), ``hardware``, and
        ``session`` (which cases were measured together). Times are only comparable where all of these are equal. Then
        follow all fields of `Measurement`, including ``samples``.

    Raises
    ------
    RunError
        If a path is none of these.
    """
    return joined([run for path in paths for run in load_all(Path(path))])
