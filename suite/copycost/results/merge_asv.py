"""Merge asv's results of one project that were measured apart: other machines, or other parts of a benchmark suite.

What is merged depends neither on the order of the folders nor on how they are grouped, and merging again changes
nothing: every rule takes the greatest of some values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from copycost.results import documents
from copycost.results.asv_files import BENCHMARKS, MACHINE
from copycost.results.store import RunError

#: Keys of a result file in the order in which asv writes them (``asv.results.Results.save``).
_ORDER = (
    "commit_hash", "env_name", "date", "params", "python", "requirements", "env_vars", "result_columns", "results",
    "durations", "version",
)  # fmt: skip

#: Those of them that are not the same in all files of one commit and environment.
_UNLIKE = ("results", "result_columns", "durations")


@dataclass(frozen=True)
class Merged:
    """What folders of results give together.

    Attributes
    ----------
    texts : dict of str to str
        Path of each file within the folder → its content.
    conflicts : tuple of str
        What cannot be merged, one line each.
    """

    texts: dict[str, str]
    conflicts: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """A file of one folder.

    Attributes
    ----------
    age : float
        ``started_at`` of its newest result, or that of the newest one of its machine.
    document : dict
    """

    age: float
    document: dict[str, Any]

    @property
    def rank(self) -> tuple[float, str]:
        """Key by which the newest part comes last, and parts of the same age are in a fixed order."""
        return self.age, _plain(self.document)


def merge(folders: Sequence[Path], newest: bool = False) -> Merged:
    """Merge folders of results that asv has written.

    A benchmark that was run several times for one commit, environment and machine has its newest results, by
    ``started_at``; a run that failed does not replace results that are there. The list of benchmarks has the version of
    each that was run last.

    Parameters
    ----------
    folders : sequence of Path
        Folders with ``benchmarks.json``, and with a folder for each machine.
    newest : bool, optional
        Where results contradict each other, take the newest.

    Returns
    -------
    Merged
        Without conflicts if `newest` is set.

    Raises
    ------
    RunError
        If a file cannot be read, or is not a file of asv.
    """
    parts: dict[str, list[_Part]] = {}
    for folder in folders:
        for name, part in _parts(folder):
            parts.setdefault(name, []).append(part)
    texts: dict[str, str] = {}
    conflicts: list[str] = []
    last: dict[str, tuple[tuple[bool, float, str], Any]] = {}  # rank and version of the newest result of each benchmark
    for name, own in sorted(parts.items()):
        if Path(name).name == MACHINE:
            texts[name] = _indented(_same(name, own, (), conflicts))
        elif name != BENCHMARKS:
            document = _results(name, own, conflicts)
            texts[name] = json.dumps(document)
            for benchmark, row in _rows(document).items():
                entry = (_rank(row), row.get("version"))
                last[benchmark] = max(last.get(benchmark, entry), entry, key=lambda pair: pair[0])
    if BENCHMARKS in parts:
        versions = {benchmark: version for benchmark, (_, version) in last.items()}
        texts[BENCHMARKS] = _indented(_benchmarks(parts[BENCHMARKS], versions, conflicts))
    return Merged(texts, () if newest else tuple(conflicts))


def _parts(folder: Path) -> Iterator[tuple[str, _Part]]:
    """Yield the files of a folder, by their path in it."""
    if (folder / BENCHMARKS).is_file():
        yield BENCHMARKS, _Part(0.0, _read(folder / BENCHMARKS))
    for machine in sorted(path.parent for path in folder.glob(f"*/{MACHINE}")):
        ages = [0.0]
        for path in sorted(machine.glob("*.json")):
            if path.name != MACHINE:
                document = _checked(path, _read(path))
                ages.append(max((_age(row) for row in _rows(document).values()), default=0.0))
                yield f"{machine.name}/{path.name}", _Part(ages[-1], document)
        yield f"{machine.name}/{MACHINE}", _Part(max(ages), _read(machine / MACHINE))


def _read(path: Path) -> dict[str, Any]:
    try:
        with documents.opened(path) as file:
            document = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise RunError(f"{path} is not a file of asv: expected a JSON object")
    return document


def _checked(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Return a document if it is a result file of asv, or raise RunError."""
    columns, rows = document.get("result_columns"), document.get("results")
    is_result = (
        isinstance(columns, list) and isinstance(rows, dict) and isinstance(document.get("durations", {}), dict)
        and all(isinstance(row, list) and len(row) <= len(columns) for row in rows.values())
        and {"result", "params", "version", "started_at"} <= set(map(str, columns))
    )  # fmt: skip
    if not is_result:
        raise RunError(f"{path} is not a result file of asv, of version 2 of its format")
    return document


