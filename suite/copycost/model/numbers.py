"""Format numbers for people: with a unit and only significant digits."""

from __future__ import annotations

import re


def seconds(value: float | None) -> str:
    """Format a time with three significant digits: ``1.29 ms``."""
    if value is None:
        return "–"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 0.9995:
            return f"{three(value * factor)} {unit}"
    return f"{three(value * 1e9)} ns"


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


def percent(value: float | None) -> str:
    """Format a fraction in whole percent, or in tenths of a percent below 1 %."""
    if value is None:
        return "–"
    return f"{100 * value:.0f} %" if value >= 0.01 else f"{100 * value:.1f} %"


def markdown(text: str) -> str:
    """Escape and truncate text for a Markdown table cell."""
    short = text if len(text) <= 200 else text[:199] + "…"
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(short.split()))
