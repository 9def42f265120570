"""Files that a report offers for download: the table of cases and the traces."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from copycost.results import documents
from copycost.results.store import KEY
from copycost.results.table import NOT_CELLS, to_csv


def downloads(frame: pd.DataFrame, folder: Path) -> dict[str, Callable[[], str]]:
    """Return the jobs that write the table as CSV, as JSON (a list of objects) and, with pyarrow, as Parquet.

    Parameters
    ----------
    frame : DataFrame
        As returned by `copycost.load`.
    folder : Path

    Returns
    -------
    dict
        Kind of file → job that writes it and returns its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = frame.drop(columns=list(NOT_CELLS))
    plain["instruments"] = [" ".join(names) for names in plain["instruments"]]
    # Drop empty columns, because a column without values has no type.
    empty = [name for name in plain if plain[name].isna().all()]
    plain = plain.drop(columns=empty)
    jobs: dict[str, Callable[[], str]] = {
        "CSV": partial(_write_csv, plain, folder),
        "JSON": partial(_write_json, plain, folder),
    }
    if find_spec("pyarrow"):
        jobs["Parquet"] = partial(_write_parquet, plain, folder)
    return jobs


def _write_csv(table: pd.DataFrame, folder: Path) -> str:
    to_csv(table, folder / "measurements.csv", chunksize=_ROWS)
    return "measurements.csv"


def _write_json(table: pd.DataFrame, folder: Path) -> str:
    parts = (table.iloc[start : start + _ROWS] for start in range(0, len(table), _ROWS))
    texts = (part.to_json(orient="records", date_format="iso", double_precision=15)[1:-1] for part in parts)
    with open(folder / "measurements.json", "w", encoding="utf-8") as file:
        file.write("[")
        for number, text in enumerate(texts):
            file.write("," + text if number else text)
        file.write("]")
    return "measurements.json"


#: Number of rows that are converted to text at a time: the text of all takes more memory than the table.
_ROWS = 10_000


def _write_parquet(table: pd.DataFrame, folder: Path) -> str:
    table.to_parquet(folder / "measurements.parquet", index=False)
    return "measurements.parquet"


def profiles(traces: Iterable[Path], folder: Path) -> dict[tuple[Any, ...], str]:
    """Copy traces to ``profiles/`` in `folder`, and return their addresses by the key of the case.

    Files that are not valid traces are skipped with a warning.
    """
    addresses: dict[tuple[Any, ...], str] = {}
    for number, path in enumerate(traces):
        try:
            case = documents.read(path)["otherData"]["copycost"]
            key = tuple(case[name] for name in KEY)
            hash(key)
        except (OSError, ValueError, KeyError, TypeError):
            warnings.warn(f"skipping {path}: it is not a trace written by copycost profile", stacklevel=2)
            continue
        (folder / "profiles").mkdir(parents=True, exist_ok=True)
        address = f"profiles/{number}.json"
        if path.resolve() != (folder / address).resolve():
            shutil.copyfile(path, folder / address)
        addresses[key] = address
    return addresses
