"""Numbers for people: with a unit, and no more digits than mean something."""

from __future__ import annotations

import re

from suite.measurement import Measurement


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


def spread(m: Measurement) -> str:
    """The 95 % interval as percent of the median, the wider side: ``±4 %``."""
    if m.seconds is None or m.seconds_low is None or m.seconds_high is None:
        return ""
    half = max(m.seconds_high / m.seconds - 1, 1 - m.seconds_low / m.seconds)
    return f"±{100 * half:.{0 if half >= 0.0095 else 1}f} %"


def percent(value: float | None) -> str:
    """A fraction in whole percent, or tenths below one."""
    if value is None:
        return "–"
    return f"{100 * value:.0f} %" if value >= 0.01 else f"{100 * value:.1f} %"


def remarks(m: Measurement) -> str:
    """What one should know of a result before using it."""
    if m.status != "ok":
        known = f" (known: {m.known})" if m.known else ""
        return f"{m.status}: {m.reason}{known}" if m.reason else m.status
    return _seen(m)


def _seen(m: Measurement) -> str:
    """What a call does that is no fault, and that one should know of."""
    found = []
    if m.includes_transfers:
        found.append("from the host and back")
    if m.input_changed:
        found.append("changes its input")
    if m.result_shares not in (None, "nothing") and m.result_shares != m.writes:
        found.append(f"shares the {m.result_shares}'s memory")
    if m.result_contiguous is False:
        found.append("not contiguous")
    if m.stopped_by == "timeout":
        found.append("timing stopped by the timeout")
    return ", ".join(found)


def line(m: Measurement) -> str:
    """A measurement in one line.

    ``numpy-new (tf): 4.01 ms ±11 %, 2 allocations of 2 × the input (36.8 MiB), input unchanged``
    """
    name = f"{m.variant} ({m.recipe})" if m.recipe else m.variant
    if m.status not in ("ok", "unchecked"):
        return f"{name}: {remarks(m)}"
    time = f"{seconds(m.seconds)} {spread(m)}".strip() if m.seconds is not None else "not timed"
    if m.allocations is None:
        allocated = f"allocations not counted ({m.missing.get('allocations', 'not watched')})"
    elif not m.allocations:
        allocated = "no allocations"
    else:
        noun = "allocation" if m.allocations == 1 else "allocations"
        multiple = three((m.allocated_bytes or 0) / m.input_bytes)
        multiple = multiple.rstrip("0").rstrip(".") if "." in multiple else multiple
        allocated = f"{count(m.allocations)} {noun} of {multiple} × the input ({size(m.allocated_bytes)})"
    found = remarks(m) if m.status == "ok" else _seen(m)
    if not m.input_changed:
        found = "input unchanged" + (f", {found}" if found else "")
    return f"{name}: {time}, {allocated}, {found}" + (", result unchecked" if m.status == "unchecked" else "")


def group_title(m: Measurement) -> str:
    """What the cases of a group have in common."""
    shape = "×".join(str(n) for n in (m.batch, m.height, m.width, m.channels) if n is not None)
    layout = "" if m.layout == "channels_last" else f", {m.layout}"
    return f"{m.recipe}, {shape} {m.dtype}{layout}, {m.device}"


def markdown(text: str) -> str:
    """A text that is nothing but itself, and short, in a table of Markdown."""
    short = text if len(text) <= 200 else text[:199] + "…"
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(short.split()))
