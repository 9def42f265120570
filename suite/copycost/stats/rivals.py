"""Compute intervals for a variant that was chosen because it was the fastest.

The fastest of twenty variants appears faster than it is, because the variant with the luckiest blocks is chosen. An
interval for a comparison that was fixed beforehand then misses the truth too often. The intervals of this module hold
whichever variant is chosen (Bonferroni over the variants that could have been chosen).

With three blocks, a variant's own spread is so uncertain that such an interval is useless: Student's t with two degrees
of freedom, at the level for twenty variants, is 28 standard errors. So the variants that were measured together share
information about their spread. The variance of each is moved towards the usual variance among them, the more so the
more alike their variances are (Smyth 2004, doi:10.2202/1544-6115.1027).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from copycost.stats import student_t
from copycost.stats.intervals import Spread
from copycost.stats.ratios import WITHIN_DF, WITHIN_SESSION

#: Seconds per call, by block.
Samples = Sequence[Sequence[float]]

#: Minimum number of variants to share spreads. With fewer, each variant uses its own spread (by simulation).
FEWEST = 8

#: Fraction by which two times may differ and yet count as the same.
SAME = 0.05

#: Maximum number of degrees of freedom of the usual variance.
_MOST_DF = 10_000.0


def is_same(low: float, high: float) -> bool:
    """Return whether an interval of a ratio lies so close to 1 that the two times count as the same."""
    return low >= 1 / (1 + SAME) and high <= 1 + SAME


@dataclass(frozen=True)
class Part:
    """One component of the error of a logarithm.

    Attributes
    ----------
    error : float
        Standard error.
    df : float
        Degrees of freedom of the standard error.
    choices : int
        Number of variants that the variant with this error was chosen from; 1 if it was fixed beforehand.
    """

    error: float
    df: float
    choices: int = 1


@dataclass(frozen=True)
class Estimate:
    """A time, or a ratio of two times, with the components of the error of its logarithm.

    Attributes
    ----------
    log : float
    parts : tuple of Part
    """

    log: float
    parts: tuple[Part, ...]

    @property
    def value(self) -> float:
        """Estimated seconds or ratio."""
        return _exp(self.log)

    def interval(self, miss: float) -> tuple[float, float]:
        """Return the ends of the interval that misses the truth with probability `miss` at most.

        The half-widths of the parts, each at its own level, are combined as the root of the sum of their squares (Zou
        and Donner 2008, doi:10.1002/sim.3095).
        """
        squares = [(student_t.quantile(1 - miss / 2 / part.choices, part.df) * part.error) ** 2 for part in self.parts]
        half = math.sqrt(sum(squares))
        return _exp(self.log - half), _exp(self.log + half)


@dataclass(frozen=True)
class Rivals:
    """Variants that were measured interleaved, from which one is chosen for its time.

    Attributes
    ----------
    samples : tuple of Samples
        Samples of each variant.
    own : tuple of float
        Variance of the logarithm of a block's median, for each variant, without the effect common to all variants of
        the block.
    usual : tuple of float
        The same variances, moved towards the usual variance among the variants.
    df : tuple of float
        Degrees of freedom of `usual`. Those of `own` are the number of blocks minus one.
    common : float
        Variance of the effect common to all variants of a block.
    choices : int
        Number of variants that one is chosen from, besides the variant that it is compared with; at least 1.
    """

    samples: tuple[Samples, ...]
    own: tuple[float, ...]
    usual: tuple[float, ...]
    df: tuple[float, ...]
    common: float
    choices: int

    def time(self, choice: int) -> Estimate | None:
        """Return the seconds per call of the chosen variant, or None with fewer than two blocks.

        Parameters
        ----------
        choice : int
            Index of the variant in `samples`.
        """
        logs = _logs(self.samples[choice])
        n = len(logs)
        if n < 2:
            return None
        if not self.usual:
            return Estimate(fmean(logs), (Part(math.sqrt(_variance(logs) / n), n - 1, self.choices),))
        fewest = min(map(len, self.samples))
        common = Part(math.sqrt(self.common / n), fewest - 1)
        return Estimate(fmean(logs), (common, self._part(choice, n)))

    def ratio(self, choice: int, other: int, *, other_is_choice: bool = False) -> Estimate | None:
        """Return the speedup of the chosen variant: the time of the other divided by its time.

        Parameters
        ----------
        choice, other : int
            Indices of the variants in `samples`.
        other_is_choice : bool
            Whether the other variant was also chosen for its time.

        Returns
        -------
        Estimate or None
            None if the variants have fewer than two blocks in common.
        """
        # Blocks that were taken together have as many samples of one as of the other.
        blocks = zip(self.samples[other], self.samples[choice], strict=False)
        pairs = [(other_block, block) for other_block, block in blocks if len(other_block) == len(block)]
        n = len(pairs)
        if n < 2:
            return None
        logs = [median(math.log(a) - math.log(b) for a, b in zip(*pair, strict=True)) for pair in pairs]
        floor = Part(WITHIN_SESSION, WITHIN_DF)
        if not self.usual:
            choices = self.choices**2 if other_is_choice else self.choices
            return Estimate(fmean(logs), (Part(math.sqrt(_variance(logs) / n), n - 1, choices), floor))
        if other_is_choice:
            other_part = self._part(other, n)
        else:  # a baseline may be unlike the others: it is not taken to be steadier than it was
            other_part = Part(math.sqrt(max(self.own[other], self.usual[other]) / n), self.df[other])
        return Estimate(fmean(logs), (other_part, self._part(choice, n), floor))

    def spreads(self, common: Sequence[tuple[float, float]]) -> list[Spread] | None:
        """Return the spread of each variant, or None if the variants share none.

        Parameters
        ----------
        common : sequence of (float, float)
            Variance of the effect common to all cases of a block, and its degrees of freedom, of each group that was
            measured in the same session: they are averaged.
        """
        if not self.usual:
            return None
        common_df = sum(df for _, df in common)
        square = sum(square * df for square, df in common) / common_df
        return [Spread(own, df, square, common_df) for own, df in zip(self.usual, self.df, strict=True)]

    def common_part(self) -> tuple[float, float] | None:
        """Return the variance of the effect common to all variants and its degrees of freedom, or None if unknown."""
        return (self.common, min(map(len, self.samples)) - 1) if self.usual else None

    def _part(self, choice: int, blocks: int) -> Part:
        return Part(math.sqrt(self.usual[choice] / blocks), self.df[choice], self.choices)


def rivals(samples: Sequence[Samples], choices: int) -> Rivals:
    """Estimate the spreads of variants from interleaved blocks.

    Parameters
    ----------
    samples : sequence of Samples
        Samples of each variant, in the order of its blocks. The first blocks of all variants were taken at the same
        time.
    choices : int
        Number of variants that one is chosen from, besides the variant that it is compared with.
    """
    samples, choices = tuple(samples), max(1, choices)
    logs = [_logs(blocks) for blocks in samples]
    fewest = min(map(len, logs), default=0)
    if len(samples) < FEWEST or fewest < 2:
        return Rivals(samples, (), (), (), 0.0, choices)
    centres = [fmean(values[:fewest]) for values in logs]
    common = [median(values[k] - centre for values, centre in zip(logs, centres, strict=True)) for k in range(fewest)]
    # The common effect is estimated from the variants themselves, which removes a part of their own variance.
    correction = len(samples) / (len(samples) - 1)
    own = []
    for values in logs:
        # Blocks beyond those that all variants have were taken at different times, without a common effect to subtract.
        residuals = [value - (common[k] if k < fewest else 0.0) for k, value in enumerate(values)]
        own.append(max(correction * _variance(residuals), WITHIN_SESSION**2))
    df = [len(values) - 1 for values in logs]
    usual, usual_df = _usual(own, df)
    shrunk = [(usual_df * usual + variance * n) / (usual_df + n) for variance, n in zip(own, df, strict=True)]
    return Rivals(samples, tuple(own), tuple(shrunk), tuple(usual_df + n for n in df), _variance(common), choices)


def _usual(variances: Sequence[float], df: Sequence[float]) -> tuple[float, float]:
    """Return the usual variance and its degrees of freedom, which are many if the variances are alike.

    This is Smyth's estimate from the moments of the logarithms of the variances.
    """
    logs = [math.log(variance) - _digamma(n / 2) + math.log(n / 2) for variance, n in zip(variances, df, strict=True)]
    excess = _variance(logs) - fmean(_trigamma(n / 2) for n in df)
    usual_df = min(_MOST_DF, 2 * _inverse_trigamma(excess)) if excess > 0 else _MOST_DF
    return math.exp(fmean(logs) + _digamma(usual_df / 2) - math.log(usual_df / 2)), usual_df


def _logs(samples: Samples) -> list[float]:
    return [math.log(median(block)) for block in samples]


def _variance(values: Sequence[float]) -> float:
    """Return the sample variance, thirty times as fast as the exact `statistics.variance`."""
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _digamma(x: float) -> float:
    """Compute the digamma function from its recurrence and its asymptotic series (A&S 6.3.5, 6.3.18)."""
    total = 0.0
    while x < 8:
        total -= 1 / x
        x += 1
    square = 1 / (x * x)
    return total + math.log(x) - 1 / (2 * x) - square * (1 / 12 - square * (1 / 120 - square / 252))


def _trigamma(x: float) -> float:
    """Compute the trigamma function from its recurrence and its asymptotic series (A&S 6.4.6, 6.4.12)."""
    total = 0.0
    while x < 8:
        total += 1 / (x * x)
        x += 1
    square = 1 / (x * x)
    return total + 1 / x + square / 2 + square / x * (1 / 6 - square * (1 / 30 - square / 42))


def _inverse_trigamma(y: float) -> float:
    """Return the x > 0 whose trigamma function is `y`, by bisection of the logarithm of x."""
    low, high = math.log(1e-4), math.log(_MOST_DF)
    for _ in range(60):
        middle = (low + high) / 2
        if _trigamma(math.exp(middle)) > y:
            low = middle
        else:
            high = middle
    return math.exp(low)


def _exp(x: float) -> float:
    """Return exp(x) without overflow: an interval from two blocks may exceed the range of floats."""
    return math.exp(min(700.0, max(-700.0, x)))
