"""Lines at a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text


def print_line(console: Console, text: Text) -> None:
    """Print a line, whole in a file or a pipe, and broken between words at a terminal that is too narrow."""
    console.print(text, soft_wrap=not console.is_terminal)
