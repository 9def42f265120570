"""How many samples, and what they say: an interval from the medians of blocks.

Two processes that run the same code differ, steadily, by more than either one's own samples do: what varies is where
memory came to lie. So the unit is the block, a fresh process with fresh buffers, and an interval is computed from the
medians of blocks and never from the samples within one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from copycost.stats import student_t

#: Samples taken in each block, one a round.
ROUNDS = 4

#: Blocks that every case gets, whatever the budget: with fewer an interval says nothing.
FEWEST_BLOCKS = 3

#: An interval that reaches so far from its median, as a fraction, is narrow enough, if it is from so many blocks: with
#: fewer it is often narrow by chance.
PRECISION, CLEAR_BLOCKS = 0.01, 5


@dataclass(frozen=True)
class Estimate:
    """Seconds per call: the median over blocks, and its 95 % interval.

    ``least`` is the smallest slowdown, as a fraction, that another run of as many blocks would show four times in five
    if the machine were then as it is now. From one block there is neither interval nor least.
    """

    value: float
    low: float | None
    high: float | None
    least: float | None

    @property
    def width(self) -> float:
        """How far the interval reaches from the median, as a fraction; infinity from one block."""
        if self.low is None or self.high is None:
            return math.inf
        return max(self.high / self.value, self.value / self.low) - 1


def estimate(blocks: Sequence[Sequence[float]]) -> Estimate:
    """Estimate seconds per call from the samples of each block, in seconds.

    The interval is Student's t on the logarithms of the block medians: a ratio's error is what is roughly normal, and
    from few blocks t covers what it promises where a percentile bootstrap does not. It is widened to hold the
    median where, from skewed blocks, it would not.
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
    # Of the difference of two such means, with the degrees of freedom of both.
    both = student_t.least(student_t.quantile(0.975, 2 * n - 2), 2 * n - 2) * math.sqrt(2) * error
    return Estimate(
        value, min(value, math.exp(mean - half)), max(value, math.exp(mean + half)), math.exp(min(both, 700.0)) - 1
    )
