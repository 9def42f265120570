"""Format exceptions as one printable line."""

from __future__ import annotations


def describe(exception: BaseException) -> str:
    """Return an exception as one line of at most 300 characters."""
    try:
        text = one_line(str(exception))
    except Exception:  # its own __str__ may raise
        text = ""
    line = f"raised {type(exception).__name__}" + (f": {text}" if text else "")
    return line if len(line) <= 300 else line[:299] + "…"


def one_line(text: str) -> str:
    """Return text as one line of printable characters, which a terminal, a file and JSON can all hold."""
    text = " ".join(text[:2000].split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
