"""References that are themselves implementations: their arrays come as they are, and their dtypes are required."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from copycost import registry
from copycost.engine.references import ExpectedResults, refer_as_given
from copycost.model.naming import RegistrationError

IMAGE = np.random.default_rng(0).uniform(0, 255, (2, 40, 30, 3)).astype(np.float32)
BYTES = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), np.uint8)


def refused(function: Callable[..., np.ndarray], array: np.ndarray, result: np.ndarray, error: float = 0) -> str | None:
    """Return why a result is not that of an implementation, or None."""
    references = refer_as_given(function, [array], error)
    return ExpectedResults([references], np.dtype("float32")).refuse(0, [result])


def by_float64(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.float64) / 127.5 - 1).astype(np.float32)


def test_other_forms_of_a_formula_are_right_and_an_error_of_a_millionth_is_not() -> None:
    def scale(x: np.ndarray) -> np.ndarray:
        return x / np.float32(127.5) - np.float32(1)

    assert refused(scale, IMAGE, by_float64(IMAGE)) is None
    assert refused(scale, IMAGE, IMAGE * np.float32(1 / 127.5) - np.float32(1)) is None
    wrong = IMAGE / np.float32(127.5 * (1 + 1e-6)) - np.float32(1)
    assert "off by up to" in (refused(scale, IMAGE, wrong) or "")
    assert "returned float64, not float32" in (refused(scale, IMAGE, scale(IMAGE).astype(np.float64)) or "")


def test_integers_are_computed_as_they_are() -> None:
    """In float64 nothing overflows, so that the analysis cannot show what is right."""

    def brighter(x: np.ndarray) -> np.ndarray:
        return x + np.uint8(100)

    assert refused(brighter, BYTES, (BYTES.astype(np.int64) + 100).astype(np.uint8)) is None
    assert refused(brighter, BYTES, np.minimum(BYTES.astype(int) + 100, 255).astype(np.uint8)) is not None
    off = brighter(BYTES)
    off[0, 0, 0] ^= 1
    assert "in 3 of 7,200 values" in (refused(brighter, BYTES, off) or "")
    assert refused(brighter, BYTES, off, 1) is None


def test_an_implementation_that_needs_its_own_dtype_allows_some_roundings() -> None:
    def scale(x: np.ndarray) -> np.ndarray:
        if x.dtype != np.float32:
            raise TypeError("float32 only")
        return x / np.float32(127.5) - np.float32(1)

    assert refused(scale, IMAGE, by_float64(IMAGE)) is None
    assert refused(scale, IMAGE, by_float64(IMAGE) * np.float32(1 + 3e-6)) is not None


def test_values_that_are_not_finite_are_no_reference() -> None:
    with pytest.raises(ValueError, match="not finite"):
        refer_as_given(lambda x: np.log(x - x), [IMAGE])
    with pytest.raises(ValueError, match="not real numbers"):
        refer_as_given(lambda x: x + 1j, [IMAGE])


def test_arrays_of_several_dtypes_are_required_each() -> None:
    references = refer_as_given(lambda x: (x * 2, x.astype(np.float64), x > 100), [IMAGE])
    expected = ExpectedResults([references], np.dtype("float32"), True)
    right = [IMAGE * 2, IMAGE.astype(np.float64), IMAGE > 100]
    assert expected.refuse(0, right) is None
    assert "float32, not float64" in (expected.refuse(0, [right[0], IMAGE, right[2]]) or "")
    assert "array 2 of the result" in (expected.refuse(0, [right[0], right[1], right[2].astype(np.uint8)]) or "")


def test_only_a_recipe_that_makes_its_inputs_receives_them_as_they_are() -> None:
    with pytest.raises(RegistrationError, match="as_given needs inputs"):
        registry.recipe("given", as_given=True)


def test_a_sum_may_be_taken_in_any_order() -> None:
    """Sums of 800 terms in another order are off by more than moving each term by one rounding shows."""
    random = np.random.default_rng(0)
    for _ in range(40):
        x = random.normal(size=(800, 800))
        assert refused(np.trace, x, np.asarray(np.einsum("ii", x))) is None
        assert refused(np.trace, x, np.asarray(np.trace(x) * (1 + 1e-10))) is not None
