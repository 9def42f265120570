"""Read asv's result files as measurements, with the fields that the files contain.

A file holds the results of one machine, one environment and one commit. The layout is asv's (``version`` 2):
``results`` maps a benchmark to a row of ``result_columns``. In a row, ``result`` and ``samples`` are lists over the
product of ``params``.
"""

from __future__ import annotations

import ast
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from copycost import registry
from copycost.cases.case import CHANNELS
from copycost.catalog import discovery
from copycost.model.measurement import FIGURES, Measurement
from copycost.model.vocabulary import Status
from copycost.results import documents
from copycost.results.asv_format import PARAMETERS, TRACKED
from copycost.stats.intervals import estimate

_VERSION = 2
MACHINE, BENCHMARKS = "machine.json", "benchmarks.json"
_FIGURES = (
    "seconds", "seconds_first", "allocations", "allocated_bytes", "peak_bytes", "retained_bytes", "max_abs_error",
)  # fmt: skip

#: Maximum number of cells of one benchmark, and of characters of a parameter. No real history comes near.
_MOST_CELLS, _LONGEST = 1_000_000, 1000

#: Fields that are integers.
_COUNTS = ("allocations", "allocated_bytes", "peak_bytes", "retained_bytes", "input_changed")

_NOT_HELD = "asv's results do not hold it"

#: One result file: its name, environment and measurements.
Loaded = tuple[str, dict[str, Any], list[Measurement]]


def holds(folder: Path) -> bool:
    """Return whether a folder contains asv's results, of a project or of one machine."""
    return (folder / BENCHMARKS).is_file() or any(folder.glob(f"*/{MACHINE}")) or (folder / MACHINE).is_file()


def load(folder: Path, since: float = 0.0) -> list[Loaded]:
    """Load every copycost result file below `folder` that was written since a time, newest commit first.

    A file that cannot be read, or that is not a copycost result, is skipped with a warning. A variant that is not among
    the current benchmarks causes a warning too, but its measurements are kept.
    """
    loaded = []
    current = _current(folder)
    discovery.load_shipped()
    for path in sorted(folder.rglob("*.json")):
        if path.name in (MACHINE, BENCHMARKS) or (path.exists() and path.stat().st_mtime < since):
            continue
        result = _read(path, current)
        if isinstance(result, str):
            warnings.warn(f"{path}: {result}, and is left out", stacklevel=2)
        else:
            loaded.append(result)
    loaded.sort(key=lambda result: (result[1]["machine"], result[1]["environment"]))
    return sorted(loaded, key=lambda result: result[1]["commit_time"], reverse=True)


def _read(path: Path, current: set[str] | None) -> Loaded | str:
    """Return the contents of a result file, or a short description of what is wrong with it."""
    try:
        document = documents.read(path, nan=True)
    except (OSError, ValueError):
        return "it is unreadable, incomplete or not valid JSON"
    try:
        if document["version"] != _VERSION:
            return f"it has version {document['version']} of asv's format: expected version {_VERSION}"
        rows = {
            name: dict(zip(document["result_columns"], row, strict=False)) for name, row in document["results"].items()
        }
        ours = {name: row for name, row in rows.items() if _is_ours(name, row)}
        if not ours:
            return "it contains no copycost case"
        # Benchmarks may have been run at different times. Only those of the newest method version form one row.
        engine = max(int(row["version"]) for row in ours.values())
        cells: dict[tuple[Any, ...], dict[str, Any]] = {}
        for name, row in ours.items():
            if int(row["version"]) == engine:
                for case, field, value in _cells(name, row):
                    cells.setdefault(case, {})[field] = value
        environment = _environment(document) | {"engine": engine}
        documents.check_environment(environment)
        measurements = [m for (_, *case), fields in cells.items() if (m := _measurement(case, fields)) is not None]
        for m in measurements:
            documents.check_measurement(m.to_dict())
        if len({tuple(getattr(m, name) for name in PARAMETERS) for m in measurements}) < len(measurements):
            return "it contains a case twice"
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, SyntaxError, ArithmeticError, OSError):
        return "it is not an asv result"
    measured = {m.variant for m in measurements if m.status == "ok"}
    for name in sorted(measured - current if current is not None else ()):
        warnings.warn(
            f"{path}: variant '{name}' is not among the current benchmarks; its figures are kept", stacklevel=3
        )
    named = f"{environment['commit'][:8]}, {environment['environment']}, {environment['machine']}"
    return named, environment, measurements


def _is_ours(name: str, row: Mapping[str, Any]) -> bool:
    """Return whether a benchmark belongs to `copycost.asv.Cases`."""
    return name.rpartition(".track_")[2] in TRACKED and len(row.get("params") or ()) == len(PARAMETERS)


