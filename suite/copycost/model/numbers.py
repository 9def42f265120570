"""Format numbers for people: with a unit and only significant digits."""

from __future__ import annotations

import re

from copycost_meter.numbers import count as count
from copycost_meter.numbers import size as size
from copycost_meter.numbers import three as three


def seconds(value: float | None) -> str:
    """Format a time with three significant digits: ``1.29 ms``."""
    if value is None:
        return "–"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 0.9995:
            return f"{three(value * factor)} {unit}"
    return f"{three(value * 1e9)} ns"


def percent(value: float | None) -> str:
    """Format a fraction in whole percent, or in tenths of a percent below 1 %."""
    if value is None:
        return "–"
    return f"{100 * value:.0f} %" if value >= 0.01 else f"{100 * value:.1f} %"


def markdown(text: str) -> str:
    """Escape and truncate text for a Markdown table cell."""
    short = text if len(text) <= 200 else text[:199] + "…"
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(short.split()))
