"""The answer first: which way, what it saves, what to beware of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_results import M

from suite.measurement import Measurement
from suite.report.markdown import markdown
from suite.report.overview import MOST, overview, saving
from suite.results import frame

MIB = 2**20


def one(variant: str, blocks: tuple[float, ...], allocated: int = 0, **more: object) -> Measurement:
    middle = sorted(blocks)[len(blocks) // 2]
    fields = {
        "variant": variant, "samples": [[block] * 3 for block in blocks], "seconds": middle, "seconds_low": min(blocks),
        "seconds_high": max(blocks), "allocations": int(allocated > 0), "allocated_bytes": allocated, "writes": "new",
        "input_changed": False, "result_shares": "nothing", "result_contiguous": True,
    }  # fmt: skip
    return replace(M, **fields | more)


PLAIN = one("numpy-new", (4.0e-3, 4.1e-3, 4.2e-3, 4.0e-3), 8 * MIB)
FAST = one("tf-xla", (1.0e-3, 1.02e-3, 1.05e-3, 1.0e-3), 4 * MIB, code="def call(x): ...\n")
LEAN = one("numpy-out", (2.0e-3, 2.05e-3, 2.1e-3, 2.0e-3), 0, writes="out")
OVER = one("numpy-inplace", (0.5e-3, 0.51e-3, 0.52e-3, 0.5e-3), 0, writes="input", input_changed=True)
KERAS = one("keras-numpy", (8e-3, 8.1e-3, 8.2e-3, 8e-3), 0, input_changed=True, result_shares="input")


def test_the_answer_and_what_it_saves() -> None:
    found = overview([PLAIN, FAST, LEAN, OVER, KERAS])
    (answer,) = found.answers
    assert answer.fastest.measurement == FAST
    assert answer.lean is not None
    assert answer.lean.measurement == LEAN
    assert answer.over is not None
    assert answer.over.measurement == OVER
    plain, keras = answer.fastest.savings
    assert (plain.base, keras.base) == (PLAIN, KERAS)
    # The geometric mean over blocks of how many times as fast each was.
    ratio = (4.0 / 1.0 * 4.1 / 1.02 * 4.2 / 1.05 * 4.0 / 1.0) ** 0.25
    assert plain.times == pytest.approx(ratio)
    assert plain.sure
    assert plain.low is not None
    assert plain.low < ratio
    assert plain.allocated_bytes == 4 * MIB
    assert plain.memory == "allocates 4.00 MiB less"
    assert plain.speed.startswith("4.00 × (")
    assert str(plain) == f"{plain.speed} numpy-new (4.10 ms), allocates 4.00 MiB less"
    assert keras.beside == "(8.10 ms, which changes its input)"


def test_a_difference_inside_the_noise_says_so() -> None:
    noisy = one("numpy-copy", (3.9e-3, 4.4e-3, 3.8e-3, 4.3e-3), 8 * MIB, seconds=4.2e-3)
    (answer,) = overview([PLAIN, noisy]).answers
    assert answer.fastest.measurement == PLAIN
    assert answer.ties == ("numpy-copy",)
    assert saving(noisy, PLAIN).speed == "too close or too noisy to tell from"


def test_what_is_as_fast_as_far_as_can_be_told_is_named() -> None:
    twin = one("numba-out", (1.0e-3, 1.06e-3, 1.01e-3, 1.03e-3))
    (answer,) = overview([PLAIN, FAST, twin]).answers
    assert {answer.fastest.measurement.variant, *answer.ties} == {"tf-xla", "numba-out"}


def test_what_is_wrong_is_never_recommended() -> None:
    wrong = replace(OVER, variant="quick", status="wrong", reason="off by 2", input_changed=False)
    found = overview([PLAIN, wrong, replace(FAST, status="failed", seconds=None, samples=None)])
    assert [one.fastest.measurement.variant for one in found.answers] == ["numpy-new"]
    assert [(worry.variant, worry.what) for worry in found.worries] == [
        ("quick", "gives a wrong result"), ("tf-xla", "raises, dies or takes too long"),
    ]  # fmt: skip
    assert found.worries[0].example == wrong


def test_worries() -> None:
    strided = replace(PLAIN, variant="flip", result_contiguous=False)
    found = overview([PLAIN, KERAS, replace(KERAS, recipe="caffe"), OVER, strided])
    said = {(worry.variant, worry.what): (worry.recipes, worry.cases, worry.of) for worry in found.worries}
    assert said == {
        ("keras-numpy", "changes the array that it is given"): (("tf", "caffe"), 2, 2),
        ("keras-numpy", "gives a result that lies in the input's memory"): (("tf", "caffe"), 2, 2),
        ("flip", "gives a result that is not contiguous, which the next step may copy"): (("tf",), 1, 1),
    }


def test_a_table_gives_the_same_as_the_measurements() -> None:
    measured = [PLAIN, FAST, LEAN, OVER, KERAS]
    assert overview(frame(measured)) == overview(measured)


def test_no_more_than_can_be_read() -> None:
    many = [replace(PLAIN, batch=k) for k in range(1, MOST + 6)]
    found = overview(many)
    assert (len(found.answers), found.left) == (MOST, 5)


def test_in_a_notebook_and_in_markdown() -> None:
    hostile = replace(KERAS, variant="<b>|x`")
    found = overview([PLAIN, FAST, LEAN, OVER, hostile])
    html = found._repr_html_()
    assert "tf-xla" in html
    assert "<b>|x" not in html
    text = markdown(found)
    (row,) = [line for line in text.splitlines() if "tf-xla" in line]
    assert row.count(" | ") == 4
    assert "4.00 ×" in row
    assert "<details>" in text
    assert "\\<b\\>\\|x\\`" in text
    assert "tf-xla" in str(found)
