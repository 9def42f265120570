"""The closed vocabularies, and their members in measurements, files and other processes."""

from __future__ import annotations

import csv
import inspect
import io
import json
import multiprocessing
import re
from dataclasses import replace
from enum import StrEnum
from typing import Any

import pandas as pd
import pytest
from test_results import FULL, M

from copycost.model import vocabulary
from copycost.model.measurement import from_dict
from copycost.model.vocabulary import DeviceKind, Layout, Mark, ResultShares, Status, StopReason, Writes
from copycost.results import documents, table

VOCABULARIES = [
    value
    for value in vars(vocabulary).values()
    if isinstance(value, type) and issubclass(value, StrEnum) and value is not StrEnum
]
MEMBERS = [member for one in VOCABULARIES for member in one]

#: Field of a measurement with one word → its vocabulary.
FIELDS: dict[str, type[StrEnum]] = {
    "writes": Writes, "device": DeviceKind, "layout": Layout, "status": Status, "stopped_by": StopReason,
    "result_shares": ResultShares,
}  # fmt: skip


@pytest.mark.parametrize("words", VOCABULARIES, ids=lambda words: words.__name__)
def test_every_member_is_described(words: type[StrEnum]) -> None:
    text = inspect.getdoc(words) or ""
    named = [name for line in re.findall(r"^([A-Z_]+(?:, [A-Z_]+)*)$", text, re.MULTILINE) for name in line.split(", ")]
    assert named == [member.name for member in words]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: f"{type(member).__name__}.{member.name}")
def test_a_member_is_written_as_its_word(member: StrEnum) -> None:
    word = member.value
    assert type(str(member)) is str
    assert member == word
    assert hash(member) == hash(word)
    assert f"{member}|{member:>12}" == f"{word}|{word:>12}"
    assert json.dumps({member: [member]}) == json.dumps({word: [word]})
    cells = io.StringIO()
    csv.writer(cells).writerow([member, 1])
    assert cells.getvalue() == f"{word},1\r\n"
    assert (pd.Series([member, "other"]) == word).tolist() == [True, False]


def returned(value: Any) -> Any:
    """The value, in another process."""
    return value


def test_members_survive_a_process() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        members = pool.apply(returned, (MEMBERS,))
        assert pool.apply(returned, (FULL,)) == FULL
    assert all(member is original for member, original in zip(members, MEMBERS, strict=True))


def test_a_measurement_holds_members_however_it_was_made() -> None:
    row = json.loads(json.dumps(FULL.to_dict()))
    for m in (FULL, from_dict(row), replace(FULL, status="wrong"), *table.measurements(table.frame([FULL]))):
        assert {name: type(getattr(m, name)) for name in FIELDS} == FIELDS
        assert m.marks == [[Mark.MOVED]]
        assert type((m.marks or [[]])[0][0]) is Mark


def test_a_table_holds_plain_strings() -> None:
    frame = table.frame([FULL, M])
    for name in FIELDS:
        assert frame[name].dtype == "string"
        assert type(frame[name][0]) is str
    assert repr(frame["marks"][0]) == "[['moved']]"


@pytest.mark.parametrize("name", FIELDS)
def test_an_unknown_word_is_one_line(name: str) -> None:
    row = FULL.to_dict() | {name: "other"}
    with pytest.raises(ValueError, match=f'^{name} is "other"$'):
        documents.check_measurement(row)
    with pytest.raises(ValueError, match=f"^'other' is not a valid {FIELDS[name].__name__}$"):
        from_dict(row)


def test_an_unknown_mark_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^'other' is not a valid Mark$"):
        from_dict(FULL.to_dict() | {"marks": [["", "other"]]})
