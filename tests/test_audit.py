"""The verdict: what is right, how far off is wrong, and the two measures of error."""

from __future__ import annotations

import numpy as np
import pytest

from suite.engine.audit import judge, overlap, same

F32 = np.dtype("float32")


def test_the_tolerance_is_eight_eps_of_the_largest_intermediate() -> None:
    reference = np.zeros(100)
    allowed = 8 * 2.0**-23 * 2
    within, beyond = (np.full(100, allowed * f, np.float32) for f in (0.99, 1.01))
    assert judge(within, reference, F32, 2).reason is None
    assert "off by up to" in (judge(beyond, reference, F32, 2).reason or "")


def test_one_wrong_element_among_many_is_found_wherever_it_is() -> None:
    reference = np.random.default_rng(0).random(200_001)
    for place in (0, 32_767, 32_768, 200_000):
        result = reference.astype(np.float32)
        result[place] += 0.01
        verdict = judge(result, reference, F32, 1)
        assert verdict.reason
        assert verdict.max_abs_error == pytest.approx(0.01, rel=1e-4)


def test_ulp_is_the_distance_in_spacings_of_the_reference() -> None:
    reference = np.array([1.0, 1000.0])
    result = np.array([1.0, np.nextafter(np.float32(1000), np.float32(2000))], np.float32)
    assert judge(result, reference, F32, 1000).max_ulp == 1


def test_without_a_magnitude_the_reference_gives_it() -> None:
    reference = np.full(4, 1e6)
    result = (reference + 0.5).astype(np.float32)  # within 8 · eps · 1e6, and not within 8 · eps · 255
    assert judge(result, reference, F32, None).reason is None
    assert judge(result, reference, F32, 255).reason


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_wrong(bad: float) -> None:
    result = np.zeros(70_000, np.float32)
    result[-1] = bad
    assert judge(result, np.zeros(70_000), F32, 1).reason == "not finite in 1 of 70,000 values"


def test_dtype_and_shape_come_before_values() -> None:
    assert judge(np.zeros(3), np.zeros(3), F32, 1).reason == "returned float64, not float32"
    assert "shape 3, not 1×3" in (judge(np.zeros(3, F32), np.zeros((1, 3)), F32, 1).reason or "")


def test_equal_bits() -> None:
    x = np.array([np.nan, 0.0], np.float32)
    assert same(x, x.copy())
    assert not same(x, np.array([np.nan, -0.0], np.float32))
    assert not same(x, x.astype(np.float64))
    assert same(x[::-1], x[::-1].copy())


def test_overlap_of_ranges() -> None:
    assert overlap((0, 10), (9, 20))
    assert not overlap((0, 10), (10, 20))
    assert not overlap(None, (0, 10))
