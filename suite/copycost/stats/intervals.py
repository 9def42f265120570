"""Compute intervals from the medians of blocks, and define the numbers of samples.

Two processes that run the same code differ, consistently, by more than the samples within each, because their memory
lies at different addresses. So the unit is the block: a fresh process with fresh buffers. Intervals are computed from
the medians of blocks, never from the samples within a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from copycost.stats import student_t

#: Samples taken in each block, one per round: in all blocks, and at most, while they take less time than the block's
#: start did.
ROUNDS, MOST_ROUNDS = 4, 8

#: Minimum number of blocks of every case, whatever the budget. With fewer, an interval is meaningless.
FEWEST_BLOCKS = 3

#: Distance of the interval's farther end from the median, as a fraction, at which it is narrow enough, and minimum
#: number of blocks for that. With fewer blocks an interval is often narrow by chance.
PRECISION, CLEAR_BLOCKS = 0.03, 5


@dataclass(frozen=True)
class Estimate:
    """Seconds per call: the median over blocks, and its 95 % interval.

    ``least`` is the minimum detectable effect: the smallest slowdown, as a fraction, that another run would show four
    times in five. This assumes as many blocks and a machine in the same condition. With one block, interval and
    ``least`` are None.
    """

    value: float
    low: float | None
    high: float | None
    least: float | None

    @property
    def width(self) -> float:
        """Distance of the farther end of the interval from the median, as a fraction; infinity with one block."""
        if self.low is None or self.high is None:
            return math.inf
        return max(self.high / self.value, self.value / self.low) - 1


def estimate(blocks: Sequence[Sequence[float]]) -> Estimate:
    """Estimate seconds per call from the samples of each block, in seconds.

    The interval is Student's t on the logarithms of the block medians, since the error of a ratio is roughly normal.
    With few blocks, t keeps its nominal coverage, unlike a percentile bootstrap. The interval is widened to contain the
    median if, with skewed blocks, it would not.
    """
    medians = [median(samples) for samples in blocks]
    value = median(medians)
    n = len(medians)
    if n < 2:
        return Estimate(value, None, None, None)
    logs = [math.log(m) for m in medians]
    mean = fmean(logs)
    error = stdev(logs) / math.sqrt(n)
    half = student_t.quantile(0.975, n - 1) * error
    # The minimum detectable difference of two such means, with the degrees of freedom of both.
    least = student_t.least(student_t.quantile(0.975, 2 * n - 2), 2 * n - 2) * math.sqrt(2) * error
    return Estimate(
        value, min(value, math.exp(mean - half)), max(value, math.exp(mean + half)), math.exp(min(least, 700.0)) - 1
    )
