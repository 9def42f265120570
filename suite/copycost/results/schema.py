"""Generate the JSON Schema of a run, and the table of columns in the documentation, from the specifications of fields.

``python -m copycost.results.schema`` writes ``schema.json``, and in a checkout also ``docs/reference/columns.md``.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from copycost.model.fields import SPECS

#: The file of the JSON Schema, which is part of the package.
FILE = Path(__file__).with_name("schema.json")

#: The page with the table of columns, which is part of a checkout only.
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "columns.md"

#: Lines of the page before and after the table.
_BEGIN, _END = "<!-- generated: fields -->", "<!-- /generated -->"

_TEXT: dict[str, Any] = {"type": "string"}
_TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}
_TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": _TEXT}

#: JSON Schema of the environment, which may have further keys.
_ENVIRONMENT: dict[str, Any] = {
    "type": "object",
    "required": ["time", "copycost", "engine", "python", "libraries", "cpu", "cpus", "threads"],
    "properties": {
        "time": _TEXT,
        "copycost": _TEXT,
        "engine": {"type": "integer", "minimum": 0},
        "python": _TEXT,
        "libraries": _TEXTS,
        "variables": _TEXTS,
        "os": _TEXT,
        "kernel": _TEXT,
        "libc": _TEXT,
        "architecture": _TEXT,
        "cpu": _TEXT_OR_NULL,
        "cpus": {"type": "integer", "minimum": 1},
        "cpu_flags": {"type": "array", "items": _TEXT},
        "caches": _TEXTS,
        "memory_bytes": {"type": ["integer", "null"], "minimum": 0},
        "governor": _TEXT_OR_NULL,
        "huge_pages": _TEXT_OR_NULL,
        "load": {"type": "number", "minimum": 0},
        "gpus": {"type": "array", "items": {"type": "object"}},
        "no_gpu": _TEXT_OR_NULL,
        "threads": {"type": "integer", "minimum": 1},
        "image": _TEXT,
        "image_sha256": _TEXT,
        "spent_seconds": {"type": "object", "additionalProperties": {"type": "number"}},
        "session": _TEXT,
        "commit": _TEXT,
        "changed": {"type": "boolean"},
        "machine": _TEXT,
        "environment": _TEXT,
        "commit_time": _TEXT,
    },
}

#: A case that is ok has a time, and every other case a reason; one that is unchecked may have either.
_STATUS_RULE: dict[str, Any] = {
    "if": {"properties": {"status": {"const": "ok"}}},
    "then": {"required": ["seconds"], "properties": {"seconds": {"type": "number"}}},
    "else": {
        "if": {"properties": {"status": {"const": "unchecked"}}},
        "else": {"properties": {"reason": {"type": "string", "minLength": 1}}},
    },
}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the document that ``copycost run --json`` writes.

    Returns
    -------
    dict
        As in ``schema.json``.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "copycost run",
        "type": "object",
        "required": ["schema", "environment", "measurements"],
        "additionalProperties": False,
        "properties": {
            "schema": {"const": 1},
            "environment": _ENVIRONMENT,
            "measurements": {"type": "array", "items": {"$ref": "#/$defs/measurement"}},
        },
        "$defs": {
            "measurement": {
                "type": "object",
                "properties": {name: {**spec.schema, "description": spec.doc} for name, spec in SPECS.items()},
                "required": [name for name, spec in SPECS.items() if spec.required],
                "additionalProperties": False,
                "allOf": [_STATUS_RULE, *(_null_rule(name) for name, spec in SPECS.items() if spec.explained)],
            }
        },
    }


def _null_rule(name: str) -> dict[str, Any]:
    """Return the rule that a field which is null has a reason in ``missing``."""
    null: dict[str, Any] = {"properties": {name: {"type": "null"}}}
    if not SPECS[name].required:
        # Without this, the rule would also apply to documents without the field.
        null = {"required": [name], **null}
    return {"if": null, "then": {"properties": {"missing": {"required": [name]}}}}


def columns() -> str:
    """Return the table of fields as Markdown: column, unit and description, with one row for each family."""
    lines = ["| column | unit | description |", "| --- | --- | --- |"]
    for doc, family in groupby(SPECS.items(), key=lambda item: item[1].doc):
        specs = dict(family)
        names = ", ".join(f"`{name}`" for name in specs)
        units = dict.fromkeys(spec.unit for spec in specs.values())
        # Some fields of a family may have a unit and others be plain numbers.
        unit = ", ".join(unit or "number" for unit in units) if any(units) else ""
        lines.append(f"| {names} | {unit} | {doc} |".replace("|  |", "| |"))
    return "\n".join(lines)


def with_columns(page: str) -> str:
    """Return the text of a page with the table of fields between the two comments that mark it.

    Raises
    ------
    ValueError
        If the page does not have the comments.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"expected a line {_BEGIN} and then a line {_END}")
    return f"{before}{begin}\n\n{columns()}\n\n{end}{after}"


def write() -> None:
    """Write the JSON Schema, and in a checkout the table of columns."""
    FILE.write_text(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if PAGE.is_file():
        PAGE.write_text(with_columns(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
