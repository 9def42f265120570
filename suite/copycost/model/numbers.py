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
    """Escape and truncate text for a Markdown table cell.

    A page on GitHub notifies the people that it mentions, and fetches the images and shows the links that it contains.
    So nothing in a text becomes a mention, an image or a link: an invisible character follows what would begin one.
    """
    short = text if len(text) <= 200 else text[:199] + "…"
    escaped = re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(short.split()))
    return re.sub(r"(@|://|(?<!\w)www\.)", "\\1\N{ZERO WIDTH SPACE}", escaped)


#: Maximum number of characters of a comment on GitHub.
LONGEST_COMMENT = 65_536


def fitted(text: str) -> str:
    """Return Markdown that fits in a comment on GitHub: of a longer one, the first lines, and how many are left out."""
    if len(text) <= LONGEST_COMMENT:
        return text
    lines, kept, length = text.splitlines(), [], 0
    for line in lines:
        length += len(line) + 1
        if length > LONGEST_COMMENT - 200:
            break
        kept.append(line)
    is_open = sum("<details>" in line for line in kept) > sum("</details>" in line for line in kept)
    end = ["", "</details>"] * is_open + ["", f"… {len(lines) - len(kept):,} more lines do not fit in a comment."]
    return "\n".join([*kept, *end]) + "\n"
