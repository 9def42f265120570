"""The plan of a fleet: the cells that are missing in the results. Running it again is resuming it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from copycost.fleet import journal
from copycost.fleet.hosts import machine_class
from copycost.fleet.project import Project
from copycost.results import documents
from copycost.results.asv_files import MACHINE

#: Number of hosts on which a cell may fail.
TRIES = 2


@dataclass(frozen=True)
class Cell:
    """What one task measures: some benchmarks of one commit in one environment.

    Attributes
    ----------
    commit : str
    environment : str
    shard : str
    """

    commit: str
    environment: str
    shard: str

    @property
    def series(self) -> str:
        """What stays on one host: the same benchmarks in the same environment, over all commits."""
        return f"{self.environment} {self.shard}"

    def label(self) -> str:
        """Return a text for people."""
        shard = "" if self.shard == "all" else f", shard {self.shard}"
        return f"{self.commit[:8]} {self.environment}{shard}"


@dataclass(frozen=True)
class Plan:
    """Cells of a class of machines.

    Attributes
    ----------
    machine_class : str or None
        None if no machine of the results is of a known class: then any machine has to measure them.
    cells : tuple of Cell
    missing : tuple of Cell
        Those without results, in the order in which they are measured.
    failed : mapping of Cell to str
        Those that have failed on as many hosts as may try it → why.
    served : mapping of str to str
        Series → host that has measured it last.
    """

    machine_class: str | None
    cells: tuple[Cell, ...]
    missing: tuple[Cell, ...]
    failed: Mapping[Cell, str]
    served: Mapping[str, str]


def cells(
    project: Project, hashes: Sequence[str], shards: Mapping[str, Sequence[str]], environments: Sequence[str] = ()
) -> list[Cell]:
    """Return the cells of some commits: commit by commit, so that what is compared is measured soon after another.

    Parameters
    ----------
    project : Project
    hashes : sequence of str
    shards : mapping of str to sequence of str
    environments : sequence of str, optional
        Glob patterns. By default, all environments.
    """
    chosen = [
        name for name in project.environments if not environments or any(fnmatchcase(name, e) for e in environments)
    ]
    return [Cell(commit, environment, shard) for commit in hashes for environment in chosen for shard in shards]


def classes(project: Project) -> dict[str, list[str]]:
    """Return the hosts in the results by the class of their machine."""
    found: dict[str, list[str]] = {}
    for path in sorted(project.results.glob(f"*/{MACHINE}")):
        try:
            record = documents.read(path, nan=True)
        except (OSError, ValueError):
            continue
        if isinstance(record, dict):
            found.setdefault(machine_class(record), []).append(path.parent.name)
    return found


def plan(
    project: Project, of: str | None, wanted: Sequence[Cell], shards: Mapping[str, Sequence[str]], hosts: Iterable[str]
) -> Plan:
    """Return which cells a class of machines has not measured yet.

    Parameters
    ----------
    project : Project
    of : str or None
        The class.
    wanted : sequence of Cell
    shards : mapping of str to sequence of str
        Benchmarks of each shard.
    hosts : iterable of str
        Hosts of this class, whose results count.
    """
    folders = [project.results / host for host in sorted(set(hosts))]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    done = set()
    for cell in wanted:
        place = cell.commit, cell.environment
        if place not in rows:
            rows[place] = _rows(folders, f"{cell.commit[:8]}-{cell.environment}.json")
        if _has(project, rows[place], shards[cell.shard]):
            done.add(cell)
    tries: dict[Cell, dict[str, str]] = {}
    served: dict[str, str] = {}
    names = {folder.name for folder in folders}
    for entry in journal.read(project.results):
        if entry.get("event") == "cell" and entry.get("host") in names:
            cell = Cell(*(str(entry.get(name)) for name in ("commit", "environment", "shard")))
            if entry.get("state") == "done":
                served[cell.series] = entry["host"]
                tries.pop(cell, None)
            elif entry.get("state") == "failed":
                tries.setdefault(cell, {})[entry["host"]] = str(entry.get("reason"))
    failed = {
        cell: next(reversed(tries[cell].values()))
        for cell in wanted
        if cell not in done and len(tries.get(cell, ())) >= TRIES
    }
    missing = [cell for cell in wanted if cell not in done and cell not in failed]
    return Plan(of, tuple(wanted), tuple(missing), failed, served)


def _rows(folders: Sequence[Path], name: str) -> dict[str, Any]:
    """Return the version of each benchmark that has results in some hosts' files of a name."""
    found: dict[str, Any] = {}
    for folder in folders:
        with suppress(OSError):  # there is no such file
            state = (folder / name).stat()
            found |= _versions(folder / name, state.st_mtime_ns, state.st_size)
    return found


@cache
def _versions(path: Path, changed: int, size: int) -> Mapping[str, Any]:
    """Return the version of each benchmark in a result file, which is read again once it has changed."""
    try:
        document = documents.read(path, nan=True)
        at = document["result_columns"].index("version")
        return {name: row[at] if at < len(row) else None for name, row in document["results"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _has(project: Project, rows: Mapping[str, Any], benchmarks: Sequence[str]) -> bool:
    """Return whether all benchmarks have results, in the version that the list of benchmarks has."""
    if not benchmarks:
        return bool(rows)
    return all(name in rows and rows[name] == project.benchmarks[name].get("version") for name in benchmarks)
