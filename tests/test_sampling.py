"""Intervals: they cover what they promise where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from suite.engine.sampling import _T975, estimate


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


def test_the_quantiles_of_t_by_integrating_its_density() -> None:
    for df in (1, 2, 4, 10, 30):
        upper = _T975[df - 1]
        x = np.linspace(0, upper, 200_001)
        density = (
            math.gamma((df + 1) / 2) / math.sqrt(df * math.pi) / math.gamma(df / 2) * (1 + x**2 / df) ** (-(df + 1) / 2)
        )
        assert 0.5 + np.trapezoid(density, x) == pytest.approx(0.975, abs=2e-5)


def test_the_median_lies_within_its_interval_even_from_skewed_blocks() -> None:
    found = estimate([[1.0]] * 15 + [[1.3]] * 5)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value == 1.0 <= found.high


def test_one_block_has_no_interval() -> None:
    found = estimate([[1.0, 2.0, 3.0]])
    assert (found.value, found.low, found.high) == (2.0, None, None)


def test_an_outlier_within_a_block_moves_nothing() -> None:
    assert estimate([[1.0, 1.0, 50.0], [1.0, 1.0, 1.0]]).value == 1.0
