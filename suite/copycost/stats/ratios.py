"""Time on one side over time on the other, with an interval that holds.

Everything is computed on logarithms: a ratio's error is what is roughly normal, and +10 % and −9 % are equally far from
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev, variance

from copycost.stats import student_t

#: What a run's times differ by from those of a run at another time, the standard deviation of the logarithm, where too
#: few cases were measured to tell: what was measured on one machine (docs/results/trials.md, the last line), rounded up. It is
#: taken to be as uncertain as from so many cases.
BETWEEN_RUNS, _ITS_CASES = 0.10, 8

#: The least it is taken to be, however alike two runs look: a choice.
_LEAST_BETWEEN = 0.02

#: What two sides of one session differ by where nothing changed and no block shows it, the standard deviation of the
#: logarithm, and the degrees of freedom that it is known with: the most likely value for 174 cases of A/A trials that
#: were done before those of docs/results/trials.md. Without it the twelve narrowest intervals held nine times.
WITHIN_SESSION, ITS_DF = 0.002, 30

#: How far runs lie apart is learned from the cases that differ least: so large a part of them. Of squares of a standard
#: normal variable the mean of the smaller ones is so much, and a variance from it is worth one from so many times all
#: of them (by simulation; from few cases the mean is up to a fifth larger, on the safe side).
_KEPT, _MEAN_SQUARE_OF_KEPT, _EFFICIENCY = 0.75, 0.3685, 0.6


@dataclass(frozen=True)
class Ratio:
    """Time of head over time of base.

    Attributes
    ----------
    value : float
    low, high : float
        The 95 % interval of this one ratio.
    sure_low, sure_high : float
        The interval that verdicts are made with: so wide that all those of a comparison hold at once.
    least : float
        The smallest slowdown, as a fraction, that would have been seen four times in five; one within the tolerance
        is called the same for all that.
    blocks : int
        Of the side that has fewer.
    spread : float
        Standard deviation, as a fraction, of what one block gives.
    """

    value: float
    low: float
    high: float
    sure_low: float
    sure_high: float
    least: float
    blocks: int
    spread: float

    def verdict(self, tolerance: float) -> str:
        """``same``: surely within the tolerance, a fraction; ``slower`` or ``faster``: surely so; else ``unsure``."""
        if self.sure_low >= 1 / (1 + tolerance) and self.sure_high <= 1 + tolerance:
            return "same"
        if self.sure_low > 1:
            return "slower"
        return "faster" if self.sure_high < 1 else "unsure"


@dataclass(frozen=True)
class Difference:
    """The difference of two logarithms, before it is known with how much confidence it has to hold.

    Attributes
    ----------
    value, error : float
        And its standard error.
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
        """The ratio; `false_alarms` is how often, as a fraction, the sure interval may miss where nothing changed."""
        pointwise = student_t.quantile(0.975, self.df) * self.error
        critical = student_t.quantile(1 - false_alarms / 2, self.df)
        sure = critical * self.error
        return Ratio(
            math.exp(self.value),
            math.exp(self.value - pointwise),
            math.exp(self.value + pointwise),
            _exp(self.value - sure),
            _exp(self.value + sure),
            _exp(student_t.least(critical, self.df) * self.error) - 1,
            self.blocks,
            self.spread,
        )


def paired(base: Sequence[Sequence[float]], head: Sequence[Sequence[float]]) -> Difference | None:
    """From blocks that were measured side by side: sample j of block i of one side next to that of the other.

    What a noisy minute does to both cancels. The unit is the block: pairs within it share their processes and buffers.

    Parameters
    ----------
    base, head : sequence of sequence of float
        Seconds per call, by block. A block that has more samples on one side than on the other is left out.

    Returns
    -------
    Difference or None
        None from fewer than two blocks.
    """
    blocks = [
        median(math.log(after) - math.log(before) for before, after in zip(one, other, strict=True))
        for one, other in zip(base, head, strict=False)
        if len(one) == len(other)
    ]
    n = len(blocks)
    if n < 2:
        return None
    spread = stdev(blocks)
    return _widened(Difference(fmean(blocks), spread / math.sqrt(n), n - 1, n, spread), WITHIN_SESSION**2, ITS_DF)


def unpaired(sides: Sequence[tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]]]) -> list[Difference | None]:
    """From runs that were taken at different times, all cases of them together.

    How far such runs lie apart where nothing changed is learned from the cases themselves: most of them are taken to
    be unchanged, so that what moves them all, the machine or the code, makes every interval wider.

    Parameters
    ----------
    sides : sequence of (base, head)
        Seconds per call, by block, of each case.

    Returns
    -------
    list of Difference or None
        For each case; None where a side has fewer than two blocks.
    """
    found = [_apart(base, head) for base, head in sides]
    known = [one for one in found if one is not None]
    if len(known) < _ITS_CASES:
        between, df = BETWEEN_RUNS**2, float(_ITS_CASES)
    else:
        squares = sorted(one.value**2 for one in known)[: math.ceil(_KEPT * len(known))]
        square = fmean(squares) / _MEAN_SQUARE_OF_KEPT
        between = max(_LEAST_BETWEEN**2, square - median(one.error**2 for one in known))
        df = _EFFICIENCY * len(known)
    return [_widened(one, between, df) if one is not None else None for one in found]


def _apart(base: Sequence[Sequence[float]], head: Sequence[Sequence[float]]) -> Difference | None:
    """The difference of two independent samples of blocks, with the degrees of freedom of Welch and Satterthwaite."""
    logs = [[math.log(median(block)) for block in side] for side in (base, head)]
    if min(map(len, logs)) < 2:
        return None
    parts = [variance(side) / len(side) for side in logs]
    error = sum(parts)
    below = sum(part**2 / (len(side) - 1) for part, side in zip(parts, logs, strict=True))
    df = error**2 / below if below else float(min(map(len, logs)) - 1)
    spread = math.sqrt(fmean(variance(side) for side in logs))
    return Difference(fmean(logs[1]) - fmean(logs[0]), math.sqrt(error), df, min(map(len, logs)), spread)


def _widened(one: Difference, between: float, df: float) -> Difference:
    """The difference, its error joined by another: a variance, with its degrees of freedom (Satterthwaite)."""
    within = one.error**2
    total = within + between
    joined = total**2 / (within**2 / one.df + between**2 / df)
    return Difference(one.value, math.sqrt(total), joined, one.blocks, one.spread)


def _exp(x: float) -> float:
    """exp(x); from two blocks an interval may be wider than floats are."""
    return math.exp(min(700.0, max(-700.0, x)))
