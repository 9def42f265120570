"""Compute ratios of the times of base and head, with intervals that keep their nominal coverage.

Everything is computed on logarithms: the error of a ratio is roughly normal, and +10 % and −9 % are equally far from no
change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, stdev, variance

from copycost.model.vocabulary import Verdict
from copycost.stats import student_t

#: Standard deviation of the logarithm of times between runs at different times, used if too few cases were measured to
#: estimate it. It was measured on one machine (docs/results/trials.md, under `compare`) and rounded up. It is assumed
#: to be as uncertain as an estimate from `BETWEEN_CASES` cases.
BETWEEN_RUNS, BETWEEN_CASES = 0.10, 8

#: Lower bound of that standard deviation, however similar two runs are. The value is a choice.
_LEAST_BETWEEN = 0.02

#: Standard deviation of the logarithm between two sides of one session where nothing changed, which the blocks do not
#: show, and its degrees of freedom. It is the most likely value for 174 cases of A/A trials that preceded those of
#: docs/results/trials.md. Without it, nine of the twelve narrowest intervals contained the truth.
WITHIN_SESSION, WITHIN_DF = 0.002, 30

#: The variance between runs is estimated from the cases that differ least. The constants are the fraction of cases
#: used, the mean of that fraction of the smallest squares of a standard normal variable, and the efficiency: the
#: degrees of freedom per case (by simulation). With few cases the mean is up to a fifth larger, which is on the safe
#: side.
_KEPT, _MEAN_SQUARE_OF_KEPT, _EFFICIENCY = 0.75, 0.3685, 0.6


@dataclass(frozen=True)
class Ratio:
    """The time of head divided by the time of base.

    Attributes
    ----------
    value : float
    low, high : float
        The 95 % interval of this ratio alone.
    sure_low, sure_high : float
        The interval that verdicts are based on. It is wide enough for all such intervals of a comparison to hold
        simultaneously.
    least : float
        Minimum detectable effect: the smallest slowdown, as a fraction, that is detected four times in five. A slowdown
        within the tolerance is nevertheless called the same.
    blocks : int
        Number of blocks of the side with fewer blocks.
    spread : float
        Standard deviation, as a fraction, of the estimate from one block.
    """

    value: float
    low: float
    high: float
    sure_low: float
    sure_high: float
    least: float
    blocks: int
    spread: float

    def verdict(self, tolerance: float) -> Verdict:
        """Return the verdict: same, slower, faster or unsure.

        The verdict is same if the interval from `sure_low` to `sure_high` is within the tolerance, a fraction. It is
        slower or faster if that interval excludes 1.
        """
        if self.sure_low >= 1 / (1 + tolerance) and self.sure_high <= 1 + tolerance:
            return Verdict.SAME
        if self.sure_low > 1:
            return Verdict.SLOWER
        return Verdict.FASTER if self.sure_high < 1 else Verdict.UNSURE


@dataclass(frozen=True)
class Difference:
    """A difference of two logarithms, before a confidence level is chosen.

    Attributes
    ----------
    value, error : float
        The difference and its standard error.
    df : float
        Degrees of freedom of the error.
    blocks : int
    spread : float
    """

    value: float
    error: float
    df: float
    blocks: int
    spread: float

    def ratio(self, false_alarms: float) -> Ratio:
        """Return the ratio with its intervals.

        `false_alarms` is the fraction of unchanged cases in which the interval from `sure_low` to `sure_high` may
        exclude 1.
        """
        pointwise = student_t.quantile(0.975, self.df) * self.error
        critical = student_t.quantile(1 - false_alarms / 2, self.df)
        simultaneous = critical * self.error
        return Ratio(
            math.exp(self.value),
            math.exp(self.value - pointwise),
            math.exp(self.value + pointwise),
            _exp(self.value - simultaneous),
            _exp(self.value + simultaneous),
            _exp(student_t.least(critical, self.df) * self.error) - 1,
            self.blocks,
            self.spread,
        )


def paired(base: Sequence[Sequence[float]], head: Sequence[Sequence[float]]) -> Difference | None:
    """Compute the difference of two sides measured in interleaved blocks.

    Sample j of block i of one side is measured next to that of the other, so that noise that affects both cancels.
    The unit is the block, since pairs within a block share their processes and buffers.

    Parameters
    ----------
    base, head : sequence of sequence of float
        Seconds per call, by block. A block with different numbers of samples on the two sides is ignored.

    Returns
    -------
    Difference or None
        None with fewer than two blocks.
    """
    blocks = [
        median(math.log(after) - math.log(before) for before, after in zip(base_block, head_block, strict=True))
        for base_block, head_block in zip(base, head, strict=False)
        if len(base_block) == len(head_block)
    ]
    n = len(blocks)
    if n < 2:
        return None
    spread = stdev(blocks)
    return _widened(Difference(fmean(blocks), spread / math.sqrt(n), n - 1, n, spread), WITHIN_SESSION**2, WITHIN_DF)


def unpaired(sides: Sequence[tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]]]) -> list[Difference | None]:
    """Compute the differences of all cases of two runs taken at different times.

    The difference between such runs without a change of code is estimated from the cases themselves. Most of them are
    assumed to be unchanged. So an effect on all cases, from the machine or the code, widens every interval.

    Parameters
    ----------
    sides : sequence of (base, head)
        Seconds per call, by block, of each case.

    Returns
    -------
    list of Difference or None
        One item per case. None where a side has fewer than two blocks.
    """
    optional = [_independent(base, head) for base, head in sides]
    differences = [difference for difference in optional if difference is not None]
    n = len(differences)
    if n < BETWEEN_CASES:
        between, df = BETWEEN_RUNS**2, float(BETWEEN_CASES)
    else:
        squares = sorted(difference.value**2 for difference in differences)[: math.ceil(_KEPT * n)]
        square = fmean(squares) / _MEAN_SQUARE_OF_KEPT
        between = max(_LEAST_BETWEEN**2, square - median(difference.error**2 for difference in differences))
        df = _EFFICIENCY * n
    return [_widened(difference, between, df) if difference is not None else None for difference in optional]


def _independent(base: Sequence[Sequence[float]], head: Sequence[Sequence[float]]) -> Difference | None:
    """Compute the difference of two independent samples of blocks, with Welch–Satterthwaite degrees of freedom."""
    logs = [[math.log(median(block)) for block in side] for side in (base, head)]
    if min(map(len, logs)) < 2:
        return None
    parts = [variance(side) / len(side) for side in logs]
    total = sum(parts)
    denominator = sum(part**2 / (len(side) - 1) for part, side in zip(parts, logs, strict=True))
    df = total**2 / denominator if denominator else float(min(map(len, logs)) - 1)
    spread = math.sqrt(fmean(variance(side) for side in logs))
    return Difference(fmean(logs[1]) - fmean(logs[0]), math.sqrt(total), df, min(map(len, logs)), spread)


def _widened(difference: Difference, between: float, df: float) -> Difference:
    """Add a variance with its degrees of freedom to the error of a difference (Satterthwaite)."""
    within = difference.error**2
    total = within + between
    total_df = total**2 / (within**2 / difference.df + between**2 / df)
    return replace(difference, error=math.sqrt(total), df=total_df)


def _exp(x: float) -> float:
    """Return exp(x) without overflow: an interval from two blocks may exceed the range of floats."""
    return math.exp(min(700.0, max(-700.0, x)))
