"""Load the runs that an argument of a command names, or say what to name instead."""

from __future__ import annotations

from pathlib import Path

from copycost.results import asv_files, load, store
from copycost.tracking import track


def load_runs(name: str) -> list[store.Loaded]:
    """Return name, environment and measurements of a run, or of every result file of asv.

    Raises
    ------
    RunError
        If `name` is neither. For a folder, the message says what it holds and what to name instead.
    """
    path = Path(name)
    if path.is_dir() and not (path / store.ENVIRONMENT).exists() and not asv_files.holds(path):
        raise store.RunError(_instead(path))
    return load.load_all(path)


def _instead(folder: Path) -> str:
    """Return in one line what a folder without a run holds, and what to name instead."""
    runs = [path for path in folder.iterdir() if (path / store.ENVIRONMENT).is_file()]
    if len(runs) == 1:
        return f"{folder} holds no run itself, but one in it: name {runs[0]}"
    if runs:
        latest = max(runs, key=lambda run: (run / store.ENVIRONMENT).stat().st_mtime)
        return f"{folder} holds no run itself, but {len(runs)} in it: name one of them; the latest is {latest}"
    from copycost.report import INDEX  # matplotlib takes a second to import

    if (folder / INDEX).is_file() and (folder / "asv").is_dir():
        return f"{folder} holds no run, but pages made from the results of asv: name the results, {_results()}"
    if (folder / INDEX).is_file():
        return f"{folder} holds no run, but a report: name the run that it was written from"
    return f"{folder} holds no run: name a folder written by copycost run --out"


def _results() -> Path:
    """Return the folder with results of asv that the configuration here names, or else the usual one."""
    return track.results_folder() if track.CONFIGURATION.is_file() else Path(".asv", "results")
