"""Student's t: quantiles against its density, and against a printed table."""

from __future__ import annotations

import math

import numpy as np
import pytest

from copycost.stats import student_t


@pytest.mark.parametrize("df", [1, 2, 4.5, 10, 30, 200])
@pytest.mark.parametrize("p", [0.8, 0.975, 0.9996])
def test_the_quantiles_by_integrating_the_density(p: float, df: float) -> None:
    upper = student_t.quantile(p, df)
    # In arctan(x) the range is finite and the tail of few degrees of freedom is no longer long.
    angle = np.linspace(0, math.atan(upper), 400_001)
    x = np.tan(angle)
    logs = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    density = np.exp(logs - (df + 1) / 2 * np.log1p(x**2 / df)) * (1 + x**2)
    assert 0.5 + np.trapezoid(density, angle) == pytest.approx(p, abs=1e-9)


def test_the_quantiles_of_a_printed_table() -> None:
    """NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.2."""
    table = {(0.975, 1): 12.706, (0.975, 5): 2.571, (0.975, 30): 2.042, (0.999, 3): 10.215, (0.999, 20): 3.552}
    for (p, df), t in table.items():
        assert student_t.quantile(p, df) == pytest.approx(t, abs=5e-4)


@pytest.mark.parametrize(("p", "df"), [(0.5, 3), (1, 3), (0.3, 3), (0.9, 0)])
def test_what_has_no_quantile(p: float, df: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        student_t.quantile(p, df)
