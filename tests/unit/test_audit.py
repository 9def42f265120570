"""The verdict: what is right, how far off is wrong, and the two measures of error."""

from __future__ import annotations

import math

import numpy as np
import pytest

from copycost.engine.compare_arrays import judge, overlap, same, within
from copycost.engine.passes.audit import _SCORE, _score
from copycost.engine.rounding import Reference, limits

F32 = np.dtype("float32")


def exactly(values: np.ndarray, bound: float = 0.0) -> Reference:
    return Reference(values, np.full(values.shape, bound, np.float32))


def test_a_result_may_be_off_by_the_bound_of_its_element_and_no_more() -> None:
    bound = np.geomspace(1e-6, 1e-3, 100).astype(np.float32)
    reference = Reference(np.zeros(100), bound)
    assert judge((0.99 * bound).astype(np.float32), reference, F32).reason is None
    result = np.zeros(100, np.float32)
    result[3] = 1.5 * bound[3]
    verdict = judge(result, reference, F32)
    assert verdict.reason == f"off by up to {result[3]:.3g}, where {bound[3]:.3g} is allowed, in 1 of 100 values"


def test_one_wrong_element_among_many_is_found_wherever_it_is() -> None:
    reference = np.random.default_rng(0).random(200_001)
    for place in (0, 32_767, 32_768, 200_000):
        result = reference.astype(np.float32)
        result[place] += 0.01
        verdict = judge(result, exactly(reference, 1e-6), F32)
        assert verdict.reason
        assert verdict.max_abs_error == pytest.approx(0.01, rel=1e-4)


def test_ulp_is_the_distance_in_spacings_of_the_reference() -> None:
    reference = np.array([1.0, 1000.0])
    result = np.array([1.0, np.nextafter(np.float32(1000), np.float32(2000))], np.float32)
    assert judge(result, exactly(reference, 1), F32).max_ulp == 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_ulp_agrees_with_numpy_spacing_over_all_exponents(dtype: str) -> None:
    limits = np.finfo(dtype)
    values = np.geomspace(limits.smallest_subnormal, limits.max / 2, 500, dtype=np.longdouble).astype(dtype)
    reference = np.concatenate([values, -values, [0]]).astype(dtype)
    for i in range(0, reference.size, 37):
        result = reference.copy()
        result[i] += 3 * np.spacing(abs(reference[i]))
        verdict = judge(result, exactly(reference.astype(np.float64), np.inf), np.dtype(dtype))
        assert verdict.max_ulp == 3


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_limits_are_the_last_results_that_the_verdict_calls_right(dtype: str) -> None:
    random = np.random.default_rng(0)
    values = random.normal(0, 1, 5000) * 10.0 ** random.integers(-4, 4, 5000)
    bound = (np.abs(values) * 10.0 ** random.uniform(-4, -2, 5000)).astype(np.float32)
    values[:3], bound[:3] = (0, 1, -1), (1e-3, 0, 0)
    reference = Reference(values, bound, *limits(values, bound, np.dtype(dtype)))
    assert reference.low is not None
    assert reference.high is not None
    some = reference.low <= reference.high  # else no number of the dtype is within the bound
    assert some.mean() > 0.5
    for last, beyond in ((reference.low, -np.inf), (reference.high, np.inf)):
        first_wrong = np.nextafter(last, np.array(beyond, dtype))
        errors = np.abs(np.stack([last, first_wrong]).astype(np.float64) - values)
        assert (errors[0] <= bound)[some].all()
        assert (errors[1] > bound).all()


def test_a_right_result_lies_within_its_limits_and_no_other_does() -> None:
    reference = np.random.default_rng(0).random((3, 70_001))
    low, high = limits(reference, np.full(reference.shape, 1e-6, np.float32), F32)
    right = reference.astype(np.float32)
    assert within(right, low, high)
    for place in (0, 32_768, 210_002):
        for bad in (np.nan, np.inf, right.reshape(-1)[place] + 2e-6):
            result = right.copy()
            result.reshape(-1)[place] = bad
            assert not within(result, low, high)
    assert not within(right.astype(np.float64), low, high)
    assert not within(right[:2], low, high)


def by_chance(n: int, u: int) -> float:
    """The probability that U of two samples of n equal values is at least u: all orders, counted."""
    ways = [1] + [0] * (n * n)
    for i in range(1, n + 1):  # the Gaussian binomial coefficient, factor by factor
        for k in range(n * n, n + i - 1, -1):
            ways[k] -= ways[k - n - i]
        for k in range(i, n * n + 1):
            ways[k] += ways[k - i]
    return sum(ways[u:]) / math.comb(2 * n, n)


@pytest.mark.parametrize(("n", "odds"), [(15, 790_000), (40, 136_000)])
def test_chance_makes_no_honest_call_look_remembered(n: int, odds: int) -> None:
    def score(u: int) -> float:
        """The score of samples with this U: one value among the others, the rest above or below all of them."""
        above, rest = divmod(u, n)
        known = [float(i) for i in range(n)]
        return _score([n + 1.0] * above + [rest - 0.5] * (above < n) + [-1.0] * (n - above - 1), known)

    least = next(u for u in range(n * n + 1) if score(u) >= _SCORE)
    assert by_chance(n, least) <= 1 / odds
    assert by_chance(n, least - 1) > 1 / odds / 2


def test_disturbed_calls_do_not_hide_what_is_remembered() -> None:
    new, known = [100.0 + i for i in range(40)], [10.0 + i / 100 for i in range(40)]
    assert _score(new, known) >= _SCORE
    assert _score(new, [1000.0] * 5 + known[5:]) >= _SCORE
    assert _score(known, known) < 1


def test_integers_and_booleans_are_compared_exactly() -> None:
    for values in (np.array([0, 255], np.uint8), np.array([True, False])):
        assert judge(values, exactly(values), values.dtype).reason is None
        assert "in 1 of 2 values" in (judge(values[[0, 0]], exactly(values), values.dtype).reason or "")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_wrong(bad: float) -> None:
    result = np.zeros(70_000, np.float32)
    result[-1] = bad
    assert judge(result, exactly(np.zeros(70_000), 1), F32).reason == "not finite in 1 of 70,000 values"


def test_dtype_and_shape_come_before_values() -> None:
    assert judge(np.zeros(3), exactly(np.zeros(3)), F32).reason == "returned float64, not float32"
    assert "shape 3, not 1×3" in (judge(np.zeros(3, F32), exactly(np.zeros((1, 3))), F32).reason or "")


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
