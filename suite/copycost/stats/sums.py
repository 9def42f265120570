"""Compute sums and differences of independent quantities with intervals.

The interval of a sum is computed from the intervals of its terms, by the distances of their ends from the estimates:
each end of the sum lies at the root of the sum of squares of these distances (MOVER, Zou and Donner 2008,
doi:10.1002/sim.3095). So the terms may have intervals of any shape and origin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from copycost.stats import student_t


@dataclass(frozen=True)
class Bounded:
    """An estimate and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def total(terms: Sequence[Bounded]) -> Bounded:
    """Return the sum of independent estimates."""
    value = sum(term.value for term in terms)
    below = math.hypot(*(term.value - term.low for term in terms))
    above = math.hypot(*(term.high - term.value for term in terms))
    return Bounded(value, value - below, value + above)


def difference(one: Bounded, other: Bounded) -> Bounded:
    """Return one estimate minus another, independent one."""
    return total([one, Bounded(-other.value, -other.high, -other.low)])


def paired(blocks: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Bounded:
    """Return the difference of two times that each block measured side by side: the first minus the second.

    The estimate is that of `of_blocks` for the blocks' differences of medians.

    Parameters
    ----------
    blocks : sequence of (sequence of float, sequence of float)
        Samples of both, by block; at least two blocks.
    """
    return of_blocks([median(first) - median(second) for first, second in blocks])


def of_blocks(values: Sequence[float]) -> Bounded:
    """Return the median of the values of several blocks, at least two, which can be negative.

    The interval is Student's t. It is widened to contain the median.
    """
    n, centre, value = len(values), fmean(values), median(values)
    half = student_t.quantile(0.975, n - 1) * stdev(values) / math.sqrt(n)
    return Bounded(value, min(value, centre - half), max(value, centre + half))
