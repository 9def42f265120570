"""The progress bar of a command that compares two sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def shown_steps(first: str) -> Iterator[Callable[[str, float], None]]:
    """Show a bar on a terminal's standard error, and yield ``on_step(step, fraction)``, which advances it.

    Parameters
    ----------
    first : str
        The first step, in a few words.
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), console=console,
        transient=True, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        bar = progress.add_task(first, total=1.0)

        def on_step(step: str, fraction: float) -> None:
            progress.update(bar, description=step[: max(10, console.width - 50)], completed=fraction)

        yield on_step
