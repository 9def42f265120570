"""How many samples, and what they say: an interval from the medians of blocks.

Two processes that run the same code differ, steadily, by more than either one's own samples do: what varies is where
memory came to lie. So the unit is the block, a fresh process with fresh buffers, and an interval is computed from the
medians of blocks and never from the samples within one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

#: Samples taken in each block, one a round.
ROUNDS = 4

#: Blocks that every case gets, whatever the budget: with fewer an interval says nothing.
FEWEST_BLOCKS = 3

#: The 0.975 quantile of Student's t by degrees of freedom, 1 to 30 (NIST/SEMATECH e-Handbook, section 1.3.6.7.2).
_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """Seconds per call: the median over blocks, and its 95 % interval (None from one block)."""

    value: float
    low: float | None
    high: float | None


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
        return Estimate(value, None, None)
    logs = [math.log(m) for m in medians]
    mean = math.fsum(logs) / n
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in logs) / (n - 1))
    t = _T975[n - 2] if n - 2 < len(_T975) else _T975[-1]
    half = t * spread / math.sqrt(n)
    return Estimate(value, min(value, math.exp(mean - half)), max(value, math.exp(mean + half)))
