"""Compute intervals from the medians of blocks, and define the numbers of samples.

Two processes that run the same code differ, consistently, by more than the samples within each, because their memory
lies at different addresses. So the unit is the block: a fresh process with fresh buffers. Intervals are computed from
the medians of blocks, never from the samples within a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, variance

from copycost.stats import student_t

#: Samples taken in each block, one per round: in all blocks, and at most, while they take less time than the block's
#: start did.
ROUNDS, MOST_ROUNDS = 4, 10

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


@dataclass(frozen=True)
class Spread:
    """Variances of the logarithm of a block's median, from all cases that were measured together.

    Attributes
    ----------
    own, own_df : float
        Variance of the case itself and its degrees of freedom.
    common, common_df : float
        Variance of the effect that all cases of a block have in common, and its degrees of freedom.
    """

    own: float
    own_df: float
    common: float
    common_df: float


def estimate(blocks: Sequence[Sequence[float]], spread: Spread | None = None) -> Estimate:
    """Estimate seconds per call from the samples of each block.

    The interval is Student's t on the logarithms of the block medians, since the error of a ratio is roughly normal.
    With few blocks, t keeps its nominal coverage, unlike a percentile bootstrap. The interval is widened to contain the
    median if, with skewed blocks, it would not.

    Parameters
    ----------
    blocks : sequence of sequence of float
        Seconds per call of each sample, by block.
    spread : Spread, optional
        Variances from all cases that were measured together, instead of the variance of these blocks: three blocks say
        little about it. The half-widths of the two parts, each by its own t, are combined as the root of the sum of
        their squares (Zou and Donner 2008, doi:10.1002/sim.3095).
    """
    medians = [median(samples) for samples in blocks]
    value = median(medians)
    n = len(medians)
    if n < 2:
        return Estimate(value, None, None, None)
    logs = [math.log(m) for m in medians]
    mean = fmean(logs)
    if spread is None:
        parts = [(variance(logs) / n, float(n - 1))]
    else:
        parts = [(spread.own / n, spread.own_df), (spread.common / n, spread.common_df)]
    half = math.sqrt(sum(student_t.quantile(0.975, df) ** 2 * square for square, df in parts))
    error = math.sqrt(sum(square for square, _ in parts))
    denominator = sum(square**2 / df for square, df in parts)
    # The minimum detectable difference of two such means, with the degrees of freedom of both (Satterthwaite).
    both_df = 2 * error**4 / denominator if denominator else 2.0 * (n - 1)
    least = student_t.least(student_t.quantile(0.975, both_df), both_df) * math.sqrt(2) * error
    return Estimate(
        value, min(value, math.exp(mean - half)), max(value, math.exp(mean + half)), math.exp(min(least, 700.0)) - 1
    )