def _rows(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the row of each benchmark: its values by the name of their column."""
    columns = document["result_columns"]
    return {name: dict(zip(columns, row, strict=False)) for name, row in document["results"].items()}


def _age(row: Mapping[str, Any]) -> float:
    started = row.get("started_at")
    return float(started) if isinstance(started, int | float) else 0.0


def _rank(row: Mapping[str, Any]) -> tuple[bool, float, str]:
    """Key by which the row that is kept comes last: the newest of those with results."""
    return row.get("result") is not None, _age(row), _plain(row)


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _indented(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=4, sort_keys=True)  # as asv writes its lists of machines and of benchmarks


def _same(name: str, parts: Sequence[_Part], but: Sequence[str], conflicts: list[str]) -> dict[str, Any]:
    """Return the newest of some documents, and note where one differs from it in other keys than some."""
    newest = max(parts, key=lambda part: part.rank).document
    differ = sorted(
        key
        for key in set().union(*(part.document for part in parts)) - set(but)
        if any(_plain(part.document.get(key)) != _plain(newest.get(key)) for part in parts)
    )
    if differ:
        values = sorted({_short(part.document.get(differ[0])) for part in parts})
        hint = ": two machines under one name?" if Path(name).name == MACHINE or differ == ["params"] else ""
        conflicts.append(f"{name}: {differ[0]} is {' and '.join(values)}{hint}")
    return newest


def _short(value: Any) -> str:
    text = _plain(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _results(name: str, parts: Sequence[_Part], conflicts: list[str]) -> dict[str, Any]:
    """Return the result file of one commit, environment and machine."""
    document = _same(name, parts, _UNLIKE, conflicts)
    found: dict[str, list[dict[str, Any]]] = {}
    columns: dict[str, None] = {}
    durations: dict[str, Any] = {}
    for part in sorted(parts, key=lambda part: (-len(part.document["result_columns"]), part.rank)):
        columns |= dict.fromkeys(part.document["result_columns"])
        for benchmark, row in _rows(part.document).items():
            found.setdefault(benchmark, []).append(row)
        for what, seconds in part.document.get("durations", {}).items():
            durations[what] = max(durations.get(what, seconds), seconds, key=_number)
    rows = {}
    for benchmark, own in found.items():
        row = rows[benchmark] = max(own, key=_rank)
        for other in own:
            if other.get("version") == row.get("version") and _plain(other.get("params")) != _plain(row.get("params")):
                conflicts.append(f"{name}: {benchmark} has other parameters, but the same version")
                break
            if _age(other) == _age(row) and _plain(other) != _plain(row):
                conflicts.append(f"{name}: {benchmark} has two results of the same time")
                break
    # asv writes benchmarks as they were run.
    order = sorted(rows, key=lambda benchmark: (_age(rows[benchmark]), benchmark))
    merged = dict(document) | {
        "result_columns": list(columns),
        "results": {benchmark: _listed(rows[benchmark], columns) for benchmark in order},
        "durations": {what: durations[what] for what in sorted(durations)},
    }
    return {key: merged[key] for key in (*_ORDER, *sorted(merged)) if key in merged}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _listed(row: Mapping[str, Any], columns: Mapping[str, None]) -> list[Any]:
    """Return a row without the empty cells at its end, as asv writes it."""
    values = [row.get(column) for column in columns]
    while values and values[-1] is None:
        values.pop()
    return values


def _benchmarks(parts: Sequence[_Part], versions: Mapping[str, Any], conflicts: list[str]) -> dict[str, Any]:
    """Return the list of benchmarks: each in the version that was run last."""
    found: dict[str, list[Any]] = {}
    for part in parts:
        for name, entry in part.document.items():
            found.setdefault(name, []).append(entry)
    merged = {}
    for name, entries in found.items():
        if not all(isinstance(entry, dict) for entry in entries):
            merged[name] = max(entries, key=_plain)  # the version of the format
            if len(set(map(_plain, entries))) > 1:
                conflicts.append(f"{BENCHMARKS}: {name} is {' and '.join(sorted(set(map(_short, entries))))}")
            continue
        merged[name] = max(entries, key=lambda entry: (entry.get("version") == versions.get(name), _plain(entry)))
        same = [entry for entry in entries if entry.get("version") == merged[name].get("version")]
        if len({_plain(entry.get("params")) for entry in same}) > 1:
            conflicts.append(f"{BENCHMARKS}: {name} has other parameters, but the same version")
    return merged
