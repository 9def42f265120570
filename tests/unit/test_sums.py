"""Sums and differences with intervals: they hold the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from copycost.stats.intervals import estimate
from copycost.stats.sums import Bounded, difference, paired, total


def test_a_sum_of_symmetric_intervals_is_that_of_normal_errors() -> None:
    both = total([Bounded(3.0, 2.7, 3.3), Bounded(1.0, 0.6, 1.4)])
    assert (both.value, both.low, both.high) == pytest.approx((4.0, 3.5, 4.5))


def test_a_difference_swaps_the_ends_of_what_is_taken_away() -> None:
    both = difference(Bounded(3.0, 2.7, 3.9), Bounded(1.0, 0.6, 1.0))
    assert (both.value, both.low, both.high) == pytest.approx((2.0, 1.7, 2 + math.hypot(0.9, 0.4)))


@pytest.mark.parametrize("sizes", [(1.0, 1.0), (1.0, 0.1), (1.0, 10.0)])
def test_a_sum_of_times_holds_the_truth_in_95_of_100(sizes: tuple[float, float]) -> None:
    """Five blocks of each, whose errors are log-normal, as those of times are."""
    random = np.random.default_rng(1)
    truth, held, above = sum(sizes), 0, 0
    for _ in range(2000):
        terms = []
        for size in sizes:
            seen = estimate([[size * math.exp(random.normal(0, 0.1))] for _ in range(5)])
            assert seen.low is not None
            assert seen.high is not None
            terms.append(Bounded(seen.value, seen.low, seen.high))
        whole = total(terms)
        held += whole.low <= truth <= whole.high
        above += difference(terms[0], Bounded(sizes[0], sizes[0], sizes[0])).low > 0
    assert held >= 0.94 * 2000
    assert above <= 0.035 * 2000  # the interval misses on either side


def test_a_paired_difference_holds_the_truth_where_blocks_differ_by_more_than_it_is() -> None:
    random = np.random.default_rng(2)
    held = 0
    for _ in range(2000):
        blocks = []
        for _ in range(5):
            block = math.exp(random.normal(0, 0.3))  # what both have in common
            first, second = (block + more + random.normal(0, 0.02, 5) for more in (0.1, 0.0))
            blocks.append((first.tolist(), second.tolist()))
        found = paired(blocks)
        held += found.low <= 0.1 <= found.high
        assert found.high - found.low < 0.3
    assert held >= 0.94 * 2000
