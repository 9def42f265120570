"""Printing of single lines at a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text


def print_line(console: Console, text: Text) -> None:
    """Print a line, wrapped between words only at a terminal that is too narrow, never in a file or a pipe."""
    console.print(text, soft_wrap=not console.is_terminal)
