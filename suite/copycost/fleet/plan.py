"""The plan of a fleet: the cells that are missing in the results. Running it again is resuming it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from copycost.fleet.hosts import machine_class
from copycost.fleet.project import Project, digest
from copycost.results import documents
from copycost.results.asv_files import MACHINE


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
        Those of them that have failed when they were tried last → why.
    served : mapping of str to str
        Series → host that has timed it last.
    """

    machine_class: str | None
    cells: tuple[Cell, ...]
    missing: tuple[Cell, ...]
    failed: Mapping[Cell, str]
    served: dict[str, str]


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
    project: Project, of: str | None, wanted: Sequence[Cell], shards: Mapping[str, Sequence[str]],
    hosts: Iterable[str], entries: Sequence[Mapping[str, Any]],
) -> Plan:  # fmt: skip
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
    entries : sequence of mapping
        Those of the journal.
    """
    from asv.results import get_filename  # which takes a while

    folders = [project.results / host for host in sorted(set(hosts))]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    done = set()
    for cell in wanted:
        place = cell.commit, cell.environment
        if place not in rows:
            rows[place] = _rows(folders, Path(get_filename("", cell.commit, cell.environment)).name)
        if _has(project, rows[place], shards[cell.shard]):
            done.add(cell)
    failed: dict[Cell, str] = {}
    served: dict[str, str] = {}
    names = {folder.name for folder in folders}
    versions = {shard: digest(project, benchmarks) for shard, benchmarks in shards.items()}
    for entry in entries:
        if entry.get("event") == "cell" and entry.get("host") in names:
            cell = Cell(*(str(entry.get(name)) for name in ("commit", "environment", "shard")))
            if entry.get("state") == "failed":
                failed[cell] = str(entry.get("reason"))
                continue
            failed.pop(cell, None)
            if entry.get("home"):
                served[cell.series] = str(entry["host"])
            # A benchmark that asv lists and does not find at a commit never has a result there.
            if entry.get("versions") == versions.get(cell.shard):
                done.add(cell)
    missing = [cell for cell in wanted if cell not in done]
    return Plan(of, tuple(wanted), tuple(missing), {cell: failed[cell] for cell in missing if cell in failed}, served)


def _rows(folders: Sequence[Path], name: str) -> dict[str, Any]:
    """Return the version of each benchmark that has results in some hosts' files of a name."""
    found: dict[str, Any] = {}
    for folder in folders:
        with suppress(OSError):  # there is no such file
            state = (folder / name).stat()
            found |= _versions(folder / name, (state.st_mtime_ns, state.st_size))
    return found


#: When a result file was changed last, and its size, and the version of each benchmark in it.
_READ: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}


def _versions(path: Path, state: tuple[int, int]) -> dict[str, Any]:
    """Return the version of each benchmark in a result file, which is read again once it has changed."""
    if path not in _READ or _READ[path][0] != state:
        found: dict[str, Any] = {}
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            document = json.loads(path.read_text())  # asv writes infinite numbers too
            at = document["result_columns"].index("version")
            found = {name: row[at] if at < len(row) else None for name, row in document["results"].items()}
        _READ[path] = state, found
    return _READ[path][1]


def _has(project: Project, rows: Mapping[str, Any], benchmarks: Sequence[str]) -> bool:
    """Return whether some benchmarks, by default all, have results in the version that the list of benchmarks has."""
    names = benchmarks or list(project.benchmarks)
    return bool(rows) and all(
        name in rows and rows[name] == project.benchmarks.get(name, {}).get("version") for name in names
    )
