"""Student's t distribution: the quantiles that intervals and verdicts are made with."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

_Z80 = NormalDist().inv_cdf(0.8)


@cache
def quantile(p: float, df: float) -> float:
    """The `p` quantile of Student's t, to nine digits.

    Parameters
    ----------
    p : float
        0.5 < p < 1.
    df : float
        Degrees of freedom, more than 0; they need not be whole.

    Raises
    ------
    ValueError
        Outside these.
    """
    if not (0.5 < p < 1 and df > 0):
        raise ValueError(f"t has no quantile of {p} for {df} degrees of freedom here: 0.5 < p < 1, df > 0")
    t = NormalDist().inv_cdf(p)
    for _ in range(100):
        # Newton's method on logarithms, in which the tail is nearly straight.
        above = tail(t, df)
        step = math.log(above / (1 - p)) * above / (t * _density(t, df))
        t *= math.exp(step)
        if abs(step) < 1e-12:
            break
    return t


def least(critical: float, df: float) -> float:
    """The least effect that a test finds four times in five, in standard errors of what is tested.

    The noncentral t as (Z + effect) / S with S, the ratio of the estimated error to the true one, roughly normal about
    1 − 1/(4 df) with variance 1/(2 df) (Johnson, Kotz, Balakrishnan, Continuous Univariate Distributions 2, 31.6).

    Parameters
    ----------
    critical : float
        What the estimate over its standard error must exceed.
    df : float
    """
    return critical * (1 - 1 / (4 * df)) + _Z80 * math.sqrt(1 + critical**2 / (2 * df))


def tail(t: float, df: float) -> float:
    """P(T > t) for t ≥ 0 and `df` degrees of freedom.

    Half the regularised incomplete beta function at df/(df + t²) (DLMF 8.17, A&S 26.5.27).
    """
    x = df / (df + t * t)
    return 0.5 * _beta(x, df / 2, 0.5)


def _density(t: float, df: float) -> float:
    logs = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return math.exp(logs - (df + 1) / 2 * math.log1p(t * t / df))


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x >= 1:
        return 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, the other side does so fast
        return 1 - front * _fraction(1 - x, b, a) / b
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of I_x(a, b), by Lentz's method."""
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
