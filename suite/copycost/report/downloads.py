"""What a page shows, as files for other programs."""

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
    """Write the table as CSV, as JSON (a list of objects), and where pyarrow is installed as Parquet.

    Parameters
    ----------
    frame : DataFrame
        As `copycost.load` gives it.
    folder : Path

    Returns
    -------
    mapping
        Kind of file → its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = frame.drop(columns=list(NOT_CELLS))
    plain["instruments"] = [" ".join(its) for its in plain["instruments"]]
    # A column of which nothing was measured has no type of its own.
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
    """Copy traces to ``profiles/`` in `folder`: key of the case → address. What is no trace is named in a warning."""
    found: dict[tuple[Any, ...], str] = {}
    for number, path in enumerate(traces):
        try:
            case = documents.read(path)["otherData"]["copycost"]
            key = tuple(case[name] for name in KEY)
            hash(key)
        except (OSError, ValueError, KeyError, TypeError):
            warnings.warn(f"{path} is no trace of copycost's, and is left out", stacklevel=2)
            continue
        (folder / "profiles").mkdir(parents=True, exist_ok=True)
        address = f"profiles/{number}.json"
        if path.resolve() != (folder / address).resolve():
            shutil.copyfile(path, folder / address)
        found[key] = address
    return found
