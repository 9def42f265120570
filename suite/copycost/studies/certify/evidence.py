"""The evidence of a certification: what was tested on a machine, whether it holds, and what was measured."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from copycost.model.vocabulary import DeviceKind
from copycost.results import documents
from copycost.results.store import RunError

#: Version of the document.
VERSION = 1

_TEXT, _OPTIONAL_TEXT = {"type": "string"}, {"type": ["string", "null"]}

#: JSON Schema of the document.
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["schema", "device", "environment", "finished", "rows"],
    "properties": {
        "schema": {"type": "integer", "minimum": VERSION, "maximum": VERSION},
        "device": {"enum": [str(kind) for kind in DeviceKind]},
        "environment": {
            "type": "object",
            "required": ["time", "copycost", "python", "libraries", "cpu", "gpus"],
            "properties": {
                **dict.fromkeys(("time", "copycost", "python"), _TEXT),
                "cpu": _OPTIONAL_TEXT,
                "libraries": {"type": "object", "additionalProperties": _TEXT},
                "gpus": {
                    "type": "array",
                    "items": {"type": "object", "required": ["name"], "properties": {"name": _TEXT}},
                },
            },
        },
        "finished": {"type": "boolean"},
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["step", "runtime", "statement", "holds", "reason", "figures"],
                "properties": {
                    "step": _TEXT,
                    "runtime": _OPTIONAL_TEXT,
                    "statement": _TEXT,
                    "holds": {"type": "boolean"},
                    "reason": _OPTIONAL_TEXT,
                    "figures": {"type": "object"},
                },
            },
        },
    },
}

_is_evidence = documents.checker(SCHEMA)


@dataclass(frozen=True)
class Row:
    """One statement about the machine.

    Attributes
    ----------
    step : str
    runtime : str or None
        None for a step that does not depend on a runtime.
    statement : str
    holds : bool
    reason : str or None
        Why the statement does not hold, if its figures do not show it.
    figures : mapping
    """

    step: str
    runtime: str | None
    statement: str
    holds: bool
    reason: str | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)


def document(device: DeviceKind, environment: Mapping[str, Any], rows: list[Row], finished: bool) -> dict[str, Any]:
    """Return the JSON document."""
    return {
        "schema": VERSION,
        "device": str(device),
        "environment": dict(environment),
        "finished": finished,
        "rows": [asdict(row) for row in rows],
    }


def write(path: Path, contents: Mapping[str, Any]) -> None:
    """Replace the file at once and wait until it is on the disk, so that it is whole whenever the machine stops."""
    part = path.with_name(path.name + ".part")
    with open(part, "w", encoding="utf-8") as file:
        file.write(json.dumps(contents, indent=1, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read(path: Path) -> dict[str, Any]:
    """Return the document in a file.

    Raises
    ------
    RunError
        If the file does not hold the evidence of a certification.
    """
    try:
        contents = documents.read(path)
    except ValueError:
        contents = None
    if not _is_evidence(contents):
        raise RunError(f"{path} does not hold what copycost certify writes")
    return dict(contents)
