"""Numbers for people: with a unit, and no more digits than mean something."""

from __future__ import annotations

import re


def seconds(value: float | None) -> str:
    """A time with three significant digits: ``1.29 ms``."""
    if value is None:
        return "–"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 0.9995:
            return f"{three(value * factor)} {unit}"
    return f"{three(value * 1e9)} ns"


def count(value: float | None) -> str:
    """Thousands apart; a whole number is exact, another has three significant digits: ``24,800``."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return three(value) if value < 999.5 else f"{float(f'{value:.3g}'):,.0f}"


def size(value: int | None) -> str:
    """Bytes in binary multiples, three significant digits; 0 is exact."""
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
    """Three significant digits, without an exponent."""
    if value <= 0:
        return "0" if value == 0 else "−" + three(-value)
    rounded = float(f"{value:.3g}")
    decimals = 0 if rounded >= 100 else 1 if rounded >= 10 else 2 if rounded >= 1 else 3
    return f"{rounded:.{decimals}f}" if rounded >= 0.01 else f"{rounded:.3g}"


def percent(value: float | None) -> str:
    """A fraction in whole percent, or tenths below one."""
    if value is None:
        return "–"
    return f"{100 * value:.0f} %" if value >= 0.01 else f"{100 * value:.1f} %"


def markdown(text: str) -> str:
    """A text that is nothing but itself, and short, in a table of Markdown."""
    short = text if len(text) <= 200 else text[:199] + "…"
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(short.split()))
