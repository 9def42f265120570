"""The specification of every field, and what is generated from it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from copycost.asv.benchmarks import Cases
from copycost.model import vocabulary
from copycost.model.fields import SPECS
from copycost.model.measurement import FIELDS, FIGURES, Measurement
from copycost.model.vocabulary import DTYPES, DeviceKind, Layout, Mark, ResultShares, Status, StopReason, Writes
from copycost.report.rows import COLUMNS
from copycost.results import schema as contract
from copycost.results.asv_format import TRACKED
from copycost.results.table import NOT_CELLS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "columns.md"

#: What to do where a generated file is not up to date.
AGAIN = "run python -m copycost.results.schema"

#: Figures that may be null without a reason.
UNEXPLAINED = {"least_change", "marks"}


def kept() -> Any:
    """The JSON Schema that is part of the package."""
    return json.loads(contract.FILE.read_text())


def test_every_field_has_a_specification() -> None:
    assert tuple(SPECS) == FIELDS
    for name, spec in SPECS.items():
        assert spec.doc, name
        assert "\n" not in spec.doc + spec.unit, name
        assert "|" not in spec.doc + spec.unit, f"{name}: a table has no such cell"


def test_the_schema_and_the_page_are_those_of_the_specifications() -> None:
    assert contract.schema() == kept(), AGAIN
    text = PAGE.read_text()
    assert contract.with_columns(text) == text, AGAIN
    assert contract.PAGE.samefile(PAGE)


@pytest.mark.parametrize("change", [{"unit": "ms"}, {"doc": "another description"}])
def test_a_change_of_what_the_page_says_is_seen(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS, "seconds_first", replace(SPECS["seconds_first"], **change))
    text = PAGE.read_text()
    assert contract.with_columns(text) != text


@pytest.mark.parametrize(
    "change",
    [{"doc": "another description"}, {"schema": {"type": "number"}}, {"required": False}, {"explained": False}],
)
def test_a_change_of_the_contract_is_seen(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS, "seconds_first", replace(SPECS["seconds_first"], **change))
    assert contract.schema() != kept()


def test_a_page_without_the_comments_is_refused() -> None:
    with pytest.raises(ValueError, match="generated: fields"):
        contract.with_columns("# Columns\n")


def test_both_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, page = tmp_path / "schema.json", tmp_path / "columns.md"
    monkeypatch.setattr(contract, "FILE", file)
    monkeypatch.setattr(contract, "PAGE", page)
    contract.write()
    assert not page.exists()
    page.write_text("before\n<!-- generated: fields -->\nold\n<!-- /generated -->\nafter\n")
    contract.write()
    assert json.loads(file.read_text()) == contract.schema()
    assert page.read_text().startswith("before\n<!-- generated: fields -->\n\n| column | unit | description |\n")
    assert page.read_text().endswith("\n\n<!-- /generated -->\nafter\n")
    assert "\nold\n" not in page.read_text()


def test_fields_with_one_description_share_a_row() -> None:
    rows = contract.columns().splitlines()
    assert "| `height`, `width` | pixels | size of the input images |" in rows
    assert any(row.startswith("| `seconds`, `seconds_low`, `seconds_high` | s | ") for row in rows)
    assert any(row.startswith("| `calls` | | ") for row in rows)
    assert any(row.startswith("| `host_allocations`, ") and "` | number, B | " in row for row in rows)


#: Annotation → type in JSON Schema.
TYPES = {"str": "string", "bool": "boolean", "int": "integer", "float": "number", "list": "array", "tuple": "array"}


@pytest.mark.parametrize("field", fields(Measurement), ids=lambda field: field.name)
def test_the_schema_of_a_value_agrees_with_the_annotation(field: Any) -> None:
    spec = SPECS[field.name]
    plain = str(field.type).removesuffix(" | None")
    words = vars(vocabulary).get(plain)
    expected = "string" if words else TYPES.get(plain.partition("[")[0], "object")
    if words:
        assert [word for word in spec.schema["enum"] if word] == [*words]
    if "enum" in spec.schema:
        kinds, allows_null = {"string"}, None in spec.schema["enum"]
    else:
        given = spec.schema["type"]
        kinds = {given} if isinstance(given, str) else {*given}
        allows_null = "null" in kinds
    assert kinds - {"null"} == {expected}
    # A run always records these; only a history may lack them.
    if field.name not in ("runtime", "writes", "threads"):
        assert allows_null == str(field.type).endswith(" | None")


def test_figures_that_are_null_need_a_reason() -> None:
    assert {name for name, spec in SPECS.items() if spec.explained} == set(FIGURES) - UNEXPLAINED
    # Later fields are optional, so that documents from before are valid.
    assert not {name for name, spec in SPECS.items() if not spec.required} - set(FIGURES) - {"audited"}


def test_what_is_not_one_value_is_not_in_the_csv() -> None:
    assert NOT_CELLS == (
        "missing", "ranges", "samples", "marks", "clocks_mhz", "temperatures_c", "slowed", "code", "timeline",
    )  # fmt: skip


def test_the_words_are_those_of_the_schema() -> None:
    found = {name: spec.schema["enum"] for name, spec in SPECS.items() if "enum" in spec.schema}
    assert found == {
        "writes": [*Writes],
        "device": [*DeviceKind],
        "dtype": [*DTYPES],
        "layout": [*Layout],
        "status": [*Status],
        "stopped_by": [*StopReason, None],
        "result_shares": [*ResultShares, None],
    }
    assert SPECS["marks"].schema["items"]["items"]["enum"] == [*Mark]


def test_the_page_of_a_report_shows_the_unit() -> None:
    kinds = {"s": "seconds", "B": "size", "1/s": "rate", "fraction": "percent", "images": "batch"}
    for name in COLUMNS.keys() & SPECS.keys():
        kind, unit = COLUMNS[name][0], SPECS[name].unit
        assert kind == kinds.get(unit, kind), name
        assert unit in kinds or kind not in kinds.values(), name


def test_asv_shows_the_unit() -> None:
    units = {"s": "seconds", "B": "bytes"}
    for name in SPECS.keys() & set(TRACKED):
        shown, unit = getattr(Cases, f"track_{name}").unit, SPECS[name].unit
        assert shown == units.get(unit, shown), name
        assert unit in units or shown not in units.values(), name
