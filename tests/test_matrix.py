"""The whole of recipe × variant × dtype × layout: every case is right, or is skipped for a reason that is allowed."""

from __future__ import annotations

from collections import Counter

import pytest
from conftest import measure

from suite import devices, registry
from suite.cases import LAYOUTS
from suite.measurement import Measurement
from suite.registry import DTYPES


@pytest.fixture(scope="module")
def matrix() -> list[Measurement]:
    return list(
        measure(
            recipes=("*",),
            batches=(2,),
            size=(32, 40),
            dtypes=DTYPES,
            layouts=LAYOUTS,
            devices_=("*",),
            blocks=1,
        )
    )


def test_every_case_is_right_or_skipped_for_an_allowed_reason(
    matrix: list[Measurement], capsys: pytest.CaptureFixture[str]
) -> None:
    counts = Counter((m.status, bool(m.known), (m.reason or "").partition(":")[0]) for m in matrix)
    with capsys.disabled():
        print()
        for (status, known, reason), number in counts.most_common():
            print(f"  {number:4} {status}{' (known)' if known else ''}  {reason}")
    no_gpu = devices.gpus()[1]
    for m in matrix:
        if m.status == "skipped":
            over_input = m.writes == "input" and m.dtype == "uint8"
            assert (
                (over_input and m.reason == "a float32 result does not fit over a uint8 input")
                or (m.device == "gpu" and m.reason == no_gpu)
                or (m.runtime == "cupy" and "is not installed" in (m.reason or ""))
            ), (m.variant, m.reason)
        elif m.known:
            assert (m.variant, m.dtype) == ("keras-tensor", "uint8")
            assert m.status == ("wrong" if m.recipe == "caffe" else "failed"), m.reason
        else:
            assert m.status == "ok", (m.recipe, m.variant, m.dtype, m.layout, m.reason)


def test_the_matrix_is_complete(matrix: list[Measurement]) -> None:
    expected = {
        (v.recipe, v.name, device, dtype, layout)
        for v in registry.variants.values()
        for device in v.devices or registry.runtime(v.runtime).devices
        for dtype in DTYPES
        for layout in LAYOUTS
    }
    assert {(m.recipe, m.variant, m.device, m.dtype, m.layout) for m in matrix} == expected
    assert len(matrix) == len(expected)


def test_results_have_the_dtype_of_the_contract(matrix: list[Measurement]) -> None:
    for m in matrix:
        if m.status == "ok":
            assert m.result_dtype == ("float32" if m.dtype == "uint8" else m.dtype)


def test_who_changes_the_input(matrix: list[Measurement]) -> None:
    for m in matrix:
        if m.status == "ok":
            over = m.variant in ("numpy-inplace", "tf-variable-inplace")
            keras = m.variant == "keras-numpy" and m.dtype != "uint8"  # integers are copied to float32 first
            assert m.input_changed == (over or keras), (m.recipe, m.variant, m.dtype)


def test_what_the_result_shares(matrix: list[Measurement]) -> None:
    for m in matrix:
        if m.status == "ok":
            keras = m.variant == "keras-numpy" and m.dtype != "uint8"
            place = "input" if keras else {"new": "nothing"}.get(m.writes, m.writes)
            assert m.result_shares == place, (m.recipe, m.variant, m.dtype)


def test_only_keras_numpy_in_caffe_mode_gives_a_view_that_is_not_contiguous(matrix: list[Measurement]) -> None:
    for m in matrix:
        if m.status == "ok":
            view = m.recipe == "caffe" and m.variant == "keras-numpy"
            assert m.result_contiguous == (not view), (m.recipe, m.variant, m.layout)
