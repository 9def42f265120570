"""The table at a terminal: a block of rows for each group, and as many columns as the terminal is wide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from suite import format
from suite.measurement import Measurement
from suite.results import KEY

#: Name, justification, the width of terminal from which it is shown, the cell.
_COLUMNS = (
    ("time", "right", 0, lambda m: format.seconds(m.seconds)),
    ("±95 %", "right", 56, format.spread),
    ("sees", "right", 136, lambda m: format.percent(m.least_change)),
    ("images/s", "right", 96, lambda m: format.count(m.images_per_second)),
    ("of copy speed", "right", 120, lambda m: format.percent(m.copy_fraction)),
    ("allocations", "right", 76, lambda m: format.count(m.allocations)),
    ("allocated", "right", 64, lambda m: format.size(m.allocated_bytes)),
    ("peak", "right", 110, lambda m: format.size(m.peak_bytes)),
    ("kept", "right", 130, lambda m: format.size(m.retained_bytes)),
)


#: The same, where there is a device of its own.
_ON_DEVICE = (
    ("queued in", "right", 84, lambda m: format.seconds(m.launch_seconds)),
    ("device", "right", 56, lambda m: format.seconds(m.device_seconds)),
    ("cold", "right", 100, lambda m: format.seconds(m.cold_device_seconds or m.cold_seconds)),
)


def show(console: Console, measurements: Iterable[Measurement]) -> None:
    """Print every measured case, grouped by what can be compared, and count those that were skipped."""
    measurements = list(measurements)
    shown = [m for m in measurements if m.status != "skipped"]
    for _, group in groupby(sorted(shown, key=_group), key=_group):
        rows = list(group)
        columns = (*_COLUMNS[:2], *_ON_DEVICE, *_COLUMNS[2:]) if rows[0].device != "cpu" else _COLUMNS
        _show_group(console, rows, [column for column in columns if console.width >= column[2]])
    show_skipped(console, measurements)


def _show_group(console: Console, rows: Sequence[Measurement], columns: Sequence[tuple[Any, ...]]) -> None:
    measured = sorted((m for m in rows if m.seconds is not None), key=lambda m: m.seconds or 0)
    title = Text(format.group_title(rows[0]), "bold")
    if measured:
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("variant", no_wrap=True)
        for name, justify, _, _ in columns:
            table.add_column(name, justify=justify, no_wrap=True)
        table.add_column("remarks" if any(map(format.remarks, measured)) else "")
        for m in measured:
            table.add_row(Text(m.variant), *(cell(m) for *_, cell in columns), Text(format.remarks(m)))
        console.print(table)
    else:
        console.print(title)
    for m in rows:
        if m.seconds is None:
            console.print(Text(f"  {m.variant}: {format.remarks(m)}", "yellow" if m.known else "red"))
    console.print()


def print_line(console: Console, text: Text) -> None:
    """Print a line, whole in a file or a pipe, and broken between words at a terminal that is too narrow."""
    console.print(text, soft_wrap=not console.is_terminal)


def show_skipped(console: Console, measurements: Sequence[Measurement]) -> None:
    """One line for each reason for which cases were skipped, with their number."""
    reasons = Counter(m.reason for m in measurements if m.status == "skipped")
    for reason, number in reasons.most_common():
        cases = "case" if number == 1 else "cases"
        console.print(Text(f"{number} {cases} skipped: {reason}"), style="dim")


def _group(m: Measurement) -> tuple[str, ...]:
    # As text, zeros in front: a batch may be None, and 8 comes before 32.
    return tuple(str(getattr(m, name)).rjust(8, "0") for name in KEY[:-1])
