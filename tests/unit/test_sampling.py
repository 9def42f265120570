"""Intervals: they cover what they promise where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from copycost.stats.intervals import CLEAR_BLOCKS, PRECISION, estimate
from copycost.stats.rivals import rivals


@pytest.mark.parametrize("blocks", [3, 5, 7, 12])
def test_the_interval_covers_the_truth_where_blocks_differ(blocks: int) -> None:
    """Blocks that differ by 5 %, samples within one by 1 %: 95 % of intervals hold the truth."""
    random = np.random.default_rng(blocks)
    trials = 4000
    held = 0
    for _ in range(trials):
        places = np.exp(random.normal(0, 0.05, blocks))
        found = estimate([list(place * np.exp(random.normal(0, 0.01, 5))) for place in places])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.0 <= found.high
    # Three standard errors of a share of 4000.
    assert abs(held / trials - 0.95) < 3 * math.sqrt(0.95 * 0.05 / trials) + 0.002


@pytest.mark.parametrize("common", [0.0, 0.03, 0.1])
def test_intervals_of_cases_measured_together_cover_the_truth(common: float) -> None:
    """Six groups of sixteen cases, whose own spreads differ by three, in three blocks that also differ for all cases.

    The interval from a case's own three blocks covers as much, but it is wider.
    """
    random = np.random.default_rng(round(100 * common))
    held, widths, own_widths = [], [], []
    for _ in range(60):
        parts: list[tuple[float, float]] = []
        for _ in range(6):
            own = np.exp(random.uniform(math.log(0.03), math.log(0.09), 16))
            blocks = np.exp(random.normal(0, own[:, None], (16, 3)) + random.normal(0, common, 3))
            samples = [[[seconds] for seconds in of_case] for of_case in blocks.tolist()]
            together = rivals(samples, 1)
            part = together.common_part()
            assert part is not None
            parts.append(part)
            spreads = together.spreads(parts)
            assert spreads is not None
            for of_case, spread in zip(samples, spreads, strict=True):
                found = estimate(of_case, spread)
                assert found.low is not None
                assert found.high is not None
                held.append(found.low <= 1.0 <= found.high)
                widths.append(found.width)
                own_widths.append(estimate(of_case).width)
    # The common effect is the same for the sixteen cases of a group, so that there are 360 independent trials.
    assert 0.93 < np.mean(held) < 0.985
    assert np.median(widths) < 0.75 * np.median(own_widths)


def test_few_cases_keep_their_own_spreads() -> None:
    few = rivals([[[1.0], [1.1], [1.2]]] * 3, 1)
    assert few.common_part() is None
    assert few.spreads([]) is None


def test_the_least_change_is_seen_four_times_in_five() -> None:
    """By an ordinary test of two runs of five blocks each, 5 % apart from block to block."""
    random = np.random.default_rng(0)
    # What is stated is a multiple of the error that was seen, whose square is right on average.
    stated = [np.log1p(estimate(list(np.exp(random.normal(0, 0.05, (5, 1))))).least) for _ in range(1000)]
    least = np.expm1(np.sqrt(np.mean(np.square(stated))))
    seen = 0
    for _ in range(2000):
        one, other = random.normal(0, 0.05, 5), random.normal(math.log(1 + least), 0.05, 5)
        error = math.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 5)
        seen += other.mean() - one.mean() > 2.306 * error  # t, 0.975, 8 degrees of freedom
    assert 0.72 < seen / 2000 < 0.88


def test_the_median_lies_within_its_interval_even_from_skewed_blocks() -> None:
    found = estimate([[1.0]] * 15 + [[1.3]] * 5)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value == 1.0 <= found.high


def test_one_block_has_no_interval() -> None:
    found = estimate([[1.0, 2.0, 3.0]])
    assert (found.value, found.low, found.high, found.least) == (2.0, None, None, None)


def test_an_outlier_within_a_block_moves_nothing() -> None:
    assert estimate([[1.0, 1.0, 50.0], [1.0, 1.0, 1.0]]).value == 1.0


@pytest.mark.parametrize("spread", [0.015, 0.06])
def test_to_stop_where_it_is_narrow_costs_an_interval_little(spread: float) -> None:
    """With the rule of a run: from five blocks, to fifteen."""
    random = np.random.default_rng(9)
    held = 0
    for _ in range(1500):
        blocks = np.exp(random.normal(0, spread, (15, 1))).tolist()
        n = next((n for n in range(CLEAR_BLOCKS, 15) if estimate(blocks[:n]).width <= PRECISION), 15)
        found = estimate(blocks[:n])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.0 <= found.high
    assert 0.91 < held / 1500 < 0.97
