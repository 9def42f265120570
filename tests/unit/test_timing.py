"""A sample: the calls before it, and those that are timed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from copycost.catalog import discovery
from copycost.engine.passes import timing
from copycost.engine.prepared_call import PreparedCall


def prepared(call: Callable[[np.ndarray], np.ndarray], leaked_bytes: int = 0) -> PreparedCall:
    inputs = [(np.full((2, 3), value),) for value in (1.0, 2.0, 3.0)]
    subject = PreparedCall(discovery.runtime("numpy"), lambda example: call, "new", "cpu", inputs, None, None)
    timing.make_inputs(subject, False, leaked_bytes)
    return subject


@pytest.mark.parametrize(("n", "leaked_bytes", "calls"), [(1, 0, 13), (5, 0, 17), (5, 10**9, 5)])
def test_calls_that_are_not_timed_come_before_a_sample_unless_they_leak(n: int, leaked_bytes: int, calls: int) -> None:
    """Twelve of them: four for each input."""
    seen: list[float] = []

    def call(x: np.ndarray) -> np.ndarray:
        seen.append(float(x[0, 0]))
        return x + 1

    sample = timing.sample(prepared(call, leaked_bytes), n)
    assert (len(seen), sample.calls) == (calls, n)


def test_long_calls_are_not_repeated_for_long() -> None:
    """A call of 15 ms is made twice before the timed one."""
    seen = []

    def call(x: np.ndarray) -> np.ndarray:
        seen.append(1)
        timing.sleep(0.015)
        return x + 1

    sample = timing.sample(prepared(call), 1)
    assert 2 <= len(seen) <= 3
    assert sample.seconds > 0.0149
