"""The allocations of one call, and which arrays it changed."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from copycost_meter import numbers

#: Maximum number of changed arrays that are named.
_MOST_NAMES = 4

#: Maximum number of different requests that are shown with their line.
_MOST_LINES = 5


@dataclass(frozen=True, repr=False)
class CallCount:
    """Allocations of one steady call of a function, and the arrays that it changed.

    Figures that are unavailable are None, and `missing` gives the reason. Requests of 4,096 bytes or more are counted.

    Attributes
    ----------
    name : str
        Name of the function, or the measured code.
    largest_bytes : int
        Bytes of the largest array that the call was given. 0 if it was given none.
    allocations, allocated_bytes : int or None
        Number and bytes of the requests, in the memory of the host and of devices.
    peak_bytes : int or None
        The most bytes alive at once, beyond those alive before the call.
    retained_bytes : int or None
        Bytes that stay, including the result. Negative where a call frees more than it allocates.
    kept_bytes : int or None
        Bytes that stay after the result is released: a cache or a leak.
    copies : int or None
        Number of requests of at least `largest_bytes`. None if the call was given no array.
    changed : tuple of str
        Names of the arrays that hold other values after the call, or that the call has consumed.
    lines : tuple of (int, str)
        Bytes of each request and what made it, largest first.
    instruments : tuple of str
    device_allocations, device_bytes, device_peak_bytes : int or None
        Number, bytes and peak of the requests in the memory of a device alone. None for arrays of the host.
    varies : tuple of str
        Figures that differ between calls.
    missing : str or None
        Why the allocations are unknown.
    """

    name: str
    largest_bytes: int
    allocations: int | None
    allocated_bytes: int | None
    peak_bytes: int | None
    retained_bytes: int | None
    kept_bytes: int | None
    copies: int | None
    changed: tuple[str, ...]
    lines: tuple[tuple[int, str], ...]
    instruments: tuple[str, ...]
    device_allocations: int | None = None
    device_bytes: int | None = None
    device_peak_bytes: int | None = None
    varies: tuple[str, ...] = ()
    missing: str | None = None

    @classmethod
    def unknown(cls, name: str, reason: str) -> CallCount:
        """Return the count of a call about which nothing is known."""
        return cls(name, 0, None, None, None, None, None, None, (), (), (), missing=reason)

    def figures(self) -> list[tuple[str, str]]:
        """Return the name of each figure and its text, as a person reads it."""
        effect = f"changed: {_enumerated(self.changed)}" if self.changed else "unchanged"
        if self.allocations is None:
            return [("allocations", f"not counted: {self.missing}"), ("arrays", effect)]
        rows = [
            ("allocations", numbers.count(self.allocations)),
            ("allocated", self._size(self.allocated_bytes)),
            ("peak", self._size(self.peak_bytes)),
            ("retained with the result", self._size(self.retained_bytes)),
        ]
        if self.kept_bytes:
            rows.append(("kept without the result", self._size(self.kept_bytes)))
        if self.copies is not None:
            rows.append(("as large as the largest array", numbers.count(self.copies)))
        if self.varies:
            rows.append(("differ between calls", ", ".join(self.varies).replace("_", " ")))
        return [*rows, ("arrays", effect)]

    def origins(self) -> list[tuple[str, str]]:
        """Return the largest requests and the line that made them: ``8 × 9.38 MiB``, ``y = x * 2  (mine.py:3)``."""
        alike = Counter(request for request in self.lines if request[1])
        return [
            (f"{number} × {numbers.size(nbytes)}" if number > 1 else numbers.size(nbytes), line)
            for (nbytes, line), number in list(alike.items())[:_MOST_LINES]
        ]

    def __str__(self) -> str:
        """Return a line for each figure, and for each of the largest requests."""
        rows = [(name, text) for name, text in self.figures()]
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  {text}" for name, text in rows]
        origins = self.origins()
        wide = max((len(size) for size, _ in origins), default=0)
        lines += ["  largest requests:"] * bool(origins)
        return "\n".join([self.name, *lines, *(f"    {size:>{wide}}  {line}" for size, line in origins)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = [
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for name, text in self.figures()
        ]
        origins = "".join(
            f"<tr><td style='text-align:right'>{html.escape(size)}</td>"
            f"<td style='text-align:left'><code>{html.escape(line)}</code></td></tr>"
            for size, line in self.origins()
        )
        tables = [(f"<code>{html.escape(self.name)}</code>", "".join(cells)), ("Largest requests", origins)]
        return "".join(
            f"<table><caption style='text-align:left'>{caption}</caption>{rows}</table>"
            for caption, rows in tables
            if rows
        )

    def _size(self, nbytes: int | None) -> str:
        """Return bytes with their multiple of the largest array: ``36.8 MiB (2 × the largest array)``."""
        if not nbytes or not self.largest_bytes:
            return numbers.size(nbytes)
        multiple = numbers.three(nbytes / self.largest_bytes)
        multiple = multiple.rstrip("0").rstrip(".") if "." in multiple else multiple
        return f"{numbers.size(nbytes)} ({multiple} × the largest array)"


def _enumerated(names: Sequence[str]) -> str:
    """Return names with commas; of many, the first ones and their number."""
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: _MOST_NAMES - 1])} and {len(names) - _MOST_NAMES + 1} more"
