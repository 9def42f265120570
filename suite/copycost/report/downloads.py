"""Files that a report offers for download: the table of cases and the traces."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from copycost.results import documents
from copycost.results.store import KEY
from copycost.results.table import NOT_CELLS


def downloads(frame: pd.DataFrame, folder: Path) -> Mapping[str, str]:
    """Write the table as CSV, as JSON (a list of objects) and, if pyarrow is installed, as Parquet.

    Parameters
    ----------
    frame : DataFrame
        As returned by `copycost.load`.
    folder : Path

    Returns
    -------
    mapping
        Kind of file → file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = frame.drop(columns=list(NOT_CELLS))
    plain["instruments"] = [" ".join(its) for its in plain["instruments"]]
    # Drop empty columns, because a column without values has no type.
    empty = [name for name in plain if plain[name].isna().all()]
    plain = plain.drop(columns=empty)
    files = {"CSV": "measurements.csv", "JSON": "measurements.json"}
    plain.to_csv(folder / files["CSV"], index=False)
    plain.to_json(folder / files["JSON"], orient="records", date_format="iso", double_precision=15)
    if find_spec("pyarrow"):
        files["Parquet"] = "measurements.parquet"
        plain.to_parquet(folder / files["Parquet"], index=False)
    return files


def profiles(traces: Iterable[Path], folder: Path) -> dict[tuple[Any, ...], str]:
    """Copy traces to ``profiles/`` in `folder`, and return their addresses by the key of the case.

    Files that are not valid traces are skipped with a warning.
    """
    found: dict[tuple[Any, ...], str] = {}
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
        found[key] = address
    return found