def _cells(name: str, row: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str, Any]]:
    """Yield class and parameters, field, and value of every cell of a benchmark."""
    its_class, _, field = name.rpartition(".track_")
    parameters = [[_literal(text) for text in values] for values in row["params"]]
    if math.prod(map(len, parameters)) > _MOST_CELLS:
        raise ValueError("more cells than a file can hold")
    product = list(itertools.product(*parameters))
    for key in (field, "samples") if field == "seconds" else (field,):
        values = row["result"] if key == field else row.get("samples")
        # None in place of the list means None for every cell.
        for case, value in zip(product, [None] * len(product) if values is None else values, strict=True):
            yield (its_class, *case), key, value


def _literal(text: str) -> Any:
    """Return the parameter whose ``repr`` is given: a name, a number or None."""
    if len(text) > _LONGEST:  # thousands of nested brackets crash the interpreter
        raise ValueError("invalid parameter of a case: the text is too long")
    return ast.literal_eval(text)


def _environment(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment of a result, with the keys of a run's environment where both have them."""
    params = document["params"]
    # asv names an existing interpreter by its path, which is private. A digest keeps two interpreters distinct.
    python = Path(document["python"]).name
    name = document["env_name"]
    if name.startswith("existing-"):
        name = f"existing {python} {sha256(name.encode()).hexdigest()[:4]}"
    known = {
        "machine": params["machine"],
        "commit": document["commit_hash"],
        "commit_time": datetime.fromtimestamp(document["date"] / 1000, UTC).isoformat(timespec="seconds"),
        "environment": name,
        "python": python,
        "libraries": dict(document["requirements"]),
        "variables": dict(document.get("env_vars") or {}),
    }
    return known | {k: v for k, v in params.items() if k not in (*known, *known["libraries"]) and v not in (None, "")}


def _measurement(case: Sequence[Any], cells: Mapping[str, Any]) -> Measurement | None:
    """Return a case's measurement, or None for a cell of asv's product that is not a case."""
    at = dict(zip(PARAMETERS, case, strict=True))
    variant = registry.variants.get((at["recipe"], at["variant"]))
    if (
        variant is None
        and at["recipe"] in registry.recipes
        and any(name == at["variant"] for _, name in registry.variants)
    ):
        return None
    if variant and at["device"] not in (variant.devices or discovery.runtime(variant.runtime).devices):
        return None
    held = {name: _plain(name, value) for name, value in cells.items() if value is not None and value == value}
    read = set(cells) - {"samples"}
    failed = sorted(name for name in read if cells[name] is None)
    status, reason = Status.OK, None
    if failed:
        what = "wrong, crashed or" if set(failed) == read else ", ".join(failed)
        status, reason = Status.FAILED, f"{what} failed in asv, whose results keep no reason"
    elif not held:
        status, reason = Status.SKIPPED, "n/a in asv, whose results keep no reason"
    figures = {name: held[name] for name in _FIGURES if name in held}
    if "input_changed" in held:
        if held["input_changed"] not in (0, 1):
            raise ValueError("invalid input_changed: expected 0 or 1")
        figures["input_changed"] = bool(held["input_changed"])
    if "seconds" in held:
        figures["images_per_second"] = (at["batch"] or 1) / held["seconds"]
    if "samples" in held:
        samples = [[block] for block in held["samples"]]
        interval = estimate(samples)
        figures |= {"samples": samples, "blocks": len(samples)}
        figures |= {"seconds_low": interval.low, "seconds_high": interval.high, "least_change": interval.least}
    why = dict.fromkeys(FIGURES, reason or _NOT_HELD) | dict.fromkeys(read - set(held) - set(failed), "n/a in asv")
    return Measurement(
        **at,
        runtime=variant.runtime if variant else None,
        writes=variant.writes if variant else None,
        channels=CHANNELS,
        threads=None,
        status=status,
        reason=reason,
        # If asv has a figure for a path that is known to be wrong, the path is right in this commit.
        known=variant.known.get(at["dtype"]) if variant and status != "ok" else None,
        missing={name: why[name] for name in FIGURES if figures.get(name) is None},
        **{name: value for name, value in figures.items() if value is not None},
    )


def _plain(field: str, value: Any) -> Any:
    """Return a number as an integer in a field of counts and as a float elsewhere, since asv stores either."""
    if isinstance(value, float) and value.is_integer() and field in _COUNTS:
        return int(value)
    return float(value) if type(value) is int and field not in _COUNTS else value


def _current(folder: Path) -> set[str] | None:
    """Return the variants of the current benchmarks from asv's list beside its results, or None without such a list."""
    for place in (folder, folder.parent):
        try:
            listed = documents.read(place / BENCHMARKS, nan=True)
            at = PARAMETERS.index("variant")
            return {
                _literal(name)
                for benchmark in listed.values()
                if isinstance(benchmark, dict) and len(benchmark.get("params") or ()) == len(PARAMETERS)
                for name in benchmark["params"][at]
            }
        except (OSError, ValueError, AttributeError, SyntaxError, TypeError, LookupError):
            continue
    return None
