"""Merge folders of runs: each run stays a session of its own, and no sample is pooled with one of another."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from copycost.model.measurement import Measurement
from copycost.results import lines
from copycost.results.merge_asv import Merged
from copycost.results.store import ENVIRONMENT, MEASUREMENTS, RunError, key, load_folder, run_folders

#: A run: its header and its measurements.
_Run = tuple[dict[str, Any], list[Measurement]]


def merge(folders: Sequence[Path], newest: bool = False) -> Merged:
    """Merge folders of runs into one with a folder for each session.

    Copies of one run, of which some have more cases than others, become one.

    Parameters
    ----------
    folders : sequence of Path
        Folders of a run, or of several.
    newest : bool, optional
        Where two copies of a run contradict each other, take the one with more cases.

    Returns
    -------
    Merged
        Without conflicts if `newest` is set.

    Raises
    ------
    RunError
        If a folder holds no run.
    """
    sessions: dict[str, list[_Run]] = {}
    for folder in folders:
        for run in _runs(folder):
            sessions.setdefault(_name(run[0]), []).append(run)
    texts: dict[str, str] = {}
    conflicts: list[str] = []
    for name, runs in sorted(sessions.items()):
        runs.sort(key=lambda run: (len(run[1]), json.dumps(run[0], sort_keys=True)), reverse=True)
        cases: dict[tuple[Any, ...], str] = {}
        for _, measurements in runs:
            for m in measurements:
                line = lines.line(m)
                if cases.setdefault(key(m), line) != line:
                    conflicts.append(f"{name}: two measurements of {m.variant}, {m.group_title()}")
        texts[f"{name}/{ENVIRONMENT}"] = json.dumps(runs[0][0]) + "\n"
        texts[f"{name}/{MEASUREMENTS}"] = "".join(line for _, line in sorted(cases.items(), key=lambda item: str(item)))
    return Merged(texts, () if newest else tuple(sorted(set(conflicts))))


def check_target(folder: Path) -> None:
    """Raise RunError if a folder is a run, or has runs that were not merged: they would be there twice."""
    for path in run_folders(folder):
        if path == folder or path.name != _name(load_folder(path)[0]):
            raise RunError(f"{folder} holds runs that were not merged into it: expected a new folder")


def _runs(folder: Path) -> list[_Run]:
    return [load_folder(path) for path in run_folders(folder)]


def _name(header: dict[str, Any]) -> str:
    """Return the name of a session: when it began, and a digest of its environment and settings."""
    begun = {name: value for name, value in header["environment"].items() if name != "spent_seconds"}
    text = json.dumps([begun, header["settings"]], sort_keys=True)
    date, _, clock = str(begun.get("time") or "").partition("+")[0].partition("T")
    time = "-".join(re.sub(r"[^0-9]", "", part)[:8] for part in (date, clock))  # nothing that names another folder
    return f"{time}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
