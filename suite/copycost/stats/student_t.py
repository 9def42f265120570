"""Compute the quantiles of Student's t distribution for intervals and verdicts."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

_Z80 = NormalDist().inv_cdf(0.8)


@cache
def quantile(p: float, df: float) -> float:
    """Return the `p` quantile of Student's t distribution, accurate to nine digits.

    Parameters
    ----------
    p : float
        0.5 < p < 1.
    df : float
        Degrees of freedom, greater than 0 and not necessarily whole.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    if not (0.5 < p < 1 and df > 0):
        raise ValueError(f"no quantile {p} for {df} degrees of freedom: expected 0.5 < p < 1 and df > 0")
    t = NormalDist().inv_cdf(p)
    for _ in range(100):
        # Newton's method on logarithms, where the tail is nearly linear.
        probability = tail(t, df)
        step = math.log(probability / (1 - p)) * probability / (t * _density(t, df))
        t *= math.exp(step)
        if abs(step) < 1e-12:
            break
    return t


def least(critical: float, df: float) -> float:
    """Return the minimum detectable effect of a test, found four times in five, in standard errors of the estimate.

    The noncentral t is approximated as (Z + effect) / S. S, the ratio of the estimated error to the true one, is
    roughly normal with mean 1 − 1/(4 df) and variance 1/(2 df) (Johnson, Kotz, Balakrishnan, Continuous Univariate
    Distributions 2, 31.6).

    Parameters
    ----------
    critical : float
        Critical value of the estimate divided by its standard error.
    df : float
    """
    return critical * (1 - 1 / (4 * df)) + _Z80 * math.sqrt(1 + critical**2 / (2 * df))


def tail(t: float, df: float) -> float:
    """Return P(T > t) for t ≥ 0 and `df` degrees of freedom.

    This is half the regularised incomplete beta function at df/(df + t²) (DLMF 8.17, A&S 26.5.27).
    """
    x = df / (df + t * t)
    return 0.5 * _beta(x, df / 2, 0.5)


def _density(t: float, df: float) -> float:
    logs = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return math.exp(logs - (df + 1) / 2 * math.log1p(t * t / df))


def _beta(x: float, a: float, b: float) -> float:
    """Compute the regularised incomplete beta function I_x(a, b) from its continued fraction (DLMF 8.17.22)."""
    if x >= 1:
        return 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):  # the fraction of I_{1-x}(b, a) converges fast where this one is slow
        return 1 - front * _fraction(1 - x, b, a) / b
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Evaluate the continued fraction of I_x(a, b) by Lentz's method."""
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / d
    value = d
    for m in range(1, 10_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = 1 + numerator / c, 1 / (1 + numerator * d)
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return value
