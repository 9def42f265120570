"""Output of a run as a tree at a terminal: times and allocations by recipe and batch."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from copycost.model import numbers
from copycost.model.measurement import Measurement
from copycost.report import device_clocks
from copycost.report.terminal import show_skipped

#: Heading, minimum terminal width that shows the column, and cell.
_COLUMNS = (
    ("time", 0, lambda m: numbers.seconds(m.seconds)),
    ("±95 %", 64, Measurement.spread),
    ("MDE", 150, lambda m: numbers.percent(m.least_change)),
    ("images/s", 100, lambda m: numbers.count(m.images_per_second)),
    ("of copy speed", 130, lambda m: numbers.percent(m.copy_fraction)),
    ("allocations", 76, lambda m: numbers.count(m.allocations)),
    ("allocated", 50, lambda m: numbers.size(m.allocated_bytes)),
    ("peak", 110, lambda m: numbers.size(m.peak_bytes)),
    ("retained", 140, lambda m: numbers.size(m.retained_bytes)),
)

#: Columns of cases on a separate device, shown if any case has them.
_ON_DEVICE = (
    ("launch", 96, lambda m: numbers.seconds(m.launch_seconds)),
    ("device", 70, lambda m: numbers.seconds(m.device_seconds)),
    ("cold", 120, lambda m: numbers.seconds(m.cold_device_seconds or m.cold_seconds)),
)


def show(console: Console, measurements: Sequence[Measurement]) -> None:
    """Print every measured case below its recipe and its kind of batch, fastest first."""
    shown = [m for m in measurements if m.status != "skipped"]
    on_device = any(m.launch_seconds is not None or m.device_seconds is not None for m in shown)
    every = [*_COLUMNS[:2], *(_ON_DEVICE if on_device else ()), *_COLUMNS[2:]]
    columns = [column for column in every if console.width >= column[1]]
    cells = {id(m): [cell(m) for *_, cell in columns] for m in shown}
    widths = [max([len(name), *(len(texts[k]) for texts in cells.values())]) for k, (name, *_) in enumerate(columns)]
    longest = max((len(m.variant) for m in shown), default=0)
    room = max(12, min(longest, console.width - 10 - sum(widths) - 2 * len(widths)))
    heading = "".join(f"  {name:>{width}}" for (name, *_), width in zip(columns, widths, strict=True))
    for recipe, of_recipe in groupby(sorted(shown, key=lambda m: m.recipe), lambda m: m.recipe):
        console.print(Text.assemble((f"{recipe:<{room + 6}}", "bold"), (heading, "dim")), soft_wrap=True)
        groups = [(title, list(rows)) for title, rows in groupby(sorted(of_recipe, key=_group), _title)]
        for k, (title, rows) in enumerate(groups):
            last = k == len(groups) - 1
            console.print(Text.assemble(("└─ " if last else "├─ ", "dim"), (title, "bold")), soft_wrap=True)
            rows.sort(key=lambda m: (m.seconds is None, m.seconds or 0, m.variant))
            for j, m in enumerate(rows):
                end = j == len(rows) - 1
                stem, below = ("   " if last else "│  "), ("   " if end else "│  ")
                stems = (stem + ("╰─ " if end else "├─ "), stem + below)
                for line in _lines(stems, m, cells[id(m)], widths, room, console.width):
                    console.print(line, soft_wrap=True)
        console.print()
    if (clocks := device_clocks.note(shown)) is not None:
        console.print(Text(clocks, "dim"))
        console.print()
    show_skipped(console, measurements, most=None)


def _lines(
    stems: tuple[str, str], m: Measurement, cells: Sequence[str], widths: Sequence[int], room: int, width: int
) -> list[Text]:
    """Return the line of a case, followed by lines of its remarks if they do not fit beside the figures.

    Parameters
    ----------
    stems : tuple of str
        Branches of the tree left of the case, and left of the lines below it.
    m : Measurement
    cells : sequence of str
    widths : sequence of int
        Widths of the cells.
    room : int
        Width of the variant's name.
    width : int
        Width of the terminal.
    """
    name = m.variant if len(m.variant) <= room else m.variant[: room - 1] + "…"
    line = Text.assemble((stems[0], "dim"), f"{name:<{room}}")
    right = m.status in ("ok", "unchecked")
    if right:
        for cell, wide in zip(cells, widths, strict=True):
            line.append(f"  {cell:>{wide}}")
    style = "dim" if right else "yellow" if m.known else "red"
    remarks = " ".join(m.remarks().split())
    if not remarks:
        return [line]
    if len(line) + 2 + len(remarks) <= width:
        line.append(f"  {remarks}", style)
        return [line]
    if not right:
        line.append(f"  {m.status}", style)
        remarks = remarks.removeprefix(f"{m.status}: ")
    indent = stems[1] + "  "
    parts = textwrap.wrap(remarks, max(12, width - len(indent)), break_on_hyphens=False)
    return [line, *(Text.assemble((indent, "dim"), (part, style)) for part in parts)]


def _group(m: Measurement) -> tuple[Any, ...]:
    return (m.device, m.dtype, m.layout, m.height, m.width, m.batch or 0, m.variant)


def _title(m: Measurement) -> str:
    batch = "one image" if m.batch is None else f"batch {m.batch}"
    layout = "" if m.layout == "channels_last" else f" {m.layout}"
    return f"{batch}, {m.height}×{m.width}×{m.channels} {m.dtype}{layout}, {m.device}"
