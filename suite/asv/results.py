"""asv's result files as measurements, as far as they hold them.

A file is one machine, one environment and one commit. The layout is asv's (``version`` 2): ``results`` maps a benchmark
to a row of ``result_columns``, in which ``result`` and ``samples`` are lists over the product of ``params``.
"""

from __future__ import annotations

import ast
import itertools
import json
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from suite import registry
from suite.asv.benchmarks import PARAMETERS
from suite.cases import CHANNELS
from suite.engine.sampling import estimate
from suite.measurement import FIGURES, Measurement

_VERSION = 2
_MACHINE, _BENCHMARKS = "machine.json", "benchmarks.json"
_FIGURES = (
    "seconds", "seconds_first", "allocations", "allocated_bytes", "peak_bytes", "retained_bytes", "max_abs_error",
)  # fmt: skip
_NOT_HELD = "asv's results do not hold it"

#: One result file: its name, what it was taken in, its measurements.
Loaded = tuple[str, dict[str, Any], list[Measurement]]


def holds(folder: Path) -> bool:
    """Whether a folder is asv's results: of a project, or of one machine."""
    return (folder / _BENCHMARKS).is_file() or any(folder.glob(f"*/{_MACHINE}")) or (folder / _MACHINE).is_file()


def load(folder: Path) -> list[Loaded]:
    """Every result file below `folder` that is copycost's, newest commit first.

    A file that cannot be read, or that is something else, is named in a warning and left out; so is a variant that
    today's benchmarks do not have, but its measurements are kept.
    """
    loaded = []
    current = _current(folder)
    registry.load_shipped()
    for path in sorted(folder.rglob("*.json")):
        if path.name in (_MACHINE, _BENCHMARKS):
            continue
        found = _read(path, current)
        if isinstance(found, str):
            warnings.warn(f"{path}: {found}, and is left out", stacklevel=2)
        else:
            loaded.append(found)
    loaded.sort(key=lambda one: (one[1]["machine"], one[1]["environment"]))
    return sorted(loaded, key=lambda one: one[1]["commit_time"], reverse=True)


def _read(path: Path, current: set[str] | None) -> Loaded | str:
    """A result file; or, in a few words, what is wrong with it."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return "it is not whole"
    try:
        if document["version"] != _VERSION:
            return f"it has version {document['version']} of asv's format; this reads {_VERSION}"
        columns = document["result_columns"]
        figures: dict[tuple[Any, ...], dict[str, Any]] = {}
        for benchmark, row in document["results"].items():
            held = dict(zip(columns, row, strict=False))
            for case, field, value in _cells(benchmark, held):
                figures.setdefault(case, {})[field] = value
        environment = _environment(document)
        measurements = [m for case, fields in figures.items() if (m := _measurement(case, fields)) is not None]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, SyntaxError):
        return "it is no result of asv's"
    if not measurements:
        return "it holds no case of copycost's"
    measured = {m.variant for m in measurements if m.status == "ok"}
    for name in sorted(measured - current if current is not None else ()):
        warnings.warn(f"{path}: variant '{name}' is not among today's benchmarks; its figures are kept", stacklevel=3)
    named = f"{environment['commit'][:8]}, {environment['environment']}, {environment['machine']}"
    return named, environment | {"engine": _engine(document)}, measurements


def _cells(benchmark: str, held: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str, Any]]:
    """Parameters, field and value of every cell of one benchmark, if it is one of `Cases`."""
    field = benchmark.rpartition(".track_")[2]
    params = held.get("params") or []
    if field == benchmark or len(params) != len(PARAMETERS):
        return
    product = itertools.product(*(map(ast.literal_eval, values) for values in params))
    values = held["result"] or itertools.repeat(None)  # None: all failed
    samples = held.get("samples") or itertools.repeat(None)
    for case, value, blocks in zip(product, values, samples, strict=False):
        yield case, field, value
        if blocks and field == "seconds":
            yield case, "samples", blocks


def _engine(document: Mapping[str, Any]) -> str:
    """The version of the benchmarks, which is that of the way of measuring."""
    at = document["result_columns"].index("version")
    return ", ".join(sorted({str(row[at]) for row in document["results"].values() if len(row) > at}))


def _environment(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a result was taken in, by the names of a run's environment where it has them too."""
    params = document["params"]
    # An existing interpreter is named by its path, which is nobody's concern elsewhere.
    python = Path(document["python"]).name
    existing = document["env_name"].startswith("existing-")
    known = {
        "machine": params["machine"],
        "commit": document["commit_hash"],
        "commit_time": datetime.fromtimestamp(document["date"] / 1000, UTC).isoformat(timespec="seconds"),
        "environment": f"existing {python}" if existing else document["env_name"],
        "python": python,
        "libraries": dict(document["requirements"]),
        "variables": dict(document.get("env_vars") or {}),
    }
    return known | {k: v for k, v in params.items() if k not in (*known, *known["libraries"]) and v not in (None, "")}


def _measurement(case: tuple[Any, ...], fields: dict[str, Any]) -> Measurement | None:
    """A case's measurement; None for a cell of asv's product that is no case."""
    at = dict(zip(PARAMETERS, case, strict=True))
    variant = registry.variants.get((at["recipe"], at["variant"]))
    held = {name: value for name, value in fields.items() if value is not None and value == value}
    if not held:
        shipped = any(name == at["variant"] for _, name in registry.variants)
        if shipped and (variant is None or at["device"] not in (variant.devices or _devices(variant))):
            return None
        failed = any(value is None for value in fields.values())
        status = "failed" if failed else "skipped"
        reason = f"{'failed, wrong or crashed' if failed else 'n/a'} in asv, whose results keep no reason"
    else:
        status, reason = "ok", None
    samples = [[block] for block in held.pop("samples", ())]
    images = at["batch"] or 1
    figures: dict[str, Any] = {name: held[name] for name in _FIGURES if name in held}
    if "input_changed" in held:
        figures["input_changed"] = bool(held["input_changed"])
    if "seconds" in held:
        figures["images_per_second"] = images / held["seconds"]
    if samples:
        found = estimate(samples)
        figures |= {"samples": samples, "blocks": len(samples), "seconds_low": found.low, "seconds_high": found.high}
    missing = reason or _NOT_HELD
    return Measurement(
        **at,
        runtime=variant.runtime if variant else None,
        writes=variant.writes if variant else None,
        channels=CHANNELS,
        threads=None,
        status=status,
        reason=reason,
        missing={name: missing for name in FIGURES if figures.get(name) is None},
        **{name: value for name, value in figures.items() if value is not None},
    )


def _devices(variant: registry.Variant) -> tuple[str, ...]:
    return registry.runtime(variant.runtime).devices


def _current(folder: Path) -> set[str] | None:
    """The variants of today's benchmarks, as asv lists them beside its results; None where it does not."""
    for place in (folder, folder.parent):
        try:
            listed = json.loads((place / _BENCHMARKS).read_text())
            at = PARAMETERS.index("variant")
            return {
                ast.literal_eval(name)
                for benchmark in listed.values()
                if isinstance(benchmark, dict) and len(benchmark.get("params") or ()) == len(PARAMETERS)
                for name in benchmark["params"][at]
            }
        except (OSError, ValueError, AttributeError, SyntaxError):
            continue
    return None
