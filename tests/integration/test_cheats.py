"""Ways of cheating are found, each by what is said here; and what is honest is not refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import by_variant, measure

from copycost.model.measurement import Measurement

CHEATS = Path(__file__).parents[1] / "cheats.py"

#: What a cheat's reason says. None: it is not found, and its time is that of honest work.
CAUGHT: dict[str, str | None] = {
    "memo-by-identity": "off by",
    "memo-by-address": "off by",
    "memo-by-shape": "off by",
    "memo-by-first-elements": "off by",
    "memo-by-three-elements": "off by",
    "memo-by-strided-sample": "off by",
    "memo-by-sum": "off by",
    "memo-by-extremes-and-mean": "off by",
    "memo-by-histogram": "off by",
    "memo-by-hash-of-all-bytes": "it remembers results",
    "memo-by-all-bytes": "it remembers results",
    "memo-that-gives-the-array-itself": "not finite",
    "memo-into-the-buffer": "off by",
    "leaves-the-last-answer-in-the-buffer": "not finite",
    "answer-of-the-previous-call": "off by",
    "computed-while-preparing": "off by",
    "one-buffer-for-all-answers": "an earlier result was changed by a later call",
    "computed-by-another-thread": "",
    "computed-when-looked-at": "off by",
    "a-generator-of-answers": "returned generator",
    "a-view-that-is-filled-by-the-next-call": "off by",
    "half-precision": "off by",
    "bfloat16-constants": "off by",
    "rounded-to-a-table": "off by",
    "a-constant-a-little-off": "off by",
    "zeros-near-zero": "off by",
    "only-the-first-image": "off by",
    "only-every-other-row": "off by",
    "not-a-number-passes": "not finite",
    "zeros": "off by",
    "nothing-is-written": "",
    "the-input-itself": "off by",
    "honest-for-some-calls": "in a timed call",
    "honest-when-audited": "in a timed call",
    "honest-by-the-stacks-of-all-threads": "in a timed call",
    "another-clock": "the clock was replaced",
    "another-clock-for-everybody": None,
    "another-loop-around-the-clock": "the clock was replaced",
}


@pytest.fixture(scope="module")
def cheats() -> dict[str, Measurement]:
    return by_variant(measure(files=(CHEATS,), variants=tuple(CAUGHT), batches=(2,), size=(128, 96), blocks=5))


@pytest.mark.parametrize("name", CAUGHT)
def test_each_cheat_is_found(cheats: dict[str, Measurement], name: str) -> None:
    expected, found = CAUGHT[name], cheats[name]
    if expected is None:
        assert found.status == "ok", found.reason
        return
    assert found.status == "wrong", found.status
    assert expected in (found.reason or "")
