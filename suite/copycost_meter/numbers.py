"""Format counts and bytes for people."""

from __future__ import annotations


def count(value: float | None) -> str:
    """Format a number with thousands separators: integers exactly, floats to three significant digits: ``24,800``."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return three(value) if value < 999.5 else f"{float(f'{value:.3g}'):,.0f}"


def size(value: int | None) -> str:
    """Format bytes in binary multiples with three significant digits; below 1 KiB they are exact."""
    if value is None:
        return "–"
    if value < 0:
        return "−" + size(-value)
    if value < 1024:
        return f"{value} B"
    amount = float(value)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 999.5 or unit == "GiB":
            break
    return f"{three(amount)} {unit}"


def three(value: float) -> str:
    """Format a number with three significant digits and no exponent."""
    if value <= 0:
        return "0" if value == 0 else "−" + three(-value)
    rounded = float(f"{value:.3g}")
    decimals = 0 if rounded >= 100 else 1 if rounded >= 10 else 2 if rounded >= 1 else 3
    return f"{rounded:.{decimals}f}" if rounded >= 0.01 else f"{rounded:.3g}"
